"""A made-up LFADS whose outputs belong together, without any training: weights, posterior means, runs.

The generator is a real GRU with planted modes (a rotation, a slow decay); it is started from an initial state
for each condition, jittered from trial to trial, and pushed by inferred inputs. States give factors, factors
give rates, rates give spikes, so that every figure shows something that its reader could check. Used by the
tests of figures and by `docs/images/draw.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from lfadsrm_hpc.results.dynamics import Generator
from lfadsrm_hpc.results.model_params import open_model_params

Array = npt.NDArray[Any]
BIN_MS = 10.0
ROTATION_HZ, ROTATION_MS = 2.0, 400.0


@dataclass(frozen=True)
class Model:
    """Weights of a small LFADS with several sessions.

    Attributes
    ----------
    neurons : dict of session to number of neurons
    """

    neurons: dict[str, int]
    factors: int = 6
    inputs: int = 2
    units: int = 20
    seed: int = 0

    @cached_property
    def arrays(self) -> dict[str, Array]:
        """Return the parameters under the names that they have in `model_params.h5`."""
        rng = np.random.default_rng(self.seed)
        h, f = self.units, self.factors
        scale = 1 / np.sqrt(h)
        bias = np.concatenate([np.full(h, 2.0), np.zeros(h), np.zeros(h)])
        found = {
            "gen/W_ru": 0.3 * scale * rng.standard_normal((h, 2 * h)),
            "gen/W_c": _planted(rng, h),
            "gen/b": bias,
            "factors/W": rng.standard_normal((h, f)) * np.linspace(1.0, 0.5, f),
        }
        if self.inputs:
            w_x = np.zeros((self.inputs, 3 * h))
            w_x[:, 2 * h :] = rng.standard_normal((self.inputs, h))
            found |= {
                "gen/W_x": w_x,
                "co/W": np.zeros((4, 2 * self.inputs)),
                "co/b": np.zeros(2 * self.inputs),
            }
        common = rng.standard_normal((f, 400))  # neurons of all sessions are drawn from one population
        for session, count in self.neurons.items():
            own = common[:, rng.permutation(400)[:count]] / np.sqrt(f)
            found[f"readout/{session}/W"] = own
            found[f"readout/{session}/b"] = np.log(rng.uniform(4.0, 20.0, count) * BIN_MS / 1000)
            if len(self.neurons) > 1:
                rates = np.exp(found[f"readout/{session}/b"])
                # what inverts the read-out near the mean rates, with noise: sessions agree, but not exactly
                readin = np.linalg.pinv(own * rates) + 0.05 * rng.standard_normal((count, f)) / np.sqrt(count)
                found[f"readin/{session}/W"] = readin
                found[f"readin/{session}/b"] = -rates @ readin
        return {name: value.astype(np.float32) for name, value in found.items()}

    def write(self, path: Path, **attributes: Any) -> Path:
        """Write `model_params.h5`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            for name, value in self.arrays.items():
                file[name] = value
            about = {"kind": "lve", "epoch": 60, "step": 600, "note": ""}
            file.attrs.update(about)
            file.attrs["hyperparameters"] = json.dumps({"cell_clip_value": 5.0, "output_dist": "poisson"})
            file.attrs.update(attributes)
        return path

    def params(self, folder: Path) -> xr.Dataset:
        """Return the parameters as they are loaded."""
        return open_model_params(self.write(folder / "model_params.h5"))

    def outputs(
        self, session: str, condition: Array, *, bins: int = 60, start_ms: float = -100.0
    ) -> xr.Dataset:
        """Return posterior means of trials of these conditions (-1: none), with their spikes."""
        kinds, seed = max(int(condition.max(initial=0)) + 1, 1), list(self.neurons).index(session)
        rng = np.random.default_rng([self.seed, 1, seed])
        angle = 2 * np.pi * np.maximum(condition, 0) / kinds
        plane = np.random.default_rng([self.seed, 2]).standard_normal((4, self.units))
        first = np.stack(
            [np.cos(angle), np.sin(angle), 0.6 * np.cos(2 * angle), 0.8 * np.ones_like(angle)], 1
        )
        g0 = 0.5 * first @ plane + 0.12 * rng.standard_normal((len(condition), self.units))
        u = self._inputs(rng, angle, bins)
        states = self._states(g0, u)
        weights = self.arrays["factors/W"] / np.linalg.norm(self.arrays["factors/W"], axis=0)
        factors = states @ weights
        logs = factors @ self.arrays[f"readout/{session}/W"] + self.arrays[f"readout/{session}/b"]
        rates = np.exp(logs) * 1000 / BIN_MS
        neurons = self.neurons[session]
        time = ("trial", "time")
        found: dict[str, Any] = {
            "rates": ((*time, "neuron"), rates, {"units": "spikes/s"}),
            "factors": ((*time, "factor"), factors, {"units": "1"}),
            "generator_states": ((*time, "generator_unit"), states, {"units": "1"}),
            "spikes": (
                (*time, "neuron"),
                rng.poisson(np.minimum(np.exp(logs), 8)),
                {"units": "spikes per bin"},
            ),
        }
        if self.inputs:
            found["controller_outputs"] = (*time, "controller_output"), u, {"units": "1"}
        coords: dict[str, Any] = {
            "trial": np.arange(len(condition)),
            "time": start_ms + BIN_MS * np.arange(bins),
            "neuron": np.arange(neurons),
            "neuron_name": ("neuron", [f"unit{i:02d}" for i in range(neurons)]),
            "split": ("trial", np.where(np.arange(len(condition)) % 5, "train", "valid")),
        }
        if (condition >= 0).any():
            coords["condition"] = "trial", condition
        return xr.Dataset(found, coords, {"bin_ms": BIN_MS, "dataset": session})

    def _inputs(self, rng: np.random.Generator, angle: Array, bins: int) -> Array:
        """Return inferred inputs: a pulse 100 ms after the start of a trial, which jitters, and noise."""
        onset = 10 + rng.integers(0, 6, len(angle))
        after = np.arange(bins) - onset[:, None]
        pulse = np.exp(-np.maximum(after, 0) / 6.0) * (after >= 0)
        signs = np.stack([np.cos(angle), np.sin(angle), *[np.zeros_like(angle)] * self.inputs], 1)
        made = 0.8 * pulse[..., None] * signs[:, None, : self.inputs]
        return np.asarray(made + 0.08 * rng.standard_normal(made.shape))

    def _states(self, g0: Array, u: Array) -> Array:
        raw = self.arrays
        h = self.units
        w_h = np.stack([raw["gen/W_ru"][:, :h], raw["gen/W_ru"][:, h:], raw["gen/W_c"]]).astype(float)
        bias = raw["gen/b"].reshape(3, h).astype(float) + np.array([0.0, 1.0, 0.0])[:, None]
        states, state = [], g0
        pushes = u @ raw["gen/W_x"][:, 2 * h :].astype(float) if self.inputs else np.zeros((*u.shape[:2], h))
        for t in range(u.shape[1]):
            # each trial has its own input term
            biases = np.stack([np.broadcast_to(b, g0.shape) for b in (*bias[:2], bias[2] + pushes[:, t])])
            state = Generator(w_h, biases, 5.0).step(state).after
            states.append(state)
        return np.stack(states, 1)


