"""The GRU of LFADS, and scans over time with a hand-written backward pass.

    [r, u] = s(x W_x,ru + h W_ru + b_ru + [0, 1])
    c      = tanh(x W_x,c + (r*h) W_c + b_c)
    h'     = clip(u*h + (1-u)*c, -clip, clip)

(Sussillo et al., arXiv 1608.06315, with the clipping and the +1 of the original program.) The encoders' GRU
and the generator's "GenGRU" are the same function; they differ in how their weights start.

Why by hand: differentiating a `tf.while_loop` automatically stacks every intermediate and takes about 4 times
the time of its matrix products. Here the forward loop saves states, gates and candidates; the backward loop
carries the state's cotangent, and adds up the weight gradients bin by bin while their factors lie in cache,
which was measured to be as fast as one product over all bins after the loop, without storing what that needs.
Inputs carry a constant 1 at their end, so that biases are a row of the input weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lfadsrm_hpc.model.backend import Tensor, tf
from lfadsrm_hpc.model.network.products import product


class Cell(NamedTuple):
    """The weights of one GRU of H units, or of K of them stacked along a first axis; columns are r, u, c.

    w_x : (n_in, 3H), or None without inputs; w_ru : (H, 2H); w_c : (H, H); b : (3H,), without the +1.
    """

    w_x: Tensor | None
    w_ru: Tensor
    w_c: Tensor
    b: Tensor


def input_weights(cell: Cell) -> Tensor:
    """Return (n_in + 1, 3H): input weights and, as last row, biases with the +1 of the update gate."""
    units = cell.w_c.shape[-1]
    plus = tf.constant([0.0] * units + [1.0] * units + [0.0] * units, cell.b.dtype)
    row = (cell.b + plus)[..., None, :]
    return row if cell.w_x is None else tf.concat([cell.w_x, row], -2)


def with_one(x: Tensor) -> Tensor:
    """Return inputs (..., n_in) with a constant 1 at their end, (..., n_in + 1)."""
    return tf.concat([x, tf.ones_like(x[..., :1])], -1)


def gru_step(h: Tensor, a: Tensor, w_ru: Tensor, w_c: Tensor, clip: float) -> tuple[Tensor, Tensor, Tensor]:
    """One bin forward: state (B, H) and input term a (B, 3H) give (new state, gates [r, u], candidate)."""
    units = h.shape[-1]
    ru = tf.sigmoid(a[..., : 2 * units] + product(h, w_ru))
    r, u = ru[..., :units], ru[..., units:]
    c = tf.tanh(a[..., 2 * units :] + product(r * h, w_c))
    return tf.clip_by_value(c + u * (h - c), -clip, clip), ru, c


class StepBack(NamedTuple):
    """What one bin backward gives: cotangents of the state before and of the pre-activations; and r*h."""

    before: Tensor
    pre: Tensor
    reset: Tensor


def gru_step_back(
    d: Tensor,
    before: Tensor,
    after: Tensor,
    ru: Tensor,
    c: Tensor,
    w_ru: Tensor,
    w_c: Tensor,
    clip: float,
) -> StepBack:
    """One bin backward, from the cotangent d of the state `after`."""
    units = before.shape[-1]
    r, u = ru[..., :units], ru[..., units:]
    d = tf.where(tf.abs(after) < clip, d, tf.zeros([], d.dtype))
    d_c = d * (1.0 - u) * (1.0 - c * c)
    d_u = d * (before - c) * u * (1.0 - u)
    d_rh = product(d_c, w_c, transpose_b=True)
    d_ru = tf.concat([d_rh * before * r * (1.0 - r), d_u], -1)
    d_before = d * u + d_rh * r + product(d_ru, w_ru, transpose_b=True)
    return StepBack(d_before, tf.concat([d_ru, d_c], -1), r * before)


def outer(a: Tensor, b: Tensor) -> Tensor:
    """Return a^T b: the gradient of weights between a (B, n) and pre-activations with cotangent b (B, m)."""
    return product(a, b, transpose_a=True)


def weight_gradients(before: Tensor, x: Tensor | None, back: StepBack) -> list[Tensor]:
    """Return one bin's gradients of input weights (with biases), w_ru and w_c; x has its constant 1."""
    units = before.shape[-1]
    d_ru, d_c = back.pre[..., : 2 * units], back.pre[..., 2 * units :]
    d_x = tf.reduce_sum(back.pre, -2, keepdims=True) if x is None else outer(x, back.pre)
    return [d_x, outer(before, d_ru), outer(back.reset, d_c)]


