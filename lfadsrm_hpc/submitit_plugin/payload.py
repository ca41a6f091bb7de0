"""What submitit runs in a job: one run, claimed, trained and recorded through the manifest as any other.

submitit's handler of its signal calls `checkpoint()`, puts the job back into the queue and ends the process
as soon as that returns. So training works in a thread, while the main thread waits and takes the signals:
`checkpoint()` asks the training to stop, waits for its checkpoint and its exit record 75, and only then
returns. The same job, started again by its scheduler, is the next incarnation and goes on from there.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from submitit.core.job_environment import JobEnvironment
from submitit.helpers import Checkpointable, DelayedSubmission

from lfadsrm_hpc.errors import DataError, InterruptedRunError, SomeRunsFailedError, UsageError
from lfadsrm_hpc.layout import CollectionLayout, RunLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.records import (
    EXIT_BAD_DATA,
    EXIT_CHECKPOINTED,
    EXIT_DONE,
    EXIT_NOT_OURS,
    Identity,
)
from lfadsrm_hpc.stopping import WARNING_SIGNAL, StopFlag

DEADLINE = "LFADSRM_DEADLINE"
"""Set by the job's script: when the training stops by itself, seconds since 1970."""

_LOOK_S = 0.05  # so often the main thread looks whether the training has ended
_LINGER_S = 60.0  # after TERM: so long a Slurm job waits for what follows it
_CORES = {"slurm": "SLURM_CPUS_PER_TASK", "pbs": "NCPUS"}


class _EndedMeanwhileError(Exception):
    """The training ended by itself while it was asked to stop: there is nothing to put back into a queue."""


