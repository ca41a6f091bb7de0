"""From facts to a state: pure functions that touch no file and no clock.

The facts about one run are gathered into `RunFacts`, which does not depend on the order in which they were
read or on reading one twice, and folded to a `RunStatus`.

Two rules beyond the table of docs/manifest.md:

- An exit record with code 0 that carries its claim's token completes the run, whichever attempt wrote it; the
  highest such wins. Every final file was in place when it was written, so a later attempt that was begun by
  mistake (its planner saw an old picture of the folder) has nothing left to do, and notices. A later attempt
  that was asked to redo a complete run is different: from its claim on the run is at what that attempt is at.
- An attempt that was reserved but never claimed, whose reserver died or gave it up, counts as if it were not
  there: the run is at what it was at before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.records import (
    BAD_DATA,
    DONE,
    EXIT_DONE,
    FAILED,
    LOCAL,
    LOST,
    Claim,
    Closed,
    Exit,
    Heartbeat,
    Reservation,
    state_of,
)
from lfadsrm_hpc.manifest.states import RunState

LATENCY_S = 60.0  # how long a file system may hide what another machine wrote
STALE_S = 300.0  # a training loop beats at least once a minute

Kind = Literal["attempt", "reserved", "claim", "heartbeat", "exit", "closed", "cancelled"]
Record = Reservation | Claim | Heartbeat | Exit | Closed


@dataclass(frozen=True)
class Fact:
    """One thing that was read.

    Attributes
    ----------
    kind : str
        "attempt": its folder exists. "cancelled": a cancellation covers the attempts up to `attempt`.
    attempt : int
    incarnation : int
        -1 for facts about the attempt as a whole.
    record : record or None
        None: the file is there, but empty or unreadable.
    modified : float or None
        When the file was written, by the clock of the file system, s.
    alive : bool or None
        Of a claim or a reservation: whether its process lives; None: it cannot be told from this machine.
    """

    kind: Kind
    attempt: int
    incarnation: int = -1
    record: Record | None = None
    modified: float | None = None
    alive: bool | None = None


@dataclass(frozen=True)
class Freshness:
    """What "now" and "too old" mean for one look.

    Attributes
    ----------
    now : float
        By the clock of the file system, s.
    stale_after_s : float
        A live incarnation showed itself within this time.
    latency_s : float
        A file that is empty for longer than this was left by a writer that died.
    """

    now: float
    stale_after_s: float = STALE_S + LATENCY_S
    latency_s: float = LATENCY_S


@dataclass(frozen=True)
class IncarnationFacts:
    """What is known of one start of an attempt's process, which was claimed."""

    number: int
    claim: Claim | None
    claimed_at: float | None
    alive: bool | None
    heartbeat: Heartbeat | None = None
    beat_at: float | None = None
    exit: Exit | None = None

    @property
    def completes(self) -> bool:
        """It trained and wrote every final file, and said so itself."""
        return (
            self.claim is not None
            and self.exit is not None
            and self.exit.code == EXIT_DONE
            and self.exit.token == self.claim.token
        )

    def liveness(self, freshness: Freshness) -> bool | None:
        """Return whether it still works on the run; None: the scheduler must be asked."""
        if self.exit is not None:
            return False
        if self.alive is not None:
            return self.alive
        readable = self.claim is not None or self.heartbeat is not None
        age = _age(max(filter(None, (self.claimed_at, self.beat_at)), default=None), freshness)
        if age is not None and age <= (freshness.stale_after_s if readable else freshness.latency_s):
            return True
        if self.claim is not None and self.claim.identity.cluster != LOCAL:
            return None
        return False


