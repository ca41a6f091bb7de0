"""The generator as a dynamical system: its derivative, its fixed points, what its modes mean in time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from made_up_model import BIN_MS, ROTATION_HZ, ROTATION_MS, Model

from lfadsrm_hpc.errors import DataError, UsageError
from lfadsrm_hpc.results.dynamics import Generator, fixed_points, modes

Floats = npt.NDArray[np.float64]


def random_generator(units: int = 7, *, scale: float = 1.0, clip: float = 5.0, seed: int = 0) -> Generator:
    rng = np.random.default_rng(seed)
    w_h = scale * rng.standard_normal((3, units, units)) / np.sqrt(units)
    return Generator(w_h, 0.5 * rng.standard_normal((3, units)), clip)


def numerical_jacobian(generator: Generator, h: Floats, step: float = 1e-6) -> Floats:
    """Central differences of the step, unit by unit: row i is the change after by a change of unit i."""
    rows = [
        (generator.step(h + step * e).after - generator.step(h - step * e).after) / (2 * step)
        for e in np.eye(generator.units)
    ]
    return np.stack(rows)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_the_jacobian_is_the_derivative_of_the_step(scale: float) -> None:
    generator = random_generator(scale=scale)
    for seed in range(5):
        h = 1.5 * np.random.default_rng(seed).standard_normal(7)
        np.testing.assert_allclose(generator.jacobian(h), numerical_jacobian(generator, h), atol=1e-8)


def test_units_that_are_clipped_do_not_pass_anything_on() -> None:
    generator = random_generator(clip=0.4)
    h = 1.5 * np.random.default_rng(3).standard_normal(7)
    clipped = np.abs(generator.step(h).unclipped) >= 0.4
    assert 0 < clipped.sum() < 7
    found = generator.jacobian(h)
    assert not found[:, clipped].any()
    np.testing.assert_allclose(found, numerical_jacobian(generator, h), atol=1e-8)


def test_weights_of_a_file_are_those_of_the_equations(tmp_path: Path) -> None:
    """One step, written out from the arrays of the file, gates side by side as they are stored."""
    model = Model({"day1": 4}, inputs=2, units=6)
    raw = {name: value.astype(float) for name, value in model.arrays.items()}
    x, h = np.array([0.5, -1.0]), np.random.default_rng(0).standard_normal(6)
    pre = x @ raw["gen/W_x"] + raw["gen/b"]
    r = 1 / (1 + np.exp(-(pre[:6] + h @ raw["gen/W_ru"][:, :6])))
    u = 1 / (1 + np.exp(-(pre[6:12] + h @ raw["gen/W_ru"][:, 6:] + 1)))
    c = np.tanh(pre[12:] + (r * h) @ raw["gen/W_c"])
    params = model.params(tmp_path)
    generator = Generator.of(params, x)
    np.testing.assert_allclose(generator.step(h).after, u * h + (1 - u) * c, rtol=1e-6)
    assert generator.clip == 5.0
    with pytest.raises(UsageError, match="has 2 inputs, and 3 are given"):
        Generator.of(params, [0, 0, 0])
    with h5py.File(tmp_path / "model_params.h5", "r+") as file:
        file.attrs["hyperparameters"] = json.dumps({"cell_clip_value": 0.25})
    from lfadsrm_hpc.results.model_params import open_model_params

    clipped = Generator.of(open_model_params(tmp_path / "model_params.h5"))
    assert np.abs(clipped.step(5 * np.ones(6)).after).max() == 0.25


@pytest.mark.train
def test_the_step_is_that_of_the_model_that_trains(tmp_path: Path) -> None:
    from lfadsrm_hpc.model.backend import tf
    from lfadsrm_hpc.model.network.gru import Cell, scan

    model = Model({"day1": 4}, inputs=2, units=6)
    raw = {name: tf.constant(value) for name, value in model.arrays.items()}
    cell = Cell(raw["gen/W_x"], raw["gen/W_ru"], raw["gen/W_c"], raw["gen/b"])
    rng = np.random.default_rng(1)
    x, h = rng.standard_normal(2), rng.standard_normal(6)
    theirs = scan(
        cell, tf.constant(x[None, None], tf.float32), tf.constant(h[None], tf.float32), steps=1, clip=5.0
    )
    ours = Generator.of(model.params(tmp_path), x).step(h).after
    np.testing.assert_allclose(theirs.numpy()[0, 0], ours, rtol=1e-5, atol=1e-6)


def test_planted_modes_are_found_with_their_time_constants_and_frequencies(tmp_path: Path) -> None:
    generator = Generator.of(Model({"day1": 4}).params(tmp_path))
    origin = np.zeros(generator.units)
    assert generator.speed(origin) < 1e-12
    found = modes(generator.jacobian(origin), BIN_MS)
    pair = np.flatnonzero(np.abs(found.frequency_hz - ROTATION_HZ) < 1e-3)
    assert len(pair) == 2
    np.testing.assert_allclose(found.time_constant_ms[pair], ROTATION_MS, rtol=1e-4)
    assert found.eigenvalue[pair[0]] == np.conj(found.eigenvalue[pair[1]])
    assert pair[0] == 0, "it is the slowest"
    slow = found.frequency_hz == 0
    assert np.isclose(found.time_constant_ms[slow], 250.0, rtol=1e-4).any()
    assert np.all(np.diff(np.abs(found.eigenvalue)) <= 1e-9)


def test_a_mode_decays_and_turns_as_its_eigenvalue_says() -> None:
    """Simulated, not computed: a small deviation from a fixed point, along the slowest pair of modes."""
    generator = random_generator(scale=1.2, seed=4)
    point = fixed_points(generator, 0.5 * np.random.default_rng(0).standard_normal((8, 7)))[0]
    assert point.is_fixed
    jacobian = generator.jacobian(point.state)
    values, vectors = np.linalg.eig(jacobian.T)  # row vectors: d J = L d
    k = int(np.abs(values).argmax())
    deviation = 1e-5 * np.real(vectors[:, k])
    state, expected = point.state + deviation, 1e-5 * vectors[:, k]
    for _ in range(5):
        state, expected = generator.step(state).after, expected * values[k]
    np.testing.assert_allclose(state - point.state, np.real(expected), atol=2e-9)


def test_of_several_fixed_points_the_one_that_most_starts_find_is_first() -> None:
    """One unit that excites itself: a stable point on either side, and an unstable one between."""
    w_h = np.zeros((3, 1, 1))
    w_h[2] = 4.0
    generator = Generator(w_h, np.array([[20.0], [0.0], [0.0]]), 5.0)
    points = fixed_points(generator, [[0.9], [1.2], [0.8], [-1.0], [0.0]])
    assert [point.found for point in points] == [3, 1, 1]
    best = points[0].state
    assert best > 0.9
    np.testing.assert_allclose(best, np.tanh(4 * best), atol=1e-5)
    stable = [bool(np.abs(generator.jacobian(p.state)).max() < 1) for p in points]
    assert sorted(stable) == [False, True, True]
    assert not stable[[float(p.state[0]) == 0 for p in points].index(True)]


def test_where_a_fixed_point_has_just_vanished_a_slow_point_is_found() -> None:
    """One unit that excites itself, pushed until the lower of its stable points has gone: its ghost."""
    w_h = np.zeros((3, 1, 1))
    w_h[2] = 4.0
    generator = Generator(w_h, np.array([[20.0], [0.0], [2.2]]), 5.0)
    (ghost,) = fixed_points(generator, [[-1.0]])
    assert not ghost.is_fixed
    assert 1e-4 < ghost.speed < 0.05
    assert ghost.state[0] == pytest.approx(-np.sqrt(0.75), abs=0.05)
    first, second = fixed_points(generator, [[-1.0], [1.0]])
    assert (first.is_fixed, second.is_fixed) == (True, False)
    with pytest.raises(DataError, match="finite"):
        fixed_points(generator, [[np.nan]])


@pytest.mark.parametrize(
    ("value", "time_constant", "frequency"),
    [
        (0.5, 10 / np.log(2), 0.0),
        (1.0, np.inf, 0.0),
        (2.0, -10 / np.log(2), 0.0),
        (-0.5, 10 / np.log(2), 50.0),
    ],
)
def test_time_constants_and_frequencies(value: float, time_constant: float, frequency: float) -> None:
    found = modes([[value]], 10.0)
    assert found.time_constant_ms[0] == pytest.approx(time_constant)
    assert found.frequency_hz[0] == pytest.approx(frequency)


def test_a_rotation() -> None:
    angle = 2 * np.pi * 5 * 0.01
    turn = 0.9 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = modes(turn, 10.0)
    np.testing.assert_allclose(found.frequency_hz, [5.0, 5.0])
    assert found.eigenvalue[0].imag > 0
