"""Baselines: what they give when the answer is known, and that they cannot see what they are scored on."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter1d

from lfadsrm_hpc.data.inputs import SessionInputs
from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.results.baselines import (
    best_smoothed,
    co_smoothing_baselines,
    condition_average,
    smoothed_read_out,
)
from lfadsrm_hpc.results.metrics import bits_per_spike, mean_rates, pooled_r2, smooth_spikes
from lfadsrm_hpc.results.r2 import rate_r2

BIN_MS = 10.0
TRIALS, BINS, NEURONS, CONDITIONS = 160, 50, 14, 4
HELD_OUT = np.arange(NEURONS) % 5 == 2
Array = npt.NDArray[Any]


def make(*, private: float, seed: int = 0) -> tuple[Array, Array, Array]:
    """Return (rates in spikes/s, counts, condition); `private` is the share of the trial's own latents."""
    rng = np.random.default_rng(seed)
    condition = np.arange(TRIALS) % CONDITIONS
    shared = gaussian_filter1d(rng.standard_normal((CONDITIONS, BINS, 2)), 5, axis=1, mode="wrap") * 4
    own = gaussian_filter1d(rng.standard_normal((TRIALS, BINS, 2)), 5, axis=1, mode="wrap") * 4
    latent = (1 - private) * shared[condition] + private * own
    rates = np.exp(latent @ rng.uniform(-0.8, 0.8, (2, NEURONS)) + np.log(25))
    return rates, rng.poisson(rates * BIN_MS / 1000), condition


def test_condition_average_without_smoothing_or_shrinkage_is_the_mean() -> None:
    _, counts, condition = make(private=0)
    base = condition_average(counts, condition, [2, 0], bin_ms=BIN_MS, sd_ms=0.1, shrinkage=0)
    mean = counts[condition == 2].mean(axis=0) * 1000 / BIN_MS
    floor = 0.02 * mean_rates(counts, bin_ms=BIN_MS)
    np.testing.assert_allclose(base.rates[0], np.maximum(mean, floor))
    assert base.rates.shape == (2, BINS, NEURONS)


def test_shrinkage_draws_towards_the_mean_of_all_trials() -> None:
    _, counts, condition = make(private=0)
    overall = smooth_spikes(counts.mean(axis=0), bin_ms=BIN_MS, sd_ms=30)

    def distance(shrinkage: float) -> float:
        base = condition_average(counts, condition, [1], bin_ms=BIN_MS, sd_ms=30, shrinkage=shrinkage)
        return float(np.abs(base.rates[0] - overall).mean())

    assert distance(0) > distance(10) > distance(100) > distance(np.inf)
    assert distance(np.inf) == pytest.approx(0, abs=1e-9)
    n = np.sum(condition == 1)
    assert distance(n) == pytest.approx(distance(0) / 2, rel=0.01)


def test_a_condition_that_was_not_trained_on_gets_the_mean_of_all() -> None:
    _, counts, condition = make(private=0)
    names = np.array([f"c{c}" for c in condition], dtype=object)
    names[:20] = ""
    base = condition_average(counts, names, ["other", "", "c1"], bin_ms=BIN_MS, sd_ms=30, shrinkage=1)
    overall = smooth_spikes(counts.mean(axis=0), bin_ms=BIN_MS, sd_ms=30)
    np.testing.assert_allclose(base.rates[0], overall, rtol=1e-9)
    np.testing.assert_allclose(base.rates[1], overall, rtol=1e-9)
    assert np.abs(base.rates[2] - overall).max() > 1


def test_condition_average_recovers_rates_that_conditions_decide() -> None:
    rates, counts, condition = make(private=0)
    base = condition_average(counts[:120], condition[:120], condition[120:], bin_ms=BIN_MS)
    assert pooled_r2(base.rates, rates[120:]) > 0.85
    rough = condition_average(
        counts[:120], condition[:120], condition[120:], bin_ms=BIN_MS, sd_ms=0.1, shrinkage=0
    )
    assert pooled_r2(base.rates, rates[120:]) > pooled_r2(rough.rates, rates[120:]) + 0.1


def test_labels_that_mean_nothing_are_shrunk_away() -> None:
    _, counts, _ = make(private=1)
    labels = np.random.default_rng(1).integers(0, 40, TRIALS)
    base = condition_average(counts[:120], labels[:120], labels[120:], bin_ms=BIN_MS)
    null = mean_rates(counts[:120], bin_ms=BIN_MS)
    assert bits_per_spike(base.rates, counts[120:], null, bin_ms=BIN_MS) > -0.02


@pytest.mark.parametrize("kind", ["linear", "poisson"])
def test_read_out_tells_what_neurons_share_within_a_trial(kind: Literal["linear", "poisson"]) -> None:
    rates, counts, condition = make(private=1)
    base = smoothed_read_out(
        counts[:120],
        counts[120:],
        HELD_OUT,
        bin_ms=BIN_MS,
        kind=kind,
        sd_ms=(20, 50, 100),
        ridge=(1e-2, 1e-1),
    )
    null = mean_rates(counts[:120][..., HELD_OUT], bin_ms=BIN_MS)
    truth, scored = rates[120:][..., HELD_OUT], counts[120:][..., HELD_OUT]
    score = bits_per_spike(base.rates, scored, null, bin_ms=BIN_MS)
    best = bits_per_spike(truth, scored, null, bin_ms=BIN_MS)
    assert base.rates.shape == truth.shape
    assert base.rates.min() > 0
    assert 0.4 * best < score < best
    assert pooled_r2(base.rates, truth) > 0.4
    # conditions tell nothing here
    average = condition_average(
        counts[:120][..., HELD_OUT], condition[:120], condition[120:], bin_ms=BIN_MS
    ).rates
    assert score > bits_per_spike(average, scored, null, bin_ms=BIN_MS) + 0.05


