"""Controller and generator in one scan over time, with a hand-written backward pass (see `gru`).

At bin t:
    in_t  = dropout([codes_t, f_{t-1}]);  con_t = GRU(in_t, con_{t-1})
    mu_t  = con_t W + b;  logvar_t = con_t W' + b';  u_t = mu_t + noise_t exp(logvar_t / 2)
    g_t   = GRU([u_t, injected_t], g_{t-1});  f_t = (dropout(g_t)) W^
with f_{-1} = g_{-1} W^, without dropout. Where rates are fed back, f_{t-1} stands for
exp(f_{t-1} W_out + b_out), or that without the exponential where the read-out gives means themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lfadsrm_hpc.model.backend import Tensor, tf
from lfadsrm_hpc.model.network.gru import (
    Cell,
    gru_step,
    gru_step_back,
    input_weights,
    loop,
    outer,
    stack_of,
    weight_gradients,
    with_one,
)
from lfadsrm_hpc.model.network.products import product

_CELL = ("w_x", "w_ru", "w_c")  # w_x with the biases as its last row


def joint_scan(
    *,
    controller: Cell,
    generator: Cell,
    w_u: Tensor,
    b_u: Tensor,
    w_factors: Tensor,
    w_rates: tuple[Tensor, Tensor] | None,
    con0: Tensor,
    g0: Tensor,
    codes: Tensor,
    noise: Tensor,
    injected: Tensor | None,
    state_scale: Tensor | None,
    feedback_scale: Tensor | None,
    feedback: bool,
    log_rates: bool = True,
    clip: float,
) -> tuple[Tensor, Tensor]:
    """Run controller and generator together.

    Parameters
    ----------
    controller, generator : weights; inputs are [codes, fed-back] and [u, injected].
    w_u, b_u : (C, 2U), (2U,) from controller states to mean and log-variance of u.
    w_factors : (G, F) normalised; w_rates : read-out (F, D) and (D,) if rates are fed back.
    con0, g0 : (B, C), (B, G) states before the first bin.
    codes : (T, B, N), already dropped out; noise : (T, B, U) standard normal; injected : (T, B, I) or None.
    state_scale : (T, B, G) dropout of generator states as a factor, or None.
    feedback_scale : (T, B, F or D) dropout of what is fed back, or None.
    feedback : whether anything is fed back.
    log_rates : whether the read-out gives the log of the rates.

    Returns
    -------
    tuple of Tensor
        States of the controller (T, B, C) and of the generator (T, B, G).
    """
    named: dict[str, Tensor | None] = {}
    for prefix, cell in (("con", controller), ("gen", generator)):
        weights = (input_weights(cell), cell.w_ru, cell.w_c)
        named.update({f"{prefix}_{k}": v for k, v in zip(_CELL, weights, strict=True)})
    named.update(w_u=w_u, b_u=b_u, con0=con0, g0=g0, codes=codes, noise=noise, injected=injected)
    if feedback:
        named.update(w_factors=w_factors, feedback_scale=feedback_scale)
        if state_scale is not None:  # the state before bin t, of which the initial one is not dropped out
            named["before_scale"] = tf.concat([tf.ones_like(state_scale[:1]), state_scale[:-1]], 0)
        if w_rates is not None:
            named.update(w_out=w_rates[0], b_out=w_rates[1])
    names = [name for name, value in named.items() if value is not None]

    def run(*args: Tensor) -> tuple[tuple[Tensor, Tensor], Callable[..., list[Tensor | None]]]:
        problem = _Joint(dict(zip(names, args, strict=True)), clip, log_rates)
        return problem.forward(), problem.gradient

    con, gen = tf.custom_gradient(run)(*[named[name] for name in names])
    return con, gen


class _Joint:
    def __init__(self, v: dict[str, Tensor], clip: float, log_rates: bool) -> None:
        self.v, self.clip = v, clip
        self.exponential = log_rates and "w_out" in v
        self.steps = v["codes"].shape[0]
        self.feedback = "w_factors" in v

    def fed_back(self, t: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return dropped-out state, factors, what is fed back, and that with its own dropout."""
        v = self.v
        dropped = g * v["before_scale"][t] if "before_scale" in v else g
        factors = product(dropped, v["w_factors"])
        fed = product(factors, v["w_out"]) + v["b_out"] if "w_out" in v else factors
        if self.exponential:
            fed = tf.exp(fed)
        return dropped, factors, fed, fed * v["feedback_scale"][t] if "feedback_scale" in v else fed

    def generator_input(self, t: Tensor, u: Tensor) -> Tensor:
        return with_one(tf.concat([u, self.v["injected"][t]], 1) if "injected" in self.v else u)

    def controller_input(self, t: Tensor, g: Tensor) -> Tensor:
        codes = self.v["codes"][t]
        return with_one(tf.concat([codes, self.fed_back(t, g)[3]], 1) if self.feedback else codes)

    def forward(self) -> tuple[Tensor, Tensor]:
        v, steps = self.v, self.steps

        def body(t: Tensor, con: Tensor, gen: Tensor, saved: list[Tensor]) -> tuple[Any, ...]:
            a = product(self.controller_input(t, gen), v["con_w_x"])
            con, con_ru, con_c = gru_step(con, a, v["con_w_ru"], v["con_w_c"], self.clip)
            mean, logvar = tf.split(product(con, v["w_u"]) + v["b_u"], 2, axis=1)
            part = v["noise"][t] * tf.exp(0.5 * logvar)
            u = mean + part
            a = product(self.generator_input(t, u), v["gen_w_x"])
            gen, gen_ru, gen_c = gru_step(gen, a, v["gen_w_ru"], v["gen_w_c"], self.clip)
            values = (
                (t + 1, con),
                (t, con_ru),
                (t, con_c),
                (t + 1, gen),
                (t, gen_ru),
                (t, gen_c),
                (t, u),
                (t, part),
            )
            return con, gen, [s.write(at, value) for s, (at, value) in zip(saved, values, strict=True)]

        con0, g0 = v["con0"], v["g0"]
        c, g, inputs = con0.shape[1], g0.shape[1], v["noise"].shape[2]
        saved = [
            stack_of(steps + 1, g0, c).write(0, con0), stack_of(steps, g0, 2 * c), stack_of(steps, g0, c),
            stack_of(steps + 1, g0, g).write(0, g0), stack_of(steps, g0, 2 * g), stack_of(steps, g0, g),
            stack_of(steps, g0, inputs), stack_of(steps, g0, inputs),
        ]  # fmt: skip
        result: Any = loop(steps, body, (con0, g0, saved))
        self.saved = [array.stack() for array in result[2]]
        return self.saved[0][1:], self.saved[3][1:]

    def gradient(self, d_con_all: Tensor, d_gen_all: Tensor) -> list[Tensor | None]:
        v, steps = self.v, self.steps
        cons, con_ru, con_c, gens, gen_ru, gen_c, us, parts = self.saved
        inputs, codes = us.shape[2], v["codes"].shape[2]
        weights = [n for n in v if n.startswith(("con_", "gen_"))] + ["w_u", "b_u"]
        weights += [n for n in ("w_factors", "w_out", "b_out") if n in v]
        flows = [n for n in ("codes", "injected") if n in v]

        def body(
            i: Tensor, d_con: Tensor, d_gen: Tensor, sums: dict[str, Tensor], flow: dict[str, Any]
        ) -> Any:
            t = steps - 1 - i
            found: dict[str, Tensor] = {}
            back = gru_step_back(
                d_gen + d_gen_all[t],
                gens[t],
                gens[t + 1],
                gen_ru[t],
                gen_c[t],
                v["gen_w_ru"],
                v["gen_w_c"],
                self.clip,
            )
            grads = weight_gradients(gens[t], self.generator_input(t, us[t]), back)
            found.update({f"gen_{k}": g for k, g in zip(_CELL, grads, strict=True)})
            d_in = product(back.pre, v["gen_w_x"], transpose_b=True)
            if "injected" in v:
                flow["injected"] = flow["injected"].write(t, d_in[:, inputs:-1])
            d_gen, d_u = back.before, d_in[:, :inputs]
            con = cons[t + 1]
            d_map = tf.concat([d_u, 0.5 * d_u * parts[t]], 1)
            found.update(w_u=outer(con, d_map), b_u=tf.reduce_sum(d_map, 0))
            d_con = d_con + d_con_all[t] + product(d_map, v["w_u"], transpose_b=True)
            back = gru_step_back(
                d_con, cons[t], con, con_ru[t], con_c[t], v["con_w_ru"], v["con_w_c"], self.clip
            )
            grads = weight_gradients(cons[t], self.controller_input(t, gens[t]), back)
            found.update({f"con_{k}": g for k, g in zip(_CELL, grads, strict=True)})
            d_in = product(back.pre, v["con_w_x"], transpose_b=True)
            flow["codes"] = flow["codes"].write(t, d_in[:, :codes])
            if self.feedback:
                d_gen = d_gen + self._feedback_back(t, gens[t], d_in[:, codes:-1], found)
            return back.before, d_gen, {n: sums[n] + found[n] for n in weights}, flow

        start = (
            tf.zeros_like(v["con0"]),
            tf.zeros_like(v["g0"]),
            {n: tf.zeros_like(v[n]) for n in weights},
            {n: stack_of(steps, v["g0"], v[n].shape[2]) for n in flows},
        )
        d_con0, d_g0, sums, flow = loop(steps, body, start)
        found: dict[str, Any] = {"con0": d_con0, "g0": d_g0}
        found.update(sums)
        found.update({n: array.stack() for n, array in flow.items()})
        return [found.get(name) for name in v]

    def _feedback_back(self, t: Tensor, g: Tensor, d: Tensor, found: dict[str, Tensor]) -> Tensor:
        """Return the cotangent, through what is fed back, of the state before bin t; adds to `found`."""
        v = self.v
        dropped, factors, fed, _ = self.fed_back(t, g)
        if "feedback_scale" in v:
            d = d * v["feedback_scale"][t]
        if self.exponential:
            d = d * fed
        if "w_out" in v:
            found.update(w_out=outer(factors, d), b_out=tf.reduce_sum(d, 0))
            d = product(d, v["w_out"], transpose_b=True)
        found["w_factors"] = outer(dropped, d)
        d = product(d, v["w_factors"], transpose_b=True)
        return d * v["before_scale"][t] if "before_scale" in v else d
