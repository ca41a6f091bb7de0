"""The hand-written backward passes against automatic differentiation and finite differences, in float64."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.network.controller import joint_scan
from lfadsrm_hpc.model.network.gru import Cell, scan

T, B = 5, 3
CLIP = 1.5


def normal(rng: np.random.Generator, *shape: int, scale: float = 0.7) -> Any:
    return tf.constant(rng.normal(0, scale, shape))


def cell(rng: np.random.Generator, inputs: int, units: int) -> Cell:
    return Cell(
        normal(rng, inputs, 3 * units) if inputs else None,
        normal(rng, units, 2 * units),
        normal(rng, units, units),
        normal(rng, 3 * units),
    )


def plain_step(c: Cell, x: Any, h: Any) -> Any:
    """One bin from the equations, with biases apart."""
    units = c.w_c.shape[-1]
    a = c.b + tf.constant(np.repeat([0.0, 1.0, 0.0], units))
    if x is not None:
        a = a + x @ c.w_x
    ru = tf.sigmoid(a[..., : 2 * units] + h @ c.w_ru)
    candidate = tf.tanh(a[..., 2 * units :] + (ru[..., :units] * h) @ c.w_c)
    u = ru[..., units:]
    return tf.clip_by_value(u * h + (1 - u) * candidate, -CLIP, CLIP)


def plain_scan(c: Cell, x: Any, h: Any) -> Any:
    states = []
    for t in range(T):
        h = plain_step(c, None if x is None else x[t], h)
        states.append(h)
    return tf.stack(states)


def compare(values: list[Any], ours: Any, plain: Any, compiled: bool = False) -> None:
    """Check that two functions of the values and all their gradients agree."""
    results = []
    for function in (ours, plain):

        def both(*v: Any, function: Any = function) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(v)
                y = function(*v)
            return y, tape.gradient(y, v)

        xla = compiled and function is ours
        results.append(tf.function(both, autograph=False, jit_compile=xla)(*values))
    (y, grads), (y_plain, grads_plain) = results
    np.testing.assert_allclose(y, y_plain, rtol=1e-11)
    for g, g_plain in zip(grads, grads_plain, strict=True):
        assert np.abs(g_plain).max() > 0
        np.testing.assert_allclose(g, g_plain, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("compiled", [False, True])
def test_scan_with_and_without_inputs(compiled: bool) -> None:
    """Initial states reach beyond the clip."""
    rng = np.random.default_rng(1)
    a, b = cell(rng, 4, 3), cell(rng, 0, 5)
    values = [normal(rng, T, B, 4), *a, *(w for w in b if w is not None)]
    values += [normal(rng, B, n, scale=1.5) for n in (3, 5)]
    weigh = normal(rng, T, B, 3), normal(rng, T, B, 5)

    def run(scan_a: Any, scan_b: Any, *v: Any) -> Any:
        states = scan_a(Cell(*v[1:5]), v[0], v[8]), scan_b(Cell(None, *v[5:8]), None, v[9])
        return sum(tf.reduce_sum(w * y) for w, y in zip(weigh, states, strict=True))

    def ours(c: Cell, x: Any, h: Any) -> Any:
        return scan(c, x, h, steps=T, clip=CLIP, input_gradient=True)

    compare(
        values, functools.partial(run, ours, ours), functools.partial(run, plain_scan, plain_scan), compiled
    )


def test_scan_of_several_cells_at_once() -> None:
    rng = np.random.default_rng(2)
    both = [cell(rng, 4, 3) for _ in range(2)]
    stacked = [tf.stack(weights) for weights in zip(*both, strict=True)]
    values = [normal(rng, T, 2, B, 4), *stacked, normal(rng, 2, B, 3)]
    weigh = normal(rng, T, 2, B, 3)

    def ours(*v: Any) -> Any:
        return tf.reduce_sum(weigh * scan(Cell(*v[1:5]), v[0], v[5], steps=T, clip=CLIP, input_gradient=True))

    def plain(*v: Any) -> Any:
        states = [plain_scan(Cell(*(w[k] for w in v[1:5])), v[0][:, k], v[5][k]) for k in range(2)]
        return tf.reduce_sum(weigh * tf.stack(states, 1))

    compare(values, ours, plain)


def test_scan_against_finite_differences() -> None:
    rng = np.random.default_rng(2)
    c, x, h0 = cell(rng, 2, 3), normal(rng, T, B, 2), normal(rng, B, 3, scale=0.3)

    def cost(w_ru: Any) -> Any:
        states = scan(c._replace(w_ru=w_ru), x, h0, steps=T, clip=9.0)
        return tf.reduce_sum(tf.square(states))

    with tf.GradientTape() as tape:
        tape.watch(c.w_ru)
        y = cost(c.w_ru)
    gradient = tape.gradient(y, c.w_ru).numpy()
    for i, j in ((0, 0), (2, 5), (1, 3)):
        step = np.zeros(c.w_ru.shape)
        step[i, j] = 1e-5
        difference = (cost(c.w_ru + step) - cost(c.w_ru - step)) / 2e-5
        assert gradient[i, j] == pytest.approx(float(difference), rel=1e-6)


def plain_joint(v: dict[str, Any], feedback: bool) -> Any:
    """Controller and generator bin by bin, straight from the equations."""
    con, g = v["con0"], v["g0"]
    cons, gens = [], []
    dropped = g
    for t in range(T):
        x = v["codes"][t]
        if feedback:
            fed = dropped @ v["w_factors"]
            if "w_out" in v:
                fed = fed @ v["w_out"] + v["b_out"]
                fed = tf.exp(fed) if v["log_rates"] else fed
            if "feedback_scale" in v:
                fed = fed * v["feedback_scale"][t]
            x = tf.concat([x, fed], 1)
        con = plain_step(v["con"], x, con)
        mean, logvar = tf.split(con @ v["w_u"] + v["b_u"], 2, axis=1)
        u = mean + v["noise"][t] * tf.exp(0.5 * logvar)
        if "injected" in v:
            u = tf.concat([u, v["injected"][t]], 1)
        g = plain_step(v["gen"], u, g)
        dropped = g * v["state_scale"][t] if "state_scale" in v else g
        cons.append(con)
        gens.append(g)
    return tf.stack(cons), tf.stack(gens)


@pytest.mark.parametrize(
    ("fed_back", "dropout", "compiled"),
    [
        ("factors", True, False),
        ("factors", False, False),
        ("rates", True, True),
        ("means", True, False),
        ("nothing", True, False),
    ],
)
def test_joint_scan(fed_back: str, dropout: bool, compiled: bool) -> None:
    rng = np.random.default_rng(3)
    codes, inputs, injected, con, gen, factors, neurons = 3, 2, 1, 4, 5, 3, 6
    width = {"factors": factors, "rates": neurons, "means": neurons, "nothing": 0}[fed_back]
    feedback = width > 0
    values: dict[str, Any] = {
        "w_u": normal(rng, con, 2 * inputs), "b_u": normal(rng, 2 * inputs),
        "con0": normal(rng, B, con), "g0": normal(rng, B, gen, scale=1.5),
        "codes": normal(rng, T, B, codes), "injected": normal(rng, T, B, injected),
    }  # fmt: skip
    if feedback:
        values["w_factors"] = normal(rng, gen, factors)
    if width == neurons:
        values.update(w_out=normal(rng, factors, neurons, scale=0.3), b_out=normal(rng, neurons))
    fixed: dict[str, Any] = {"noise": normal(rng, T, B, inputs), "log_rates": fed_back != "means"}
    if dropout:
        fixed["state_scale"] = tf.constant(rng.integers(0, 2, (T, B, gen)) / 0.5)
        if feedback:
            fixed["feedback_scale"] = tf.constant(rng.integers(0, 2, (T, B, width)) / 0.5)
    cells = cell(rng, codes + width, con), cell(rng, inputs + injected, gen)
    names = list(values)
    weigh = normal(rng, T, B, con), normal(rng, T, B, gen)

    def unpack(v: Any) -> dict[str, Any]:
        named = dict(zip(names, v[8:], strict=True))
        return {**named, **fixed, "con": Cell(*v[:4]), "gen": Cell(*v[4:8])}

    def ours(*v: Any) -> Any:
        d = unpack(v)
        states = joint_scan(
            controller=d["con"], generator=d["gen"],
            w_u=d["w_u"], b_u=d["b_u"],
            w_factors=d.get("w_factors"), w_rates=(d["w_out"], d["b_out"]) if width == neurons else None,
            con0=d["con0"], g0=d["g0"], codes=d["codes"], noise=d["noise"], injected=d["injected"],
            state_scale=d.get("state_scale"), feedback_scale=d.get("feedback_scale"),
            feedback=feedback, log_rates=d["log_rates"], clip=CLIP,
        )  # fmt: skip
        return sum(tf.reduce_sum(w * y) for w, y in zip(weigh, states, strict=True))

    def plain(*v: Any) -> Any:
        return sum(tf.reduce_sum(w * y) for w, y in zip(weigh, plain_joint(unpack(v), feedback), strict=True))

    compare([*cells[0], *cells[1], *values.values()], ours, plain, compiled)
