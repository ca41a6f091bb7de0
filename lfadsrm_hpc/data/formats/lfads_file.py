"""Input files of the original LFADS and of the Matlab run manager (`lfads_<dataset>.h5`).

The run manager puts `inputInfo_<dataset>.mat` beside each: conditions, times and the counts before they were
binned. Where it is there, it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.data.arrays import from_arrays
from lfadsrm_hpc.data.formats import matlab, option_values
from lfadsrm_hpc.data.formats.fields import bin_width, conditions_of, described, from_fields, number, sizes_of
from lfadsrm_hpc.data.formats.plain_hdf5 import Hdf5Source
from lfadsrm_hpc.data.formats.registry import Reader
from lfadsrm_hpc.errors import DataError, NotFoundError

Array = npt.NDArray[Any]


def read(
    path: Path, bin_ms: float | None, *, input_info: str | None = None, raw_counts: bool | None = None
) -> xr.Dataset:
    """Read an input file.

    Parameters
    ----------
    path : Path
    bin_ms : float or None
        Of the binned counts; otherwise the file says it (`bin_ms`, or `conversion_factor` in seconds), or the
        file beside it.
    input_info : str, optional
        The file of the run manager, where it is not beside this one: relative to the folder of this one.
    raw_counts : bool
        Take the counts as they were before they were binned, from that file.

    Returns
    -------
    xr.Dataset
        With `given_split`: which part of the file each trial is from. `alignment_matrix` (neuron, factor) and
        `alignment_bias` (neuron) where the file has them.

    Raises
    ------
    DataError, NotFoundError
        The files are damaged, or do not belong together.
    """
    raw = raw_counts is not None and option_values.flag("raw_counts", raw_counts)
    with h5py.File(path, "r") as file:
        fields = Hdf5Source(file).known()
        alignment = {
            key: file[key][()] for key in ("alignment_matrix_cxf", "alignment_bias_c") if key in file
        }
    beside = _info_file(path, input_info)
    width = bin_ms if bin_ms is not None else bin_width(fields)
    if beside is None:
        if raw:
            raise NotFoundError(
                "there is no inputInfo file of the run manager, which has the counts before binning",
                where=path,
                hint="name it: input_info='...'",
            )
        return _aligned(from_fields(fields, name=path.stem, bin_ms=width), alignment)
    about = InputInfo(beside, fields, bin_ms)
    ds = from_fields(about.in_spikes_per_s(fields), name=path.stem, bin_ms=about.bin_ms)
    ds = about.raw_dataset(ds) if raw else about.completed(ds)
    return _aligned(ds, alignment)


def info(path: Path, *, bin_ms: float | None = None, input_info: str | None = None) -> dict[str, Any] | None:
    """Return what describes a session without reading its spikes, or None."""
    if _info_file(path, input_info) is not None:
        return None
    with h5py.File(path, "r") as file:
        small, shapes = Hdf5Source(file).small_and_shapes(most_dims=1)
    sizes, width = sizes_of(shapes, small), bin_ms if bin_ms is not None else bin_width(small)
    if sizes is None or width is None:
        return None
    return {"sizes": sizes, "condition": conditions_of(small), "attrs": described(small), "bin_ms": width}


READER = Reader(read, info)


def _aligned(ds: xr.Dataset, alignment: dict[str, Array]) -> xr.Dataset:
    """Keep the matrices of the file: they do not enter a fit, which has its own."""
    matrix, bias = alignment.get("alignment_matrix_cxf"), alignment.get("alignment_bias_c")
    if matrix is not None and np.ndim(matrix) == 2 and len(matrix) == ds.sizes["neuron"]:
        ds = ds.assign(alignment_matrix=(("neuron", "factor"), matrix))
    if bias is not None and np.size(bias) == ds.sizes["neuron"]:
        ds = ds.assign(alignment_bias=("neuron", np.ravel(bias)))
    return ds


def _info_file(path: Path, given: str | None) -> Path | None:
    if given is not None:
        named = path.parent / Path(option_values.text("input_info", given)).expanduser()
        if not named.is_file():
            raise NotFoundError("there is no such inputInfo file", where=named)
        return named
    name = "inputInfo_" + path.stem.removeprefix("lfads_") + ".mat"
    for folder in (path.parent, path.resolve().parent):  # the run manager links the .h5 into each run
        if (folder / name).is_file():
            return folder / name
    return None


class InputInfo:
    """The run manager's file beside an input file.

    Parameters
    ----------
    path : Path
        `inputInfo_<dataset>.mat`.
    fields : mapping
        `train_data` and `valid_data` of the input file, or what has their shapes; `train_inds` and so on.
    width : float or None
        Of the binned counts in ms, where it is known.

    Attributes
    ----------
    bin_ms : float
        Of the binned counts.

    Raises
    ------
    DataError
        They do not belong together, or the width of the bins is not known.
    """

    def __init__(self, path: Path, fields: Mapping[str, Any], width: float | None) -> None:
        self._path = path
        with matlab.opened(path) as file:
            self._names = set(file.names)
            wanted = ("trainInds", "validInds", "conditionId", "seq_timeVector", "seq_binSizeMs")
            self._found = {name: file.get([name]) for name in wanted if name in self._names}
        self._rows = self._trials(fields)
        n_bins = np.shape(fields["train_data"])[1]
        time = np.asarray(self._found.get("seq_timeVector", []), dtype=float).ravel()
        step = number(self._found.get("seq_binSizeMs"))
        if step is None and time.size > 1:
            step = float(np.median(np.diff(time)))
        self._time, self.raw_bin_ms = time, step
        self._per_bin = self._bins_per_bin(n_bins, width, fields)
        found = width if width is not None else self._per_bin * (step or 0)
        if not found > 0:
            raise DataError("the width of the bins is not known", where=path, hint="give bin_ms")
        self.bin_ms = found

    def _trials(self, fields: Mapping[str, Any]) -> npt.NDArray[np.int64]:
        """Return, for the trials of the input file in order, their rows in this file."""
        mine, theirs = (
            np.concatenate([np.ravel(there[f"{part}{suffix}"]).astype(float) for part in ("train", "valid")])
            if all(f"{part}{suffix}" in there for part in ("train", "valid"))
            else np.array([])
            for there, suffix in ((self._found, "Inds"), (fields, "_inds"))
        )
        mine, theirs = np.sort(mine), np.sort(theirs if theirs.size else mine)
        n_trials = len(fields["train_data"]) + len(fields["valid_data"])
        if mine.size != n_trials or not np.array_equal(mine, theirs):
            raise DataError(
                f"this file is about {mine.size} trials, not the {n_trials} of the input file beside it",
                where=self._path,
                hint="move it away if it does not belong there",
            )
        return mine.astype(np.int64) - 1

    def _bins_per_bin(self, n_bins: int, width: float | None, fields: Mapping[str, Any]) -> int:
        """Return how many bins before binning went into one; where times leave a choice, counts decide."""
        if width is not None and self.raw_bin_ms:
            return max(1, round(width / self.raw_bin_ms))
        n_raw = self._time.size
        fitting = [k for k in range(1, n_raw + 1) if n_raw // k == n_bins]
        counts = self._before_binning("counts") if len(fitting) > 1 else None
        if counts is not None:
            row = int(np.ravel(self._found["trainInds"])[0]) - 1
            fitting = [k for k in fitting if _sums_to(counts[row], k, fields["train_data"][0])] or fitting
        if not fitting:
            raise DataError(
                f"{n_raw} times do not fit {n_bins} bins",
                where=self._path,
                hint="give bin_ms of the input file",
            )
        return fitting[0]

    def _before_binning(self, name: str) -> Array | None:
        """Return (trial, time, neuron or input) of what is stored the other way round, and may be large."""
        if name not in self._names:
            return None
        with matlab.opened(self._path) as file:
            values = file.get([name])
        if not isinstance(values, np.ndarray) or values.ndim not in (2, 3):
            return None
        turned: Array = np.atleast_3d(values).transpose(2, 1, 0)
        return turned

    def in_spikes_per_s(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return fields whose true rates are in spikes/s.

        The run manager adds up the rates of the bins that make one, and its `conversion_factor` is one over
        their number.
        """
        factor = self.truth_scale(fields)
        if factor is None:
            return fields
        rates = {key: fields[key] * factor for key in ("train_truth", "valid_truth") if key in fields}
        return {key: value for key, value in fields.items() if key != "conversion_factor"} | rates

    def inds(self, split: str) -> npt.NDArray[np.int64]:
        """Return which trials of the dataset, from 0, are "train" or "valid", in the file's order."""
        return np.ravel(self._found[f"{split}Inds"]).astype(np.int64) - 1

    def times(self, n_bins: int) -> Array | None:
        """Return the start of each bin in ms; None where there are none that fit."""
        starts = self._time[:: self._per_bin][:n_bins]
        return starts if starts.size == n_bins else None

    @property
    def condition(self) -> Array | None:
        """Of each trial of the dataset: numbers, or texts; None where there are none."""
        found = self._found.get("conditionId")
        return None if found is None or not np.size(found) else _plain(np.ravel(found))

    def truth_scale(self, fields: Mapping[str, Any]) -> float | None:
        """Return what true rates are multiplied with to be in spikes/s; None where the file cannot tell."""
        factor = number(fields.get("conversion_factor"))
        return None if factor is None or abs(factor * self._per_bin - 1) > 1e-3 else factor

    def completed(self, ds: xr.Dataset) -> xr.Dataset:
        """Add times and conditions to a dataset, where it has none of its own."""
        starts = self.times(ds.sizes["time"])
        if starts is not None and float(ds["time"][0]) == 0.0:
            ds = ds.assign_coords(time=starts)
        return self._with_condition(ds)

    def _with_condition(self, ds: xr.Dataset) -> xr.Dataset:
        condition = self.condition
        if "condition" in ds.variables or condition is None:
            return ds
        if len(condition) <= self._rows.max():
            raise DataError(f"there are {len(condition)} conditions, too few", where=self._path)
        out: xr.Dataset = ds.assign_coords(condition=("trial", condition[self._rows]))
        return out

    def raw_dataset(self, ds: xr.Dataset) -> xr.Dataset:
        """Return the dataset with the counts before binning."""
        counts = self._before_binning("counts")
        if counts is None or len(counts) <= self._rows.max() or counts.shape[2] != ds.sizes["neuron"]:
            raise DataError("there are no counts before binning that fit the input file", where=self._path)
        external = self._before_binning("externalInputs")
        if external is None and "external_input" in ds:
            # the run manager sums them when it bins
            per_raw = ds["external_input"].to_numpy() / self._per_bin
            external = np.repeat(per_raw, self._per_bin, axis=1)
            counts = counts[:, : external.shape[1]]
        elif external is not None:
            external = external[self._rows]
        time = self._time[: counts.shape[1]]
        made = from_arrays(
            counts[self._rows],
            bin_ms=self.raw_bin_ms,
            name=str(ds.attrs["name"]),
            time=time if time.size == counts.shape[1] else None,
            external_input=external,
            neuron_names=ds["neuron_name"].to_numpy(),
        )
        return self._with_condition(made.assign(given_split=ds["given_split"].variable))


def _sums_to(counts: Array, k: int, binned: Array) -> bool:
    n_bins = len(binned)
    sums = counts[: n_bins * k].reshape(n_bins, k, -1).sum(axis=1)
    return sums.shape == np.shape(binned) and np.array_equal(sums, binned)


def _plain(values: Sequence[Any] | Array) -> Array:
    """Return conditions as numbers or texts; a cell array of texts comes as objects."""
    items = [np.ravel(v)[0] if isinstance(v, np.ndarray) and v.size else v for v in values]
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return np.asarray(items) if all(isinstance(i, int | float | np.number) for i in items) else out
