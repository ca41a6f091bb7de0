"""Likelihoods, bits per spike, R2 and smoothing, against their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson

from lfadsrm_hpc.errors import DataError, UsageError
from lfadsrm_hpc.results.metrics import (
    bits_per_spike,
    co_smoothing_bits_per_spike,
    mean_rates,
    poisson_nll,
    pooled_r2,
    smooth_spikes,
)

BIN_MS = 5.0


def make(seed: int = 0) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return rates in spikes/s and counts."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(2.0, 10.0, (30, 40, 6))
    return rates, rng.poisson(rates * BIN_MS / 1000)


def test_likelihood_is_that_of_scipy() -> None:
    rates, counts = make()
    expected = -poisson.logpmf(counts, rates * BIN_MS / 1000).sum()
    assert poisson_nll(rates, counts, bin_ms=BIN_MS) == pytest.approx(expected, rel=1e-12)


def test_bits_per_spike_is_the_benchmark_definition() -> None:
    rates, counts = make()
    null = counts.mean(axis=(0, 1)) * 1000 / BIN_MS  # what Pei et al. take
    # written out as in the benchmark: log-likelihoods in nats, per spike, in bits
    log_rates = poisson.logpmf(counts, rates * BIN_MS / 1000).sum()
    log_null = poisson.logpmf(counts, np.broadcast_to(null * BIN_MS / 1000, counts.shape)).sum()
    expected = (log_rates - log_null) / np.log(2) / counts.sum()
    assert bits_per_spike(rates, counts, null, bin_ms=BIN_MS) == pytest.approx(expected, rel=1e-9)
    assert expected > 0.1


def test_the_null_model_itself_scores_zero() -> None:
    rates, counts = make()
    null = mean_rates(counts, bin_ms=BIN_MS)
    flat = np.broadcast_to(null, rates.shape)
    assert bits_per_spike(flat, counts, null, bin_ms=BIN_MS) == pytest.approx(0, abs=1e-12)


def test_a_rate_of_zero_under_a_spike_is_costly_but_finite() -> None:
    rates, counts = make()
    wrong = rates.copy()
    wrong[counts > 0] = 0
    null = mean_rates(counts, bin_ms=BIN_MS)
    score = bits_per_spike(wrong, counts, null, bin_ms=BIN_MS)
    assert np.isfinite(score)
    assert score < -10


def test_a_neuron_silent_in_training_has_a_null_rate() -> None:
    counts = np.zeros((10, 20, 2), int)
    counts[0, 0, 0] = 4
    np.testing.assert_allclose(mean_rates(counts, bin_ms=BIN_MS), [4 / 200 * 200, 0.5 / 200 * 200])


def test_co_smoothing_scores_the_held_out_neurons_alone() -> None:
    rates, counts = make()
    held_out = np.array([False, True, False, False, True, False])
    spoilt = rates.copy()
    spoilt[..., ~held_out] = 1e6
    train = counts[:20]
    null = mean_rates(train[..., held_out], bin_ms=BIN_MS)
    expected = bits_per_spike(rates[20:][..., held_out], counts[20:][..., held_out], null, bin_ms=BIN_MS)
    for given_rates in (spoilt[20:], rates[20:][..., held_out]):
        score = co_smoothing_bits_per_spike(
            given_rates, counts[20:], train_counts=train, held_out=held_out, bin_ms=BIN_MS
        )
        assert score == pytest.approx(expected, rel=1e-12)


def test_what_cannot_be_scored_is_refused() -> None:
    rates, counts = make()
    null = mean_rates(counts, bin_ms=BIN_MS)
    with pytest.raises(DataError, match="not negative"):
        bits_per_spike(-rates, counts, null, bin_ms=BIN_MS)
    with pytest.raises(DataError, match="finite"):
        poisson_nll(rates * np.nan, counts, bin_ms=BIN_MS)
    with pytest.raises(DataError, match="no spike"):
        bits_per_spike(rates, counts * 0, null, bin_ms=BIN_MS)
    with pytest.raises(UsageError, match="shape"):
        bits_per_spike(rates[:5], counts, null, bin_ms=BIN_MS)
    with pytest.raises(UsageError, match="held out"):
        co_smoothing_bits_per_spike(
            rates, counts, train_counts=counts, held_out=np.zeros(6, bool), bin_ms=BIN_MS
        )
    with pytest.raises(UsageError, match="6 truth values"):
        co_smoothing_bits_per_spike(rates, counts, train_counts=counts, held_out=[1, 4], bin_ms=BIN_MS)


def test_pooled_r2_about_each_neurons_mean() -> None:
    truth, _ = make()
    assert pooled_r2(truth, truth) == 1
    flat = np.broadcast_to(truth.mean(axis=(0, 1)), truth.shape)
    assert pooled_r2(flat, truth) == pytest.approx(0, abs=1e-12)
    # neurons of different mean rates: their means alone explain most of the pooled variance, and none of ours
    apart = truth + 1000 * np.arange(6)
    means = np.broadcast_to(apart.mean(axis=(0, 1)), apart.shape)
    assert pooled_r2(means, apart) == pytest.approx(0, abs=1e-9)
    assert pooled_r2(means, apart, about="all") > 0.99
    assert pooled_r2(2 * truth, truth) < 0


def test_r2_of_what_has_none_is_refused() -> None:
    truth, _ = make()
    with pytest.raises(DataError, match="do not vary"):
        pooled_r2(truth, np.ones_like(truth))
    with pytest.raises(DataError, match="finite"):
        pooled_r2(np.full_like(truth, np.nan), truth)
    with pytest.raises(UsageError, match="shape"):
        pooled_r2(truth[:3], truth)


@given(
    rate=st.floats(0.1, 500),
    bins=st.integers(1, 60),
    sd_ms=st.floats(0.5, 2000),
    bin_ms=st.floats(0.5, 50),
)
@settings(deadline=None, max_examples=60)
def test_constant_counts_stay_constant_to_the_edges(
    rate: float, bins: int, sd_ms: float, bin_ms: float
) -> None:
    counts = np.full((2, bins, 3), rate * bin_ms / 1000)
    np.testing.assert_allclose(smooth_spikes(counts, bin_ms=bin_ms, sd_ms=sd_ms), rate, rtol=1e-9)


def test_smoothing_is_a_gaussian_of_the_given_width() -> None:
    counts = np.zeros((1, 401, 1))
    counts[0, 200] = 3
    smoothed = smooth_spikes(counts, bin_ms=2.0, sd_ms=30.0)[0, :, 0]
    time = 2.0 * (np.arange(401) - 200)
    assert smoothed.sum() * 0.002 == pytest.approx(3, rel=1e-9)
    assert np.sqrt((smoothed * time**2).sum() / smoothed.sum()) == pytest.approx(30, rel=0.01)
    assert time[np.argmax(smoothed)] == 0


def test_smoothing_keeps_neurons_and_trials_apart() -> None:
    counts = np.zeros((2, 50, 2))
    counts[1, 20, 0] = 1
    smoothed = smooth_spikes(counts, bin_ms=5.0, sd_ms=20.0)
    assert smoothed[1, :, 0].max() > 0
    assert smoothed[0].max() == 0
    assert smoothed[:, :, 1].max() == 0


def test_a_width_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="sd_ms"):
        smooth_spikes(np.zeros((1, 5, 1)), bin_ms=5.0, sd_ms=0)
