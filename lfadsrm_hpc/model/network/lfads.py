"""The forward pass of the LFADS model, time-major: (T, B, ...).

Pandarinath et al., Nature Methods 2018 (doi 10.1038/s41592-018-0109-9); Sussillo et al., arXiv 1608.06315.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lfadsrm_hpc.model.backend import Tensor, tf
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.network import decoder, encoder, likelihoods, priors
from lfadsrm_hpc.model.network.architecture import Architecture, Params
from lfadsrm_hpc.model.network.noise import Noise

NOISE_COORDINATED, NOISE_IC = 1, 2


class Withheld(NamedTuple):
    """Elements of a batch that are only scored (`sample_validation`): which, (T, B, width) bool; for each
    trial, (B,), the part of their cost that is constant, and how many they are.
    """

    mask: Tensor
    constant: Tensor
    count: Tensor


class Batch(NamedTuple):
    """One batch, all of one session, time-major.

    x : (T, B, width) data, 0 in padding; session : scalar index; constant : (B,), see `likelihoods`;
    observed : (width,) 1 for neurons that the encoders see, or None; mask : (width,) 1 for neurons that
    exist, or None; ext : (T, B, I) or None; withheld : None without sample validation, and at inference,
    where the model sees all of the data.
    """

    x: Tensor
    session: Tensor
    constant: Tensor
    observed: Tensor | None
    mask: Tensor | None
    ext: Tensor | None
    withheld: Withheld | None = None


class Result(NamedTuple):
    """What one forward pass gives; costs are per trial, (B,), sums over bins, neurons and dimensions.

    With sample validation `recon` is the cost of the other elements, divided by their part of all, so that
    its expectation is that of the whole; `withheld`, (2, B), holds the cost of the withheld ones, and how
    many they are.
    """

    recon: Tensor
    kl_ic: Tensor
    kl_co: Tensor
    correlation: Tensor
    ic_mean: Tensor
    ic_logvar: Tensor
    prior_mean: Tensor
    prior_logvar: Tensor
    decoded: decoder.Decoded
    outputs: Tensor
    withheld: Tensor | None


def initial_prior(params: Params, hp: Hyperparameters) -> tuple[Tensor, Tensor]:
    """Return mean and log-variance of the initial condition's prior, (ic_dim,) each."""
    raw = params["ic_prior/logvar"]
    if hp.ic_prior_var_max > hp.ic_prior_var_min:
        return params["ic_prior/mean"], priors.bounded_logvar(raw, hp.ic_prior_var_min, hp.ic_prior_var_max)
    return params["ic_prior/mean"], raw


def forward(
    params: Params,
    arch: Architecture,
    batch: Batch,
    *,
    training: bool,
    noise: Noise | None = None,
    samples: int = 1,
    ic_noise: Tensor | None = None,
    co_noise: Tensor | None = None,
) -> Result:
    """Run the model on one batch.

    Parameters
    ----------
    training : whether dropout and coordinated dropout act.
    noise : random numbers of this step; None for no dropout.
    samples : posterior samples of each trial; decoded rows are ordered trial by trial, B*samples of them.
    ic_noise : (B*samples, ic_dim) standard normal numbers, drawn from `noise` if not given; without both,
        the posterior mean itself is used.
    co_noise : (T, B*samples, co_dim), likewise.

    Returns
    -------
    Result
        Per-trial costs have B*samples rows.
    """
    hp, size = arch.hp, batch.x.shape[1]
    keep = hp.keep_prob if training else 1.0
    seen, hidden = _visible(arch, batch, noise if training else None)
    encoded = encoder.encode(params, arch, seen, batch.session, batch.ext, noise, keep)
    rows = size * samples
    if hp.ic_dim:
        if ic_noise is None and noise is not None:
            ic_noise = noise.normal(NOISE_IC, [rows, hp.ic_dim], batch.x.dtype)
        mean, logvar = (_repeat(v, samples, 0) for v in (encoded.mean, encoded.logvar))
        z = mean if ic_noise is None else mean + ic_noise * tf.exp(0.5 * logvar)
        prior_mean, prior_logvar = initial_prior(params, hp)
        kl_ic = tf.reduce_sum(priors.kl_gaussian(mean, logvar, prior_mean, prior_logvar), 1)
    else:
        mean = logvar = tf.zeros([rows, 0], batch.x.dtype)
        prior_mean = prior_logvar = tf.zeros([0], batch.x.dtype)
        z, kl_ic = None, tf.zeros([rows], batch.x.dtype)
    x = _repeat(batch.x, samples, 1)
    ext = None if batch.ext is None else _repeat(batch.ext, samples, 1)
    ci = None if encoded.ci is None else _repeat(encoded.ci, samples, 1)
    decoded = decoder.decode(
        params, arch, z, ci, ext, batch.session, rows=rows, noise=noise, co_noise=co_noise, keep=keep
    )
    kl_co = correlation = tf.zeros([rows], batch.x.dtype)
    if hp.co_dim:
        prior = params["co_prior/log_tau"], params["co_prior/log_evar"]
        kl_co = priors.kl_ar1(decoded.u, decoded.co_mean, decoded.co_logvar, *prior)
        correlation = priors.mean_correlation(decoded.co_mean)
    outputs = decoder.read_out(params, arch, decoded.factors, batch.session)
    recon, withheld = _reconstruction(arch, x, outputs, batch, hidden)
    recon = recon + _repeat(batch.constant, samples, 0)
    posterior = mean, logvar, prior_mean, prior_logvar
    return Result(recon, kl_ic, kl_co, correlation, *posterior, decoded, outputs, withheld)


