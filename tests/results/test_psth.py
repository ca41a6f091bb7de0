"""Condition averages: free of the data's noise, and of the scored trials."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lfadsrm_hpc.errors import DataError, UsageError
from lfadsrm_hpc.results.metrics import smooth_spikes
from lfadsrm_hpc.results.psth import ConditionSums, condition_index, psth_r2

BIN_MS = 10.0
Array = npt.NDArray[Any]


def make(
    trials: int = 80, conditions: int = 8, seed: int = 0, *, bins: int = 40, neurons: int = 20
) -> tuple[Array, Array, Array]:
    """Return true rates, counts and conditions; rates follow one course a condition and one common to all."""
    rng = np.random.default_rng(seed)
    time = np.arange(bins)[:, None]
    own = np.sin(time / 5 + rng.uniform(0, 6, (conditions, 1, neurons)))
    common = np.sin(time / 8 + rng.uniform(0, 6, (1, 1, neurons)))
    condition = np.arange(trials) % conditions
    rates = 15 * np.exp(0.5 * (own + common))[condition]
    return rates, rng.poisson(rates * BIN_MS / 1000), condition


def score(rates: Array, counts: Array, condition: Array, scored: slice, **more: Any) -> float:
    train = np.ones(len(counts), dtype=bool)
    train[scored] = False
    return psth_r2(
        rates[scored],
        condition[scored],
        train_counts=counts[train],
        train_condition=condition[train],
        bin_ms=BIN_MS,
        **more,
    )


def test_the_true_rates_score_one_on_average_however_few_trials_there_are() -> None:
    found = [score(*make(24, seed=seed), slice(0, 8)) for seed in range(12)]
    assert np.mean(found) == pytest.approx(1.0, abs=0.01)
    raw = [score(*make(24, seed=seed), slice(0, 8), noise=False) for seed in range(12)]
    assert np.mean(raw) < 0.8  # two trials a condition: their own noise would be held against the rates


def test_trials_of_a_condition_may_differ() -> None:
    """Rates that follow what a trial has of its own are no worse for it."""
    found, raw = [], []
    for seed in range(16):
        rates, _, condition = make(80, seed=seed)
        rng = np.random.default_rng(seed)
        own = rates * rng.gamma(8, 1 / 8, (80, 1, 1))  # gains that differ from trial to trial
        counts = rng.poisson(own * BIN_MS / 1000)
        found.append(score(own, counts, condition, slice(0, 16)))
        raw.append(score(own, counts, condition, slice(0, 16), noise=False))
    assert np.mean(found) == pytest.approx(1.0, abs=0.06)
    assert np.mean(raw) < 0.6


def test_worse_rates_score_as_they_would_against_true_averages() -> None:
    rates, counts, condition = make(80)
    worse = rates.mean(axis=(0, 1)) + 0.6 * (rates - rates.mean(axis=(0, 1)))
    truth = np.stack([rates[condition == c].mean(axis=0) for c in range(8)])
    truth = smooth_spikes(truth, bin_ms=BIN_MS, sd_ms=20.0)
    centre = truth.mean(axis=(0, 1))
    found = np.stack([worse[condition == c].mean(axis=0) for c in range(8)])
    found = smooth_spikes(found, bin_ms=BIN_MS, sd_ms=20.0)
    expected = 1 - np.sum((found - truth) ** 2) / np.sum((truth - centre) ** 2)
    assert score(worse, counts, condition, slice(0, 16)) == pytest.approx(expected, abs=0.02)


def test_nothing_of_the_scored_trials_but_their_rates_counts() -> None:
    rates, counts, condition = make()
    before = score(rates, counts, condition, slice(0, 16))
    other = counts.copy()
    other[:16] = 999
    assert score(rates, other, condition, slice(0, 16)) == before
    # the null is the mean of the smoothed training trials: rates that are it score exactly 0
    smoothed = smooth_spikes(counts[16:], bin_ms=BIN_MS, sd_ms=20.0)
    null = np.broadcast_to(smoothed.mean(axis=(0, 1)), rates.shape)
    assert score(null, counts, condition, slice(0, 16)) == pytest.approx(0.0, abs=1e-9)


def test_neurons_may_be_averaged_as_the_benchmark_does() -> None:
    rates, counts, condition = make()
    found = score(rates, counts, condition, slice(0, 16), noise=False, average="uniform")
    averages = np.stack([counts[16:][condition[16:] == c].mean(axis=0) for c in range(8)])
    target = smooth_spikes(averages, bin_ms=BIN_MS, sd_ms=20.0)
    estimate = np.stack([rates[:16][condition[:16] == c].mean(axis=0) for c in range(8)])
    estimate = smooth_spikes(estimate, bin_ms=BIN_MS, sd_ms=20.0) * (BIN_MS / 1000)  # of rates
    error = np.square(target - estimate).sum(axis=(0, 1))
    spread = np.square(target - target.mean(axis=(0, 1))).sum(axis=(0, 1))
    assert found == pytest.approx(np.mean(1 - error / spread))


def test_a_course_common_to_all_conditions_tells_none_apart() -> None:
    rates, counts, condition = make(160)
    common = np.broadcast_to(rates[:8].mean(axis=0), rates.shape)
    sums = ConditionSums(8, 40, 20, bin_ms=BIN_MS)
    sums.add_data(counts[40:] * (1000 / BIN_MS), condition[40:])
    sums.add_rates("common", common[:40], condition[:40])
    sums.add_rates("true", rates[:40], condition[:40])
    about_mean, apart = sums.explained("common"), sums.explained("common", "time_course")
    assert about_mean is not None
    assert apart is not None
    assert 0.3 < about_mean.r2 < 0.7
    assert apart.r2 == pytest.approx(0.0, abs=1e-9)
    true = sums.explained("true", "time_course")
    assert true is not None
    assert true.r2 == pytest.approx(1.0, abs=0.03)


def test_labels_without_meaning_are_noise() -> None:
    unsure = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        counts, condition = rng.poisson(0.2, (60, 40, 10)), np.arange(60) % 6
        sums = ConditionSums(6, 40, 10, bin_ms=BIN_MS)
        sums.add_data(counts * 100.0, condition)
        sums.add_rates("x", np.ones((6, 40, 10)), np.arange(6))
        apart = sums.explained("x", "time_course")
        assert apart is not None
        unsure += not apart.is_sure
    assert unsure >= 19


def test_fluctuations_that_neurons_share_are_no_conditions() -> None:
    """They make averages differ together, which independent neurons would not."""
    sure = sure_if_independent = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        gain = rng.gamma(2, 1 / 2, (60, 1, 1))
        counts, condition = rng.poisson(0.5 * gain * np.ones((60, 40, 20))), np.arange(60) % 6
        sums = ConditionSums(6, 40, 20, bin_ms=BIN_MS)
        sums.add_data(counts * 100.0, condition)
        sums.add_rates("x", np.ones((6, 40, 20)), np.arange(6))
        apart = sums.explained("x", "time_course")
        assert apart is not None
        sure += apart.is_sure
        sure_if_independent += dataclasses.replace(apart, noise=np.zeros(6)).is_sure
    assert sure <= 2
    assert sure_if_independent >= 8  # what this guards against


def test_noise_alone_has_no_score() -> None:
    counts, condition = np.random.default_rng(0).poisson(0.2, (60, 40, 10)), np.arange(60) % 6
    with pytest.raises(DataError, match="more than noise"):
        score(np.ones((60, 40, 10)), counts, condition, slice(0, 12))


def test_conditions_with_too_few_trials_are_left_out() -> None:
    rates, counts, condition = make(80)
    few = condition.astype(object)
    few[[16, 17]] = "only once", ""  # in training
    assert score(rates, counts, few, slice(0, 16)) == pytest.approx(1.0, abs=0.1)
    with pytest.raises(DataError, match="no condition has two training trials"):
        score(rates, counts, np.arange(80), slice(0, 16))
    with pytest.raises(UsageError, match="3 conditions for 16 trials"):
        psth_r2(rates[:16], [1, 2, 3], train_counts=counts, train_condition=condition, bin_ms=BIN_MS)


def test_conditions_are_numbered_alike_in_all_lists() -> None:
    names, (one, other) = condition_index(["b", None, "a", ""], [np.nan, 2.0])
    assert names == ["2", "a", "b"]
    assert one.tolist() == [2, -1, 1, -1]
    assert other.tolist() == [-1, 0]


def test_whole_numbers_are_the_same_conditions_beside_nan() -> None:
    names, (some, every) = condition_index([2.0, np.nan, 1.0], [1, 2, 2])
    assert names == ["1", "2"]
    assert (some.tolist(), every.tolist()) == ([1, -1, 0], [0, 1, 1])
