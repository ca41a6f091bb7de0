"""Submissions to a scheduler that submitit hands over, and what is changed in its executors for that."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from submitit import helpers
from submitit.core.core import Executor, Job
from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import FailedJobError, FailedSubmissionError, environment_variables

from lfadsrm_hpc.command import Answer
from lfadsrm_hpc.errors import (
    SchedulerError,
    SchedulerRefusedError,
    SchedulerUnreachableError,
    SubmissionUncertainError,
)
from lfadsrm_hpc.layout import CollectionLayout, SubmissionLayout
from lfadsrm_hpc.manifest.submission_reading import read_submission
from lfadsrm_hpc.manifest.submissions import PlannedChunk
from lfadsrm_hpc.schedulers import batch
from lfadsrm_hpc.schedulers.slurm.client import KEPT
from lfadsrm_hpc.schedulers.slurm.errors import Outcome, hint_for, shorten, submission_outcome
from lfadsrm_hpc.schedulers.units import parse_time
from lfadsrm_hpc.submitit_plugin.payload import DEADLINE, TrainRun, working_time_s
from lfadsrm_hpc.submitit_plugin.slurm import SlurmRunJob

_OURS_KEPT = ("LFADSRM_THREADS",)


class Handing(batch.BatchScheduler):
    """A scheduler whose jobs are handed over by submitit. All else is asked of the scheduler itself.

    Attributes
    ----------
    jobs : dict of str to submitit.Job
        What was handed over, by run id.
    """

    name = "submitit"

    def __init__(
        self, layout: CollectionLayout, executor: Executor, inner: Executor, real: batch.BatchScheduler
    ) -> None:
        super().__init__(history=real.history, timeout_s=real.timeout_s)
        self.jobs: dict[str, Job[Any]] = {}
        self._layout, self._executor, self._inner, self._real = layout, executor, inner, real
        self._chunks: dict[Path, tuple[PlannedChunk, list[TrainRun]]] = {}
        self._ulid = ""

    def read(self, submission: SubmissionLayout) -> None:
        """Make the payloads of a plan that is on disk."""
        on_disk = read_submission(submission, 0.0)
        assert on_disk is not None
        plan, self._ulid = on_disk.plan, submission.ulid
        cluster, folder = plan.cluster or plan.site, self._layout.path.absolute()
        for chunk in plan.chunks:
            tasks = sorted((t for t in on_disk.tasks if t.chunk == chunk.number), key=lambda t: t.index)
            self._chunks[submission.script(chunk.number)] = (
                chunk,
                [TrainRun(folder, t.run_id, t.attempt, submission.ulid, cluster) for t in tasks],
            )

    def submit(self, script: Path) -> batch.Accepted:
        chunk, payloads = self._chunks[script]
        with own_environment(), dressed(self._inner, **self._changes(chunk)):
            jobs = self._submitted(payloads)
        number = str(jobs[0].job_id).partition("_")[0]
        accepted = getattr(jobs[0], "accepted", None) or batch.Accepted(number, output="by submitit")
        if self._inner.name() == "slurm":
            jobs = [SlurmRunJob.of(job, chunk.name) for job in jobs]
        self.jobs.update({payload.run_id: job for payload, job in zip(payloads, jobs, strict=True)})
        return accepted

    def _submitted(self, payloads: Sequence[TrainRun]) -> list[Job[Any]]:
        try:
            return list(self._executor.submit_array(payloads))
        except FileNotFoundError as error:
            raise SchedulerUnreachableError(
                f"a client program is missing: {error}",
                hint="is this a login node, and is the module of the scheduler loaded?",
            ) from error
        except FailedJobError as error:
            raise _verdict(error) from error
        except FailedSubmissionError as error:
            raise SubmissionUncertainError(
                f"what sbatch said cannot be read: {error}",
                hint="`lfadsrm reconcile` finds out whether the job is there",
            ) from error

    def _changes(self, chunk: PlannedChunk) -> dict[str, Any]:
        """Return the parameters of one job that this package sets itself."""
        given = self._inner.parameters
        changes: dict[str, Any] = {"job_name": chunk.name, "python": deaf(self._inner)}
        if chunk.max_parallel:
            changes["array_parallelism"] = chunk.max_parallel
        if self._inner.name() == "pbs":
            mark = {"LFADSRM_SUBMISSION": self._ulid}
            return {
                **changes,
                # First, since PBS heeds the last -v alone: the user's own counts, and the job has its name.
                "directives": [f"-v LFADSRM_SUBMISSION={self._ulid}", *given.get("directives", ())],
            } | ({"variables": {**given.get("variables", {}), **mark}})
        walltime, delay = walltime_s(given), float(given.get("signal_delay_s", 90))
        # The signal comes earlier; this is for when it was lost, or is not sent (use_srun=False).
        work_s = working_time_s(walltime, max(20.0, delay - 15))
        more = dict(given.get("additional_parameters") or {})
        if not {"requeue", "no-requeue", "no_requeue"} & set(more):
            more["requeue"] = True
        return {
            **changes,
            "comment": self._ulid,
            "setup": [f"export {DEADLINE}=$(($(date +%s) + {work_s}))", *(given.get("setup") or ())],
            "additional_parameters": more,
        }

    def check_complete(self) -> None:
        """Raise where a job was found by its name after its answer was lost.

        submitit names its files by the ids of jobs, so that one has none and will fail.
        """
        runs = {payload.run_id for _, payloads in self._chunks.values() for payload in payloads}
        if runs - set(self.jobs):
            raise SubmissionUncertainError(
                f"the scheduler took {len(runs - set(self.jobs))} runs without an answer that can be read; "
                "submitit has no files for them, so they will fail",
                where=self._layout.path,
                hint="cancel them, or wait, and submit them again: `lfadsrm status` shows them",
            )

    def look(self, jobs: Sequence[batch.Job]) -> batch.Report:
        return self._real.look(jobs)

    def find(self, names: Sequence[str], since: float) -> list[batch.Found]:
        return self._real.find(names, since)

    def cancel(self, job: batch.Job, indices: Sequence[int] | None = None) -> None:
        self._real.cancel(job, indices)

    def throttle(self, job: batch.Job, most: int) -> None:
        self._real.throttle(job, most)

    def version(self) -> str:
        return self._real.version()


def deaf(inner: Executor) -> str:
    """Return the words that start Python deaf to submitit's signal until it has handlers of its own.

    A signal while tensorflow or a pickle is loaded would end it. What is ignored when a program is started
    stays ignored; a `trap` in the job's script would not do, since srun's tasks do not descend from it.
    """
    python = str(getattr(inner, "python", ""))
    deaf = f'trap "" {JobEnvironment.USR_SIG}; exec "$0" "$@"'
    return f"sh -c {shlex.quote(deaf)} {python}"


@contextmanager
def dressed(inner: Executor, *, python: str | None = None, **changes: Any) -> Iterator[None]:
    """Set parameters of an executor for one submission."""
    before = dict(inner.parameters)
    python_before = getattr(inner, "python", None)
    inner.parameters.update(changes)
    if python is not None:
        inner.python = python  # type: ignore[attr-defined]
    try:
        yield
    finally:
        inner.parameters.clear()
        inner.parameters.update(before)
        if python is not None:
            inner.python = python_before  # type: ignore[attr-defined]


@contextmanager
def own_environment() -> Iterator[None]:
    """Hide what belongs to the job that this process may itself run in, and this package's settings."""
    ours = [name for name in os.environ if name.startswith("LFADSRM_") and name not in _OURS_KEPT]
    if not {"SLURM_JOB_ID", "PBS_JOBID", "SUBMITIT_EXECUTOR"} & set(os.environ):
        hidden = {name: os.environ.pop(name) for name in ours}
        try:
            yield
        finally:
            os.environ.update(hidden)
        return
    where = {name: os.environ[name] for name in KEPT if name in os.environ}
    with helpers.clean_env(extra_names=ours), environment_variables(**where) if where else nullcontext():
        yield


def _verdict(error: FailedJobError) -> SchedulerError:
    """Return what an error of sbatch means: refused, not reached, or nobody knows."""
    cause = error.__cause__
    answer = Answer(getattr(cause, "returncode", 1), str(getattr(cause, "output", None) or ""), str(error))
    outcome, text = submission_outcome(answer), shorten(str(error))
    if outcome is Outcome.REFUSED:
        return SchedulerRefusedError(f"sbatch refused the job: {text}", hint=hint_for(text))
    if outcome is Outcome.UNREACHABLE:
        return SchedulerUnreachableError(f"Slurm was not reached: {text}", hint=hint_for(text))
    return SubmissionUncertainError(f"sbatch may have been accepted: {text}")


def walltime_s(parameters: Mapping[str, Any]) -> int:
    """Return the time limit of an executor's jobs, s."""
    given = parameters.get("time") or parameters.get("timeout_min")
    if isinstance(given, str) and not given.isdigit():
        return parse_time(given)
    return math.ceil(float(given or 0) * 60)
