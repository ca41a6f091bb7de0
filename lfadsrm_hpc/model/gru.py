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
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lfadsrm_hpc.model.backend import Tensor, tf


class Cell(NamedTuple):
    """The weights of one GRU of H units; columns are ordered r, u, c.

    w_x : (n_in, 3H), or None without inputs; w_ru : (H, 2H); w_c : (H, H); b : (3H,), without the +1.
    """

    w_x: Tensor | None
    w_ru: Tensor
    w_c: Tensor
    b: Tensor


def biases(b: Tensor) -> Tensor:
    """Return the biases (1, 3H) with the constant +1 on the update gate."""
    units = b.shape[0] // 3
    return (
        b + tf.concat([tf.zeros([units], b.dtype), tf.ones([units], b.dtype), tf.zeros([units], b.dtype)], 0)
    )[None]


def gru_step(h: Tensor, a: Tensor, w_ru: Tensor, w_c: Tensor, clip: float) -> tuple[Tensor, Tensor, Tensor]:
    """One bin forward: state (B, H) and input term a (B, 3H) give (new state, gates [r, u], candidate)."""
    units = h.shape[1]
    ru = tf.sigmoid(a[:, : 2 * units] + tf.matmul(h, w_ru))
    r, u = ru[:, :units], ru[:, units:]
    c = tf.tanh(a[:, 2 * units :] + tf.matmul(r * h, w_c))
    return tf.clip_by_value(c + u * (h - c), -clip, clip), ru, c


class StepBack(NamedTuple):
    """What one bin backward gives: cotangents of the state before, of the pre-activations, and r*h."""

    before: Tensor
    ru: Tensor
    c: Tensor
    reset: Tensor


def gru_step_back(
    d: Tensor,
    before: Tensor,
    after: Tensor,
    ru: Tensor,
    c: Tensor,
    w_ru_t: Tensor,
    w_c_t: Tensor,
    clip: float,
) -> StepBack:
    """One bin backward, from the cotangent d of the state `after`; takes transposed recurrent weights."""
    units = before.shape[1]
    r, u = ru[:, :units], ru[:, units:]
    d = tf.where(tf.abs(after) < clip, d, tf.zeros([], d.dtype))
    d_c = d * (1.0 - u) * (1.0 - c * c)
    d_u = d * (before - c) * u * (1.0 - u)
    d_rh = tf.matmul(d_c, w_c_t)
    d_ru = tf.concat([d_rh * before * r * (1.0 - r), d_u], 1)
    return StepBack(d * u + d_rh * r + tf.matmul(d_ru, w_ru_t), d_ru, d_c, r * before)


def outer(a: Tensor, b: Tensor) -> Tensor:
    """Return a^T b: the gradient of weights between a (B, n) and pre-activations with cotangent b (B, m)."""
    return tf.matmul(a, b, transpose_a=True)


def weight_gradients(before: Tensor, x: Tensor | None, back: StepBack) -> list[Tensor]:
    """Return one bin's gradients of (w_x, w_ru, w_c, b), without w_x where there is no input."""
    sums = tf.concat([tf.reduce_sum(back.ru, 0), tf.reduce_sum(back.c, 0)], 0)
    gradients = [outer(before, back.ru), outer(back.reset, back.c), sums]
    if x is not None:
        gradients.insert(0, tf.concat([outer(x, back.ru), outer(x, back.c)], 1))
    return gradients


def stack_of(steps: int, like: Tensor, width: int) -> Tensor:
    """Return an empty array of `steps` tensors (B, width)."""
    return tf.TensorArray(
        like.dtype, size=steps, element_shape=[like.shape[0], width], clear_after_read=False
    )


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
    cells: Sequence[Cell],
    inputs: Sequence[Tensor | None],
    initial: Sequence[Tensor],
    *,
    steps: int,
    backward: Sequence[bool],
    sequence: Sequence[bool],
    clip: float,
    input_gradient: bool = False,
) -> list[Tensor]:
    """Run several independent GRUs over the same bins in one loop.

    Parameters
    ----------
    cells : the weights of each.
    inputs : (steps, B, n_in) for each, or None.
    initial : the state before the first bin, (B, H) for each.
    steps : number of bins T.
    backward : for each, whether it runs from the last bin to the first.
    sequence : for each, whether to return all states (steps, B, H), in order of time, or the last one.
    clip : bound on states.
    input_gradient : whether gradients flow into `inputs`.

    Returns
    -------
    list of Tensor
        One for each cell. Second derivatives are not available.
    """
    flat: list[Tensor] = []
    for cell, x, h0 in zip(cells, inputs, initial, strict=True):
        if x is not None:
            flat += [x, cell.w_x]
        flat += [cell.w_ru, cell.w_c, cell.b, h0]
    has_input = [x is not None for x in inputs]

    def run(*args: Tensor) -> tuple[tuple[Tensor, ...], Callable[..., list[Tensor | None]]]:
        problem = _Scan(args, has_input, steps, backward, sequence, clip, input_gradient)
        return problem.forward(), problem.gradient

    return list(tf.custom_gradient(run)(*flat))