@pytest.mark.parametrize("kind", ["linear", "poisson"])
def test_read_out_does_not_look_at_what_it_is_scored_on(kind: Literal["linear", "poisson"]) -> None:
    _, counts, _ = make(private=1)
    chosen: dict[str, Any] = {"bin_ms": BIN_MS, "kind": kind, "sd_ms": 50, "ridge": 0.1}
    plain = smoothed_read_out(counts[:120], counts[120:], HELD_OUT, **chosen)
    changed = counts[120:].copy()
    changed[..., HELD_OUT] = 77
    again = smoothed_read_out(counts[:120], changed, HELD_OUT, **chosen)
    np.testing.assert_array_equal(plain.rates, again.rates)


def test_linear_read_out_solves_the_ridge_equations() -> None:
    _, counts, _ = make(private=1)
    base = smoothed_read_out(counts, counts, HELD_OUT, bin_ms=BIN_MS, sd_ms=50, ridge=0.3)
    smoothed = smooth_spikes(counts[..., ~HELD_OUT], bin_ms=BIN_MS, sd_ms=50).reshape(-1, (~HELD_OUT).sum())
    z = (smoothed - smoothed.mean(axis=0)) / smoothed.std(axis=0)
    y = counts[..., HELD_OUT].reshape(len(z), -1)
    # the same as least squares with rows appended that say "weights are zero"
    rows = np.sqrt(0.3 * len(z)) * np.eye(z.shape[1])
    padded = np.vstack([y - y.mean(axis=0), np.zeros((z.shape[1], y.shape[1]))])
    weights = np.linalg.lstsq(np.vstack([z, rows]), padded, rcond=None)[0]
    expected = np.maximum(z @ weights + y.mean(axis=0), base.settings["floor"] * y.mean(axis=0))
    np.testing.assert_allclose(base.rates.reshape(y.shape), expected * 1000 / BIN_MS, rtol=1e-8)


def test_poisson_read_out_is_at_the_minimum_of_its_cost() -> None:
    _, counts, _ = make(private=1)
    # narrow smoothing: no bins are pooled, so the gradient can be written down here
    base = smoothed_read_out(counts, counts, HELD_OUT, bin_ms=BIN_MS, kind="poisson", sd_ms=15, ridge=0.0)
    smoothed = smooth_spikes(counts[..., ~HELD_OUT], bin_ms=BIN_MS, sd_ms=15) * BIN_MS / 1000
    inputs = np.log(smoothed + 1e-4).reshape(-1, smoothed.shape[-1])
    z = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    y = counts[..., HELD_OUT].reshape(len(z), -1)
    residual = base.rates.reshape(y.shape) * BIN_MS / 1000 - y
    assert np.abs(z.T @ residual / len(z)).max() < 1e-3 * y.mean()
    assert np.abs(residual.mean(axis=0)).max() < 1e-3 * y.mean()


def test_all_baselines_in_one_call_are_reproducible() -> None:
    _, counts, condition = make(private=0.5)
    counts = counts[:, :30]
    scores = [
        co_smoothing_baselines(
            counts[:120], counts[120:], HELD_OUT, bin_ms=BIN_MS,
            train_condition=condition[:120], condition=condition[120:], seed=3,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert scores[0] == scores[1]
    assert set(scores[0]) == {"condition_average", "smoothed_linear", "smoothed_poisson"}
    assert all(score > 0 for score, _ in scores[0].values())


def test_what_cannot_be_predicted_is_refused() -> None:
    _, counts, _ = make(private=1)
    with pytest.raises(UsageError, match="nothing to predict from"):
        smoothed_read_out(counts, counts, np.ones(NEURONS, bool), bin_ms=BIN_MS)
    with pytest.raises(UsageError, match="neither"):
        smoothed_read_out(counts, counts, HELD_OUT, bin_ms=BIN_MS, kind="svm")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cross-validation"):
        smoothed_read_out(counts[:1], counts, HELD_OUT, bin_ms=BIN_MS)
    with pytest.raises(UsageError, match="conditions for"):
        condition_average(counts, [1, 2], [1], bin_ms=BIN_MS)


def test_the_best_width_of_smoothing_follows_how_fast_rates_change() -> None:
    rates = 4 * make(private=1.0)[0]
    counts = np.random.default_rng(1).poisson(rates * BIN_MS / 1000)
    fast, fast_counts = rates[:, ::4], counts[:, ::4]  # as if the bins followed each other

    def session(rates: Array, counts: Array) -> SessionInputs:
        order, (_, bins, neurons) = np.arange(TRIALS), counts.shape
        return SessionInputs(
            dataset="a", train_data=counts[20:], valid_data=counts[:20], train_inds=order[20:],
            valid_inds=order[:20], time_ms=np.arange(bins) * BIN_MS, bin_ms=BIN_MS,
            neuron_names=np.arange(neurons).astype(str), train_truth=rates[20:], valid_truth=rates[:20],
        )  # fmt: skip

    width, r2 = best_smoothed([session(rates, counts)])
    expected = smooth_spikes(counts[:20], bin_ms=BIN_MS, sd_ms=width)
    assert r2 == pytest.approx(rate_r2(expected, rates[:20], train_truth=rates[20:]))
    for other in (10.0, 80.0):
        smoothed = smooth_spikes(counts[:20], bin_ms=BIN_MS, sd_ms=other)
        assert rate_r2(smoothed, rates[:20], train_truth=rates[20:]) < r2
    assert best_smoothed([session(fast, fast_counts)])[0] < width
    both = best_smoothed([session(rates, counts), session(fast, fast_counts)], [width])
    assert both[0] == width
    assert both[1] < r2