def _repeat(v: Tensor, samples: int, axis: int) -> Tensor:
    return v if samples == 1 else tf.repeat(v, samples, axis=axis)


def _visible(arch: Architecture, batch: Batch, noise: Noise | None) -> tuple[Tensor, Tensor | None]:
    """Return what the encoders see of the data, and where coordinated dropout lets gradients flow.

    Held-out neurons and the bins of forward prediction are 0 for the encoders, and so are the elements of
    sample validation, for which the others are scaled up. Coordinated dropout (Keshtkaran & Pandarinath
    2019): each element is either an input, scaled up, or counts for the gradient.
    """
    hp, x = arch.hp, batch.x
    scored = None
    if batch.withheld is not None:
        zero = tf.zeros([], x.dtype)
        x = tf.where(batch.withheld.mask, zero, x * (1.0 / (1.0 - hp.sample_validation_rate)))
    rate = hp.coordinated_dropout_rate
    if rate > 0 and noise is not None:
        kept = noise.kept(NOISE_COORDINATED, x.shape, 1.0 - rate)
        scored = tf.logical_not(kept)
        x = tf.where(kept, x * (1.0 / (1.0 - rate)), tf.zeros([], x.dtype))
    if batch.observed is not None:
        x = x * batch.observed
        if scored is not None:
            scored = tf.logical_or(scored, batch.observed < 0.5)
    ahead = hp.forward_prediction_bins
    if ahead:
        shown = (np.arange(arch.bins) < arch.bins - ahead)[:, None, None]
        x = x * tf.constant(shown, x.dtype)
        if scored is not None:
            scored = tf.logical_or(scored, tf.constant(~shown))
    return x, scored


def _reconstruction(
    arch: Architecture, x: Tensor, outputs: Tensor, batch: Batch, scored: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return the cost of reconstruction per row, without constants, and `Result.withheld`.

    Gradients flow only where `scored`, and never where an element is withheld.
    """
    cost = likelihoods.cost(arch.hp.output_dist, x, outputs)
    if scored is not None:
        cost = tf.where(scored, cost, tf.stop_gradient(cost))
    if batch.mask is not None:
        cost = cost * batch.mask
    if batch.withheld is None:
        return tf.reduce_sum(cost, [0, 2]), None
    mask, constant, count = batch.withheld
    zero = tf.zeros([], cost.dtype)
    apart = tf.reduce_sum(tf.where(mask, tf.stop_gradient(cost), zero), [0, 2]) + constant
    part = 1.0 - arch.hp.sample_validation_rate
    return tf.reduce_sum(tf.where(mask, zero, cost), [0, 2]) * (1.0 / part), tf.stack([apart, count])
