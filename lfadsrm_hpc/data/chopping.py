"""Continuous recordings, cut into windows that overlap; `merging` makes recordings of them again.

`chop` makes a dataset whose trials are the windows. It carries, for each trial, `recording` and
`window_start` (ms in the time of the recording). They stay with the run and its posterior means, so that
merging needs nothing else.

Windows that share bins must not be on both sides of a train/valid split, or validation would score bins that
were trained on. So a recording is first cut into *blocks* of a few windows. Windows overlap within a block
and never across its borders; each carries the number of its block as `split_group`, and a split keeps groups
whole.

Where a recording does not end with a window, a last window is moved back towards the one before, in steps of
the *grid*, until it fits. The bins behind it, fewer than a step, are left out, and `notes` says so. The grid
is the largest step of which window and overlap are multiples, so that the windows stay on the bins of every
model that they can be merged for; with `grid_ms` = the width of the bins nothing is left out.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.data.form import check
from lfadsrm_hpc.errors import DataError, UsageError

Array = npt.NDArray[Any]
START, RECORDING, GROUP = "window_start", "recording", "split_group"
_MOST_WINDOWS = 10


class Window(NamedTuple):
    """The first bin of a window in its recording, and the block that it belongs to."""

    first: int
    block: int


def windows(
    n_bins: int, length: int, overlap: int, per_block: int | None = None, grid: int = 1
) -> list[Window]:
    """Return where windows lie in a recording; together they cover it, but for less than `grid` at its end.

    Parameters
    ----------
    n_bins : int
        Of the recording, at least `length`.
    length : int
        Bins of a window.
    overlap : int
        Bins that neighbours in a block share, fewer than `length`.
    per_block : int, optional
        Windows in a block. Where left out: about a tenth of all, between 2 and 10. Without overlap a window
        is a block of its own.
    grid : int, optional
        Bins; windows start at multiples of it. A divisor of length and overlap.

    Examples
    --------
    >>> [tuple(window) for window in windows(20, 6, 2, per_block=2)]
    [(0, 0), (4, 0), (10, 1), (14, 1)]
    """
    stride = length - overlap
    if per_block is None:
        per_block = min(max((n_bins - overlap) // stride // 10, 2), _MOST_WINDOWS)
    if overlap == 0:
        per_block = 1
    block_bins = length + (per_block - 1) * stride
    n_blocks = n_bins // block_bins + (n_bins % block_bins >= length)  # what is left, if it holds a window
    found = []
    for block in range(max(n_blocks, 1)):
        start = block * block_bins
        stop = n_bins if block >= n_blocks - 1 else start + block_bins
        firsts = list(range(start, stop - length + 1, stride))
        last = (stop - length) // grid * grid
        if last > firsts[-1]:
            firsts.append(last)
        found += [Window(first, block) for first in firsts]
    return found


def chop(
    recordings: xr.Dataset | Sequence[xr.Dataset],
    window_ms: float | None,
    overlap_ms: float = 0.0,
    *,
    per_block: int | None = None,
    grid_ms: float | None = None,
    name: str | None = None,
) -> xr.Dataset:
    """Cut recordings into windows of equal length.

    Parameters
    ----------
    recordings : xr.Dataset, or sequence of them
        In the form of `lfadsrm_hpc.data.form`; each trial is a recording. They may have unequal lengths only
        as a sequence. Their neurons, and the width of bins, must be the same.
    window_ms : float
        Length of a window, a whole number of bins.
    overlap_ms : float
        What neighbours share; 0: none.
    per_block : int, optional
        Windows in a block; see `windows`.
    grid_ms : float, optional
        Steps in which a last window is moved back; a divisor of window and overlap, and the largest one where
        it is left out.
    name : str, optional
        Of the dataset; that of the first recording where left out.

    Returns
    -------
    xr.Dataset
        `time` counts from the start of a window. Everything over time (spikes, truth, external inputs,
        behaviour) is cut, everything else of a recording (condition, ...) goes with each of its windows. A
        recording has the name that its variable `recording` gives, else the number of its trial. The
        attribute
        `notes` says what is left out: ends of recordings, and recordings shorter than a window.

    Raises
    ------
    UsageError
        A window or an overlap that cannot be.
    DataError
        No recording is as long as a window, or they do not go together.

    Examples
    --------
    >>> from lfadsrm_hpc.data.arrays import from_arrays
    >>> long = from_arrays(np.arange(100).reshape(1, 100, 1), bin_ms=10)
    >>> parts = chop(long, window_ms=200, overlap_ms=50)
    >>> parts.sizes["trial"], parts.window_start.values.tolist()[:3]
    (6, [0.0, 150.0, 350.0])
    """
    given = [recordings] if isinstance(recordings, xr.Dataset) else list(recordings)
    if not given:
        raise DataError("there are no recordings", hint="give at least one recording")
    if window_ms is None:
        what = "the recording consists" if len(given) == 1 else "the recordings consist"
        raise UsageError(
            f"{what} of parts, or an overlap is given, and no length of windows",
            hint="give chop_ms, such as chop_ms=1000",
        )
    _check_together(given)
    length, overlap, grid = _bins(given[0], window_ms, overlap_ms, per_block, grid_ms)
    parts: list[xr.Dataset] = []
    notes = [str(note) for note in given[0].attrs.get("notes", [])]
    n_groups = 0
    for label, one in _each(given):
        n_bins = one.sizes["time"]
        if n_bins < length:
            notes.append(f"recording {label} is left out: it is shorter than a window of {window_ms:g} ms")
            continue
        places = windows(n_bins, length, overlap, per_block, grid)
        rest = (n_bins - places[-1].first - length) * float(one.attrs["bin_ms"])
        if rest:
            notes.append(f"the last {rest:g} ms of recording {label} are left out")
        parts.append(_cut(one, label, places, length, n_groups))
        n_groups += places[-1].block + 1
    if not parts:
        longest = max(one.sizes["time"] for one in given) * float(given[0].attrs["bin_ms"])
        raise DataError(
            f"no recording is as long as a window of {window_ms:g} ms; the longest has {longest:g} ms",
            hint="make the windows shorter",
        )
    joined = xr.concat(
        parts, dim="trial", data_vars="minimal", coords="minimal", compat="override", join="override"
    )
    attrs = {**given[0].attrs, **({"notes": notes} if notes else {})}
    attrs |= {"chop_ms": float(window_ms), "overlap_ms": float(overlap_ms)}
    return check(joined.assign_attrs(attrs), name=name)


def _check_together(recordings: Sequence[xr.Dataset]) -> None:
    first = recordings[0]
    for other in recordings[1:]:
        same = other.sizes["neuron"] == first.sizes["neuron"] and bool(
            (other["neuron_name"].to_numpy() == first["neuron_name"].to_numpy()).all()
        )
        if (
            not same
            or other.attrs["bin_ms"] != first.attrs["bin_ms"]
            or set(other.variables) != set(first.variables)
        ):
            raise DataError(
                "recordings of one dataset have unequal neurons, bins or variables",
                hint="make them datasets of their own",
            )


def _bins(
    ds: xr.Dataset, window_ms: float, overlap_ms: float, per_block: int | None, grid_ms: float | None
) -> tuple[int, int, int]:
    bin_ms = float(ds.attrs["bin_ms"])
    length, overlap = (
        _whole(what, value, bin_ms) for what, value in (("a window", window_ms), ("an overlap", overlap_ms))
    )
    if length < 1 or not 0 <= overlap < length:
        raise UsageError(
            f"windows of {window_ms:g} ms cannot share {overlap_ms:g} ms",
            hint="an overlap is at least 0 and shorter than a window",
        )
    if per_block is not None and per_block < 1:
        raise UsageError(f"per_block is {per_block}", hint="a block has at least one window")
    largest = math.gcd(length, overlap)
    grid = largest if grid_ms is None else _whole("a grid", grid_ms, bin_ms)
    if grid < 1 or largest % grid:
        raise UsageError(
            f"a window of {window_ms:g} ms or an overlap of {overlap_ms:g} ms is not a multiple of the "
            f"grid of {grid * bin_ms:g} ms",
            hint="make grid_ms smaller, or leave it out",
        )
    return length, overlap, grid


def _whole(what: str, value: float, bin_ms: float) -> int:
    ratio = value / bin_ms
    if not np.isfinite(ratio) or abs(ratio - round(ratio)) > 1e-6 * max(1.0, ratio):
        raise UsageError(
            f"{what} of {value:g} ms is not a whole number of bins of {bin_ms:g} ms",
            hint="choose a multiple of the width of the bins",
        )
    return round(ratio)


def _each(recordings: Sequence[xr.Dataset]) -> Iterator[tuple[str, xr.Dataset]]:
    """Yield each recording with a name of its own, one trial each."""
    seen: set[str] = set()
    for number, several in enumerate(recordings):
        for trial in range(several.sizes["trial"]):
            one = several.isel(trial=[trial])
            label = str(trial) if len(recordings) == 1 else f"{number}"
            if len(recordings) > 1 and several.sizes["trial"] > 1:
                label = f"{number}.{trial}"
            if RECORDING in one.variables:
                label = str(one[RECORDING].to_numpy()[0])
            if label in seen:
                raise DataError(
                    f"two recordings have the name {label!r}", hint=f"give them others in {RECORDING!r}"
                )
            seen.add(label)
            yield label, one


def _cut(one: xr.Dataset, label: str, places: Sequence[Window], length: int, group: int) -> xr.Dataset:
    """Return the windows of one recording as trials."""
    firsts = np.array([place.first for place in places])
    bins = firsts[:, None] + np.arange(length)
    time = one["time"].to_numpy()
    variables: dict[Hashable, Any] = {}
    for name, variable in one.variables.items():
        if name in ("trial", "time", START, RECORDING, GROUP):
            continue
        dims = variable.dims
        if "trial" not in dims and "time" not in dims:
            variables[name] = variable
            continue
        values = variable.to_numpy()
        rest = tuple(dim for dim in dims if dim not in ("trial", "time"))
        if "trial" in dims:
            values = np.asarray(np.take(values, 0, axis=dims.index("trial")))
        if "time" not in dims:
            variables[name] = (("trial", *rest), np.repeat(values[None], len(firsts), axis=0), variable.attrs)
            continue
        axis = [dim for dim in dims if dim != "trial"].index("time")
        variables[name] = (("trial", "time", *rest), np.moveaxis(values, axis, 0)[bins], variable.attrs)
    coords = {name: variables.pop(name) for name in one.coords if name in variables}
    coords |= {
        "time": ("time", time[:length] - time[0]),
        START: ("trial", time[firsts], {"units": "ms"}),
        RECORDING: ("trial", np.full(len(firsts), label)),
        GROUP: ("trial", group + np.array([place.block for place in places])),
    }
    return xr.Dataset(variables, coords=coords, attrs=one.attrs)
