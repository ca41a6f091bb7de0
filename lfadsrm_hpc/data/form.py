"""The one in-memory form of a dataset, made from arrays or spike times, and checked.

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
text, `save_tags`, `comment`). Further variables are carried along untouched.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.errors import DataError

Array = npt.NDArray[Any]
SPIKE_DIMS = ("trial", "time", "neuron")
INPUT_DIMS = ("trial", "time", "input")
_NEURAL = {"spikes": SPIKE_DIMS, "truth": SPIKE_DIMS, "external_input": INPUT_DIMS}


def from_arrays(
    spikes: npt.ArrayLike | Sequence[npt.ArrayLike],
    *,
    bin_ms: float | None = None,
    name: str = "data",
    time: npt.ArrayLike | None = None,
    condition: Sequence[Any] | Array | None = None,
    truth: npt.ArrayLike | Sequence[npt.ArrayLike] | None = None,
    external_input: npt.ArrayLike | Sequence[npt.ArrayLike] | None = None,
    neuron_names: Sequence[str] | Array | None = None,
    **attrs: Any,
) -> xr.Dataset:
    """Make a dataset from plain arrays.

    Parameters
    ----------
    spikes : array (trial, time, neuron), or sequence of arrays (time, neuron), one a trial
        Counts a bin. A dimension of size 1 that got lost is put back where the other arguments leave no doubt
        about it.
    bin_ms : float, optional
        Width of a bin in ms. May be left out where `time` says it.
    name : str
        Name of the dataset, for messages and files.
    time : array (time,), optional
        Start of each bin in ms, evenly spaced; from 0 where it is left out.
    condition : array (trial,), optional
        Strings or whole numbers; None, NaN or "" for a trial without condition.
    truth : as `spikes`, optional
        True rates in spikes/s.
    external_input : array (trial, time, input), optional
    neuron_names : sequence of str, optional
        "n000", "n001", ... where left out.
    **attrs
        Further attributes: subject, date, save_tags, comment, ...

    Returns
    -------
    xr.Dataset
        See the head of this module.

    Raises
    ------
    DataError
        Wrong shapes, trials of unequal length, NaN; the message names dataset, trial and neuron.
    """
    where = f"dataset {name!r}"
    arrays = {"spikes": spikes, "truth": truth, "external_input": external_input}
    stacked = {key: _stack(value, key, where) for key, value in arrays.items() if value is not None}
    vectors = {
        "time": (time, float),
        "condition": (condition, None),
        "neuron_name": (neuron_names, str),
    }
    coords = {key: np.atleast_1d(np.asarray(v, t)) for key, (v, t) in vectors.items() if v is not None}
    sizes = _known_sizes(stacked, coords)
    variables: dict[str, Any] = {}
    for key in ("spikes", "truth", "external_input"):  # spikes first: they tell the sizes for the others
        if key in stacked:
            value = restore(stacked[key], _NEURAL[key], sizes, key, where)
            sizes |= dict(zip(_NEURAL[key], value.shape, strict=True))
            variables[key] = (_NEURAL[key], value)
    owners = {"time": "time", "condition": "trial", "neuron_name": "neuron"}
    ds = _assemble(variables, {k: (owners[k], v) for k, v in coords.items()}, where)
    given = {} if bin_ms is None else {"bin_ms": bin_ms}
    ds.attrs = {"name": name, **attrs, **given}
    return check(ds)


def from_spike_times(
    spike_times: Sequence[Sequence[npt.ArrayLike]],
    *,
    start_ms: float,
    stop_ms: float,
    bin_ms: float,
    name: str = "data",
    **others: Any,
) -> xr.Dataset:
    """Count spikes in bins.

    Parameters
    ----------
    spike_times : [trial][neuron] -> array of times in ms
        In the trial's own time; a neuron without spikes has an empty array.
    start_ms, stop_ms : float
        The window that all trials share, `start_ms <= t < stop_ms`. Spikes outside it are left out.
    bin_ms : float
        Goes into the window a whole number of times.
    **others
        As for `from_arrays`: condition, truth, external_input, neuron_names, and attributes.

    Returns
    -------
    xr.Dataset

    Raises
    ------
    DataError
        A window that is not a whole number of bins, trials with unequal numbers of neurons, times that are
        not finite.
    """
    where = f"dataset {name!r}"
    ratio = (stop_ms - start_ms) / bin_ms if bin_ms > 0 else float("nan")
    n_bins = round(ratio) if np.isfinite(ratio) else 0
    if n_bins < 1 or abs(ratio - n_bins) > 1e-6 * n_bins:
        raise DataError(
            f"the window from {start_ms:g} to {stop_ms:g} ms is not a whole number of bins of {bin_ms:g} ms",
            where=where,
        )
    if not len(spike_times):
        raise DataError("there are no trials", where=where)
    n_neurons = len(spike_times[0])
    counts = np.zeros((len(spike_times), n_bins, n_neurons), dtype=np.int64)
    for trial, neurons in enumerate(spike_times):
        if len(neurons) != n_neurons:
            raise DataError(
                f"trial {trial} has {len(neurons)} neurons, trial 0 has {n_neurons}",
                where=where,
                hint="give an empty array for a neuron without spikes",
            )
        for neuron, times in enumerate(neurons):
            t = np.asarray(times, dtype=float).ravel()
            if not np.isfinite(t).all():
                raise DataError(f"trial {trial}, neuron {neuron}: a spike time is not finite", where=where)
            t = t[(t >= start_ms) & (t < stop_ms)]
            # 0.3 / 0.1 is a little less than 3: a spike on an edge belongs to the bin that starts there
            index = np.minimum(np.floor((t - start_ms) / bin_ms + 1e-9).astype(np.int64), n_bins - 1)
            counts[trial, :, neuron] = np.bincount(index, minlength=n_bins)
    time = start_ms + bin_ms * np.arange(n_bins)
    return from_arrays(counts, bin_ms=bin_ms, name=name, **{"time": time, **others})


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
        {key: _in_order(ds[key], dims, where) for key, dims in _NEURAL.items() if key in ds.data_vars}
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
            variables[key] = (_NEURAL[key], _numbers(out[key], key, where).astype(np.float64), units)
    out = out.assign(variables)
    out.attrs = {**ds.attrs, "name": title, "bin_ms": bin_ms}
    return out


def restore(values: Array, dims: Sequence[str], sizes: Mapping[str, int], key: str, where: str) -> Array:
    """Put back dimensions of size 1 that an array has lost.

    Matlab drops them at the end of every array, `squeeze` anywhere. Which ones are gone must follow from
    `sizes`, the sizes known from elsewhere.

    Raises
    ------
    DataError
        No way, or more than one, to fit the array to the sizes.
    """
    if values.ndim == len(dims):
        return values
    shapes = set()
    for kept in combinations(range(len(dims)), values.ndim) if values.ndim else ():
        shape = dict.fromkeys(dims, 1) | {dims[k]: n for k, n in zip(kept, values.shape, strict=True)}
        if all(sizes.get(dim, n) == n for dim, n in shape.items()):
            shapes.add(tuple(shape.values()))
    if len(shapes) == 1:
        return values.reshape(shapes.pop())
    trouble = "could be more than one of" if shapes else "does not fit"
    known = ", ".join(f"{n} {dim}" for dim, n in sizes.items() if dim in dims)
    raise DataError(
        f"{key} has shape {values.shape}, which {trouble} ({', '.join(dims)})"
        + (f" with {known}" if known else ""),
        where=where,
        hint=f"give {key} all {len(dims)} dimensions, also those of size 1",
    )


def _stack(values: Any, key: str, where: str) -> Array:
    """Make one array of trials; say which trial differs in length."""
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return values
    if not isinstance(values, (list, tuple, np.ndarray)):
        return np.asarray(values)
    trials = [np.asarray(trial) for trial in values]
    for index, trial in enumerate(trials):
        if trial.shape != trials[0].shape:
            raise DataError(
                f"trials have unequal lengths: {key} of trial {index} has shape {trial.shape}, "
                f"of trial 0 {trials[0].shape}",
                where=where,
                hint="cut all trials to the same window (time, neuron)",
            )
    return np.stack(trials) if trials else np.empty((0, 0, 0))


def _known_sizes(arrays: Mapping[str, Array], coords: Mapping[str, Array]) -> dict[str, int]:
    """Collect the sizes that complete arrays and vectors tell; spikes have the last word."""
    sizes: dict[str, int] = {}
    for key, dim in (("condition", "trial"), ("time", "time"), ("neuron_name", "neuron")):
        if key in coords:
            sizes[dim] = coords[key].size
    for key in ("external_input", "truth", "spikes"):
        if key in arrays and arrays[key].ndim == len(_NEURAL[key]):
            sizes |= dict(zip(_NEURAL[key], arrays[key].shape, strict=True))
    return sizes


def _assemble(variables: Mapping[str, Any], coords: Mapping[str, Any], where: str) -> xr.Dataset:
    """Put the parts together; a size that differs from that of the spikes is an error that names both."""
    ds = xr.Dataset({"spikes": variables["spikes"]})
    for key, (dims, values) in {**variables, **coords}.items():
        dims = (dims,) if isinstance(dims, str) else dims
        want = {dim: ds.sizes[dim] for dim in dims if dim in ds.sizes}
        have = dict(zip(dims, np.shape(values), strict=True)) if np.ndim(values) == len(dims) else {}
        wrong = [dim for dim in want if have.get(dim) != want[dim]]
        if wrong:
            raise DataError(
                f"{key} has shape {np.shape(values)}, but spikes have "
                + ", ".join(f"{want[dim]} {'bins' if dim == 'time' else dim + 's'}" for dim in wrong),
                where=where,
                hint=f"{key} goes by ({', '.join(dims)})",
            )
    return xr.Dataset(dict(variables), coords=dict(coords))


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
    return values.astype(str) if values.dtype.kind == "U" else values.astype(np.int64)


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
    if values.dtype.kind in "biu":
        return values.astype(np.int64)
    return values.astype(np.int64 if (values == np.round(values)).all() else np.float64)
