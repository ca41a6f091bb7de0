"""A run collection on a cluster: plan, submit, watch, retry, cancel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.api.handing_over import HandingOver
from lfadsrm_hpc.api.orders import Agree, Order, Planned, Submitted
from lfadsrm_hpc.api.run import Run
from lfadsrm_hpc.api.tracking import TrackedCollection
from lfadsrm_hpc.errors import NothingEligibleError, UsageError
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers import controlling
from lfadsrm_hpc.schedulers.controlling import Cancelled, Throttled
from lfadsrm_hpc.schedulers.retrying import BY_REASON, NEW, Asked

if TYPE_CHECKING:
    import submitit

Tell = Callable[[str], None]
States = Iterable[RunState | str] | None


class ClusterCollection(TrackedCollection):
    """What can be done with a run collection on clusters."""

    def plan(
        self,
        runs: Iterable[Run] | None = None,
        *,
        states: States = None,
        retry: bool = False,
        site: str | None = None,
        sets: Sequence[str] = (),
        max_parallel: int = 0,
        max_attempts: int | None = None,
        max_infrastructure_attempts: int | None = None,
        defaults: Mapping[str, Any] | None = None,
        **asked: Any,
    ) -> Planned:
        """Return what `submit` (or `retry`) would hand over, its scripts and its cost; change nothing.

        Parameters
        ----------
        retry : bool
            What `retry` would do.
        runs, states, site, sets, max_parallel, max_attempts, max_infrastructure_attempts, defaults, **asked
            See `submit` and `retry`.

        Raises
        ------
        NothingEligibleError
            There is nothing to hand over.
        ConfigError
            The request is not possible at the site, or lacks what it requires.
        """
        order = Order(
            _states(states, BY_REASON if retry else NEW),
            Asked(**asked),
            site,
            tuple(sets),
            max_parallel,
            max_attempts,
            max_infrastructure_attempts,
            again=retry,
            defaults=Asked(**(defaults or {})),
        )
        return self._handing_over(runs, order, None).plan()

    def submit(
        self,
        runs: Iterable[Run] | None = None,
        *,
        states: States = None,
        site: str | None = None,
        sets: Sequence[str] = (),
        max_parallel: int = 0,
        max_attempts: int | None = None,
        max_infrastructure_attempts: int | None = None,
        on_message: Tell | None = None,
        task_command: Sequence[str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        agree: Agree | None = None,
        **asked: Any,
    ) -> Submitted:
        """Hand runs to the scheduler of a site; what an interrupted submission left is handed over first.

        It is safe to call it again at any time, and from several sessions at once: a run that another one has
        is left out, and nothing is ever submitted or trained twice. Runs resume from their checkpoints.

        Parameters
        ----------
        runs : iterable of Run, optional
            Among these; all unless given.
        states : iterable of RunState or str, optional
            Runs in these states; PREPARED unless given.
        site : str, optional
            Name; the one that LFADSRM_SITE names, or on which we are, unless given. On a site without a
            scheduler the local queue is started in the background.
        sets : sequence of str
            `KEY=VALUE` over the site's files: "options.account=abc123".
        max_parallel : int
            So many tasks at once; 0: no limit.
        max_attempts, max_infrastructure_attempts : int, optional
            In place of the site's [retry], where `states` names runs that were tried before.
        on_message : callable, optional
            Is told what happens.
        task_command : sequence of str, optional
            The program that does one run, where it is not this package's own.
        defaults : dict, optional
            As `asked`, but only for runs that have no earlier request to go by.
        agree : callable, optional
            Is told how many runs, and how many GPU hours they ask for, before anything is handed over; it
            raises to refuse.
        **asked
            What a task asks for, in place of what the site says: `walltime` ("4:00:00"), `partition`,
            `memory` ("16G"), `cpus`, `gpus`, `gpu_type`.

        Returns
        -------
        Submitted

        Raises
        ------
        NothingEligibleError
            No run is to be submitted.
        ConfigError
            The request is not possible at the site, or lacks what it requires; no walltime is given.
        MismatchError
            The inputs of a run are not those that it was prepared for.
        SchedulerUnreachableError
            Nothing was changed.
        SchedulerRefusedError
            It was refused; the message says why. Nothing was changed.
        PartlySubmittedError
            Some jobs were handed over; the same call goes on.
        SubmissionUncertainError
            A job may or may not have been accepted: `reconcile` clears it up.
        """
        command = None if task_command is None else tuple(task_command)
        order = Order(
            _states(states, NEW),
            Asked(**asked),
            site,
            tuple(sets),
            max_parallel,
            max_attempts,
            max_infrastructure_attempts,
            task_command=command,
            defaults=Asked(**(defaults or {})),
            agree=agree,
        )
        return self._handing_over(runs, order, on_message).submit()

    def retry(
        self,
        runs: Iterable[Run] | None = None,
        *,
        states: States = None,
        site: str | None = None,
        sets: Sequence[str] = (),
        max_parallel: int = 0,
        max_attempts: int | None = None,
        max_infrastructure_attempts: int | None = None,
        on_message: Tell | None = None,
        task_command: Sequence[str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        agree: Agree | None = None,
        **asked: Any,
    ) -> Submitted:
        """Hand runs over again that did not end well, each with what its end asks for.

        Out of memory: more of it. Out of time: from the checkpoint, and more time if nothing was gained.
        Lost, preempted, node failed: the same again. Failed and cancelled runs are taken only where `states`
        names them; a run whose data could not be used never is.

        Parameters
        ----------
        states : iterable of RunState or str, optional
            TIMEOUT, OUT_OF_MEMORY, NODE_FAIL, PREEMPTED and LOST unless given.
        site : str, optional
            That of the last submission unless given; its account and the like are kept too.
        max_attempts, max_infrastructure_attempts : int, optional
            In place of the site's [retry].
        runs, sets, max_parallel, on_message, task_command, defaults, agree, **asked
            See `submit`; what is asked for takes the place of what the earlier attempt had.

        Returns
        -------
        Submitted
            `declined` says which runs were not taken, and why.

        Raises
        ------
        LfadsrmError
            As `submit`.
        """
        command = None if task_command is None else tuple(task_command)
        order = Order(
            _states(states, BY_REASON),
            Asked(**asked),
            site,
            tuple(sets),
            max_parallel,
            max_attempts,
            max_infrastructure_attempts,
            again=True,
            task_command=command,
            defaults=Asked(**(defaults or {})),
            agree=agree,
        )
        return self._handing_over(runs, order, on_message).submit()

    def cancel(
        self,
        runs: Iterable[Run] | None = None,
        *,
        states: States = None,
        agree: Callable[[int], None] | None = None,
    ) -> Cancelled:
        """Cancel runs (all unless named) that wait or are at work: on record, then at the scheduler.

        Those at work checkpoint. A cancelled run is not started again unless it is asked for.

        Parameters
        ----------
        runs : iterable of Run, optional
        states : iterable of RunState or str, optional
            Only runs that are in these states now.
        agree : callable, optional
            Is told how many runs wait or are at work, before any is cancelled; it raises to refuse.

        Returns
        -------
        Cancelled
            It tells what was running.

        Raises
        ------
        NothingEligibleError
            None of them waits or is at work.
        SchedulerUnreachableError
            The cancellation is on record, but the scheduler could not be told: cancel again.
        """
        found = self.track(runs).statuses.values()
        wanted = _states(states, frozenset(RunState))
        chosen = [status for status in found if status.state in wanted]
        if agree is not None:
            agree(sum(status.state.is_live for status in chosen))
        return controlling.cancel(self.layout, chosen)

    def lift_cancellation(self, runs: Iterable[Run]) -> None:
        """Let cancelled runs be started on this machine again (`run_local`).

        `submit` and `retry` with CANCELLED among their `states` do not need it.

        Parameters
        ----------
        runs : iterable of Run
        """
        store.lift(self.layout, [run.layout for run in runs])

    def throttle(self, most: int, runs: Iterable[Run] | None = None, *, submission: str = "") -> Throttled:
        """Let at most so many tasks of the arrays in the queue run at once, all together; 0: no limit.

        Parameters
        ----------
        most : int
        runs : iterable of Run, optional
            Only arrays with these runs.
        submission : str
            Only those of this submission (its ULID, or the beginning of it).

        Raises
        ------
        NothingEligibleError
            No array waits or is at work.
        SchedulerUnreachableError
        """
        tracked = self.track(runs)
        try:
            return controlling.throttle(tracked.statuses, tracked.handed_runs, most, submission=submission)
        except NothingEligibleError as error:
            tracked.refuse_to_conclude(error.what, self.path)
            raise

    def submit_with(
        self, executor: submitit.Executor, runs: Iterable[Run] | None = None, **options: Any
    ) -> dict[str, submitit.Job[Any]]:
        """Submit runs through a submitit executor; see `lfadsrm_hpc.submitit_plugin.submit_with`.

        Parameters
        ----------
        executor : submitit.Executor
            Any; its folder lies outside the collection.
        runs : iterable of Run, optional
        **options
            `site`, `max_parallel`, `tell`.

        Returns
        -------
        dict of str to submitit.Job
            By run id.
        """
        from lfadsrm_hpc.submitit_plugin import submit_with

        return submit_with(self, executor, runs, **options)

    def _handing_over(self, runs: Iterable[Run] | None, order: Order, tell: Tell | None) -> HandingOver:
        chosen: Sequence[Run] = self.runs if runs is None else list(runs)
        if not chosen:
            raise NothingEligibleError("there are no runs", where=self.path)
        return HandingOver(self, chosen, order, tell or (lambda text: None))


def _states(given: States, default: frozenset[RunState]) -> frozenset[RunState]:
    if given is None:
        return default
    try:
        return frozenset(RunState(state) for state in given)
    except ValueError as error:
        raise UsageError(str(error), hint=f"the states are: {', '.join(RunState)}") from None