@dataclass(frozen=True)
class AttemptFacts:
    """What is known of one attempt."""

    number: int
    reservation: Reservation | None = None
    reserved_at: float | None = None
    reserver_alive: bool | None = None
    closed: Closed | None = None
    incarnations: tuple[IncarnationFacts, ...] = ()

    @property
    def newest(self) -> IncarnationFacts | None:
        return self.incarnations[-1] if self.incarnations else None

    def reserver_is_live(self, freshness: Freshness) -> bool:
        """Return whether somebody who reserved the attempt may still claim it."""
        if self.closed is not None or self.reservation is None:
            return False
        if self.reservation.process is None:
            return True  # planned for a scheduler: it may wait in a queue for days
        # It meant to claim it at once. One that lives but did not (it was interrupted) must not block the
        # run; taking it over is safe at any time, since the claim decides.
        age = _age(self.reserved_at, freshness)
        return self.reserver_alive is not False and age is not None and age <= freshness.latency_s


@dataclass(frozen=True)
class RunFacts:
    """Everything that is known of one run.

    Attributes
    ----------
    attempts : tuple of AttemptFacts
        First first.
    cancelled_up_to : int or None
        The newest attempt that a cancellation covers; 0 cancels a run that was never tried.
    """

    run_id: str
    attempts: tuple[AttemptFacts, ...] = ()
    cancelled_up_to: int | None = None

    @property
    def newest(self) -> AttemptFacts | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def newest_number(self) -> int:
        return self.attempts[-1].number if self.attempts else 0

    @property
    def is_cancelled(self) -> bool:
        """A cancellation covers the newest attempt."""
        return self.cancelled_up_to is not None and self.cancelled_up_to >= self.newest_number

    @property
    def winner(self) -> tuple[AttemptFacts, IncarnationFacts] | None:
        """The newest incarnation that completed the run: its files are the ones to load."""
        return next(((a, i) for a, i in self._newest_first() if i.completes), None)

    @property
    def completed(self) -> tuple[AttemptFacts, IncarnationFacts] | None:
        """The winner, unless a newer incarnation was asked to redo the run: nothing is left to do."""
        for attempt, incarnation in self._newest_first():
            if incarnation.completes:
                return attempt, incarnation
            if incarnation.claim is not None and incarnation.claim.redo:
                return None
        return None

    def _newest_first(self) -> Iterator[tuple[AttemptFacts, IncarnationFacts]]:
        for attempt in reversed(self.attempts):
            for incarnation in reversed(attempt.incarnations):
                yield attempt, incarnation


@dataclass(frozen=True)
class RunStatus:
    """What a run is at, for people and programs.

    Attributes
    ----------
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

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them."""
        return {**asdict(self), "state": self.state.value}


def gather(run_id: str, facts: Iterable[Fact]) -> RunFacts:
    """Put facts in order; what was read twice counts once."""
    best: dict[tuple[Kind, int, int], Fact] = {}
    cancelled: int | None = None
    for fact in facts:
        if fact.kind == "cancelled":
            cancelled = max(fact.attempt, -1 if cancelled is None else cancelled)
            continue
        key = (fact.kind, fact.attempt, fact.incarnation)
        best[key] = max(best[key], fact, key=_weight) if key in best else fact
    numbers = sorted({attempt for _, attempt, _ in best})
    return RunFacts(run_id, tuple(_attempt(best, number) for number in numbers), cancelled)


def _weight(fact: Fact) -> tuple[bool, float, bool, str]:
    # Readable before unreadable, later before earlier, dead before alive (death is for good); the text only
    # makes the choice between two that differ in nothing else the same on every reading.
    return (fact.record is not None, fact.modified or 0.0, fact.alive is False, repr(fact))


def _attempt(best: Mapping[tuple[Kind, int, int], Fact], number: int) -> AttemptFacts:
    reserved = best.get(("reserved", number, -1))
    closed = best.get(("closed", number, -1))
    claimed = sorted(k for kind, attempt, k in best if kind == "claim" and attempt == number)
    return AttemptFacts(
        number,
        reservation=_record(reserved, Reservation),
        reserved_at=reserved.modified if reserved else None,
        reserver_alive=reserved.alive if reserved else None,
        # The name alone closes an attempt, whatever the file says.
        closed=(_record(closed, Closed) or Closed(LOST)) if closed else None,
        incarnations=tuple(_incarnation(best, number, k) for k in claimed),
    )


