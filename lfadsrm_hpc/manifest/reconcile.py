"""What has become of a run that was handed to a scheduler: its own files first, then what the scheduler says.

Pure: no file, no clock. Every row of its truth table is a case of tests/manifest/test_reconcile.py; in short:

- A final exit record is never overturned. Absence alone never completes or fails a run.
- No answer, half an answer, an unknown word: UNKNOWN, and nothing is put on record.
- Code 75 ("checkpointed") leaves the attempt open: the scheduler may start it again.
- A shell that says "killed" tells how Python died, not why; there the scheduler may add the cause.
- An end that the scheduler reports counts once the file system had time to show the run's own word.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lfadsrm_hpc.manifest.evidence import ChunkState, Evidence, Seen, same_job
from lfadsrm_hpc.manifest.fold import STALE_S, RunStatus
from lfadsrm_hpc.manifest.records import (
    CANCELLED,
    DEADLINE,
    EXIT_CHECKPOINTED,
    FAILED,
    KILLED,
    LOCAL,
    LOST,
    NEVER_STARTED,
    NO_RECORD,
    NODE_FAIL,
    NOT_SUBMITTED,
    OUT_OF_MEMORY,
    PREEMPTED,
    TIMEOUT,
    state_of,
)
from lfadsrm_hpc.manifest.states import RunState

_NO_ANSWER = "the scheduler did not answer"
_REASONS = {
    RunState.COMPLETED: NO_RECORD,
    RunState.FAILED: FAILED,
    RunState.TIMEOUT: TIMEOUT,
    RunState.OUT_OF_MEMORY: OUT_OF_MEMORY,
    RunState.NODE_FAIL: NODE_FAIL,
    RunState.PREEMPTED: PREEMPTED,
    RunState.CANCELLED: CANCELLED,
}
_CAUSES = frozenset(_REASONS) - {RunState.COMPLETED, RunState.FAILED}  # why something was killed


class Remedy(str, Enum):
    """What has to be done before more can be known, or before it goes on."""

    SUBMIT = "submit"  # a plan was not handed over: the same command goes on
    RECONCILE = "reconcile"  # the scheduler must be searched for the job
    CANCEL = "cancel"  # nobody can find the job any more: give it up
    ANSWER = "answer"  # the scheduler must answer


@dataclass(frozen=True)
class Verdict:
    """What a run is at, files and scheduler together.

    Attributes
    ----------
    state : RunState
    reason : str
        Of an end, the word that stands on record or is to be put there; else why it waits, for people.
    close : str or None
        The reason for which the attempt is to be closed (`store.close`), because schedulers forget. None:
        nothing is to be put on record.
    warning : str or None
        What the user should know.
    message : str
        The scheduler's own words about an end, for people.
    remedy : Remedy or None
        None: nothing but time, or what the state asks for.
    """

    state: RunState
    reason: str = ""
    close: str | None = None
    warning: str | None = None
    message: str = ""
    remedy: Remedy | None = None


def is_settled(status: RunStatus) -> bool:
    """Return whether no scheduler can change what is known of a run: it need not be asked about it.

    Open are attempts that were handed over and not claimed, that a cluster's task holds, and those that ended
    with 75 or were killed and may start again. A status that was read off the outbox alone does not know
    whether such an attempt was closed: read the facts (`store.run_status`) before asking.
    """
    if status.closed or status.state in (RunState.COMPLETED, RunState.PREPARED, RunState.PENDING):
        return True
    if status.claim is not None and status.claim.identity.cluster == LOCAL:
        return True
    if status.code is not None:
        return status.state is RunState.CANCELLED or not _may_go_on(status)
    return status.state not in (RunState.SUBMITTED, RunState.RUNNING, RunState.UNKNOWN, RunState.CANCELLED)


def reconcile(status: RunStatus, evidence: Evidence) -> Verdict:
    """Return what a run is at.

    Parameters
    ----------
    status : RunStatus
        What the run's own files say (`fold`), of its newest attempt.
    evidence : Evidence
        What the plan and the scheduler say of that same attempt.
    """
    if is_settled(status):
        return _as_on_file(status)
    if status.claim is not None and not _is_this_task(status, evidence):
        return _another_holds_it(status, evidence)
    if status.code is not None:
        return _ended(status, evidence)
    if evidence.seen is not None and _counts(evidence.seen, evidence):
        return _seen(status, evidence, evidence.seen)
    if status.incarnation is not None:
        return _claimed_and_absent(status, evidence)
    if evidence.chunk is not ChunkState.SENT:
        return _not_sent(status, evidence)
    return _unclaimed_and_absent(status, evidence)


def _as_on_file(status: RunStatus, *, close: str | None = None, warning: str | None = None) -> Verdict:
    return Verdict(status.state, status.reason or "", close, warning, status.message)


def _may_go_on(status: RunStatus) -> bool:
    return status.code == EXIT_CHECKPOINTED or status.reason == KILLED


def _is_this_task(status: RunStatus, evidence: Evidence) -> bool:
    if status.claim is None or not evidence.job:
        return True
    identity = status.claim.identity
    return same_job(identity.job, evidence.job) and identity.task == evidence.task


def _another_holds_it(status: RunStatus, evidence: Evidence) -> Verdict:
    """The job was handed over twice; what is known of the one says nothing of the other."""
    holder = status.claim.identity.job if status.claim else ""
    warning = f"job {holder} has the run, not {evidence.job}, to which it was given"
    return _as_on_file(status, warning=None if status.code is not None else warning)


def _counts(seen: Seen, evidence: Evidence) -> bool:
    """Return whether what was seen can be believed: the history alone lags, and knows no requeue."""
    return seen.live or (evidence.live_ok and (_is_end(seen) or seen.state is RunState.UNKNOWN))


def _is_end(seen: Seen) -> bool:
    return seen.state in _REASONS


def _told(seen: Seen) -> str:
    """Return the scheduler's words about an end."""
    parts = [f"the scheduler says {seen.word or seen.state}"]
    parts += [seen.reason] if seen.reason else []
    parts += [f"status {seen.code}"] if seen.code else []
    parts += [f"signal {seen.signal}"] if seen.signal else []
    parts += [f"on {seen.host}"] if seen.host else []
    return ", ".join(parts)


