"""Structs of Matlab: sessions in an array of them, trials in an array of them, places named by the user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from matlab_files import Foreign, Structs, append_object, cell, save_mat
from scipy.io import savemat
from scipy.sparse import csc_matrix

from lfadsrm_hpc.data import readers
from lfadsrm_hpc.data.formats import matlab
from lfadsrm_hpc.data.formats.matlab_values import linear, parse
from lfadsrm_hpc.errors import DataError, UsageError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
both = pytest.mark.parametrize("version", ["5", "7.3"])
E, T, D = 6, 5, 3


def counts(seed: int = 0, n_trials: int = E, n_bins: int = T) -> Any:
    """Return (trial, time, neuron)."""
    return np.random.default_rng(seed).poisson(1.0, (n_trials, n_bins, D))


def trial_structs(spikes: Any, **fields: list[Any]) -> Structs:
    return Structs(
        {"spikes": trial.T.astype(float), **{key: values[k] for key, values in fields.items()}}
        for k, trial in enumerate(spikes)
    )


@both
def test_a_struct_a_trial(tmp_path: Path, version: str) -> None:
    spikes = counts()
    hand = [np.arange(2 * T, dtype=float).reshape(2, T) + k for k in range(E)]
    trials = trial_structs(
        spikes, condition=["up", "down"] * 3, handPos=hand, rt=[0.2 + 0.1 * k for k in range(E)]
    )
    path = save_mat(tmp_path / "day1.mat", {"R": trials, "info": {"lab": "x"}}, version)
    ds = readers.read(path, bin_ms=10, extra={"hand": "R.handPos", "rt": "R.rt"})
    np.testing.assert_array_equal(ds.spikes, spikes)
    assert ds.condition.values.tolist() == ["up", "down"] * 3
    assert ds.hand.dims == ("trial", "time", "hand_item")
    np.testing.assert_array_equal(ds.hand.values[2], hand[2].T)
    np.testing.assert_allclose(ds.rt, 0.2 + 0.1 * np.arange(E))
    assert readers.read_info(path, bin_ms=10)["n_conditions"] == 2


@both
def test_names_of_ones_own_and_another_order(tmp_path: Path, version: str) -> None:
    spikes = counts()
    trials = Structs({"raster": trial.astype(float), "target": k % 2 + 1.0} for k, trial in enumerate(spikes))
    path = save_mat(
        tmp_path / "day1.mat", {"S": {"session": {"R": trials}}, "spikes": np.zeros((2, 2))}, version
    )
    ds = readers.read(
        path,
        bin_ms=10,
        start_ms=-20,
        dims="time,neuron",
        fields={"spikes": "S.session.R.raster", "condition": "S.session.R.target"},
    )
    np.testing.assert_array_equal(ds.spikes, spikes)
    assert ds.condition.values.tolist() == [1, 2] * 3
    assert ds.time.values.tolist() == [-20, -10, 0, 10, 20]
    same = readers.read(
        path, bin_ms=10, dims="time,neuron", struct="S.session", fields={"spikes": "R.raster"}
    )
    np.testing.assert_array_equal(same.spikes, spikes)


@both
def test_sessions_in_an_array_of_structs(tmp_path: Path, version: str) -> None:
    days = [counts(seed) for seed in range(3)]
    data = Structs(
        {"spikes": day.transpose(0, 2, 1).astype(float), "subject": f"m{k}"} for k, day in enumerate(days)
    )
    path = save_mat(tmp_path / "all.mat", {"data": data}, version)
    for k, day in enumerate(days):
        ds = readers.read(path, bin_ms=10, struct=f"data({k + 1})")
        np.testing.assert_array_equal(ds.spikes, day)
        assert ds.attrs["subject"] == f"m{k}"
    np.testing.assert_array_equal(
        readers.read(path, bin_ms=10, fields={"spikes": "data(2).spikes"}).spikes, days[1]
    )
    with pytest.raises(
        DataError, match=r"array of 3 structs that hold whole sessions[\s\S]*struct='data\(1\)'"
    ):
        readers.read(path, bin_ms=10)


@both
def test_trials_of_unequal_lengths_are_cut_around_an_event(tmp_path: Path, version: str) -> None:
    rng = np.random.default_rng(1)
    lengths = [9, 12, 7, 15, 10, 3]
    spikes = [rng.poisson(1.0, (n, D)) for n in lengths]
    go = [30.0, 52.0, 10.0, 90.0, np.nan, 10.0]
    trials = Structs(
        {"spikes": s.T.astype(float), "go": g, "hand": rng.random((2, len(s))), "condition": float(k)}
        for k, (s, g) in enumerate(zip(spikes, go, strict=True))
    )
    path = save_mat(tmp_path / "day1.mat", {"R": trials}, version)
    with pytest.raises(DataError, match="unequal lengths"):
        readers.read(path, bin_ms=10)
    ds = readers.read(
        path, bin_ms=10, align_to="R.go", before_ms=20, after_ms=40, extra={"hand": "R.hand", "go": "R.go"}
    )
    kept, firsts = [0, 1, 3], [1, 3, 7]  # events at the nearest edges: bins 3, 5 and 9
    assert ds.condition.values.tolist() == kept
    for row, (k, first) in enumerate(zip(kept, firsts, strict=True)):
        np.testing.assert_array_equal(ds.spikes.values[row], spikes[k][first : first + 6])
        np.testing.assert_array_equal(ds.hand.values[row], trials[k]["hand"].T[first : first + 6])
    assert ds.go.values.tolist() == [30, 52, 90]
    assert ds.time.values.tolist() == [-20, -10, 0, 10, 20, 30]
    assert ds.attrs["notes"] == ["3 trials that do not hold the window around R.go are left out"]
    with pytest.raises(DataError, match="no trial holds the window"):
        readers.read(path, bin_ms=10, align_to="R.go", before_ms=200, after_ms=400)


@both
def test_further_variables_with_time_on_either_axis(tmp_path: Path, version: str) -> None:
    spikes = counts(n_bins=20)
    hand = np.random.default_rng(1).normal(size=(E, 20, 2))
    trials = trial_structs(spikes, hand=list(hand), go=[10.0 * k for k in range(5, 11)])
    path = save_mat(tmp_path / "day1.mat", {"R": trials}, version)
    options: dict[str, Any] = {"fields": {"spikes": "R.spikes"}, "extra": {"hand": "R.hand"}}
    ds = readers.read(path, bin_ms=10, **options)
    assert ds.hand.dims == ("trial", "time", "hand_item")
    np.testing.assert_array_equal(ds.hand, hand)
    ds = readers.read(path, bin_ms=10, align_to="R.go", before_ms=20, after_ms=30, **options)
    assert ds.hand.dims == ("trial", "time", "hand_item")
    for k in range(E):
        np.testing.assert_array_equal(ds.spikes[k], spikes[k, k + 3 : k + 8])
        np.testing.assert_array_equal(ds.hand[k], hand[k, k + 3 : k + 8])


@both
@pytest.mark.parametrize("order", ["neuron,time", "time,neuron"])
def test_one_long_recording_is_chopped_with_its_behaviour(tmp_path: Path, version: str, order: str) -> None:
    rng = np.random.default_rng(0)
    spikes, hand = rng.poisson(0.5, (D, 200)).astype(float), rng.normal(size=(2, 200))
    if order == "time,neuron":
        content = {"spikes": spikes.T, "hand": hand.T, "speed": hand[:1].T}
    else:
        content = {"spikes": spikes, "hand": hand, "speed": hand[:1]}
    path = save_mat(tmp_path / "day1.mat", {**content, "weight": np.array([[4.0, 5.0, 6.0]])}, version)
    extra = {name: name for name in ("hand", "speed", "weight")}
    ds = readers.read(path, bin_ms=10, dims=order, extra=extra, chop_ms=200, overlap_ms=100)
    whole = readers.merge_windows(ds)["0"]
    np.testing.assert_array_equal(whole.spikes, spikes.T)
    np.testing.assert_array_equal(whole.hand, hand.T)
    np.testing.assert_array_equal(whole.speed, hand[:1].T)
    assert ds.weight.values.tolist() == [[4, 5, 6]] * ds.sizes["trial"]


@both
def test_cells_without_a_condition(tmp_path: Path, version: str) -> None:
    spikes = counts().transpose(0, 2, 1).astype(float)
    labels = cell(["left", "right", np.zeros((0, 0)), "left", "", "right"], (E, 1))
    path = save_mat(tmp_path / "day1.mat", {"spikes": spikes, "condition": labels}, version)
    wanted = ["left", "right", "", "left", "", "right"]
    assert readers.read(path, bin_ms=10).condition.values.tolist() == wanted
    numbers = cell([np.array([[float(k)]]) for k in (3, 4, 3, 4, 3, 3)], (E, 1))
    path = save_mat(tmp_path / "day2.mat", {"spikes": spikes, "condition": numbers}, version)
    assert readers.read(path, bin_ms=10).condition.values.tolist() == [3, 4, 3, 4, 3, 3]


@both
def test_what_is_missing_is_named_with_what_there_is(tmp_path: Path, version: str) -> None:
    trials = Structs({"raster": trial.T.astype(float), "go": "left"} for trial in counts(n_bins=30))
    path = save_mat(tmp_path / "day1.mat", {"R": trials, "lab": "x"}, version)
    with pytest.raises(DataError, match=r"no spikes under a name[\s\S]*fields = [\s\S]*there is: 'R', 'lab'"):
        readers.read(path, bin_ms=10)
    with pytest.raises(DataError, match=r"there is: .*'R\.raster'"):
        readers.read(path, bin_ms=10, struct="R")
    options: dict[str, Any] = {"fields": {"spikes": "R.raster"}, "before_ms": 10, "after_ms": 20}
    with pytest.raises(DataError, match=r"R\.go holds 'left', which is no time"):
        readers.read(path, bin_ms=10, align_to="R.go", **options)
    content = {"R": trials, "condition": np.ones((1, 3)), "cue": np.full((1, E), 100.0)}
    path = save_mat(tmp_path / "day2.mat", content, version)
    options["fields"] |= {"condition": "condition"}
    with pytest.raises(DataError, match="3 conditions for 6 trials"):
        readers.read(path, bin_ms=10, align_to="cue", **options)


@both
def test_an_event_in_arrays_of_all_trials(tmp_path: Path, version: str) -> None:
    """The first bin starts where the file says, and further variables are cut along."""
    spikes = counts(n_bins=20)
    hand = np.random.default_rng(1).normal(size=(E, 2, 20))
    go = [30.0] * (E - 1) + [500.0]  # the window of the last one is not in its trial
    variables = {
        "spikes": spikes.transpose(0, 2, 1).astype(float),
        "start_ms": -50.0,
        "bin_ms": 10.0,
        "go": np.array(go)[:, None],
        "hand": hand,
        "speed": hand[:, 0],
        "target": hand[:, :, 0],
        "rt": np.arange(float(E))[:, None],
    }
    path = save_mat(tmp_path / "day1.mat", variables, version)
    extra = {key: key for key in ("hand", "speed", "target", "rt")}
    ds = readers.read(path, align_to="go", before_ms=10, after_ms=40, extra=extra)
    np.testing.assert_array_equal(ds.spikes, spikes[: E - 1, 7:12])  # -50 + 7 x 10 = 30 - 10
    np.testing.assert_array_equal(ds.hand, hand[: E - 1, :, 7:12].transpose(0, 2, 1))
    np.testing.assert_array_equal(ds.speed[..., 0], hand[: E - 1, 0, 7:12])
    np.testing.assert_array_equal(ds.target, hand[: E - 1, :, 0])
    np.testing.assert_array_equal(ds.rt, np.arange(E - 1))


@both
def test_trials_with_times_of_their_own(tmp_path: Path, version: str) -> None:
    spikes = counts()
    times = [-30 + 10.0 * np.arange(T) + 10 * (k % 2) for k in range(E)]
    path = save_mat(tmp_path / "day1.mat", {"R": trial_structs(spikes, timeMs=times, go=[0.0] * E)}, version)
    with pytest.raises(DataError, match="times of their own"):
        readers.read(path)
    ds = readers.read(path, align_to="R.go", before_ms=10, after_ms=10)
    assert ds.attrs["bin_ms"] == 10
    for k in range(E):
        first = 2 - k % 2
        np.testing.assert_array_equal(ds.spikes.values[k], spikes[k][first : first + 2])
    alike = [times[0]] * E
    path = save_mat(tmp_path / "day2.mat", {"R": trial_structs(spikes, timeMs=alike)}, version)
    assert readers.read(path).time.values.tolist() == times[0].tolist()


@both
def test_spike_times_in_cells_of_a_struct_a_trial(tmp_path: Path, version: str) -> None:
    none = np.zeros((0, 0))
    trials = Structs(
        [
            {"spike_times": cell([none, np.array([[0.012, 0.019]])], (1, 2)), "condition": 4.0},
            {"spike_times": cell([np.array([[0.0], [0.003]]), none], (2, 1)), "condition": 5.0},
        ]
    )
    path = save_mat(tmp_path / "day1.mat", {"R": trials}, version)
    ds = readers.read(path, bin_ms=10, start_ms=0, stop_ms=20, time_unit="s")
    assert ds.spikes.values.tolist() == [[[0, 0], [0, 2]], [[2, 0], [0, 0]]]
    assert ds.condition.values.tolist() == [4, 5]


def test_objects_that_only_matlab_can_read(tmp_path: Path) -> None:
    """A session without its conditions is another one; without its date it is not."""
    spikes = counts().transpose(0, 2, 1).astype(float)
    path = save_mat(tmp_path / "day1.mat", {"spikes": spikes, "date": Foreign(), "cue": Foreign()}, "7.3")
    assert readers.read(path, bin_ms=10).sizes["trial"] == E
    with pytest.raises(DataError, match=r"cue is an object of Matlab[\s\S]*cellstr"):
        readers.read(path, bin_ms=10, fields={"condition": "cue"})
    session = {"spikes": spikes, "condition": Foreign()}
    path = save_mat(tmp_path / "day2.mat", session, "7.3")
    with pytest.raises(DataError, match="condition is an object of Matlab"):
        readers.read(path, bin_ms=10)
    path = save_mat(tmp_path / "day3.mat", {"data": session}, "7.3")
    with pytest.raises(DataError, match="condition is an object of Matlab"):
        readers.read(path, bin_ms=10)
    trials = trial_structs(counts(), condition=[Foreign()] * E)
    path = save_mat(tmp_path / "day4.mat", {"R": trials}, "7.3")
    with pytest.raises(DataError, match="condition is an object of Matlab"):
        readers.read(path, bin_ms=10)


@pytest.mark.parametrize("compressed", [False, True])
def test_files_of_version_5_with_objects_in_them(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "day1.mat"
    content = {"spikes": counts().transpose(0, 2, 1), "R": np.zeros((1, 2), dtype=[("a", object)]), "x": 1.0}
    savemat(path, content, do_compression=compressed)
    for name in ("date", "a_longer_name_of_a_table"):
        append_object(path, name, compressed=compressed)
    ds = readers.read(path, bin_ms=10)
    np.testing.assert_array_equal(ds.spikes, counts())
    with matlab.opened(path) as file:
        assert file.names == ["spikes", "R", "x", "date", "a_longer_name_of_a_table"]
        assert file.structs() == ["R"]
    append_object(path, "condition", compressed=compressed)
    with pytest.raises(DataError, match="condition is an object of Matlab"):
        readers.read(path, bin_ms=10)


@both
def test_sparse_rasters(tmp_path: Path, version: str) -> None:
    spikes = counts()
    spikes[3] = 0
    trials = Structs({"spikes": csc_matrix(trial.T.astype(float))} for trial in spikes)
    path = save_mat(tmp_path / "day1.mat", {"R": trials}, version)
    np.testing.assert_array_equal(readers.read(path, bin_ms=1).spikes, spikes)


@both
def test_arrays_by_condition_and_repeat(tmp_path: Path, version: str) -> None:
    rng = np.random.default_rng(0)
    array = rng.poisson(1.0, (D, 4, T, 3)).astype(float)  # neuron, condition, time, repeat
    array[:, 1, :, 2] = np.nan
    directions = Structs({"angle": 45.0 * k} for k in range(4))
    path = save_mat(
        tmp_path / "v1.mat", {"data": Structs([{"spikes": array, "conditions": directions}] * 2)}, version
    )
    options: dict[str, Any] = {"bin_ms": 10, "struct": "data(2)", "dims": "neuron,condition,time,repeat"}
    ds = readers.read(path, **options)
    assert ds.sizes["trial"] == 11
    assert ds.condition.values.tolist() == [1] * 3 + [2] * 2 + [3] * 3 + [4] * 3
    np.testing.assert_array_equal(ds.spikes.values[4], array[:, 1, :, 1].T)
    assert ds.attrs["notes"] == ["1 repeats that hold nothing but NaN are left out"]
    named = readers.read(path, **options, fields={"spikes": "spikes", "condition": "conditions.angle"})
    assert named.condition.values.tolist() == [0] * 3 + [45] * 2 + [90] * 3 + [135] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"struct": "R(9)"}, r"R: index \(9,\) is out of bounds, the size is 1 x 6|out of bounds"),
        ({"struct": "Q"}, r"no variable 'Q'[\s\S]*there is: R"),
        ({"fields": {"spikes": "R.spike"}}, r"no field 'spike'[\s\S]*did you mean 'spikes'"),
        ({"fields": {"spikes": "R.condition.deeper"}}, "asked of what is no struct"),
        ({"extra": {"hand": "R.nothing"}}, "no field 'nothing'"),
        ({"extra": {"other": "other"}}, r"other has the shape \(2, 2\); there are 6 trials"),
    ],
)
@both
def test_places_that_are_not_there(
    tmp_path: Path, version: str, options: dict[str, Any], message: str
) -> None:
    trials = trial_structs(counts(), condition=[1.0] * E)
    path = save_mat(tmp_path / "day1.mat", {"R": trials, "other": np.ones((2, 2))}, version)
    with pytest.raises(DataError, match=message) as error:
        readers.read(path, bin_ms=10, **options)
    assert "day1.mat" in str(error.value)


def test_paths() -> None:
    assert parse("a.b(2).c{1, 3}.d") == ["a", "b", (2,), "c", (1, 3), "d"]
    for wrong in ("", "(1)", "a..b", "a(0", "a.(1)", "1a", "a b", "a(x)", ".a", "a(1)b"):
        with pytest.raises(UsageError):
            parse(wrong)
    assert [linear(index, (2, 3), "x") for index in ((1,), (6,), (2, 3), (1, 2), (2, 1, 1))] == [
        0,
        5,
        5,
        2,
        1,
    ]
    for index in ((0,), (7,), (3, 1), (1, 1, 2)):
        with pytest.raises(DataError, match="out of bounds"):
            linear(index, (2, 3), "x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": {"spike": "R.x"}}, r"fields names 'spike'[\s\S]*did you mean 'spikes'"),
        ({"fields": "R.x"}, "fields is 'R.x'"),
        ({"fields": {"spikes": 3}}, "spikes in fields is 3, not a text"),
        ({"dims": "time,time,neuron"}, "twice"),
        ({"align_to": "R.go"}, "one is missing"),
        ({"before_ms": 10}, "goes with align_to"),
        ({"time_unit": "min"}, "it can be ms, s"),
        ({"start_ms": "0"}, "not a number"),
        ({"extra": {"condition": "R.x"}}, "a meaning of its own"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    trials = trial_structs(counts(), x=[1.0] * E, go=[1.0] * E)
    path = save_mat(tmp_path / "day1.mat", {"R": trials}, "5")
    with pytest.raises(UsageError, match=message):
        readers.read(path, bin_ms=10, **options)


def test_hostile_files_of_version_7_3(tmp_path: Path) -> None:
    def hostile(name: str) -> Path:
        path = save_mat(
            tmp_path / f"{name}.mat", {"spikes": counts().transpose(0, 2, 1).astype(float)}, "7.3"
        )
        with h5py.File(path, "r+") as file:
            made: Any
            if name == "empty":
                made = file.create_dataset("time", data=np.array([2**40, 2**40], dtype=np.uint64))
                made.attrs["MATLAB_empty"] = np.uint8(1)
            elif name == "circle":  # a cell that holds itself
                made = file.create_dataset("condition", (1, 1), dtype=h5py.ref_dtype)
                made.attrs["MATLAB_class"] = np.bytes_("cell")
                made[0, 0] = made.ref
            elif name == "dangling":
                made = file.create_dataset("condition", (1, 1), dtype=h5py.ref_dtype)
                made.attrs["MATLAB_class"] = np.bytes_("cell")
            else:
                made = file.create_group("truth")
                made.attrs["MATLAB_sparse"] = np.uint64(2**50)
                made["jc"], made["ir"], made["data"] = [0, 1], [2**49], [1.0]
        return path

    for name in ("empty", "circle", "dangling", "huge"):
        with pytest.raises(DataError, match=rf"{name}\.mat"):
            readers.read(hostile(name), bin_ms=10)


def test_the_shared_v1_recordings() -> None:
    path = SHARED / "ecker_v1" / "data_v1_binned_moving.mat"
    if not path.is_file():
        pytest.skip(f"no {path}")
    ds = readers.read(path, bin_ms=10, start_ms=-195, struct="data(1)", dims="neuron,condition,time,repeat")
    assert ds.sizes["time"] == 90
    assert len(np.unique(ds.condition)) == 16
    assert float(ds.time[0]) == -195
