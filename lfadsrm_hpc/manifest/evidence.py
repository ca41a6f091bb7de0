"""What is known of a task beside its run's own files: what the plan says, and what the scheduler said."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lfadsrm_hpc.manifest.states import RunState


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
        Identity of the task in the scheduler, to be compared with the claim's.
    latency_s : float
        How long the file system of this site may hide what another machine wrote.
    """

    chunk: ChunkState
    age_s: float
    seen: Seen | None = None
    live_ok: bool = False
    history_ok: bool | None = None
    job: str = ""
    task: str = ""
    latency_s: float = 60.0
