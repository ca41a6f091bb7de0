"""Intervals of time during which something was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError

Float64 = npt.NDArray[np.float64]
_SLACK = 1e-6  # seconds: clocks of tables and of spikes differ in the last digits


def merged(intervals: npt.ArrayLike) -> Float64:
    """Return intervals (k, 2) in order, those that touch or overlap made one; empty ones left out."""
    found = np.asarray(intervals, dtype=np.float64).reshape(-1, 2)
    found = found[np.isfinite(found).all(axis=1) & (found[:, 1] > found[:, 0])]
    found = found[np.argsort(found[:, 0], kind="stable")]
    if not len(found):
        return found
    reach = np.maximum.accumulate(found[:, 1])
    begins = np.concatenate([[True], found[1:, 0] > reach[:-1] + _SLACK])
    ends = np.concatenate([begins[1:], [True]])
    return np.stack([found[begins, 0], reach[ends]], axis=1)


def covered(intervals: npt.ArrayLike | None, starts: Float64, stops: Float64) -> npt.NDArray[np.bool_]:
    """Say which windows lie whole in one of the intervals; all do where there are none to tell (None)."""
    if intervals is None:
        return np.ones(len(starts), dtype=bool)
    joined = merged(intervals)
    if not len(joined):
        return np.zeros(len(starts), dtype=bool)
    place = np.searchsorted(joined[:, 0], starts + _SLACK, side="right") - 1
    inside = (place >= 0) & (stops <= joined[np.maximum(place, 0), 1] + _SLACK)
    return np.asarray(inside, dtype=bool)


def common(several: Sequence[npt.ArrayLike | None]) -> Float64 | None:
    """Return the intervals that lie in those of every neuron; None where no neuron has any."""
    found: Float64 | None = None
    for intervals in several:
        if intervals is None:
            continue
        joined = merged(intervals)
        if found is None:
            found = joined
        elif not np.array_equal(found, joined):  # most files say the same of all neurons
            found = _intersection(found, joined)
    return found


def _intersection(one: Float64, other: Float64) -> Float64:
    low = np.maximum(one[:, None, 0], other[None, :, 0])
    high = np.minimum(one[:, None, 1], other[None, :, 1])
    there = high > low
    return merged(np.stack([low[there], high[there]], axis=1))


def whole(
    spikes: Sequence[Float64],
    observed: Sequence[npt.ArrayLike | None],
    named: Sequence[tuple[str, float, float]] | None,
    *,
    bounds: tuple[float | None, float | None],
    bin_s: float,
    where: object,
) -> tuple[list[tuple[str, float, int]], list[str]]:
    """Return the parts of a session that are recordings, and what is to be said of them.

    Parameters
    ----------
    spikes : sequence of (n,) float
        Of each neuron, seconds, in order: without anything else, from the first to the last of them.
    observed : sequence of (k, 2) array or None
        When each neuron was recorded: only what is common to all is taken.
    named : sequence of (name, start, stop), or None
        The parts, where the file or the user names some.
    bounds : (start, stop) in ms, or None
    bin_s : float
    where : object

    Returns
    -------
    list of (name, start in seconds, number of bins), list of str

    Raises
    ------
    DataError
        Nothing is left.
    """
    if named is None:
        named = [("0", *_span(spikes, bounds, bin_s, where))]
    _check_apart(named, where)
    low = -np.inf if bounds[0] is None else bounds[0] / 1000
    high = np.inf if bounds[1] is None else bounds[1] / 1000
    shared = common(observed)
    parts: list[tuple[str, float, int]] = []
    left_out = 0
    for name, start, stop in named:
        box = np.array([[max(start, low), min(stop, high)]])
        pieces = box if shared is None else _intersection(box, shared)
        for place, (first, last) in enumerate(pieces.tolist()):
            n_bins = int(np.floor((last - first) / bin_s + 1e-6)) if last > first else 0
            label = name if len(pieces) == 1 else f"{name}.{place}"
            if n_bins > 0:
                parts.append((label, first, n_bins))
            else:
                left_out += 1
    if not parts:
        raise DataError("nothing of the recording is left", where=where, hint="look at start_ms and stop_ms")
    return parts, [f"{left_out} parts of less than a bin are left out"] if left_out else []


def _check_apart(named: Sequence[tuple[str, float, float]], where: object) -> None:
    """Refuse parts that overlap: their windows would train and validate on the same bins."""
    ordered = sorted(named, key=lambda part: part[1])
    for one, other in pairwise(ordered):
        if other[1] < one[2] - _SLACK:
            raise DataError(
                f"the intervals {one[0]!r} ({one[1]:g} to {one[2]:g} s) and {other[0]!r} ({other[1]:g} to "
                f"{other[2]:g} s) overlap, so that windows of both could train and validate on the same bins",
                where=where,
                hint="choose intervals by their columns with the option trials",
            )


def _span(
    spikes: Sequence[Any], bounds: tuple[float | None, float | None], bin_s: float, where: object
) -> tuple[float, float]:
    """Return where the recording starts and stops, in whole bins, as far as spikes tell it."""
    start, stop = (None if bound is None else bound / 1000 for bound in bounds)
    ends = [(times[0], times[-1]) for times in spikes if len(times)]
    if (start is None or stop is None) and not ends:
        raise DataError("there are no spikes", where=where, hint="give start_ms and stop_ms")
    if start is None:
        start = float(np.floor(min(first for first, _ in ends) / bin_s + 1e-6)) * bin_s
    if stop is None:
        last = max(last for _, last in ends)
        stop = start + float(np.floor((last - start) / bin_s + 1e-6) + 1) * bin_s
    return start, stop
