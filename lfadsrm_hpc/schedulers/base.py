"""The contract that every place to run keeps: write what is needed, hand it over, tell what lives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from lfadsrm_hpc.layout import CollectionLayout
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


@dataclass(frozen=True)
class LiveTask:
    """A task that a scheduler knows to be running.

    Attributes
    ----------
    run_id : str
    host : str
    pid : int
    gpu : str
        UUID of its GPU; empty on the CPU.
    gpu_memory_mb : int
        GPU memory kept for it, in MiB.
    """

    run_id: str
    host: str
    pid: int
    gpu: str = ""
    gpu_memory_mb: int = 0


class Scheduler(ABC):
    """Where runs are done.

    What has become of a run is never asked here: exit records say that (`lfadsrm_hpc.manifest`). A scheduler
    only tells what it still knows about.
    """

    name: ClassVar[str]

    @abstractmethod
    def write_script(self, layout: CollectionLayout, tasks: Sequence[QueueTask], submission: str) -> Path:
        """Write all that a submission needs, and start nothing.

        Parameters
        ----------
        layout : CollectionLayout
            The run collection.
        tasks : sequence of QueueTask
            The runs, in the order in which they are to start.
        submission : str
            ULID of the submission.

        Returns
        -------
        Path
            The script to submit. It is complete on disk when this returns; writing it again replaces it by
            a rename, so a script that is being executed is never changed.

        Raises
        ------
        NothingEligibleError
            There are no tasks.
        UsageError
            A run is named twice, or a name cannot stand in a script.
        """

    @abstractmethod
    def submit(self, layout: CollectionLayout, script: Path) -> str:
        """Hand a written script over and return at once with the scheduler's own id for it.

        The work goes on when the caller ends.

        Raises
        ------
        CommandError
            The scheduler could not be reached or refused; nothing was started.
        """

    @abstractmethod
    def live_tasks(self, layout: CollectionLayout) -> list[LiveTask]:
        """Return the tasks of the collection that live now, sorted by run id.

        Absence says nothing about success or failure.
        """
