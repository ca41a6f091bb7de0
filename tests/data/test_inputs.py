from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from lfadsrm_hpc.data.coincidence import coincident_pairs
from lfadsrm_hpc.data.inputs import (
    SessionInputs,
    make_inputs,
    new_inputs,
    read_fingerprint,
    read_head,
    read_inputs,
    validate,
    write_inputs,
)
from lfadsrm_hpc.data.synthetic import chaotic_rnn_session, lorenz_sessions
from lfadsrm_hpc.errors import DataError, NotFoundError

POISSON: dict[str, Any] = {"output_dist": "poisson", "batch_size": 4, "ext_input_dim": 0}
SPLIT: dict[str, Any] = {"train_to_test_ratio": 4, "split": "stratified", "seed": 1}


@pytest.fixture(scope="module")
def session() -> xr.Dataset:
    (ds,) = lorenz_sessions(1, n_conditions=5, trials_per_condition=10, n_neurons=7, bin_ms=5.0, mean_rate=20)
    names = np.array(["a1", "b2", "c3", "d4", "e5", "f6", "gÄ"])
    ds = ds.assign_coords(neuron_name=("neuron", names))
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((50, 200, 2))
    made: xr.Dataset = ds.assign(external_input=(("trial", "time", "input"), inputs))
    return made


@pytest.fixture
def inputs(session: xr.Dataset) -> SessionInputs:
    return make_inputs(
        session.drop_vars("external_input"), name="day 1", bin_ms=10.0, fingerprint="f0", **SPLIT
    )


def set_value(inputs: SessionInputs, key: str, where: tuple[int, int, int], value: float) -> SessionInputs:
    values = getattr(inputs, key).astype(float)
    values[where] = value
    return replace(inputs, **{key: values})


def same(a: SessionInputs, b: SessionInputs) -> None:
    for each in fields(SessionInputs):
        one, two = getattr(a, each.name), getattr(b, each.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, two, err_msg=each.name)
            assert one.dtype.kind == two.dtype.kind, each.name
        elif each.name == "extra":
            assert set(one) == set(two)
            for name in one:
                assert one[name].dims == two[name].dims
                for part in (0, 1):
                    np.testing.assert_array_equal(one[name][1 + part], two[name][1 + part], err_msg=name)
        else:
            assert one == two, each.name


# ---- making


def test_trials_go_where_their_indices_say(session: xr.Dataset) -> None:
    made = make_inputs(session, name="day", bin_ms=10.0, **SPLIT)
    assert len(made.valid_inds) == 10
    np.testing.assert_array_equal(np.sort(np.r_[made.train_inds, made.valid_inds]), np.arange(50))
    spikes = session["spikes"].values.reshape(50, 100, 2, 7)
    for part in ("train", "valid"):
        inds = getattr(made, f"{part}_inds")
        np.testing.assert_array_equal(getattr(made, f"{part}_data"), spikes.sum(axis=2)[inds])
        np.testing.assert_array_equal(getattr(made, f"{part}_condition"), session["condition"].values[inds])
        ext = session["external_input"].values.reshape(50, 100, 2, 2).mean(axis=2)[inds]
        np.testing.assert_allclose(getattr(made, f"{part}_ext_input"), ext)
        truth = session["truth"].values.reshape(50, 100, 2, 7).mean(axis=2)[inds]
        np.testing.assert_allclose(getattr(made, f"{part}_truth"), truth, rtol=1e-5)
    np.testing.assert_array_equal(made.time_ms, np.arange(100) * 10.0)
    assert made.attributes["subject"] == "lorenz_example"
    assert made.attributes["split_seed"] == 1


def test_one_trial_cannot_be_split(session: xr.Dataset) -> None:
    with pytest.raises(DataError, match=r"(?s)validation.*lonely"):
        make_inputs(session.isel(trial=[0]), name="lonely", bin_ms=10.0, **SPLIT)


# ---- validating


def test_good_data_pass_without_warnings(inputs: SessionInputs) -> None:
    assert validate(inputs, **POISSON) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("output_dist", ["poisson", "gaussian"])
