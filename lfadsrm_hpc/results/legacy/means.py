"""Posterior means that the original LFADS wrote, as ours: names, units, trials in the order of the dataset.

There is one file for the training trials of a dataset and one for its validation trials. Rates are in counts
a bin there; of Gaussian data one array holds means, then variances. All is read when it is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.data.formats.foreign import check_file
from lfadsrm_hpc.errors import LfadsrmWarning, ResultsError
from lfadsrm_hpc.results.arrays.split import SPLITS, InOrder, Piece, Places
from lfadsrm_hpc.results.arrays.stored import Source, lazy
from lfadsrm_hpc.results.legacy.inputs import LegacyInputs
from lfadsrm_hpc.results.posterior_means.format import TRIAL_LABELS, VARIABLES

Array = npt.NDArray[Any]

OUTPUTS = "output_dist_params"
NAMES: Mapping[str, str] = {
    "factors": "factors",
    "gen_states": "generator_states",
    "gen_ics": "generator_ics",
    "controller_outputs": "controller_outputs",
    "post_g0_mean": "post_g0_mean",
    "post_g0_logvar": "post_g0_logvar",
    "prior_g0_mean": "prior_g0_mean",
    "prior_g0_logvar": "prior_g0_logvar",
    "costs": "costs",
    "nll_bound_vaes": "nll_bound_vae",
    "nll_bound_iwaes": "nll_bound_iwae",
}
"""Theirs: ours."""
STEPS = "train_steps"


class MeansFiles:
    """The files of posterior means of one dataset, for training and validation trials.

    Parameters
    ----------
    files : mapping
        "train" and "valid" -> path.

    Attributes
    ----------
    bins : int
    steps : int or None
        Of the training, after which they were made.

    Raises
    ------
    ResultsError
        One is missing or damaged, or they do not belong together.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.sources: dict[str, Source] = {}
        self.shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        self.steps: int | None = None
        for split in SPLITS:
            self._look_at(split, files[split])
        self._check_alike()

    @property
    def bins(self) -> int:
        return self.shapes["train"]["factors"][1]

    @property
    def where(self) -> Path:
        """The file that messages name."""
        return Path(self.sources["train"].path)

    def count(self, split: str) -> int:
        """Return how many trials a file has."""
        return self.shapes[split]["factors"][0]

    def width(self, name: str) -> int:
        """Return the size of the last axis of an array."""
        return self.shapes["train"][name][-1]

    def _look_at(self, split: str, path: Path) -> None:
        try:
            check_file(path)
            self.sources[split] = source = Source.of(path)
            with source.opened() as file:
                known = {name: file[name].shape for name in (*NAMES, OUTPUTS) if name in file}
                steps = np.ravel(file[STEPS][()]) if STEPS in file else np.zeros(0)
        except FileNotFoundError as error:
            raise ResultsError(
                "there are no posterior means here",
                where=path,
                hint="the run's own script lfads_posterior_mean_sample.sh makes them",
            ) from error
        except (OSError, KeyError, AttributeError, RuntimeError) as error:
            raise ResultsError(
                f"the posterior means are incomplete or damaged ({error})",
                where=path,
                hint="copy the file again if it is a copy, or sample again",
            ) from error
        for name in ("factors", OUTPUTS):
            if name not in known:
                raise ResultsError(f"the posterior means have no {name}", where=path)
        for name, shape in known.items():
            dims = VARIABLES[NAMES[name]].dims if name in NAMES else VARIABLES["rates"].dims
            if len(shape) != len(dims) or shape[0] != known["factors"][0]:
                raise ResultsError(
                    f"{name} of the posterior means has the shape {shape}, not ({', '.join(dims)})",
                    where=path,
                )
        self.shapes[split] = known
        if steps.size and np.isfinite(steps[0]):
            self.steps = int(steps[0])

    def _check_alike(self) -> None:
        train, valid = ({n: s[1:] for n, s in self.shapes[split].items()} for split in SPLITS)
        for name in {**train, **valid}:
            if train.get(name) != valid.get(name):
                raise ResultsError(
                    f"{name} is {train.get(name, 'absent')} a trial in the file of training trials and "
                    f"{valid.get(name, 'absent')} in that of validation trials",
                    where=self.sources["valid"].path,
                    hint="they are of two models: sample again",
                )
        bins = {shape[1] for shape in self.shapes["train"].values() if len(shape) > 2}
        if len(bins) > 1:
            raise ResultsError(f"arrays have {sorted(bins)} bins", where=self.where)


