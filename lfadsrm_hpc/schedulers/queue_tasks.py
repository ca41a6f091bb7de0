"""Runs as the local queue takes them."""

from __future__ import annotations

from dataclasses import dataclass, field

from lfadsrm_hpc.schedulers.resources import Request


@dataclass(frozen=True)
class QueueTask:
    """One run to be done.

    Parameters
    ----------
    run_id : str
        `param_<hash>/<run spec>`.
    request : Request
        What the run needs.
    name : str
        More words for people, shown beside the run id; it has no other meaning.
    """

    run_id: str
    request: Request = field(default_factory=Request)
    name: str = ""

    @property
    def title(self) -> str:
        """The run as messages name it."""
        return f"{self.run_id} ({self.name})" if self.name else self.run_id
