"""HDF5 files of AutoLFADS and of the Neural Latents Benchmark.

`train_encod_data` and `valid_encod_data` (trials, bins, held-in neurons) are what encoders see;
`train_recon_data` and `valid_recon_data` (trials, bins or more, all neurons) are what is reconstructed: the
same, then held-out neurons, then the bins of forward prediction. `test_encod_data` are trials of which only
the former is known.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.data.arrays import from_arrays
from lfadsrm_hpc.data.evaluation import held_out_text, state
from lfadsrm_hpc.data.formats import option_values
from lfadsrm_hpc.data.formats.fields import bin_width, described, number
from lfadsrm_hpc.data.formats.plain_hdf5 import Hdf5Source, values_of
from lfadsrm_hpc.data.formats.registry import Reader
from lfadsrm_hpc.data.formats.split_parts import along, merge
from lfadsrm_hpc.errors import DataError

Array = npt.NDArray[Any]
PARTS = ("train", "valid", "test")
_KEYS = ("data", "encod", "inds", "truth", "ext_input", "condition", "behavior", "lowd")


def read(
    path: Path, bin_ms: float | None, *, part: str | None = None, ignore_encod: bool | None = None
) -> xr.Dataset:
    """Read such a file.

    Parameters
    ----------
    path : Path
    bin_ms : float or None
        The file says it at most by `conversion_factor`, in seconds.
    part : {"all", "train", "valid", "test"}, optional
        "all" (where left out): training and validation trials, in the order of their `inds`. Of test trials,
        counts that the file does not have are 0; a model that withholds them from its encoders does not see
        them.
    ignore_encod : bool
        Take what is reconstructed and nothing as held out.

    Returns
    -------
    xr.Dataset
        With `held_out` (neuron) and the attribute `forward_ms` where the file withholds neurons or bins:
        `lfadsrm_hpc.data.evaluation` says what to do with them. `given_split` is the part of each trial.

    Raises
    ------
    DataError
        Arrays that are missing or do not fit each other.
    """
    chosen = option_values.choice("part", part or "all", ("all", *PARTS))
    ignoring = ignore_encod is not None and option_values.flag("ignore_encod", ignore_encod)
    with h5py.File(path, "r") as file:
        small, _ = Hdf5Source(file).small_and_shapes(most_dims=1)
        parts = {name: _part(file, name) for name in _names(file, chosen, path)}
        full = _recon_shape(file)
    parts = {name: _whole(name, arrays, full, ignoring, path) for name, arrays in parts.items()}
    keys = [key for key in _KEYS if any(key in arrays for arrays in parts.values())]
    merged, split = merge(parts, keys, where=path)
    width = bin_ms if bin_ms is not None else bin_width(small)
    ds = from_arrays(
        merged["data"],
        bin_ms=width,
        name=path.stem,
        condition=merged.get("condition"),
        truth=_truth(merged, number(small.get("conversion_factor")), width),
        external_input=merged.get("ext_input"),
        neuron_names=np.ravel(small["neuron_names"]) if "neuron_names" in small else None,
        **described(small),
    )
    further: dict[str, Any] = {"given_split": ("trial", split)}
    out: xr.Dataset = ds.assign(further | along(merged, ds.sizes["time"]))
    if ignoring or "encod" not in merged:
        return out
    return _with_statement(out, merged["encod"], chosen)


READER = Reader(read)


def _names(file: Any, chosen: str, path: Path) -> list[str]:
    there = [name for name in PARTS if f"{name}_encod_data" in file or f"{name}_recon_data" in file]
    wanted = [name for name in there if name != "test"] if chosen == "all" else [chosen]
    missing = [name for name in wanted if name not in there]
    if missing or not wanted:
        raise DataError(
            f"there are no {missing[0] if missing else 'train'} trials",
            where=path,
            hint=f"there are {', '.join(there) or 'none'}: part='...'",
        )
    return wanted


def _part(file: Any, name: str) -> dict[str, Array]:
    keys = {key: f"{name}_{key}" for key in _KEYS if key not in ("data", "encod")}
    keys |= {"data": f"{name}_recon_data", "encod": f"{name}_encod_data"}
    return {key: values_of(file[stored]) for key, stored in keys.items() if stored in file}


def _recon_shape(file: Any) -> tuple[int, ...] | None:
    stored = [file[f"{name}_recon_data"].shape for name in PARTS if f"{name}_recon_data" in file]
    return tuple(stored[0][1:]) if stored else None


def _whole(
    name: str, arrays: dict[str, Array], full: tuple[int, ...] | None, ignoring: bool, path: Path
) -> dict[str, Array]:
    """Return a part with its data complete: what is not known is 0."""
    for key in ("data", "encod"):
        if key in arrays and arrays[key].ndim != 3:
            raise DataError(
                f"{name}_{'recon' if key == 'data' else 'encod'}_data has the shape {arrays[key].shape}",
                where=path,
                hint="it goes by (trials, bins, neurons)",
            )
    if "data" not in arrays:
        seen = arrays["encod"]
        shape = full if full is not None else seen.shape[1:]
        data = np.zeros((len(seen), *shape), dtype=seen.dtype)
        if seen.shape[1] > shape[0] or seen.shape[2] > shape[1]:
            raise DataError(f"{name}_encod_data has more bins or neurons than is reconstructed", where=path)
        if name != "test" and data.shape != seen.shape:
            raise DataError(
                f"there is no {name}_recon_data, and {name}_encod_data {seen.shape} lacks bins or neurons "
                "that are reconstructed: they cannot be fitted or scored",
                where=path,
                hint="add it to the file, or take the other trials: part='train', 'valid' or 'test'",
            )
        data[:, : seen.shape[1], : seen.shape[2]] = seen
        return {**arrays, "data": data}
    if "encod" in arrays and not ignoring:
        _check_seen(name, arrays["data"], arrays["encod"], path)
    return arrays


def _check_seen(name: str, whole: Array, seen: Array, path: Path) -> None:
    """Refuse data for encoders that are not the first bins of the first neurons."""
    _, bins, neurons = seen.shape
    if seen.shape[0] != whole.shape[0] or not np.array_equal(whole[:, :bins, :neurons], seen):
        raise DataError(
            f"{name}_encod_data {seen.shape} are not the first bins and neurons of {name}_recon_data "
            f"{whole.shape}",
            where=path,
            hint="encoders see counts that are reconstructed too; ignore_encod=true takes the latter alone",
        )


def _truth(merged: dict[str, Array], seconds: float | None, width: float | None) -> Array | None:
    truth = merged.get("truth")
    if truth is None or seconds is None or not width:
        return truth
    return np.asarray(truth * (seconds * 1000 / width))


def _with_statement(ds: xr.Dataset, seen: Array, part: str) -> xr.Dataset:
    """Say which neurons and bins the file withholds from encoders."""
    held = np.arange(ds.sizes["neuron"]) >= seen.shape[2]
    forward_bins = ds.sizes["time"] - seen.shape[1]
    ds = state(ds, held, forward_bins)
    if part == "test" and (held.any() or forward_bins):
        known = f"counts of {held_out_text(held, forward_bins)} are not known in test trials and stand as 0"
        ds = ds.assign_attrs(notes=[known])
    return ds