def test_not_finite_names_dataset_original_trial_and_neuron(
    inputs: SessionInputs, output_dist: str, value: float
) -> None:
    bad = set_value(inputs, "valid_data", (3, 5, 1), value)
    with pytest.raises(DataError) as error:
        validate(bad, **{**POISSON, "output_dist": output_dist})
    text = str(error.value)
    assert "'day 1'" in text
    assert f"trial {inputs.valid_inds[3]} (" in text
    assert "'b2'" in text
    assert "bin 5 (50 ms)" in text


def test_nan_to_the_end_is_called_unequal_length(inputs: SessionInputs) -> None:
    data = inputs.train_data.astype(float)
    data[2, 80:] = np.nan
    with pytest.raises(DataError, match=rf"(?s)bin 80 to the end.*trial {inputs.train_inds[2]} .*length"):
        validate(replace(inputs, train_data=data), **POISSON)


def test_nan_in_external_input_and_truth(session: xr.Dataset, inputs: SessionInputs) -> None:
    made = make_inputs(session, name="day", bin_ms=10.0, **SPLIT)
    bad = set_value(made, "train_ext_input", (0, 7, 1), np.nan)
    with pytest.raises(DataError, match=r"(?s)external input.*input 1, bin 7"):
        validate(bad, **{**POISSON, "ext_input_dim": 2})
    with pytest.raises(DataError, match="true rates"):
        validate(set_value(inputs, "train_truth", (0, 7, 1), np.nan), **POISSON)


@pytest.mark.parametrize(("value", "word"), [(-1.0, "negative"), (0.5, "fractional")])
def test_counts_must_be_counts_for_poisson_only(inputs: SessionInputs, value: float, word: str) -> None:
    bad = set_value(inputs, "train_data", (4, 0, 6), value)
    with pytest.raises(DataError, match=rf"(?s){word}.*trial {inputs.train_inds[4]} .*'gÄ'.*gaussian"):
        validate(bad, **POISSON)
    assert validate(bad, **{**POISSON, "output_dist": "gaussian"}) == []


def test_negative_integers(inputs: SessionInputs) -> None:
    data = inputs.train_data.copy()
    data[1, 2, 3] = -2
    with pytest.raises(DataError, match="negative"):
        validate(replace(inputs, train_data=data), **POISSON)


def test_no_trials(inputs: SessionInputs) -> None:
    for part, word in (("train", "training"), ("valid", "validation")):
        none = {
            f"{part}_{key}": getattr(inputs, f"{part}_{key}")[:0]
            for key in ("data", "inds", "truth", "condition")
        }
        with pytest.raises(DataError, match=rf"(?s)no {word} trial.*day 1"):
            validate(replace(inputs, **none), **POISSON)


@pytest.mark.parametrize(
    ("key", "cut"),
    [
        ("valid_data", np.s_[:, :90]),
        ("train_data", np.s_[:, :, :6]),
        ("train_truth", np.s_[:, :99]),
        ("valid_truth", np.s_[:3]),
        ("time_ms", np.s_[:99]),
        ("train_inds", np.s_[1:]),
        ("valid_condition", np.s_[1:]),
    ],
)
def test_unequal_shapes(inputs: SessionInputs, key: str, cut: Any) -> None:
    with pytest.raises(DataError, match="day 1"):
        validate(replace(inputs, **{key: getattr(inputs, key)[cut]}), **POISSON)


def test_trial_in_both_parts(inputs: SessionInputs) -> None:
    inds = inputs.valid_inds.copy()
    inds[0] = inputs.train_inds[0]
    with pytest.raises(DataError, match=f"trial {inputs.train_inds[0]} is in both"):
        validate(replace(inputs, valid_inds=inds), **POISSON)


def test_external_input_width(session: xr.Dataset, inputs: SessionInputs) -> None:
    made = make_inputs(session, name="day", bin_ms=10.0, **SPLIT)
    assert validate(made, **{**POISSON, "ext_input_dim": 2}) == []
    for ext_input_dim, given in ((1, made), (0, made), (3, inputs)):
        with pytest.raises(DataError, match=rf"(?s)ext_input_dim is {ext_input_dim}.*day"):
            validate(given, **{**POISSON, "ext_input_dim": ext_input_dim})


