"""Where a new session's read-in and read-out start: against what is known of made-up sessions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.data.inputs import SessionInputs, read_inputs
from lfadsrm_hpc.inference import session_start
from lfadsrm_hpc.inference.new_trials import finished_checkpoints
from lfadsrm_hpc.inference.session_start import (
    GUESSES,
    Known,
    guessed_start,
    regressed_start,
    what_is_known,
)
from lfadsrm_hpc.model.sampling.posterior import PUSH_MEAN, Sampler

pytestmark = pytest.mark.train


def inputs(counts: Any, condition: Any) -> SessionInputs:
    trials, bins, neurons = counts.shape
    return SessionInputs(
        "new", counts, counts[:1], np.arange(trials), np.arange(trials, trials + 1), np.arange(bins) * 10.0,
        10.0, np.array([f"x{i}" for i in range(neurons)]), train_condition=condition,
    )  # fmt: skip


@pytest.fixture
def world() -> Any:
    """Factors of 4 conditions, what encoders see of them, and a session that follows them: all known."""
    rng = np.random.default_rng(0)
    factors = np.cumsum(rng.normal(0, 0.3, (4, 30, 2)), 1)
    channels = factors @ rng.normal(0, 1, (2, 3)) + 0.5
    known = Known()
    for label in range(4):
        known.add(label, channels[label], factors[label])
        known.add(label, channels[label] + 0.2, factors[label])  # a second session that sees a little more
    known.mean = np.full(3, 0.6)
    weights, bias = rng.normal(0, 0.7, (2, 9)), rng.normal(0, 0.3, 9)
    condition = np.arange(400) % 4
    counts = rng.poisson(np.exp(factors @ weights + bias)[condition])
    return known, factors, channels, weights, bias, inputs(counts, condition)


def test_the_read_out_is_found_where_conditions_are_shared(world: Any) -> None:
    known, _, _, weights, bias, new = world
    start = regressed_start(RunParams(), known, new, np.ones(9, bool))
    assert start is not None
    np.testing.assert_allclose(start["readout/W"], weights, atol=0.08)
    np.testing.assert_allclose(start["readout/b"], bias, atol=0.12)


def test_the_read_in_shows_the_encoders_what_they_know(world: Any) -> None:
    known, _, channels, _, _, new = world
    seen = np.arange(9) != 4
    start = regressed_start(RunParams(), known, new, seen)
    assert start is not None
    averages = np.stack([new.train_data[new.train_condition == c].mean(0) for c in range(4)])
    found = averages @ start["readin/W"] + start["readin/b"]
    wanted = channels + 0.1  # the mean of both sessions
    error = ((found - wanted) ** 2).sum() / ((wanted - wanted.mean((0, 1))) ** 2).sum()
    assert error < 0.05
    assert not start["readin/W"][4].any(), "a withheld neuron has no weight"


def test_a_poisson_regression_is_at_the_minimum(world: Any) -> None:
    """The gradient of the penalised cost vanishes; a neuron that never fires has a low rate, no infinity."""
    _, factors, *_, new = world
    design = factors.reshape(-1, 2)
    counts = np.stack([new.train_data[new.train_condition == c].mean(0) for c in range(4)]).reshape(-1, 9)
    counts[:, 3] = 0.0
    weights = np.full(len(design), 100.0)
    found = session_start._log_read_out(design, counts, weights)
    rates = np.exp(design @ found["readout/W"] + found["readout/b"])
    residual = weights[:, None] * (rates - counts - session_start._FLOOR)
    gradient = design.T @ residual + session_start.PENALTY * found["readout/W"]
    assert np.abs(gradient).max() < 1e-3 * weights.sum()
    assert np.abs(residual.sum(0)).max() < 1e-3 * weights.sum()
    assert rates[:, 3].max() < 1e-3
    assert np.isfinite(found["readout/W"]).all()


def test_gaussian_data_has_a_linear_read_out(world: Any) -> None:
    known, factors, _, weights, bias, new = world
    rng = np.random.default_rng(1)
    values = (factors @ weights + bias)[new.train_condition] + rng.normal(0, 0.5, new.train_data.shape)
    start = regressed_start(
        RunParams(output_dist="gaussian"), known, inputs(values, new.train_condition), np.ones(9, bool)
    )
    assert start is not None
    np.testing.assert_allclose(start["readout/W"], weights, atol=0.03)
    np.testing.assert_allclose(start["readout/b"], bias, atol=0.03)


@pytest.mark.parametrize("condition", [None, np.arange(400) % 4 + 10, np.array(["a", "b", "c", "d"] * 100)])
def test_nothing_is_regressed_without_shared_conditions(world: Any, condition: Any) -> None:
    *_, new = world
    assert regressed_start(RunParams(), world[0], inputs(new.train_data, condition), np.ones(9, bool)) is None


def test_nor_where_trials_have_another_length(world: Any) -> None:
    *_, new = world
    short = inputs(new.train_data[:, :20], new.train_condition)
    assert regressed_start(RunParams(), world[0], short, np.ones(9, bool)) is None


def test_guesses_look_to_the_encoders_like_what_they_know() -> None:
    """Of the right mean, and with the two leading components of the right size, in eight positions."""
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(0, 0.2, (50, 40, 2)), 1)
    values = smooth @ rng.normal(0, 1, (2, 7)) + rng.normal(0, 1, (50, 40, 7)) + 3.0
    axes = np.linalg.qr(rng.normal(0, 1, (5, 5)))[0]
    known = Known(mean=np.arange(5.0), covariance=axes @ np.diag([9.0, 4.0, 1.0, 0.1, 0.0]) @ axes.T)
    seen = np.arange(7) != 2
    different = set()
    for number in range(GUESSES):
        start = guessed_start(known, inputs(values, None), seen, number)
        assert not start["readin/W"][2].any()
        channels = values @ start["readin/W"] + start["readin/b"]
        np.testing.assert_allclose(channels.mean((0, 1)), known.mean, atol=1e-9)
        np.testing.assert_allclose(np.linalg.norm(axes[:, 2:].T @ start["readin/W"].T, axis=1), 0, atol=1e-9)
        sizes = np.sort(np.linalg.eigvalsh(axes[:, :2].T @ session_start._signal(channels) @ axes[:, :2]))
        np.testing.assert_allclose(sizes, [4.0, 9.0], rtol=1e-6)
        different.add(start["readin/W"].round(6).tobytes())
    assert len(different) == GUESSES


def test_guesses_where_there_is_nothing_to_go_by() -> None:
    known = Known(mean=np.ones(3), covariance=np.eye(3))
    for shape in ((4, 1, 2), (4, 6, 1)):
        start = guessed_start(known, inputs(np.zeros(shape), None), np.ones(shape[2], bool), 3)
        assert not start["readin/W"].any()
        np.testing.assert_array_equal(start["readin/b"], known.mean)


def test_what_a_trained_model_knows(trained: Any) -> None:
    for spec in ("both", "alone"):
        run = trained.find_run(spec)
        folder = finished_checkpoints(run)
        old = [read_inputs(path) for path in run.input_files().values()]
        known = what_is_known(run.effective_params, folder, old)
        assert known.sessions == dict.fromkeys((0, 1), len(old))
        one = old[0]
        rows = one.train_condition == 1
        factors, seen = [], []
        for session in old:
            sampler = Sampler(run.effective_params, folder, session.dataset, kind=PUSH_MEAN)
            chosen = session.train_data[session.train_condition == 1]
            blocks = list(sampler.blocks(chosen))
            factors.append(np.concatenate([b.arrays["factors"] for b in blocks]).mean(0))
            seen.append(chosen.mean(0))
        np.testing.assert_allclose(known.factors[1], sum(factors), rtol=1e-4, atol=1e-5)
        assert known.covariance.shape == (5, 5) if spec == "alone" else (2, 2)
        if spec == "alone":
            np.testing.assert_allclose(known.inputs[1], one.train_data[rows].mean(0))
            np.testing.assert_allclose(known.mean, one.train_data.mean((0, 1)))
