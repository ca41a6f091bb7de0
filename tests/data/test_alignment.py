from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr

from lfadsrm_hpc.data.alignment import _ridge_path, align, condition_folds, ridge
from lfadsrm_hpc.data.inputs import SessionInputs, make_inputs
from lfadsrm_hpc.data.synthetic import lorenz_sessions
from lfadsrm_hpc.errors import DataError, UsageError

Array = npt.NDArray[Any]


def session(name: str, data: Array, condition: Sequence[Any] | Array | None) -> SessionInputs:
    """Make inputs with the given training trials and validation trials that would spoil every average."""
    n_trials, n_time, n_neurons = data.shape
    labels = None if condition is None else np.asarray(condition)
    return SessionInputs(
        dataset=name,
        train_data=data,
        valid_data=np.full((2, n_time, n_neurons), 1e6),
        train_inds=np.arange(n_trials),
        valid_inds=np.arange(n_trials, n_trials + 2),
        time_ms=np.arange(n_time) * 10.0,
        bin_ms=10.0,
        neuron_names=np.array([f"n{i}" for i in range(n_neurons)]),
        train_condition=labels,
        valid_condition=None if labels is None else labels[:2],
    )


def low_rank(
    seed: int = 0, n_sessions: int = 3, n_conditions: int = 6, rank: int = 3, noise: float = 0.0
) -> tuple[list[SessionInputs], Array]:
    """Sessions whose averages are linear in `latent` (C, T, rank)."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n_conditions, 20, rank)).cumsum(axis=1) * [4.0, 2.0, 1.0][:rank]
    made = []
    for index in range(n_sessions):
        n_neurons = 8 + 2 * index
        rates = 5.0 + index + latent @ rng.standard_normal((rank, n_neurons))
        condition = rng.permutation(np.repeat(np.arange(n_conditions), 3))
        data = rates[condition]
        data = data + noise * rng.standard_normal(data.shape)
        made.append(session(f"s{index}", data, condition))
    return made, latent


def averages(inputs: SessionInputs, conditions: Sequence[Any]) -> Array:
    assert inputs.train_condition is not None
    return np.stack([inputs.train_data[inputs.train_condition == c].mean(axis=0) for c in conditions])


def predicted(inputs: SessionInputs, alignment: Any, conditions: Sequence[Any]) -> Array:
    z: Array = (averages(inputs, conditions) - alignment.bias) @ alignment.matrix
    return z


@pytest.mark.parametrize("method", ["least_squares", "ridge"])
def test_low_rank_data_are_recovered(method: str) -> None:
    sessions, latent = low_rank()
    found = align(sessions, 3, method=method)
    predictions = [predicted(s, a, range(6)) for s, a in zip(sessions, found, strict=True)]
    for s, a, prediction in zip(sessions, found, predictions, strict=True):
        assert a.matrix.shape == (s.train_data.shape[2], 3)
        assert a.r2 > 0.9999
        np.testing.assert_allclose(a.r2_by_factor, 1, atol=1e-3)
        np.testing.assert_allclose(prediction, predictions[0], atol=2e-2 * predictions[0].std())
        np.testing.assert_allclose(a.bias, averages(s, range(6)).mean(axis=(0, 1)))
    flat = (latent - latent.mean(axis=(0, 1))).reshape(-1, 3)
    z = predictions[0].reshape(-1, 3)
    residual = flat - z @ np.linalg.lstsq(z, flat, rcond=None)[0]
    assert (residual**2).sum() < 1e-3 * (flat**2).sum()


def test_components_are_those_of_a_plain_pca() -> None:
    sessions, _ = low_rank(noise=3.0)
    together = np.concatenate([averages(s, range(6)).reshape(120, -1) for s in sessions], axis=1)
    together -= together.mean(axis=0)
    u, scale, _ = np.linalg.svd(together, full_matrices=False)
    z = u[:, :4] * scale[:4]
    z *= np.where((z**3).sum(axis=0) < 0, -1, 1)
    for s, a in zip(sessions, align(sessions, 4), strict=True):
        own = averages(s, range(6)).reshape(120, -1)
        own = own - own.mean(axis=0)
        expected = np.linalg.inv(own.T @ own) @ own.T @ z
        np.testing.assert_allclose(a.matrix, expected, atol=1e-9)
        r2 = 1 - ((z - own @ expected) ** 2).sum() / (z**2).sum()
        assert a.r2 == pytest.approx(r2)
        assert 0.3 < a.r2 < 0.999


def test_one_session_gets_its_own_principal_components() -> None:
    (one,), _ = low_rank(n_sessions=1, noise=1.0)
    (found,) = align([one], 5)
    np.testing.assert_allclose(found.matrix.T @ found.matrix, np.eye(5), atol=1e-9)
    assert found.r2 == pytest.approx(1)


@pytest.mark.parametrize("method", ["least_squares", "ridge"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_permuting_neurons_permutes_rows(method: str, seed: int) -> None:
    sessions, _ = low_rank(seed, noise=2.0)
    order = np.random.default_rng(seed).permutation(sessions[1].train_data.shape[2])
    shuffled = replace(sessions[1], train_data=sessions[1].train_data[:, :, order])
    before = align(sessions, 4, method=method)
    after = align([sessions[0], shuffled, sessions[2]], 4, method=method)
    np.testing.assert_allclose(after[1].matrix, before[1].matrix[order], atol=1e-9)
    np.testing.assert_allclose(after[1].bias, before[1].bias[order])
    np.testing.assert_allclose(after[0].matrix, before[0].matrix, atol=1e-9)


@pytest.mark.parametrize("method", ["least_squares", "ridge"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rotating_neurons_leaves_the_prediction(method: str, seed: int) -> None:
    sessions, _ = low_rank(seed, noise=2.0)
    n_neurons = sessions[0].train_data.shape[2]
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((n_neurons, n_neurons)))[0]
    rotated = replace(sessions[0], train_data=sessions[0].train_data @ rotation)
    before = align(sessions, 4, method=method)
    after = align([rotated, *sessions[1:]], 4, method=method)
    np.testing.assert_allclose(
        predicted(rotated, after[0], range(6)), predicted(sessions[0], before[0], range(6)), atol=1e-8
    )
    np.testing.assert_allclose(after[2].matrix, before[2].matrix, atol=1e-9)


def test_more_factors_than_components_are_padded_with_zeros() -> None:
    sessions, _ = low_rank()
    for a in align(sessions, 40):
        assert a.matrix.shape[1] == 40
        assert np.abs(a.matrix[:, :3]).max(axis=0).min() > 0
        np.testing.assert_array_equal(a.matrix[:, 3:], 0)
        assert np.isnan(a.r2_by_factor[3:]).all()
        assert a.r2 == pytest.approx(1)
    noisy, _ = low_rank(noise=1.0)  # 8 + 10 + 12 neurons
    for a in align(noisy, 40):
        assert np.abs(a.matrix[:, :30]).max(axis=0).min() > 0
        np.testing.assert_array_equal(a.matrix[:, 30:], 0)


def test_missing_conditions() -> None:
    """Conditions that a session lacks enter only the others' part of the PCA."""
    sessions, _ = low_rank(n_conditions=8)
    kept = [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 6, 7]]
    cut = []
    for s, labels in zip(sessions, kept, strict=True):
        assert s.train_condition is not None
        rows = np.isin(s.train_condition, labels)
        cut.append(
            replace(
                s,
                train_data=s.train_data[rows],
                train_condition=s.train_condition[rows],
                train_inds=s.train_inds[rows],
            )
        )
    shared = [2, 3, 4, 5]
    found = align(cut, 3)
    predictions = [predicted(s, a, shared) for s, a in zip(cut, found, strict=True)]
    for s, a, labels, prediction in zip(cut, found, kept, predictions, strict=True):
        assert a.r2 > 0.9999
        np.testing.assert_allclose(a.bias, averages(s, labels).mean(axis=(0, 1)))
        centred = prediction - prediction.mean(axis=(0, 1))
        np.testing.assert_allclose(
            centred, predictions[0] - predictions[0].mean(axis=(0, 1)), atol=1e-6 * centred.std()
        )