def test_alignment_is_checked(inputs: SessionInputs) -> None:
    good = replace(inputs, alignment_matrix_cxf=np.ones((7, 3)), alignment_bias_c=np.zeros(7))
    assert validate(good, **POISSON) == []
    matrix = np.ones((7, 3))
    matrix[2, 1] = np.nan
    with pytest.raises(DataError, match="c3"):
        validate(replace(good, alignment_matrix_cxf=matrix), **POISSON)
    with pytest.raises(DataError, match="missing"):
        validate(replace(good, alignment_bias_c=None), **POISSON)
    with pytest.raises(DataError, match="do not fit"):
        validate(replace(good, alignment_matrix_cxf=np.ones((3, 7))), **POISSON)


def test_warnings_name_neurons_and_numbers(inputs: SessionInputs) -> None:
    data = inputs.train_data.copy()
    data[:, :, [1, 4]] = 0
    data[:, :, 5] = data[:, :, 0]
    valid = inputs.valid_data.copy()
    valid[:, :, [1, 4]] = 0
    changed = replace(inputs, train_data=data, valid_data=valid)
    warnings = validate(changed, **{**POISSON, "batch_size": 41})
    assert len(warnings) == 3
    assert "b2, e5" in warnings[0]
    assert "40 training trials" in warnings[1]
    assert "batch of 41" in warnings[1]
    assert "a1 and f6" in warnings[2]


# ---- coincident spikes


@pytest.mark.parametrize("bin_ms", [2.0, 5.0, 10.0, 20.0, 50.0])
@pytest.mark.parametrize("rate", [3.0, 40.0])
def test_shared_dynamics_are_no_coincidence(bin_ms: float, rate: float) -> None:
    sizes: dict[str, Any] = {"n_conditions": 10, "trials_per_condition": 12, "n_neurons": 20}
    (ds,) = lorenz_sessions(1, bin_ms=bin_ms, mean_rate=rate, modulation=1.0, seed=3, **sizes)
    assert coincident_pairs(ds["spikes"].values) == []


@pytest.mark.parametrize("g", [1.5, 2.5])
def test_fast_networks_and_their_pulses_are_no_coincidence(g: float) -> None:
    ds = chaotic_rnn_session(g=g, with_inputs=True, n_conditions=20)
    assert coincident_pairs(ds["spikes"].values) == []


@pytest.mark.parametrize("bin_ms", [2.0, 10.0, 20.0, 50.0])
@pytest.mark.parametrize("rate", [2.0, 20.0])
def test_an_imperfect_copy_is_found(bin_ms: float, rate: float) -> None:
    (ds,) = lorenz_sessions(
        1, n_conditions=10, trials_per_condition=20, n_neurons=12, bin_ms=bin_ms, mean_rate=rate, seed=5
    )
    spikes = ds["spikes"].values.copy()
    rng = np.random.default_rng(2)
    kept = rng.binomial(spikes[:, :, 3], 0.6)
    added = rng.poisson(0.3 * spikes[:, :, 3].mean(), kept.shape)
    spikes[:, :, 9] = kept + added
    (pair,) = coincident_pairs(spikes)
    assert (pair.first, pair.second) == (3, 9)
    assert 0.5 < pair.fraction < 0.8


def test_fraction_counts_what_goes_beyond_chance() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.2, (100, 100, 3))
    counts[:, :, 2] = rng.binomial(counts[:, :, 0], 0.5)
    (pair,) = coincident_pairs(counts)
    assert (pair.first, pair.second) == (0, 2)
    assert pair.fraction == pytest.approx(1.0, abs=0.05)
    assert pair.expected_fraction == pytest.approx(0.2, abs=0.05)


def test_few_bins_or_neurons_give_no_pairs() -> None:
    counts = np.ones((10, 4, 3), dtype=int)
    assert coincident_pairs(counts) == []
    assert coincident_pairs(np.ones((10, 20, 1), dtype=int)) == []


# ---- files


