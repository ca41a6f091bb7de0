"""Collections of the Matlab run manager, as users hold them: loaded, compared, drawn and exported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc import markup
from lfadsrm_hpc.api.collection_drawing import CollectionDrawing
from lfadsrm_hpc.api.exporting import CollectionExporting, RunExporting
from lfadsrm_hpc.api.run_drawing import RunDrawing
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.results.legacy import collection as legacy_collection
from lfadsrm_hpc.results.legacy import run as legacy

if TYPE_CHECKING:
    from lfadsrm_hpc.results.one_file import Exported


class LegacyRun(RunDrawing, RunExporting, legacy.LegacyRun):
    """A run of the Matlab run manager: see `lfadsrm_hpc.results.legacy.run.LegacyRun`."""


class LegacyCollection(CollectionDrawing, CollectionExporting, legacy_collection.LegacyCollection[LegacyRun]):
    """A run collection of the Matlab run manager, to read: its runs, tables, figures; see `open`."""

    run_class = LegacyRun

    def _repr_html_(self) -> str:
        states = self.status()
        done = sum(one.state is RunState.COMPLETED for one in states)
        rows = [(one.run_id, one.state.value.lower(), one.detail) for one in states[: markup.MOST_ROWS]]
        about = {
            "path": self.path,
            "run specs": len(self.run_specs),
            "params": len(self.param_hashes),
            "runs": f"{self.n_runs}, {done} complete",
        }
        return markup.block(
            markup.title(type(self).__name__, self.name),
            markup.pairs(about),
            markup.table(("run", "state", ""), rows, count=len(states)),
        )

    def complete_runs(self, runs: Iterable[Any]) -> list[Any]:
        """Return those of some runs that are complete.

        Parameters
        ----------
        runs : iterable of LegacyRun
        """
        return [run for run in runs if run.is_complete]

    def _exported(self, runs: Sequence[Any]) -> tuple[list[Exported], list[str]]:
        from lfadsrm_hpc.results.one_file import Exported

        done = self.complete_runs(runs)
        found = [
            Exported(
                run.loadable(),
                run.load_fit_log,
                run.load_model_params,
                {"spec": run.name, "params": run.values, "hyperparameters": run.hyperparameters()},
            )
            for run in done
        ]
        return found, [run.id for run in runs if run not in done]