def test_trials_without_condition_are_left_out() -> None:
    sessions, _ = low_rank(noise=1.0)
    expected = align(sessions, 3)
    for missing in ("", np.nan):
        extended = []
        for s in sessions:
            assert s.train_condition is not None
            labels: list[Any] = [str(c) if missing == "" else float(c) for c in s.train_condition]
            extended.append(
                session(
                    s.dataset,
                    np.concatenate([s.train_data, np.full((2, *s.train_data.shape[1:]), 99.0)]),
                    [*labels, missing, missing],
                )
            )
        for one, two in zip(expected, align(extended, 3), strict=True):
            np.testing.assert_allclose(one.matrix, two.matrix, atol=1e-9)
            np.testing.assert_allclose(one.bias, two.bias)


def test_silent_neurons_get_zeros() -> None:
    sessions, _ = low_rank(noise=1.0)
    data = sessions[0].train_data.copy()
    data[:, :, 4] = 0
    for method in ("least_squares", "ridge"):
        found = align([replace(sessions[0], train_data=data), *sessions[1:]], 3, method=method)[0]
        np.testing.assert_allclose(found.matrix[4], 0, atol=1e-12)
        assert found.bias[4] == 0
        assert np.isfinite(found.matrix).all()


def test_ridge_scores_the_left_out_folds() -> None:
    """The penalty chosen must be the one that a direct computation on left-out conditions finds best."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((60, 40))
    z = x[:, :2] @ rng.standard_normal((2, 2)) + 3.0 * rng.standard_normal((60, 2))
    x -= x.mean(axis=0)
    z -= z.mean(axis=0)
    folds = condition_folds(6, 60)
    scale = (x**2).sum() / 40
    best = []
    for k in range(2):
        scores = {}
        for penalty in scale * 10.0 ** np.arange(-6.0, 3.5, 0.5):
            scores[penalty] = 0.0
            for fold in range(6):
                train, test = folds != fold, folds == fold
                a = np.c_[x[train], np.ones(train.sum())]
                added = penalty * np.eye(41)
                added[40, 40] = 0
                w = np.linalg.solve(a.T @ a + added, a.T @ z[train, k])
                scores[penalty] += ((z[test, k] - np.c_[x[test], np.ones(test.sum())] @ w) ** 2).sum()
        penalty = min(scores, key=scores.__getitem__)
        best.append(np.linalg.solve(x.T @ x + penalty * np.eye(40), x.T @ z[:, k]))
        assert scores[penalty] < 0.8 * scores[min(scores)]  # here shrinking pays
    np.testing.assert_allclose(ridge(x, z, folds), np.array(best).T, atol=1e-9)


def test_ridge_path_without_penalty_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((50, 6)), rng.standard_normal((50, 2))
    np.testing.assert_allclose(
        _ridge_path(x, z, np.zeros(1))[0], np.linalg.lstsq(x, z, rcond=None)[0], atol=1e-10
    )


def test_folds_keep_conditions_together() -> None:
    folds = condition_folds(25, 250).reshape(25, 10)
    assert (folds == folds[:, :1]).all()
    np.testing.assert_array_equal(np.unique(folds), np.arange(10))
    np.testing.assert_array_equal(np.bincount(condition_folds(1, 25)), [3, 2, 3, 2, 3, 2, 3, 2, 3, 2])


def test_ridge_with_one_condition() -> None:
    sessions, _ = low_rank(n_conditions=1, noise=0.5)
    for a in align(sessions, 2, method="ridge"):
        assert 0.5 < a.r2 <= 1


def test_other_data_for_alignment() -> None:
    """Rebinned to the session's bins, all trials used, in place of the session's own."""
    sessions, _ = low_rank(noise=1.0)
    expected = align(sessions, 3)
    spoiled = [replace(s, train_data=np.zeros_like(s.train_data), train_condition=None) for s in sessions]
    data = []
    for s in sessions:
        fine = np.repeat(s.train_data, 2, axis=1) / 2
        ds = xr.Dataset(
            {"spikes": (("trial", "time", "neuron"), fine)}, attrs={"bin_ms": 5.0, "name": s.dataset}
        )
        ds = ds.assign_coords(time=np.arange(40) * 5.0, condition=("trial", s.train_condition))
        data.append(ds)
    for one, two in zip(expected, align(spoiled, 3, data=data), strict=True):
        np.testing.assert_allclose(one.matrix, two.matrix, atol=1e-9)
    with pytest.raises(DataError, match=r"(?s)7 neurons.*s0"):
        align(spoiled, 3, data=[data[0].isel(neuron=slice(7)), *data[1:]])


def test_lorenz_sessions_align() -> None:
    made = [
        make_inputs(ds, name=ds.attrs["name"], bin_ms=20.0, train_to_test_ratio=4, split="stratified", seed=0)
        for ds in lorenz_sessions(
            3, n_conditions=10, trials_per_condition=20, bin_ms=20.0, mean_rate=20, speed=3.0
        )
    ]
    for a in align(made, 3):
        assert a.r2 > 0.8


def test_errors_say_what_is_missing() -> None:
    sessions, _ = low_rank()
    none = replace(sessions[1], train_condition=None)
    with pytest.raises(DataError, match=r"(?s)no conditions.*'s1'.*use_alignment_matrix"):
        align([sessions[0], none], 3)
    other = replace(sessions[1], train_condition=np.array(["left"] * 18))
    with pytest.raises(DataError, match=r"(?s)no condition is shared.*s0 has .*s1 has 'left'"):
        align([sessions[0], other], 3)
    short = replace(sessions[1], train_data=sessions[1].train_data[:, :15])
    with pytest.raises(DataError, match=r"s0 has 20 bins, s1 has 15 bins"):
        align([sessions[0], short], 3)
    with pytest.raises(UsageError, match="ridge"):
        align(sessions, 3, method="rigde")
    with pytest.raises(UsageError):
        align([], 3)
    data = sessions[0].train_data.copy()
    data[3, 4, 5] = np.nan
    with pytest.raises(DataError, match=r"(?s)not finite.*'s0'"):
        align([replace(sessions[0], train_data=data), sessions[1]], 3)


def test_empty_labels_only() -> None:
    sessions, _ = low_rank()
    with pytest.raises(DataError, match="no conditions"):
        align([replace(sessions[0], train_condition=np.array([""] * 18))], 3)
