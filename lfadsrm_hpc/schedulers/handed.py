"""Which job of a scheduler a run was handed over as, and what that scheduler says of many of them at once."""

from __future__ import annotations

import contextlib
import getpass
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lfadsrm_hpc.errors import ConfigError, LfadsrmError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest.evidence import ChunkState, Evidence, same_job
from lfadsrm_hpc.manifest.fold import LATENCY_S, RunStatus
from lfadsrm_hpc.manifest.reading import read_record
from lfadsrm_hpc.manifest.records import LOCAL, Reservation
from lfadsrm_hpc.manifest.submission_reading import ChunkOnDisk, SubmissionOnDisk, read_submission
from lfadsrm_hpc.manifest.submissions import Plan
from lfadsrm_hpc.schedulers import known
from lfadsrm_hpc.schedulers.batch import CALL_TIMEOUT_S, PLAIN, BatchScheduler, Job, Report
from lfadsrm_hpc.schedulers.sites import loading as sites
from lfadsrm_hpc.schedulers.sites.site import Site


@dataclass(frozen=True)
class Handed:
    """One run's attempt, as it was handed over.

    Attributes
    ----------
    ulid : str
        Of the submission.
    submission, chunk : optional
        None: its plan was never completed.
    index : int
        Of its task in the job; packed runs share it.
    age_s : float
        Of the last sign of life of the submission, where there is no plan, s.
    holder : str
        The job that has claimed the run, where it is not the receipt's: one of which nobody knew, and which
        the scheduler took after all. "": the receipt's.
    """

    ulid: str
    submission: SubmissionOnDisk | None = None
    chunk: ChunkOnDisk | None = None
    index: int = 0
    age_s: float = 0.0
    holder: str = ""

    @property
    def site(self) -> Site | None:
        return None if self.submission is None else site_of(self.submission.plan)

    @property
    def job(self) -> Job | None:
        """The job that has the run, or is to have it; None: there is no receipt."""
        if self.submission is None or self.chunk is None:
            return None
        job = job_of(self.submission.plan, self.chunk)
        return replace(job, id=self.holder) if job is not None and self.holder else job

    @property
    def place(self) -> int:
        """The index as the scheduler's answers name it."""
        return PLAIN if self.chunk is not None and self.chunk.chunk.size == 0 else self.index


_sites: dict[str, Site] = {}


def site_of(plan: Plan) -> Site:
    """Return the site as it was when a submission was planned."""
    if plan.ulid not in _sites:
        _sites[plan.ulid] = sites.site_from_settings(plan.settings)
    return _sites[plan.ulid]


def latency_of(plan: Plan) -> float:
    """Return how long the file system of a plan's site may hide what another machine wrote, s."""
    try:
        return site_of(plan).filesystem.latency_s
    except ConfigError:  # written by a version that knows more of sites
        return LATENCY_S


def call_limit_of(plan: Plan) -> float:
    """Return the time limit of one call of a plan's scheduler, s."""
    try:
        return site_of(plan).client.timeout_s
    except ConfigError:
        return CALL_TIMEOUT_S


def job_of(plan: Plan, chunk: ChunkOnDisk) -> Job | None:
    """Return the job of a chunk; None: there is no receipt."""
    if chunk.receipt is None:
        return None
    return Job(
        chunk.receipt.job,
        chunk.chunk.name,
        chunk.chunk.size,
        plan.created,
        chunk.receipt.cluster or plan.cluster,
    )


def find_handed(layout: CollectionLayout, statuses: Mapping[str, RunStatus], now: float) -> dict[str, Handed]:
    """Find, by run id, as what the newest attempts were handed over; runs on no cluster are left out.

    Only the submissions that these attempts belong to are read.

    Parameters
    ----------
    layout : CollectionLayout
    statuses : dict of str to RunStatus
        Of the runs that matter.
    now : float
        By the clock of the file system, s.
    """
    found: dict[str, Handed] = {}
    read: dict[str, SubmissionOnDisk | None] = {}
    unplanned: dict[str, list[float]] = {}
    waiting: dict[str, str] = {}
    for run_id, status in statuses.items():
        if run_id in found or status.attempt is None:
            continue
        ulid, reserved = _submission_of(layout, run_id, status)
        if not ulid:
            continue
        if ulid not in read:
            read[ulid] = read_submission(layout.submission(ulid), now)
            found.update(_members(read[ulid], ulid, statuses, found))
        if read[ulid] is None:
            unplanned.setdefault(ulid, []).append(reserved)
            waiting[run_id] = ulid
    signs = {ulid: _last_sign(layout, ulid, times) for ulid, times in unplanned.items()}
    found.update({run: Handed(ulid, age_s=max(0.0, now - signs[ulid])) for run, ulid in waiting.items()})
    return found


def _submission_of(layout: CollectionLayout, run_id: str, status: RunStatus) -> tuple[str, float]:
    """Return the submission of a run's newest attempt ("": none), and when it was reserved."""
    if status.claim is not None:
        identity = status.claim.identity
        return ("" if identity.cluster == LOCAL else identity.submission), 0.0
    reserved = layout.run_by_id(run_id).attempt(status.attempt or 0).reserved
    record, modified = read_record(Reservation, reserved)
    if record is None or not record.is_ahead:
        return "", 0.0
    return record.submission, modified or 0.0


