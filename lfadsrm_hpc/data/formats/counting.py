"""Spike times of a recording -> counts in the bins of trials."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

_BLOCK = 512


def count(times: Float64, starts: Float64, n_bins: int, bin_s: float) -> npt.NDArray[np.int64]:
    """Count spikes in the bins of windows that may overlap.

    Parameters
    ----------
    times : (n,) float
        In order.
    starts : (E,) float
    n_bins : int
    bin_s : float

    Returns
    -------
    (E, n_bins) int64
        A spike on an edge belongs to the bin that starts there.
    """
    slack = 1e-6 * bin_s  # what is left of a time like 0.3 after some arithmetic
    first = np.searchsorted(times, starts - slack)
    last = np.searchsorted(times, starts + n_bins * bin_s - slack)
    lengths = last - first
    trial = np.repeat(np.arange(len(starts)), lengths)
    index = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) + first[trial]
    bins = np.floor((times[index] - starts[trial]) / bin_s + 1e-6).astype(np.int64)
    flat = trial * n_bins + np.clip(bins, 0, n_bins - 1)
    return np.bincount(flat, minlength=len(starts) * n_bins).reshape(len(starts), n_bins)


def count_all(
    trains: Iterable[Float64], n_neurons: int, starts: Float64, n_bins: int, bin_s: float
) -> npt.NDArray[np.int64]:
    """Count the spikes of every neuron, (E, n_bins, D); see `count`.

    Neuron by neuron into small numbers, and turned in blocks: to write every D-th number of a large array
    takes much longer.
    """
    n_rows = len(starts) * n_bins
    small = np.zeros((n_neurons, n_rows), dtype=np.uint16)
    for place, times in enumerate(trains):
        counted = count(times, starts, n_bins, bin_s).ravel()
        if counted.max(initial=0) > np.iinfo(small.dtype).max:
            small = small.astype(np.int64)
        small[place] = counted
    out = np.empty((n_rows, n_neurons), dtype=np.int64)
    for first in range(0, n_rows, _BLOCK):
        out[first : first + _BLOCK] = small[:, first : first + _BLOCK].T
    return out.reshape(len(starts), n_bins, n_neurons)
