from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr

from lfadsrm_hpc.data.alignment.matrices import align
from lfadsrm_hpc.data.alignment.regression import (
    _ridge_path,
    condition_folds,
    left_out_predictions,
    ridge,
    ridge_about_origin,
)
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


@pytest.mark.parametrize("weights", ["neurons", "datasets"])
@pytest.mark.parametrize("conditions", ["all", "shared"])
def test_components_are_those_of_a_plain_pca(weights: str, conditions: str) -> None:
    """Every step by itself, with numpy alone: the steps of the parity document."""
    sessions, _ = low_rank(noise=3.0)
    blocks = [averages(s, range(6)).reshape(120, -1) for s in sessions]
    blocks = [block - block.mean(axis=0) for block in blocks]
    if weights == "datasets":
        variances = [block.var(axis=0).sum() for block in blocks]
        blocks = [b * np.sqrt(np.mean(variances) / v) for b, v in zip(blocks, variances, strict=True)]
    together = np.concatenate(blocks, axis=1)
    u, scale, _ = np.linalg.svd(together, full_matrices=False)
    z = u[:, :4] * scale[:4]
    z *= np.where((z**3).sum(axis=0) < 0, -1, 1)
    for s, a in zip(sessions, align(sessions, 4, weights=weights, conditions=conditions), strict=True):
        own = averages(s, range(6)).reshape(120, -1)
        own = own - own.mean(axis=0)
        expected = np.linalg.inv(own.T @ own) @ own.T @ z
        np.testing.assert_allclose(a.matrix, expected, atol=1e-9)
        r2 = 1 - ((z - own @ expected) ** 2).sum() / (z**2).sum()
        assert a.r2 == pytest.approx(r2)
        assert 0.3 < a.r2 < 0.999
        by_neuron = []
        for neuron in own.T:
            rest = neuron - z @ np.linalg.lstsq(z, neuron, rcond=None)[0]
            by_neuron.append(1 - (rest**2).sum() / (neuron**2).sum())
        np.testing.assert_allclose(a.r2_by_neuron, by_neuron)
        predictions = np.empty_like(z)
        for condition in range(6):
            out = np.arange(120) // 20 == condition
            predictions[out] = own[out] @ np.linalg.lstsq(own[~out], z[~out], rcond=None)[0]
        assert a.r2_left_out == pytest.approx(1 - ((z - predictions) ** 2).sum() / (z**2).sum())
        assert a.r2_left_out < a.r2
        assert a.reconstruction is not None
        order = a.reconstruction.conditions.astype(int)
        for kept, wanted in ((a.reconstruction.components, z), (a.reconstruction.projection, own @ expected)):
            np.testing.assert_allclose(kept, wanted.reshape(6, 20, 4)[order], atol=1e-4)


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


def without(inputs: SessionInputs, labels: Sequence[Any]) -> SessionInputs:
    """Return a session without the trials of some conditions."""
    assert inputs.train_condition is not None
    rows = ~np.isin(inputs.train_condition, list(labels))
    return replace(
        inputs,
        train_data=inputs.train_data[rows],
        train_condition=inputs.train_condition[rows],
        train_inds=inputs.train_inds[rows],
    )


LACKING = {
    "some": [[], [6, 7], [0, 1]],
    "in pairs": [[0, 1, 2], [3, 4, 5], [6, 7]],  # none is shared by all three
    "a chain": [[4, 5, 6, 7], [0, 1, 6, 7], [0, 1, 2, 3]],  # the first and the last share none
}


def common_error(sessions: Sequence[SessionInputs], found: Sequence[Any], latent: Array) -> float:
    """Return the share of the latents' variance that one linear map of all sessions' read-ins misses."""
    n = len(latent)
    z = [predicted(s, a, range(n)).reshape(-1, latent.shape[2]) for s, a in zip(sessions, found, strict=True)]
    known = np.column_stack([np.concatenate(z), np.ones(len(z) * len(z[0]))])
    truth = np.concatenate([latent.reshape(-1, latent.shape[2])] * len(z))
    truth = truth - truth.mean(axis=0)
    rest = truth - known @ np.linalg.lstsq(known, truth, rcond=None)[0]
    return float((rest**2).sum() / (truth**2).sum())


