"""Plain arrays and spike times -> the one in-memory form (`lfadsrm_hpc.data.form`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.data.form import DIMS, SPIKE_DIMS, Array, check
from lfadsrm_hpc.errors import DataError, UsageError


def from_arrays(
    spikes: npt.ArrayLike | Sequence[npt.ArrayLike],
    *,
    bin_ms: float | None = None,
    name: str = "data",
    time: npt.ArrayLike | None = None,
    start_ms: float | None = None,
    condition: Sequence[Any] | Array | None = None,
    truth: npt.ArrayLike | Sequence[npt.ArrayLike] | None = None,
    external_input: npt.ArrayLike | Sequence[npt.ArrayLike] | None = None,
    neuron_names: Sequence[str] | Array | None = None,
    dims: Sequence[str] = SPIKE_DIMS,
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
        Start of each bin in ms, evenly spaced.
    start_ms : float, optional
        Start of the first bin in ms, where `time` is left out; 0 where this is left out too.
    condition : array (trial,), optional
        Strings or whole numbers; None, NaN or "" for a trial without condition.
    truth : as `spikes`, optional
        True rates in spikes/s.
    external_input : array (trial, time, input), optional
    neuron_names : sequence of str, optional
        "n000", "n001", ... where left out.
    dims : sequence of str
        The order of the dimensions in `spikes`, `truth` and, with `input` for `neuron`, `external_input`,
        e.g. ("trial", "neuron", "time") as in Matlab. A dimension of size 1 may be left out. In a sequence of
        trials, `trial` is taken out of it.
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
    stacked = {
        key: _stack(value, _order(dims, key), key, where)
        for key, value in arrays.items()
        if value is not None
    }
    coords = _vectors(time, condition, neuron_names)
    sizes = _known_sizes(stacked, coords) | {dim: 1 for dim in SPIKE_DIMS if dim not in dims}
    variables: dict[str, Any] = {}
    for key, (order, value) in stacked.items():  # spikes first: they tell the sizes for the others
        full = restore(value, order, sizes, key, where)
        sizes |= dict(zip(order, full.shape, strict=True))
        variables[key] = (DIMS[key], full.transpose([order.index(dim) for dim in DIMS[key]]))
    ds = _assemble(variables, coords, where)
    ds.attrs = {"name": name, **attrs} | ({} if bin_ms is None else {"bin_ms": bin_ms})
    ds = check(ds)
    if time is None and start_ms:
        ds = check(ds.assign_coords(time=ds["time"] + start_ms))
    return ds


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
        As for `from_arrays`: condition, truth, external_input (and the order `dims` of these two),
        neuron_names, and attributes.
    name : str
        Of the dataset.

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
            # 0.3 / 0.1 is a little less than 3: a spike on an edge belongs to the bin that starts there,
            # also on the first and the last one
            index = np.floor((t - start_ms) / bin_ms + 1e-6)
            index = index[(index >= 0) & (index < n_bins)].astype(np.int64)
            counts[trial, :, neuron] = np.bincount(index, minlength=n_bins)
    time = start_ms + bin_ms * np.arange(n_bins)
    # dims is the order of what else is given (true rates, inputs); the counts are ours
    order = _order(others.get("dims", SPIKE_DIMS), "spikes")
    counts = counts.transpose([SPIKE_DIMS.index(dim) for dim in order])
    return from_arrays(counts, bin_ms=bin_ms, name=name, **{"time": time, **others})


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
    # Matlab makes a column of what is squeezed to one dimension: then the 1 stands for nothing
    shapes = _fitting(values.shape, dims, sizes) or _fitting(values.squeeze().shape, dims, sizes)
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


def _fitting(shape: tuple[int, ...], dims: Sequence[str], sizes: Mapping[str, int]) -> set[tuple[int, ...]]:
    """Return every full shape with these sizes in this order, and 1 elsewhere, that agrees with `sizes`."""
    found = set()
    for kept in combinations(range(len(dims)), len(shape)) if shape else ():
        full = dict.fromkeys(dims, 1) | {dims[k]: n for k, n in zip(kept, shape, strict=True)}
        if all(sizes.get(dim, n) == n for dim, n in full.items()):
            found.add(tuple(full.values()))
    return found


def _order(dims: Sequence[str], key: str) -> tuple[str, ...]:
    """Return all three dimensions of a variable in the order that the user names; left-out ones come last."""
    named = tuple(dims)
    if not named or len(set(named)) < len(named) or not set(named) <= set(SPIKE_DIMS):
        raise UsageError(f"dims is {named}", hint=f"name some of {SPIKE_DIMS}, in the order of the array")
    full = named + tuple(dim for dim in SPIKE_DIMS if dim not in named)
    own = dict(zip(SPIKE_DIMS, DIMS[key], strict=True))
    return tuple(own[dim] for dim in full)


def _stack(values: Any, order: tuple[str, ...], key: str, where: str) -> tuple[tuple[str, ...], Array]:
    """Return the order of dimensions and one array of all trials; say which trial differs in length."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "O":
        values = list(values.ravel())
    if not isinstance(values, (list, tuple)):
        return order, np.array(
            values
        )  # a copy: what the user does to the array later must not reach the dataset
    trials = [np.asarray(trial) for trial in values]
    inner = tuple(dim for dim in order if dim != "trial")
    for index, trial in enumerate(trials):
        if trial.shape != trials[0].shape:
            raise DataError(
                f"trials have unequal lengths: {key} of trial {index} has shape {trial.shape}, "
                f"of trial 0 {trials[0].shape}",
                where=where,
                hint=f"cut all trials to the same window; a trial goes by ({', '.join(inner)})",
            )
    return ("trial", *inner), np.stack(trials) if trials else np.empty((0, 0, 0))


def _vectors(time: Any, condition: Any, neuron_names: Any) -> dict[str, tuple[str, Array]]:
    """Return the coordinates that were given, with the dimension that each goes by."""
    given: dict[str, tuple[str, Any]] = {}
    if time is not None:
        given["time"] = ("time", np.atleast_1d(np.asarray(time, dtype=float)))
    if condition is not None:
        values = condition
        if not hasattr(condition, "dtype"):  # numpy would make the text "nan" of a NaN beside names
            values = np.empty(len(condition), dtype=object)
            values[:] = list(condition)
        given["condition"] = ("trial", np.atleast_1d(np.asarray(values)))
    if neuron_names is not None:
        given["neuron_name"] = ("neuron", np.atleast_1d(np.asarray(neuron_names, dtype=str)))
    return given


def _known_sizes(
    arrays: Mapping[str, tuple[tuple[str, ...], Array]], coords: Mapping[str, tuple[str, Array]]
) -> dict[str, int]:
    """Collect the sizes that vectors and complete arrays tell; spikes have the last word."""
    sizes = {dim: values.size for dim, values in coords.values()}
    for order, values in reversed(list(arrays.values())):
        if values.ndim == len(order):
            sizes |= dict(zip(order, values.shape, strict=True))
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
