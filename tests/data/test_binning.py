"""Rebinning and the split."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.data.binning import rebin
from lfadsrm_hpc.data.readers import from_arrays
from lfadsrm_hpc.data.splitting import split
from lfadsrm_hpc.errors import DataError, UsageError


def session(n_bins: int = 12, bin_ms: float = 5.0, **others: Any) -> xr.Dataset:
    rng = np.random.default_rng(0)
    shape = (4, n_bins, 3)
    return from_arrays(
        rng.poisson(1.0, shape),
        bin_ms=bin_ms,
        name="day1",
        truth=rng.random(shape),
        external_input=rng.random((4, n_bins, 2)),
        time=-20 + bin_ms * np.arange(n_bins),
        condition=["a", "b", "a", "b"],
        **others,
    )


def test_rebin_sums_spikes_and_averages_the_rest() -> None:
    ds = session()
    out = rebin(ds, 15)
    for new in range(4):
        old = slice(3 * new, 3 * new + 3)
        np.testing.assert_array_equal(out.spikes[:, new], ds.spikes[:, old].sum("time"))
        np.testing.assert_allclose(out.truth[:, new], ds.truth[:, old].mean("time"))
        np.testing.assert_allclose(out.external_input[:, new], ds.external_input[:, old].mean("time"))
    assert out.spikes.dtype == np.int64
    assert out.attrs["bin_ms"] == 15.0
    assert ds.attrs["bin_ms"] == 5.0, "the given dataset was changed"
    np.testing.assert_array_equal(out.time, [-20, -5, 10, 25])
    np.testing.assert_array_equal(out.condition, ds.condition)


def test_rebin_to_the_same_width_changes_nothing() -> None:
    ds = session()
    xr.testing.assert_identical(rebin(ds, 5), ds)


def test_rebin_carries_other_variables_along() -> None:
    ds = session()
    ds = ds.assign(lowd=(("trial", "time", "latent"), np.arange(4 * 12 * 1.0).reshape(4, 12, 1)))
    ds = ds.assign(reaction_ms=("trial", np.arange(4.0)), phase=("time", list("aabbccddeeff")))
    ds = ds.assign_coords(epoch=("time", np.arange(12)))
    out = rebin(ds, 10)
    np.testing.assert_array_equal(out.lowd[0, :, 0], [0.5, 2.5, 4.5, 6.5, 8.5, 10.5])
    np.testing.assert_array_equal(out.reaction_ms, ds.reaction_ms)
    assert "".join(out.phase.values) == "abcdef"
    np.testing.assert_array_equal(out.epoch, [0, 2, 4, 6, 8, 10])


@pytest.mark.parametrize("width", [7, 2.5, 5.1, 0, -5, float("nan")])
def test_rebin_refuses_a_ratio_that_does_not_divide(width: float) -> None:
    with pytest.raises(DataError, match=r"cannot be combined[\s\S]*day1[\s\S]*5, 10, 15, 20, 30, 60 ms"):
        rebin(session(), width)


def test_rebin_refuses_leftover_bins_unless_told_to_drop_them() -> None:
    ds = session()
    with pytest.raises(DataError, match=r"2 left over[\s\S]*5, 10, 15, 20, 30, 60 ms"):
        rebin(ds, 25)
    out = rebin(ds, 25, truncate=True)
    assert dict(out.sizes)["time"] == 2
    np.testing.assert_array_equal(out.spikes.sum("time"), ds.spikes[:, :10].sum("time"))
    with pytest.raises(DataError, match="12 bins"):
        rebin(ds, 100, truncate=True)


def test_rebin_with_a_width_that_is_no_exact_binary_fraction() -> None:
    ds = session(n_bins=12, bin_ms=0.1)
    assert rebin(ds, 0.3).sizes["time"] == 4


def test_rebin_needs_to_know_the_present_width() -> None:
    ds = session()
    del ds.attrs["bin_ms"]
    with pytest.raises(DataError, match="bin_ms"):
        rebin(ds, 10)


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_rebin_loses_no_spike(factor: int, n_new: int, seed: int) -> None:
    counts = np.random.default_rng(seed).poisson(0.5, (2, factor * n_new, 2))
    ds = from_arrays(counts, bin_ms=1)
    assert int(rebin(ds, factor).spikes.sum()) == counts.sum()


CONDITIONS = st.lists(st.sampled_from(["a", "b", "c", "d", ""]), min_size=2, max_size=80)


@given(CONDITIONS, st.integers(1, 9), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_split_is_a_stratified_partition(condition: list[str], ratio: int, seed: int) -> None:
    n = len(condition)
    train, valid = split(n, train_to_test_ratio=ratio, seed=seed, condition=condition)
    assert sorted([*train.tolist(), *valid.tolist()]) == list(range(n))
    assert (np.diff(train) > 0).all()
    assert (np.diff(valid) > 0).all()
    m = len(valid)
    assert m == min(max(round(n / (ratio + 1)), 1), n - 1)
    assert len(train) >= 1
    chosen = Counter(condition[i] for i in valid)
    for name, n_c in Counter(condition).items():
        assert abs(chosen[name] - n_c * m / n) < 1


@given(st.integers(2, 12), st.integers(1, 20), st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_every_condition_gives_its_share(n_conditions: int, groups: int, ratio: int, seed: int) -> None:
    """With a multiple of ratio + 1 trials in each, every condition gives exactly 1 / (ratio + 1) of them."""
    condition = np.tile(
        np.arange(n_conditions), groups * (ratio + 1)
    )  # in cycles: the periodic split aliases
    _, valid = split(len(condition), train_to_test_ratio=ratio, seed=seed, condition=condition)
    assert np.bincount(condition[valid], minlength=n_conditions).tolist() == [groups] * n_conditions


@given(st.permutations(list(range(30))), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_shares_do_not_depend_on_the_order_of_trials(order: list[int], seed: int) -> None:
    condition = np.repeat([0, 1, 2], [5, 10, 15])[order]
    _, valid = split(30, train_to_test_ratio=4, seed=seed, condition=condition)
    assert np.bincount(condition[valid]).tolist() == [1, 2, 3]


@pytest.mark.parametrize("kind", ["stratified", "random"])
def test_every_trial_has_the_same_chance(kind: str) -> None:
    condition = [0] * 1 + [1] * 3 + [2] * 9  # unequal groups, none a multiple of the ratio
    hits = np.zeros(13)
    for seed in range(2000):
        hits[split(13, train_to_test_ratio=4, seed=seed, condition=condition, kind=kind)[1]] += 1
    expected = 2000 * 3 / 13
    assert np.abs(hits - expected).max() < 5 * np.sqrt(expected)


def test_split_is_seeded_and_stays_the_same_for_ever() -> None:
    condition = ["x", "y"] * 10
    first = split(20, train_to_test_ratio=4, seed=3, condition=condition)
    again = split(20, train_to_test_ratio=4, seed=3, condition=np.array(condition))
    np.testing.assert_array_equal(first[1], again[1])
    others = {tuple(split(20, train_to_test_ratio=4, seed=s, condition=condition)[1]) for s in range(10)}
    assert len(others) > 5
    # A stored answer: splits must not move with a release of this package or of numpy.
    assert first[1].tolist() == [1, 8, 13, 16]


def test_split_without_conditions() -> None:
    random = split(50, train_to_test_ratio=4, seed=1, condition=["a"] * 50, kind="random")[1]
    plain = split(50, train_to_test_ratio=4, seed=1)[1]
    assert len(random) == len(plain) == 10
    np.testing.assert_array_equal(random, plain)
    assert not np.array_equal(plain, np.arange(0, 50, 5))


def test_missing_conditions_are_a_group() -> None:
    for missing in (np.nan, None):
        condition = np.array([1.0] * 10 + [missing] * 10, dtype=object if missing is None else float)
        _, valid = split(20, train_to_test_ratio=4, seed=0, condition=condition)
        assert (valid < 10).sum() == 2
        assert (valid >= 10).sum() == 2


def test_periodic_split_is_that_of_the_matlab_run_manager() -> None:
    train, valid = split(11, train_to_test_ratio=4, seed=9, kind="periodic", condition=["a"] * 11)
    assert valid.tolist() == [0, 5, 10]
    assert train.tolist() == [1, 2, 3, 4, 6, 7, 8, 9]


def test_two_trials_are_enough_and_one_is_not() -> None:
    for kind in ("stratified", "random", "periodic"):
        train, valid = split(2, train_to_test_ratio=4, seed=0, kind=kind)
        assert len(train) == len(valid) == 1
        for n in (0, 1):
            with pytest.raises(DataError, match="at least 2"):
                split(n, train_to_test_ratio=4, seed=0, kind=kind)


@pytest.mark.parametrize(
    "wrong", [{"train_to_test_ratio": 0}, {"train_to_test_ratio": 1.5}, {"seed": -1}, {"kind": "sorted"}]
)
def test_split_refuses_what_has_no_meaning(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        split(10, **({"train_to_test_ratio": 4, "seed": 0} | wrong))


def test_split_refuses_conditions_of_another_length() -> None:
    with pytest.raises(DataError, match="10 trials"):
        split(10, train_to_test_ratio=4, seed=0, condition=["a"] * 9)
