"""What runs on clusters are at: their own files, joined with one question to each scheduler.

A run's own files come first. The scheduler is asked only for runs that are not settled by them, and what it
says is put on record where it ends a run, since schedulers forget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lfadsrm_hpc.errors import ClaimLostError, SchedulerUnreachableError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.evidence import Evidence
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.reading import look
from lfadsrm_hpc.manifest.reconcile import Verdict, is_settled, reconcile
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.handed import Answers, Handed, ask_all, find_handed

_TO_CHECKPOINT_S = 300.0  # so long a cancelled task may take to be gone


@dataclass(frozen=True)
class Judged:
    """What was known of a run, and what follows from it.

    Attributes
    ----------
    status : RunStatus
        Files and scheduler together.
    evidence : Evidence
    verdict : Verdict
    closed : bool
        Its attempt was put on record as ended.
    """

    status: RunStatus
    evidence: Evidence
    verdict: Verdict
    closed: bool = False


@dataclass(frozen=True)
class Tracked:
    """What runs are at, with what their schedulers say.

    Attributes
    ----------
    statuses : dict of str to RunStatus
        By run id, all that were given.
    warnings : tuple of str
        What the user should know.
    queried : bool
        A scheduler was asked: ask again in a minute at the soonest.
    handed : dict of str to Handed
        By run id, those that a scheduler has or may have.
    closed : tuple of str
        Runs whose newest attempt was put on record as ended.
    unanswered : tuple of str
        Clusters or sites whose schedulers gave no usable answer.
    judged : dict of str to Judged
        By run id, on what the word about a run that a scheduler has or may have rests.
    """

    statuses: dict[str, RunStatus]
    warnings: tuple[str, ...] = ()
    queried: bool = False
    handed: Mapping[str, Handed] | None = None
    closed: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    judged: Mapping[str, Judged] = field(default_factory=dict)

    @property
    def handed_runs(self) -> Mapping[str, Handed]:
        return self.handed or {}

    def refuse_to_conclude(self, what: str, where: Path) -> None:
        """Raise where it may be for want of an answer only that nothing is to be done.

        Raises
        ------
        SchedulerUnreachableError
            A scheduler was asked in vain, and what some runs are at is not known.
        """
        unknown = sum(status.state is RunState.UNKNOWN for status in self.statuses.values())
        if unknown and self.unanswered:
            raise SchedulerUnreachableError(
                f"{what}, but no usable answer came from {', '.join(self.unanswered)}",
                where=where,
                hint="try again later; nothing was changed",
            )


def track(layout: CollectionLayout, statuses: Mapping[str, RunStatus], *, record: bool = True) -> Tracked:
    """Join what runs are at by their own files with what the schedulers say.

    Parameters
    ----------
    layout : CollectionLayout
    statuses : dict of str to RunStatus
        By run id, from the files (`manifest.reading.collection_states`).
    record : bool
        Put ends that only the scheduler knows of on record.

    Returns
    -------
    Tracked
        No scheduler is asked where no run needs it.
    """
    merged = dict(statuses)
    unsettled = {
        run: status for run, status in _read_again(layout, statuses).items() if not is_settled(status)
    }
    if not unsettled:
        return Tracked(merged)
    now = look(layout.state_dir if layout.state_dir.is_dir() else layout.path).now
    handed = find_handed(layout, unsettled, now)
    answers = ask_all(handed.values())
    warnings = list(answers.warnings)
    calm = _cancelled_just_now(layout, now)
    judged = {
        run_id: _judge(layout, unsettled[run_id], one, answers, record) for run_id, one in handed.items()
    }
    for run_id, one in judged.items():
        merged[run_id] = one.status
        if one.verdict.warning and not (calm and one.status.cancelled):
            warnings.append(f"{run_id}: {one.verdict.warning}")
    return Tracked(
        merged,
        tuple(dict.fromkeys(warnings)),
        any(one.job is not None for one in handed.values()),
        handed,
        tuple(run_id for run_id, one in judged.items() if one.closed),
        answers.unanswered,
        judged,
    )


def _cancelled_just_now(layout: CollectionLayout, now: float) -> bool:
    """Return whether the newest cancellation is so fresh that its tasks may still be writing checkpoints."""
    newest = layout.cancellations()[-1:]
    return any(now - path.stat().st_mtime < _TO_CHECKPOINT_S for path in newest)


def _read_again(layout: CollectionLayout, statuses: Mapping[str, RunStatus]) -> dict[str, RunStatus]:
    """Return what is not settled at first sight; what is known from the outbox alone is read whole.

    A name in the outbox does not tell of an attempt that may start again whether it was closed since.
    """
    found = {}
    for run_id, status in statuses.items():
        if status.attempt is None or is_settled(status):
            continue
        by_name = status.claim is None and status.code is not None
        found[run_id] = store.run_status(layout.run_by_id(run_id)) if by_name else status
    return found


def _judge(
    layout: CollectionLayout, status: RunStatus, handed: Handed, answers: Answers, record: bool
) -> Judged:
    evidence = answers.evidence(handed, status)
    verdict = reconcile(status, evidence)
    closed = False
    if verdict.close and record and status.attempt is not None:
        # The files were read before the scheduler was asked: what it ended may have written its record since.
        run = layout.run_by_id(status.run_id)
        fresh = store.run_status(run)
        if (fresh.state, fresh.attempt, fresh.incarnation, fresh.code) != (
            status.state,
            status.attempt,
            status.incarnation,
            status.code,
        ):
            if fresh.attempt != status.attempt:
                return Judged(fresh, evidence, Verdict(fresh.state))
            status, verdict = fresh, reconcile(fresh, evidence)
        if verdict.close:
            closed = _close(layout, status, verdict, handed.ulid)
    told = status.message or verdict.message
    status = replace(status, state=verdict.state, reason=verdict.reason or status.reason, message=told)
    return Judged(status, evidence, verdict, closed)


def _close(layout: CollectionLayout, status: RunStatus, verdict: Verdict, ulid: str) -> bool:
    run = layout.run_by_id(status.run_id)
    try:
        return store.close(
            run, status.attempt or 0, verdict.close or "", submission=ulid, message=verdict.message
        )
    except (OSError, ClaimLostError):
        return False  # somebody else's collection, whose owner will do it; or the outputs were deleted
