"""Behaviour and other further variables go with a run, and labels of trials into its results."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from lfadsrm_hpc.data import form, readers
from lfadsrm_hpc.data.chopping import chop
from lfadsrm_hpc.data.extra import CARRIED_TO_RESULTS, collect, digest, left_out, name_of, storage_key
from lfadsrm_hpc.data.inputs import (
    make_inputs,
    new_inputs,
    read_extra_fingerprint,
    read_inputs,
    validate,
    write_inputs,
)
from lfadsrm_hpc.data.merging import merge_windows
from lfadsrm_hpc.errors import DataError
from lfadsrm_hpc.results.posterior_means.format import TRIAL_LABELS
from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means
from lfadsrm_hpc.results.posterior_means.sampled import Trials, write_means

SPLIT: dict[str, Any] = {"train_to_test_ratio": 4, "split": "stratified", "seed": 1}
E, T, D = 20, 8, 3


def session() -> xr.Dataset:
    rng = np.random.default_rng(0)
    ds = readers.from_arrays(rng.poisson(1.0, (E, T, D)), bin_ms=5, name="day1")
    hand = rng.random((E, T, 2))
    hand[3, 1, 0] = np.nan
    return ds.assign(
        hand=(("trial", "time", "axis"), hand, {"units": "mm", "odd": [1]}),
        target=(("trial", "corner"), rng.random((E, 4))),
        speed=(("time", "trial"), rng.random((T, E)).astype(np.float32)),
        rt=("trial", np.arange(E)),
        hit=("trial", np.arange(E) % 2 == 0),
        note=("trial", [f"trial é {k}" for k in range(E)]),
        when=("trial", np.datetime64("2020-01-01") + np.arange(E).astype("m8[D]")),
        trial_id=("trial", 100 + np.arange(E)),
        readin=(("neuron", "factor"), np.ones((D, 2))),
        lfp=(("trial", "time", "channel", "band"), np.ones((E, T, 2, 2))),
        things=("trial", np.array([{}] * E, dtype=object)),
        **{"a/b.c%": ("trial", np.ones(E))},
    ).assign_coords(axis=["x", "y"])


def test_further_variables_are_split_and_averaged_as_the_counts(tmp_path: Path) -> None:
    ds = session()
    made = make_inputs(ds, name="day1", bin_ms=10, fingerprint="f", **SPLIT)
    assert set(made.extra) == {
        *("hand", "target", "speed", "rt", "hit", "note", "when", "trial_id", "a/b.c%"),
    }
    write_inputs(tmp_path / "a.h5", made)
    for inputs in (made, read_inputs(tmp_path / "a.h5")):
        assert inputs.extra["hand"].dims == ("trial", "time", "axis")
        assert inputs.extra["speed"].dims == ("trial", "time")
        for part, inds in (("train", inputs.train_inds), ("valid", inputs.valid_inds)):
            wide = ds.hand.values.reshape(E, T // 2, 2, 2).mean(axis=2)[inds]
            np.testing.assert_allclose(getattr(inputs.extra["hand"], part), wide)
            np.testing.assert_array_equal(getattr(inputs.extra["rt"], part), inds)
            np.testing.assert_array_equal(getattr(inputs.extra["note"], part), ds.note.values[inds])
            np.testing.assert_array_equal(getattr(inputs.extra["target"], part), ds.target.values[inds])
            speed = ds.speed.values.T.reshape(E, T // 2, 2).mean(axis=2)[inds]
            np.testing.assert_allclose(getattr(inputs.extra["speed"], part), speed, rtol=1e-6)
        assert inputs.extra["when"].train[0].startswith("2020-01-")
        assert inputs.extra_attrs["hand"] == {"units": "mm", "labels": ["x", "y"]}
        assert inputs.extra["hit"].train.dtype == bool
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file["extra/hand"]) == {"train", "valid"}


def test_what_cannot_be_kept_is_named() -> None:
    assert left_out(session()) == ["lfp", "things"]


def test_new_trials_have_them_too(tmp_path: Path) -> None:
    made = new_inputs(session(), name="day1", bin_ms=5)
    np.testing.assert_array_equal(made.extra["rt"].train, np.arange(E))
    write_inputs(tmp_path / "a.h5", replace(made, valid_data=made.valid_data))
    back = read_inputs(tmp_path / "a.h5")
    assert back.extra["hand"].valid.shape == (0, T, 2)


def test_they_have_a_fingerprint_of_their_own(tmp_path: Path) -> None:
    ds = session()
    assert form.fingerprint(ds) == form.fingerprint(ds.drop_vars(["hand", "rt", "note"]))
    prints = set()
    changed = [
        ds,
        ds.drop_vars("hand"),
        ds.assign(hand=ds.hand * 2),
        ds.assign(hand=ds.hand.assign_attrs(units="m")),
        ds.assign(note=("trial", ["x"] * E)),
        ds.rename(rt="reaction"),
    ]
    for k, each in enumerate(changed):
        made = make_inputs(each, name="day1", bin_ms=5, **SPLIT)
        write_inputs(tmp_path / f"{k}.h5", made)
        found = read_extra_fingerprint(tmp_path / f"{k}.h5")
        assert found == digest(made.extra, made.extra_attrs)
        prints.add(found)
    assert len(prints) == len(changed)
    bare = readers.from_arrays(np.ones((E, T, D)), bin_ms=5)
    assert collect(bare) == ({}, {})
    assert digest({}, {}) == ""


def test_groups_of_a_split_enter_the_fingerprint() -> None:
    ds = session()
    grouped = ds.assign(split_group=("trial", np.arange(E) // 4))
    other = ds.assign(split_group=("trial", np.arange(E) // 5))
    assert len({form.fingerprint(each) for each in (ds, grouped, other)}) == 3


def test_a_damaged_file(tmp_path: Path) -> None:
    write_inputs(tmp_path / "a.h5", make_inputs(session(), name="day1", bin_ms=5, **SPLIT))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["extra/hand/valid"]
    with pytest.raises(DataError, match=r"extra/hand lacks a part[\s\S]*a\.h5"):
        read_inputs(tmp_path / "a.h5")


@pytest.mark.parametrize("name", ["a", ".", "a/b", "100%", "%2F", "a%2Fb/c", "é ü"])
def test_any_name_can_be_stored(name: str) -> None:
    assert name_of(storage_key(name)) == name
    assert "/" not in storage_key(name)


def test_the_split_that_the_data_say() -> None:
    kinds = np.array(["valid" if k % 7 == 0 else "train" for k in range(E)])
    given = {**SPLIT, "split": "given"}
    made = make_inputs(session().assign(given_split=("trial", kinds)), name="day1", bin_ms=5, **given)
    assert made.valid_inds.tolist() == [0, 7, 14]
    assert made.attributes["split"] == "given"
    for wrong, message in (
        (None, "does not say which trials validate"),
        (["train"] * E, "given_split is 'train' for every trial"),
        (["train", "test"] * (E // 2), "given_split holds 'test'"),
    ):
        ds = session() if wrong is None else session().assign(given_split=("trial", wrong))
        with pytest.raises(DataError, match=rf"{message}[\s\S]*day1"):
            make_inputs(ds, name="day1", bin_ms=5, **given)


def test_windows_off_the_bins_are_warned_of_before_training() -> None:
    rng = np.random.default_rng(0)
    whole = readers.from_arrays(rng.poisson(1.0, (1, 400, D)), bin_ms=5, name="long")
    use: dict[str, Any] = {"output_dist": "gaussian", "batch_size": 2, "ext_input_dim": 0}
    for overlap, warned in ((40, False), (30, False), (25, True)):
        made = make_inputs(chop(whole, 100, overlap), name="long", bin_ms=10, **SPLIT)
        found = validate(made, **use)
        assert bool(found) == warned
    assert "windows of recording 0 do not start on bins of 10 ms" in found[0]


# ---- into the results


@dataclass
class Block:
    start: int
    stop: int
    arrays: dict[str, Any]


class Copying:
    """A sampler whose factors are the counts."""

    with_std = False

    @property
    def sizes(self) -> dict[str, int]:
        return {"factor": D, "generator_unit": 1, "controller_output": 0, "ic": 1}

    def blocks(self, data: Any, ext: Any, *, trial_ids: Any) -> Any:
        one = {"trial": 7, "time": data.shape[1]}
        for start in range(0, len(data), one["trial"]):
            counts = data[start : start + one["trial"]].astype(np.float32)
            n = len(counts)
            arrays = {"rates": counts * 0.01, "factors": counts}
            arrays["generator_states"] = np.zeros((n, data.shape[1], 1), np.float32)
            names = ("generator_ics", "post_g0_mean", "post_g0_logvar", "prior_g0_mean", "prior_g0_logvar")
            arrays |= {name: np.zeros((n, 1), np.float32) for name in names}
            arrays |= {name: np.zeros(n, np.float32) for name in ("costs", "nll_bound_vae", "nll_bound_iwae")}
            yield Block(start, start + n, arrays)


def sampled(inputs: Any, path: Path) -> xr.Dataset:
    write_means(path, Copying(), Trials.of(inputs), output_dist="poisson", attributes={})
    return open_posterior_means(path)


def test_labels_reach_the_posterior_means(tmp_path: Path) -> None:
    ds = session().assign(window_start=("trial", 2.5 * np.arange(E)), recording=("trial", ["r"] * E))
    with sampled(make_inputs(ds, name="day1", bin_ms=5, **SPLIT), tmp_path / "a.nc") as pm:
        np.testing.assert_array_equal(pm.trial_id, ds.trial_id)
        np.testing.assert_array_equal(pm.window_start, ds.window_start)
        assert pm.window_start.attrs["units"] == "ms"
        assert pm.recording.values.tolist() == ["r"] * E
        assert {"trial_id", "window_start", "recording", "split"} <= set(pm.coords)
    assert set(CARRIED_TO_RESULTS) <= set(TRIAL_LABELS)
    with sampled(
        make_inputs(session().drop_vars("trial_id"), name="a", bin_ms=5, **SPLIT), tmp_path / "b.nc"
    ) as pm:
        assert not set(CARRIED_TO_RESULTS) & set(pm.variables)


def test_windows_merge_from_posterior_means_alone(tmp_path: Path) -> None:
    """Several recordings, a gap, wider bins, trials stored by train and valid: all comes back."""
    rng = np.random.default_rng(0)
    wholes = {}
    for name, n_bins in (("morning", 400), ("evening", 257)):
        counts = rng.poisson(1.0, (1, n_bins, D))
        one = readers.from_arrays(counts, bin_ms=5, start_ms=1000)
        wholes[name] = one.assign_coords(recording=("trial", [name]))
    parts = chop(list(wholes.values()), 100, 40, name="long")
    assert parts.attrs["notes"] == ["the last 5 ms of recording evening are left out"]
    made = make_inputs(parts, name="long", bin_ms=10, **SPLIT)
    with sampled(made, tmp_path / "long.nc") as pm:
        merged = merge_windows(pm)
        lost = merge_windows(pm.isel(trial=[0, 1, 8, 9]), ["factors"])["morning"]
    for name, whole in wholes.items():
        bins = whole.sizes["time"] // 4 * 4  # windows start at multiples of 20 ms
        counts = whole.spikes.values[0, :bins].reshape(-1, 2, D).sum(axis=1)
        np.testing.assert_array_equal(merged[name].factors, counts)
        np.testing.assert_allclose(merged[name].rates, counts * 0.01 * 100, rtol=1e-6)
        assert merged[name].time.values.tolist() == [1000 + 10 * k for k in range(len(counts))]
        assert merged[name].rates.dims == ("time", "neuron")
        assert merged[name].rates.attrs["units"] == "spikes/s"
        assert set(merged[name].split.values) == {"train", "valid"}
    assert bool(np.isnan(lost.factors).any())
    assert lost.split.values.tolist().count("") == int(np.isnan(lost.factors.values[:, 0]).sum())
