"""What a run asks of a machine."""

from __future__ import annotations

from dataclasses import dataclass

from lfadsrm_hpc.errors import UsageError

GPU_MEMORY_MB = 2000
"""GPU memory that a run gets unless its parameters say otherwise, in MiB."""


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
            raise UsageError(f"gpus must be a whole number of at least 0, not {self.gpus!r}")


def check_count(name: str, value: object) -> None:
    """Raise `UsageError` unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1, not {value!r}")
