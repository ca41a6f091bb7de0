"""R2 of rates: pooled, by neuron, and what it is compared with."""

from __future__ import annotations

import numpy as np
import pytest

from lfadsrm_hpc.errors import DataError, UsageError
from lfadsrm_hpc.results.metrics import pooled_r2
from lfadsrm_hpc.results.r2 import NEAR_SILENT, pooled_rate_r2, rate_r2, rate_r2_by_neuron


def make(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return true rates in training and in scored trials, and an estimate of the latter."""
    rng = np.random.default_rng(seed)
    truth = rng.gamma(2.0, 5.0, (50, 30, 6)) * np.array([0.001, 1, 1, 2, 3, 4])
    scored = truth[40:]
    return truth[:40], scored, scored + rng.normal(0, 2.0, scored.shape)


def test_pooled_is_the_mean_over_neurons_weighted_by_variance() -> None:
    _, truth, estimate = make()
    each = rate_r2_by_neuron(estimate, truth, least_rate=0.0)
    weights = truth.var(axis=(0, 1))
    assert rate_r2(estimate, truth) == pytest.approx(np.average(each, weights=weights))
    assert rate_r2(estimate, truth) == pytest.approx(pooled_r2(estimate, truth))


def test_a_near_silent_neuron_wrecks_the_mean_and_nothing_else() -> None:
    _, truth, estimate = make()
    each = rate_r2_by_neuron(estimate, truth, least_rate=0.0)
    assert each[0] < -100
    assert each.mean() < -10
    handled = rate_r2_by_neuron(estimate, truth)
    assert truth[..., 0].mean() < NEAR_SILENT
    assert np.isnan(handled).tolist() == [True, False, False, False, False, False]
    assert np.nanmedian(handled) > 0.9
    without = rate_r2(estimate[..., 1:], truth[..., 1:])
    assert rate_r2(estimate, truth) == pytest.approx(without, abs=0.005)


def test_the_null_is_the_mean_of_the_training_trials() -> None:
    train, truth, estimate = make()
    null = np.broadcast_to(train.mean(axis=(0, 1)), truth.shape)
    for scored in (truth, truth**2, truth[::-1] * 7):  # whatever the scored trials are
        assert rate_r2(null, scored, train_truth=train) == 0.0
        by_neuron = rate_r2_by_neuron(null, scored, train_truth=train, least_rate=0.0)
        np.testing.assert_array_equal(by_neuron, 0.0)
    error = np.sum((truth - estimate) ** 2)
    expected = 1 - error / np.sum((truth - train.mean(axis=(0, 1))) ** 2)
    assert rate_r2(estimate, truth, train_truth=train) == pytest.approx(expected)


def test_of_several_sessions_squares_are_added_up() -> None:
    first, second = make(0), tuple(array[..., :3] for array in make(1))
    sessions = [(estimate, truth, train) for train, truth, estimate in (first, second)]
    spreads = [np.sum((truth - train.mean(axis=(0, 1))) ** 2) for _, truth, train in sessions]
    each = [rate_r2(estimate, truth, train_truth=train) for estimate, truth, train in sessions]
    assert each[0] != pytest.approx(each[1])
    assert pooled_rate_r2(sessions) == pytest.approx(np.average(each, weights=spreads))
    still = (np.ones((2, 3, 1)), np.ones((2, 3, 1)), None)
    assert pooled_rate_r2([*sessions, still]) == pytest.approx(pooled_rate_r2(sessions))
    with pytest.raises(DataError, match="do not vary"):
        pooled_rate_r2([still, still])


def test_what_has_no_r2_is_refused() -> None:
    train, truth, estimate = make()
    with pytest.raises(DataError, match="do not vary"):
        rate_r2(estimate, np.ones_like(truth))
    assert np.isnan(rate_r2_by_neuron(estimate, np.ones_like(truth))).all()
    with pytest.raises(DataError, match="finite"):
        rate_r2(np.full_like(truth, np.nan), truth)
    with pytest.raises(UsageError, match="shape"):
        rate_r2(estimate[:3], truth)
    with pytest.raises(UsageError, match="5 neurons in training"):
        rate_r2(estimate, truth, train_truth=train[..., :5])
