"""The hand-written backward passes against automatic differentiation and finite differences, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.controller import joint_scan
from lfadsrm_hpc.model.gru import Cell, biases, gru_step, scan

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


def plain_scan(c: Cell, x: Any, h: Any, backward: bool) -> Any:
    states = [None] * T
    for t in reversed(range(T)) if backward else range(T):
        a = biases(c.b) if x is None else x[t] @ c.w_x + biases(c.b)
        h = gru_step(h, a, c.w_ru, c.w_c, CLIP)[0]
        states[t] = h
    return tf.stack(states), h


def compare(values: list[Any], ours: Any, plain: Any, *, compiled: bool = False) -> None:
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
def test_scan_of_several_cells(compiled: bool) -> None:
    """Forward and backward, with and without inputs, all states or the last; initial states beyond the clip."""
    rng = np.random.default_rng(1)
    a, b, c = cell(rng, 4, 3), cell(rng, 4, 2), cell(rng, 0, 5)
    x = normal(rng, T, B, 4)
    h0 = [normal(rng, B, n, scale=1.5) for n in (3, 2, 5)]
    weigh = [normal(rng, T, B, 3), normal(rng, B, 2), normal(rng, T, B, 5)]
    values = [x, *a, *b, *(w for w in c if w is not None), *h0]

    def unpack(v: Any) -> Any:
        return v[0], Cell(*v[1:5]), Cell(*v[5:9]), Cell(None, *v[9:12]), list(v[12:])

    def total(outputs: Any) -> Any:
        return sum(tf.reduce_sum(w * y) for w, y in zip(weigh, outputs, strict=True))

    def ours(*v: Any) -> Any:
        x, a, b, c, h0 = unpack(v)
        return total(
            scan(
                [a, b, c], [x, x, None], h0,
                steps=T, backward=[False, True, False], sequence=[True, False, True], clip=CLIP,
                input_gradient=True,
            )
        )  # fmt: skip

    def plain(*v: Any) -> Any:
        x, a, b, c, h0 = unpack(v)
        return total(
            [
                plain_scan(a, x, h0[0], False)[0],
                plain_scan(b, x, h0[1], True)[1],
                plain_scan(c, None, h0[2], False)[0],
            ]
        )

    compare(values, ours, plain, compiled=compiled)


def test_scan_against_finite_differences() -> None:
    rng = np.random.default_rng(2)
    c, x, h0 = cell(rng, 2, 3), normal(rng, T, B, 2), normal(rng, B, 3, scale=0.3)

    def cost(w_ru: Any) -> Any:
        states = scan(
            [c._replace(w_ru=w_ru)], [x], [h0], steps=T, backward=[False], sequence=[True], clip=9.0
        )[0]
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
                fed = tf.exp(fed @ v["w_out"] + v["b_out"])
            if "feedback_scale" in v:
                fed = fed * v["feedback_scale"][t]
            x = tf.concat([x, fed], 1)
        con = gru_step(con, x @ v["con"].w_x + biases(v["con"].b), v["con"].w_ru, v["con"].w_c, CLIP)[0]
        u = con @ v["w_mu"] + v["b_mu"] + v["noise"][t] * tf.exp(0.5 * (con @ v["w_lv"] + v["b_lv"]))
        if "injected" in v:
            u = tf.concat([u, v["injected"][t]], 1)
        g = gru_step(g, u @ v["gen"].w_x + biases(v["gen"].b), v["gen"].w_ru, v["gen"].w_c, CLIP)[0]
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
        ("nothing", True, False),
    ],
)
def test_joint_scan(fed_back: str, dropout: bool, compiled: bool) -> None:
    rng = np.random.default_rng(3)
    codes, inputs, injected, con, gen, factors, neurons = 3, 2, 1, 4, 5, 3, 6
    width = {"factors": factors, "rates": neurons, "nothing": 0}[fed_back]
    feedback = width > 0
    values: dict[str, Any] = {
        "w_mu": normal(rng, con, inputs), "b_mu": normal(rng, inputs),
        "w_lv": normal(rng, con, inputs), "b_lv": normal(rng, inputs),
        "con0": normal(rng, B, con), "g0": normal(rng, B, gen, scale=1.5),
        "codes": normal(rng, T, B, codes), "injected": normal(rng, T, B, injected),
    }  # fmt: skip
    if feedback:
        values["w_factors"] = normal(rng, gen, factors)
    if fed_back == "rates":
        values.update(w_out=normal(rng, factors, neurons, scale=0.3), b_out=normal(rng, neurons))
    fixed: dict[str, Any] = {"noise": normal(rng, T, B, inputs)}
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
            maps=(d["w_mu"], d["b_mu"], d["w_lv"], d["b_lv"]),
            w_factors=d.get("w_factors"), w_rates=(d["w_out"], d["b_out"]) if fed_back == "rates" else None,
            con0=d["con0"], g0=d["g0"], codes=d["codes"], noise=d["noise"], injected=d["injected"],
            state_scale=d.get("state_scale"), feedback_scale=d.get("feedback_scale"),
            feedback=feedback, clip=CLIP,
        )  # fmt: skip
        return sum(tf.reduce_sum(w * y) for w, y in zip(weigh, states, strict=True))

    def plain(*v: Any) -> Any:
        return sum(tf.reduce_sum(w * y) for w, y in zip(weigh, plain_joint(unpack(v), feedback), strict=True))

    compare([*cells[0], *cells[1], *values.values()], ours, plain, compiled=compiled)
