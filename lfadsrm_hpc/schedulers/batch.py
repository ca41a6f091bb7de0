"""The contract of batch schedulers: hand a script over, ask once for everything, cancel, throttle.

Only what a scheduler says is told here. What has become of a run is decided by `manifest.reconcile`, from the
run's own files first. A scheduler that does not know a task says nothing by that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from lfadsrm_hpc.manifest.evidence import Seen

PLAIN = -1
"""The index of the only task of a job that is no array."""

CALL_TIMEOUT_S = 60.0
"""Time limit of one call of a client program unless a site says otherwise."""


@dataclass(frozen=True)
class Job:
    """A job that a receipt vouches for, as queries name it.

    Attributes
    ----------
    id : str
        As the scheduler gave it: "123" (Slurm), "123[].server" or "123.server" (PBS).
    name : str
        The job's name (`job_name`).
    size : int
        How many array tasks, indices 0 to size - 1; 0: a plain job, whose index is `PLAIN`.
    submitted : float
        When it was handed over, seconds since 1970 by our clock. (Job ids are reused.)
    cluster : str
        Name of the cluster, where the scheduler has several; "" otherwise.
    """

    id: str
    name: str
    size: int
    submitted: float
    cluster: str = ""

    @property
    def indices(self) -> Sequence[int]:
        return range(self.size) if self.size else (PLAIN,)


@dataclass(frozen=True)
class Accepted:
    """A scheduler took a job.

    Attributes
    ----------
    job : str
        The scheduler's id.
    cluster : str
        Which cluster took it, where it says so; "" otherwise.
    output : str
        What the client printed, both streams.
    """

    job: str
    cluster: str = ""
    output: str = ""


@dataclass(frozen=True)
class Found:
    """A job that bears the name of one of our chunks.

    Attributes
    ----------
    job : str
    name : str
    submission : str
        The ULID that the job carries (Slurm's comment, PBS's variable); "" where it cannot be seen.
    cluster : str
    """

    job: str
    name: str
    submission: str = ""
    cluster: str = ""


@dataclass(frozen=True)
class Report:
    """The answer to one look.

    Attributes
    ----------
    tasks : dict of (job id, index) to Seen
        What is known. An index is `PLAIN` for a plain job.
    live_ok : bool
        The live queue answered, and all of its answer could be read. False: absence says nothing.
    history_ok : bool or None
        The same of the history; None: there is none.
    warnings : tuple of str
        What the user should know (an unknown word, an answer that was cut).
    """

    tasks: Mapping[tuple[str, int], Seen] = field(default_factory=dict)
    live_ok: bool = False
    history_ok: bool | None = None
    warnings: tuple[str, ...] = ()


class BatchScheduler(ABC):
    """A scheduler of a cluster, spoken to through its client programs.

    Every call has a time limit, runs without the SLURM_*/SBATCH_*/PBS_* defaults that the user's shell may
    have set for other jobs (but with what says where the cluster is), and reads what comes back with
    tolerance: bytes that are not UTF-8, truncated or interleaved lines, words of newer versions.

    Parameters
    ----------
    history : str
        "auto", "none", or the name of a source ("sacct", "qstat").
    timeout_s : float
        Time limit of one call of a client program.
    """

    name: ClassVar[str]

    def __init__(self, *, history: str = "auto", timeout_s: float = CALL_TIMEOUT_S) -> None:
        self.history = history
        self.timeout_s = timeout_s

    @abstractmethod
    def submit(self, script: Path) -> Accepted:
        """Hand a complete script over. All options of the job stand in the script.

        Raises
        ------
        SchedulerRefusedError
            It said no: nothing was accepted. The text says why, and what to do where that is known.
        SchedulerUnreachableError
            It was certainly not reached: nothing was accepted.
        SubmissionUncertainError
            Anything else: time limit, connection lost in the middle, output that cannot be read. It may have
            been accepted.
        """

    @abstractmethod
    def look(self, jobs: Sequence[Job]) -> Report:
        """Tell what is known of the tasks of jobs, by one live query for all of them together and, where
        there is one, a query of the history for those that it no longer names.

        Never raises for what a scheduler says or fails to say: then `live_ok` is False.
        """

    @abstractmethod
    def find(self, names: Sequence[str], since: float) -> list[Found]:
        """Return the jobs, live or ended, that bear one of the names and were submitted after `since`.

        Raises
        ------
        SchedulerUnreachableError
            The live queue gave no answer that could be read whole: nothing follows from it.
        """

    @abstractmethod
    def cancel(self, job: Job, indices: Sequence[int] | None = None) -> None:
        """Cancel a job, or some of its array's tasks. Those that have ended already are no error.

        Raises
        ------
        SchedulerUnreachableError, SchedulerRefusedError
        """

    @abstractmethod
    def throttle(self, job: Job, most: int) -> None:
        """Let at most so many tasks of an array run at once from now on; 0: no limit. A plain job: nothing.

        Raises
        ------
        SchedulerUnreachableError, SchedulerRefusedError
        """

    def hides_others(self) -> bool:
        """Return whether other users' jobs may be hidden from us: then their absence says nothing."""
        return False

    @abstractmethod
    def version(self) -> str:
        """Return what the scheduler says of its version ("slurm 22.05.8"); the cheapest call there is.

        Raises
        ------
        SchedulerUnreachableError
            Client programs are missing, or the server does not answer.
        """


def job_name(submission: str, chunk: int) -> str:
    """Return the name of a job: `lf`, the last 10 characters of the ULID, the chunk in base 32.

    At most 15 characters, as older PBS and Torque allow, for up to 32,768 chunks. The last characters of a
    ULID are its random ones.
    """
    digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    text = ""
    while chunk or not text:
        chunk, rest = divmod(chunk, 32)
        text = digits[rest] + text
    return f"lf{submission[-10:]}{text}"