class _Scan:
    """One forward pass and what it saved for the backward pass.

    States lie in arrays of steps+1 slots, the initial one included: the state before bin t is in slot t and
    the one after it in slot t+1; the other way round for a GRU that runs backward.
    """

    def __init__(
        self,
        args: Sequence[Tensor],
        has_input: Sequence[bool],
        steps: int,
        backward: Sequence[bool],
        sequence: Sequence[bool],
        clip: float,
        input_gradient: bool,
    ) -> None:
        rest = list(args)
        self.x: list[Tensor | None] = []
        self.cells: list[Cell] = []
        self.h0: list[Tensor] = []
        for has in has_input:
            self.x.append(rest.pop(0) if has else None)
            self.cells.append(Cell(rest.pop(0) if has else None, rest.pop(0), rest.pop(0), rest.pop(0)))
            self.h0.append(rest.pop(0))
        self.steps, self.backward, self.sequence = steps, backward, sequence
        self.clip, self.input_gradient = clip, input_gradient

    def forward(self) -> tuple[Tensor, ...]:
        steps = self.steps
        bias = [biases(cell.b) for cell in self.cells]

        def body(i: Tensor, *carried: list[Tensor]) -> tuple[list[Tensor], ...]:
            new: tuple[list[Tensor], ...] = ([], [], [], [])
            for k, (h, states, gates, candidates) in enumerate(zip(*carried, strict=True)):
                t = steps - 1 - i if self.backward[k] else i
                cell, x = self.cells[k], self.x[k]
                a = bias[k] if x is None else tf.matmul(x[t], cell.w_x) + bias[k]
                h, ru, c = gru_step(h, a, cell.w_ru, cell.w_c, self.clip)
                slot = t if self.backward[k] else t + 1
                parts = (h, states.write(slot, h), gates.write(t, ru), candidates.write(t, c))
                for part, value in zip(new, parts, strict=True):
                    part.append(value)
            return new

        start: tuple[list[Tensor], ...] = (list(self.h0), [], [], [])
        for k, h in enumerate(self.h0):
            units = h.shape[1]
            start[1].append(stack_of(steps + 1, h, units).write(steps if self.backward[k] else 0, h))
            start[2].append(stack_of(steps, h, 2 * units))
            start[3].append(stack_of(steps, h, units))
        last, *saved = loop(steps, body, start)
        self.states, self.gates, self.candidates = ([a.stack() for a in arrays] for arrays in saved)
        return tuple(
            (states[:steps] if back else states[1:]) if all_bins else h
            for h, states, back, all_bins in zip(last, self.states, self.backward, self.sequence, strict=True)
        )

    def gradient(self, *cotangents: Tensor) -> list[Tensor | None]:
        steps = self.steps
        transposed = [(tf.transpose(cell.w_ru), tf.transpose(cell.w_c)) for cell in self.cells]
        wants_dx = [self.input_gradient and x is not None for x in self.x]

        def body(i: Tensor, *carried: list[Tensor]) -> tuple[list[Tensor], ...]:
            new: tuple[list[Tensor], ...] = ([], [], [])
            for k, (d, sums, dx) in enumerate(zip(*carried, strict=True)):
                t = i if self.backward[k] else steps - 1 - i
                states, x = self.states[k], self.x[k]
                before, after = (t + 1, t) if self.backward[k] else (t, t + 1)
                if self.sequence[k]:
                    d = d + cotangents[k][t]
                back = gru_step_back(
                    d, states[before], states[after], self.gates[k][t], self.candidates[k][t],
                    *transposed[k], clip=self.clip,
                )  # fmt: skip
                x_t = None if x is None else x[t]
                new[0].append(back.before)
                new[1].append(
                    [s + g for s, g in zip(sums, weight_gradients(states[before], x_t, back), strict=True)]
                )
                if wants_dx[k]:
                    both = tf.concat([back.ru, back.c], 1)
                    dx = dx.write(t, tf.matmul(both, self.cells[k].w_x, transpose_b=True))
                new[2].append(dx)
            return new

        start: tuple[list[Tensor], ...] = ([], [], [])
        for k, (h, cell) in enumerate(zip(self.h0, self.cells, strict=True)):
            start[0].append(tf.zeros_like(h) if self.sequence[k] else cotangents[k])
            start[1].append([tf.zeros_like(w) for w in cell if w is not None])
            width = cell.w_x.shape[0] if cell.w_x is not None else 1
            start[2].append(stack_of(steps, h, width) if wants_dx[k] else tf.zeros([], h.dtype))
        before_first, sums, dx = loop(steps, body, start)
        result: list[Tensor | None] = []
        for k, x in enumerate(self.x):
            if x is not None:
                result.append(dx[k].stack() if wants_dx[k] else None)
            result += [*sums[k], before_first[k]]
        return result
