"""Arrays, spike times and files of every kind give the same dataset."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
from matlab_files import cell, save_mat
from scipy.io import savemat

from lfadsrm_hpc.data import form, readers
from lfadsrm_hpc.data.formats import registry
from lfadsrm_hpc.errors import DataError, NotFoundError, UsageError

Array = npt.NDArray[Any]
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
E_, T_, D_, I_ = 6, 5, 3, 2


def arrays(n_trials: int = E_, n_bins: int = T_, n_neurons: int = D_, n_inputs: int = I_) -> dict[str, Array]:
    """Return what a session holds, in our order of dimensions."""
    rng = np.random.default_rng(4)
    return {
        "spikes": rng.poisson(0.7, (n_trials, n_bins, n_neurons)),
        "truth": rng.random((n_trials, n_bins, n_neurons)),
        "external_input": rng.random((n_trials, n_bins, n_inputs)),
        "time": -10 + 4.0 * np.arange(n_bins),
        "condition": np.arange(n_trials) % 2 + 1,
    }


def expected(content: dict[str, Array], name: str = "day1") -> xr.Dataset:
    return readers.from_arrays(**content, name=name)


def same(found: xr.Dataset, wanted: xr.Dataset) -> None:
    """Compare data and coordinates; attributes only where the wanted one has them."""
    xr.testing.assert_equal(found, wanted)
    assert found.spikes.dtype == wanted.spikes.dtype
    for key, value in wanted.attrs.items():
        assert found.attrs[key] == value


def test_python_objects_in_an_npz_are_named(tmp_path: Path) -> None:
    path = tmp_path / "day1.npz"
    content = {**arrays(), "condition": np.array(["left", "right"] * 3, dtype=object)}
    np.savez(path, **content, allow_pickle=True)  # type: ignore[arg-type]
    told = r"`condition` holds Python objects, which are not read\n  where: .*day1.npz(?s:.)*tolist"
    with pytest.raises(DataError, match=told):
        readers.read(path)


# Arrays and spike times


def test_the_form_from_arrays() -> None:
    content = arrays()
    ds = readers.from_arrays(**content, name="day1", subject="monkey", date=datetime.date(2020, 2, 3))
    assert ds.spikes.dims == ds.truth.dims == ("trial", "time", "neuron")
    assert ds.external_input.dims == ("trial", "time", "input")
    assert ds.spikes.dtype == np.int64
    assert ds.attrs == {"name": "day1", "subject": "monkey", "date": "2020-02-03", "bin_ms": 4.0}
    assert ds.neuron_name.values.tolist() == ["n000", "n001", "n002"]
    assert ds.trial.values.tolist() == list(range(E_))
    np.testing.assert_array_equal(ds.time, content["time"])


def test_time_starts_at_zero_where_it_is_not_given() -> None:
    ds = readers.from_arrays(np.zeros((2, 3, 1)), bin_ms=20)
    assert ds.time.values.tolist() == [0, 20, 40]


def test_the_dataset_is_not_tied_to_the_array_it_came_from() -> None:
    spikes = np.ones((2, 3, 1), dtype=np.int64)
    ds = readers.from_arrays(spikes, bin_ms=20)
    spikes[:] = 9
    assert int(ds.spikes.max()) == 1


def test_types_of_counts() -> None:
    for dtype in (bool, np.uint8, np.int16, np.float32, np.float64):
        assert readers.from_arrays(np.ones((2, 3, 1), dtype), bin_ms=1).spikes.dtype == np.int64
    gaussian = readers.from_arrays(np.full((2, 3, 1), 0.5, np.float32), bin_ms=1)
    assert gaussian.spikes.dtype == np.float64
    with pytest.raises(DataError, match="not numbers"):
        readers.from_arrays(np.full((2, 3, 1), "a"), bin_ms=1)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([1.0, 2.0, 2.0], [1, 2, 2]),
        (["a", "b", None], ["a", "b", ""]),
        (["a", float("nan"), "b"], ["a", "", "b"]),
        ([1, None, 2], [1.0, np.nan, 2.0]),
        (np.array([1.0, np.nan, 2.0]), [1.0, np.nan, 2.0]),
        (np.array([b"a", b"b", b"b"]), ["a", "b", "b"]),
    ],
)
def test_conditions(given: Any, kept: list[Any]) -> None:
    ds = readers.from_arrays(np.zeros((3, 2, 1)), bin_ms=1, condition=given)
    np.testing.assert_array_equal(ds.condition.values, np.array(kept))
    assert ds.condition.dtype.kind == np.array(kept).dtype.kind


def test_conditions_are_not_fractions() -> None:
    with pytest.raises(DataError, match=r"trial 1 is 0\.5"):
        readers.from_arrays(np.zeros((3, 2, 1)), bin_ms=1, condition=[1, 0.5, 2])


def test_nan_is_named_by_dataset_trial_and_neuron() -> None:
    content = arrays()
    bad = content["spikes"].astype(float)
    bad[4, 2, 1] = np.nan
    bad[5, 0, 0] = np.inf
    with pytest.raises(DataError) as error:
        readers.from_arrays(bad, bin_ms=1, name="day7", neuron_names=["a", "b", "c"])
    assert "spikes is nan at trial 4, bin 2, neuron 1 (b), and at 1 more places" in str(error.value)
    assert "day7" in str(error.value)


@pytest.mark.parametrize(("key", "place"), [("truth", r"neuron 2 \(n002\)"), ("external_input", "input 1")])
def test_nan_in_what_goes_with_the_spikes(key: str, place: str) -> None:
    content = arrays()
    content[key][0, 0, -1] = np.nan
    with pytest.raises(DataError, match=rf"{key} is nan at trial 0, bin 0, {place}"):
        readers.from_arrays(**content)


def test_trials_of_their_own_length_are_refused() -> None:
    trials = [np.zeros((5, 2)), np.zeros((5, 2)), np.zeros((6, 2))]
    with pytest.raises(DataError, match=r"unequal lengths: spikes of trial 2 has shape \(6, 2\)[\s\S]*day7"):
        readers.from_arrays(trials, bin_ms=1, name="day7")
    assert readers.from_arrays(trials[:2], bin_ms=1).sizes["trial"] == 2


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("truth", (E_, T_ + 1, D_), "truth has shape .* 5 bins"),
        ("truth", (E_, T_, D_ - 1), "truth has shape .* 3 neurons"),
        ("external_input", (E_ - 1, T_, 1), "external_input has shape .* 6 trials"),
        ("external_input", (E_, T_ + 1), "external_input has shape .* does not fit"),
        ("time", (T_ + 1,), "time has shape .* 5 bins"),
        ("condition", (E_ - 1,), "condition has shape .* 6 trials"),
        ("neuron_names", (D_ + 1,), "neuron_name has shape .* 3 neurons"),
        ("spikes", (), "spikes has shape"),
        ("spikes", (2, 2, 2, 2), "spikes has shape"),
        ("spikes", (0, 4, 3), "no trials"),
        ("spikes", (3, 0, 3), "no bins"),
        ("spikes", (3, 4, 0), "no neurons"),
    ],
)
def test_wrong_shapes(key: str, shape: tuple[int, ...], message: str) -> None:
    content = {} if key == "spikes" else {"spikes": np.zeros((E_, T_, D_))}
    with pytest.raises(DataError, match=message) as error:
        readers.from_arrays(
            **(content | {key: np.arange(np.prod(shape)).reshape(shape)}), bin_ms=1, name="day7"
        )
    assert "day7" in str(error.value)


@pytest.mark.parametrize(
    ("time", "bin_ms", "message"),
    [
        ([0, 4, 8, 13, 16], None, "bin 2 starts at 8 ms, the next at 13 ms"),
        ([0, 4, 8, 12, 16], 5, "not in steps of bin_ms = 5 ms"),
        ([0, 0.004, 0.008, 0.012, 0.016], 4, "not s"),
        ([0, 4, np.nan, 12, 16], 4, "not in steps"),
        ([16, 12, 8, 4, 0], None, "bin_ms is -4"),
        (None, None, "width of the bins is not known"),
        (None, 0, "bin_ms is 0"),
    ],
)
def test_wrong_times(time: Any, bin_ms: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        readers.from_arrays(np.zeros((2, 5, 1)), time=time, bin_ms=bin_ms)


def test_dims_name_another_order() -> None:
    content = arrays()
    turned = {key: v.transpose(0, 2, 1) if v.ndim == 3 else v for key, v in content.items()}
    same(readers.from_arrays(**turned, name="day1", dims=("trial", "neuron", "time")), expected(content))
    trials = [trial.T for trial in content["spikes"]]
    found = readers.from_arrays(trials, bin_ms=4, dims=("neuron", "time", "trial"))
    np.testing.assert_array_equal(found.spikes, content["spikes"])
    flat = readers.from_arrays(content["spikes"][:, :, 0], bin_ms=4, dims=("trial", "time"))
    np.testing.assert_array_equal(flat.spikes, content["spikes"][:, :, :1])
    with pytest.raises(UsageError, match="dims"):
        readers.from_arrays(content["spikes"], bin_ms=4, dims=("trial", "channel", "time"))


@pytest.mark.parametrize("sizes", [(E_, T_, 1, I_), (1, T_, D_, I_), (E_, T_, D_, 1), (1, T_, 1, 1)])
def test_lost_dimensions_come_back(sizes: tuple[int, int, int, int]) -> None:
    content = arrays(*sizes) | {"neuron_names": np.array([f"u{i}" for i in range(sizes[2])])}
    squeezed = {key: np.squeeze(value) for key, value in content.items()}
    same(readers.from_arrays(**squeezed, name="day1"), expected(content))


def test_a_lost_dimension_that_could_be_either_is_an_error() -> None:
    with pytest.raises(DataError, match=r"more than one of \(trial, time, neuron\)"):
        readers.from_arrays(np.zeros((4, 5)), bin_ms=1)


def test_spike_times_are_counted() -> None:
    times = [[[0.0, 0.1, 0.3, -0.01], [0.2]], [[], [0.39, 0.4, 5.0]]]
    ds = readers.from_spike_times(times, start_ms=0, stop_ms=0.4, bin_ms=0.1, name="day1", condition=[1, 2])
    assert ds.spikes.values.tolist() == [[[1, 0], [1, 0], [0, 1], [1, 0]], [[0, 0], [0, 0], [0, 0], [0, 1]]]
    np.testing.assert_allclose(ds.time, [0, 0.1, 0.2, 0.3])
    on_edges = [1000 * second for second in (1.001, 1.003, 3600.005)]  # each a little less than whole
    for time in on_edges:
        before = readers.from_spike_times([[[time]]], start_ms=round(time) - 2, stop_ms=round(time), bin_ms=1)
        after = readers.from_spike_times([[[time]]], start_ms=round(time), stop_ms=round(time) + 2, bin_ms=1)
        assert before.spikes.values.ravel().tolist() == [0, 0]
        assert after.spikes.values.ravel().tolist() == [1, 0]
    early = readers.from_spike_times([[[-5.0]], [[4.0]]], start_ms=-10, stop_ms=10, bin_ms=10)
    assert early.time.values.tolist() == [-10, 0]
    assert early.spikes.values.ravel().tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("times", "window", "message"),
    [
        ([[[1.0]]], (0, 10, 3), "not a whole number of bins"),
        ([[[1.0]]], (10, 0, 1), "not a whole number of bins"),
        ([[[1.0], []], [[1.0]]], (0, 10, 1), "trial 1 has 1 neurons"),
        ([[[1.0]], [[float("nan")]]], (0, 10, 1), "trial 1, neuron 0"),
        ([], (0, 10, 1), "no trials"),
    ],
)
def test_wrong_spike_times(times: Any, window: tuple[float, float, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        readers.from_spike_times(times, start_ms=window[0], stop_ms=window[1], bin_ms=window[2])


# The check


def test_check_puts_a_dataset_in_order() -> None:
    content = arrays()
    wanted = expected(content)
    messy = xr.Dataset(
        {"spikes": (("neuron", "trial", "time"), content["spikes"].transpose(2, 0, 1).astype(float))},
        coords={"time": content["time"], "neuron": ["n000", "n001", "n002"]},
    )
    messy["condition"] = ("trial", content["condition"])
    messy["truth"] = (("time", "trial", "neuron"), content["truth"].transpose(1, 0, 2))
    messy["external_input"] = (("trial", "input", "time"), content["external_input"].transpose(0, 2, 1))
    messy["reaction_ms"] = ("trial", np.arange(E_))
    found = form.check(messy, name="day1")
    same(found.drop_vars("reaction_ms"), wanted)
    np.testing.assert_array_equal(found.reaction_ms, np.arange(E_))


def test_check_numbers_trials_and_neurons_anew() -> None:
    some = expected(arrays()).isel(trial=[1, 3], neuron=[2])
    found = form.check(some)
    assert found.trial.values.tolist() == [0, 1]
    assert found.neuron.values.tolist() == [0]
    assert found.neuron_name.values.tolist() == ["n002"]


def test_check_says_what_is_missing() -> None:
    ds = expected(arrays())
    with pytest.raises(DataError, match=r"no variable 'spikes'[\s\S]*truth"):
        form.check(ds.drop_vars("spikes"))
    with pytest.raises(DataError, match=r"dimensions \('trial', 'bin', 'neuron'\)"):
        form.check(xr.Dataset({"spikes": (("trial", "bin", "neuron"), np.zeros((2, 3, 1)))}))


def test_fingerprint_follows_the_content_and_nothing_else() -> None:
    content = arrays()
    first = form.fingerprint(expected(content))
    assert first == form.fingerprint(expected(content, name="other").assign_attrs(subject="monkey"))
    changed = set()
    for key in content:
        other = {k: v.copy() for k, v in content.items()}
        other[key] = other[key] + 1
        changed.add(form.fingerprint(expected(other)))
    no_truth = {key: value for key, value in content.items() if key != "truth"}
    changed.add(form.fingerprint(expected(no_truth)))
    assert len(changed) == 6
    assert first not in changed
    assert len(first) == 64


# Files of our own


@pytest.mark.parametrize("suffix", [".nc", ".h5", ".hdf5", ".H5"])
def test_save_and_read(tmp_path: Path, suffix: str) -> None:
    ds = expected(arrays()).assign(lowd=(("trial", "time", "latent"), np.ones((E_, T_, 3))))
    ds = ds.assign_attrs(
        subject="mönkey", date="2020-02-03", save_tags=[1, 2], note=None, ok=True, more={"a": 1}
    )
    path = readers.save_dataset(ds, tmp_path / "deep" / f"day1{suffix}")
    found = readers.read(path)
    del ds.attrs["note"]
    same(found, ds)
    assert isinstance(found.attrs["bin_ms"], float)
    assert [p.name for p in path.parent.iterdir()] == [path.name], "something was left beside"
    assert form.fingerprint(found) == form.fingerprint(ds)


@pytest.mark.parametrize("values", [-3, 0, 255, 256, 70000, 2**40, 0.25])
def test_saved_counts_are_small_and_exact(tmp_path: Path, values: float) -> None:
    ds = readers.from_arrays(np.full((2, 3, 1), values), bin_ms=1)
    ds.spikes[0, 0, 0] = 1
    found = readers.read(readers.save_dataset(ds, tmp_path / "a.nc"))
    np.testing.assert_array_equal(found.spikes, ds.spikes)
    assert found.spikes.dtype == ds.spikes.dtype


def test_conditions_and_names_survive(tmp_path: Path) -> None:
    for condition in (["left", "", "rechts ü"], [1, 2, 2], [1.0, np.nan, 2.0]):
        ds = readers.from_arrays(
            np.zeros((3, 2, 2)), bin_ms=1, condition=condition, neuron_names=["a", "b é"]
        )
        found = readers.read(readers.save_dataset(ds, tmp_path / "data.h5"))
        same(found, ds)
        assert found.condition.dtype.kind == ds.condition.dtype.kind


def test_save_refuses(tmp_path: Path) -> None:
    ds = expected(arrays())
    with pytest.raises(UsageError, match=r"\.nc, \.h5 or \.hdf5"):
        readers.save_dataset(ds, tmp_path / "day1.mat")
    with pytest.raises(DataError, match="attribute 'odd'"):
        readers.save_dataset(ds.assign_attrs(odd=object()), tmp_path / "day1.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = readers.save_dataset(expected(arrays()), tmp_path / "day1.h5")
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fail)
    with pytest.raises(OSError, match="disk full"):
        readers.save_dataset(expected(arrays()), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_netcdf_of_others(tmp_path: Path) -> None:
    content = arrays()
    for kind in ("NETCDF4", "NETCDF3_64BIT"):
        foreign = xr.Dataset(
            {"spikes": (("neuron", "trial", "time"), content["spikes"].transpose(2, 0, 1).astype("i4"))},
            coords={"time": ("time", content["time"], {"units": "milliseconds"})},
            attrs={"subject": "monkey"},
        )
        foreign.to_netcdf(tmp_path / "day1.nc", engine="netcdf4", format=kind)
        found = readers.read(tmp_path / "day1.nc")
        same(
            found, readers.from_arrays(content["spikes"], time=content["time"], name="day1", subject="monkey")
        )
        assert readers.read_info(tmp_path / "day1.nc") == readers.info_of(found)


# Plain HDF5 and numpy files


def write(path: Path, content: dict[str, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **content)
        return path
    with h5py.File(path, "w") as file:
        for key, value in content.items():
            text = isinstance(value, np.ndarray) and value.dtype.kind == "U"
            file[key] = value.astype(object) if text else value
    return path


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".npz"])
def test_plain_files(tmp_path: Path, suffix: str) -> None:
    content = arrays()
    names = np.array(["a", "b", "c"])
    extra = {"subject": "monkey", "save_tags": np.array([1, 2]), "unrelated": np.arange(3)}
    path = write(tmp_path / f"day1{suffix}", content | {"neuron_names": names} | extra)
    wanted = readers.from_arrays(
        **content, neuron_names=names, name="day1", subject="monkey", save_tags=[1, 2]
    )
    same(readers.read(path), wanted)
    assert readers.read_info(path) == readers.info_of(wanted)


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_plain_files_with_conditions_by_name(tmp_path: Path, suffix: str) -> None:
    content = arrays() | {"condition": np.array(["up", "down"] * 3)}
    path = write(tmp_path / f"day1{suffix}", content)
    same(readers.read(path), expected(content))
    assert readers.read_info(path)["n_conditions"] == 2


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
@pytest.mark.parametrize("sizes", [(E_, T_, 1, 1), (1, T_, D_, 1)])
def test_plain_files_that_lost_dimensions(
    tmp_path: Path, suffix: str, sizes: tuple[int, int, int, int]
) -> None:
    content = arrays(*sizes)
    path = write(tmp_path / f"day1{suffix}", {key: np.squeeze(value) for key, value in content.items()})
    same(readers.read(path), expected(content))
    assert readers.read_info(path)["n_neurons"] == sizes[2]


def test_plain_hdf5_with_attributes_a_group_and_dims(tmp_path: Path) -> None:
    content = arrays()
    path = tmp_path / "day1.h5"
    with h5py.File(path, "w") as file:
        file["other/things"] = 1
        file["session/counts"] = content["spikes"].transpose(2, 1, 0)
        file["session"].attrs["bin_ms"] = 4
        file["session"].attrs["dims"] = "neuron,time,trial"
    found = readers.read(path)
    np.testing.assert_array_equal(found.spikes, content["spikes"])
    info = readers.read_info(path)
    assert (info["n_trials"], info["n_bins"], info["n_neurons"], info["bin_ms"]) == (E_, T_, D_, 4.0)


def test_the_bin_width_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "day1.h5", {"spikes": arrays()["spikes"]})
    with pytest.raises(DataError, match=r"width of the bins is not known[\s\S]*day1\.h5"):
        readers.read(path)
    assert readers.read(path, bin_ms=7).attrs["bin_ms"] == 7


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_flat_spike_times(tmp_path: Path, suffix: str) -> None:
    content = {
        "spike_times": np.array([0.0, 12, 3, 19]),
        "spike_trial": np.array([1, 0, 1, 0]),
        "spike_neuron": np.array([0, 1, 0, 1]),
        "condition": np.array([5, 6, 7]),
        "n_neurons": 2,
        "start_ms": 0,
        "stop_ms": 20,
        "bin_ms": 10,
    }
    found = readers.read(write(tmp_path / f"day1{suffix}", content))
    wanted = [[[0, 0], [0, 2]], [[2, 0], [0, 0]], [[0, 0], [0, 0]]]
    assert found.spikes.values.tolist() == wanted
    assert found.condition.values.tolist() == [5, 6, 7]
    for change, message in (
        ({"spike_trial": np.array([1, 0, 3, 0])}, "spike_trial goes from 0 to 3"),
        ({"spike_trial": np.array([1, 0])}, "unequal lengths"),
    ):
        with pytest.raises(DataError, match=message):
            readers.read(write(tmp_path / f"bad{suffix}", content | change))
    for left_out, message in (("n_neurons", "do not tell n_neurons"), ("stop_ms", "need stop_ms")):
        with pytest.raises(DataError, match=message):
            readers.read(
                write(tmp_path / f"bad{suffix}", {k: v for k, v in content.items() if k != left_out})
            )


# LFADS input files


def lfads_content(**others: Any) -> tuple[dict[str, Array], dict[str, Any]]:
    content = arrays(n_trials=10)
    del content["time"]
    valid = np.array([0, 5])
    train = np.setdiff1d(np.arange(10), valid)
    out: dict[str, Any] = {}
    for part, inds in (("train", train), ("valid", valid)):
        out[f"{part}_inds"] = inds + 1.0
        for key, name in (("spikes", "data"), ("truth", "truth"), ("external_input", "ext_input")):
            out[f"{part}_{name}"] = content[key][inds]
        out[f"{part}_condition"] = content["condition"][inds]
    return content, out | {"conversion_factor": np.array([0.004])} | others


def test_lfads_inputs_come_back_in_trial_order(tmp_path: Path) -> None:
    content, stored = lfads_content()
    path = write(tmp_path / "day1.h5", stored)
    wanted = readers.from_arrays(**content, bin_ms=4, name="day1")
    found = readers.read(path)
    assert [i for i, part in enumerate(found.given_split.values) if part == "valid"] == [0, 5]
    same(found.drop_vars("given_split"), wanted)
    assert readers.read_info(path) == readers.info_of(wanted)


def test_lfads_inputs_count_from_zero_too(tmp_path: Path) -> None:
    content, stored = lfads_content()
    stored |= {key: stored[key] - 1 for key in ("train_inds", "valid_inds")}
    np.testing.assert_array_equal(readers.read(write(tmp_path / "a.h5", stored)).spikes, content["spikes"])


def test_lfads_truth_follows_the_conversion_factor(tmp_path: Path) -> None:
    """Truth x conversion_factor is counts a bin; with a factor of 1 the bin width must be given."""
    content, stored = lfads_content(conversion_factor=np.array([1.0]))
    path = write(tmp_path / "a.h5", stored)
    with pytest.raises(DataError, match="width of the bins"):
        readers.read(path)
    np.testing.assert_allclose(readers.read(path, bin_ms=4).truth, content["truth"] / 0.004)
    single = write(tmp_path / "b.h5", stored | {"conversion_factor": np.float32(0.004)})
    assert readers.read(single).attrs["bin_ms"] == 4.0


def test_lfads_inputs_that_do_not_go_together(tmp_path: Path) -> None:
    _, stored = lfads_content()
    for change, message in (
        ({"valid_inds": np.array([1.0, 2.0])}, "name 9 trials, the data have 10"),
        ({"valid_data": np.zeros((2, T_ + 1, D_))}, "train_data and valid_data do not go together"),
    ):
        with pytest.raises(DataError, match=message):
            readers.read(write(tmp_path / "bad.h5", stored | change))
    del stored["valid_truth"]
    with pytest.raises(DataError, match="train_truth and valid_truth"):
        readers.read(write(tmp_path / "bad.h5", stored))


def test_the_shared_lorenz_benchmark() -> None:
    path = SHARED / "lorenz" / "lfads_lorenz.h5"
    if not path.is_file():
        pytest.skip(f"no {path}")
    ds = readers.read(path, bin_ms=10)
    assert dict(ds.sizes) == {"trial": 800, "time": 100, "neuron": 60, "latent": 3}
    assert 1.7 < float(ds.truth.mean()) < 1.9
    assert abs(float(ds.spikes.mean()) / 0.01 / float(ds.truth.mean()) - 1) < 0.02


# Matlab


def matlab_fields(content: dict[str, Array]) -> dict[str, Any]:
    """Return fields as the Matlab run manager's demo writes them: (trial, neuron, time), columns, doubles."""
    return {
        "spikes": content["spikes"].transpose(0, 2, 1).astype(float),
        "true_rates": content["truth"].transpose(0, 2, 1),
        "externalInputs": content["external_input"].transpose(0, 2, 1),
        "timeMs": content["time"][:, None],
        "conditionId": content["condition"][:, None].astype(float),
        "subject": "lorenz_example",
    }


