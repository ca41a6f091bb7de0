"""The cost that training minimises, its ramps, and the gradient step (Adam with global-norm clipping)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.model.backend import Tensor, of_session, tf
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.lfads import Result

COSTS = ("total", "recon", "kl_ic", "kl_co", "l2", "correlation", "withheld", "withheld_count")
BETA1, BETA2 = 0.9, 0.999


class Weights(NamedTuple):
    """Weights of the KL and L2 costs at one step, between 0 and 1."""

    kl: Tensor
    l2: Tensor


def ramp(step: Tensor, start: int, increase: int) -> Tensor:
    """Return clip((step - start)/increase, 0, 1); with increase = 0, 1 from `start` on."""
    after = tf.cast(step - start, tf.float32)
    if increase == 0:
        return tf.cast(after >= 0, tf.float32)
    return tf.clip_by_value(after / float(increase), 0.0, 1.0)


def weights_at(step: Tensor, hp: Hyperparameters) -> Weights:
    """Return the ramps at a step (number of gradient steps done)."""
    return Weights(
        ramp(step, hp.kl_start_step, hp.kl_increase_steps), ramp(step, hp.l2_start_step, hp.l2_increase_steps)
    )


def ramps_done(step: int, hp: Hyperparameters) -> bool:
    """Return whether both ramps have reached 1 (the same arithmetic, without tensorflow)."""
    return step >= max(hp.kl_start_step + hp.kl_increase_steps, hp.l2_start_step + hp.l2_increase_steps)


def ramp_value(step: int, start: int, increase: int) -> float:
    """Return `ramp` as a Python number."""
    if increase == 0:
        return float(step >= start)
    return float(np.clip((step - start) / increase, 0.0, 1.0))


def l2_weights(arch: Architecture) -> NDArray[np.float32]:
    """Return what weighs each squared element of the parameter vector in the L2 cost, (P,).

    L2 = [s_gen sum v^2 / 2 + s_con sum v^2 / 2] / (number of those elements), over the recurrent matrices and
    their biases of generator and controller.
    """
    scales = {"gen": arch.hp.l2_gen_scale, "con": arch.hp.l2_con_scale}
    each, count = [], 0
    for name, size in zip(arch.shapes, arch.sizes, strict=True):
        group, _, kind = name.partition("/")
        counted = group in scales and kind in ("W_ru", "W_c", "b")
        count += size * counted
        each.append(0.5 * scales[group] if counted else 0.0)
    return np.repeat(np.array(each) / count, arch.sizes).astype(np.float32)


def l2_cost(theta: Tensor, arch: Architecture) -> Tensor:
    """Return the L2 cost of a parameter vector."""
    return tf.tensordot(theta * theta, tf.constant(l2_weights(arch), theta.dtype), 1)


def costs(
    theta: Tensor, arch: Architecture, result: Result, session: Tensor, weights: Weights, trials: Tensor
) -> Tensor:
    """Return the costs in the order of `COSTS`, weighted sums over trials.

    The last two are the cost of the elements that sample validation withholds, and how many they are: their
    quotient is the score, in nats an element whatever `loss_reduction` is. Both are 0 without any.

    Parameters
    ----------
    theta : (P,) parameters, for the L2 cost.
    trials : (B,) weights of the trials; 1/B each gives the mean.
    """
    hp = arch.hp
    each = tf.stack([result.recon, result.kl_ic, result.kl_co, result.correlation, tf.ones_like(trials)])
    recon, kl_ic, kl_co, correlation, whole = tf.unstack(tf.linalg.matvec(each, trials))
    if hp.loss_reduction == "mean":
        elements = tf.constant([float(arch.bins * count) for count in arch.neurons])
        recon = recon / of_session(elements, session)
    l2 = l2_cost(theta, arch) * whole
    total = recon + weights.kl * (hp.kl_ic_weight * kl_ic + hp.kl_co_weight * kl_co) + weights.l2 * l2
    if hp.co_mean_corr_scale:
        total = total + hp.co_mean_corr_scale * correlation
    withheld = tf.zeros([2]) if result.withheld is None else tf.linalg.matvec(result.withheld, trials)
    return tf.concat([tf.stack([total, recon, kl_ic, kl_co, l2, correlation]), withheld], 0)


class Adam(NamedTuple):
    """Parameter vector and moments, (P,) each."""

    theta: Tensor
    first: Tensor
    second: Tensor


def clip_norm(gradient: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Return the gradient, scaled down to the norm `limit` where it is longer, and its norm."""
    norm = tf.sqrt(tf.reduce_sum(tf.square(gradient)))
    return gradient * (limit / tf.maximum(norm, limit)), norm


def adam_step(state: Adam, gradient: Tensor, step: Tensor, rate: Tensor, epsilon: float) -> Adam:
    """Return the state after one step of Adam (Kingma & Ba 2015) in its epsilon-hat form.

    Parameters
    ----------
    step : number of steps done before this one.
    """
    first = BETA1 * state.first + (1.0 - BETA1) * gradient
    second = BETA2 * state.second + (1.0 - BETA2) * tf.square(gradient)
    t = tf.cast(step + 1, tf.float32)
    corrected = rate * tf.sqrt(1.0 - tf.pow(BETA2, t)) / (1.0 - tf.pow(BETA1, t))
    return Adam(state.theta - corrected * first / (tf.sqrt(second) + epsilon), first, second)