def test_file_round_trip(tmp_path: Path, session: xr.Dataset) -> None:
    made = make_inputs(session, name="day 1", bin_ms=10.0, fingerprint="abc", **SPLIT)
    made = replace(made, alignment_matrix_cxf=np.eye(7)[:, :3], alignment_bias_c=np.arange(7.0))
    path = tmp_path / "new folder" / "lfads_day 1.h5"
    write_inputs(path, made)
    same(read_inputs(path), made)
    assert read_fingerprint(path) == "abc"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_file_round_trip_without_options_and_with_text_conditions(
    tmp_path: Path, inputs: SessionInputs
) -> None:
    conditions: dict[str, Any] = {
        f"{p}_condition": np.array(["links", "für"] * 20)[: len(getattr(inputs, f"{p}_data"))]
        for p in ("train", "valid")
    }
    values = np.random.default_rng(0).standard_normal(inputs.train_data.shape)
    bare = replace(inputs, train_truth=None, valid_truth=None, train_data=values, attributes={}, **conditions)
    write_inputs(tmp_path / "x.h5", bare)
    same(read_inputs(tmp_path / "x.h5"), bare)
    none = replace(inputs, train_condition=None, valid_condition=None)
    write_inputs(tmp_path / "y.h5", none)
    assert read_inputs(tmp_path / "y.h5").train_condition is None


def test_file_has_the_keys_of_the_original(tmp_path: Path, inputs: SessionInputs) -> None:
    path = tmp_path / "lfads_day.h5"
    write_inputs(path, replace(inputs, train_data=inputs.train_data.astype(float)))
    with h5py.File(path) as file:
        assert file["train_data"].dtype == np.int64
        assert file["train_inds"].dtype == np.float64
        np.testing.assert_array_equal(file["train_inds"][...], inputs.train_inds + 1)
        assert file["train_inds"].attrs["index_base"] == 1
        np.testing.assert_allclose(file["conversion_factor"][...], [0.01])
        expected = (file["train_truth"][...] * file["conversion_factor"][0]).mean()
        assert expected == pytest.approx(file["train_data"][...].mean(), rel=0.05)
        assert file["train_data"].compression == "gzip"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, inputs: SessionInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lfads_day.h5"
    write_inputs(path, inputs)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_inputs(path, replace(inputs, fingerprint="other"))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_missing_foreign_and_damaged_files(tmp_path: Path, inputs: SessionInputs) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.h5"):
        read_inputs(tmp_path / "gone.h5")
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["train_data"] = np.zeros((2, 3, 4))
    with pytest.raises(DataError, match=r"foreign\.h5"):
        read_fingerprint(foreign)
    path = tmp_path / "cut.h5"
    write_inputs(path, inputs)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"cut\.h5[\s\S]*delete this file, then `lfadsrm prepare`"):
        read_inputs(path)


def test_files_with_damaged_bytes(tmp_path: Path, inputs: SessionInputs) -> None:
    path = tmp_path / "day1.h5"
    write_inputs(path, inputs)
    whole, told = path.read_bytes(), 0
    for start in range(0, len(whole), 800):
        flipped = bytes(byte ^ 0x55 for byte in whole[start : start + 4000])
        path.write_bytes(whole[:start] + flipped + whole[start + 4000 :])
        try:
            read_inputs(path)
        except DataError as error:
            told += "delete this file" in str(error)
    assert told > 3


def test_new_trials_are_binned_as_those_of_the_training(session: xr.Dataset, tmp_path: Path) -> None:
    made = make_inputs(session, name="day", bin_ms=10.0, **SPLIT)
    new = new_inputs(session, name="day", bin_ms=10.0)
    assert (len(new.train_data), len(new.valid_data)) == (session.sizes["trial"], 0)
    for part in ("train", "valid"):
        rows = getattr(made, f"{part}_inds")
        for key in ("data", "condition"):
            np.testing.assert_array_equal(getattr(made, f"{part}_{key}"), getattr(new, f"train_{key}")[rows])
    assert len(new_inputs(session.isel(trial=[0]), name="lonely", bin_ms=10.0).train_data) == 1
    write_inputs(tmp_path / "a.h5", made)
    names, bins = read_head(tmp_path / "a.h5")
    np.testing.assert_array_equal(names, made.neuron_names)
    assert bins == len(made.time_ms)
