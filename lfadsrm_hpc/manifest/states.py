"""The states of a run, which of them are final, and which are failures."""

from __future__ import annotations

from enum import Enum


class RunState(str, Enum):
    """What a run is at. The value is the word that users, JSON and outbox names see."""

    PREPARED = "PREPARED"
    SUBMITTED = "SUBMITTED"
    PENDING = "PENDING"
    HELD = "HELD"
    RUNNING = "RUNNING"
    REQUEUED = "REQUEUED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    NODE_FAIL = "NODE_FAIL"
    PREEMPTED = "PREEMPTED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"
    UNCERTAIN = "UNCERTAIN"
    UNKNOWN = "UNKNOWN"

    def __str__(self) -> str:
        return self.value

    @property
    def is_failure(self) -> bool:
        """The newest attempt ended, or was given up, without completing the run."""
        return self in FAILURES

    @property
    def is_final(self) -> bool:
        """Nothing works on the run any more; it moves again only if somebody starts another attempt."""
        return self is RunState.COMPLETED or self in FAILURES

    @property
    def is_live(self) -> bool:
        """Somebody has the run, or is about to: it must be neither started again nor deleted."""
        return self in LIVE


FAILURES = frozenset(
    {
        RunState.FAILED,
        RunState.TIMEOUT,
        RunState.OUT_OF_MEMORY,
        RunState.NODE_FAIL,
        RunState.PREEMPTED,
        RunState.CANCELLED,
        RunState.LOST,
    }
)

LIVE = frozenset(
    {
        RunState.SUBMITTED,
        RunState.PENDING,
        RunState.HELD,
        RunState.RUNNING,
        RunState.REQUEUED,
        RunState.UNCERTAIN,
    }
)