@pytest.mark.parametrize("kind", LACKING)
def test_missing_conditions_are_filled_in(kind: str) -> None:
    """Read-ins agree on every condition, those that a session lacks too, and have one origin."""
    sessions, latent = low_rank(n_conditions=8, noise=1.0)
    clean, _ = low_rank(n_conditions=8)
    cut = [without(s, lacking) for s, lacking in zip(sessions, LACKING[kind], strict=True)]
    found = align(cut, 3, method="ridge")
    for s, a, lacking in zip(clean, found, LACKING[kind], strict=True):
        assert a.r2 > 0.97
        assert (a.conditions, a.all_conditions) == (8 - len(lacking), 8)
        spread = averages(s, range(8)).std()
        np.testing.assert_allclose(a.bias, averages(s, range(8)).mean(axis=(0, 1)), atol=0.1 * spread)
    complete = common_error(clean, align(sessions, 3, method="ridge"), latent)
    assert complete < 0.02
    assert common_error(clean, found, latent) < complete + 0.03


@pytest.mark.parametrize("seed", range(4))
def test_filling_in_beats_leaving_out(seed: int) -> None:
    """With noise, sessions agree better where each is regressed on all its conditions."""
    sessions, latent = low_rank(seed, n_conditions=8, noise=4.0)
    clean, _ = low_rank(seed, n_conditions=8)
    cut = [without(s, lacking) for s, lacking in zip(sessions, LACKING["some"], strict=True)]
    errors = [
        common_error(clean, align(cut, 3, method="ridge", conditions=conditions), latent)
        for conditions in ("all", "shared")
    ]
    assert errors[0] < errors[1]


def test_only_shared_conditions_as_in_the_matlab_program() -> None:
    """Conditions that a session lacks enter only the others' part of the PCA."""
    sessions, _ = low_rank(n_conditions=8)
    kept = [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 6, 7]]
    cut = [without(s, set(range(8)) - set(labels)) for s, labels in zip(sessions, kept, strict=True)]
    shared = [2, 3, 4, 5]
    found = align(cut, 3, conditions="shared")
    predictions = [predicted(s, a, shared) for s, a in zip(cut, found, strict=True)]
    for s, a, prediction in zip(cut, found, predictions, strict=True):
        assert a.r2 > 0.9999
        assert a.conditions == 4
        np.testing.assert_allclose(a.bias, averages(s, shared).mean(axis=(0, 1)))
        np.testing.assert_allclose(prediction, predictions[0], atol=1e-6 * prediction.std())


def test_sessions_that_share_nothing_are_named() -> None:
    sessions, _ = low_rank(n_sessions=4, n_conditions=4)
    lacking = [[2, 3], [0, 1], [2, 3], [0, 1]]
    cut = [without(s, labels) for s, labels in zip(sessions, lacking, strict=True)]
    with pytest.raises(DataError, match=r"(?s)s0, s2 \| s1, s3.*s0 has [01], [01]"):
        align(cut, 3)
    with pytest.raises(DataError, match=r"(?s)no condition is shared by the training trials of all.*'all'"):
        align(cut, 3, conditions="shared")


def test_large_sessions_do_not_have_their_way() -> None:
    """A session with many neurons that do something of their own takes the first component, or does not."""
    rng = np.random.default_rng(0)
    common, own = rng.standard_normal((2, 6, 20, 1)).cumsum(axis=2)
    condition = np.repeat(np.arange(6), 2)

    def made(name: str, latent: Array, n_neurons: int) -> SessionInputs:
        rates = 5 + latent @ rng.uniform(0.8, 1.2, (1, n_neurons))
        return session(name, rates[condition] + 0.05 * rng.standard_normal((12, 20, n_neurons)), condition)

    sessions = [made("large", own, 60), *(made(f"small{i}", common, 6) for i in range(3))]
    quality = {
        weights: [a.r2_by_factor[0] for a in align(sessions, 1, weights=weights)]
        for weights in ("datasets", "neurons")
    }
    assert quality["neurons"][0] > 0.95
    assert max(quality["neurons"][1:]) < 0.6
    assert min(quality["datasets"][1:]) > 0.95
    # a session counts as one, however many trials its averages are of
    many = [replace(sessions[0], train_data=np.tile(sessions[0].train_data, (5, 1, 1)),
                    train_condition=np.tile(condition, 5)), *sessions[1:]]  # fmt: skip
    for one, two in zip(align(sessions, 2), align(many, 2), strict=True):
        np.testing.assert_allclose(one.matrix, two.matrix, atol=1e-9)


