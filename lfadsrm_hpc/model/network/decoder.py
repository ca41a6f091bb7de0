"""Generator, controller, factors and read-out: from an initial condition and codes to log-rates."""

from __future__ import annotations

from typing import NamedTuple

from lfadsrm_hpc.model.backend import Tensor, of_session, tf
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.controller import joint_scan
from lfadsrm_hpc.model.network.encoder import apply, cell_of, dropout
from lfadsrm_hpc.model.network.gru import scan
from lfadsrm_hpc.model.network.likelihoods import READ_OUTS
from lfadsrm_hpc.model.network.noise import Noise
from lfadsrm_hpc.model.network.products import product

NOISE_GENERATOR, NOISE_CONTROLLER, NOISE_FEEDBACK, NOISE_INPUT, NOISE_INJECTED = 21, 22, 23, 24, 25


class Decoded(NamedTuple):
    """States and what they drive, time-major, (T, B, .); the controller's are None without one.

    g0 : (B, gen_dim) before the first bin; states : undropped; factors : of the dropped states.
    """

    g0: Tensor
    states: Tensor
    factors: Tensor
    u: Tensor | None
    co_mean: Tensor | None
    co_logvar: Tensor | None


def factor_weights(params: dict[str, Tensor]) -> Tensor:
    """Return gen_2_fac with every column scaled to unit length."""
    w = params["factors/W"]
    return w * tf.math.rsqrt(tf.reduce_sum(tf.square(w), 0, keepdims=True))


def initial_state(params: dict[str, Tensor], arch: Architecture, z: Tensor | None, rows: int) -> Tensor:
    """Return g_0 (B, gen_dim) from the initial condition z (B, ic_dim), or the trained one."""
    if z is None:
        return tf.tile(params["gen/h0"][None], [rows, 1])
    if arch.hp.ic_dim == arch.hp.gen_dim:
        return z
    return product(z, params["gen/from_ic/W"]) + params["gen/from_ic/b"]


def decode(
    params: dict[str, Tensor],
    arch: Architecture,
    z: Tensor | None,
    ci: Tensor | None,
    ext: Tensor | None,
    session: Tensor,
    *,
    rows: int,
    noise: Noise | None,
    co_noise: Tensor | None,
    keep: float,
) -> Decoded:
    """Run generator (and controller) over all bins.

    Parameters
    ----------
    z : (rows, ic_dim) or None; ci : (T, rows, N) codes or None; ext : (T, rows, I) or None.
    co_noise : (T, rows, co_dim) standard normal, drawn from `noise` if None; zeros without both.
    noise, keep : for dropout.
    """
    hp = arch.hp
    g0 = initial_state(params, arch, z, rows)
    w_factors = factor_weights(params)
    injected = (
        dropout(noise, NOISE_INJECTED, ext, keep) if hp.inject_ext_input_to_gen and ext is not None else None
    )
    u = mean = logvar = None
    shape = [arch.bins, rows, hp.gen_dim]
    scale = _scale(noise, NOISE_GENERATOR, shape, keep, g0.dtype)
    if hp.co_dim:
        noisy = [arch.bins, rows, hp.co_dim]
        if co_noise is None:
            co_noise = (
                tf.zeros(noisy, g0.dtype) if noise is None else noise.normal(NOISE_INPUT, noisy, g0.dtype)
            )
        con, states = joint_scan(
            controller=cell_of(params, "con"),
            generator=cell_of(params, "gen"),
            w_u=params["co/W"],
            b_u=params["co/b"],
            w_factors=w_factors,
            w_rates=_rate_weights(params, arch, session),
            con0=tf.tile(params["con/h0"][None], [rows, 1]),
            g0=g0,
            codes=dropout(noise, NOISE_CONTROLLER, ci, keep),
            noise=co_noise,
            injected=injected,
            state_scale=scale,
            feedback_scale=_scale(
                noise, NOISE_FEEDBACK, [arch.bins, rows, arch.feedback_width], keep, g0.dtype
            ),
            feedback=arch.feedback_width > 0,
            log_rates=hp.output_dist != "gaussian",
            clip=hp.cell_clip_value,
        )
        mean, logvar = tf.split(apply(con, params["co/W"], params["co/b"]), 2, axis=2)
        u = mean + co_noise * tf.exp(0.5 * logvar)
    else:
        states = scan(cell_of(params, "gen"), injected, g0, steps=arch.bins, clip=hp.cell_clip_value)
    factors = apply(states if scale is None else states * scale, w_factors)
    return Decoded(g0, states, factors, u, mean, logvar)


def _scale(noise: Noise | None, stream: int, shape: list[int], keep: float, dtype: Tensor) -> Tensor | None:
    """Return dropout as a factor, 0 or 1/keep for each element; None without dropout."""
    if noise is None or keep >= 1.0 or 0 in shape:
        return None
    return tf.cast(noise.kept(stream, shape, keep), dtype) * (1.0 / keep)


def _rate_weights(
    params: dict[str, Tensor], arch: Architecture, session: Tensor
) -> tuple[Tensor, Tensor] | None:
    if arch.hp.feedback_factors_or_rates != "rates" or not arch.feedback_width:
        return None
    return of_session(params["readout/W"], session), of_session(params["readout/b"], session)


def read_out(params: dict[str, Tensor], arch: Architecture, factors: Tensor, session: Tensor) -> Tensor:
    """Return log-rates (T, B, width), or all outputs of another distribution side by side (`likelihoods`)."""
    outputs = [
        apply(factors, of_session(params[f"{group}/W"], session), of_session(params[f"{group}/b"], session))
        for group in READ_OUTS[arch.hp.output_dist]
    ]
    return outputs[0] if len(outputs) == 1 else tf.concat(outputs, 2)
