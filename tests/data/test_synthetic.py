from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from lfadsrm_hpc.data.synthetic import (
    chaotic_rnn_session,
    chaotic_rnn_sessions,
    lorenz_sessions,
    lorenz_trajectories,
)
from lfadsrm_hpc.errors import UsageError

SMALL: dict[str, Any] = {
    "n_conditions": 6,
    "trials_per_condition": (3, 5),
    "n_neurons": (8, 12),
    "bin_ms": 10.0,
}


def test_lorenz_step_agrees_with_a_much_finer_one() -> None:
    start = np.array([[1.0, 2.0, 25.0], [-3.0, 1.0, 20.0]])
    coarse = lorenz_trajectories(start, 51, 0.006)
    fine = lorenz_trajectories(start, 51 * 10, 0.0006)[:, ::10][:, :51]
    np.testing.assert_allclose(coarse, fine, atol=2e-4)


def test_lorenz_fixed_point_stays() -> None:
    side = np.sqrt(8.0 / 3.0 * 27.0)
    states = lorenz_trajectories(np.array([[side, side, 27.0]]), 20, 0.02)
    np.testing.assert_allclose(states[0], np.tile([side, side, 27.0], (20, 1)), atol=1e-9)


def test_lorenz_session_form() -> None:
    sessions = lorenz_sessions(2, **SMALL)
    for index, ds in enumerate(sessions):
        assert ds["spikes"].dims == ("trial", "time", "neuron") == ds["truth"].dims
        assert 8 <= ds.sizes["neuron"] <= 12
        per_condition = np.bincount(ds["condition"].values, minlength=6)
        assert 3 <= per_condition.min() == per_condition.max() <= 5
        np.testing.assert_array_equal(ds["time"].values, np.arange(100) * 10.0)
        assert ds.attrs["name"] == f"dataset00{index + 1}"
        assert ds.attrs["bin_ms"] == 10.0
        assert ds["spikes"].dtype.kind == "i"
        assert not np.array_equal(ds["condition"].values, np.sort(ds["condition"].values))
    assert sessions[0].attrs["date"] < sessions[1].attrs["date"]


def test_lorenz_mean_rates_and_modulation() -> None:
    for ds in lorenz_sessions(3, mean_rate=7.0, modulation=0.8, n_conditions=30, bin_ms=10.0):
        truth = ds["truth"].values
        assert truth.mean() == pytest.approx(7.0, rel=1e-4)
        n_bins = ds["spikes"].size
        expected = float(truth.mean()) * 0.01
        assert ds["spikes"].values.mean() == pytest.approx(expected, abs=5 * np.sqrt(expected / n_bins))
        depth = np.log(truth).std(axis=(0, 1))
        assert 0.59 < depth.min() < depth.max() < 1.01
        rates = truth.mean(axis=(0, 1))
        assert rates.max() > 1.5 * rates.min()


def test_truth_is_the_rate_of_the_spikes() -> None:
    (ds,) = lorenz_sessions(
        1, n_conditions=2, trials_per_condition=400, n_neurons=5, bin_ms=50.0, mean_rate=40
    )
    for condition in (0, 1):
        chosen = ds.isel(trial=ds["condition"].values == condition)
        expected = chosen["truth"].values[0] * 0.05
        np.testing.assert_array_equal(chosen["truth"].values[0], chosen["truth"].values[-1])
        z = (chosen["spikes"].values.mean(axis=0) - expected) / np.sqrt(expected / 400)
        assert np.abs(z).max() < 4.5
        assert 0.7 < z.std() < 1.3