@dataclass
class TrainRun(Checkpointable):
    """One run as a callable that any submitit executor can take; it can be pickled and checkpointed.

    Parameters
    ----------
    collection : Path
        Folder of the run collection; must be there where the job runs.
    run_id : str
        `param_<hash>/<run spec>`.
    attempt : int, optional
        The attempt that was reserved for this job, in the table of its submission. None: nothing is reserved;
        the run is taken if nobody has it.
    submission : str
        ULID; "" where there is none.
    cluster : str
        Name of the cluster in the run's claim; needed with `attempt`.

    Raises
    ------
    InterruptedRunError
        When called: it was stopped at a checkpoint (exit record 75), and nothing will start it again.
    DataError, SomeRunsFailedError
        When called: the run ended with 65, or with another failure, which is on record.
    """

    collection: Path
    run_id: str
    attempt: int | None = None
    submission: str = ""
    cluster: str = ""
    _work: _Work | None = field(default=None, init=False, repr=False, compare=False)

    def __call__(self) -> RunStatus:
        """Train the run, or go on with it; return what it is at.

        A run that another task owns, or that is complete, is left alone: that is no failure.
        """
        environment = _environment()
        kind = "" if environment is None else environment.name()
        if environment is not None and environment.global_rank != 0:
            print("only the first task of a job trains", file=sys.stderr)
            return self._status()
        _settle(kind)
        work = _Work(self._task(environment))
        print(f"{self.run_id}: log in {self._layout.attempts_dir}", file=sys.stderr, flush=True)
        with _listening(work):
            try:
                work.start()
                self._work = work  # not before: checkpoint() would wait for what never starts
                code = work.wait()
                if code == EXIT_CHECKPOINTED and kind == "slurm":
                    _ask_for_requeue(work.stop)
            except _EndedMeanwhileError:
                code = work.wait()
            except KeyboardInterrupt:
                work.stop.ask(signal.SIGINT)
                work.wait()
                raise
            finally:
                work.awaited = False
        return self._told(code)

    def checkpoint(self) -> DelayedSubmission:
        """Stop at the next checkpoint, wait for it and for the exit record; return what is to be done again.

        submitit calls it in the main thread, from its handler of its signal.
        """
        work = self._work
        if work is not None:
            work.stop.ask(WARNING_SIGNAL)
            if work.wait() != EXIT_CHECKPOINTED and work.awaited:
                raise _EndedMeanwhileError
        return DelayedSubmission(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_work": None}

    @property
    def _layout(self) -> RunLayout:
        return CollectionLayout(Path(self.collection)).run_by_id(self.run_id)

    def _status(self) -> RunStatus:
        return store.run_status(self._layout)

    def _task(self, environment: JobEnvironment | None) -> Callable[[StopFlag], int]:
        """Return the training; what it imports is imported in its thread."""
        identity = None
        if self.attempt is not None:
            identity = identity_of(environment, self.cluster, self.submission)
        on_cluster = environment is not None and environment.name() in _CORES
        deadline = os.environ.get(DEADLINE) if on_cluster else None

        def task(stop: StopFlag) -> int:
            from lfadsrm_hpc.worker import run_task

            return run_task(
                Path(self.collection),
                self.run_id,
                submission=self.submission,
                attempt=self.attempt,
                identity=identity,
                deadline=float(deadline) if deadline else None,
                stop=stop,
            )

        return task

    def _told(self, code: int) -> RunStatus:
        status = self._status()
        where = self._layout.path
        if code in (EXIT_DONE, EXIT_NOT_OURS):
            return status
        if code == EXIT_CHECKPOINTED:
            raise InterruptedRunError(
                "the run was stopped at a checkpoint", where=where, hint="`lfadsrm retry` goes on from there"
            )
        kind = DataError if code == EXIT_BAD_DATA else SomeRunsFailedError
        raise kind(status.message or f"the run ended with {code}", where=where, hint="`lfadsrm logs` tells")


def _environment() -> JobEnvironment | None:
    """Return the environment of the job that this process is; None: none that submitit knows."""
    try:
        return JobEnvironment()
    except RuntimeError:  # called by hand, or by DebugJob.exception()
        return None


def identity_of(environment: JobEnvironment | None, cluster: str, submission: str) -> Identity:
    """Return who a job is: the same after a requeue, and what the receipt and the scheduler call it.

    Raises
    ------
    UsageError
        It is none of a cluster: an attempt that was reserved for one cannot be taken here.
    """
    if environment is None or environment.name() not in _CORES:
        raise UsageError(
            "this run was handed to a cluster, and this is no job there", hint="`lfadsrm run` does it here"
        )
    job = getattr(environment, "scheduler_job", None) or environment.array_job_id or environment.raw_job_id
    return Identity(cluster, job, environment.array_task_id or "0", submission)


def working_time_s(walltime_s: float, ahead_s: float) -> int:
    """Return after how many seconds a training stops by itself, so long ahead of the end of its job.

    Half of a job that is too short for that.
    """
    return math.floor(walltime_s - ahead_s if ahead_s < walltime_s else walltime_s / 2)


class _Work:
    """The training in its thread."""

    def __init__(self, task: Callable[[StopFlag], int]) -> None:
        self.stop = StopFlag()
        self.awaited = True  # the main thread is in `TrainRun.__call__`, and can be told that it has ended
        self._task = task
        self._code: int | None = None
        self._error: BaseException | None = None
        self._ended = False

    def start(self) -> None:
        # Daemonic: a second Ctrl-C ends the process, whatever the training does.
        threading.Thread(target=self._run, name="lfadsrm", daemon=True).start()

    def wait(self) -> int:
        """Wait for the end; return the exit code of the task.

        It looks instead of waiting for a lock: a signal may come at any time, and its handler waits as well.
        """
        while not self._ended:
            time.sleep(_LOOK_S)
        if self._error is not None:
            raise self._error
        assert self._code is not None
        return self._code

    def _run(self) -> None:
        try:
            self._code = self._task(self.stop)
        except BaseException as error:
            self._error = error
        finally:
            self._ended = True


@contextlib.contextmanager
def _listening(work: _Work) -> Iterator[None]:
    """Stop at a checkpoint when TERM comes, too, which submitit lets pass."""

    def note(number: int, frame: FrameType | None) -> None:
        work.stop.ask(number)
        os.write(2, b"SIGTERM: stopping at the next checkpoint\n")

    if threading.current_thread() is not threading.main_thread():
        yield  # the debug executor, called from anywhere
        return
    before = signal.signal(signal.SIGTERM, note)
    try:
        yield
    finally:
        if before is not None:  # None: it was not set by Python
            signal.signal(signal.SIGTERM, before)


def _ask_for_requeue(stop: StopFlag) -> None:
    """Have a Slurm job that has checkpointed put back into the queue, which submitit's handler does.

    After TERM stay a while: it is followed by submitit's signal, or by the end of the grace time. A job that
    ends by itself before that counts for Slurm as ended.
    """
    wanted = JobEnvironment._usr_sig()
    if stop.signal is None and callable(signal.getsignal(wanted)):
        signal.raise_signal(wanted)  # out of time by its own clock: no signal has come
    end = time.monotonic() + _LINGER_S
    while stop.signal == signal.SIGTERM and time.monotonic() < end:
        time.sleep(_LOOK_S)


def _settle(kind: str) -> None:
    """Set what scripts set for other tasks, before tensorflow and HDF5 read it."""
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    cores = os.environ.get(_CORES.get(kind, ""), "")
    if cores.isdigit() and "LFADSRM_THREADS" not in os.environ:
        os.environ["LFADSRM_THREADS"] = cores
