"""Priors, likelihoods, ramps, schedules, batches and starts of parameters, each by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.network import initial, likelihoods, priors
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.training import batches, objective
from lfadsrm_hpc.model.training.schedule import COLUMNS, FitLog, LearningRate, epochs_since_best

Make = Callable[..., Any]


def test_ar1_prior_has_the_known_variance() -> None:
    """tau = 10 and innovation variance .1 give phi = .904837 and process variance .551666."""
    u = tf.zeros([3, 1, 1], tf.float64)
    log_tau, log_evar = (tf.constant([math.log(v)], tf.float64) for v in (10.0, 0.1))
    mean, logvar = priors._ar1(u + 1.0, log_tau, log_evar)
    assert mean.numpy().ravel() == pytest.approx([0.0, 0.904837, 0.904837], abs=1e-6)
    assert np.exp(logvar.numpy().ravel()) == pytest.approx([0.551666, 0.1, 0.1], abs=1e-6)


def test_closed_kl_is_the_mean_of_the_log_ratio() -> None:
    rng = np.random.default_rng(0)
    rows = 40000
    mean, logvar = rng.normal(size=(4, 1, 2)), rng.normal(-1, 0.5, size=(4, 1, 2))
    u = tf.constant(mean + np.exp(0.5 * logvar) * rng.normal(size=(4, rows, 2)))
    args = (
        tf.constant(mean),
        tf.constant(logvar),
        tf.constant([1.0, 2.0], tf.float64),
        tf.constant([-1.0, 0.0], tf.float64),
    )
    closed, ratio = (f(u, *args).numpy() for f in (priors.kl_ar1, priors.log_ratio_ar1))
    assert closed.mean() == pytest.approx(ratio.mean(), abs=5 * ratio.std() / math.sqrt(rows))
    assert closed.std() < ratio.std()


def test_kl_of_equal_gaussians_is_zero_and_known_otherwise() -> None:
    zero, one = tf.zeros([]), tf.ones([])
    assert float(priors.kl_gaussian(one, zero, one, zero)) == 0.0
    assert float(priors.kl_gaussian(one, zero, zero, zero)) == pytest.approx(0.5)
    assert float(priors.kl_gaussian(zero, tf.math.log(4.0), zero, zero)) == pytest.approx(1.5 - math.log(2))


@pytest.mark.parametrize("variance", [0.011, 0.1, 0.7, 0.99])
def test_bounded_variance_starts_where_it_should_and_reaches_its_range(variance: float) -> None:
    raw = priors.raw_variance(variance, 0.01, 1.0)
    if 0.02 < variance < 0.98:
        assert math.exp(float(priors.bounded_logvar(tf.constant(raw), 0.01, 1.0))) == pytest.approx(
            variance, rel=1e-5
        )
    ends = [math.exp(float(priors.bounded_logvar(tf.constant(v), 0.01, 1.0))) for v in (-30.0, 30.0)]
    assert ends == pytest.approx([0.01, 1.0])


def test_mean_correlation_by_hand() -> None:
    mean = np.random.default_rng(0).normal(size=(5, 3, 3))
    found = priors.mean_correlation(tf.constant(mean)).numpy()
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = [np.mean([0.5 * (mean[:, b, i] @ mean[:, b, j]) ** 2 for i, j in pairs]) for b in range(3)]
    np.testing.assert_allclose(found, expected)
    assert not priors.mean_correlation(tf.constant(mean[:, :, :1])).numpy().any()


def test_saved_rates_are_clipped() -> None:
    rates = likelihoods.parameters("poisson", tf.constant([100.0, -100.0, 0.0], tf.float64)).numpy()
    np.testing.assert_allclose(rates, [math.exp(80), math.exp(-80), 1.0])


@pytest.mark.parametrize(
    ("step", "start", "increase", "weight"),
    [
        (0, 0, 10, 0.0),
        (5, 0, 10, 0.5),
        (10, 0, 10, 1.0),
        (99, 0, 10, 1.0),
        (5, 5, 10, 0.0),
        (0, 0, 0, 1.0),
        (3, 4, 0, 0.0),
    ],
)
def test_ramps(step: int, start: int, increase: int, weight: float) -> None:
    assert float(objective.ramp(tf.constant(step), start, increase)) == pytest.approx(weight)
    assert objective.ramp_value(step, start, increase) == pytest.approx(weight)


def test_adam_by_hand_and_clipping() -> None:
    gradient = np.array([3.0, 4.0], np.float32)
    clipped, norm = objective.clip_norm(tf.constant(gradient), 1.0)
    assert float(norm) == 5.0
    np.testing.assert_allclose(clipped, gradient / 5, rtol=1e-6)
    np.testing.assert_array_equal(objective.clip_norm(tf.constant(gradient), 9.0)[0], gradient)
    state = objective.Adam(*(tf.constant([v, v]) for v in (1.0, 0.5, 0.25)))
    new = objective.adam_step(state, tf.constant(gradient), tf.constant(2), tf.constant(0.01), 0.1)
    first, second = 0.45 + 0.1 * gradient, 0.24975 + 0.001 * gradient**2
    rate = 0.01 * math.sqrt(1 - 0.999**3) / (1 - 0.9**3)
    np.testing.assert_allclose(new.theta, 1 - rate * first / (np.sqrt(second) + 0.1), rtol=1e-5)


def test_learning_rate_rule(small: Make) -> None:
    """Lowered when a cost exceeds all of the last n, then not for n more epochs."""
    rate = LearningRate(small(learning_rate_n_to_compare=2, learning_rate_decay_factor=0.5), 1.0)
    values = []
    for cost in (5, 4, 3, 6, 7, 8, 9, 2):
        rate.update(cost)
        values.append(rate.value)
    # 6 exceeds max(4, 3); then infinity stands in the window for 7 and 8; 9 exceeds max(7, 8)
    assert values == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert rate.epochs_left() == pytest.approx(math.log(1e-5 / 0.25) / math.log(0.5) * 8 / 2)


def test_epochs_since_best() -> None:
    assert epochs_since_best([]) == 0
    assert epochs_since_best([3.0, 2.0, 1.0]) == 0
    assert epochs_since_best([1.0] + [2.0] * 5) == 5


def test_fit_log_begins_as_a_copy_and_grows(tmp_path: Path) -> None:
    row = [1, 7, *np.linspace(0, 1, len(COLUMNS) - 2)]
    log = FitLog(tmp_path / "fitlog.csv", [row])
    log.append([2, 14, *row[2:]])
    lines = (tmp_path / "fitlog.csv").read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert [line.split(",")[:2] for line in lines[1:]] == [["1", "7"], ["2", "14"]]
    assert log.rows == [row, [2, 14, *row[2:]]]


def test_training_plan_holds_every_trial_and_one_session_a_batch() -> None:
    counts, size = [10, 3, 17], 4
    plan = batches.training_plan(counts, size, seed=1, epoch=2)
    bounds = np.cumsum([0, *counts])
    assert len(plan.sessions) == 3 + 1 + 5
    for trials, session in zip(plan.trials, plan.sessions, strict=True):
        assert ((trials >= bounds[session]) & (trials < bounds[session + 1])).all()
    assert set(plan.trials.ravel()) == set(range(sum(counts)))
    again, other = (batches.training_plan(counts, size, seed=1, epoch=e) for e in (2, 3))
    np.testing.assert_array_equal(plan.trials, again.trials)
    assert not np.array_equal(plan.trials, other.trials)


def test_validation_plan_weighs_every_trial_alike() -> None:
    plan = batches.validation_plan([5, 2], 4)
    total = np.zeros(7)
    np.add.at(total, plan.trials.ravel(), plan.weights.ravel())
    np.testing.assert_allclose(total, 1 / 7)


def test_jitter_keeps_spikes_and_is_unbiased() -> None:
    data = np.zeros((3000, 12, 2), np.int64)
    data[:, 5, 0], data[:, 0, 1] = 2, 1
    moved = batches.jitter(data, 2, np.random.default_rng(0))
    assert (moved.sum(1) == data.sum(1)).all()
    share = moved[:, :, 0].sum(0) / 6000
    np.testing.assert_allclose(share[3:8], 0.2, atol=0.025)
    assert share[:3].sum() + share[8:].sum() == 0
    np.testing.assert_allclose(moved[:, :3, 1].mean(0), [0.4, 0.4, 0.2], atol=0.045)  # reflected at the start


def test_parameters_start_as_documented(small: Make, session: Make) -> None:
    rng = np.random.default_rng(0)
    matrix, bias = rng.normal(size=(6, 3)), rng.uniform(1, 2, 6)
    one, two = session("a", alignment_matrix=matrix, alignment_bias=bias), session("b", neurons=4)
    hp = small(gen_dim=150, gen_cell_rec_weight_scale=0.5, co_dim=1, ic_enc_dim=120, cell_weight_scale=2.0)
    arch = Architecture.of(hp, [one, two])
    params = initial.initial_parameters(arch, [one, two])
    np.testing.assert_allclose(params["readin/W"][0], matrix)
    np.testing.assert_allclose(params["readin/b"][0], -bias @ matrix)
    np.testing.assert_allclose(params["readout/W"][0], matrix.T)
    np.testing.assert_allclose(params["readout/b"][1, :4], np.log(two.train.mean((0, 1))))
    assert params["gen/W_ru"].std() == pytest.approx(0.5 / math.sqrt(150), rel=0.02)
    gates, candidates = np.split(params["ic_enc/W_x"][0], [240], axis=1)
    assert gates.std() == pytest.approx(2 / math.sqrt(123), rel=0.15)
    assert candidates.std() == pytest.approx(1 / math.sqrt(123), rel=0.15)
    assert params["ic_enc/W_ru"][1].std() == pytest.approx(2 / math.sqrt(123), rel=0.02)
    assert params["co_prior/log_tau"] == pytest.approx([math.log(10)])
    assert not params["gen/b"].any()
    again = initial.initial_parameters(arch, [one, two])
    assert all(np.array_equal(params[n], again[n]) for n in params)
    theta = arch.pack(params)
    np.testing.assert_array_equal(arch.pack(arch.named(theta)), theta)


def test_l2_cost_by_hand(small: Make, session: Make) -> None:
    hp = small(co_dim=1, l2_gen_scale=3.0, l2_con_scale=5.0)
    one = session()
    arch = Architecture.of(hp, [one])
    params = initial.initial_parameters(arch, [one])
    found = objective.l2_cost(tf.constant(arch.pack(params)), arch)
    parts = {g: [params[f"{g}/{n}"] for n in ("W_ru", "W_c", "b")] for g in ("gen", "con")}
    squares = {g: sum((v**2).sum() for v in vs) for g, vs in parts.items()}
    count = sum(v.size for vs in parts.values() for v in vs)
    assert float(found) == pytest.approx(0.5 * (3 * squares["gen"] + 5 * squares["con"]) / count)
