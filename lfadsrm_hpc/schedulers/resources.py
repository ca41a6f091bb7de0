"""What a run asks of a machine, and what it asks for when it is tried again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.manifest.states import RunState

GPU_MEMORY_MB = 2000
"""GPU memory that a run gets unless its parameters say otherwise, in MiB."""

_INFRASTRUCTURE = frozenset({RunState.NODE_FAIL, RunState.PREEMPTED, RunState.LOST})


@dataclass(frozen=True)
class Request:
    """What one run needs.

    Parameters
    ----------
    gpu_memory_mb : int
        GPU memory in MiB, kept free for the run from its launch. Without a GPU it has no meaning.

    Raises
    ------
    UsageError
        A value is not a positive whole number.
    """

    gpu_memory_mb: int = GPU_MEMORY_MB

    def __post_init__(self) -> None:
        check_count("gpu_memory_mb", self.gpu_memory_mb)


@dataclass(frozen=True)
class JobRequest:
    """What one task asks of a batch scheduler.

    Parameters
    ----------
    walltime_s : int
        Time limit of the task in seconds. There is no default: a wrong one costs a night.
    partition : str
        Partition (Slurm) or queue (PBS); empty: the cluster's own default.
    gpus : int
        0: none.
    gpu_type : str
        Empty: any.
    cpus : int
        Cores.
    memory_mb : int or None
        Main memory in MiB; None: what the cluster gives.
    """

    walltime_s: int
    partition: str = ""
    gpus: int = 0
    gpu_type: str = ""
    cpus: int = 1
    memory_mb: int | None = None

    def __post_init__(self) -> None:
        check_count("walltime", self.walltime_s)
        check_count("cpus", self.cpus)
        if self.memory_mb is not None:
            check_count("memory", self.memory_mb)
        if isinstance(self.gpus, bool) or not isinstance(self.gpus, int) or self.gpus < 0:
            raise UsageError(
                f"gpus must be a whole number of at least 0, not {self.gpus!r}",
                hint="give 0 for the CPU alone, or how many GPUs a run has",
            )


def check_count(name: str, value: object) -> None:
    """Raise `UsageError` unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1, not {value!r}", hint="give 1 or more")


@dataclass(frozen=True)
class Caps:
    """The most that a task can get in its partition; None: not known."""

    walltime_s: int | None = None
    memory_mb: int | None = None


@dataclass(frozen=True)
class RetryRules:
    """How requests grow, and how often a run is tried; see `schedulers.sites.site` for the words."""

    memory_factor: float = 1.5
    walltime_factor: float = 1.5
    max_attempts: int = 3
    max_infrastructure_attempts: int = 10


@dataclass(frozen=True)
class Ended:
    """How one earlier attempt at a run ended.

    Attributes
    ----------
    state : RunState
    bad_data : bool
        It found its data unusable: trying again cannot help.
    curable : bool
        False: out of time, and more time does not help (a deadline of the scheduler).
    gained : bool
        It left a checkpoint that is further on than those before it.
    """

    state: RunState
    bad_data: bool = False
    curable: bool = True
    gained: bool = False

    @property
    def is_infrastructure(self) -> bool:
        """A node, a preemption or the scheduler ended it: no doing of its own."""
        return self.state in _INFRASTRUCTURE

    @property
    def counts(self) -> bool:
        """It used up one of `max_attempts`."""
        if self.state is RunState.TIMEOUT:
            return not self.gained
        return self.state in (RunState.FAILED, RunState.OUT_OF_MEMORY)


@dataclass(frozen=True)
class Declined:
    """Why a run is not tried again, and what the user can do.

    Attributes
    ----------
    why, hint : str
    """

    why: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.why} ({self.hint})" if self.hint else self.why


def escalate(
    request: JobRequest,
    history: Sequence[Ended],
    caps: Caps,
    rules: RetryRules,
    *,
    asked: bool = False,
    given: frozenset[str] = frozenset(),
) -> JobRequest | Declined:
    """Return what a run asks for when it is tried again, or why it is not; pure.

    Parameters
    ----------
    request : JobRequest
        What the newest attempt asked for, with what the user gives now in its place.
    history : sequence of Ended
        Of all attempts that ran, first first; the newest is the reason for trying again.
    caps : Caps
        Of the partition.
    rules : RetryRules
    asked : bool
        The user asked for runs that failed, or were cancelled, by that word.
    given : set of str
        What the user gives now ("memory", "walltime", "cpus", ...), so that it is not changed here.

    Examples
    --------
    >>> ended = [Ended(RunState.OUT_OF_MEMORY)]
    >>> escalate(JobRequest(3600, memory_mb=8000), ended, Caps(memory_mb=10000), RetryRules()).memory_mb
    10000
    """
    if not history:
        return request
    last = history[-1]
    if last.bad_data:
        return Declined("its data cannot be used", "`lfadsrm why` tells how to repair them")
    if last.state in (RunState.FAILED, RunState.CANCELLED) and not asked:
        return Declined(
            f"it {'failed' if last.state is RunState.FAILED else 'was cancelled'}",
            f"--{'failed' if last.state is RunState.FAILED else 'state CANCELLED'} tries it again",
        )
    used = sum(ended.is_infrastructure for ended in history)
    if last.is_infrastructure and used >= rules.max_infrastructure_attempts:
        return Declined(f"nodes or the scheduler ended {used} attempts", "--max-infrastructure-attempts")
    used = sum(ended.counts for ended in history)
    if last.counts and used >= rules.max_attempts:
        return Declined(f"{used} attempts have failed", "--max-attempts")
    # Where memory comes with cores, GPUs or nodes, more of these is more of it.
    with_more = given & {"cpus", "gpus", "partition"} if request.memory_mb is None else frozenset()
    if last.state is RunState.OUT_OF_MEMORY and "memory" not in given and not with_more:
        return _more_memory(request, caps, rules)
    if last.state is RunState.TIMEOUT and not last.gained and "walltime" not in given:
        return _more_time(request, last, caps, rules)
    return request


def _more_memory(request: JobRequest, caps: Caps, rules: RetryRules) -> JobRequest | Declined:
    if request.memory_mb is None:
        return Declined(
            "it ran out of the memory that the cluster gives unasked",
            "--memory, or, where it comes with them, --cpus, --gpus or --partition",
        )
    if caps.memory_mb is not None and request.memory_mb >= caps.memory_mb:
        return Declined(
            f"it ran out of memory with {request.memory_mb} MiB, the most of its partition",
            "another partition, or a smaller model",
        )
    more = math.ceil(request.memory_mb * rules.memory_factor)
    return replace(request, memory_mb=more if caps.memory_mb is None else min(more, caps.memory_mb))


def _more_time(request: JobRequest, last: Ended, caps: Caps, rules: RetryRules) -> JobRequest | Declined:
    if not last.curable:
        return Declined("a deadline of the scheduler ended it, which more time does not cure")
    if caps.walltime_s is not None and request.walltime_s >= caps.walltime_s:
        return Declined(
            f"it gained nothing in {request.walltime_s} s, the most of its partition",
            "another partition, or more frequent checkpoints",
        )
    more = math.ceil(request.walltime_s * rules.walltime_factor / 60) * 60  # clusters count minutes
    return replace(request, walltime_s=more if caps.walltime_s is None else min(more, caps.walltime_s))
