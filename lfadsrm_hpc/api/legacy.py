"""Collections of the Matlab run manager, as users hold them: loaded, compared and drawn."""

from __future__ import annotations

from lfadsrm_hpc.api.drawing import CollectionDrawing, RunDrawing
from lfadsrm_hpc.results import legacy, legacy_collection


class LegacyRun(RunDrawing, legacy.LegacyRun):
    """A run of the Matlab run manager: see `lfadsrm_hpc.results.legacy.LegacyRun`."""


class LegacyCollection(CollectionDrawing, legacy_collection.LegacyCollection[LegacyRun]):
    """A run collection of the Matlab run manager, to read: its runs, tables, figures; see `open`."""

    run_class = LegacyRun
