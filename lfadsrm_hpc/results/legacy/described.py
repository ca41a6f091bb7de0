"""What a run of the Matlab run manager is: its names, datasets and params, as its files tell them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.legacy_layout import LegacyCollectionLayout, LegacyRunLayout
from lfadsrm_hpc.results.legacy.inputs import RunInputs
from lfadsrm_hpc.results.legacy.params import (
    LegacyParams,
    Summary,
    read_flags,
    read_hyperparameters,
    translate,
)

NO_HASH = ""


class DescribedRun:
    """A run of the Matlab run manager, as far as params and folders tell of it; see `LegacyRun`."""

    def __init__(
        self,
        collection: Any,
        layout: LegacyRunLayout,
        root: LegacyCollectionLayout,
        summary: Summary,
        bin_ms: float | None,
    ) -> None:
        self.collection, self.layout = collection, layout
        self._summary, self._bin_ms = summary, bin_ms
        parent = layout.path.parent.name
        has_hash = layout.path.parent != root.path
        self.param_hash = parent.removeprefix("param_") if has_hash else NO_HASH
        self.id = f"{parent}/{layout.path.name}" if has_hash else layout.path.name
        told = summary.params.get(self.param_hash, {}).get("spikeBinMs")
        self._inputs = RunInputs(
            layout, root, summary.data.get(self.param_hash), told if bin_ms is None else bin_ms
        )

    @property
    def name(self) -> str:
        """The name of the run spec."""
        return self.layout.path.name

    @property
    def path(self) -> Path:
        """The folder of the run."""
        return self.layout.path

    @cached_property
    def dataset_names(self) -> tuple[str, ...]:
        """The datasets: as `summary.txt` lists them, else those that the run is linked to or has results of.

        Raises
        ------
        ResultsError
            Nothing names any.
        """
        found: Sequence[str] = self.layout.input_datasets()
        found = found or sorted({one.dataset for one in self.layout.output.posterior_files()})
        listed = list(self._summary.specs.get(self.name, ()))
        if listed and (not found or set(found) == set(listed)):
            found = listed
        if not found:
            raise ResultsError(
                "nothing tells which datasets this run has",
                where=self.path,
                hint="its folders lfadsInput and lfadsOutput, and summary.txt of the collection, name them",
            )
        return tuple(found)

    @property
    def n_datasets(self) -> int:
        """How many datasets it fits together."""
        return len(self.dataset_names)

    @cached_property
    def spec(self) -> RunSpec:
        """What was fitted together, as a run spec without data."""
        return RunSpec(self.name, None, list(self.dataset_names))

    # ---------------------------------------------------------------- params

    @cached_property
    def known_params(self) -> LegacyParams:
        """The params, as far as files tell them; what has no equivalent here; and what is odd about them."""
        told = self._summary.params.get(self.param_hash, {})
        used, faults = self._readable_hyperparameters()
        if not used and not told:
            used = read_flags(self.layout.train_script)
        try:
            count = self.n_datasets
        except ResultsError:  # nothing names them: the run has not begun
            count = 1
        found = translate(told, used, n_datasets=count, bin_ms=self._bin_ms)
        return replace(found, notes=(*faults, *found.notes))

    @property
    def params(self) -> RunParams:
        """The params under our names; all are defaults where `known_params.params` is None."""
        return self.known_params.params or RunParams()

    @cached_property
    def values(self) -> dict[str, Any]:
        """The values of all params that are known, by our names, and by Matlab's where we have none."""
        known = self.known_params
        return {} if known.params is None else {**known.params.values(), **known.untranslated}

    def hyperparameters(self) -> dict[str, Any]:
        """Return what LFADS trained with, by its own names; empty where it left no file that tells.

        Raises
        ------
        ResultsError
            The file is damaged.
        """
        files = self.layout.output.hyperparameter_files()
        return read_hyperparameters(next(iter(files.values()))) if files else {}

    def _readable_hyperparameters(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return them, or what is wrong with their file: params can come from elsewhere, too."""
        try:
            return self.hyperparameters(), ()
        except ResultsError as error:
            return {}, (f"{error.what}: {error.where}",)
