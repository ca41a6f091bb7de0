"""Recordings cut into windows, and merged back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.data import readers
from lfadsrm_hpc.data.binning import rebin
from lfadsrm_hpc.data.chopping import chop, windows
from lfadsrm_hpc.data.inputs import make_inputs
from lfadsrm_hpc.data.merging import blending_weights, merge_windows
from lfadsrm_hpc.data.splitting import split
from lfadsrm_hpc.errors import DataError, UsageError

SPLIT: dict[str, Any] = {"train_to_test_ratio": 4, "split": "stratified", "seed": 1}


def recording(n_bins: int = 103, n_neurons: int = 3, *, bin_ms: float = 10.0, seed: int = 0) -> xr.Dataset:
    """Return one long trial with everything that a session can have."""
    rng = np.random.default_rng(seed)
    ds = readers.from_arrays(
        rng.poisson(1.0, (1, n_bins, n_neurons)),
        bin_ms=bin_ms,
        start_ms=500,
        truth=rng.random((1, n_bins, n_neurons)),
        external_input=rng.random((1, n_bins, 2)),
        condition=["awake"],
        name="long",
    )
    hand = (("trial", "time", "axis"), rng.random((1, n_bins, 2)), {"units": "m"})
    return ds.assign(hand=hand, weight=("trial", [2.5])).assign_coords(axis=["x", "y"])


sizes = st.tuples(st.integers(1, 400), st.integers(1, 40), st.integers(0, 39), st.integers(1, 6)).filter(
    lambda s: s[2] < s[1] <= s[0]
)


@settings(deadline=None, max_examples=300)
@given(sizes)
def test_windows_cover_a_recording_and_share_bins_only_within_their_block(size: tuple[int, ...]) -> None:
    n_bins, length, overlap, per_block = size
    for blocks, grid in ((per_block, 1), (None, 1), (per_block, math.gcd(length, overlap))):
        found = windows(n_bins, length, overlap, blocks, grid)
        end = found[-1].first + length
        assert found[0].first == 0
        assert 0 <= n_bins - end < grid
        assert not any(w.first % grid for w in found)
        assert [w.block for w in found] == sorted(w.block for w in found)
        owner = np.full(n_bins, -1)
        for window in found:
            bins = owner[window.first : window.first + length]
            assert set(bins.tolist()) <= {-1, window.block}, "two blocks share bins"
            bins[:] = window.block
        assert (owner[:end] >= 0).all(), "bins are lost"
        firsts = [w.first for w in found]
        assert firsts == sorted(set(firsts))


@settings(deadline=None, max_examples=200)
@given(sizes, st.randoms(use_true_random=False))
def test_weights_sum_to_one_and_are_even_ramps(size: tuple[int, ...], random: Any) -> None:
    n_bins, length, overlap, per_block = size
    firsts = np.array([w.first for w in windows(n_bins, length, overlap, per_block)])
    kept = np.array(
        sorted(random.sample(firsts.tolist(), random.randint(1, len(firsts))))
    )  # some are dropped
    weights = blending_weights(kept, length)
    total = np.zeros(n_bins + 1)
    for first, weight in zip(kept, weights, strict=True):
        total[first : first + length] += weight
    covered = total > 0
    np.testing.assert_allclose(total[covered], 1.0, rtol=1e-12)
    assert (weights > 0).all()
    assert weights[0, 0] == weights[-1, -1] == 1.0, "no ramp at the ends"


def test_ramps() -> None:
    weights = blending_weights(np.array([0, 6, 20]), 10)
    np.testing.assert_allclose(weights[0], [1] * 6 + [0.8, 0.6, 0.4, 0.2])
    np.testing.assert_allclose(weights[1], [0.2, 0.4, 0.6, 0.8] + [1] * 6)
    np.testing.assert_array_equal(weights[2], np.ones(10))  # behind a gap


@settings(deadline=None, max_examples=25)
@given(sizes.filter(lambda s: s[0] < 200))
def test_merging_gives_the_recording_back_to_the_last_bit(size: tuple[int, ...]) -> None:
    n_bins, length, overlap, per_block = size
    whole = recording(n_bins)
    parts = chop(whole, 10.0 * length, 10.0 * overlap, per_block=per_block, grid_ms=10)
    merged = merge_windows(parts)["0"]
    for name in ("spikes", "truth", "external_input", "hand"):
        np.testing.assert_array_equal(merged[name].values, whole[name].values[0], err_msg=name)
        assert merged[name].dtype == whole[name].dtype
    np.testing.assert_array_equal(merged.time, whole.time)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [1 / 3, 1e-30, 7e9])
def test_constants_stay(dtype: type, value: float) -> None:
    parts = chop(recording(400), 300, 200)  # three windows and more in a bin
    rates = np.full(parts.spikes.shape, value, dtype=dtype)
    merged = merge_windows(parts.assign(rates=(("trial", "time", "neuron"), rates)), ["rates"])["0"]
    assert merged.rates.dtype == dtype
    assert (merged.rates.values == dtype(value)).all()


def test_windows_that_disagree_are_blended() -> None:
    parts = chop(recording(16), 100, 40, per_block=2)
    assert parts.window_start.values.tolist() == [500, 560]
    values = np.stack([np.full((10, 3), 0.0), np.full((10, 3), 1.0)])
    merged = merge_windows(parts.assign(rates=(("trial", "time", "neuron"), values)), ["rates"])["0"]
    np.testing.assert_allclose(merged.rates[:, 0], [0] * 6 + [0.2, 0.4, 0.6, 0.8] + [1] * 6)


def test_everything_goes_along() -> None:
    whole = recording(103)
    parts = chop(whole, 200, 50, grid_ms=10)
    assert parts.attrs["bin_ms"] == 10
    assert parts.time.values.tolist() == [10.0 * k for k in range(20)]
    for k, start in enumerate(parts.window_start.values):
        first = round((start - 500) / 10)
        for name in ("spikes", "truth", "external_input", "hand"):
            np.testing.assert_array_equal(parts[name][k], whole[name][0, first : first + 20])
    assert parts.condition.values.tolist() == ["awake"] * parts.sizes["trial"]
    assert parts.weight.values.tolist() == [2.5] * parts.sizes["trial"]
    assert parts.hand.attrs["units"] == "m"
    assert parts.axis.values.tolist() == ["x", "y"]
    assert set(parts.recording.values) == {"0"}
    assert parts.window_start.values[-1] == 500 + 1030 - 200, "the last window ends where the recording does"
    assert "notes" not in parts.attrs
    safe = chop(whole, 200, 50)
    assert safe.attrs["notes"] == ["the last 30 ms of recording 0 are left out"]
    assert safe.window_start.values[-1] == 500 + 800


def test_several_recordings_with_gaps_and_dropped_windows() -> None:
    one, other = recording(60), recording(45, seed=1)
    short = recording(7, seed=2).assign_coords(recording=("trial", ["tiny"]))
    named = [ds.assign_coords(recording=("trial", [n])) for ds, n in ((one, "morning"), (other, "evening"))]
    parts = chop([*named, short], 100, 30, per_block=3, grid_ms=10)
    assert parts.attrs["notes"] == ["recording tiny is left out: it is shorter than a window of 100 ms"]
    assert len(set(parts.split_group.values[parts.recording.values == "evening"])) >= 1
    assert not set(parts.split_group.values[parts.recording.values == "evening"]) & set(
        parts.split_group.values[parts.recording.values == "morning"]
    )
    merged = merge_windows(parts)
    assert list(merged) == ["morning", "evening"]
    np.testing.assert_array_equal(merged["evening"].spikes, other.spikes[0])
    shuffled = parts.isel(trial=np.random.default_rng(0).permutation(parts.sizes["trial"]))
    np.testing.assert_array_equal(merge_windows(shuffled)["morning"].spikes, one.spikes[0])
    starts = parts.window_start.values
    gone = (parts.recording.values == "morning") & (starts >= 700) & (starts <= 800)
    merged = merge_windows(parts.isel(trial=~gone))
    there = ~np.isnan(merged["morning"].truth.values[:, 0])
    assert 0 < there.sum() < 60
    np.testing.assert_array_equal(merged["morning"].truth.values[there], one.truth.values[0][there])
    assert merged["morning"].sizes["time"] == 60


def test_trials_of_a_session_are_recordings_too() -> None:
    rng = np.random.default_rng(0)
    ds = readers.from_arrays(rng.poisson(1.0, (4, 25, 2)), bin_ms=10, condition=[1, 2, 1, 2])
    parts = chop(ds, 100, 20)
    assert parts.sizes["trial"] == 4 * 3
    assert parts.condition.values.tolist() == [1] * 3 + [2] * 3 + [1] * 3 + [2] * 3
    np.testing.assert_array_equal(merge_windows(parts)["2"].spikes, ds.spikes[2][:24])


@pytest.mark.parametrize("kind", ["stratified", "random", "periodic"])
@pytest.mark.parametrize("seed", range(5))
def test_no_bin_is_on_both_sides_of_the_split(kind: str, seed: int) -> None:
    whole = recording(2000, 1)
    whole["spikes"] = (("trial", "time", "neuron"), np.arange(2000).reshape(1, 2000, 1))  # which bin it is
    parts = chop(whole, 200, 100)
    made = make_inputs(parts, name="long", bin_ms=10, **{**SPLIT, "split": kind, "seed": seed})
    train, valid = set(made.train_data.ravel().tolist()), set(made.valid_data.ravel().tolist())
    assert not train & valid
    assert train | valid == set(range(2000))
    assert 0.1 < len(valid) / 2000 < 0.35
    # without the groups the same windows would leak
    leaking = make_inputs(parts.drop_vars("split_group"), name="long", bin_ms=10, **SPLIT)
    assert set(leaking.train_data.ravel().tolist()) & set(leaking.valid_data.ravel().tolist())


def test_groups_are_split_whole() -> None:
    groups = np.repeat(["b", "a", "c", "d", "e", "f"], [3, 1, 2, 5, 1, 4])
    condition = np.where(np.isin(groups, ["a", "b", "c"]), "x", "y")
    for kind in ("stratified", "random", "periodic"):
        train, valid = split(16, train_to_test_ratio=2, seed=3, groups=groups, condition=condition, kind=kind)
        assert not set(groups[train]) & set(groups[valid])
        assert len(set(groups[valid])) == 2
        assert sorted([*train, *valid]) == list(range(16))
        if kind == "stratified":
            assert set(condition[valid]) == {"x", "y"}
        if kind == "periodic":
            assert set(groups[valid]) == {"b", "d"}, "groups count in the order of their trials"
    with pytest.raises(DataError, match="one group"):
        split(4, train_to_test_ratio=2, seed=0, groups=["a"] * 4)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((None, 0), UsageError, "give chop_ms"),
        ((105, 0), UsageError, "a window of 105 ms is not a whole number of bins of 10 ms"),
        ((100, 5), UsageError, "an overlap of 5 ms"),
        ((100, 100), UsageError, "cannot share 100 ms"),
        ((100, -10), UsageError, "cannot share"),
        ((0, 0), UsageError, "cannot share"),
        ((2000, 0), DataError, "the longest has 1030 ms"),
        ((float("nan"), 0), UsageError, "not a whole number"),
        ((100, 20, 30), UsageError, "not a multiple of the grid of 30 ms"),
    ],
)
def test_windows_that_cannot_be(args: tuple[Any, ...], error: type[Exception], message: str) -> None:
    window, overlap, *grid = args
    with pytest.raises(error, match=message):
        chop(recording(103), window, overlap, grid_ms=grid[0] if grid else None)


def test_recordings_that_do_not_go_together() -> None:
    for other in (recording(50, 4), recording(50, bin_ms=20), recording(50).drop_vars("truth")):
        with pytest.raises(DataError, match="unequal neurons, bins or variables"):
            chop([recording(50), other], 100)
    twice = [recording(50).assign_coords(recording=("trial", ["a"]))] * 2
    with pytest.raises(DataError, match="two recordings have the name 'a'"):
        chop(twice, 100)


def test_what_cannot_be_merged() -> None:
    parts = chop(recording(100), 100, 30)
    with pytest.raises(DataError, match="there is no 'window_start'"):
        merge_windows(recording(100))
    with pytest.raises(UsageError, match=r"'rates' cannot be merged[\s\S]*there is: spikes"):
        merge_windows(parts, ["rates"])
    off = parts.assign_coords(
        window_start=("trial", parts.window_start.values + 3.0 * (parts.trial.values > 0))
    )
    with pytest.raises(DataError, match="do not start on bins of 10 ms"):
        merge_windows(off)
    twice = parts.isel(trial=[0, 0])
    with pytest.raises(DataError, match="two start at one time"):
        merge_windows(twice)


def test_wider_bins_of_the_model() -> None:
    """Windows are binned one by one; they merge on the wider bins where these go into window and overlap."""
    whole = recording(100)
    wide = rebin(chop(whole, 200, 60), 20)
    merged = merge_windows(wide)["0"]
    np.testing.assert_array_equal(merged.spikes, rebin(whole, 20).spikes[0])
    assert merged.time.values.tolist() == [500 + 20 * k for k in range(50)]
    odd = rebin(chop(whole, 200, 50), 20)
    with pytest.raises(DataError, match="do not start on bins of 20 ms"):
        merge_windows(odd)


def test_files_are_chopped_when_they_are_read(tmp_path: Any) -> None:
    whole = recording(103)
    path = readers.save_dataset(whole, tmp_path / "long.nc")
    options: dict[str, Any] = {"chop_ms": 200, "overlap_ms": 50, "chop_grid_ms": 10}
    parts = readers.read(path, **options)
    xr.testing.assert_equal(parts, chop(whole, 200, 50, grid_ms=10))
    assert parts.attrs["name"] == "long"
    assert readers.read_info(path, **options)["n_trials"] == parts.sizes["trial"]
    again = readers.read(readers.save_dataset(parts, tmp_path / "parts.nc"))
    np.testing.assert_array_equal(merge_windows(again)["0"].spikes, whole.spikes[0])