both = pytest.mark.parametrize("version", ["5", "7.3"])


@both
@pytest.mark.parametrize("struct", [False, True])
def test_matlab_files(tmp_path: Path, version: str, struct: bool) -> None:
    content = arrays()
    fields = matlab_fields(content) | {"unrelated": np.ones((2, 2))}
    path = save_mat(tmp_path / "day1.mat", {"data": fields} if struct else fields, version)
    same(readers.read(path), expected(content).assign_attrs(subject="lorenz_example"))
    assert readers.read_info(path)["n_trials"] == E_


def test_the_imitated_file_is_reversed_as_h5py_sees_it(tmp_path: Path) -> None:
    path = save_mat(tmp_path / "day1.mat", matlab_fields(arrays()), "7.3")
    with h5py.File(path) as file:
        assert file["spikes"].shape == (T_, D_, E_)
    assert path.read_bytes()[:19] == b"MATLAB 7.3 MAT-file"


@both
@pytest.mark.parametrize(
    "sizes", [(E_, T_, 1, 1), (1, T_, D_, 1), (E_, T_, D_, 1), (1, T_, 1, 1), (E_, 1, D_, 1)]
)
def test_matlab_files_that_lost_dimensions(
    tmp_path: Path, version: str, sizes: tuple[int, int, int, int]
) -> None:
    """Matlab drops dimensions of size 1 at the end, `squeeze` everywhere; at least two remain."""
    content = arrays(*sizes)
    fields = matlab_fields(content) | {"bin_ms": np.array([[4.0]])}
    for key in ("spikes", "true_rates", "externalInputs"):
        value = np.squeeze(fields[key])
        fields[key] = value if value.ndim >= 2 else value.reshape(-1, 1)
    same(readers.read(save_mat(tmp_path / "day1.mat", fields, version)), expected(content | {"bin_ms": 4.0}))


