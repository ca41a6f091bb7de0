"""Ridge regression from sums, its penalty, its folds, its null."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lfadsrm_hpc.errors import DataError, UsageError
from lfadsrm_hpc.results import decoding
from lfadsrm_hpc.results.decoding import Decoder, decode, latent_r2, trial_folds

Array = npt.NDArray[Any]


def make(trials: int = 40, *, noise: float = 0.5, seed: int = 0) -> tuple[Array, Array]:
    """Return inputs with offsets of very different size, and two outputs linear in them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (trials, 25, 6)) * np.array([1, 10, 0.1, 1, 1, 1]) + 1000 * np.arange(6)
    weights = np.random.default_rng(99).normal(0, 1, (6, 2)) / np.array([[1], [10], [0.1], [1], [1], [1]])
    return x, x @ weights + [5, -300] + noise * rng.normal(size=(trials, 25, 2))


def test_sums_give_what_regression_on_the_samples_gives() -> None:
    x, y = make()
    found = decode(x[:30], y[:30], x[30:], y[30:], penalties=[1e-9])
    flat = np.column_stack([x[:30].reshape(-1, 6), np.ones(750)])
    w = np.linalg.lstsq(flat, y[:30].reshape(-1, 2), rcond=None)[0]
    predicted = np.column_stack([x[30:].reshape(-1, 6), np.ones(250)]) @ w
    target = y[30:].reshape(-1, 2)
    null = y[:30].reshape(-1, 2).mean(axis=0)
    expected = 1 - np.square(target - predicted).sum(0) / np.square(target - null).sum(0)
    np.testing.assert_allclose(found.by_output, expected, rtol=1e-7)
    assert found.r2 == pytest.approx(expected.mean())
    assert found.r2 > 0.8


def test_a_penalty_shrinks_standardised_weights() -> None:
    x, y = make()
    found = decode(x[:30], y[:30], x[30:], y[30:], penalties=[1.0])
    z = (x - x[:30].mean(axis=(0, 1))) / x[:30].std(axis=(0, 1))
    flat, target = z[:30].reshape(-1, 6), y[:30].reshape(-1, 2) - y[:30].mean(axis=(0, 1))
    w = np.linalg.solve(flat.T @ flat / 750 + np.eye(6), flat.T @ target / 750)
    left = y[30:] - y[:30].mean(axis=(0, 1))
    expected = 1 - np.square(left - z[30:] @ w).sum((0, 1)) / np.square(left).sum((0, 1))
    np.testing.assert_allclose(found.by_output, expected, rtol=1e-7)


def test_the_penalty_is_chosen_within_the_training_trials() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 5, 30))  # hardly more samples than inputs
    y = x[..., :1] + 3 * rng.normal(size=(12, 5, 1))
    wild = rng.normal(size=(10, 5, 30)), rng.normal(size=(10, 5, 1))
    found = decode(x, y, *wild)
    assert found.penalty >= 0.1
    assert decode(x, y, wild[0], 100 + wild[1][::-1]).penalty == found.penalty
    assert decode(*make(), *make(seed=1)).penalty <= 1e-3


def test_the_null_is_the_mean_of_the_training_trials() -> None:
    _, y = make()
    nothing = np.ones((30, 25, 3))
    for scored in (y[30:], y[30:] ** 2, y[30:] + 1e4):
        found = decode(nothing, y[:30], nothing[:10], scored)
        np.testing.assert_allclose(found.by_output, 0.0, atol=1e-9)