def open_lfads_means(
    files: MeansFiles,
    trials: LegacyInputs,
    *,
    dataset: str,
    attrs: Mapping[str, Any],
    output_dist: str | None = None,
    cache: bool = True,
) -> xr.Dataset:
    """Return the posterior means of one dataset, lazily.

    Parameters
    ----------
    files : MeansFiles
    trials : LegacyInputs
    dataset : str
        For messages.
    attrs : mapping
        Of the result.
    output_dist : str, optional
        What params say; without it the numbers of outputs and neurons tell whether data are Gaussian.
    cache : bool
        Keep in memory what was read whole.

    Returns
    -------
    xr.Dataset
        As `results.posterior_means.loaders.open_posterior_means`: dims trial, time, neuron, ...; `rates` in
        spikes/s, `time` in ms, `trial` in the original order, from 0. Numbers have the precision of the
        file. There are no standard deviations.

    Raises
    ------
    ResultsError
        The files are of other data, or the width of the bins is not known.

    Warns
    -----
    LfadsrmWarning
        There are fewer trials than in the data, or the model had not been trained.
    """
    inds = _inds(files, trials, dataset)
    order = np.sort(np.concatenate([inds[split] for split in SPLITS]))
    if trials.bin_ms is None:
        raise ResultsError(
            "the width of the bins is not known: rates are in counts a bin here",
            where=files.where,
            hint="tell it: LegacyCollection.open(path, bin_ms=...)",
        )
    places = Places.of(order, inds)
    width, gaussian = files.width(OUTPUTS), _is_gaussian(files, trials, output_dist)
    data = dict(_variables(files, places, trials.bin_ms, gaussian, cache))
    coords = _coordinates(files, order, inds, trials, width // 2 if gaussian else width)
    found = xr.Dataset(data, coords, dict(attrs))
    found.attrs |= {"bin_ms": trials.bin_ms, "output_dist": output_dist or ("poisson", "gaussian")[gaussian]}
    if files.steps is not None:
        found.attrs["step"] = files.steps
    if files.steps == 0:
        found.attrs["untrained"] = 1
        warnings.warn(
            f"the posterior means of dataset {dataset!r} are those of a model that was not trained: its "
            f"training ended before there was a checkpoint to sample from ({files.where})",
            LfadsrmWarning,
            stacklevel=2,
        )
    found.encoding["source"] = str(files.where)
    return found


def _inds(files: MeansFiles, trials: LegacyInputs, dataset: str) -> dict[str, Array]:
    """Return the trials of each file; LFADS may have been told to process the first ones only."""
    found, lacking = {}, 0
    for split in SPLITS:
        own, count = trials.inds[split], files.count(split)
        if count > len(own):
            raise ResultsError(
                f"there are posterior means of {count} {split} trials, and the data of the run have "
                f"{len(own)}",
                where=files.sources[split].path,
                hint="they are of other data: sample again, or put the old inputs back",
            )
        found[split] = own[:count]
        lacking += len(own) - count
    if lacking:
        warnings.warn(
            f"dataset {dataset!r} has posterior means of its first trials only: {lacking} have none "
            f"({files.where})",
            LfadsrmWarning,
            stacklevel=3,
        )
    return found


def _is_gaussian(files: MeansFiles, trials: LegacyInputs, output_dist: str | None) -> bool:
    """Return whether outputs are means, then variances: two for each neuron."""
    width, counted = files.width(OUTPUTS), None
    if trials.inputs is not None:
        counted = trials.inputs.parts["spikes"].shape[-1]
    if counted is not None and width not in (counted, 2 * counted):
        raise ResultsError(
            f"there are {width} outputs for {counted} neurons",
            where=files.where,
            hint="they are of other data: sample again, or put the old inputs back",
        )
    if counted is not None:
        return width == 2 * counted
    if output_dist == "gaussian" and width % 2:
        raise ResultsError(f"{width} outputs are not means and variances", where=files.where)
    return output_dist == "gaussian"


def _variables(files: MeansFiles, places: Places, bin_ms: float, gaussian: bool, cache: bool) -> Any:
    """Yield names and variables."""

    def variable(stored: str, name: str, scale: float = 1.0, columns: slice | None = None) -> xr.Variable:
        about = VARIABLES[name]
        pieces = [Piece(files.sources[split], stored) for split in SPLITS]
        shape = files.shapes["train"][stored][1:]
        array = InOrder(pieces, places, shape, np.dtype("f8"), scale=scale, columns=columns)
        attrs = {"units": about.units, "long_name": about.long_name}
        return xr.Variable(about.dims, lazy(array, cache=cache), attrs, fastpath=True)

    if gaussian:
        half = files.width(OUTPUTS) // 2
        yield "output_mean", variable(OUTPUTS, "output_mean", columns=slice(0, half))
        yield "output_var", variable(OUTPUTS, "output_var", columns=slice(half, 2 * half))
    else:
        yield "rates", variable(OUTPUTS, "rates", 1000.0 / bin_ms)
    for stored, name in NAMES.items():
        if stored in files.shapes["train"]:
            yield name, variable(stored, name)


def _coordinates(
    files: MeansFiles,
    order: Array,
    inds: Mapping[str, Array],
    trials: LegacyInputs,
    neurons: int,
) -> dict[str, Any]:
    bin_ms = float(trials.bin_ms or 0)
    starts = trials.time_ms if trials.time_ms is not None and len(trials.time_ms) == files.bins else None
    time = bin_ms * np.arange(files.bins) if starts is None else starts
    names = trials.neuron_names if trials.neuron_names is not None else None
    if names is None or len(names) != neurons:
        names = np.array([f"n{number:03d}" for number in range(neurons)], dtype=object)
    validated = np.isin(order, inds["valid"])
    split = np.where(validated, "valid", "train").astype(object)
    words = {"units": "ms", "long_name": f"start of the bin of {bin_ms:g} ms"}
    found: dict[str, Any] = {
        "trial": ("trial", order, {"units": "1", "long_name": "index of the trial in the dataset"}),
        "time": ("time", np.asarray(time, dtype=float), words),
        "neuron": ("neuron", np.arange(neurons), {"units": "1", "long_name": "index of the neuron"}),
        "neuron_name": ("neuron", names, {"units": "1", "long_name": "name of the neuron"}),
        "split": ("trial", split, {"units": "1", "long_name": TRIAL_LABELS["split"].long_name}),
    }
    condition = trials.condition
    if condition is not None:
        if len(condition) <= order.max(initial=0):
            raise ResultsError(
                f"there are {len(condition)} conditions for {int(order.max()) + 1} trials", where=files.where
            )
        words = {"units": "1", "long_name": TRIAL_LABELS["condition"].long_name}
        found["condition"] = ("trial", _labels(condition[order]), words)
    return found


def _labels(values: Array) -> Array:
    """Return conditions as whole numbers where they are, else as text; a trial without one has ""."""
    if values.dtype.kind in "iufb" and np.all(np.isfinite(values)) and np.all(values == np.floor(values)):
        return values.astype(np.int64)
    texts = ["" if isinstance(v, float) and np.isnan(v) else _text(v) for v in values.tolist()]
    return np.array(texts, dtype=object)


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
