"""Slurm, through sbatch, squeue, sacct, scancel and scontrol."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

from lfadsrm_hpc.command import Answer, ask
from lfadsrm_hpc.errors import (
    CommandError,
    SchedulerError,
    SchedulerRefusedError,
    SchedulerUnreachableError,
    SubmissionUncertainError,
)
from lfadsrm_hpc.manifest.evidence import Seen
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.batch import CALL_TIMEOUT_S, Accepted, BatchScheduler, Found, Job, Report
from lfadsrm_hpc.schedulers.slurm import errors as slurm_errors
from lfadsrm_hpc.schedulers.slurm import parsing as slurm_parsing
from lfadsrm_hpc.schedulers.slurm.errors import Outcome
from lfadsrm_hpc.schedulers.slurm.parsing import DamagedError, Row

_T = TypeVar("_T")

# Defaults that a shell sets for other jobs, formats, and what the job that we run in was given ...
FOREIGN = (
    "SLURM_", "SLURMD_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SALLOC_", "SRUN_",
    "SINFO_",
)  # fmt: skip
# ... but these say where the cluster is, and who we are.
KEPT = frozenset({
    "SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SBATCH_CLUSTERS", "SLURM_JWT", "SLURM_SACK_KEY",
    "SLURM_SACK_JWKS",
})  # fmt: skip
# Ranges of indices are cut at 64 characters otherwise; times without a zone are ambiguous once a year.
QUERY = {"SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "%s"}
CLOCKS_S = 3600.0  # by so much may the cluster's clock and ours differ
AT_ONCE = 200  # ids, names or lists of tasks in one call


@dataclass
class _View:
    """What one cluster says; the pieces of a `Report`."""

    tasks: dict[tuple[str, int], Seen] = field(default_factory=dict)
    live_ok: bool = True
    history_ok: bool | None = None
    warnings: list[str] = field(default_factory=list)

    def put(self, job: Job, rows: Mapping[int, Row], *, live: bool) -> None:
        for index, row in rows.items():
            seen = row.seen(live=live)
            if seen.state is RunState.UNKNOWN:
                warning = f"Slurm says {row.word!r} of job {job.id}: a state that is not known here"
                if warning not in self.warnings:
                    self.warnings.append(warning)
            self.tasks.setdefault((job.id, index), seen)


class Slurm(BatchScheduler):
    """Slurm's clusters, one or several.

    Parameters
    ----------
    history : str
        "auto": sacct, where the cluster keeps accounts; "sacct"; "none".
    timeout_s : float
        Time limit of one call.
    cluster : str
        Name for `--clusters` of jobs that are submitted or looked for; "": the cluster of this host. Jobs
        that have a cluster of their own are looked up there.

    Notes
    -----
    Where the cluster hides jobs from other users (PrivateData), another user's jobs look absent.
    """

    name: ClassVar[str] = "slurm"

    def __init__(
        self, *, history: str = "auto", timeout_s: float = CALL_TIMEOUT_S, cluster: str = ""
    ) -> None:
        super().__init__(history=history, timeout_s=timeout_s)
        self.cluster = cluster
        self._without_history: set[str] = set()  # clusters that were found to keep no accounts

    def submit(self, script: Path) -> Accepted:
        """See `BatchScheduler.submit`."""
        command = ["sbatch", "--parsable", *_clusters(self.cluster), str(script.absolute())]
        try:
            answer = ask(
                command, timeout_s=self.timeout_s, env=clean_environment(), cwd=script.parent, check=False
            )
        except CommandError as error:
            raise _unanswered(error) from error
        output = answer.stdout + answer.stderr
        receipt = slurm_parsing.read_receipt(answer.stdout) if answer.returncode == 0 else None
        if receipt is not None:
            return Accepted(job=receipt[0], cluster=receipt[1], output=output)
        raise _submission_error(slurm_errors.submission_outcome(answer), command, answer)

    def look(self, jobs: Sequence[Job]) -> Report:
        """See `BatchScheduler.look`. One squeue and, for tasks that it does not name, one sacct a cluster.

        Our own jobs are asked for first, which is cheap for Slurm; those that are not among them are asked
        for by id: another user may have submitted them.
        """
        groups: dict[str, list[Job]] = {}
        for job in jobs:
            groups.setdefault(job.cluster or self.cluster, []).append(job)
        views = [self._look(cluster, group) for cluster, group in groups.items()]
        histories = {view.history_ok for view in views}
        return Report(
            tasks={key: seen for view in views for key, seen in view.tasks.items()},
            live_ok=all(view.live_ok for view in views),
            history_ok=False if False in histories else (True if True in histories else None),
            warnings=tuple(warning for view in views for warning in view.warnings),
        )

    def find(self, names: Sequence[str], since: float) -> list[Found]:
        """See `BatchScheduler.find`. Jobs of all users count: who submitted may be somebody else.

        Raises
        ------
        SchedulerUnreachableError
            Also where there is a history, and it gave no answer about names that the live queue lacks.
        """
        found: dict[tuple[str, str], Found] = {}
        for some in _portions(sorted(set(names))):
            rows = self._find_live(some)
            left = sorted(set(some) - {row.name for row in rows})
            rows += self._find_ended(left, since) if left else []
            for row in rows:
                if row.name in some and (row.submitted is None or row.submitted > since - CLOCKS_S):
                    cluster = row.cluster or self.cluster
                    found.setdefault(
                        (cluster, row.job), Found(row.job, row.name, row.comment.strip(), cluster)
                    )
        return list(found.values())

    def cancel(self, job: Job, indices: Sequence[int] | None = None) -> None:
        """See `BatchScheduler.cancel`."""
        number = slurm_parsing.job_number(job.id)
        if indices is not None and not set(indices) & set(job.indices):
            return
        if indices is None or set(indices) >= set(job.indices):
            words = [number]
        else:
            words = slurm_parsing.write_elements(number, indices)
        for some in _portions(words, 20):
            command = ["scancel", *_clusters(job.cluster or self.cluster), *some]
            answer = self._call(command)
            _check(slurm_errors.call_outcome(answer), command, answer)

    def throttle(self, job: Job, most: int) -> None:
        """See `BatchScheduler.throttle`."""
        if not job.size:
            return
        number = slurm_parsing.job_number(job.id)
        tool = ["scontrol", *_clusters(job.cluster or self.cluster)]
        command = [*tool, "update", f"JobId={number}", f"ArrayTaskThrottle={most}"]
        answer = self._call(command)
        outcome = slurm_errors.call_outcome(answer)
        if answer.returncode != 0 and outcome is not Outcome.UNREACHABLE:
            # It complains about tasks that have ended also where it did what was asked: look.
            shown = self._call([*tool, "-o", "show", "job", number])
            answered = shown.returncode == 0 or slurm_errors.is_unknown_job(shown)
            if answered and slurm_parsing.shows_throttle(shown.stdout, most):
                return
            outcome = Outcome.REFUSED
        _check(outcome, command, answer)

    def version(self) -> str:
        """See `BatchScheduler.version`."""
        return f"slurm {self.configuration().get('SLURM_VERSION', '(version not told)')}"

    def configuration(self) -> dict[str, str]:
        """Return the controller's settings (`scontrol show config`): MaxArraySize, MinJobAge, ...

        Raises
        ------
        SchedulerUnreachableError
        """
        command = ["scontrol", *_clusters(self.cluster), "show", "config"]
        answer = self._call(command)
        pairs = (line.partition("=") for line in answer.stdout.splitlines())
        settings = {key.strip(): value.strip() for key, mark, value in pairs if mark}
        if answer.returncode != 0 or not settings:
            raise _error(SchedulerUnreachableError, "Slurm's controller does not answer", command, answer)
        return settings

    def hides_others(self) -> bool:
        """Return whether PrivateData keeps other users' jobs from us, or that cannot be told."""
        try:
            private = self.configuration().get("PrivateData")  # None: the answer broke off before it
            return private is None or "jobs" in private.lower().split(",")
        except SchedulerUnreachableError:
            return True

    # One cluster

    def _look(self, cluster: str, jobs: Sequence[Job]) -> _View:
        view = _View()
        try:
            rows = self._queue(cluster, ["--user", str(os.getuid())])
            known = {job.id for job in jobs if slurm_parsing.live_tasks(rows, job)}
            strangers = [job for job in jobs if job.id not in known]
            for some in _portions(strangers):
                numbers = ",".join(slurm_parsing.job_number(job.id) for job in some)
                rows += self._queue(cluster, ["--jobs", numbers])
        except (SchedulerUnreachableError, DamagedError) as error:
            view.live_ok = False
            view.history_ok = None if self._lacks_history(cluster) else False
            view.warnings.append(_first_line(error))
            return view
        for job in jobs:
            view.put(job, slurm_parsing.live_tasks(rows, job), live=True)
        self._look_back(view, cluster, jobs)
        return view

    def _look_back(self, view: _View, cluster: str, jobs: Sequence[Job]) -> None:
        """Ask the history for tasks that the live queue does not name."""
        missing = [job for job in jobs if any((job.id, index) not in view.tasks for index in job.indices)]
        if not missing or self._lacks_history(cluster):
            return
        view.history_ok = True
        try:
            for some in _portions(missing):
                numbers = ",".join(slurm_parsing.job_number(job.id) for job in some)
                rows = self._accounts(cluster, ["--jobs", numbers], min(job.submitted for job in some))
                if rows is None:
                    view.history_ok = None
                    return
                for job in some:
                    view.put(job, slurm_parsing.ended_tasks(rows, job), live=False)
        except (SchedulerUnreachableError, DamagedError) as error:
            view.history_ok = False
            view.warnings.append(_first_line(error))

    def _find_live(self, names: Sequence[str]) -> list[Row]:
        try:
            return self._queue(self.cluster, ["--name", ",".join(names)], slurm_parsing.FIND_FIELDS)
        except DamagedError as error:
            raise SchedulerUnreachableError(
                str(error), hint="nothing was changed; ask again in a minute"
            ) from error

    def _find_ended(self, names: Sequence[str], since: float) -> list[Row]:
        if self._lacks_history(self.cluster):
            return []
        try:
            return self._accounts(self.cluster, ["--name", ",".join(names)], since) or []
        except DamagedError as error:
            raise SchedulerUnreachableError(
                str(error), hint="nothing was changed; ask again in a minute"
            ) from error

    def _queue(
        self, cluster: str, which: Sequence[str], fields: Sequence[str] = slurm_parsing.QUEUE_FIELDS
    ) -> list[Row]:
        """Ask the live queue; a single job that it does not know is no error, as several are none.

        Waiting tasks come as one row: squeue's own `--array` leaves out the last task where those that wait
        are evenly spaced (`1-699:2`; seen with 22.05), which would look lost.
        """
        form = slurm_parsing.queue_format(fields)
        command = ["squeue", *_clusters(cluster), "--states", "all", *which, "--format", form]
        answer = self._call(command)
        if slurm_errors.is_unknown_job(answer):
            return []
        if answer.returncode != 0:
            raise _error(SchedulerUnreachableError, "Slurm's queue cannot be asked", command, answer)
        return slurm_parsing.read_queue(answer.stdout, comment="%k" in fields)

    def _accounts(self, cluster: str, which: Sequence[str], since: float) -> list[Row] | None:
        """Ask the history; None: there is none, which is remembered."""
        ago = f"now-{max(0, round(time.time() - since + CLOCKS_S))}seconds"
        form = ",".join(slurm_parsing.HISTORY_FIELDS)
        command = ["sacct", *_clusters(cluster), "--allusers", "--allocations", "--parsable"]
        command += ["--starttime", ago, *which, "--format", form]
        try:
            answer = self._call(command)
        except SchedulerUnreachableError as error:
            if self.history == "auto" and _is_missing(error.__cause__):
                self._without_history.add(cluster)
                return None
            raise
        if slurm_errors.is_without_history(answer):
            self._without_history.add(cluster)
            return None
        if answer.returncode != 0:
            raise _error(SchedulerUnreachableError, "Slurm's accounts cannot be asked", command, answer)
        return slurm_parsing.read_history(answer.stdout)

    def _lacks_history(self, cluster: str) -> bool:
        return self.history not in ("auto", "sacct") or cluster in self._without_history

    def _call(self, command: Sequence[str]) -> Answer:
        try:
            return ask(command, timeout_s=self.timeout_s, env={**clean_environment(), **QUERY}, check=False)
        except CommandError as error:
            hint = "are Slurm's client programs on PATH on this host?" if _is_missing(error) else None
            raise SchedulerUnreachableError(error.what, where=error.where, hint=hint) from error


