"""How good the runs of a collection are: metrics and verdicts of many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lfadsrm_hpc.api.run import Run
from lfadsrm_hpc.api.tracking import TrackedCollection
from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.states import RunState

if TYPE_CHECKING:
    from lfadsrm_hpc.results.runs.metrics_file import RunMetrics


class CollectionScoring(TrackedCollection):
    """What a run collection says of how good its runs are."""

    def compute_metrics(
        self,
        runs: Iterable[Run] | None = None,
        *,
        recompute: bool = False,
        on_run: Callable[[Run, RunMetrics], None] = lambda run, metrics: None,
    ) -> dict[str, RunMetrics]:
        """Return the scores of runs and the verdicts on them, and make those that are missing.

        Parameters
        ----------
        runs : iterable of Run, optional
            Which; all that are complete unless given.
        recompute : bool
            Make all of them anew.
        on_run : callable
            Called after each run.

        Returns
        -------
        dict of str to RunMetrics
            By run id; see `Run.metrics`.

        Raises
        ------
        ResultsError
            No run is complete, or a named one is not.
        """
        chosen = self._complete_runs() if runs is None else list(runs)
        found = {}
        for run in chosen:
            found[run.id] = run.metrics(recompute=recompute)
            on_run(run, found[run.id])
        return found

    def _complete_runs(self) -> list[Run]:
        states = store.collection_states(self.layout, [run.layout for run in self.runs])
        chosen = [run for run in self.runs if states[run.id].state is RunState.COMPLETED]
        if not chosen:
            raise ResultsError("no run is complete", where=self.path, hint="train them: `lfadsrm run`")
        return chosen
