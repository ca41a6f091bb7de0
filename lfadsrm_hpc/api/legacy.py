"""Collections of the Matlab run manager, as users hold them: loaded, compared, drawn and exported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.api.drawing import CollectionDrawing, RunDrawing
from lfadsrm_hpc.api.exporting import CollectionExporting, RunExporting
from lfadsrm_hpc.results import legacy, legacy_collection

if TYPE_CHECKING:
    from lfadsrm_hpc.results.one_file import Exported


class LegacyRun(RunDrawing, RunExporting, legacy.LegacyRun):
    """A run of the Matlab run manager: see `lfadsrm_hpc.results.legacy.LegacyRun`."""


class LegacyCollection(CollectionDrawing, CollectionExporting, legacy_collection.LegacyCollection[LegacyRun]):
    """A run collection of the Matlab run manager, to read: its runs, tables, figures; see `open`."""

    run_class = LegacyRun

    def complete_runs(self, runs: Iterable[Any]) -> list[Any]:
        """Return those of some runs that are complete."""
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