def test_a_trial_is_never_split_over_folds() -> None:
    """In slow signals neighbouring bins tell of each other; folds that split trials would not notice."""
    rng = np.random.default_rng(1)
    x = np.repeat(rng.normal(size=(30, 1, 20)), 25, axis=1)  # constant within a trial
    y = np.repeat(rng.normal(size=(30, 1, 1)), 25, axis=1)  # and nothing to do with it
    decoder = Decoder(20, 1)
    decoder.add_training(x, y, trial_folds(30))
    assert decoder.cross_validated().r2 < 0.1
    split = Decoder(20, 1)
    for fold in range(5):
        split.add_training(x[:, fold::5], y[:, fold::5], np.full(30, fold))
    assert split.cross_validated().r2 > 0.5  # what this guards against
    fold = trial_folds(31, 5)
    assert sorted(np.bincount(fold).tolist()) == [6, 6, 6, 6, 7]
    assert trial_folds(31, 5).tolist() == fold.tolist()


def test_training_trials_are_scored_by_regressions_on_others() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(10, 6, 40)), rng.normal(size=(10, 6, 1))  # pure noise, easily over-fitted
    decoder = Decoder(40, 1, penalties=[1e-6])
    decoder.add_training(x, y, trial_folds(10))
    assert decoder.cross_validated().r2 < 0
    assert decode(x, y, x, y, penalties=[1e-6]).r2 > 0.5


def test_a_lag_pairs_earlier_inputs_with_later_outputs() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 30, 4))
    y = np.concatenate([rng.normal(size=(40, 3, 1)), x[:, :-3, :1]], axis=1)  # three bins later
    assert decode(x[:30], y[:30], x[30:], y[30:], lag_bins=3).r2 == pytest.approx(1.0, abs=1e-6)
    assert decode(x[:30], y[:30], x[30:], y[30:]).r2 < 0.1
    assert decode(y[:30], x[:30, :, :1], y[30:], x[30:, :, :1], lag_bins=-3).r2 > 0.99
    with pytest.raises(UsageError, match="leaves nothing of 30 bins"):
        decode(x[:30], y[:30], x[30:], y[30:], lag_bins=30)


def test_bins_without_behaviour_are_left_out() -> None:
    x, y = make()
    whole = decode(x[:30, 5:], y[:30, 5:], x[30:, 5:], y[30:, 5:])
    y[:, :5, 1] = np.nan
    assert decode(x[:30], y[:30], x[30:], y[30:]).r2 == pytest.approx(whole.r2)
    with pytest.raises(DataError, match="no outputs to decode"):
        decode(x[:30], y[:30] * np.nan, x[30:], y[30:])
    with pytest.raises(DataError, match="does not vary"):
        decode(x[:30], np.ones_like(y[:30]), x[30:], np.ones_like(y[30:]))
    with pytest.raises(DataError, match="not finite"):
        decode(x[:30] * np.inf, y[:30], x[30:], y[30:])
    with pytest.raises(UsageError, match="not \\(trial, time"):
        decode(x[:30], y[:29], x[30:], y[30:])


def test_blocks_of_trials_do_not_show() -> None:
    x, y = make()
    fold = trial_folds(30)
    found = []
    for step in (30, 1, 7):
        decoder = Decoder(6, 2)
        for at in range(0, 30, step):
            decoder.add_training(
                x[at : at + step][: 30 - at], y[at : at + step][: 30 - at], fold[at : at + step]
            )
        decoder.add_scored(x[30:], y[30:])
        found.append((decoder.scored().r2, decoder.cross_validated().r2))
    np.testing.assert_allclose(found, [found[0]] * 3, rtol=1e-9)


def test_latents_are_regressed_on_factors() -> None:
    rng = np.random.default_rng(4)
    latents = rng.normal(size=(40, 20, 3))
    factors = latents @ rng.normal(size=(3, 5)) + 7  # collinear: 5 factors of rank 3
    found = latent_r2(factors[:30], latents[:30], factors[30:], latents[30:])
    np.testing.assert_allclose(found.by_output, 1.0, atol=1e-4)
    noisy = factors + rng.normal(0, 3, factors.shape)
    assert latent_r2(noisy[:30], latents[:30], noisy[30:], latents[30:]).r2 < 0.9
    assert (found.penalty,) == decoding.LEAST_PENALTY
