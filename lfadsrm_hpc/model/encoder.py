"""Read-in and bidirectional encoders: from data to the initial condition's posterior and codes in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lfadsrm_hpc.model.backend import Tensor, of_session, tf
from lfadsrm_hpc.model.gru import Cell, scan
from lfadsrm_hpc.model.noise import Noise

if TYPE_CHECKING:
    from lfadsrm_hpc.model.lfads import Architecture

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
    hp, size = arch.hp, x.shape[1]
    x = dropout(noise, NOISE_DATA, x, keep)
    if arch.has_readin:
        x = apply(x, of_session(params["readin/W"], session), of_session(params["readin/b"], session))
    if ext is not None and not hp.inject_ext_input_to_gen:
        x = tf.concat([x, dropout(noise, NOISE_EXT, ext, keep)], 2)
    ic = ["ic_enc/fwd", "ic_enc/rev"] if hp.ic_dim else []
    ci = [name for name in ("ci_enc/fwd", "ci_enc/rev") if f"{name}/b" in params]
    if arch.ic_steps == arch.bins:
        states = _run(params, arch, x, ic + ci, size)
    else:
        states = _run(params, arch, x[: arch.ic_steps], ic, size) + _run(params, arch, x, ci, size)
    mean = logvar = None
    if ic:
        e = dropout(noise, NOISE_CODE, tf.concat(states[:2], 1), keep)
        mean = tf.matmul(e, params["ic/mean/W"]) + params["ic/mean/b"]
        logvar = tf.matmul(e, params["ic/logvar/W"]) + params["ic/logvar/b"]
        logvar = tf.math.log(tf.exp(logvar) + hp.ic_post_var_min)
    return Encoded(mean, logvar, _codes(states[len(ic) :], hp.controller_input_lag))


def apply(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Return x W + b of (T, B, n), as one matrix product."""
    y = tf.matmul(tf.reshape(x, [-1, x.shape[2]]), w)
    if b is not None:
        y = y + b
    return tf.reshape(y, [*x.shape[:2], w.shape[1]])


def _run(
    params: dict[str, Tensor], arch: Architecture, x: Tensor, names: list[str], size: int
) -> list[Tensor]:
    if not names:
        return []
    cells = [cell_of(params, name) for name in names]
    initial = [tf.tile(params[f"{name}/h0"][None], [size, 1]) for name in names]
    return scan(
        cells,
        [x] * len(cells),
        initial,
        steps=x.shape[0],
        backward=[name.endswith("rev") for name in names],
        sequence=[name.startswith("ci") for name in names],
        clip=arch.hp.cell_clip_value,
        input_gradient=arch.has_readin and arch.is_trained("readin/W"),
    )


def _codes(states: list[Tensor], lag: int) -> Tensor | None:
    """Return [ci_fwd(t - lag), ci_rev(t + lag)], zeros outside the trial."""
    if not states:
        return None
    steps = states[0].shape[0]
    lag = min(lag, steps)
    forward = tf.pad(states[0][: steps - lag], [[lag, 0], [0, 0], [0, 0]])
    if len(states) == 1:
        return forward
    return tf.concat([forward, tf.pad(states[1][lag:], [[0, lag], [0, 0], [0, 0]])], 2)