@both
def test_matlab_files_in_another_order(tmp_path: Path, version: str) -> None:
    content = arrays()
    fields = {
        "spikes": content["spikes"].astype(float),
        "time": content["time"][None],
        "dims": "trial,time,neuron",
    }
    found = readers.read(save_mat(tmp_path / "day1.mat", fields, version))
    np.testing.assert_array_equal(found.spikes, content["spikes"])
    del fields["dims"]
    with pytest.raises(DataError, match="time has shape"):
        readers.read(save_mat(tmp_path / "day1.mat", fields, version))


@both
def test_matlab_cells(tmp_path: Path, version: str) -> None:
    content = arrays()
    fields = matlab_fields(content)
    fields["spikes"] = cell([trial.T.astype(float) for trial in content["spikes"]], (E_, 1))
    fields["conditionId"] = cell(["up", "down"] * 3, (E_, 1))
    wanted = expected(content | {"condition": np.array(["up", "down"] * 3)})
    same(readers.read(save_mat(tmp_path / "day1.mat", fields, version)), wanted)
    fields["spikes"][2, 0] = np.zeros((D_, T_ + 2))
    with pytest.raises(DataError, match=r"unequal lengths: spikes of trial 2[\s\S]*bad\.mat"):
        readers.read(save_mat(tmp_path / "bad.mat", fields, version))