def _latency_passed(status: RunStatus, evidence: Evidence) -> bool:
    """Return whether the run's own word about its end would have been seen by now."""
    seen = evidence.seen
    if seen is not None and seen.ended is not None and evidence.now is not None:
        since = evidence.now - seen.ended
        if since >= -evidence.latency_s:  # else its clock is far ahead of ours
            return since > evidence.latency_s
    # The scheduler does not say when it ended. Too early a verdict is set right by the exit record.
    silent = status.silent_s if status.incarnation is not None else evidence.age_s
    return silent is not None and silent > evidence.latency_s


# -- an exit record with 75, or one by a shell that says "killed" ----------------------------------------


def _ended(status: RunStatus, evidence: Evidence) -> Verdict:
    seen, killed = evidence.seen, status.code != EXIT_CHECKPOINTED
    if seen is not None and _counts(seen, evidence) and not _is_end(seen):
        return _ended_but_there(status, seen, killed=killed)
    if not evidence.live_ok or not evidence.job:
        return _as_on_file(status) if killed else Verdict(RunState.UNKNOWN, _NO_ANSWER, remedy=Remedy.ANSWER)
    over = _latency_passed(status, evidence)
    if seen is None:
        over = over and evidence.history_ok is not False
    elif not _is_end(seen):  # only the history has it, and as if it went on
        return _as_on_file(status)
    elif killed and over and seen.state in _CAUSES:
        return _end(seen)
    return _as_on_file(status, close=status.reason if over else None)


def _ended_but_there(status: RunStatus, seen: Seen, *, killed: bool) -> Verdict:
    if seen.state is RunState.UNKNOWN:
        warning = _unknown_word(seen)
        return _as_on_file(status, warning=warning) if killed else Verdict(RunState.UNKNOWN, warning=warning)
    if seen.state is RunState.HELD:
        return Verdict(RunState.HELD, seen.reason)
    if killed and seen.state is RunState.RUNNING:
        return _as_on_file(status)  # the script still tidies up, or other runs share its allocation
    return Verdict(RunState.REQUEUED, seen.reason)


# -- no exit record --------------------------------------------------------------------------------------


def _seen(status: RunStatus, evidence: Evidence, seen: Seen) -> Verdict:
    claimed, fresh = status.incarnation is not None, status.state is RunState.RUNNING
    if seen.state is RunState.UNKNOWN:
        state = RunState.RUNNING if fresh else RunState.UNKNOWN
        return Verdict(state, seen.reason, warning=_unknown_word(seen))
    if _is_end(seen):
        return _over(status, evidence, seen)
    warning = None
    if status.cancelled:
        warning = f"it was cancelled, but its job {evidence.job} is still {seen.word or seen.state}"
    if seen.state is RunState.PENDING and claimed:
        return Verdict(RunState.REQUEUED, seen.reason, warning=warning)
    if seen.state is RunState.RUNNING and claimed and not fresh and not status.cancelled:
        minutes = (status.silent_s or STALE_S) / 60
        warning = f"its job runs, but it has shown no sign of life for {minutes:.0f} minutes"
    return Verdict(seen.state, seen.reason, warning=warning)


