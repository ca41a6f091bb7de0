"""From facts to a state: pure functions that touch no file and no clock.

The facts about one run are gathered into `RunFacts` (module `facts`) and folded to a `RunStatus`.

Three rules beyond the states of docs/manifest.md:

- An exit record with code 0 that carries its claim's token completes the run, whichever attempt wrote it; the
  highest such wins. Every final file was in place when it was written, so a later attempt that was begun by
  mistake (its planner saw an old picture of the folder) has nothing left to do, and notices. A later attempt
  that was asked to redo a complete run is different: from its claim on the run is at what that attempt is at.
- An attempt that was reserved but never claimed, whose reserver died or gave it up, counts as if it were not
  there: the run is at what it was at before. One that was reserved for a scheduler waits until it is closed,
  and then the reason counts.
- An exit record by a shell that says "killed" tells how the task died; the reason for which its attempt was
  closed may tell why (out of memory).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lfadsrm_hpc.manifest.facts import (
    LATENCY_S,
    STALE_S,
    AttemptFacts,
    Fact,
    Freshness,
    IncarnationFacts,
    RunFacts,
    age_of,
    gather,
)
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.records import (
    BAD_DATA,
    CAUSES,
    DONE,
    EXIT_DONE,
    FAILED,
    KILLED,
    LOST,
    NO_TRY,
    Claim,
    Closed,
    Exit,
    state_of,
)
from lfadsrm_hpc.manifest.states import RunState

__all__ = [
    "LATENCY_S",
    "STALE_S",
    "AttemptFacts",
    "Fact",
    "Freshness",
    "IncarnationFacts",
    "RunFacts",
    "RunStatus",
    "fold",
    "gather",
    "history",
]


@dataclass(frozen=True)
class RunStatus:
    """What a run is at, for people and programs.

    Attributes
    ----------
    run_id : str
    state : RunState
    attempt, incarnation : int or None
        Those that the state is about; None: none.
    code, signal, reason, message
        Of the exit record; `reason` also where an attempt was closed without one.
    progress : dict
        Of the newest heartbeat: epoch, step, costs and so on.
    heartbeat_age_s : float or None
        By the clock of the file system.
    started, ended : float or None
        Seconds since 1970 by the clock of the machine that ran it.
    claim : Claim or None
        Of that incarnation.
    silent_s : float or None
        Age of the newest sign of that incarnation (claim, heartbeat, exit record), by the clock of the file
        system; None: unknown.
    closed, cancelled : bool
        The attempt was given up on record; a cancellation covers it.
    submission : str
        For which submission the attempt was reserved; "" where the record was not read.
    reserved_by : Process or None
        Who reserved it.
    before : RunState or None
        Of an attempt that waits for a scheduler: what the run was at before, and is again if that attempt
        was never handed over.
    host : str or None
        The machine that it is or was on.
    peak_memory_mb : float or None
        Of its process, in MiB, as far as it has said it.
    """

    run_id: str
    state: RunState
    attempt: int | None = None
    incarnation: int | None = None
    code: int | None = None
    signal: int | None = None
    reason: str | None = None
    message: str = ""
    host: str | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    heartbeat_age_s: float | None = None
    started: float | None = None
    ended: float | None = None
    peak_memory_mb: float | None = None
    claim: Claim | None = None
    silent_s: float | None = None
    closed: bool = False
    cancelled: bool = False
    submission: str = ""
    reserved_by: Process | None = None
    before: RunState | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them."""
        return {**asdict(self), "state": self.state.value}

    def _repr_html_(self) -> str:
        from lfadsrm_hpc import markup

        about = {
            "attempt": self.attempt,
            "epoch": self.progress.get("epoch"),
            "training cost": self.progress.get("train_total"),
            "validation cost": self.progress.get("valid_total"),
            "host": self.host,
            "reason": self.reason,
            "message": self.message.strip()[:500],
        }
        state = self.state.value.lower().replace("_", " ")
        return markup.block(markup.title(type(self).__name__, self.run_id, state), markup.pairs(about))


def fold(facts: RunFacts, freshness: Freshness) -> RunStatus:
    """Return what the run is at."""
    if facts.completed is not None:
        attempt, incarnation = facts.completed
        return _status(facts, RunState.COMPLETED, attempt, freshness, incarnation=incarnation, reason=DONE)
    told = (
        _of_attempt(facts, attempt, freshness, cancelled=facts.is_cancelled)
        for attempt in reversed(facts.attempts)
    )
    found = (status for status in told if status is not None)
    status = next(found, None)
    if status is not None and status.state is RunState.SUBMITTED:
        earlier = next(found, None)
        return replace(status, before=RunState.PREPARED if earlier is None else earlier.state)
    if status is not None:
        return status
    if facts.is_cancelled:
        return RunStatus(facts.run_id, RunState.CANCELLED, cancelled=True, closed=True)
    return RunStatus(facts.run_id, RunState.PREPARED)