@both
def test_matlab_spike_times(tmp_path: Path, version: str) -> None:
    window = {"start_ms": np.array([[0.0]]), "stop_ms": np.array([[20.0]]), "bin_ms": np.array([[10.0]])}
    wanted = [[[0, 0], [0, 2]], [[2, 0], [0, 0]], [[0, 0], [0, 0]]]
    none = np.zeros((0, 0))
    cells = [none, np.array([[12.0, 19.0]]), np.array([[0.0], [3.0]]), none, none, none]
    fields = window | {"spike_times": cell(cells, (3, 2))}
    found = readers.read(save_mat(tmp_path / "cells.mat", fields, version))
    assert found.spikes.values.tolist() == wanted
    flat = {
        "spike_times": [[0.0, 12, 3, 19]],
        "spike_trial": [[2.0, 1, 2, 1]],
        "spike_neuron": [[1.0, 2, 1, 2]],
    }
    sizes = {"n_trials": np.array([[3.0]]), "n_neurons": np.array([[2.0]])}
    fields = window | {key: np.array(value) for key, value in flat.items()} | sizes
    found = readers.read(save_mat(tmp_path / "flat.mat", fields, version))
    assert found.spikes.values.tolist() == wanted, "spike_trial and spike_neuron count from 1 in Matlab"


