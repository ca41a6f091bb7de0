"""A run of the Matlab run manager as the loaders of many runs take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.results.attaching import attach_from

if TYPE_CHECKING:
    import xarray as xr

    from lfadsrm_hpc.results.legacy.run import LegacyRun


@dataclass(frozen=True)
class Kept:
    """A run of the Matlab run manager as loaders take it (`of_runs.Loadable`)."""

    run: LegacyRun
    kind: str | None = None

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def spec_name(self) -> str:
        return self.run.name

    @property
    def dataset_names(self) -> tuple[str, ...]:
        return self.run.dataset_names

    @property
    def values(self) -> Mapping[str, Any]:
        return self.run.values

    @property
    def shaping(self) -> frozenset[str]:
        params = self.run.params
        return frozenset(name for name in self.run.values if params.affects(name) == "data")

    def open(self, dataset: str, *, cache: bool) -> xr.Dataset:
        return self.run.open_means(dataset, self.kind, cache=cache)

    def attach(self, means: xr.Dataset, dataset: str, names: Sequence[str], *, strict: bool) -> xr.Dataset:
        trials = self.run.trials(dataset, means.sizes["time"])
        inputs = trials.attachable(dataset, self.run.layout.input_link(dataset))
        return attach_from(means, inputs, names, strict=strict)
