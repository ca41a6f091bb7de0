"""What the runs of a collection are at: their own files, and schedulers where those are needed."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from lfadsrm_hpc.api.displaying import RunStates
from lfadsrm_hpc.api.run import Run
from lfadsrm_hpc.collection import collection as collections
from lfadsrm_hpc.errors import LfadsrmWarning
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.schedulers.clearing import Cleared, clear_up
from lfadsrm_hpc.schedulers.tracking import Tracked, track


class TrackedCollection(collections.RunCollection[Run]):
    """A run collection that tells how its runs go."""

    run_class = Run

    def status(
        self, runs: Iterable[Run] | None = None, *, rescan: bool = False, ask: bool = True
    ) -> list[RunStatus]:
        """Return the states of runs (all unless named), in their order.

        Runs that were handed to a cluster and have not said how they ended are asked for at its scheduler,
        by one query for all of them. An end that only the scheduler knows of is put on record.

        Parameters
        ----------
        runs : iterable of Run, optional
        rescan : bool
            Read every fact again instead of believing the outbox.
        ask : bool
            Ask schedulers, where a run needs it. Do so at most once a minute.

        Warns
        -----
        LfadsrmWarning
            A scheduler gave no usable answer, or said what is not known.
        """
        chosen = self.runs if runs is None else list(runs)
        if not ask:
            states = store.collection_states(self.layout, [run.layout for run in chosen], rescan=rescan)
            return RunStates(states[run.id] for run in chosen)
        tracked = self.track(chosen, rescan=rescan)
        for warning in tracked.warnings:
            warnings.warn(warning, LfadsrmWarning, stacklevel=2)
        return RunStates(tracked.statuses[run.id] for run in chosen)

    def track(
        self, runs: Iterable[Run] | None = None, *, rescan: bool = False, record: bool = True
    ) -> Tracked:
        """Return what `status` does, with warnings, and which jobs the runs are in.

        Parameters
        ----------
        runs : iterable of Run, optional
        rescan : bool
            As in `status`.
        record : bool
            Put ends that only the scheduler knows of on record.
        """
        chosen = self.runs if runs is None else list(runs)
        states = store.collection_states(self.layout, [run.layout for run in chosen], rescan=rescan)
        return track(self.layout, states, record=record)

    def reconcile(self) -> Cleared:
        """Clear up what is uncertain or lost, from the schedulers and the files.

        Jobs whose answers were lost are looked up by name and adopted, or put on record as not taken;
        attempts that ended without a word are closed.
        """
        states = store.collection_states(self.layout, [run.layout for run in self.runs])
        return clear_up(self.layout, states)