@both
def test_matlab_spike_times_of_few_neurons_in_many_bins(tmp_path: Path, version: str) -> None:
    """Sizes that differ, so that bins and neurons cannot change places; two of them alike as well."""
    rng = np.random.default_rng(0)
    for n_neurons in (3, 8):
        times = [[np.sort(rng.uniform(0, 80, 6)) for _ in range(n_neurons)] for _ in range(4)]
        wanted = readers.from_spike_times(times, start_ms=0, stop_ms=80, bin_ms=10).spikes
        assert wanted.values[2, :, 1].tolist() == np.histogram(times[2][1], np.arange(0, 81, 10))[0].tolist()
        cells = cell([one for trial in times for one in trial], (4, n_neurons))
        truth = rng.random((4, n_neurons, 8))
        path = save_mat(tmp_path / f"{n_neurons}.mat", {"spike_times": cells, "truth": truth}, version)
        found = readers.read(path, start_ms=0, stop_ms=80, bin_ms=10)
        np.testing.assert_array_equal(found.spikes, wanted)
        np.testing.assert_array_equal(found.truth, truth.transpose(0, 2, 1))
        flat = [(t, k + 1.0, i + 1.0) for k in range(4) for i in range(n_neurons) for t in times[k][i]]
        vectors = dict(zip(("spike_times", "spike_trial", "spike_neuron"), np.array(flat).T, strict=True))
        sizes = {"n_trials": 4.0, "n_neurons": float(n_neurons)}
        path = save_mat(tmp_path / f"flat{n_neurons}.mat", {**vectors, **sizes}, version)
        np.testing.assert_array_equal(readers.read(path, start_ms=0, stop_ms=80, bin_ms=10).spikes, wanted)