# ------------------------------------------------------------------------------------ no conditions


def unlabelled(inputs: SessionInputs) -> SessionInputs:
    return replace(inputs, train_condition=None, valid_condition=None)


def test_a_session_without_conditions_starts_at_random() -> None:
    sessions, _ = low_rank(noise=1.0)
    expected = align([sessions[0], sessions[2]], 4)
    first, lost, last = align(
        [sessions[0], unlabelled(sessions[1]), sessions[2]], 4, without_conditions="random"
    )
    assert (lost.matrix, lost.bias, lost.made_by, lost.reconstruction) == (None, None, "random", None)
    assert "random" in lost.note
    assert np.isnan([lost.r2, lost.r2_left_out, *lost.r2_by_factor, *lost.r2_by_neuron]).all()
    for one, two in zip((first, last), expected, strict=True):
        np.testing.assert_array_equal(one.matrix, two.matrix)  # the others do without it
        assert (one.made_by, one.note) == ("conditions", "")


def test_a_session_without_conditions_starts_at_its_own_components() -> None:
    """Of what neighbouring bins share: a neuron with much noise and nothing else is not read in."""
    rng = np.random.default_rng(3)
    sessions, _ = low_rank(noise=0.5)
    latent = rng.standard_normal((40, 20, 2)).cumsum(axis=1)
    axes = np.linalg.qr(rng.standard_normal((9, 9)))[0][:2]
    data = 4 + latent @ axes + 0.3 * rng.standard_normal((40, 20, 9))
    noisy = np.concatenate([data, 9 + 5 * rng.standard_normal((40, 20, 1))], axis=2)
    assert noisy[..., 9].std() > 2 * data.std(axis=(0, 1)).max()  # a plain PCA would begin with it
    alone = session("alone", noisy, None)
    found = align([*sessions, alone], 3, without_conditions="pca")[3]
    assert found.matrix is not None
    assert found.matrix.shape == (10, 3)
    assert found.made_by == "pca"
    assert "own principal components" in found.note
    np.testing.assert_allclose(found.bias, noisy.mean(axis=(0, 1)))
    read_in = (data - data.mean(axis=(0, 1))).reshape(-1, 9) @ found.matrix[:9]
    truth = latent.reshape(-1, 2) - latent.mean(axis=(0, 1))
    rest = truth - read_in @ np.linalg.lstsq(read_in, truth, rcond=None)[0]
    assert (rest**2).sum() < 0.1 * (truth**2).sum()
    assert np.abs(found.matrix[9, :2]).max() < 0.1 * np.abs(found.matrix[:9, :2]).max()
    # what it reads in is about as large as what the others read in
    others = align(sessions, 3)
    size = predicted(sessions[0], others[0], range(6))
    assert 0.5 < np.sqrt((read_in**2).sum(axis=1).mean() / (size**2).sum(axis=2).mean()) < 2


def test_no_session_with_conditions_at_all() -> None:
    sessions, _ = low_rank(noise=1.0)
    bare = [unlabelled(s) for s in sessions]
    for a in align(bare, 4, without_conditions="pca"):
        assert a.matrix is not None
        np.testing.assert_allclose(a.matrix.T @ a.matrix, np.eye(4), atol=1e-9)
    assert [a.matrix for a in align(bare, 4, without_conditions="random")] == [None] * 3


def test_names_of_conditions_fit_together_whatever_file_they_come_from() -> None:
    sessions, _ = low_rank(noise=1.0)
    expected = align(sessions, 3)
    as_other = [
        sessions[0].train_condition,
        sessions[1].train_condition.astype(float),  # type: ignore[union-attr]
        np.array([f" {c} " for c in sessions[2].train_condition]),  # type: ignore[union-attr]
    ]
    mixed = [replace(s, train_condition=c) for s, c in zip(sessions, as_other, strict=True)]
    for one, two in zip(expected, align(mixed, 3), strict=True):
        np.testing.assert_array_equal(one.matrix, two.matrix)


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


