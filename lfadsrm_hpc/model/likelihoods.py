"""How the data come from the factors: Poisson counts, or Gaussian values.

Rates are in counts per bin here. Costs are negative log-likelihoods, (T, B, D), without terms that depend on
the data alone; those are added per trial (`constant`), because computing log x! in every step costs more than
a recurrent product.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.model.backend import Tensor, tf

MAX_LOG_RATE = 80.0


def outputs_per_neuron(output_dist: str) -> int:
    """Return 1 for Poisson (log-rate) and 2 for Gaussian (mean, log-variance)."""
    return 2 if output_dist == "gaussian" else 1


def cost(output_dist: str, x: Tensor, outputs: Tensor) -> Tensor:
    """Return the cost of each element, (T, B, D), from outputs (T, B, D) or (T, B, 2D)."""
    if output_dist == "gaussian":
        mean, logvar = tf.split(outputs, 2, axis=2)
        return 0.5 * (logvar + tf.square(x - mean) * tf.exp(-logvar))
    return tf.exp(outputs) - x * outputs


def constant(output_dist: str, data: NDArray[Any]) -> NDArray[Any]:
    """Return for each trial, (E,), the part of the cost that depends on the data alone.

    Poisson: the sum of log x!; Gaussian: log(2 pi)/2 for each element.
    """
    if output_dist == "gaussian":
        return np.full(len(data), 0.5 * math.log(2 * math.pi) * data.shape[1] * data.shape[2])
    counts = np.asarray(data)
    table = np.array([math.lgamma(k + 1.0) for k in range(int(counts.max(initial=0)) + 1)])
    if np.issubdtype(counts.dtype, np.integer):
        return np.asarray(table[counts].sum(axis=(1, 2)))
    return np.asarray(np.vectorize(math.lgamma, otypes=[float])(counts + 1.0).sum(axis=(1, 2)))


def parameters(output_dist: str, outputs: Tensor) -> Tensor:
    """Return what is saved: rates in counts per bin, or means then variances along the last axis."""
    if output_dist == "gaussian":
        mean, logvar = tf.split(outputs, 2, axis=-1)
        return tf.concat([mean, tf.exp(logvar)], -1)
    return tf.exp(tf.clip_by_value(outputs, -MAX_LOG_RATE, MAX_LOG_RATE))
