"""How the data come from the factors: counts, values of any sign, positive values, values with exact zeros.

=================== ============================= ========================================================
output_dist         data                          outputs of the read-out, for each bin and neuron
=================== ============================= ========================================================
poisson             counts                        log mean
negative_binomial   counts                        log mean m, log dispersion a: variance m + a m^2
gaussian            any values                    mean, log variance
gamma               values above 0                log mean m, log shape k: variance m^2/k
zero_inflated_gamma values above 0, and zeros     log mean and log shape of what is above 0, and the logit of
                                                  its probability (Wei et al. 2020; RADICaL: Zhu et al. 2022,
                                                  doi 10.1038/s41593-022-01189-0)
=================== ============================= ========================================================

Rates are in counts per bin here. Costs are negative log-likelihoods, (T, B, D), without terms that depend on
the data alone; those are added per trial (`constant`), because computing log x! in every step costs more than
a recurrent product. For the same reason what depends on log-gamma functions of outputs is computed by
Stirling's series, shifted by 4, where its error is below that of float32; large terms cancel by hand, not in
float32.

Dispersions and shapes saturate smoothly at e^-9 and e^9.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.model.backend import Tensor, tf
from lfadsrm_hpc.model.hyperparameters import COUNT_DISTS

READ_OUTS: dict[str, tuple[str, ...]] = {
    "poisson": ("readout",),
    "negative_binomial": ("readout", "readout_logdisp"),
    "gaussian": ("readout", "readout_logvar"),
    "gamma": ("readout", "readout_logshape"),
    "zero_inflated_gamma": ("readout", "readout_logshape", "readout_logit"),
}
"""The groups of read-out parameters, in the order of the outputs."""

MAX_LOG_RATE = 80.0
MIN_MEAN = 1e-4  # floor of the mean whose log starts a read-out bias
FIRST_DISPERSION = 0.1
_BOUND = 9.0
_TINY = 1.2e-38  # smallest normal float32
_TABLED = 2**16  # counts below this take log x! from a table


def outputs_per_neuron(output_dist: str) -> int:
    """Return how many outputs the read-out has for each neuron."""
    return len(READ_OUTS[output_dist])


def cost(output_dist: str, x: Tensor, outputs: Tensor) -> Tensor:
    """Return the cost of each element, (T, B, D), from outputs (T, B, n D)."""
    return _COSTS[output_dist](x, *_split(output_dist, outputs))


def _split(output_dist: str, outputs: Tensor) -> list[Tensor]:
    count = outputs_per_neuron(output_dist)
    return [outputs] if count == 1 else tf.split(outputs, count, axis=-1)


def _poisson(x: Tensor, log_mean: Tensor) -> Tensor:
    return tf.exp(log_mean) - x * log_mean


def _negative_binomial(x: Tensor, log_mean: Tensor, log_dispersion: Tensor) -> Tensor:
    log_dispersion = _saturating(log_dispersion)
    size = tf.exp(-log_dispersion)
    ratio = log_mean + log_dispersion  # log(mean / size)
    return x * tf.math.softplus(-ratio) + size * tf.math.softplus(ratio) - _log_rising(size, x)


def _gaussian(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (logvar + tf.square(x - mean) * tf.exp(-logvar))


def _gamma(x: Tensor, log_mean: Tensor, log_shape: Tensor) -> Tensor:
    shape = tf.exp(_saturating(log_shape))
    log_ratio = tf.math.log(tf.maximum(x, _TINY)) - log_mean
    return shape * (tf.math.expm1(log_ratio) - log_ratio) + _log_gamma_rest(shape)


def _zero_inflated_gamma(x: Tensor, log_mean: Tensor, log_shape: Tensor, logit: Tensor) -> Tensor:
    above = x > 0
    there = _gamma(tf.where(above, x, tf.ones([], x.dtype)), log_mean, log_shape) + tf.math.softplus(-logit)
    return tf.where(above, there, tf.math.softplus(logit))


_COSTS: dict[str, Callable[..., Tensor]] = {
    "poisson": _poisson,
    "negative_binomial": _negative_binomial,
    "gaussian": _gaussian,
    "gamma": _gamma,
    "zero_inflated_gamma": _zero_inflated_gamma,
}


def _saturating(value: Tensor) -> Tensor:
    return _BOUND * tf.tanh(value * (1.0 / _BOUND))


def _stirling(y: Tensor) -> Tensor:
    """Return log Gamma(y) - [(y - 1/2) log y - y + log(2 pi)/2], for y of at least 4."""
    inverse = 1.0 / y
    square = inverse * inverse
    return inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0)))


def _log_rising(k: Tensor, x: Tensor) -> Tensor:
    """Return log Gamma(k + x) - log Gamma(k), without taking the difference of two large numbers."""
    y = k + 4.0
    shift = (1.0 + x / k) * (1.0 + x / (k + 1.0)) * (1.0 + x / (k + 2.0)) * (1.0 + x / (k + 3.0))
    series = (y - 0.5) * tf.math.log1p(x / y) + x * tf.math.log(y + x) - x + _stirling(y + x) - _stirling(y)
    return series - tf.math.log(shift)


def _log_gamma_rest(k: Tensor) -> Tensor:
    """Return log Gamma(k) - k log k + k."""
    y = k + 4.0
    shift = k * (k + 1.0) * (k + 2.0) * (k + 3.0)
    series = k * tf.math.log1p(4.0 / k) + 3.5 * tf.math.log(y) - 4.0 + _stirling(y)
    return series + 0.5 * math.log(2.0 * math.pi) - tf.math.log(shift)


def constant(output_dist: str, data: NDArray[Any], where: Any = True) -> NDArray[Any]:
    """Return for each trial, (E,), the part of the cost that depends on the data alone.

    For counts the sum of log x!; Gaussian: log(2 pi)/2 for each element; gamma: the sum of log x, without the
    zeros of the zero-inflated one. `where`, (E, T, D), says which elements count.
    """
    data = np.asarray(data)
    if output_dist in COUNT_DISTS:
        if np.issubdtype(data.dtype, np.integer) and data.max(initial=0) < _TABLED:
            each = np.array([math.lgamma(k + 1.0) for k in range(int(data.max(initial=0)) + 1)])[data]
        else:
            each = np.vectorize(math.lgamma, otypes=[float])(data + 1.0)
    elif output_dist == "gaussian":
        each = np.broadcast_to(0.5 * math.log(2.0 * math.pi), data.shape)
    else:
        each = np.log(np.where(data > 0, data, 1.0))
    return np.asarray(each.sum(axis=(1, 2), where=where))


def first_biases(output_dist: str, data: NDArray[Any], where: Any = True) -> dict[str, Any]:
    """Return how the biases of each read-out group start, (D,) each or one number, from the training data.

    `where`, (E, T, D), says which elements count.
    """
    where = np.broadcast_to(where, data.shape)
    counted = np.maximum(where.sum(axis=(0, 1)), 1)
    mean = data.sum(axis=(0, 1), where=where) / counted
    if output_dist == "gaussian":
        return {"readout": mean, "readout_logvar": 1.0}
    found: dict[str, Any] = {}
    if output_dist == "negative_binomial":
        found["readout_logdisp"] = math.log(FIRST_DISPERSION)
    if output_dist in ("gamma", "zero_inflated_gamma"):
        found["readout_logshape"] = 0.0
    if output_dist == "zero_inflated_gamma":
        above = (where & (data > 0)).sum(axis=(0, 1))
        mean = mean * counted / np.maximum(above, 1)
        part = np.clip(above / counted, 0.01, 0.99)
        found["readout_logit"] = np.log(part / (1.0 - part))
    return {"readout": np.log(np.maximum(mean, MIN_MEAN)), **found}


def parameters(output_dist: str, outputs: Tensor) -> Tensor:
    """Return what is saved: rates in counts per bin, or means then variances along the last axis."""
    first, *others = _split(output_dist, outputs)
    if output_dist == "gaussian":
        return tf.concat([first, tf.exp(others[0])], -1)
    mean = _exp(first)
    if output_dist in COUNT_DISTS:
        return mean
    log_shape = _saturating(others[0])
    if output_dist == "gamma":
        return tf.concat([mean, _exp(2.0 * first - log_shape)], -1)
    part = tf.sigmoid(others[1])
    variance = part * (_exp(2.0 * first - log_shape) + (1.0 - part) * _exp(2.0 * first))
    return tf.concat([part * mean, variance], -1)


def _exp(value: Tensor) -> Tensor:
    return tf.exp(tf.clip_by_value(value, -MAX_LOG_RATE, MAX_LOG_RATE))