def stack_of(steps: int, like: Tensor, width: int) -> Tensor:
    """Return an empty array of `steps` tensors, shaped as `like` but `width` wide."""
    shape = [*like.shape[:-1], width]
    return tf.TensorArray(like.dtype, size=steps, element_shape=shape, clear_after_read=False)


def loop(steps: int, body: Callable[..., tuple[Any, ...]], start: tuple[Any, ...]) -> tuple[Any, ...]:
    """Run `body(i, *carried)` for i = 0..steps-1 and return what is carried."""
    result = tf.while_loop(
        lambda i, *_: i < steps,
        lambda i, *carried: (i + 1, *body(i, *carried)),
        (tf.constant(0), *start),
        maximum_iterations=steps,
    )
    return tuple(result[1:])


def scan(
    cell: Cell, x: Tensor | None, h0: Tensor, *, steps: int, clip: float, input_gradient: bool = False
) -> Tensor:
    """Run one GRU, or K independent ones at once, over all bins.

    Parameters
    ----------
    cell : the weights; with K cells, all have a first axis K.
    x : (steps, B, n_in), or (steps, K, B, n_in), or None.
    h0 : (B, H) or (K, B, H), the state before the first bin.
    steps : number of bins T.
    clip : bound on states.
    input_gradient : whether gradients flow into x.

    Returns
    -------
    Tensor
        All states, (steps, B, H) or (steps, K, B, H). Second derivatives are not available.
    """
    values = [input_weights(cell), cell.w_ru, cell.w_c, h0]
    if x is not None:
        values.append(with_one(x))

    def run(*args: Tensor) -> tuple[Tensor, Callable[[Tensor], list[Tensor | None]]]:
        problem = _Scan(args, steps, clip, input_gradient)
        return problem.forward(), problem.gradient

    return tf.custom_gradient(run)(*values)


class _Scan:
    """One forward pass and what it saved for the backward pass.

    States lie in an array of steps+1 slots: the state before bin t in slot t, the one after it in slot t+1.
    """

    def __init__(self, args: Sequence[Tensor], steps: int, clip: float, input_gradient: bool) -> None:
        self.w_x, self.w_ru, self.w_c, self.h0 = args[:4]
        self.x = args[4] if len(args) > 4 else None
        self.steps, self.clip = steps, clip
        self.input_gradient = input_gradient and self.x is not None

    def forward(self) -> Tensor:
        def body(
            t: Tensor, h: Tensor, states: Tensor, gates: Tensor, candidates: Tensor
        ) -> tuple[Tensor, ...]:
            a = self.w_x if self.x is None else product(self.x[t], self.w_x)
            h, ru, c = gru_step(h, a, self.w_ru, self.w_c, self.clip)
            return h, states.write(t + 1, h), gates.write(t, ru), candidates.write(t, c)

        h0, steps, units = self.h0, self.steps, self.h0.shape[-1]
        start = (
            h0,
            stack_of(steps + 1, h0, units).write(0, h0),
            stack_of(steps, h0, 2 * units),
            stack_of(steps, h0, units),
        )
        _, *saved = loop(steps, body, start)
        self.states, self.gates, self.candidates = (array.stack() for array in saved)
        return self.states[1:]

    def gradient(self, cotangent: Tensor) -> list[Tensor | None]:
        steps, h0 = self.steps, self.h0

        def body(i: Tensor, d: Tensor, sums: list[Tensor], d_x: Tensor) -> tuple[Any, ...]:
            t = steps - 1 - i
            before, after = self.states[t], self.states[t + 1]
            back = gru_step_back(
                d + cotangent[t],
                before,
                after,
                self.gates[t],
                self.candidates[t],
                self.w_ru,
                self.w_c,
                self.clip,
            )
            x = None if self.x is None else self.x[t]
            found = weight_gradients(before, x, back)
            if self.input_gradient:
                d_x = d_x.write(t, product(back.pre, self.w_x, transpose_b=True))
            return back.before, [s + g for s, g in zip(sums, found, strict=True)], d_x

        wanted = self.input_gradient
        start = (
            tf.zeros_like(h0),
            [tf.zeros_like(w) for w in (self.w_x, self.w_ru, self.w_c)],
            stack_of(steps, h0, self.w_x.shape[-2]) if wanted else tf.zeros([], h0.dtype),
        )
        d_h0, sums, d_x = loop(steps, body, start)
        result = [*sums, d_h0]
        if self.x is not None:
            result.append(d_x.stack() if wanted else None)
        return result
