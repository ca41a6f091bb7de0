"""The LFADS model: its shape, its parameters, and its forward pass.

Pandarinath et al., Nature Methods 2018 (doi 10.1038/s41592-018-0109-9); Sussillo et al., arXiv 1608.06315.
Parameters are a dictionary name -> tensor, kept as slices of one vector so that the optimiser is a handful of
operations. Sessions are padded to the widest one and their read-ins and read-outs stacked, (S, D, F), so that
one compiled function serves all. Everything runs time-major: (T, B, ...).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.errors import ParamsError
from lfadsrm_hpc.model import decoder, encoder, likelihoods, priors
from lfadsrm_hpc.model.backend import Tensor, tf
from lfadsrm_hpc.model.hyperparameters import NOT_YET, Hyperparameters
from lfadsrm_hpc.model.noise import Noise
from lfadsrm_hpc.model.session import Session, check_together

Params = dict[str, Tensor]

NOISE_COORDINATED, NOISE_IC = 1, 2


@dataclass(frozen=True)
class Architecture:
    """Every static size of a model, from hyperparameters and the shapes of the sessions.

    Parameters
    ----------
    hp : Hyperparameters
    names : names of the sessions.
    neurons : number of neurons of each.
    bins : T.
    has_readin : whether a read-in matrix stands before the encoders.
    """

    hp: Hyperparameters
    names: tuple[str, ...]
    neurons: tuple[int, ...]
    bins: int
    has_readin: bool

    @classmethod
    def of(cls, hp: Hyperparameters, sessions: Sequence[Session]) -> Architecture:
        """Return the architecture for these sessions; DataError or ParamsError if there is none."""
        check_together(sessions, ext_input_dim=hp.ext_input_dim, factors_dim=hp.factors_dim)
        if len(sessions) > 1 and hp.co_dim and hp.feedback_factors_or_rates == "rates":
            raise ParamsError(
                "feedback_factors_or_rates = 'rates' is possible with one dataset only",
                hint="set it to 'factors' for stitched runs",
            )
        if hp.forward_prediction_bins >= sessions[0].bins:
            raise ParamsError(
                f"forward_prediction_bins = {hp.forward_prediction_bins} leaves the encoders none of the "
                f"{sessions[0].bins} bins"
            )
        for name, off in NOT_YET.items():
            if getattr(hp, name) != off:
                raise ParamsError(f"{name} is not available yet", hint=f"leave it at {off}")
        return cls(
            hp=hp,
            names=tuple(session.name for session in sessions),
            neurons=tuple(session.neurons for session in sessions),
            bins=sessions[0].bins,
            has_readin=len(sessions) > 1 or sessions[0].alignment_matrix is not None,
        )

    @property
    def width(self) -> int:
        """Neurons of the widest session."""
        return max(self.neurons)

    @property
    def encoder_width(self) -> int:
        """Channels that the encoders see in each bin."""
        ext = 0 if self.hp.inject_ext_input_to_gen else self.hp.ext_input_dim
        return (self.hp.factors_dim if self.has_readin else self.width) + ext

    @property
    def generator_inputs(self) -> int:
        ext = self.hp.ext_input_dim if self.hp.inject_ext_input_to_gen else 0
        return self.hp.co_dim + ext

    @property
    def feedback_width(self) -> int:
        """Channels that the controller sees of the bin before."""
        if not self.hp.do_feed_factors_to_controller:
            return 0
        return self.width if self.hp.feedback_factors_or_rates == "rates" else self.hp.factors_dim

    @property
    def ic_steps(self) -> int:
        """Bins that the initial-condition encoders see."""
        seen = self.bins - self.hp.forward_prediction_bins
        return min(self.hp.num_steps_for_gen_ic or seen, seen)

    @property
    def neuron_mask(self) -> NDArray[np.float32] | None:
        """(S, width), 1 where a session has a neuron; None where no session is padded."""
        if len(set(self.neurons)) == 1:
            return None
        return (np.arange(self.width) < np.array(self.neurons)[:, None]).astype(np.float32)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter, in the order of the parameter vector.

        Encoders have a first axis: forward, backward; read-ins and read-outs have one for the sessions. The
        columns of `ic` and `co` are means, then log-variances.
        """
        hp, count, width, factors = self.hp, len(self.names), self.width, self.hp.factors_dim
        shapes: dict[str, tuple[int, ...]] = {}

        def gru(
            name: str, inputs: int, units: int, first: tuple[int, ...] = (), initial: bool = True
        ) -> None:
            if inputs:
                shapes[f"{name}/W_x"] = (*first, inputs, 3 * units)
            shapes.update({f"{name}/W_ru": (*first, units, 2 * units), f"{name}/W_c": (*first, units, units)})
            shapes[f"{name}/b"] = (*first, 3 * units)
            if initial:
                shapes[f"{name}/h0"] = (*first, units)

        def linear(name: str, inputs: int, outputs: int) -> None:
            shapes.update({f"{name}/W": (inputs, outputs), f"{name}/b": (outputs,)})

        if self.has_readin:
            shapes.update({"readin/W": (count, width, factors), "readin/b": (count, factors)})
        if hp.ic_dim:
            gru("ic_enc", self.encoder_width, hp.ic_enc_dim, (2,))
            linear("ic", 2 * hp.ic_enc_dim, 2 * hp.ic_dim)
            shapes.update({"ic_prior/mean": (hp.ic_dim,), "ic_prior/logvar": (hp.ic_dim,)})
            if hp.ic_dim != hp.gen_dim:
                linear("gen/from_ic", hp.ic_dim, hp.gen_dim)
        else:
            shapes["gen/h0"] = (hp.gen_dim,)
        if hp.co_dim:
            sides = 1 if hp.do_causal_controller else 2
            gru("ci_enc", self.encoder_width, hp.ci_enc_dim, (sides,))
            gru("con", sides * hp.ci_enc_dim + self.feedback_width, hp.con_dim)
            linear("co", hp.con_dim, 2 * hp.co_dim)
            shapes.update({"co_prior/log_tau": (hp.co_dim,), "co_prior/log_evar": (hp.co_dim,)})
        gru("gen", self.generator_inputs, hp.gen_dim, initial=False)
        shapes["factors/W"] = (hp.gen_dim, factors)
        shapes.update({"readout/W": (count, factors, width), "readout/b": (count, width)})
        if hp.output_dist == "gaussian":
            shapes.update({"readout_logvar/W": (count, factors, width), "readout_logvar/b": (count, width)})
        return shapes

    @cached_property
    def sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes.values()]

    def unpack(self, theta: Tensor) -> Params:
        """Return the parameters by name, from the vector of all of them."""
        parts = tf.split(theta, self.sizes)
        return {n: tf.reshape(part, s) for (n, s), part in zip(self.shapes.items(), parts, strict=True)}

    def pack(self, arrays: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the vector of all parameters; the inverse of `unpack` on arrays."""
        flat = [np.asarray(arrays[name], np.float32).reshape(-1) for name in self.shapes]
        return np.concatenate(flat)

    def named(self, theta: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, from the vector of all of them."""
        parts = np.split(np.asarray(theta), np.cumsum(self.sizes)[:-1])
        return {n: part.reshape(s) for (n, s), part in zip(self.shapes.items(), parts, strict=True)}

    def is_trained(self, name: str) -> bool:
        """Return whether training changes this parameter."""
        hp, group = self.hp, name.split("/")[0]
        if hp.do_train_io_only and group not in ("readin", "readout", "readout_logvar"):
            return False
        if hp.do_train_encoder_only and group not in ("ic_enc", "ci_enc", "ic"):
            return False
        return {
            "readin/W": hp.do_train_readin,
            "readin/b": hp.do_train_readin,
            "ic_prior/logvar": hp.ic_prior_var_max > hp.ic_prior_var_min,
            "co_prior/log_tau": hp.do_train_prior_ar_atau,
            "co_prior/log_evar": hp.do_train_prior_ar_nvar,
        }.get(name, True)

    def trained_mask(self) -> NDArray[np.float32] | None:
        """Return 1 for each trained and 0 for each frozen element of the vector; None if all are trained."""
        flags = [self.is_trained(name) for name in self.shapes]
        return None if all(flags) else np.repeat(np.array(flags, np.float32), self.sizes)


class Batch(NamedTuple):
    """One batch, all of one session, time-major.

    x : (T, B, width) data, 0 in padding; session : scalar index; constant : (B,), see `likelihoods`;
    observed : (width,) 1 for neurons that the encoders see, or None; mask : (width,) 1 for neurons that
    exist, or None; ext : (T, B, I) or None.
    """

    x: Tensor
    session: Tensor
    constant: Tensor
    observed: Tensor | None
    mask: Tensor | None
    ext: Tensor | None


class Result(NamedTuple):
    """What one forward pass gives; costs are per trial, (B,), sums over bins, neurons and dimensions."""

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
    recon = _reconstruction(arch, x, outputs, batch, hidden) + _repeat(batch.constant, samples, 0)
    return Result(recon, kl_ic, kl_co, correlation, mean, logvar, prior_mean, prior_logvar, decoded, outputs)


def _repeat(v: Tensor, samples: int, axis: int) -> Tensor:
    return v if samples == 1 else tf.repeat(v, samples, axis=axis)


def _visible(arch: Architecture, batch: Batch, noise: Noise | None) -> tuple[Tensor, Tensor | None]:
    """Return what the encoders see of the data, and where coordinated dropout lets gradients flow.

    Held-out neurons and the bins of forward prediction are 0 for the encoders. Coordinated dropout
    (Keshtkaran & Pandarinath 2019): each element is either an input, scaled up, or counts for the gradient.
    """
    hp, x = arch.hp, batch.x
    scored = None
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
) -> Tensor:
    """Return the cost of reconstruction per row, without constants; gradients only where `scored`."""
    cost = likelihoods.cost(arch.hp.output_dist, x, outputs)
    if scored is not None:
        cost = tf.where(scored, cost, tf.stop_gradient(cost))
    if batch.mask is not None:
        cost = cost * batch.mask
    return tf.reduce_sum(cost, [0, 2])
