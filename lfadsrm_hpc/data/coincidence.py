"""Pairs of neurons that fire in the same bin far too often: duplicates, split units, cross-talk.

LFADS explains shared spikes with shared dynamics, so a unit that was recorded twice looks like a very
reliable factor, and a generator or controller learns single spikes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_MAX_MULTIPLICATIONS = 4e9  # for each of the four products; more trials than this allows are not looked at
_BLOCK_BYTES = 2**26


@dataclass(frozen=True)
class CoincidentPair:
    """Two neurons, and what made them suspicious.

    Attributes
    ----------
    first, second : int
        Positions along the neuron axis.
    fraction : float
        Coincidences beyond the expected ones, as a part of the rarer neuron's spikes.
    expected_fraction : float
        Coincidences that the rates predict, as a part of the rarer neuron's spikes.
    z : float
        How many standard errors the coincidences are beyond what the rates could give at most.
    """

    first: int
    second: int
    fraction: float
    expected_fraction: float
    z: float


def coincident_pairs(
    counts: npt.NDArray[Any], *, min_fraction: float = 0.2, min_z: float = 6.0
) -> list[CoincidentPair]:
    """Find pairs whose spikes fall into the same bin far more often than their rates can explain.

    Two bounds on the number of spike pairs in the same bin, C_0, each good where the other is weak:

    - Rates that change little from bin to bin make C_k, the number of pairs at lag k (mean of both
      directions), a smooth function of k with its top or bottom at 0. So `(4 C_1 - C_2) / 3`, the parabola
      through lags 1 and 2, predicts C_0, whatever the rates share: stimulus, slow gain, dynamics. It is a
      poor guide in wide bins; `|C_1 - C_2|` is allowed on top.
    - Rates of any speed: with independent Poisson counts x and y of rates r and s in each bin,
      `E[C_0] = sum r s <= sqrt(sum r^2 sum s^2)` (Cauchy and Schwarz), and `sum x (x - 1)` estimates
      `sum r^2`. In bins so narrow that no neuron fires twice it says nothing, but there the first is good.

    A pair is reported where C_0 is more than `min_z` standard errors above both, and where what is beyond the
    expected is at least `min_fraction` of the spikes of the rarer neuron.

    Parameters
    ----------
    counts : (E, T, D) array
        Counts a bin, not negative.
    min_fraction, min_z : float

    Returns
    -------
    list of CoincidentPair
        Worst first. Empty where there are fewer than five bins.
    """
    n_trials, n_time, n_neurons = counts.shape
    if n_time < 5 or n_neurons < 2:
        return []
    most = max(20, int(_MAX_MULTIPLICATIONS / (n_time * n_neurons**2)))
    if n_trials > most:
        counts = counts[np.linspace(0, n_trials - 1, most).astype(int)]
    c0, c1, c2, spread = _lagged_products(counts)
    spikes = counts.sum(axis=(0, 1), dtype=np.float64)
    twice = np.diagonal(c0) - spikes  # sum of x (x - 1)
    bound = np.sqrt(np.maximum(twice[:, None] * twice[None, :], 0.0))
    parabola = (4.0 * c1 - c2) / 3.0
    expected = np.maximum(parabola, bound)
    excess = c0 - expected
    # var C_1 = var C_2 = spread / 2 (two directions): 1 + 16/18 + 1/18 = 1.94 times that of one product sum
    error = np.sqrt(1.95 * np.maximum(spread, 1.0))
    rarer = np.maximum(np.minimum(spikes[:, None], spikes[None, :]), 1.0)
    z = (c0 - np.maximum(parabola + np.abs(c1 - c2), bound)) / error
    suspicious = np.triu((z > min_z) & (excess > min_fraction * rarer), k=1)
    pairs = [
        CoincidentPair(
            int(i),
            int(j),
            float(excess[i, j] / rarer[i, j]),
            float(expected[i, j] / rarer[i, j]),
            float(z[i, j]),
        )
        for i, j in np.argwhere(suspicious)
    ]
    return sorted(pairs, key=lambda pair: -pair.fraction)


def _lagged_products(counts: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], ...]:
    """Return C_0, C_1, C_2 and the sum of squared products at lag 1, each (D, D), for all T bins."""
    n_trials, n_time, n_neurons = counts.shape
    sums = np.zeros((4, n_neurons, n_neurons))
    step = max(1, _BLOCK_BYTES // (4 * n_time * n_neurons))
    for start in range(0, n_trials, step):
        block = counts[start : start + step].astype(np.float32)
        for row, (values, lag) in enumerate([(block, 0), (block, 1), (block, 2), (block**2, 1)]):
            early = values[:, : n_time - lag].reshape(-1, n_neurons)
            late = values[:, lag:].reshape(-1, n_neurons)
            sums[row] += early.T @ late
    sums = 0.5 * (sums + sums.transpose(0, 2, 1))
    sums *= (n_time / (n_time - np.array([0.0, 1.0, 2.0, 1.0])))[:, None, None]
    return sums[0], sums[1], sums[2], sums[3]
