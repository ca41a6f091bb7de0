"""The compiled functions of training: slices of many gradient steps, or validation batches, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lfadsrm_hpc.model.backend import Tensor, on_gpu, tf, with_xla
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.lfads import Batch, forward
from lfadsrm_hpc.model.network.noise import Noise
from lfadsrm_hpc.model.network.products import mixed_precision
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import batches
from lfadsrm_hpc.model.training.batches import Masks, Plan
from lfadsrm_hpc.model.training.objective import COSTS, Adam, adam_step, clip_norm, costs, weights_at
from lfadsrm_hpc.model.training.step_memory import parts_of_a_batch

SUMS = (*COSTS, "gradient_norm")  # what training adds up over the steps of an epoch
VALIDATION_SEED = 0x5DEECE66D  # tells validation's random numbers from training's


class Slice(NamedTuple):
    """What a slice hands to the next: state, steps done, sums of `SUMS`, step of a failure or -1."""

    adam: Adam
    step: Tensor
    sums: Tensor
    failed: Tensor


class Compiled:
    """Training and validation of one model on resident data.

    Parameters
    ----------
    arch, sessions : the model and its data.
    """

    def __init__(self, arch: Architecture, sessions: Sequence[Session]) -> None:
        self.arch, self.hp, self.held_out = arch, arch.hp, _held_out(sessions)
        self.masks = Masks.of(arch, sessions)
        frozen = arch.trained_mask()
        self.trained = None if frozen is None else tf.constant(frozen)
        xla = with_xla(self.hp.use_xla)
        self.parts = parts_of_a_batch(arch, gpu=on_gpu(), xla=xla)
        self._train = tf.function(self._train_steps, jit_compile=xla, autograph=False)
        self._validate = tf.function(self._validate_steps, jit_compile=xla, autograph=False)

    def train(
        self,
        state: Slice,
        data: dict[str, Tensor],
        plan: dict[str, Tensor],
        start: int,
        stop: int,
        rate: float,
    ) -> Slice:
        """Do the steps of batches start..stop-1 of an epoch; ends early at a cost that is not finite."""
        span = tf.constant([start, stop])
        return self._train(state, data, plan, span, tf.constant(rate, tf.float32))  # type: ignore[no-any-return]

    def validate(
        self,
        theta: Tensor,
        step: Tensor,
        sums: Tensor,
        data: dict[str, Tensor],
        plan: dict[str, Tensor],
        start: int,
        stop: int,
    ) -> Tensor:
        """Add the costs of validation batches start..stop-1 to `sums`."""
        return self._validate(theta, step, sums, data, plan, tf.constant([start, stop]))

    def gradient(
        self, theta: Tensor, step: Tensor, batch: Batch, trials: Tensor, part: Tensor | int = 0
    ) -> tuple[Tensor, Tensor]:
        """Return the costs of one training batch, or of a part of it, and the gradient of the total, (P,)."""
        noise = Noise(self.hp.seed, step if self.parts == 1 else step * self.parts + part)
        with mixed_precision(self.hp.mixed_precision):  # products going backward too
            with tf.GradientTape() as tape:
                tape.watch(theta)
                params = self.arch.unpack(theta)
                result = forward(params, self.arch, batch, training=True, noise=noise)
                cost = costs(theta, self.arch, result, batch.session, weights_at(step, self.hp), trials)
                total = cost[0]
            gradient = tape.gradient(total, theta)
        return cost, gradient if self.trained is None else gradient * self.trained

    def _whole_gradient(
        self, theta: Tensor, step: Tensor, data: dict[str, Tensor], plan: dict[str, Tensor], i: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return costs and gradient of batch i of a plan, part by part where it is split."""
        trials, weights, session = plan["trials"][i], plan["weights"][i], plan["sessions"][i]
        if self.parts == 1:
            batch = batches.gather(self.arch, data, self.masks, trials, session)
            return self.gradient(theta, step, batch, weights)
        size = -(-self.hp.batch_size // self.parts)
        missing = size * self.parts - self.hp.batch_size  # filled with repeats that weigh nothing
        rows = tf.reshape(tf.concat([trials, tf.repeat(trials[:1], missing)], 0), [self.parts, size])
        weighed = tf.reshape(tf.pad(weights, [[0, missing]]), [self.parts, size])

        def add(k: Tensor, cost: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            batch = batches.gather(self.arch, data, self.masks, rows[k], session)
            more = self.gradient(theta, step, batch, weighed[k], k)
            return k + 1, cost + more[0], gradient + more[1]

        start = (tf.constant(0), no_costs(), tf.zeros_like(theta))
        _, cost, gradient = tf.while_loop(lambda k, *_: k < self.parts, add, start)
        return cost, gradient

    def _train_steps(
        self, state: Slice, data: dict[str, Tensor], plan: dict[str, Tensor], span: Tensor, rate: Tensor
    ) -> Slice:
        def body(i: Tensor, state: Slice) -> tuple[Tensor, Slice]:
            cost, gradient = self._whole_gradient(state.adam.theta, state.step, data, plan, i)
            gradient, norm = clip_norm(gradient, self.hp.max_grad_norm)
            adam = adam_step(state.adam, gradient, state.step, rate, self.hp.adam_epsilon)
            fine = tf.logical_and(tf.math.is_finite(cost[0]), tf.math.is_finite(norm))
            failed = tf.where(fine, state.failed, state.step)
            return i + 1, Slice(adam, state.step + 1, state.sums + tf.concat([cost, norm[None]], 0), failed)

        result = tf.while_loop(
            lambda i, state: tf.logical_and(i < span[1], state.failed < 0), body, (span[0], state)
        )
        return result[1]  # type: ignore[no-any-return]

    def _validate_steps(
        self,
        theta: Tensor,
        step: Tensor,
        sums: Tensor,
        data: dict[str, Tensor],
        plan: dict[str, Tensor],
        span: Tensor,
    ) -> Tensor:
        params = self.arch.unpack(theta)
        weights = weights_at(step, self.hp)

        def body(i: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
            batch = batches.gather(self.arch, data, self.masks, plan["trials"][i], plan["sessions"][i])
            noise = Noise(self.hp.seed ^ VALIDATION_SEED, step * 65536 + i)
            with mixed_precision(self.hp.mixed_precision):
                result = forward(params, self.arch, batch, training=False, noise=noise)
            cost = costs(theta, self.arch, result, batch.session, weights, plan["weights"][i])
            return i + 1, sums + cost

        return tf.while_loop(lambda i, _: i < span[1], body, (span[0], sums))[1]


class Kept:
    """The compiled functions of a training, for the next one if that differs only in its start and data.

    TensorFlow takes seconds to trace them.
    """

    def __init__(self) -> None:
        self._last: Compiled | None = None

    def compiled(self, arch: Architecture, sessions: Sequence[Session]) -> Compiled:
        """Return the functions of the training before, or new ones if those do something else."""
        last = self._last
        if last is None or (last.arch, last.held_out) != (arch, _held_out(sessions)):
            last = self._last = Compiled(arch, sessions)
        return last


def _held_out(sessions: Sequence[Session]) -> list[list[bool] | None]:
    return [None if session.held_out is None else session.held_out.tolist() for session in sessions]


def on_device(plan: Plan) -> dict[str, Tensor]:
    """Return a plan as tensors."""
    return {name: tf.constant(value) for name, value in plan._asdict().items()}


def no_costs() -> Tensor:
    """Return costs to add to: all zero."""
    return tf.zeros([len(COSTS)], tf.float32)


def no_sums() -> Tensor:
    """Return sums over steps to add to: all zero."""
    return tf.zeros([len(SUMS)], tf.float32)


def fresh(theta: Any) -> Slice:
    """Return the state before the first step."""
    theta = tf.constant(theta, tf.float32)
    zeros = tf.zeros_like(theta)
    return Slice(Adam(theta, zeros, zeros), tf.constant(0), no_sums(), tf.constant(-1))