def test_quality_of_ridge_is_judged_by_conditions_that_chose_no_penalty() -> None:
    """Against a plain loop: outer folds predict, inner folds within the rest choose the penalty."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((60, 12))
    z = x[:, :2] + 2.0 * rng.standard_normal((60, 2))
    expected = np.empty_like(z)
    for outer in range(6):
        rest = np.arange(60) // 10 != outer
        inner = np.repeat(np.arange(5), 10)
        expected[~rest] = x[~rest] @ ridge(x[rest], z[rest], inner, centred=False)
    np.testing.assert_allclose(left_out_predictions(x, z, 6, ridge_about_origin), expected, atol=1e-12)
    one = left_out_predictions(x, z, 1, ridge_about_origin)  # stretches of bins, where there is one condition
    rest = np.arange(60) >= 6
    weights = ridge(x[rest], z[rest], condition_folds(1, 54), centred=False)
    np.testing.assert_allclose(one[:6], x[:6] @ weights, atol=1e-12)


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
    assert all(a.other_data for a in align(spoiled, 3, data=data))
    with pytest.raises(DataError, match=r"(?s)7 neurons.*s0"):
        align(spoiled, 3, data=[data[0].isel(neuron=slice(7)), *data[1:]])
    named = [f"unit{i}" for i in range(8)]
    renamed = replace(spoiled[0], neuron_names=np.array(named))
    swapped = data[0].assign_coords(neuron_name=("neuron", [*named[:6], "unit7", "unit6"]))
    with pytest.raises(DataError, match=r"(?s)'unit6' of the session is 'unit7' in the data.*and 1 more.*s0"):
        align([renamed, *spoiled[1:]], 3, data=[swapped, *data[1:]])


def test_windows_that_start_at_other_times_are_told() -> None:
    sessions, _ = low_rank()
    later = replace(sessions[1], time_ms=sessions[1].time_ms + 200)
    found = align([sessions[0], later, sessions[2]], 3)
    assert [bool(a.note) for a in found] == [False, True, False]
    assert "starts at 200 ms, that of 's0' at 0 ms" in found[1].note
    for one, two in zip(found, align(sessions, 3), strict=True):
        np.testing.assert_array_equal(one.matrix, two.matrix)


def test_other_data_may_be_another_window_if_all_have_it() -> None:
    """Its length is its own; it is refused where sessions differ in it, and where its bins do not fit."""
    sessions, _ = low_rank(noise=1.0)

    def window(s: SessionInputs, stop: int, bin_ms: float) -> xr.Dataset:
        return xr.Dataset(
            {"spikes": (("trial", "time", "neuron"), s.train_data[:, :stop])},
            coords={"time": -500 + bin_ms * np.arange(stop), "condition": ("trial", s.train_condition)},
            attrs={"bin_ms": bin_ms},
        )

    short = [replace(s, train_data=s.train_data[:, :12]) for s in sessions]
    found = align(sessions, 3, data=[window(s, 12, 10.0) for s in sessions])
    for one, two in zip(found, align(short, 3), strict=True):
        np.testing.assert_allclose(one.matrix, two.matrix, atol=1e-9)
        assert one.reconstruction is not None
        np.testing.assert_array_equal(one.reconstruction.time_ms, -500 + 10.0 * np.arange(12))
    with pytest.raises(
        DataError, match=r"(?s)data for alignment.*s0 has 12 bins, s1 has 20 bins.*all of them or"
    ):
        align(sessions, 3, data=[window(sessions[0], 12, 10.0), None, None])
    with pytest.raises(DataError, match=r"(?s)4 ms cannot be combined to bins of 10 ms.*alignment data"):
        align(sessions, 3, data=[window(s, 20, 4.0) for s in sessions])


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
    for choice in ("conditions", "weights", "without_conditions"):
        with pytest.raises(UsageError, match=f"unknown alignment {choice} 'sharde'"):
            align(sessions, 3, **{choice: "sharde"})  # type: ignore[arg-type]
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
