"""Options of readers in experiment.toml, and what preparing says of what was read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.io import savemat

from lfadsrm_hpc.collection.collection import RunCollection
from lfadsrm_hpc.collection.experiment import Experiment
from lfadsrm_hpc.collection.experiment_file import EXPERIMENT_FILE, read_experiment
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.data.inputs import read_inputs
from lfadsrm_hpc.data.readers import from_arrays
from lfadsrm_hpc.errors import ConfigError, DataWarning, MismatchError, UsageError

PARAMS = "[params]\nspike_bin_ms = 10\nco_dim = 0\nbatch_size = 4\n"
E, T, D = 20, 12, 3


def counts(seed: int, n_trials: int = E) -> Any:
    return np.random.default_rng(seed).poisson(1.0, (n_trials, T, D))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an experiment of two .mat files with odd names inside, and one file of two sessions."""
    datasets = tmp_path / "datasets"
    datasets.mkdir()
    for day in (1, 2):
        savemat(datasets / f"day{day}.mat", {"S": {"raster": counts(day).transpose(0, 2, 1).astype(float)}})
    both = np.empty((1, 2), dtype=[("raster", object)])
    for k in range(2):
        both[0, k]["raster"] = counts(10 + k).transpose(0, 2, 1).astype(float)
    savemat(tmp_path / "both.mat", {"data": both})
    return tmp_path


def read(folder: Path, text: str) -> Experiment:
    (folder / EXPERIMENT_FILE).write_text(text + PARAMS)
    return read_experiment(folder)


OPTIONS = """
[datasets.options]
bin_ms = 10
fields = { spikes = "S.raster" }
"""


def test_one_table_of_options_for_all_files(folder: Path) -> None:
    experiment = read(folder, OPTIONS)
    dc = experiment.dataset_collection()
    assert dc.names == experiment.dataset_names() == ["day1", "day2"]
    np.testing.assert_array_equal(dc["day2"].load().spikes, counts(2))
    report = experiment.build(RunCollection).prepare_for_lfads()
    assert len(report.inputs_written) == 2
    stored = RunCollection.open(folder / "runs" / folder.name)
    assert stored.dataset_info[0]["source"]["options"] == {"bin_ms": 10, "fields": {"spikes": "S.raster"}}


def test_sessions_with_names_and_options_of_their_own(folder: Path) -> None:
    text = """
    [datasets]
    path = "."
    [datasets.options]
    bin_ms = 5
    [[datasets.sessions]]
    name = "monday"
    file = "both.mat"
    options = { fields = { spikes = "data(1).raster" } }
    [[datasets.sessions]]
    name = "tuesday"
    file = "both"
    options = { fields = { spikes = "data(2).raster" }, bin_ms = 10 }
    """
    experiment = read(folder, text)
    dc = experiment.dataset_collection()
    assert dc.names == experiment.dataset_names() == ["monday", "tuesday"]
    np.testing.assert_array_equal(dc["monday"].load().spikes, counts(10))
    np.testing.assert_array_equal(dc["tuesday"].load().spikes, counts(11))
    assert [ds.load().attrs["bin_ms"] for ds in dc] == [5, 10]
    together = read(folder, text.replace('path = "."', 'path = "."\nfiles = ["datasets/day*.mat"]'))
    assert together.dataset_names() == ["day1", "day2", "monday", "tuesday"]


