"""What is known of a task beside its run's own files: what the plan says, and what the scheduler said."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from lfadsrm_hpc.manifest.states import RunState

_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class Seen:
    """What a scheduler says of one task.

    Attributes
    ----------
    state : RunState
        PENDING, HELD, RUNNING; or an end: COMPLETED, FAILED, TIMEOUT, OUT_OF_MEMORY, NODE_FAIL, PREEMPTED,
        CANCELLED; UNKNOWN for a word that is not known.
    word : str
        The scheduler's own word.
    reason : str
        Why it waits, or how it ended, for people. "" where nothing is said.
    curable : bool
        False: more of the same resource would not help (Slurm's DEADLINE).
    code, signal : int or None
        Exit status and signal of the task's script, where the scheduler tells them.
    host : str
    ended : float or None
        Seconds since 1970 by the scheduler's clock.
    live : bool
        From the live queue; False: from the history (accounting), which lags.
    """

    state: RunState
    word: str
    reason: str = ""
    curable: bool = True
    code: int | None = None
    signal: int | None = None
    host: str = ""
    ended: float | None = None
    live: bool = True


class ChunkState(str, Enum):
    """How far the submission of a chunk is."""

    NO_PLAN = "no plan"  # attempts were reserved, but the plan was never completed
    UNSENT = "unsent"  # the scheduler was certainly not given it
    SENDING = "sending"  # the process that hands it over is at work
    UNCERTAIN = "uncertain"  # the scheduler was called, and nobody knows what came of it
    SENT = "sent"  # there is a receipt


@dataclass(frozen=True)
class Evidence:
    """What is known of the newest attempt of a run that was handed to a scheduler.

    Attributes
    ----------
    chunk : ChunkState
    age_s : float
        Age of the receipt, or of the newest file of the plan where there is none, by the clock of the file
        system, s.
    seen : Seen or None
        None: the scheduler does not know the task (read `live_ok` and `history_ok` before believing that).
    live_ok : bool
        A live query was answered, and its answer was read whole.
    history_ok : bool or None
        The same of the history; None: this cluster has none.
    job, task : str
        The task that was asked about, to be compared with the claim's. An empty `job` says that the scheduler
        was not asked about this task, whatever `live_ok` says.
    latency_s : float
        How long the file system of this site may hide what another machine wrote.
    now : float or None
        When the scheduler was asked, seconds since 1970, to be compared with `Seen.ended`.
    planner_alive : bool or None
        Whether the process that reserved the attempt lives (only for `NO_PLAN`); None: it cannot be told.
    """

    chunk: ChunkState
    age_s: float
    seen: Seen | None = None
    live_ok: bool = False
    history_ok: bool | None = None
    job: str = ""
    task: str = ""
    latency_s: float = 60.0
    now: float | None = None
    planner_alive: bool | None = None


def same_job(one: str, other: str) -> bool:
    """Return whether two ids name one job: "123", "123[].server" and "123.server.site" do."""
    first, second = _DIGITS.match(one), _DIGITS.match(other)
    return first[0] == second[0] if first and second else one == other