@both
def test_times_in_seconds_are_not_taken_for_ms(tmp_path: Path, version: str) -> None:
    fields = {"spikes": np.ones((4, 3, 50)), "time": 0.01 * np.arange(-10.0, 40)[None, :]}
    path = save_mat(tmp_path / "day1.mat", fields, version)
    with pytest.raises(DataError, match=r"bins are 0\.01 ms wide[\s\S]*time_unit = 's'"):
        readers.read(path)
    ds = readers.read(path, time_unit="s")
    assert ds.attrs["bin_ms"] == 10
    np.testing.assert_allclose(ds.time, 10 * np.arange(-10, 40))


@both
def test_matlab_nan_is_named(tmp_path: Path, version: str) -> None:
    fields = matlab_fields(arrays())
    fields["spikes"][3, 2, 4] = np.nan
    with pytest.raises(DataError, match=r"spikes is nan at trial 3, bin 4, neuron 2[\s\S]*day1"):
        readers.read(save_mat(tmp_path / "day1.mat", fields, version))


def test_files_made_by_the_run_manager_are_not_datasets(tmp_path: Path) -> None:
    savemat(tmp_path / "inputInfo_a.mat", {"counts": np.zeros((3, 5, 6)), "paramInputDataHash": "abc"})
    with pytest.raises(DataError, match="inputInfo file"):
        readers.read(tmp_path / "inputInfo_a.mat")