def clean_environment() -> dict[str, str]:
    """Return this process's environment without defaults for other jobs, but with what says where the
    cluster is; it is right inside a job too."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT or not name.startswith(FOREIGN)}
    if "SBATCH_CLUSTERS" in kept:  # where jobs go is where they are looked up
        kept["SLURM_CLUSTERS"] = kept["SBATCH_CLUSTERS"]
    return kept


def _clusters(cluster: str) -> list[str]:
    return [f"--clusters={cluster}"] if cluster else []


def _portions(items: Sequence[_T], size: int = AT_ONCE) -> list[Sequence[_T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _is_missing(error: BaseException | None) -> bool:
    """Return whether a program could not even be started."""
    return isinstance(error, CommandError) and isinstance(error.__cause__, OSError)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else "Slurm's answer cannot be read"


def _unanswered(error: CommandError) -> SchedulerError:
    """Return what follows from an sbatch that was not started, or did not end in time."""
    if _is_missing(error):
        hint = "is this a host of the cluster, with Slurm's client programs on PATH?"
        return SchedulerUnreachableError(error.what, where=error.where, hint=hint)
    said = slurm_errors.shorten(error.stderr)
    what = f"{error.what}: {said}" if said else error.what
    if slurm_errors.never_sent(error.stderr):
        return SchedulerUnreachableError(what, where=error.where, hint=slurm_errors.hint_for(said))
    return SubmissionUncertainError(what, where=error.where, hint=_reconcile_hint(said))


def _reconcile_hint(said: str) -> str:
    cause = slurm_errors.hint_for(said)
    return "`lfadsrm reconcile` finds out whether it was accepted" + (f"; {cause}" if cause else "")


def _submission_error(outcome: Outcome, command: Sequence[str], answer: Answer) -> SchedulerError:
    if outcome is Outcome.UNCERTAIN:
        error = _error(
            SubmissionUncertainError, "sbatch did not say whether it was accepted", command, answer
        )
        error.hint = _reconcile_hint(answer.stderr)
        return error
    if outcome is Outcome.UNREACHABLE:
        return _error(SchedulerUnreachableError, "Slurm took no job now", command, answer)
    return _error(SchedulerRefusedError, "Slurm refused the job", command, answer)


def _check(outcome: Outcome | None, command: Sequence[str], answer: Answer) -> None:
    if outcome is Outcome.REFUSED:
        raise _error(SchedulerRefusedError, "Slurm refused", command, answer)
    if outcome is not None:
        raise _error(SchedulerUnreachableError, "Slurm's controller cannot be reached", command, answer)


def _error(kind: type[SchedulerError], what: str, command: Sequence[str], answer: Answer) -> SchedulerError:
    said = slurm_errors.shorten(answer.stderr) or slurm_errors.shorten(answer.stdout)
    said = said or f"{command[0]} ended with status {answer.returncode} and said nothing"
    return kind(f"{what}: {said}", where=" ".join(command), hint=slurm_errors.hint_for(said))
