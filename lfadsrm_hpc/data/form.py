"""The one in-memory form of a dataset, its check and its fingerprint.

An `xr.Dataset` with the dimensions `trial`, `time`, `neuron` and, where there are external inputs, `input`:

================== ====================== ==================================================================
variable           dimensions             meaning
================== ====================== ==================================================================
`spikes`           trial, time, neuron    counts a bin, int64 (float64 where they are not whole numbers)
`truth`            trial, time, neuron    optional: true rates, spikes/s
`external_input`   trial, time, input     optional: known inputs, float64
================== ====================== ==================================================================

Coordinates: `trial` 0..E-1; `time` float64, the START of each bin in ms; `neuron` 0..D-1; `neuron_name`
(neuron) str; optional `condition` (trial), str or int (a trial without condition: an empty string, or NaN
among floats). Attributes: `name`, `bin_ms`, and whatever else describes the session (`subject`, `date` as ISO
text, `save_tags`, `comment`). Further variables are carried along untouched; those by trial are kept with a
run
(`lfadsrm_hpc.data.extra`). Of them these have a meaning:

- `split_group` (trial): trials of one group train together or validate together;
- `given_split` (trial): "train" or "valid", for the run param `split="given"`;
- `window_start`, `recording` (trial): where a trial was cut from, by `lfadsrm_hpc.data.chopping`;
- `held_out` (neuron), bool, with the attribute `forward_ms`: see `lfadsrm_hpc.data.evaluation`.

The attribute `notes` lists what a reader left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.errors import DataError

Array = npt.NDArray[Any]
SPIKE_DIMS = ("trial", "time", "neuron")
INPUT_DIMS = ("trial", "time", "input")
DIMS = {"spikes": SPIKE_DIMS, "truth": SPIKE_DIMS, "external_input": INPUT_DIMS}

_LEAST_MS = 0.1  # bins that nobody makes for rates; in seconds they are 100 ms


def check(ds: xr.Dataset, *, name: str | None = None) -> xr.Dataset:
    """Check a dataset and complete what can be completed.

    Puts dimensions in order; whole-number floats become int64; adds `time`, `trial`, `neuron`, `neuron_name`,
    and `bin_ms` where `time` says it.

    Parameters
    ----------
    ds : xr.Dataset
        With at least `spikes` and either `time` or the attribute `bin_ms`.
    name : str, optional
        Takes the place of the attribute `name`.

    Raises
    ------
    DataError
        Something is missing, has a wrong shape or type, or is NaN or infinite.
    """
    title = name if name is not None else str(ds.attrs.get("name", "data"))
    where = f"dataset {title!r}"
    if "spikes" not in ds.data_vars:
        raise DataError(
            "there is no variable 'spikes'",
            where=where,
            hint=f"there is: {', '.join(map(str, ds.variables))}",
        )
    out: xr.Dataset = ds.assign(
        {key: _in_order(ds[key], dims, where) for key, dims in DIMS.items() if key in ds.data_vars}
    )
    empty = [dim for dim in SPIKE_DIMS if out.sizes[dim] == 0]
    if empty:
        raise DataError(
            f"there are no {empty[0]}s" if empty[0] != "time" else "there are no bins", where=where
        )
    bin_ms, time = _time(out, where)
    coords: dict[str, Any] = {
        "trial": ("trial", np.arange(out.sizes["trial"])),
        "time": ("time", time, {"units": "ms", "long_name": "start of the bin"}),
        "neuron": ("neuron", np.arange(out.sizes["neuron"])),
        "neuron_name": ("neuron", _neuron_names(out)),
    }
    if "condition" in out.variables:
        coords["condition"] = ("trial", _condition(out["condition"], where))
    out = out.drop_vars("condition", errors="ignore").assign_coords(coords)
    spikes = _numbers(out["spikes"], "spikes", where)
    variables: dict[str, Any] = {"spikes": (SPIKE_DIMS, _whole(spikes), {"units": "counts per bin"})}
    for key in ("truth", "external_input"):
        if key in out.data_vars:
            units = {"units": "spikes/s"} if key == "truth" else dict(out[key].attrs)
            variables[key] = (DIMS[key], _numbers(out[key], key, where).astype(np.float64, copy=False), units)
    out = out.assign(variables)
    out.attrs = {**ds.attrs, "name": title, "bin_ms": bin_ms}
    if hasattr(out.attrs.get("date"), "isoformat"):
        out.attrs["date"] = out.attrs["date"].isoformat()
    return out


def fingerprint(*parts: xr.Dataset) -> str:
    """Return the SHA-256 of what LFADS gets to see of datasets, 64 hexadecimal characters.

    Over the bin width, spikes, time, condition, truth, external input and groups of trials that a split keeps
    whole, with an order, types and a byte order of its own; not over names, other attributes and variables.

    Parameters
    ----------
    *parts : xr.Dataset
        In the in-memory form, in order.
    """
    digest = hashlib.sha256(b"lfadsrm_hpc dataset 1")
    for ds in parts:
        digest.update(json.dumps({"bin_ms": float(ds.attrs["bin_ms"])}).encode())
        for key in ("spikes", "time", "condition", "truth", "external_input", "split_group"):
            if key in ds.variables:
                _hash_array(digest, key, ds[key].to_numpy())
    return digest.hexdigest()


def _hash_array(digest: Any, key: str, values: Array) -> None:
    """Feed an array into a digest, trial by trial: a copy of it all would double the memory."""
    digest.update(json.dumps([key, list(values.shape), values.dtype.kind]).encode())
    if values.dtype.kind not in "iuf":
        digest.update(json.dumps(values.tolist()).encode())
        return
    for part in values:
        digest.update(
            np.ascontiguousarray(part, dtype="<f8" if values.dtype.kind == "f" else "<i8").tobytes()
        )


def _in_order(variable: xr.DataArray, dims: tuple[str, ...], where: str) -> xr.DataArray:
    if set(variable.dims) != set(dims):
        raise DataError(
            f"{variable.name} has the dimensions {tuple(map(str, variable.dims))}",
            where=where,
            hint=f"they must be {dims}, in any order",
        )
    ordered: xr.DataArray = variable.transpose(*dims)
    return ordered


def _time(ds: xr.Dataset, where: str) -> tuple[float, npt.NDArray[np.float64]]:
    """Return the bin width and the start of each bin, in ms."""
    n_bins = ds.sizes["time"]
    given: Any = ds.attrs.get("bin_ms")
    if "time" not in ds.coords:
        width = _bin_width(given, None, where)
        return width, width * np.arange(n_bins, dtype=np.float64)
    time = ds["time"].to_numpy().astype(np.float64)
    width = _bin_width(given, time, where)
    steps = np.diff(time)
    if not np.isfinite(time).all() or (np.abs(steps - width) > 1e-3 * width).any():
        bad = int(np.argmax(np.abs(steps - width))) if steps.size else 0
        raise DataError(
            f"time is not in steps of bin_ms = {width:g} ms: bin {bad} starts at {time[bad]:g} ms"
            + (f", the next at {time[bad + 1]:g} ms" if steps.size else ""),
            where=where,
            hint="time is the start of each bin in ms (not s), evenly spaced",
        )
    return width, time


def _bin_width(given: Any, time: npt.NDArray[np.float64] | None, where: str) -> float:
    if given is None and time is not None and time.size > 1:
        given = float(np.format_float_positional(np.median(np.diff(time)), precision=9))
        if 0 < given < _LEAST_MS:
            raise DataError(
                f"bins are {given:g} ms wide, as time tells it: perhaps it is in seconds",
                where=where,
                hint="time is in ms. For files: time_unit = 's' (xarray, netCDF: units = 's' of time); "
                "or give bin_ms, where bins are so narrow",
            )
    if given is None:
        raise DataError("the width of the bins is not known", where=where, hint="give bin_ms, or time in ms")
    width = float(np.asarray(given).reshape(-1)[0])
    if not np.isfinite(width) or width <= 0:
        raise DataError(f"bin_ms is {width:g}", where=where, hint="give the width of a bin in ms")
    return width


def _neuron_names(ds: xr.Dataset) -> Array:
    if "neuron_name" in ds.variables:
        return ds["neuron_name"].to_numpy().astype(str)
    if "neuron" in ds.coords and ds["neuron"].dtype.kind in "UOT":
        return ds["neuron"].to_numpy().astype(str)
    return np.array([f"n{i:03d}" for i in range(ds.sizes["neuron"])])


def _condition(variable: xr.DataArray, where: str) -> Array:
    """Return strings, whole numbers, or floats where NaN stands for no condition."""
    values = variable.to_numpy()
    if values.shape != (variable.sizes.get("trial"),):
        raise DataError(
            f"condition has the dimensions {tuple(map(str, variable.dims))}, not (trial)", where=where
        )
    if values.dtype.kind in "OTS":
        values = _plain(values)
    if values.dtype.kind == "f":
        whole = np.isnan(values) | (values == np.round(values))
        if not whole.all():
            trial = int(np.argmin(whole))
            raise DataError(
                f"the condition of trial {trial} is {values[trial]:g}",
                where=where,
                hint="use whole numbers or names",
            )
        return values if np.isnan(values).any() else values.astype(np.int64)
    return values.astype(np.int64 if values.dtype.kind in "biu" else str)


def _plain(values: Array) -> Array:
    """Turn an array of Python objects into one of floats or of strings."""
    objects = [v.decode() if isinstance(v, bytes) else v for v in values.tolist()]
    missing = [v is None or (isinstance(v, float) and np.isnan(v)) for v in objects]
    if any(isinstance(v, str) for v in objects):
        return np.array(["" if m else str(v) for v, m in zip(objects, missing, strict=True)], dtype=str)
    return np.array([np.nan if m else float(v) for v, m in zip(objects, missing, strict=True)])


def _numbers(variable: xr.DataArray, key: Hashable, where: str) -> Array:
    """Return the values, all finite, or name the first trial and neuron where one is not."""
    values = variable.to_numpy()
    if values.dtype.kind not in "biuf":
        raise DataError(f"{key} has the type {values.dtype}, not numbers", where=where)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = np.unravel_index(int(np.argmin(np.isfinite(values))), values.shape)
        spots = dict(zip(map(str, variable.dims), map(int, bad), strict=True))
        place = ", ".join(f"{'bin' if dim == 'time' else dim} {i}" for dim, i in spots.items())
        if "neuron" in spots:
            place += f" ({variable.coords['neuron_name'].to_numpy()[spots['neuron']]})"
        count = int(values.size - np.isfinite(values).sum())
        raise DataError(
            f"{key} is {values[bad]} at {place}" + (f", and at {count - 1} more places" if count > 1 else ""),
            where=where,
            hint="leave out such trials or neurons, or repair the values",
        )
    return values


def _whole(values: Array) -> Array:
    """Return int64 where all values are whole numbers, else float64."""
    whole = values.dtype.kind in "biu" or bool((values == np.round(values)).all())
    return values.astype(np.int64 if whole else np.float64, copy=False)
