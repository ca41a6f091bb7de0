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


def check_count(name: str, value: object) -> None:
    """Raise `UsageError` unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1, not {value!r}")