def _members(
    submission: SubmissionOnDisk | None,
    ulid: str,
    statuses: Mapping[str, RunStatus],
    found: Mapping[str, Handed],
) -> Iterator[tuple[str, Handed]]:
    """Yield those of the runs whose newest attempt belongs to a submission."""
    if submission is None:
        return
    chunks = {chunk.chunk.number: chunk for chunk in submission.chunks}
    for task in submission.tasks:
        status = statuses.get(task.run_id)
        if status is None or status.attempt != task.attempt or task.run_id in found:
            continue
        # Outputs may have been deleted since: the number is then another submission's.
        told = status.submission if status.claim is None else status.claim.identity.submission
        if told in ("", ulid):
            chunk = chunks.get(task.chunk)
            yield task.run_id, Handed(ulid, submission, chunk, task.index, holder=_holder(status, chunk))


def _holder(status: RunStatus, chunk: ChunkOnDisk | None) -> str:
    if status.claim is None or chunk is None or chunk.receipt is None:
        return ""
    job = status.claim.identity.job
    return "" if same_job(job, chunk.receipt.job) else job


def _last_sign(layout: CollectionLayout, ulid: str, reserved: Sequence[float]) -> float:
    """Return when somebody last worked at a plan that is not complete: it touches its folder meanwhile."""
    try:
        touched = layout.submission(ulid).path.stat().st_mtime
    except OSError:
        touched = 0.0
    return max([touched, *reserved])


@dataclass(frozen=True)
class Answers:
    """What the schedulers say, by what they were asked as."""

    reports: Mapping[tuple[str, str], Report] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    asked: float = 0.0
    unanswered: tuple[str, ...] = ()
    hidden: frozenset[tuple[str, str]] = frozenset()  # servers that keep other users' jobs from us

    def evidence(self, handed: Handed, status: RunStatus) -> Evidence:
        """Return what is known of one handed run."""
        if handed.submission is None or handed.chunk is None:
            alive = None if status.reserved_by is None else status.reserved_by.is_alive()
            return Evidence(
                ChunkState.NO_PLAN, handed.age_s, latency_s=LATENCY_S, now=self.asked, planner_alive=alive
            )
        plan, chunk, job = handed.submission.plan, handed.chunk, handed.job
        report = self.reports.get(server_of(plan), Report())
        seen = None if job is None else report.tasks.get((job.id, handed.place))
        kept_from_us = seen is None and server_of(plan) in self.hidden and is_anothers(plan)
        return Evidence(
            chunk.state,
            chunk.age_s,
            seen=seen,
            live_ok=report.live_ok and not kept_from_us,
            history_ok=report.history_ok,
            job="" if job is None else job.id,
            task=str(handed.index),
            latency_s=latency_of(plan),
            now=self.asked,
        )


def is_anothers(plan: Plan) -> bool:
    """Return whether another user submitted it."""
    return plan.user not in ("", user_name())


def user_name() -> str:
    """Return who we are, as plans say it; "" where the system does not tell."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def server_of(plan: Plan) -> tuple[str, str]:
    """Return by what the scheduler of a plan is told from others: its kind, and cluster or site."""
    return plan.scheduler, plan.cluster or plan.site


def ask_all(handed: Iterable[Handed]) -> Answers:
    """Ask every scheduler once for all jobs of some handed runs."""
    jobs: dict[tuple[str, str], dict[str, Job]] = {}
    plans: dict[tuple[str, str], dict[str, Plan]] = {}
    for one in handed:
        job = one.job
        if one.submission is not None and job is not None:
            server = server_of(one.submission.plan)
            jobs.setdefault(server, {})[job.id] = job
            plans.setdefault(server, {})[one.ulid] = one.submission.plan
    reports, warnings, unanswered, asked = {}, [], [], time.time()
    hidden = set()
    for server, known_jobs in jobs.items():
        try:
            scheduler = _first_scheduler(plans[server].values())
            reports[server] = scheduler.look(list(known_jobs.values()))
        except LfadsrmError as error:
            warnings.append(f"{server[1]}: {error.what}")
            unanswered.append(server[1])
            continue
        warnings += reports[server].warnings
        absent = any((j.id, i) not in reports[server].tasks for j in known_jobs.values() for i in j.indices)
        if absent and any(map(is_anothers, plans[server].values())) and scheduler.hides_others():
            hidden.add(server)
        if not reports[server].live_ok:
            if not reports[server].warnings:
                warnings.append(f"the scheduler of {server[1]} gave no answer that can be used")
            unanswered.append(server[1])
    return Answers(reports, tuple(dict.fromkeys(warnings)), asked, tuple(unanswered), frozenset(hidden))


def _first_scheduler(plans: Iterable[Plan]) -> BatchScheduler:
    """Return the scheduler as the newest plan that can be read describes it."""
    found = sorted(plans, key=lambda plan: plan.ulid, reverse=True)
    for plan in found[:-1]:
        with contextlib.suppress(ConfigError):
            return scheduler_of(plan)
    return scheduler_of(found[-1])


def scheduler_of(plan: Plan) -> BatchScheduler:
    """Return the scheduler that a plan was made for."""
    return known.make_scheduler(site_of(plan))