# What cannot be read


@pytest.mark.parametrize("suffix", [".nc", ".h5", ".npz", ".mat"])
@pytest.mark.parametrize("content", [b"", b"garbage " * 100])
def test_damaged_files(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"day1{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"cannot be read[\s\S]*day1\{suffix}"):
        readers.read(path)
    with pytest.raises(DataError, match="cannot be read"):
        readers.read_info(path)


def test_a_cut_off_file(tmp_path: Path) -> None:
    whole = readers.save_dataset(expected(arrays()), tmp_path / "whole.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        readers.read(tmp_path / "cut.h5")


def test_python_objects_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "day1.npz", spikes=cell([np.zeros((3, 2))] * 2, (2,)))
    with pytest.raises(DataError, match="`spikes` holds Python objects"):
        readers.read(tmp_path / "day1.npz")


def test_unknown_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file") as error:
        readers.read(tmp_path / "day1.h5")
    assert str(error.value).count("day1.h5") == 1
    with pytest.raises(DataError, match=r"'\.txt' cannot be read[\s\S]*\.nc, \.h5, \.hdf5, \.npz, \.mat"):
        readers.read(tmp_path / "day1.txt")
    path = write(tmp_path / "empty.h5", {"other": np.zeros(3)})
    with pytest.raises(DataError, match="no spikes"):
        readers.read(path)


def test_a_format_can_be_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "REGISTERED", {})

    def read_text(path: Path, bin_ms: float | None) -> xr.Dataset:
        return readers.from_arrays(np.loadtxt(path)[:, :, None], bin_ms=bin_ms or 5)

    readers.register(readers.Reader(read_text), ".txt")
    (tmp_path / "day1.txt").write_text("1 0 2\n0 1 0\n")
    found = readers.read(tmp_path / "day1.txt")
    assert found.attrs["name"] == "day1"
    assert found.spikes.values[:, :, 0].tolist() == [[1, 0, 2], [0, 1, 0]]
    assert ".txt" in readers.readable_suffixes()
    assert readers.read_info(tmp_path / "day1.txt")["n_bins"] == 3
    with pytest.raises(UsageError, match="not a suffix"):
        readers.register(readers.Reader(read_text), "txt")
