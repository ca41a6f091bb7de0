"""The facts about one run, in order: they do not depend on how often, or in which order, they were read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lfadsrm_hpc.manifest.records import (
    EXIT_DONE,
    LOCAL,
    LOST,
    Claim,
    Closed,
    Exit,
    Heartbeat,
    Reservation,
)

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
    """What is known of one start of an attempt's process, which was claimed.

    Attributes
    ----------
    ahead : bool
        Its attempt was reserved for a scheduler.
    """

    number: int
    claim: Claim | None
    claimed_at: float | None
    alive: bool | None
    heartbeat: Heartbeat | None = None
    beat_at: float | None = None
    exit: Exit | None = None
    ended_at: float | None = None
    ahead: bool = False

    @property
    def shown_at(self) -> float | None:
        """When it last showed itself, by the clock of the file system."""
        return max(filter(None, (self.claimed_at, self.beat_at, self.ended_at)), default=None)

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
        if self.alive or (self.alive is False and not self.of_cluster):
            return self.alive
        readable = self.claim is not None or self.heartbeat is not None
        age = age_of(self.shown_at, freshness)
        patience = freshness.stale_after_s if readable else freshness.latency_s
        if self.alive is None and age is not None and age <= patience:
            return True
        return None if self.of_cluster else False

    @property
    def of_cluster(self) -> bool:
        """A scheduler started it, and may start it again."""
        return self.ahead if self.claim is None else self.claim.identity.cluster != LOCAL


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

    @property
    def is_ahead(self) -> bool:
        """It was reserved for a scheduler."""
        return self.reservation is not None and self.reservation.is_ahead

    @property
    def waits(self) -> bool:
        """It was reserved for a scheduler, whose job has neither claimed it nor lost the right to."""
        return self.is_ahead and self.newest is None and self.closed is None

    def reserver_is_live(self, freshness: Freshness) -> bool:
        """Return whether somebody may still claim the attempt by right of its reservation."""
        if self.closed is not None or self.reservation is None:
            return False
        if self.reservation.is_ahead:
            return (
                True  # it may wait in a queue for days; a planner that died is found out by its missing plan
            )
        # It meant to claim it at once. One that lives but did not (it was interrupted) must not block the
        # run; taking it over is safe at any time, since the claim decides.
        age = age_of(self.reserved_at, freshness)
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
    reservation = _record(reserved, Reservation)
    ahead = reservation is not None and reservation.is_ahead
    return AttemptFacts(
        number,
        reservation=reservation,
        reserved_at=reserved.modified if reserved else None,
        reserver_alive=reserved.alive if reserved else None,
        # The name alone closes an attempt, whatever the file says.
        closed=(_record(closed, Closed) or Closed(LOST)) if closed else None,
        incarnations=tuple(_incarnation(best, number, k, ahead) for k in claimed),
    )


def _incarnation(
    best: Mapping[tuple[Kind, int, int], Fact], number: int, k: int, ahead: bool
) -> IncarnationFacts:
    claimed = best["claim", number, k]
    beat, last = best.get(("heartbeat", number, k)), best.get(("exit", number, k))
    claim = _record(claimed, Claim)
    ended = _record(last, Exit)
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
        ended_at=last.modified if last and ended else None,
        ahead=ahead,
    )


def _record(fact: Fact | None, kind: type[Any]) -> Any:
    return fact.record if fact is not None and isinstance(fact.record, kind) else None


def age_of(moment: float | None, freshness: Freshness) -> float | None:
    """Return how long ago a moment was, in seconds by the clock of the file system; None for no moment."""
    return None if moment is None else max(0.0, freshness.now - moment)
