"""A run that the Matlab run manager made: what it is, how far it is, and what came out. Nothing is written.

Nothing is believed because a log says it: a run is complete if its posterior means are there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lfadsrm_hpc.collection.run import one_dataset
from lfadsrm_hpc.collection.words import listing
from lfadsrm_hpc.errors import NotFoundError, ResultsError, suggest
from lfadsrm_hpc.legacy_layout import KINDS
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.results.arrays.split import SPLITS
from lfadsrm_hpc.results.attaching import attach_from
from lfadsrm_hpc.results.averages import condition_averages
from lfadsrm_hpc.results.legacy.described import DescribedRun
from lfadsrm_hpc.results.legacy.fitlog import read_lfads_log
from lfadsrm_hpc.results.legacy.status import LegacyStatus
from lfadsrm_hpc.results.posterior_means.of_runs import Chunks, Names, Wanted, open_one

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from lfadsrm_hpc.results.legacy.inputs import LegacyInputs


class LegacyRun(DescribedRun):
    """A run of the Matlab run manager.

    Attributes
    ----------
    collection : LegacyCollection
    layout : LegacyRunLayout
    spec : RunSpec
        Its name and its datasets.
    param_hash : str
        As Matlab made it; "" in collections of before it made folders for params.
    id : str
        `param_<HASH>/<run spec>`, or the run spec alone.
    """

    # ---------------------------------------------------------------- state

    def status(self) -> LegacyStatus:
        """Return how far the run is, from the files that are there."""
        done = self.layout.done.is_file()
        if not done and not self.layout.output.is_one and not self.layout.input_datasets():
            return LegacyStatus(self.id, RunState.PREPARED)
        try:
            lacking = self._lacking()
        except ResultsError as error:
            return LegacyStatus(self.id, RunState.UNKNOWN, error.what)
        if not lacking:
            note = "" if done else "without lfads.done: it was not run by the queue, or is sampling again"
            return LegacyStatus(self.id, RunState.COMPLETED, note)
        named = listing([f"{split} trials of {dataset}" for dataset, split in lacking], 3)
        if done:
            text = f"lfads.done is there, but no posterior means of the {named}"
            return LegacyStatus(self.id, RunState.FAILED, text)
        if self.layout.output.fitlog.is_file() or self.layout.output.is_one:
            return LegacyStatus(self.id, RunState.UNKNOWN, f"trained or training; no means of the {named}")
        return LegacyStatus(self.id, RunState.PREPARED)

    @property
    def is_complete(self) -> bool:
        """Whether its state is COMPLETED: its posterior means are all there."""
        return self.status().state is RunState.COMPLETED

    def _lacking(self) -> list[tuple[str, str]]:
        """Return the datasets and splits without posterior means, of the kind that lacks fewest."""
        wanted = [(dataset, split) for dataset in self.dataset_names for split in SPLITS]
        there = {kind: set(files) for kind, files in self._means_by_kind().items()}
        lacks = [[one for one in wanted if one not in files] for files in there.values()]
        return min(lacks, key=len, default=wanted)

    def _means_by_kind(self) -> dict[str, dict[tuple[str, str], Path]]:
        """Return the files by kind, then dataset and split; empty files do not count."""
        found: dict[str, dict[tuple[str, str], Path]] = {}
        for one in self.layout.output.posterior_files():
            if one.path.is_file() and one.path.stat().st_size:
                found.setdefault(one.kind, {})[one.dataset, one.split] = one.path
        return found

    # ---------------------------------------------------------------- results

    def posterior_kinds(self, dataset: str | None = None) -> list[str]:
        """Return the kinds of posterior means that a dataset has, the one that loads by default first.

        Parameters
        ----------
        dataset : str, optional
            It may be left out where there is one.
        """
        name = self._dataset(dataset)
        files = self._means_by_kind()
        there = [kind for kind in KINDS if all((name, split) in files.get(kind, {}) for split in SPLITS)]
        preferred = self.params.posterior_mean_kind
        return sorted(there, key=lambda kind: kind != preferred)

    def load_posterior_means(
        self,
        dataset: str | None = None,
        *,
        kind: str | None = None,
        attach: Names = (),
        split: Literal["train", "valid"] | None = None,
        chunks: Chunks = None,
    ) -> xr.Dataset:
        """Open the posterior means of a dataset, lazily.

        Parameters
        ----------
        dataset : str, optional
            Which; needed where the run has several (a stitched run).
        kind : str, optional
            "posterior_sample_and_average" or "posterior_push_mean"; the one that the params ask for, if it is
            there, unless given.
        attach : str or iterable of str
            "spikes" (counts a bin), "truth", "external_input", "condition", or "all".
        split, chunks
            See `lfadsrm_hpc.api.run_loading.RunLoading.load_posterior_means`.

        Returns
        -------
        xr.Dataset
            As of runs of this package: `rates` (trial, time, neuron) in spikes/s, `time` in ms, `trial` in
            the original order, from 0; training and validation trials together. No standard deviations.

        Raises
        ------
        NotFoundError
            No such dataset, or none was named and there are several. Or something to attach is not there.
        ResultsError
            There are no posterior means, or files are damaged or do not belong together.
        """
        return open_one(self.loadable(kind), self._dataset(dataset), Wanted.of(None, attach, split, chunks))

    def condition_averages(
        self,
        dataset: str | None = None,
        variables: str | Sequence[str] | None = None,
        *,
        by: str = "condition",
        split: Literal["train", "valid", "each"] | None = None,
        attach: Names = (),
    ) -> xr.Dataset:
        """Return mean, standard error and number of trials of each condition.

        See `lfadsrm_hpc.results.averages.condition_averages`.

        Parameters
        ----------
        dataset : str, optional
            It may be left out where there is one.
        variables : str or sequence of str, optional
            Those that are over time unless given.
        by : str
            What tells conditions apart.
        split : {"train", "valid", "each"}, optional
            All trials unless given.
        attach : str or sequence of str
            What of the inputs is averaged too.
        """
        means = self.load_posterior_means(dataset, attach=attach)
        return condition_averages(means, variables, by=by, split=split)

    def load_fit_log(self) -> pd.DataFrame:
        """Return costs and weights by epoch; see `lfadsrm_hpc.results.legacy.fitlog.read_lfads_log`.

        Raises
        ------
        ResultsError
            There is none, or it is damaged.
        """
        return read_lfads_log(self.layout.output.fitlog)

    def load_model_params(self, dataset: str | None = None) -> xr.Dataset:
        """Return the parameters of the trained model by name.

        See `lfadsrm_hpc.api.run_loading.RunLoading.load_model_params`.

        Parameters
        ----------
        dataset : str, optional
            Only read-in and read-out of this dataset, without its name.

        Raises
        ------
        ResultsError
            There are none, or the file is damaged.
        NotFoundError
            The run has no such dataset.
        """
        from lfadsrm_hpc.results.legacy.model_params import open_lfads_params
        from lfadsrm_hpc.results.model_params import of_dataset

        path = self.layout.output.model_params
        params = open_lfads_params(path, self.hyperparameters(), self.dataset_names)
        params.attrs["run_id"] = self.id
        return params if dataset is None else of_dataset(params, self._dataset(dataset))

    def posterior_files(self, kind: str | None = None) -> dict[str, dict[str, Path]]:
        """Return the files of posterior means of each dataset, by split.

        Parameters
        ----------
        kind : str, optional
            One of `posterior_kinds`, its first unless given.
        """
        return {name: self._files(name, kind) for name in self.dataset_names}

    # ---------------------------------------------------------------- inputs

    def input_files(self) -> dict[str, Path]:
        """Return the input file of each dataset, wherever it is; where it is not, where it should be."""
        return {name: self._inputs.data_file(name) for name in self.dataset_names}

    def trials(self, dataset: str, n_bins: int) -> LegacyInputs:
        """Return what is known of the trials of a dataset whose posterior means have so many bins.

        Parameters
        ----------
        dataset : str
        n_bins : int
            Bins of a trial.
        """
        return self._inputs.trials(dataset, n_bins)

    # ---------------------------------------------------------------- for loaders

    def loadable(self, kind: str | None = None) -> Kept:
        """Return the run as `lfadsrm_hpc.results.posterior_means.of_runs` takes it.

        Parameters
        ----------
        kind : str, optional
            One of `posterior_kinds`, its first unless given.
        """
        return Kept(self, kind)

    def _files(self, dataset: str, kind: str | None) -> dict[str, Path]:
        there = self.posterior_kinds(dataset)
        if kind is not None and kind not in KINDS:
            raise NotFoundError(
                f"there is no kind of posterior means {kind!r}", hint=suggest(kind, KINDS) or listing(KINDS)
            )
        chosen = kind or (there[0] if there else None)
        if chosen is None or chosen not in there:
            what = f"{chosen} " if kind else ""
            raise ResultsError(
                f"run {self.id} has no {what}posterior means of dataset {dataset!r}, for training and "
                f"validation trials: {self.status().detail or 'it has not begun'}",
                where=self.layout.output.path,
                hint=f"there are: {listing(there)}"
                if there
                else "the run's own script lfads_posterior_mean_sample.sh makes them",
            )
        files = self._means_by_kind()[chosen]
        return {split: files[dataset, split] for split in SPLITS}

    def open_means(self, dataset: str, kind: str | None, *, cache: bool) -> xr.Dataset:
        """Open the posterior means of a dataset; see `load_posterior_means`.

        Parameters
        ----------
        dataset : str
        kind : str or None
            One of `posterior_kinds`; None: its first.
        cache : bool
            Keep what was read.
        """
        from lfadsrm_hpc.results.legacy.means import MeansFiles, open_lfads_means

        paths = self._files(dataset, kind)
        files = MeansFiles(paths)
        attrs = {
            "dataset": dataset,
            "run_id": self.id,
            "kind": next(k for k, own in self._means_by_kind().items() if paths["train"] in own.values()),
            "params": json.dumps({"values": self.values}, default=str),
            "origin": "Matlab run manager",
        }
        trials = self.trials(dataset, files.bins)
        told = self.values.get("output_dist")
        return open_lfads_means(
            files, trials, dataset=dataset, attrs=attrs, output_dist=told and str(told), cache=cache
        )

    def _dataset(self, name: str | None) -> str:
        return one_dataset(self.id, self.dataset_names, name)

    def __repr__(self) -> str:
        return f'{type(self).__name__} "{self.id}" {self.params.diff_text()}'.rstrip()


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