def _over(status: RunStatus, evidence: Evidence, seen: Seen) -> Verdict:
    """The scheduler says that it ended; the run itself has not said how."""
    passed = _latency_passed(status, evidence)
    if status.cancelled:
        return Verdict(RunState.CANCELLED, CANCELLED, CANCELLED if passed else None, message=_told(seen))
    if not passed:
        return Verdict(status.state, f"{_told(seen)}, a moment ago")
    if seen.state is RunState.COMPLETED and status.incarnation is None:
        # It ended without taking the run: not a failure of the run.
        return Verdict(RunState.LOST, NEVER_STARTED, NEVER_STARTED, message=_told(seen))
    return _end(seen)


def _end(seen: Seen) -> Verdict:
    reason = _REASONS[seen.state]
    if seen.state is RunState.TIMEOUT and not seen.curable:
        reason = DEADLINE
    return Verdict(state_of(-1, reason), reason, reason, message=_told(seen))


def _claimed_and_absent(status: RunStatus, evidence: Evidence) -> Verdict:
    if evidence.live_ok and evidence.job and status.cancelled:
        silent = status.silent_s is not None and status.silent_s > evidence.latency_s
        return Verdict(RunState.CANCELLED, CANCELLED, CANCELLED if silent else None)
    if status.state is RunState.RUNNING:
        return _as_on_file(status)  # a live process needs nobody to vouch for it
    unknown = _why_unknown(evidence)
    if unknown is not None:
        return unknown
    return Verdict(RunState.LOST, LOST, LOST, message="neither the task nor its job shows any sign of life")


def _unclaimed_and_absent(status: RunStatus, evidence: Evidence) -> Verdict:
    unknown = _why_unknown(evidence)
    if unknown is not None:
        return unknown
    passed = evidence.age_s > evidence.latency_s
    if status.cancelled:
        return Verdict(RunState.CANCELLED, CANCELLED, CANCELLED if passed else None)
    if not passed:
        return Verdict(RunState.SUBMITTED, "handed over a moment ago")
    message = f"the scheduler does not know job {evidence.job} any more, and the run was never started"
    return Verdict(RunState.LOST, NEVER_STARTED, NEVER_STARTED, message=message)


def _why_unknown(evidence: Evidence) -> Verdict | None:
    """Return UNKNOWN, unless it is certain that the scheduler knows nothing of the task."""
    if not evidence.job:
        lost = evidence.chunk in (ChunkState.NO_PLAN, ChunkState.SENT)
        command = "cancel` gives it up" if lost else "reconcile` looks for it"
        remedy = Remedy.CANCEL if lost else Remedy.RECONCILE
        return Verdict(RunState.UNKNOWN, f"its job is not known: `lfadsrm {command}", remedy=remedy)
    if not evidence.live_ok:
        return Verdict(RunState.UNKNOWN, _NO_ANSWER, remedy=Remedy.ANSWER)
    if evidence.history_ok is False:
        return Verdict(RunState.UNKNOWN, "the scheduler's history did not answer", remedy=Remedy.ANSWER)
    if evidence.seen is not None:
        warning = f"job {evidence.job} has left the queue, but the history has it as {evidence.seen.word}"
        return Verdict(RunState.UNKNOWN, "queue and history contradict each other", warning=warning)
    return None


def _not_sent(status: RunStatus, evidence: Evidence) -> Verdict:
    """The scheduler has not got it, or nobody knows whether it has."""
    if status.cancelled:
        return Verdict(RunState.CANCELLED, CANCELLED)
    if evidence.chunk is ChunkState.UNCERTAIN:
        reason = "it may have been handed over: run `lfadsrm reconcile`"
        return Verdict(RunState.UNCERTAIN, reason, remedy=Remedy.RECONCILE)
    if evidence.chunk is ChunkState.SENDING:
        return Verdict(RunState.SUBMITTED, "it is being handed over")
    if evidence.chunk is ChunkState.UNSENT:
        reason = "planned, not handed over yet: `lfadsrm submit` goes on"
        return Verdict(RunState.SUBMITTED, reason, remedy=Remedy.SUBMIT)
    patience = evidence.latency_s if evidence.planner_alive is False else STALE_S + evidence.latency_s
    if evidence.planner_alive or evidence.age_s <= patience:
        return Verdict(RunState.SUBMITTED, "it is being planned")
    return Verdict(status.before or RunState.PREPARED, NOT_SUBMITTED, NOT_SUBMITTED)


def _unknown_word(seen: Seen) -> str:
    return f"the scheduler says {seen.word!r}: {seen.reason or 'a word that is not known here'}"
