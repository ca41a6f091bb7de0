"""A stand-in for the original program: random models of its form, evaluated in numpy, written as it writes.

From the equations of LFADS (Sussillo et al., arXiv 1608.06315) and the names and shapes of the original's
variables, one bin after the other, in 64 bits. It shares no code with the package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DEFAULTS: dict[str, Any] = {
    "batch_size": 4, "cell_clip_value": 5.0, "ci_enc_dim": 4, "co_dim": 2, "con_dim": 5,
    "controller_input_lag": 1, "do_causal_controller": "false", "do_feed_factors_to_controller": "true",
    "do_train_readin": "true", "ext_input_dim": 0, "factors_dim": 3, "feedback_factors_or_rates": "factors",
    "gen_dim": 6, "ic_dim": 4, "ic_enc_dim": 5, "ic_post_var_min": 1e-4, "ic_prior_var_max": 0.1,
    "ic_prior_var_min": 0.1, "ic_prior_var_scale": 0.1, "inject_ext_input_to_gen": "false",
    "learning_rate_init": 0.01, "learning_rate_stop": 1e-5, "num_steps_for_gen_ic": 2**63 - 1,
    "output_dist": "poisson", "ps_nexamples_to_process": 2**63 - 1, "device": "cpu:0",
}  # fmt: skip


def logistic(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


class Original:
    """A model with random parameters; a variable is made when an equation first asks for it.

    neurons : of each session; aligned : sessions with an alignment matrix; hps : changes to `DEFAULTS`.
    """

    def __init__(
        self,
        neurons: dict[str, int],
        *,
        bins: int = 7,
        aligned: tuple[str, ...] = (),
        seed: int = 0,
        **hps: Any,
    ) -> None:
        self.hps = {**DEFAULTS, **hps}
        self.neurons, self.bins, self.aligned = neurons, bins, aligned
        self.variables: dict[str, Array] = {}
        self.rng = np.random.default_rng(seed)

    def hp(self, name: str) -> Any:
        """A hyperparameter as a number, a truth value or a word."""
        value = self.hps[name]
        return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value

    def dim(self, name: str) -> int:
        return int(self.hp(name))

    def variable(self, name: str, *shape: int, scale: float = 0.5) -> Array:
        key = f"LFADS/{name}:0"
        if key not in self.variables:
            self.variables[key] = self.rng.normal(0.0, scale, shape).astype(np.float32)
        return self.variables[key].astype(float)

    def linear(self, name: str, x: Array, outputs: int) -> Array:
        w = self.variable(f"{name}/W", x.shape[1], outputs)
        return x @ w + self.variable(f"{name}/b", 1, outputs)

    # -- cells

    def _state(self, h: Array, u: Array, c: Array) -> Array:
        limit = float(self.hp("cell_clip_value"))
        return np.clip(u * h + (1.0 - u) * c, -limit, limit)

    def gru(self, scope: str, x: Array, h: Array) -> Array:
        """The encoders' cell: one matrix for [x, h]."""
        units = h.shape[1]
        ru = self.linear(f"{scope}/GRU/Gates/xh_2_ru", np.concatenate([x, h], 1), 2 * units)
        r, u = logistic(ru[:, :units]), logistic(ru[:, units:] + 1.0)
        c = np.tanh(self.linear(f"{scope}/GRU/Candidate/xrh_2_c", np.concatenate([x, r * h], 1), units))
        return self._state(h, u, c)

    def gen_gru(self, scope: str, x: Array | None, h: Array) -> Array:
        """The cell of generator and controller: matrices apart, biases with the recurrent ones."""
        units, start = h.shape[1], f"{scope}/GenGRU"
        ru = self.linear(f"{start}/Gates/h_2_ru", h, 2 * units)
        if x is not None:
            ru = ru + x @ self.variable(f"{start}/Gates/x_2_ru/W", x.shape[1], 2 * units)
        r, u = logistic(ru[:, :units]), logistic(ru[:, units:] + 1.0)
        c = self.linear(f"{start}/Candidate/rh_2_c", r * h, units)
        if x is not None:
            c = c + x @ self.variable(f"{start}/Candidate/x_2_c/W", x.shape[1], units)
        return self._state(h, u, np.tanh(c))

    # -- the model

    def read_in(self, session: str, x: Array) -> Array:
        if len(self.neurons) == 1 and session not in self.aligned:
            return x
        flat = self.linear(f"x_2_infac_{session}.h5", x.reshape(-1, x.shape[2]), self.dim("factors_dim"))
        return flat.reshape(*x.shape[:2], -1)

    def encode(self, kind: str, seen: Array, bins: int, backward: bool) -> list[Array]:
        side = "rev" if backward else "fwd"
        scope = f"{kind}_enc_{side}"
        state = np.tile(
            self.variable(f"{scope}/{kind}_enc_t0_{side}", 1, self.dim(f"{kind}_enc_dim")), (len(seen), 1)
        )
        states: list[Any] = [None] * bins
        for t in reversed(range(bins)) if backward else range(bins):
            states[t] = state = self.gru(scope, seen[:, t], state)
        return states

    def initial_condition(self, seen: Array, out: dict[str, Array]) -> Array:
        gen, ic = self.dim("gen_dim"), self.dim("ic_dim")
        if not ic:
            return np.tile(self.variable("gen/g0", 1, gen), (len(seen), 1))
        bins = min(self.dim("num_steps_for_gen_ic"), self.bins)
        ends = self.encode("ic", seen, bins, False)[-1], self.encode("ic", seen, bins, True)[0]
        mean, logvar = (
            self.linear(f"z/ic_enc_2_post_g0/{part}", np.concatenate(ends, 1), ic)
            for part in ("mean", "logvar")
        )
        out["post_g0_mean"] = mean
        out["post_g0_logvar"] = np.log(np.exp(logvar) + self.hp("ic_post_var_min"))
        low, high = self.hp("ic_prior_var_min"), self.hp("ic_prior_var_max")
        raw = self.variable("z/prior_g0/logvar", 1, ic, scale=1.5)
        prior = np.log(low + (high - low) * logistic(np.exp(raw))) if high > low else raw
        out["prior_g0_mean"] = np.tile(self.variable("z/prior_g0/mean", 1, ic), (len(seen), 1))
        out["prior_g0_logvar"] = np.tile(prior, (len(seen), 1))
        return mean if ic == gen else self.linear("gen/g0_2_gen_ic", mean, gen)

    def factors(self, g: Array) -> Array:
        w = self.variable("gen/gen_2_fac/W", self.dim("gen_dim"), self.dim("factors_dim"))
        return g @ (w / np.sqrt((w**2).sum(0)))

    def read_out(self, session: str, factors: Array) -> tuple[Array, Array]:
        """Distribution parameters as they are saved, and what is fed back."""
        neurons = self.neurons[session]
        if self.hp("output_dist") == "gaussian":
            means = self.linear(f"glm/fac_2_means_{session}.h5", factors, neurons)
            logvars = self.linear(f"glm/fac_2_logvars_{session}.h5", factors, neurons)
            return np.concatenate([means, np.exp(logvars)], 1), means
        if len(self.neurons) == 1 and neurons == self.dim("factors_dim"):
            rates = np.exp(factors)
        else:
            rates = np.exp(self.linear(f"glm/fac_2_logrates_{session}.h5", factors, neurons))
        return rates, rates

    def push_mean(self, session: str, x: Array, ext: Array | None) -> dict[str, Array]:
        """The original's push-mean outputs for data (E, T, D), which it took in 32 bits."""
        x, ext = (None if v is None else v.astype(np.float32).astype(float) for v in (x, ext))
        out: dict[str, Array] = {}
        inject = self.hp("inject_ext_input_to_gen")
        seen = self.read_in(session, x)
        if ext is not None and not inject:
            seen = np.concatenate([seen, ext], 2)
        g = out["gen_ics"] = self.initial_condition(seen, out)
        co = self.dim("co_dim")
        if co:
            sides = [self.encode("ci", seen, self.bins, False)]
            if not self.hp("do_causal_controller"):
                sides.append(self.encode("ci", seen, self.bins, True))
            con = np.tile(self.variable("con/c0", 1, self.dim("con_dim")), (len(x), 1))
            self.variable("z/u_prior_ar1/logevars", 1, co)
            self.variable("z/u_prior_ar1/logatau", 1, co)
        factors = self.factors(g)
        fed = {"factors": factors, "rates": self.read_out(session, factors)[1]}
        series: dict[str, list[Array]] = {}
        for t in range(self.bins):
            given = []
            if co:
                con = self.gen_gru("con", self.controller_input(sides, t, fed), con)
                u = self.linear("con/con_to_post_co/mean", con, co)
                self.linear("con/con_to_post_co/logvar", con, co)
                series.setdefault("controller_outputs", []).append(u)
                given.append(u)
            if ext is not None and inject:
                given.append(ext[:, t])
            g = self.gen_gru("gen", np.concatenate(given, 1) if given else None, g)
            factors = self.factors(g)
            params, back = self.read_out(session, factors)
            fed = {"factors": factors, "rates": back}
            for name, value in (("gen_states", g), ("factors", factors), ("output_dist_params", params)):
                series.setdefault(name, []).append(value)
        return {**out, **{name: np.stack(values, 1) for name, values in series.items()}}

    def controller_input(self, sides: list[list[Array]], t: int, fed: dict[str, Array]) -> Array:
        lag = self.dim("controller_input_lag")
        parts = []
        for states, at in zip(sides, (t - lag, t + lag)[: len(sides)], strict=True):
            parts.append(states[at] if 0 <= at < self.bins else np.zeros_like(states[0]))
        if self.hp("do_feed_factors_to_controller"):
            parts.append(fed[self.hp("feedback_factors_or_rates")])
        return np.concatenate(parts, 1)

    # -- files

    def write(self, folder: Path, *, trials: int = 5, own_names: bool = False) -> None:
        """Draw data and write a case; `own_names`: files are called as the original calls them."""
        ext_dim = self.dim("ext_input_dim")
        for session, neurons in self.neurons.items():
            inputs: dict[str, Array] = {}
            for split, count in (("train", trials), ("valid", trials - 2)):
                x = self.rng.poisson(1.0, (count, self.bins, neurons)).astype(np.int64)
                if self.hp("output_dist") == "gaussian":
                    x = self.rng.normal(size=x.shape)
                inputs[f"{split}_data"] = x
                ext = self.rng.normal(size=(count, self.bins, ext_dim)) if ext_dim else None
                if ext is not None:
                    inputs[f"{split}_ext_input"] = ext
                written = min(count, self.dim("ps_nexamples_to_process"))
                outputs = {name: a[:written] for name, a in self.push_mean(session, x, ext).items()}
                outputs["costs"] = np.full(written, 99.0)
                middle, end = (".h5", "") if own_names else ("", ".h5")
                save(folder / f"model_runs_{session}{middle}_{split}_posterior_push_mean{end}", outputs)
            if session in self.aligned:
                inputs["alignment_matrix_cxf"] = self.rng.normal(size=(neurons, self.dim("factors_dim")))
            save(folder / f"lfads_{session}.h5", inputs)
        self.variables["LFADS/global_step:0"] = np.array(7)
        save(folder / ("model_params" if own_names else "model_params.h5"), self.variables)
        name = "hyperparameters-7.txt" if own_names else "hyperparameters.json"
        (folder / name).write_text(json.dumps(self.hps))


def save(path: Path, arrays: dict[str, Array]) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name.replace("/", "_"), data=array)
