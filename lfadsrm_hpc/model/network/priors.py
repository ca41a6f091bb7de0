"""Priors of the initial condition and of the inferred inputs, and the divergences from them.

All sums run over dimensions (and bins), so that what comes out is one number a trial, (B,).
"""

from __future__ import annotations

import math

from lfadsrm_hpc.model.backend import Tensor, tf


def kl_gaussian(mean: Tensor, logvar: Tensor, prior_mean: Tensor, prior_logvar: Tensor) -> Tensor:
    """Return KL(N(mean, e^logvar) || N(prior_mean, e^prior_logvar)) of each element."""
    squares = tf.exp(logvar) + tf.square(mean - prior_mean)
    return 0.5 * (prior_logvar - logvar + squares * tf.exp(-prior_logvar) - 1.0)


def log_normal(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """Return log N(x; mean, e^logvar) of each element."""
    return -0.5 * (math.log(2.0 * math.pi) + logvar + tf.square(x - mean) * tf.exp(-logvar))


def bounded_logvar(raw: Tensor, var_min: float, var_max: float) -> Tensor:
    """Return the log of a variance that lies between two bounds, from an unbounded number.

    The original's parametrisation reaches only the upper half of the range; this one reaches all of it.
    """
    return tf.math.log(var_min + (var_max - var_min) * tf.sigmoid(raw))


def raw_variance(variance: float, var_min: float, var_max: float) -> float:
    """Return the number at which `bounded_logvar` gives log(variance), kept off the bounds by 1 %."""
    part = min(max((variance - var_min) / (var_max - var_min), 0.01), 0.99)
    return math.log(part / (1.0 - part))


def _ar1(u: Tensor, log_tau: Tensor, log_evar: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and log-variance of the AR(1) prior at each bin given the bin before.

    phi = exp(-1/tau), innovation variance e; at the first bin the stationary N(0, e/(1 - phi^2)).
    """
    phi = tf.exp(-tf.exp(-log_tau))
    before = tf.concat([tf.zeros_like(u[:1]), u[:-1]], 0)
    first = log_evar - tf.math.log1p(-tf.square(phi))
    rest = tf.broadcast_to(log_evar, [u.shape[0] - 1, *log_evar.shape])
    return phi * before, tf.concat([first[None], rest], 0)[:, None, :]


def kl_ar1(u: Tensor, mean: Tensor, logvar: Tensor, log_tau: Tensor, log_evar: Tensor) -> Tensor:
    """Return the divergence of q(u_t) = N(mean_t, e^logvar_t) from the AR(1) prior, per trial.

    The samples u (T, B, U) are those that drove the generator; given u_{t-1}, each bin's term has a closed
    form, which has the same expectation as log q - log p and less variance.
    """
    prior_mean, prior_logvar = _ar1(u, log_tau, log_evar)
    return tf.reduce_sum(kl_gaussian(mean, logvar, prior_mean, prior_logvar), [0, 2])


def log_ratio_ar1(u: Tensor, mean: Tensor, logvar: Tensor, log_tau: Tensor, log_evar: Tensor) -> Tensor:
    """Return log q(u) - log p(u) of the samples themselves, per trial, as importance weights need it."""
    prior_mean, prior_logvar = _ar1(u, log_tau, log_evar)
    ratio = log_normal(u, mean, logvar) - log_normal(u, prior_mean, prior_logvar)
    return tf.reduce_sum(ratio, [0, 2])


def mean_correlation(mean: Tensor) -> Tensor:
    """Return the mean over pairs i<j of (sum_t mu_i mu_j)^2 / 2, per trial; 0 with fewer than 2 inputs."""
    width = mean.shape[2]
    if width < 2:
        return tf.zeros([mean.shape[1]], mean.dtype)
    products = tf.einsum("tbi,tbj->bij", mean, mean)
    squares = tf.square(products)
    above = 0.5 * (tf.reduce_sum(squares, [1, 2]) - tf.reduce_sum(tf.linalg.diag_part(squares), 1))
    return above / (width * (width - 1))
