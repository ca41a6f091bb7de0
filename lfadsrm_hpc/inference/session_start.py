"""Where the read-in and the read-out of a new session start, so that a trained model knows it at once.

Where the new session shares conditions with those that the model was trained on, its averages by condition
are regressed on what the model has seen and said of the old ones:

- read-in: what the encoders saw of a condition (read-in, or counts), from the new session's averages, by
  ridge regression;
- read-out: the new session's averages, from the factors of a condition: a Poisson regression on the log of
  the mean, or for Gaussian data a linear one.

Without shared conditions the read-in starts at one of eight guesses: the two leading components of the new
session's signal take the place of those that the encoders know, in eight positions (quarter turns, and those
of the mirror image); the read-out starts as that of any model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.data.alignment.conditions import condition_trials
from lfadsrm_hpc.data.alignment.regression import condition_folds, ridge
from lfadsrm_hpc.data.inputs import SessionInputs
from lfadsrm_hpc.model.sampling.posterior import PUSH_MEAN, Sampler
from lfadsrm_hpc.model.sampling.trained import TrainedSession

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

GUESSES = 8
PENALTY = 1.0  # on squared read-out weights: nothing beside hundreds of spikes, much beside none
_FLOOR = 1e-4  # counts a bin: a neuron that never fires has no log-rate
_STEPS = 30


@dataclass
class Known:
    """What the model knows of the old sessions.

    inputs, factors : sums over sessions of averages by condition, (T, R) and (T, F), and how many they are.
    mean, covariance : of the encoders' inputs over single trials, (R,) and (R, R); see `_signal`.
    """

    inputs: dict[Any, Float64] = field(default_factory=dict)
    factors: dict[Any, Float64] = field(default_factory=dict)
    sessions: dict[Any, int] = field(default_factory=dict)
    mean: Float64 = field(default_factory=lambda: np.zeros(0))
    covariance: Float64 = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, label: Any, inputs: Array, factors: Array) -> None:
        self.inputs[label] = self.inputs.get(label, 0.0) + inputs
        self.factors[label] = self.factors.get(label, 0.0) + factors
        self.sessions[label] = self.sessions.get(label, 0) + 1


def regressed_start(
    params: RunParams, known: Known, new: SessionInputs, seen: npt.NDArray[np.bool_]
) -> dict[str, Array] | None:
    """Return where a new session's own parameters start by regression; None without a shared condition.

    Parameters
    ----------
    params : RunParams
        Of the trained model.
    known : Known
    new : SessionInputs
    seen : (D,) bool
        Neurons of the new session that the encoders will see.

    Returns
    -------
    arrays by name : `readin/W` (D, R), `readin/b` (R,), and perhaps `readout/W` (F, D), `readout/b` (D,)
    """
    averages, trials = _averages(new)
    bins = len(new.time_ms)
    shared = [c for c in averages if c in known.inputs and len(known.inputs[c]) == bins]
    if not shared:
        return None
    counts = np.concatenate([averages[c] for c in shared])
    inputs = np.concatenate([known.inputs[c] / known.sessions[c] for c in shared])
    factors = np.concatenate([known.factors[c] / known.sessions[c] for c in shared])
    found = _read_in(counts, inputs, seen, condition_folds(len(shared), len(counts)))
    weights = np.repeat([trials[c] for c in shared], bins).astype(np.float64)
    if params.output_dist == "gaussian":
        found |= _linear_read_out(factors, counts, weights)
    elif params.output_dist != "zero_inflated_gamma":  # whose mean is that of what is above 0
        found |= _log_read_out(factors, counts, weights)
    return found


def guessed_start(
    known: Known, new: SessionInputs, seen: npt.NDArray[np.bool_], number: int
) -> dict[str, Array]:
    """Return one of `GUESSES` read-ins for a new session that shares no condition with old ones."""
    counts = new.train_data.astype(np.float64)
    mean = counts.mean(axis=(0, 1))
    weights = np.zeros((len(seen), len(known.mean)))
    here, theirs = _leading(_signal(counts[..., seen])), _leading(known.covariance)
    count = min(here.shape[1], theirs.shape[1])
    if count:
        scale = (here[:, :count] ** 2).sum(axis=0)  # here / scale: components of variance 1
        weights[seen] = here[:, :count] / scale @ _turn(number)[:count, :count] @ theirs[:, :count].T
    return {"readin/W": weights, "readin/b": known.mean - mean @ weights}


def _turn(number: int) -> Float64:
    """Return one of the eight ways to lay a square on a square."""
    quarter, mirrored = divmod(number, 2)
    turn = np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), quarter)
    result: Float64 = turn * np.array([1.0, -1.0 if mirrored else 1.0])
    return result


def _signal(values: Float64) -> Float64:
    """Return the covariance of neighbouring bins, (D, D): noise that has no memory is not in it."""
    centred = values - values.mean(axis=(0, 1))
    before, after = (centred[:, :-1], centred[:, 1:]) if values.shape[1] > 1 else (centred, centred)
    both = np.einsum("etd,etk->dk", before, after, optimize=True) / (before.shape[0] * before.shape[1])
    result: Float64 = (both + both.T) / 2
    return result


def _leading(covariance: Float64) -> Float64:
    """Return its two first principal axes as columns, each as long as the standard deviation along it."""
    values, axes = np.linalg.eigh(covariance)
    order = np.argsort(values)[::-1][:2]
    order = order[values[order] > 1e-9 * max(values.max(), 1e-12)]
    result: Float64 = axes[:, order] * np.sqrt(values[order])
    return result


def _averages(inputs: SessionInputs) -> tuple[dict[Any, Float64], dict[Any, int]]:
    """Return the averages of training trials by condition, (T, D), and how many trials they are of."""
    if inputs.train_condition is None:
        return {}, {}
    rows = condition_trials(inputs.train_condition)
    means = {c: inputs.train_data[found].mean(axis=0, dtype=np.float64) for c, found in rows.items()}
    return means, {c: len(found) for c, found in rows.items()}


def what_is_known(params: RunParams, checkpoint_dir: Path, old: Sequence[SessionInputs]) -> Known:
    """Return what a trained model knows of the sessions that it was trained on."""
    known = Known()
    trials = sum(len(session.train_data) for session in old)
    sums: Any = 0.0
    signal: Any = 0.0
    for session in old:
        model = TrainedSession.load(params, checkpoint_dir, session.dataset)
        inputs = _encoder_inputs(model, session.train_data)
        sums = sums + inputs.mean(axis=(0, 1)) * len(inputs)
        signal = signal + _signal(inputs) * len(inputs)
        if session.train_condition is None:
            continue
        sampler = Sampler(params, checkpoint_dir, session.dataset, kind=PUSH_MEAN)
        blocks = sampler.blocks(session.train_data, session.train_ext_input)
        factors = np.concatenate([block.arrays["factors"] for block in blocks])
        for label, rows in condition_trials(session.train_condition).items():
            known.add(label, inputs[rows].mean(axis=0), factors[rows].mean(axis=0, dtype=np.float64))
    known.mean, known.covariance = sums / trials, signal / trials
    return known


def _encoder_inputs(model: TrainedSession, counts: Array) -> Float64:
    """Return what the encoders see of counts, (E, T, R)."""
    seen = counts.astype(np.float64)
    seen[..., model.held_out] = 0.0
    if not model.arch.has_readin:
        return seen
    result: Float64 = seen @ model.params["readin/W"][0] + model.params["readin/b"][0]
    return result


def _read_in(counts: Float64, inputs: Float64, seen: Array, folds: Array) -> dict[str, Array]:
    own, target = counts.mean(axis=0), inputs.mean(axis=0)
    weights = np.zeros((counts.shape[1], inputs.shape[1]))
    weights[seen] = ridge((counts - own)[:, seen], inputs - target, folds)
    return {"readin/W": weights, "readin/b": target - own @ weights}


def _linear_read_out(factors: Float64, values: Float64, weights: Float64) -> dict[str, Array]:
    design = np.column_stack([factors, np.ones(len(factors))])
    penalty = np.diag([PENALTY] * factors.shape[1] + [0.0])
    weighted = design * weights[:, None]
    solved = np.linalg.solve(design.T @ weighted + penalty, weighted.T @ values)
    return {"readout/W": solved[:-1], "readout/b": solved[-1]}


def _log_read_out(factors: Float64, counts: Float64, weights: Float64) -> dict[str, Array]:
    """Return read-out weights and biases: Poisson regression of each neuron, by Newton's method.

    It minimises `sum_n w_n (exp(eta_n) - y_n eta_n) + PENALTY |W|^2 / 2`, which is convex, with
    `eta = factors W + b`; a step that does not lower it is halved.
    """
    design = np.column_stack([factors, np.ones(len(factors))])
    penalty = np.array([PENALTY] * factors.shape[1] + [0.0])
    solved = np.zeros((design.shape[1], counts.shape[1]))
    for neuron in range(counts.shape[1]):
        y = np.maximum(counts[:, neuron], 0.0) + _FLOOR
        beta = np.zeros(design.shape[1])
        beta[-1] = np.log(np.average(y, weights=weights))
        solved[:, neuron] = _poisson_regression(design, y, weights, penalty, beta)
    return {"readout/W": solved[:-1], "readout/b": solved[-1]}


def _poisson_regression(
    design: Float64, y: Float64, weights: Float64, penalty: Float64, beta: Float64
) -> Float64:
    def cost(b: Float64) -> float:
        eta = np.minimum(design @ b, 50.0)
        return float(weights @ (np.exp(eta) - y * eta) + 0.5 * penalty @ b**2)

    now = cost(beta)
    for _ in range(_STEPS):
        mean = weights * np.exp(np.minimum(design @ beta, 50.0))
        gradient = design.T @ (mean - weights * y) + penalty * beta
        curvature = design.T @ (design * mean[:, None]) + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        while cost(beta - step) > now and np.abs(step).max() > 1e-10:
            step = step / 2
        beta = beta - step
        before, now = now, cost(beta)
        if before - now < 1e-9 * max(1.0, abs(now)):
            break
    return beta