def test_small_sessions_are_left_out_whatever_they_are_named_by(folder: Path) -> None:
    savemat(folder / "few.mat", {"spikes": counts(0, 3).transpose(0, 2, 1).astype(float)})
    text = """
    [datasets]
    path = "."
    min_trials = 10
    [datasets.options]
    bin_ms = 10
    [[datasets.sessions]]
    name = "few"
    file = "few.mat"
    [[datasets.sessions]]
    name = "many"
    file = "both.mat"
    options = { fields = { spikes = "data(2).raster" } }
    """
    assert read(folder, text).dataset_collection().names == ["many"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OPTIONS.replace("bin_ms", "binms"), r"mat files has no option 'binms'[\s\S]*did you mean 'bin_ms'"),
        ("[datasets]\noptions = 3\n", r"options must be a table[\s\S]*\[datasets.options\]"),
        ("[datasets.options]\nname = 'x'\n", "name is no option of a reader"),
        ("[datasets]\nsessions = 3\n", "sessions must be tables with name and file"),
        ("[[datasets.sessions]]\nname = 'x'\n", "sessions must be tables with name and file"),
        ("[[datasets.sessions]]\nname = 'x'\nfile = 'day1'\nextra = 1\n", "unknown key 'extra'"),
        ("[[datasets.sessions]]\nname = 'a/b'\nfile = 'day1'\n", "a/b"),
        ("[[datasets.sessions]]\nname = 'x'\nfile = 'dya1.mat'\n", "did you mean 'day1.mat'"),
        ("[[datasets.sessions]]\nname = 'x'\nfile = 'day*'\n", "means 2 files"),
        ("[[datasets.sessions]]\nname = 'x'\nfile = 'day1'\noptions = 1\n", "options must be a table"),
        ("[[datasets.sessions]]\nname = 'x'\nfile = 'day1'\n" * 2, "two sessions have the name 'x'"),
    ],
)
def test_slips(folder: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        read(folder, text).dataset_collection()
    assert "experiment.toml" in str(error.value)


def test_one_file_of_many_with_options_of_its_own(folder: Path) -> None:
    text = OPTIONS + "[[datasets.sessions]]\nname = 'day2'\nfile = 'day2.mat'\noptions = { bin_ms = 5 }\n"
    experiment = read(folder, "[datasets]\nfiles = ['day*']\n" + text)
    assert experiment.dataset_names() == ["day1", "day2"]
    assert [ds.load().attrs["bin_ms"] for ds in experiment.dataset_collection()] == [10, 5]


def test_values_are_checked_when_a_file_is_read(folder: Path) -> None:
    (ds, _) = read(folder, OPTIONS.replace("spikes =", "spike =")).dataset_collection()
    with pytest.raises(UsageError, match=r"fields names 'spike'[\s\S]*day1\.mat[\s\S]*did you mean 'spikes'"):
        ds.load()


# ---- what preparing says


def collection(tmp_path: Path, content: xr.Dataset, **params: Any) -> RunCollection:
    dc = DatasetCollection(tmp_path / "datasets")
    Dataset.from_xarray(dc, "day1", content)
    rc = RunCollection(tmp_path / "runs", "mine", dc)
    rc.add_params(RunParams(spike_bin_ms=10, co_dim=0, batch_size=4, output_dist="gaussian", **params))
    rc.add_run_spec(RunSpec("single_day1", dc, ["day1"]))
    return rc


def session() -> xr.Dataset:
    return from_arrays(counts(0), bin_ms=10, name="day1")


def prepared(rc: RunCollection) -> list[str]:
    return list(rc.prepare_for_lfads(warn=False).warnings)


def test_what_a_reader_left_out_is_a_warning(tmp_path: Path) -> None:
    ds = session().assign_attrs(notes=["3 trials are left out"])
    ds = ds.assign(lfp=(("trial", "time", "a", "b"), np.zeros((E, T, 1, 1))))
    rc = collection(tmp_path, ds)
    assert prepared(rc) == [
        "dataset 'day1': 3 trials are left out",
        "dataset 'day1': lfp cannot be kept with the runs: no numbers by trial",
    ]
    with pytest.warns(DataWarning) as given:
        rc.prepare_for_lfads()
    assert [str(warning.message)[:30] for warning in given] == [
        "dataset 'day1': 3 trials are l",
        "dataset 'day1': lfp cannot be ",
    ]


def test_neurons_that_the_data_want_withheld(tmp_path: Path) -> None:
    ds = session().assign_coords(held_out=("neuron", [False, True, True])).assign_attrs(forward_ms=40.0)
    (warning,) = prepared(collection(tmp_path / "a", ds))
    assert "set held_out_neurons=[1, 2], forward_prediction_bins=4" in warning
    rc = collection(tmp_path / "b", ds, held_out_neurons=(1, 2))
    (warning,) = prepared(rc)
    assert "set forward_prediction_bins=4" in warning
    assert "held_out_neurons=" not in warning
    rc = collection(tmp_path / "c", ds, held_out_neurons=(1, 2), forward_prediction_bins=4)
    assert prepared(rc) == []
    (file,) = rc.runs[0].input_files().values()
    assert read_inputs(file).attributes["held_out_neurons"] == [1, 2]
    ds = ds.assign_attrs(forward_ms=25.0)
    assert "no whole number of bins of 10 ms" in prepared(collection(tmp_path / "d", ds))[0]


def test_a_changed_behaviour_needs_no_new_fit_and_is_warned_of(tmp_path: Path) -> None:
    hand = np.random.default_rng(0).random((E, T, 2))
    with_hand = session().assign(hand=(("trial", "time", "axis"), hand))
    rc = collection(tmp_path, with_hand)
    assert prepared(rc) == []
    (file,) = rc.runs[0].input_files().values()
    before = file.read_bytes()
    assert prepared(collection(tmp_path, with_hand)) == []
    (warning,) = prepared(collection(tmp_path, session().assign(hand=(("trial", "time", "axis"), hand + 1))))
    assert "behaviour or other further variables are not those" in warning
    assert file.read_bytes() == before
    np.testing.assert_array_equal(read_inputs(file).extra["hand"].train, hand[read_inputs(file).train_inds])


def test_a_given_split_is_part_of_what_inputs_are_made_from(tmp_path: Path) -> None:
    kinds = np.array(["valid"] * 4 + ["train"] * 16)
    rc = collection(tmp_path, session().assign(given_split=("trial", kinds)), split="given")
    rc.prepare_for_lfads()
    (file,) = rc.runs[0].input_files().values()
    assert read_inputs(file).valid_inds.tolist() == [0, 1, 2, 3]
    other = collection(tmp_path, session().assign(given_split=("trial", kinds[::-1])), split="given")
    with pytest.raises(MismatchError):
        other.prepare_for_lfads()
    same_hash = RunParams().param_hash
    assert RunParams(split="stratified").param_hash == same_hash


def test_chopped_recordings_in_an_experiment(tmp_path: Path) -> None:
    datasets = tmp_path / "datasets"
    datasets.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.savez(datasets / f"{name}.npz", spikes=rng.poisson(1.0, (1, 1000, D)), bin_ms=5)
    experiment = read(tmp_path, "[datasets.options]\nchop_ms = 200\noverlap_ms = 40\n")
    rc = experiment.build(RunCollection)
    report = rc.prepare_for_lfads(warn=False)
    assert not any("merged" in warning for warning in report.warnings)
    (file,) = rc.runs[0].input_files().values()
    inputs = read_inputs(file)
    assert inputs.train_data.shape[1] == 20
    groups = [
        set(part.tolist()) for part in (inputs.extra["split_group"].train, inputs.extra["split_group"].valid)
    ]
    assert not groups[0] & groups[1]
    assert set(inputs.extra["recording"].train) == {"0"}
