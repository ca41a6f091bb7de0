"""The cost that training minimises, its ramps, and the gradient step (Adam with global-norm clipping)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lfadsrm_hpc.model.backend import Tensor, of_session, tf
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.lfads import Architecture, Params, Result

COSTS = ("total", "recon", "kl_ic", "kl_co", "l2", "correlation")
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


def l2_cost(params: Params, hp: Hyperparameters) -> Tensor:
    """Return the penalty on the recurrent weights and their biases of generator and controller.

    L2 = [s_gen sum v^2 / 2 + s_con sum v^2 / 2] / (number of those elements)
    """
    cost, count = tf.zeros([], params["gen/b"].dtype), 0
    for group, scale in (("gen", hp.l2_gen_scale), ("con", hp.l2_con_scale)):
        if f"{group}/b" not in params:
            continue
        for name in ("W_ru", "W_c", "b"):
            v = params[f"{group}/{name}"]
            count += int(np.prod(v.shape))
            cost = cost + 0.5 * scale * tf.reduce_sum(tf.square(v))
    return cost / float(count)


def costs(
    params: Params, arch: Architecture, result: Result, session: Tensor, weights: Weights, trials: Tensor
) -> Tensor:
    """Return the costs in the order of `COSTS`, (6,), weighted sums over trials.

    Parameters
    ----------
    trials : (B,) weights of the trials; 1/B each gives the mean.
    """
    hp = arch.hp

    def over_trials(v: Tensor) -> Tensor:
        return tf.reduce_sum(v * trials)

    recon, kl_ic, kl_co, correlation = (
        over_trials(v) for v in (result.recon, result.kl_ic, result.kl_co, result.correlation)
    )
    if hp.loss_reduction == "mean":
        elements = tf.constant([float(arch.bins * count) for count in arch.neurons])
        recon = recon / of_session(elements, session)
    l2 = l2_cost(params, hp) * tf.reduce_sum(trials)
    total = recon + weights.kl * (hp.kl_ic_weight * kl_ic + hp.kl_co_weight * kl_co) + weights.l2 * l2
    if hp.co_mean_corr_scale:
        total = total + hp.co_mean_corr_scale * correlation
    return tf.stack([total, recon, kl_ic, kl_co, l2, correlation])


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