def _planted(rng: np.random.Generator, units: int) -> Array:
    """Return candidate weights such that one bin at the origin turns two units and lets one decay slowly.

    There r = s(2), u = s(1) but for small weights, and the Jacobian is u + (1-u) r W_c.
    """
    r, u = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(-1.0))
    blocks = 0.55 * rng.standard_normal((units, units)) / np.sqrt(units)
    angle = 2 * np.pi * ROTATION_HZ * BIN_MS / 1000
    turn = np.exp(-BIN_MS / ROTATION_MS) * np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    blocks[:2], blocks[:, :2], blocks[2], blocks[:, 2] = 0, 0, 0, 0
    blocks[:2, :2] = (turn - u * np.eye(2)) / ((1 - u) * r)
    blocks[2, 2] = (np.exp(-BIN_MS / 250.0) - u) / ((1 - u) * r)
    basis, _ = np.linalg.qr(rng.standard_normal((units, units)))
    return np.asarray(basis @ blocks @ basis.T)


def conditions(kinds: int, trials: int) -> Array:
    """Return so many trials of each condition, one condition after the other in turn."""
    return np.arange(kinds * trials) % kinds


def fit_log(lowest: float = 240.0, epochs: int = 80, ramps: int = 12, seed: int = 0) -> pd.DataFrame:
    """Return a fit log as `read_fitlog` does."""
    rng = np.random.default_rng(seed)
    epoch = np.arange(1, epochs + 1)
    fall = 60 * np.exp(-epoch / 9.0) + 900 * np.exp(-epoch / 1.2)
    ramp = np.minimum(epoch / max(ramps, 1), 1.0)
    valid = lowest + fall + 0.002 * np.maximum(epoch - 45, 0) ** 1.6 + 0.5 * rng.standard_normal(epochs)
    log = pd.DataFrame(
        {
            "epoch": epoch, "step": 10 * epoch, "train_total": valid - 6 - 0.08 * epoch, "valid_total": valid,
            "train_recon": valid - 16, "valid_recon": valid - 10, "train_kl": 10.0, "valid_kl": 10.0,
            "l2": 1.0, "kl_weight": ramp, "l2_weight": ramp, "learning_rate": 0.01,
        }
    )  # fmt: skip
    settled = log[log["kl_weight"] >= 1]
    best = settled.loc[settled["valid_total"].idxmin()]
    log.attrs = {"lowest_valid_epoch": int(best["epoch"]), "lowest_valid_cost": float(best["valid_total"])}
    return log
