"""One task on a compute node: claim -> train -> posterior means -> exit record.

`run_task` is what the hidden command `lfadsrm task` calls, on the local queue and under every scheduler.
It returns 0 (done), 1 (failed), 64 (another task owns the run), 65 (bad data) or 75 (checkpointed and
resumable).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from lfadsrm_hpc.errors import ClaimLostError, DataError
from lfadsrm_hpc.layout import CollectionLayout, RunLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import EXIT_BAD_DATA, EXIT_DONE, EXIT_NOT_OURS, Claim, Identity
from lfadsrm_hpc.stopping import StopFlag
from lfadsrm_hpc.worker.work import Work


def run_task(
    collection: Path,
    run_id: str,
    *,
    submission: str = "",
    task: int | str = 0,
    posterior_only: bool = False,
    capture_log: bool = True,
    attempt: int | None = None,
    identity: Identity | None = None,
    deadline: float | None = None,
    stop: StopFlag | None = None,
) -> int:
    """Do one run to its end, or to where it can be resumed.

    Parameters
    ----------
    collection : Path
        The folder of the run collection.
    run_id : str
        `param_<hash>/<run spec>`.
    submission : str
        ULID of the submission that asked for it; empty when started by hand.
    task : int or str
        Number of the task in the submission.
    posterior_only : bool
        Sample posterior means again from the trained model; do not train.
    capture_log : bool
        Send standard output and error to the attempt's `log.txt`.
    attempt : int, optional
        The attempt that was reserved for this task when it was planned. None: take the next that is free.
    identity : Identity, optional
        Who asks: the cluster, its job and the task's index. A task that the scheduler starts again has the
        same identity, and goes on as the next incarnation. None: a task of this machine.
    deadline : float, optional
        When to checkpoint and stop, seconds since 1970.
    stop : StopFlag, optional
        The caller's own flag; no signal handler is installed then.

    Returns
    -------
    int
        The exit code of the process.
    """
    layout = CollectionLayout(Path(collection).resolve())
    run = layout.run_by_id(run_id)
    identity = identity or Identity.local(submission, task)
    if stop is None:
        stop = StopFlag(deadline)
        handlers: contextlib.AbstractContextManager[None] = stop.installed()
    else:
        handlers = contextlib.nullcontext()
        if deadline is not None:
            stop.set_deadline(deadline)
    with handlers:
        try:
            taken = _take(run, attempt, identity, redo=posterior_only)
        except ClaimLostError as error:
            print(error, file=sys.stderr)
            return EXIT_NOT_OURS
        except DataError as error:
            print(error, file=sys.stderr)
            return EXIT_BAD_DATA
        if isinstance(taken, store.AlreadyComplete):
            print(f"{run_id} is complete already", file=sys.stderr)
            return EXIT_DONE
        with _log_to(run.attempt(taken.attempt).log if capture_log else None):
            return Work(layout, run, taken, stop, posterior_only).perform()


def _take(
    run: RunLayout, attempt: int | None, identity: Identity, *, redo: bool
) -> Claim | store.AlreadyComplete:
    if attempt is None:
        return store.take_local(run, identity, redo=redo)
    return store.claim(run, attempt, identity, redo=redo)


@contextlib.contextmanager
def _log_to(path: Path | None) -> Iterator[None]:
    """Send file descriptors 1 and 2 to a log, which is appended to."""
    if path is None:
        yield
        return
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o664)
    saved = os.dup(1), os.dup(2)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(saved, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)
