"""What is wanted of a submission, what would be submitted, and what was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.planning import Wish
from lfadsrm_hpc.schedulers.resources import Declined
from lfadsrm_hpc.schedulers.retrying import Asked
from lfadsrm_hpc.schedulers.submission import Draft, SentJob

if TYPE_CHECKING:
    from lfadsrm_hpc.schedulers.costs import Cost
    from lfadsrm_hpc.schedulers.sites.site import Site

Agree = Callable[[int, float], None]


@dataclass(frozen=True)
class Order:
    """What a user asks for.

    Attributes
    ----------
    states : set of RunState
        Which runs, by what they are at.
    asked : Asked
        What a task needs.
    site : str or None
        None: the one that LFADSRM_SITE names, or on which we are; for a retry that of the last submission.
    sets : tuple of str
        KEY=VALUE over the site's files.
    max_parallel : int
        So many tasks at once; 0: no limit.
    max_attempts, max_infrastructure_attempts : int or None
        In place of the site's.
    again : bool
        Runs that were tried before.
    task_command : tuple of str or None
        The program that does one run, where it is not this package's own.
    defaults : Asked
        What a task needs that has no earlier request to go by, besides.
    agree : callable or None
        Is told how many runs, and how many GPU hours they ask for, before anything is handed over; it raises
        to refuse.
    """

    states: frozenset[RunState]
    asked: Asked = field(default_factory=Asked)
    site: str | None = None
    sets: tuple[str, ...] = ()
    max_parallel: int = 0
    max_attempts: int | None = None
    max_infrastructure_attempts: int | None = None
    again: bool = False
    task_command: tuple[str, ...] | None = None
    defaults: Asked = field(default_factory=Asked)
    agree: Agree | None = None


@dataclass(frozen=True, repr=False)
class Planned:
    """What would be submitted; nothing was written and no scheduler was told.

    Attributes
    ----------
    site : Site
    wishes : tuple of Wish
        The runs and what each asks for.
    draft : Draft or None
        Jobs and scripts; None on a site without a scheduler, or with no runs.
    cost : Cost or None
    declined : dict of str to Declined
        Runs in the wanted states that are not tried again, and why.
    unsent : tuple of str
        Names of jobs that were planned before: they go first.
    warnings : tuple of str
    local_runs : tuple of str
        On a site without a scheduler: the runs that a local queue would do.
    """

    site: Site
    wishes: tuple[Wish, ...]
    draft: Draft | None
    cost: Cost | None
    declined: Mapping[str, Declined]
    unsent: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    local_runs: tuple[str, ...] = ()

    @property
    def runs(self) -> tuple[str, ...]:
        """Return the ids of the runs that would be handed over."""
        return self.local_runs or tuple(wish.run_id for wish in self.wishes)

    def __repr__(self) -> str:
        chunks = self.draft.plan.chunks if self.draft is not None else ()
        at_most = f", at most {self.cost.gpu_hours_at_most:.1f} GPU hours" if self.cost is not None else ""
        return (
            f"<Planned for {self.site.name}: {len(self.runs)} runs in {len(chunks)} jobs{at_most}; "
            f"{len(self.declined)} declined>"
        )


@dataclass(frozen=True, repr=False)
class Submitted:
    """What was handed over.

    Attributes
    ----------
    site : str
    jobs : tuple of SentJob
    declined : dict of str to Declined
        Runs in the wanted states that were not tried again, and why.
    script : Path or None
        On a site without a scheduler: the local queue, which works in the background.
    pid : int or None
        Its process.
    local_runs : tuple of str
        The runs that it does.
    warnings : tuple of str
    """

    site: str
    jobs: tuple[SentJob, ...]
    declined: Mapping[str, Declined] = field(default_factory=dict)
    script: Path | None = None
    pid: int | None = None
    local_runs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def runs(self) -> tuple[str, ...]:
        """Return the ids of the runs that were handed over."""
        return self.local_runs or tuple(run for job in self.jobs for run in job.runs)

    def __repr__(self) -> str:
        jobs = f"jobs {', '.join(job.job for job in self.jobs)}" if self.jobs else f"process {self.pid}"
        return f"<Submitted to {self.site}: {len(self.runs)} runs, {jobs}; {len(self.declined)} declined>"