def history(facts: RunFacts, freshness: Freshness) -> tuple[RunStatus, ...]:
    """Return how each attempt ended, or what it is at, first first: what a retry is judged by.

    Attempts that count as if they had never been are left out.
    """
    found = []
    for attempt in facts.attempts:
        done = next((i for i in reversed(attempt.incarnations) if i.completes), None)
        if done is not None:
            found.append(
                _status(facts, RunState.COMPLETED, attempt, freshness, incarnation=done, reason=DONE)
            )
            continue
        covered = facts.cancelled_up_to is not None and facts.cancelled_up_to >= attempt.number
        status = _of_attempt(facts, attempt, freshness, cancelled=covered)
        found += [status] if status is not None else []
    return tuple(found)


def _of_attempt(
    facts: RunFacts, attempt: AttemptFacts, freshness: Freshness, *, cancelled: bool
) -> RunStatus | None:
    """Return what a run is at by one attempt; None: the attempt counts as if it had never been."""
    newest, closed = attempt.newest, attempt.closed
    reason: str | None
    if newest is not None:
        state, reason = _claimed(attempt, newest, freshness, cancelled=cancelled)
    elif attempt.reserver_is_live(freshness):
        state, reason = RunState.SUBMITTED if attempt.is_ahead else RunState.PENDING, None
        state = RunState.CANCELLED if cancelled and attempt.is_ahead else state
    elif closed is not None and attempt.is_ahead and closed.reason not in NO_TRY:
        # It never began, and the scheduler said why: a job that was cancelled, lost, or died in its script.
        state, reason = state_of(-1, closed.reason), closed.reason
        state = RunState.CANCELLED if cancelled else state
    else:
        return None
    return _status(facts, state, attempt, freshness, incarnation=newest, reason=reason, cancelled=cancelled)


def _claimed(
    attempt: AttemptFacts, newest: IncarnationFacts, freshness: Freshness, *, cancelled: bool
) -> tuple[RunState, str | None]:
    closed = attempt.closed
    if newest.exit is not None:
        state, reason = _ended(newest.exit, closed)
        if cancelled and reason not in (FAILED, BAD_DATA):
            state = RunState.CANCELLED
        return state, reason
    if closed is not None:
        return RunState.CANCELLED if cancelled else state_of(-1, closed.reason), closed.reason
    live = newest.liveness(freshness)
    if live:
        return RunState.RUNNING, None
    if cancelled:
        return RunState.CANCELLED, None
    if live is None:
        return RunState.UNKNOWN, "no fresh heartbeat; the scheduler must be asked"
    return RunState.LOST, LOST


def _ended(record: Exit, closed: Closed | None) -> tuple[RunState, str]:
    # Code 0 that did not complete the run came without the token: nobody vouches for the files.
    if record.code == EXIT_DONE:
        return RunState.FAILED, FAILED
    # A shell sees that python was killed; the scheduler may have told why.
    if record.reason == KILLED and closed is not None and closed.reason in CAUSES:
        return state_of(-1, closed.reason), closed.reason
    return record.state, record.reason


def _status(
    facts: RunFacts,
    state: RunState,
    attempt: AttemptFacts,
    freshness: Freshness,
    *,
    incarnation: IncarnationFacts | None,
    reason: str | None,
    cancelled: bool = False,
) -> RunStatus:
    reservation, closed = attempt.reservation, attempt.closed
    status = RunStatus(
        facts.run_id,
        state,
        attempt.number,
        reason=reason,
        message=closed.message if closed else "",
        closed=closed is not None,
        cancelled=cancelled,
        submission=reservation.submission if reservation else "",
        reserved_by=reservation.process if reservation else None,
    )
    if incarnation is None:
        return status
    claim, ended, beat = incarnation.claim, incarnation.exit, incarnation.heartbeat
    return replace(
        status,
        incarnation=incarnation.number,
        code=ended.code if ended else None,
        signal=ended.signal if ended else None,
        message=(ended.message if ended else "") or status.message,
        host=claim.process.host if claim else None,
        progress=dict(beat.progress) if beat else {},
        heartbeat_age_s=age_of(incarnation.beat_at, freshness),
        started=claim.claimed if claim else None,
        ended=ended.ended if ended else None,
        peak_memory_mb=ended.peak_memory_mb if ended else None,
        claim=claim,
        silent_s=age_of(incarnation.shown_at, freshness),
    )
