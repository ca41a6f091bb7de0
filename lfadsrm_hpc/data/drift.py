"""Rates that change over a session, judged against what its own trials scatter.

Everything starts from spikes per trial and neuron, in the order in which the trials were recorded. What
conditions explain is taken out of the spikes and of the time alike (the theorem of Frisch, Waugh and Lovell),
so that a block of another condition is no drift. The error of a slope comes from blocks of consecutive
trials (a cluster-robust variance, Liang and Zeger 1986): bursts, over-dispersion and slow fluctuations that
last less than a block are in it, and Poisson noise need not be assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

BLOCKS = 12
_FEWEST_BLOCKS = 8
_TRIALS_A_BLOCK = 3
_LEFT_OF_TIME = 0.2  # so much of the time's variance must be left once conditions are taken out


@dataclass(frozen=True)
class Trend:
    """A straight line through the spikes of each trial; one value a neuron.

    Attributes
    ----------
    change : (D,)
        From the first trial to the last, as a part of the mean.
    p : (D,)
        How probable a line so steep is where there is none (two-sided); 1 where it cannot be told.
    first, last : (D,)
        Mean of the first and of the last third of the trials, spikes a trial.
    """

    change: Float64
    p: Float64
    first: Float64
    last: Float64


def blocks_of(n_trials: int) -> Array | None:
    """Return the block of each trial; None: there are too few trials."""
    blocks = min(BLOCKS, n_trials // _TRIALS_A_BLOCK)
    return np.arange(n_trials) * blocks // n_trials if blocks >= _FEWEST_BLOCKS else None


def condition_codes(condition: Array | None, n_trials: int) -> Array:
    """Return the condition of each trial as a number; all alike where most trials are alone in theirs."""
    if condition is None:
        return np.zeros(n_trials, int)
    _, codes = np.unique(np.asarray([str(one) for one in condition]), return_inverse=True)
    return codes if codes.max(initial=0) < n_trials // 3 else np.zeros(n_trials, int)


def trend(spikes: Array, condition: Array | None = None) -> Trend | None:
    """Measure the trend of each column over trials.

    Parameters
    ----------
    spikes : (E, D) array
        Of each trial, in the order of the session.
    condition : (E,) array, optional

    Returns
    -------
    Trend or None
        None: there are too few trials, or conditions come in blocks, so that they cannot be told from drift.
    """
    from scipy.special import stdtr

    n_trials, n_columns = spikes.shape
    blocks = blocks_of(n_trials)
    if blocks is None:
        return None
    codes = condition_codes(condition, n_trials)
    time = np.linspace(-0.5, 0.5, n_trials)[:, None]
    left = time - _means(time, codes)
    if (left**2).sum() < _LEFT_OF_TIME * (time**2).sum():
        return None
    values = spikes.astype(np.float64)
    residual = values - _means(values, codes)
    power = float((left**2).sum())
    slope = (left * residual).sum(axis=0) / power
    scores = left * (residual - slope * left)
    count = int(blocks[-1]) + 1
    of_blocks = np.zeros((count, n_columns))
    np.add.at(of_blocks, blocks, scores)
    error = np.sqrt((of_blocks**2).sum(axis=0) * count / (count - 2)) / power
    mean = values.mean(axis=0)
    known = (error > 0) & (mean > 0)
    t = np.divide(np.abs(slope), error, out=np.zeros(n_columns), where=known)
    p = np.where(known, 2 * stdtr(count - 2, -t), 1.0)
    third = max(1, n_trials // 3)
    change = np.divide(slope, mean, out=np.zeros(n_columns), where=known)
    return Trend(change, p, values[:third].mean(axis=0), values[-third:].mean(axis=0))


@dataclass(frozen=True)
class Gone:
    """A neuron that fires in a part of the session only.

    Attributes
    ----------
    neuron : int
    trial : int
        The first trial without it, or with it.
    appears : bool
        It is not there before; else not after.
    spikes, expected : float
        In the trials without it, and what the others let expect of them.
    """

    neuron: int
    trial: int
    appears: bool
    spikes: float
    expected: float


def gone(
    spikes: Array, condition: Array | None = None, *, min_expected: float = 20.0, most: float = 0.05
) -> list[Gone]:
    """Find neurons that fall silent, or appear, within the session.

    At each border of two blocks, what the trials of one side let expect of the other, condition by condition,
    is compared with the spikes there. Poisson counts with a mean of 20 are at most 1 with a probability of
    4e-8; counts of a negative binomial with a Fano factor of 6 still with 2e-4.

    Parameters
    ----------
    spikes : (E, D) array
        Of each trial, in the order of the session.
    condition : (E,) array, optional
    min_expected : float
        So many spikes must be expected where they are missing.
    most : float
        So many of them, as a part, may be there.

    Returns
    -------
    list of Gone
        By neuron; of each the longest stretch.
    """
    n_trials, _ = spikes.shape
    blocks = blocks_of(n_trials)
    if blocks is None:
        return []
    codes = condition_codes(condition, n_trials)
    values = spikes.astype(np.float64)
    found: dict[int, Gone] = {}
    borders = np.flatnonzero(np.diff(blocks)) + 1
    cases = [(b, False) for b in borders] + [(b, True) for b in borders[::-1]]  # the longest stretch first
    for border, appears in cases:
        inside = np.arange(n_trials) < border if appears else np.arange(n_trials) >= border
        expected = _expected(values[~inside], codes[~inside], codes[inside])
        there = values[inside].sum(axis=0)
        for neuron in np.flatnonzero((expected >= min_expected) & (there <= most * expected)):
            one = Gone(int(neuron), int(border), appears, float(there[neuron]), float(expected[neuron]))
            found.setdefault(int(neuron), one)
    return [found[neuron] for neuron in sorted(found)]


def _means(values: Float64, codes: Array) -> Float64:
    """Return for each trial the mean of its condition."""
    count = int(codes.max()) + 1
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, codes, values)
    means: Float64 = (sums / np.maximum(np.bincount(codes, minlength=count), 1)[:, None])[codes]
    return means


def _expected(values: Float64, codes: Array, wanted: Array) -> Float64:
    """Return the sum that trials of the conditions `wanted` would have, by the means of other trials."""
    count = int(max(codes.max(initial=0), wanted.max(initial=0))) + 1
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, codes, values)
    means = sums / np.maximum(np.bincount(codes, minlength=count), 1)[:, None]
    expected: Float64 = np.bincount(wanted, minlength=count) @ means
    return expected
