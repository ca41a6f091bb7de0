"""Submission files of the Neural Latents Benchmark (Pei et al. 2021, arXiv 2109.04463), for `nlb_tools`.

One HDF5 group a dataset of the benchmark, named `mc_maze` (bins of 5 ms) or `mc_maze_20` (20 ms), with rates
in *counts per bin*, float32, (trials, bins, neurons):

============================ ================================================================
train_rates_heldin, _heldout training trials; neurons that the encoders see, and those withheld
eval_rates_heldin, _heldout  trials to evaluate
..._forward                  the last bins, where the run withholds some (forward prediction)
============================ ================================================================

Trials are in their original order, and so are neurons within held-in and held-out ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.beside import appearing
from lfadsrm_hpc.data.formats.foreign import check_file
from lfadsrm_hpc.errors import DataError, UsageError, suggest
from lfadsrm_hpc.results.scoring.trial_blocks import forward_bins

if TYPE_CHECKING:
    import xarray as xr

DATASETS = (
    "mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg", "mc_maze_large", "mc_maze_medium", "mc_maze_small",
)  # fmt: skip
SUFFIX = {5.0: "", 20.0: "_20"}  # width of a bin in ms -> what follows the name
_BLOCK = 2**21  # values in memory at a time


@dataclass(frozen=True)
class Part:
    """Trials of some posterior means.

    Attributes
    ----------
    name : {"train", "eval"}
    means : xr.Dataset
    rows : (n,) int
        Places of the trials.
    """

    name: str
    means: xr.Dataset
    rows: npt.NDArray[np.int64]


def parts_of(means: xr.Dataset, evaluation: xr.Dataset | None = None) -> list[Part]:
    """Return which trials train and which are evaluated.

    Parameters
    ----------
    means : xr.Dataset
        Posterior means of the trials of a run.
    evaluation : xr.Dataset, optional
        Posterior means of new trials, such as the benchmark's test split (`run.infer`); then all trials of
        the run are training trials. None: its validation trials are evaluated.

    Raises
    ------
    UsageError
        `evaluation` is of other neurons.
    """
    if evaluation is not None:
        if evaluation.sizes["neuron"] != means.sizes["neuron"]:
            raise UsageError(
                f"the trials to evaluate have {evaluation.sizes['neuron']} neurons, the run "
                f"{means.sizes['neuron']}",
                hint="infer trials of the same neurons",
            )
        return [
            Part("train", means, np.arange(means.sizes["trial"])),
            Part("eval", evaluation, np.arange(evaluation.sizes["trial"])),
        ]
    split = means["split"].to_numpy().astype(str)
    return [
        Part("train", means, np.flatnonzero(split == "train")),
        Part("eval", means, np.flatnonzero(split == "valid")),
    ]


def write_submission(
    path: str | os.PathLike[str],
    dataset_name: str,
    means: xr.Dataset,
    *,
    evaluation: xr.Dataset | None = None,
    bin_ms: float | None = None,
    add: bool = False,
) -> Path:
    """Write a submission file; it appears complete or not at all.

    Parameters
    ----------
    path : path
    dataset_name : str
        One of `DATASETS`.
    means : xr.Dataset
        Posterior means of a run with held-out neurons.
    evaluation : xr.Dataset, optional
        See `parts_of`.
    bin_ms : float, optional
        5 or 20; a multiple of the bins of the run, whose expected counts are added up. Those of the run
        unless given.
    add : bool
        Keep the other datasets of a file that is there. Without it such a file is replaced.

    Raises
    ------
    UsageError
        There is no such dataset or width, or the run has no held-out neurons.
    DataError
        The outputs are no rates, or bins do not add up.
    """
    given = float(means.attrs["bin_ms"])
    width = given if bin_ms is None else float(bin_ms)
    _check_name(dataset_name, width)
    factor = _factor(given, width)
    if "rates" not in means:
        raise DataError(
            f"{means.attrs.get('output_dist')} outputs are no rates, and the benchmark needs rates",
            hint='use a run with output_dist="poisson" or "negative_binomial"',
        )
    held_out, windows = _held_out(means), _windows(means, factor)
    target = Path(path).absolute()
    group_name = dataset_name + SUFFIX[width]
    with appearing(target) as beside, h5py.File(beside, "x", locking=False) as file:
        if add and target.exists():
            _copy_others(target, file, group_name)
        group = file.create_group(group_name)
        for part in parts_of(means, evaluation):
            _write_part(group, part, held_out, windows, factor, given)
    return target


def _write_part(
    group: h5py.Group,
    part: Part,
    held_out: npt.NDArray[np.bool_],
    windows: dict[str, slice],
    factor: int,
    bin_ms: float,
) -> None:
    if not len(part.rows):
        raise DataError(f"there is no trial for {part.name!r}", hint="evaluation= names trials to evaluate")
    targets: dict[tuple[str, str], Any] = {}
    for suffix, bins in windows.items():
        length = (bins.stop - bins.start) // factor
        for kind, neurons in (("heldin", ~held_out), ("heldout", held_out)):
            shape = (len(part.rows), length, int(neurons.sum()))
            name = f"{part.name}_rates_{kind}{suffix}"
            targets[suffix, kind] = group.create_dataset(
                name, shape, "f4", compression="gzip", compression_opts=1, shuffle=True
            )
    for at, rates in _blocks(part, bin_ms):
        for suffix, bins in windows.items():
            pieces = rates[:, bins]
            summed = pieces.reshape(len(rates), -1, factor, rates.shape[2]).sum(axis=2)
            targets[suffix, "heldin"][at] = summed[..., ~held_out]
            targets[suffix, "heldout"][at] = summed[..., held_out]


def _blocks(part: Part, bin_ms: float) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Yield places in the target, and expected counts per bin, a few trials at a time."""
    _, bins, neurons = part.means["rates"].shape
    step = max(1, _BLOCK // (bins * neurons))
    for start in range(0, len(part.rows), step):
        rows = part.rows[start : start + step]
        rates = part.means["rates"].isel(trial=rows).to_numpy().astype(np.float64)
        yield slice(start, start + len(rows)), rates * (bin_ms / 1000.0)


def _check_name(name: str, bin_ms: float) -> None:
    if name not in DATASETS:
        raise UsageError(
            f"the benchmark has no dataset {name!r}",
            hint=suggest(name, DATASETS) or f"there are: {', '.join(DATASETS)}",
        )
    if bin_ms not in SUFFIX:
        raise UsageError(
            f"the benchmark evaluates bins of 5 and 20 ms, not of {bin_ms:g} ms",
            hint="bin_ms=20 (or 5) adds up bins of which that is a multiple",
        )


def _factor(given: float, wanted: float) -> int:
    factor = round(wanted / given)
    if factor < 1 or abs(factor * given - wanted) > 1e-6 * wanted:
        raise DataError(
            f"bins of {given:g} ms do not add up to {wanted:g} ms", hint="train with spike_bin_ms = 5"
        )
    return factor


def _held_out(means: xr.Dataset) -> npt.NDArray[np.bool_]:
    mask = np.zeros(means.sizes["neuron"], dtype=bool)
    mask[json.loads(str(means.attrs.get("held_out_neurons", "[]")))] = True
    if not mask.any():
        raise UsageError(
            "the run has no held-out neurons, and the benchmark is about predicting them",
            hint="train with held_out_neurons = [indices of the benchmark's held-out neurons]",
        )
    return mask


def _windows(means: xr.Dataset, factor: int) -> dict[str, slice]:
    """Return the bins that the encoders saw, and those that they did not, by the end of the names."""
    bins, forward = means.sizes["time"], forward_bins(means)
    seen = bins - forward
    for count in (seen, forward):
        if count % factor:
            raise DataError(
                f"{count} bins cannot be added up by {factor}",
                hint="choose bins that the benchmark's are multiples of, and trials of whole ones",
            )
    return {"": slice(0, seen), **({"_forward": slice(seen, bins)} if forward else {})}


def _copy_others(source: Path, file: h5py.File, group_name: str) -> None:
    try:
        check_file(source)
        with h5py.File(source, "r", locking=False) as before:
            for name in before:
                if name != group_name:
                    before.copy(name, file)
    except OSError as error:
        raise DataError(f"the file to add to cannot be read ({error})", where=source) from error
