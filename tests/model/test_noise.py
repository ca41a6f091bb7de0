"""Random numbers: distribution, independence, and the same bits everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.network.noise import KeyedNoise, Noise

SHAPE = [200, 1000]


def test_uniform_is_uniform_and_never_0_or_1() -> None:
    u = Noise(5, tf.constant(3)).uniform(1, SHAPE, tf.float64).numpy().ravel()
    assert u.min() > 0
    assert u.max() < 1
    counts = np.histogram(u, 64, (0, 1))[0]
    chi2 = ((counts - u.size / 64) ** 2 / (u.size / 64)).sum()
    assert 25 < chi2 < 120  # 63 degrees of freedom: beyond either end with a chance under 1e-5
    lag = np.corrcoef(u[:-1], u[1:])[0, 1]
    assert abs(lag) < 5 / np.sqrt(u.size)


def test_normal_has_the_moments_and_tails_of_a_normal() -> None:
    z = Noise(6, tf.constant(0)).normal(2, SHAPE, tf.float64).numpy().ravel()
    error = 1 / np.sqrt(z.size)
    assert abs(z.mean()) < 5 * error
    assert abs(z.var() - 1) < 5 * error * np.sqrt(2)
    assert abs((z**3).mean()) < 5 * error * np.sqrt(15)
    assert abs((z**4).mean() - 3) < 5 * error * np.sqrt(96)
    assert np.mean(np.abs(z) > 3) == pytest.approx(0.0027, rel=0.25)


@pytest.mark.parametrize("change", ["seed", "high seed", "stream", "step"])
def test_uses_steps_and_seeds_are_independent(change: str) -> None:
    first = Noise(5, tf.constant(3)).uniform(1, SHAPE, tf.float64).numpy().ravel()
    noise = {"seed": Noise(6, tf.constant(3)), "high seed": Noise(5 + 2**40, tf.constant(3))}.get(
        change, Noise(5, tf.constant(4 if change == "step" else 3))
    )
    other = noise.uniform(2 if change == "stream" else 1, SHAPE, tf.float64).numpy().ravel()
    assert abs(np.corrcoef(first, other)[0, 1]) < 5 / np.sqrt(first.size)
    assert len(np.intersect1d(first[:2000], other[:2000])) < 5


def test_dropout_keeps_the_part_and_the_mean() -> None:
    y = Noise(1, tf.constant(0)).dropout(1, tf.ones(SHAPE), 0.95).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.95)}
    assert (y > 0).mean() == pytest.approx(0.95, abs=5 * np.sqrt(0.95 * 0.05 / y.size))


def test_same_bits_with_and_without_xla() -> None:
    def draw(step: object) -> object:
        return Noise(2**62 + 9, step).bits(7, [1000])

    plain, compiled = (
        tf.function(draw, jit_compile=x, autograph=False)(tf.constant(11)) for x in (False, True)
    )
    np.testing.assert_array_equal(plain, compiled)


# -- numbers of rows with keys


def keyed(
    keys: np.ndarray, samples: object, position: int = 3, width: int = 5, stream: int = 1
) -> np.ndarray:
    noise = KeyedNoise.of(tf.constant(keys, tf.uint32), tf.constant(samples, tf.int32))
    return noise.normal(stream, tf.constant(position), width, tf.float64).numpy()


def trial_keys(trials: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**32, (trials, 2), dtype=np.uint32)


def test_a_keyed_number_depends_on_its_key_sample_and_position_alone() -> None:
    keys = trial_keys(4)
    all_of_them = keyed(keys, np.arange(6)).reshape(4, 6, 5)
    np.testing.assert_array_equal(keyed(keys[2:3], [4, 1]), all_of_them[2, [4, 1]])
    everywhere = keyed(keys, np.arange(6), position=0, width=20).reshape(4, 6, 20)
    np.testing.assert_array_equal(everywhere[..., 15:], all_of_them)


def test_keyed_numbers_are_normal_and_independent() -> None:
    z = keyed(trial_keys(300), np.arange(70), width=12)
    error = 1 / np.sqrt(z.size)
    assert abs(z.mean()) < 5 * error
    assert abs(z.var() - 1) < 5 * error * np.sqrt(2)
    assert abs((z**3).mean()) < 5 * error * np.sqrt(15)
    assert abs((z**4).mean() - 3) < 5 * error * np.sqrt(96)
    assert np.mean(np.abs(z) > 3) == pytest.approx(0.0027, rel=0.25)
    by_trial = z.reshape(300, 70, 12)
    pairs = {
        "samples": (by_trial[:, :-1], by_trial[:, 1:]),
        "trials": (by_trial[:-1], by_trial[1:]),
        "dimensions": (z[:, :-1], z[:, 1:]),
        "positions": (z, keyed(trial_keys(300), np.arange(70), width=12, position=4)),
        "streams": (z, keyed(trial_keys(300), np.arange(70), width=12, stream=2)),
    }
    for name, (a, b) in pairs.items():
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(a.size), name
    # sums of rows and of columns show what pairs do not
    for axis in (0, 1):
        sums = z.sum(axis) / np.sqrt(z.shape[axis])
        assert abs(sums.var() - 1) < 5 * np.sqrt(2 / sums.size)