def _incarnation(best: Mapping[tuple[Kind, int, int], Fact], number: int, k: int) -> IncarnationFacts:
    claimed = best["claim", number, k]
    beat = best.get(("heartbeat", number, k))
    claim = _record(claimed, Claim)
    ended = _record(best.get(("exit", number, k)), Exit)
    # What carries another token was not written by this incarnation.
    if ended is not None and claim is not None and ended.token not in ("", claim.token):
        ended = None
    if beat is not None and claim is not None and getattr(beat.record, "token", claim.token) != claim.token:
        beat = None
    return IncarnationFacts(
        k,
        claim,
        claimed.modified,
        claimed.alive,
        heartbeat=_record(beat, Heartbeat),
        beat_at=beat.modified if beat else None,
        exit=ended,
    )


def _record(fact: Fact | None, kind: type[Any]) -> Any:
    return fact.record if fact is not None and isinstance(fact.record, kind) else None


def _age(moment: float | None, freshness: Freshness) -> float | None:
    return None if moment is None else max(0.0, freshness.now - moment)


def fold(facts: RunFacts, freshness: Freshness) -> RunStatus:
    """Return what the run is at."""
    if facts.completed is not None:
        attempt, incarnation = facts.completed
        return _status(facts, RunState.COMPLETED, attempt, incarnation, freshness, reason=DONE)
    for attempt in reversed(facts.attempts):
        if attempt.newest is not None:
            return _claimed(facts, attempt, attempt.newest, freshness)
        if attempt.reserver_is_live(freshness):
            planned = attempt.reservation is not None and attempt.reservation.process is None
            if planned and facts.is_cancelled:
                return RunStatus(facts.run_id, RunState.CANCELLED, attempt.number)
            state = RunState.SUBMITTED if planned else RunState.PENDING
            return RunStatus(facts.run_id, state, attempt.number)
    return RunStatus(facts.run_id, RunState.CANCELLED if facts.is_cancelled else RunState.PREPARED)


def _claimed(
    facts: RunFacts, attempt: AttemptFacts, newest: IncarnationFacts, freshness: Freshness
) -> RunStatus:
    reason = None
    if newest.exit is not None:
        # Code 0 that did not complete the run came without the token: nobody vouches for the files.
        state = RunState.FAILED if newest.exit.code == EXIT_DONE else newest.exit.state
        reason = FAILED if newest.exit.code == EXIT_DONE else newest.exit.reason
        if facts.is_cancelled and reason not in (FAILED, BAD_DATA):
            state = RunState.CANCELLED
    elif attempt.closed is not None:
        state = RunState.CANCELLED if facts.is_cancelled else state_of(-1, attempt.closed.reason)
        reason = attempt.closed.reason
    else:
        live = newest.liveness(freshness)
        if live:
            state = RunState.RUNNING
        elif facts.is_cancelled:
            state = RunState.CANCELLED
        elif live is None:
            state, reason = RunState.UNKNOWN, "no fresh heartbeat; the scheduler must be asked"
        else:
            state, reason = RunState.LOST, LOST
    return _status(facts, state, attempt, newest, freshness, reason=reason)


def _status(
    facts: RunFacts,
    state: RunState,
    attempt: AttemptFacts,
    incarnation: IncarnationFacts,
    freshness: Freshness,
    *,
    reason: str | None,
) -> RunStatus:
    claim, ended, beat = incarnation.claim, incarnation.exit, incarnation.heartbeat
    return RunStatus(
        facts.run_id,
        state,
        attempt.number,
        incarnation.number,
        code=ended.code if ended else None,
        signal=ended.signal if ended else None,
        reason=reason,
        message=ended.message if ended else "",
        host=claim.process.host if claim else None,
        progress=dict(beat.progress) if beat else {},
        heartbeat_age_s=_age(incarnation.beat_at, freshness),
        started=claim.claimed if claim else None,
        ended=ended.ended if ended else None,
        peak_memory_mb=ended.peak_memory_mb if ended else None,
        claim=claim,
    )
