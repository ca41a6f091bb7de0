"""From a collection and what a user asks for to a submission: which site, which runs, what they ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

from lfadsrm_hpc.api.costs import cost_of
from lfadsrm_hpc.api.orders import Order, Planned, Submitted
from lfadsrm_hpc.collection.labels import params_label, varying_names
from lfadsrm_hpc.collection.run import check_inputs
from lfadsrm_hpc.collection.words import counted
from lfadsrm_hpc.errors import (
    ConfigError,
    NothingEligibleError,
    PartlySubmittedError,
    SchedulerError,
    SchedulerUnreachableError,
    SubmissionUncertainError,
)
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.evidence import ChunkState
from lfadsrm_hpc.manifest.records import new_ulid
from lfadsrm_hpc.manifest.sealed import require_trust
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.submission_reading import newest_plans
from lfadsrm_hpc.schedulers import known, local
from lfadsrm_hpc.schedulers.clearing import Cleared
from lfadsrm_hpc.schedulers.handed import site_of
from lfadsrm_hpc.schedulers.planning import Wish, idle_gpus
from lfadsrm_hpc.schedulers.queue_tasks import QueueTask
from lfadsrm_hpc.schedulers.resources import Declined, Request
from lfadsrm_hpc.schedulers.retrying import Candidate, Chooser, carry_options, rules_of
from lfadsrm_hpc.schedulers.sites import loading as sites
from lfadsrm_hpc.schedulers.submission import Drafting, Sender, Tell, publish, unfinished
from lfadsrm_hpc.schedulers.tracking import Tracked

if TYPE_CHECKING:
    from lfadsrm_hpc.api.run import Run
    from lfadsrm_hpc.api.tracking import TrackedCollection
    from lfadsrm_hpc.schedulers.batch import BatchScheduler


def choose_site(collection: TrackedCollection, order: Order) -> sites.LoadedSite:
    """Return the site to submit to; a retry takes site, account and the like from the last submission.

    Raises
    ------
    ConfigError
        See `schedulers.sites.loading.choose_site`.
    """
    project = sites.project_of(collection.path)
    last = next(newest_plans(collection.layout), None) if order.again else None
    name = order.site or (last.site if last is not None else None)
    if name is None:
        return sites.choose_site(None, project=project, sets=order.sets)
    loaded = sites.load_site(name, project=project, sets=order.sets)
    if last is not None and last.site == name:
        loaded = replace(loaded, site=carry_options(loaded.site, site_of(last)))
    return loaded


def candidates(runs: Sequence[Run]) -> list[Candidate]:
    """Return runs as those who choose among them see them."""
    by_hash = {run.params.param_hash: run.params for run in runs}
    varying = varying_names(by_hash.values())
    labels = {key: params_label(params, varying) for key, params in by_hash.items()}
    return [Candidate(run.id, labels[run.params.param_hash], run.params.gpu_memory_mb) for run in runs]


@dataclass
class HandingOver:
    """One order on one collection.

    Attributes
    ----------
    runs : list of Run
        Among these; their states decide.
    tell : callable
        Is told what happens.
    """

    collection: TrackedCollection
    runs: Sequence[Run]
    order: Order
    tell: Tell

    @cached_property
    def loaded(self) -> sites.LoadedSite:
        try:
            return choose_site(self.collection, self.order)
        except ConfigError:
            # That there is nothing to do is said first.
            tracked = self.collection.track(record=False)
            if not self._wanted(tracked) and not unfinished(self.collection.layout):
                self._nothing(tracked, {})
            raise

    @property
    def is_local(self) -> bool:
        return self.loaded.site.is_local

    def plan(self) -> Planned:
        """Return what would be submitted."""
        site = self.loaded.site
        tracked = self.collection.track(record=False)
        wishes, declined = self._choose(tracked)
        unsent = tuple(
            chunk.chunk.name
            for one in unfinished(self.collection.layout)
            for chunk in one.chunks
            if chunk.receipt is None
        )
        local = self._wanted(tracked) if self.is_local else ()
        if not wishes and not local and not unsent:
            self._nothing(tracked, declined)
        draft = cost = None
        if wishes:
            check_inputs(self._runs_of(wishes))
            draft = self._drafting.draft(wishes, new_ulid())
            cost = cost_of(
                self.collection,
                {wish.run_id: wish.request for wish in wishes},
                states=tracked.statuses,
                max_parallel=self.order.max_parallel,
                tasks=draft.arrangement.shared,
                slots=site.packing.slots,
            )
        warnings = (*tracked.warnings, *idle_gpus(wishes, site.packing.runs))
        return Planned(
            site, tuple(wishes), draft, cost, declined, unsent, warnings, tuple(r.id for r in local)
        )

    def submit(self) -> Submitted:
        """Hand over what is wanted, and first what earlier submissions left unfinished."""
        if self.is_local:
            return self._start_queue()
        scheduler = known.make_scheduler(self.loaded.site)
        scheduler.version()  # nothing is changed where nobody answers
        cleared = self.collection.reconcile()
        wishes, declined = self._choose(cleared.tracked)
        warnings = (*cleared.warnings, *idle_gpus(wishes, self.loaded.site.packing.runs))
        for warning in warnings:
            self.tell(f"warning: {warning}")
        check_inputs(self._runs_of(wishes))
        if wishes and self.order.agree is not None:
            gpu_seconds = sum(wish.request.gpus * wish.request.walltime_s for wish in wishes)
            self.order.agree(len(wishes), gpu_seconds / 3600)
        sender = Sender(self.collection.layout, self.tell, occupied=_occupied(cleared.tracked))
        told = (*warnings, *map(_not_known, cleared.uncertain))
        try:
            self._send(sender, scheduler, wishes)
        except SchedulerUnreachableError as error:
            if not sender.sent:
                raise
            partly = PartlySubmittedError(  # the other stands for "nothing was changed"
                f"{len(sender.sent)} jobs of earlier submissions are handed over; then: {error.what}",
                where=self.collection.path,
                hint="the same command goes on",
            )
            partly.done = self._submitted(sender, declined, told)
            raise partly from error
        except SchedulerError as error:
            if sender.sent:
                error.done = self._submitted(sender, declined, told)
            raise
        if not wishes and not sender.sent:
            self._refuse_uncertain(cleared)
            self._nothing(cleared.tracked, declined)
        for name in cleared.uncertain:
            self.tell(f"warning: {_not_known(name)}")
        return self._submitted(sender, declined, told)

    def _send(self, sender: Sender, scheduler: BatchScheduler, wishes: Sequence[Wish]) -> None:
        """Send what earlier submissions left, then what is wanted now."""
        for on_disk in unfinished(self.collection.layout):
            if any(chunk.state is ChunkState.UNSENT for chunk in on_disk.chunks):
                require_trust(on_disk.layout)
                self.tell(f"goes on with submission {on_disk.plan.ulid}")
                sender.send(on_disk.layout)
        if wishes:
            self.tell(f"plans {counted(len(wishes), 'run')}")
            sender.send(publish(self._drafting, wishes, self.tell), scheduler)

    def _submitted(
        self, sender: Sender, declined: Mapping[str, Declined], warnings: tuple[str, ...]
    ) -> Submitted:
        return Submitted(self.loaded.site.name, tuple(sender.sent), declined, warnings=warnings)

    @property
    def _drafting(self) -> Drafting:
        order = self.order
        return Drafting(
            self.collection.layout,
            self.loaded.site,
            self.loaded.templates,
            order.max_parallel,
            task_command=order.task_command,
        )

    def _choose(self, tracked: Tracked) -> tuple[list[Wish], dict[str, Declined]]:
        if self.is_local:
            return [], {}
        order = self.order
        rules = rules_of(
            self.loaded.site,
            max_attempts=order.max_attempts,
            max_infrastructure_attempts=order.max_infrastructure_attempts,
        )
        chooser = Chooser(
            self.collection.layout, self.loaded.site, order.asked, rules, order.states, order.defaults
        )
        return chooser.choose(candidates(self._wanted(tracked)), tracked.statuses), chooser.declined

    def _wanted(self, tracked: Tracked) -> list[Run]:
        return [run for run in self.runs if tracked.statuses[run.id].state in self.order.states]

    def _runs_of(self, wishes: Sequence[Wish]) -> list[Run]:
        wanted = {wish.run_id for wish in wishes}
        return [run for run in self.runs if run.id in wanted]

    def _start_queue(self) -> Submitted:
        tracked = self.collection.track()
        runs = self._wanted(tracked)
        if not runs:
            self._nothing(tracked, {})
        check_inputs(runs)
        if self.order.agree is not None:
            self.order.agree(len(runs), 0.0)
        options = sites.queue_options(dict(self.loaded.site.queue))
        script = local.write_queue_script(self.collection.layout, queue_tasks(runs), options, new_ulid())
        if RunState.CANCELLED in self.order.states:  # it is not in the default
            store.lift(self.collection.layout, [run.layout for run in runs])
        pid = local.detach_queue(script)
        ids = tuple(run.id for run in runs)
        return Submitted(self.loaded.site.name, (), {}, script, pid, ids, tracked.warnings)

    def _refuse_uncertain(self, cleared: Cleared) -> None:
        if cleared.uncertain:
            raise SubmissionUncertainError(
                f"nobody knows yet whether the scheduler took {', '.join(cleared.uncertain)}",
                where=self.collection.path,
                hint="`lfadsrm reconcile` in a minute or two clears it up",
            )

    def _nothing(self, tracked: Tracked, declined: Mapping[str, Declined]) -> NoReturn:
        """Say why there is nothing to do, from what the runs are at."""
        counts = Counter(tracked.statuses[run.id].state for run in self.runs)
        found = ", ".join(f"{counts[state]} {state.value.lower()}" for state in RunState if counts[state])
        reasons = Counter(str(one) for one in declined.values())
        why = "; ".join(f"{count} declined: {reason}" for reason, count in reasons.most_common(3))
        failed = any(state.is_failure for state in counts)
        what = f"no run is to be submitted: {found}" + (f"; {why}" if why else "")
        tracked.refuse_to_conclude(what, self.collection.path)
        raise NothingEligibleError(
            what,
            where=self.collection.path,
            hint="`lfadsrm retry` submits runs again that did not end well"
            if failed and not self.order.again
            else "`lfadsrm status` shows them",
        )


def _not_known(name: str) -> str:
    return f"nobody knows yet whether the scheduler took {name}: `lfadsrm reconcile` clears it up"


def queue_tasks(runs: Sequence[Run]) -> list[QueueTask]:
    """Return runs as the local queue takes them."""
    return [
        QueueTask(one.run_id, Request(gpu_memory_mb=one.gpu_memory_mb), one.title) for one in candidates(runs)
    ]


def _occupied(tracked: Tracked) -> int:
    """Return how many tasks of this collection a scheduler has in its hands."""
    return len(
        {
            (one.job.id, one.index)
            for run_id, one in tracked.handed_runs.items()
            if one.job is not None and tracked.statuses[run_id].state.is_live
        }
    )
