"""Continuous signals (hand position, running speed, ...) -> values in the bins of the spikes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Signal:
    """A signal that is sampled over a session; its samples are read when they are needed.

    Attributes
    ----------
    read : callable (i, j) -> (j - i, channels) array
        Samples i to j - 1.
    times : (n,) float, or None
        When each was taken, seconds, increasing; None where they are evenly spaced.
    n : int
        Number of samples.
    start, step : float
        Seconds: of the first sample, and from one to the next, where `times` is None.
    width : int
        Number of channels.
    units : str
    channels : tuple of str
        Names of the channels, or none.
    """

    read: Callable[[int, int], npt.NDArray[Any]]
    n: int
    times: Float64 | None = None
    start: float = 0.0
    step: float = 0.0
    width: int = 1
    units: str = ""
    channels: tuple[str, ...] = ()

    def index_after(self, time: float) -> int:
        """Return the number of samples before a time."""
        if self.times is not None:
            return int(np.searchsorted(self.times, time))
        place = np.ceil((time - self.start) / self.step - 1e-6)
        return int(min(max(place, 0), self.n))

    def times_of(self, i: int, j: int) -> Float64:
        """Return when samples i to j - 1 were taken."""
        if self.times is not None:
            return self.times[i:j]
        found: Float64 = self.start + self.step * np.arange(i, j, dtype=np.float64)
        return found

    @cached_property
    def usual_step(self) -> float:
        """Seconds from one sample to the next, typically."""
        if self.times is None:
            return self.step
        return float(np.median(np.diff(self.times))) if self.n > 1 else 0.0


def check(signal: Signal, name: str, where: object) -> None:
    """Refuse a signal whose times cannot be.

    Raises
    ------
    DataError
    """
    if signal.times is None:
        if not np.isfinite(signal.start) or not np.isfinite(signal.step) or signal.step <= 0:
            raise DataError(
                f"signal {name!r} starts at {signal.start} s in steps of {signal.step} s", where=where
            )
        return
    if signal.times.shape != (signal.n,):
        raise DataError(f"signal {name!r} has {signal.n} samples and {signal.times.size} times", where=where)
    if not np.isfinite(signal.times).all() or bool((np.diff(signal.times) < 0).any()):
        raise DataError(
            f"the times of signal {name!r} do not increase, or are not finite",
            where=where,
            hint="leave the signal out, or repair its times",
        )


def resample(signal: Signal, starts: npt.ArrayLike, n_bins: int, bin_s: float) -> Float64:
    """Return a signal in bins.

    A bin has the mean of the finite samples in it. A bin without samples, and every bin where samples are
    further apart than 1.5 bins, has the value at its middle of the line between neighbours. Where these are
    further apart than samples of this signal are (2.5 times the usual step), and beyond the ends: NaN.

    Parameters
    ----------
    signal : Signal
    starts : (E,) float
        Start of each window, seconds.
    n_bins : int
    bin_s : float
        Width of a bin, seconds.

    Returns
    -------
    (E, n_bins, channels) float64
    """
    widest = 2.5 * signal.usual_step
    windows = [
        _window(signal, float(start), n_bins, bin_s, widest)
        for start in np.atleast_1d(np.asarray(starts, float))
    ]
    return np.stack(windows)


def _window(signal: Signal, start: float, n_bins: int, bin_s: float, widest: float) -> Float64:
    slack = 1e-6 * bin_s
    first = signal.index_after(start - slack)
    last = signal.index_after(start + n_bins * bin_s - slack)
    i, j = max(first - 1, 0), min(last + 1, signal.n)  # with a neighbour at each end, to interpolate
    values = np.asarray(signal.read(i, j), dtype=np.float64).reshape(j - i, signal.width)
    times = signal.times_of(i, j)
    bins = np.floor((times - start) / bin_s + 1e-6).astype(np.int64)
    out = np.stack([_means(column, bins, n_bins) for column in values.T], axis=1)
    empty = ~np.isin(np.arange(n_bins), bins) | (signal.usual_step > 1.5 * bin_s)
    if empty.any():
        middles: Float64 = start + bin_s * (np.flatnonzero(empty).astype(np.float64) + 0.5)
        out[empty] = _between(times, values, middles, widest)
    return out


def _means(column: Float64, bins: npt.NDArray[np.int64], n_bins: int) -> Float64:
    use = np.isfinite(column) & (bins >= 0) & (bins < n_bins)
    counts = np.bincount(bins[use], minlength=n_bins)
    sums = np.bincount(bins[use], weights=column[use], minlength=n_bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Float64 = sums / counts
    return means


def _between(times: Float64, values: Float64, at: Float64, widest: float) -> Float64:
    """Return values on the lines between samples; NaN in wide gaps and further out than half a step."""
    out = np.full((len(at), values.shape[1]), np.nan)
    if not len(times):
        return out
    after = np.searchsorted(times, at)
    left, right = np.clip(after - 1, 0, len(times) - 1), np.clip(after, 0, len(times) - 1)
    gap = times[right] - times[left]
    inside = (after > 0) & (after < len(times)) & (gap <= widest)
    share = np.divide(at - times[left], gap, out=np.zeros_like(at), where=gap > 0)
    line = values[left] + share[:, None] * (values[right] - values[left])
    out[inside] = line[inside]
    nearest = np.where(after == 0, left, right)
    beyond = ((after == 0) | (after == len(times))) & (np.abs(at - times[nearest]) <= widest / 5)
    out[beyond] = values[nearest][beyond]
    return out
