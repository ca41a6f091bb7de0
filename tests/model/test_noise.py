"""Random numbers: distribution, independence, and the same bits everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.noise import Noise

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
