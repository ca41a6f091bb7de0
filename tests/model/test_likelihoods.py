"""Output distributions against scipy, their gradients, their float32 digits, trainings on samples of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.network import initial, likelihoods
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.sampling import posterior
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import batches, checkpoints
from lfadsrm_hpc.model.training import loop as training

Make = Callable[..., Any]
DISTS = tuple(likelihoods.READ_OUTS)
SHAPE = (6, 7, 5)


def saturated(value: Any) -> Any:
    return 9 * np.tanh(value / 9)


def sigmoid(value: Any) -> Any:
    return 1 / (1 + np.exp(-value))


def log_density(dist: str, x: Any, first: Any, second: Any, third: Any) -> Any:
    """Return log p(x) of each element by scipy, from what the read-out gives."""
    mean = np.exp(first)
    if dist == "poisson":
        return stats.poisson.logpmf(x, mean)
    if dist == "negative_binomial":
        size = np.exp(-saturated(second))
        return stats.nbinom.logpmf(x, size, size / (size + mean))
    if dist == "gaussian":
        return stats.norm.logpdf(x, first, np.exp(second / 2))
    shape = np.exp(saturated(second))
    gamma = stats.gamma.logpdf(np.where(x > 0, x, 1), shape, scale=mean / shape)
    if dist == "gamma":
        return gamma
    return np.where(x > 0, np.log(sigmoid(third)) + gamma, np.log(sigmoid(-third)))


def samples(dist: str, rng: np.random.Generator, shape: tuple[int, ...], mean: Any = 2.0) -> Any:
    """Return data of that kind around a mean."""
    if dist == "poisson":
        return rng.poisson(mean, shape)
    if dist == "negative_binomial":
        return rng.poisson(mean * rng.gamma(2.0, 0.5, shape))
    if dist == "gaussian":
        return rng.normal(mean, 1.0, shape)
    values = mean * rng.gamma(2.0, 0.5, shape)
    return values * (rng.random(shape) < 0.6) if dist == "zero_inflated_gamma" else values


@pytest.fixture(params=DISTS)
def case(request: pytest.FixtureRequest) -> tuple[str, Any, list[Any]]:
    """A distribution, data (E, T, D) and three outputs, of which it takes the first ones."""
    rng = np.random.default_rng(1)
    outputs = [rng.normal(0.5, 1, SHAPE), rng.normal(0, 2, SHAPE), rng.normal(0, 2, SHAPE)]
    return request.param, samples(request.param, rng, SHAPE), outputs


def joined(dist: str, outputs: list[Any], dtype: Any = tf.float64) -> Any:
    return tf.constant(np.concatenate(outputs[: likelihoods.outputs_per_neuron(dist)], -1), dtype)


@pytest.mark.parametrize(("dtype", "error"), [("float64", 1e-7), ("float32", 1e-4)])
def test_cost_and_constant_are_the_log_density(case: Any, dtype: str, error: float) -> None:
    dist, x, outputs = case
    cost = likelihoods.cost(dist, tf.constant(x, dtype), joined(dist, outputs, dtype)).numpy()
    total = cost.sum((1, 2)) + likelihoods.constant(dist, x)
    np.testing.assert_allclose(total, -log_density(dist, x, *outputs).sum((1, 2)), rtol=error, atol=error)


def test_constant_of_a_part_of_the_elements(case: Any) -> None:
    dist, x, outputs = case
    mask = np.random.default_rng(2).random(SHAPE) < 0.5
    cost = likelihoods.cost(dist, tf.constant(x, tf.float64), joined(dist, outputs)).numpy()
    total = np.where(mask, cost, 0).sum((1, 2)) + likelihoods.constant(dist, x, mask)
    expected = -np.where(mask, log_density(dist, x, *outputs), 0).sum((1, 2))
    np.testing.assert_allclose(total, expected, rtol=1e-7, atol=1e-7)
    whole = likelihoods.constant(dist, x, mask) + likelihoods.constant(dist, x, ~mask)
    np.testing.assert_allclose(whole, likelihoods.constant(dist, x))


def test_counts_beyond_the_table_and_as_floats() -> None:
    counts = np.array([[[0, 1, 70000]]])
    expected = math.lgamma(70001.0)
    for same in (counts, counts.astype(float)):
        assert likelihoods.constant("poisson", same) == pytest.approx([expected])


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_against_finite_differences(case: Any, compiled: bool) -> None:
    dist, x, outputs = case
    x, start = tf.constant(x, tf.float64), joined(dist, outputs)

    def gradient(v: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(v)
            total = tf.reduce_sum(likelihoods.cost(dist, x, v))
        return tape.gradient(total, v)

    found = tf.function(gradient, jit_compile=compiled, autograph=False)(start).numpy()
    step = 1e-5
    up, down = (likelihoods.cost(dist, x, start + sign * step).numpy() for sign in (1, -1))
    if found.shape == up.shape:  # one output an element: each has its own difference
        np.testing.assert_allclose(found, (up - down) / (2 * step), rtol=1e-6, atol=1e-7)
    for k in range(likelihoods.outputs_per_neuron(dist)):
        moved = np.zeros(start.shape)
        moved[..., k * SHAPE[2] : (k + 1) * SHAPE[2]] = step
        up, down = (likelihoods.cost(dist, x, start + sign * moved).numpy() for sign in (1, -1))
        part = found[..., k * SHAPE[2] : (k + 1) * SHAPE[2]]
        np.testing.assert_allclose(part, (up - down) / (2 * step), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dist", ["negative_binomial", "gamma", "zero_inflated_gamma"])
def test_float32_is_exact_and_finite_at_the_ends(dist: str) -> None:
    """Extreme shapes and dispersions, tiny and large data: finite gradients, and 5 digits of the cost."""
    second = np.linspace(-60, 60, 241)
    data = [0, 1, 7, 300] if dist == "negative_binomial" else [1e-6, 0.1, 3.0, 500.0]
    if dist == "zero_inflated_gamma":
        data = [0.0, *data]
    for value in data:
        for log_mean in (-5.0, 0.0, 5.0):
            x = np.full((1, 1, len(second)), value, float)
            outputs = [np.full(x.shape, log_mean), second[None, None], np.full(x.shape, 0.3)]
            v = joined(dist, outputs, tf.float32)
            with tf.GradientTape() as tape:
                tape.watch(v)
                cost = likelihoods.cost(dist, tf.constant(x, tf.float32), v)
            assert np.isfinite(tape.gradient(cost, v)).all()
            constant = likelihoods.constant(dist, x.swapaxes(0, 2))
            expected = -log_density(dist, x, *outputs).ravel()
            np.testing.assert_allclose(cost.numpy().ravel() + constant, expected, rtol=3e-5, atol=2e-4)


def test_saved_parameters_are_mean_and_variance(case: Any) -> None:
    dist, _, outputs = case
    found = likelihoods.parameters(dist, joined(dist, outputs)).numpy()
    first, second, _ = outputs
    if dist in ("poisson", "negative_binomial"):
        np.testing.assert_allclose(found, np.exp(first))
        return
    mean, variance = np.split(found, 2, axis=-1)
    shape = np.exp(saturated(second))
    expected = {
        "gaussian": lambda: stats.norm(first, np.exp(second / 2)).stats(),
        "gamma": lambda: stats.gamma(shape, scale=np.exp(first) / shape).stats(),
    }.get(dist)
    if expected is not None:
        np.testing.assert_allclose(np.stack([mean, variance]), np.stack(expected()))
        return
    rng, count = np.random.default_rng(0), 400_000
    a, b, c = (0.4, -0.3, 0.7)
    drawn = rng.gamma(np.exp(saturated(b)), np.exp(a - saturated(b)), count) * (
        rng.random(count) < sigmoid(c)
    )
    mean, variance = likelihoods.parameters(dist, tf.constant([a, b, c], tf.float64)).numpy()
    assert mean == pytest.approx(drawn.mean(), rel=0.01)
    assert variance == pytest.approx(drawn.var(), rel=0.03)


def test_first_biases_give_the_mean_of_the_data(case: Any) -> None:
    """With weights of 0, the expected value of each neuron is its mean over what counts."""
    dist, _, _ = case
    rng = np.random.default_rng(3)
    scale = np.array([0.5, 2.0, 4.0])
    x = samples(dist, rng, (400, 9, 3), scale)
    mask = rng.random(x.shape) < 0.7
    biases = likelihoods.first_biases(dist, x, mask)
    assert set(biases) == set(likelihoods.READ_OUTS[dist])
    outputs = np.concatenate([np.broadcast_to(biases[g], 3) for g in likelihoods.READ_OUTS[dist]])
    found = likelihoods.parameters(dist, tf.constant(outputs)).numpy()[:3]
    np.testing.assert_allclose(found, x.mean((0, 1), where=mask), rtol=1e-6)
    silent = likelihoods.first_biases(dist, np.zeros((4, 5, 1), x.dtype))
    assert all(np.isfinite(v).all() for v in silent.values())


def test_padding_and_zeros_of_other_sessions_do_not_matter(small: Make) -> None:
    """Padded neurons are zeros, whose logarithm gamma outputs take."""
    hp = small(output_dist="gamma")
    rng = np.random.default_rng(0)
    wide, narrow = (
        Session(name, samples("gamma", rng, (9, 6, d)), samples("gamma", rng, (3, 6, d)))
        for name, d in (("w", 4), ("n", 2))
    )
    arch = Architecture.of(hp, [wide, narrow])
    data = batches.resident(arch, [wide.train, narrow.train], [None, None])
    assert np.isfinite(data["constant"]).all()
    assert initial.initial_parameters(arch, [wide, narrow])["readout_logshape/W"].shape == (2, 3, 4)


@pytest.mark.train
@pytest.mark.parametrize(
    "dist",
    [
        pytest.param("negative_binomial", marks=pytest.mark.slow),
        "gamma",
        pytest.param("zero_inflated_gamma", marks=pytest.mark.slow),
    ],
)
def test_training_lowers_the_cost_and_finds_the_rates(small: Make, tmp_path: Path, dist: str) -> None:
    """Two kinds of trials around different sine waves, beside a narrower session, for padding."""
    rng = np.random.default_rng(0)

    def make(name: str, neurons: int) -> tuple[Session, Any]:
        phase = rng.choice([0.0, 2.5], (90, 1, 1))
        mean = np.exp(np.sin(np.arange(8)[:, None] + phase) * rng.normal(0, 1, neurons) + 1.0)
        x = samples(dist, rng, mean.shape, mean)
        return Session(name, x[:60], x[60:]), mean

    (one, mean), (other, _) = make("a", 6), make("b", 3)
    hp = small(
        output_dist=dist, max_epochs=300, adam_epsilon=1e-3, l2_gen_scale=0, kl_ic_weight=0.2, batch_size=20
    )
    seen: list[training.Progress] = []
    training.train(hp, [one, other], tmp_path, on_progress=seen.append)
    first = next(p for p in seen if p.epoch == 1)
    assert seen[-1].valid_recon < first.valid_recon - 3
    sampler = posterior.Sampler(hp, tmp_path, "a", num_samples=4)
    block = next(iter(sampler.blocks(one.valid)))
    name = "rates" if dist == "negative_binomial" else "output_mean"
    expected = mean[60:] * (0.6 if dist == "zero_inflated_gamma" else 1)
    assert np.corrcoef(block.arrays[name].ravel(), expected.ravel())[0, 1] > 0.8
    assert ("output_var" in block.arrays) == (dist != "negative_binomial")
    group = likelihoods.READ_OUTS[dist][1]
    trained = checkpoints.trained(tmp_path).params[f"{group}/b"]
    assert not np.allclose(trained[0], trained[0, 0]), "the second outputs are not trained"
