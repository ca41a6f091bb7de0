"""Read-in and bidirectional encoders: from data to the initial condition's posterior and codes in time."""

from __future__ import annotations

from typing import NamedTuple

from lfadsrm_hpc.model.backend import Tensor, of_session, tf
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.gru import Cell, scan
from lfadsrm_hpc.model.network.noise import Noise
from lfadsrm_hpc.model.network.products import product

NOISE_DATA, NOISE_EXT, NOISE_CODE = 11, 12, 13


class Encoded(NamedTuple):
    """Posterior of the initial condition, (B, ic_dim) each or None, and codes for the controller.

    ci : (T, B, N), shifted by the lag, forward then backward; None without a controller.
    """

    mean: Tensor | None
    logvar: Tensor | None
    ci: Tensor | None


def dropout(noise: Noise | None, stream: int, x: Tensor, keep: float) -> Tensor:
    """Return x with dropout, or x itself without noise."""
    return x if noise is None else noise.dropout(stream, x, keep)


def cell_of(params: dict[str, Tensor], name: str) -> Cell:
    """Return the weights of the GRU with this name."""
    return Cell(params.get(f"{name}/W_x"), params[f"{name}/W_ru"], params[f"{name}/W_c"], params[f"{name}/b"])


def encode(
    params: dict[str, Tensor],
    arch: Architecture,
    x: Tensor,
    session: Tensor,
    ext: Tensor | None,
    noise: Noise | None,
    keep: float,
) -> Encoded:
    """Encode a batch.

    Parameters
    ----------
    x : (T, B, width) what the encoders may see of the data.
    session : scalar index of the session.
    ext : (T, B, I) external inputs, or None.
    noise, keep : for dropout.
    """
    hp = arch.hp
    x = dropout(noise, NOISE_DATA, x, keep)
    if arch.has_readin:
        x = apply(x, of_session(params["readin/W"], session), of_session(params["readin/b"], session))
    if ext is not None and not hp.inject_ext_input_to_gen:
        x = tf.concat([x, dropout(noise, NOISE_EXT, ext, keep)], 2)
    mean = logvar = ci = None
    if hp.ic_dim:
        states = _run(params, arch, x[: arch.ic_steps], "ic_enc")
        e = dropout(noise, NOISE_CODE, tf.concat([states[-1, 0], states[-1, 1]], 1), keep)
        mean, logvar = tf.split(product(e, params["ic/W"]) + params["ic/b"], 2, axis=1)
        logvar = tf.math.log(tf.exp(logvar) + hp.ic_post_var_min)
    if hp.co_dim:
        ci = _codes(_run(params, arch, x, "ci_enc"), hp.controller_input_lag)
    return Encoded(mean, logvar, ci)


def apply(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Return x W + b of (T, B, n), as one matrix product."""
    y = product(tf.reshape(x, [-1, x.shape[2]]), w)
    if b is not None:
        y = y + b
    return tf.reshape(y, [*x.shape[:2], w.shape[1]])


def _run(params: dict[str, Tensor], arch: Architecture, x: Tensor, name: str) -> Tensor:
    """Return the states (T, K, B, H) of forward and, if there is one, backward encoder, each in its order."""
    cell, h0 = cell_of(params, name), params[f"{name}/h0"]
    sides = [x, tf.reverse(x, [0])][: h0.shape[0]]
    return scan(
        cell,
        tf.stack(sides, 1),
        tf.tile(h0[:, None], [1, x.shape[1], 1]),
        steps=x.shape[0],
        clip=arch.hp.cell_clip_value,
        input_gradient=arch.has_readin and arch.is_trained("readin/W"),
    )


def _codes(states: Tensor, lag: int) -> Tensor:
    """Return [ci_fwd(t - lag), ci_rev(t + lag)], zeros outside the trial."""
    steps = states.shape[0]
    lag = min(lag, steps)
    # either side, in its own order, is delayed by the lag
    delayed = tf.pad(states[: steps - lag], [[lag, 0], [0, 0], [0, 0], [0, 0]])
    if states.shape[1] == 1:
        return delayed[:, 0]
    return tf.concat([delayed[:, 0], tf.reverse(delayed[:, 1], [0])], 2)