def test_lowd_and_readout_give_the_truth_and_conditions_are_shared() -> None:
    first, second = lorenz_sessions(2, **SMALL)
    for ds in (first, second):
        log_rates = ds["lowd"].values @ ds["readout_weights"].values.T + ds["readout_bias"].values
        np.testing.assert_allclose(np.exp(log_rates), ds["truth"].values, rtol=1e-4)
    for condition in range(6):
        one = first["lowd"].values[first["condition"].values == condition]
        two = second["lowd"].values[second["condition"].values == condition]
        np.testing.assert_array_equal(one[0], two[0])
    latents = np.stack([first["lowd"].values[first["condition"].values == c][0] for c in range(6)])
    np.testing.assert_allclose(latents.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(latents.std(axis=(0, 1)), 1, atol=1e-5)


def test_lorenz_is_seeded_and_sessions_do_not_depend_on_their_number() -> None:
    again = lorenz_sessions(3, seed=4, **SMALL)
    for a, b in zip(lorenz_sessions(2, seed=4, **SMALL), again, strict=False):
        assert a.identical(b)
    (other,) = lorenz_sessions(1, seed=5, **SMALL)
    assert not np.array_equal(other["lowd"].values[0], again[0]["lowd"].values[0])


def test_speed_scales_lorenz_time() -> None:
    (slow,) = lorenz_sessions(1, speed=1.0, **SMALL)
    (fast,) = lorenz_sessions(1, speed=8.0, **SMALL)

    def roughness(ds: xr.Dataset) -> float:
        return float(np.abs(np.diff(ds["lowd"].values, axis=1)).mean())

    assert roughness(fast) > 3 * roughness(slow)


@pytest.mark.parametrize(
    "bad",
    [{"bin_ms": 3.0}, {"n_neurons": (5, 2)}, {"n_conditions": 0}, {"mean_rate": -1.0}, {"n_neurons": 0}],
)
def test_lorenz_refuses_impossible_sizes(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        lorenz_sessions(1, **{**SMALL, **bad})


RNN: dict[str, Any] = {"n_conditions": 5, "trials_per_condition": 4, "seed": 2}


def test_rnn_session_form_and_rates() -> None:
    ds = chaotic_rnn_session(**RNN)
    assert dict(ds.sizes) == {"trial": 20, "time": 100, "neuron": 50}
    truth = ds["truth"].values
    np.testing.assert_allclose(truth.min(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(truth.max(axis=(0, 1)), 30, rtol=1e-5)
    assert ds["spikes"].values.mean() == pytest.approx(truth.mean() * 0.01, rel=0.05)
    assert "input_truth" not in ds
    same = np.flatnonzero(ds["condition"].values == 3)
    np.testing.assert_array_equal(truth[same[0]], truth[same[1]])


def test_rnn_sessions_share_the_network() -> None:
    first, second = chaotic_rnn_sessions(2, n_neurons=(30, 40), **RNN)
    shared = sorted(set(first["unit"].values) & set(second["unit"].values))
    assert shared  # 30 of 50 twice: at least 10 in common
    assert set(first["unit"].values) != set(second["unit"].values)
    unit = shared[0]
    for condition in range(5):
        traces = [
            ds["truth"].values[ds["condition"].values == condition][0][:, ds["unit"].values == unit]
            for ds in (first, second)
        ]
        np.testing.assert_array_equal(*traces)


def test_rnn_gain_makes_dynamics_faster() -> None:
    speeds = []
    for g in (1.5, 2.5):
        truth = chaotic_rnn_session(g=g, **RNN)["truth"].values
        speeds.append(np.abs(np.diff(truth[:, 20:], axis=1)).mean())
    assert speeds[1] > 1.2 * speeds[0]


def test_pulses_are_random_in_time_and_move_the_rates_from_their_bin_on() -> None:
    settings = {"n_neurons": 30, "n_inputs": 2, **RNN}
    ds = chaotic_rnn_session(with_inputs=True, **settings)
    inputs = ds["input_truth"].values
    assert inputs.shape == (20, 100, 2)
    np.testing.assert_array_equal((inputs == 8.0).sum(axis=1), 1)
    when = inputs.argmax(axis=1)
    assert when.min() >= 25
    assert when.max() < 75
    assert len(np.unique(when)) > 10
    silent = chaotic_rnn_session(with_inputs=True, pulse=1e-300, **settings)
    same = np.flatnonzero(ds["condition"].values == 0)
    quiet = silent["truth"].values[same]
    np.testing.assert_array_equal(quiet[0], quiet[1])
    kicked = ds["truth"].values[same]
    for i in range(1, len(same)):
        differ = np.any(inputs[same[0]] != inputs[same[i]], axis=-1)
        first = int(np.flatnonzero(differ)[0])
        np.testing.assert_array_equal(kicked[0, :first], kicked[i, :first])
        assert np.abs(kicked[0, first] - kicked[i, first]).max() > 1.0


def test_rnn_is_seeded() -> None:
    assert chaotic_rnn_session(**RNN).identical(chaotic_rnn_session(**RNN))
    assert not chaotic_rnn_session(**{**RNN, "seed": 3}).identical(chaotic_rnn_session(**RNN))


def test_rnn_refuses_more_neurons_than_units() -> None:
    with pytest.raises(UsageError, match="60 neurons"):
        chaotic_rnn_session(n_neurons=60, **RNN)
    with pytest.raises(UsageError, match="time constant"):
        chaotic_rnn_session(bin_ms=50.0, **RNN)
