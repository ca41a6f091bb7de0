"""Reading parts of arrays in files that are open only meanwhile."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.results.arrays import stored as stored_arrays
from lfadsrm_hpc.results.arrays.stored import Source, StoredArray, lazy
from lfadsrm_hpc.results.posterior_means.loaders import of_split, open_posterior_means

SHAPE, CHUNKS = (23, 12, 7), (5, 12, 3)


def stored(path: Path, values: Any, chunks: tuple[int, ...] | None) -> Source:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, chunks=chunks)
    return Source.of(path)


def part_of(size: int) -> st.SearchStrategy[Any]:
    places = st.integers(-size, size - 1)
    # xarray itself fails at those that go backwards and select nothing
    slices = st.slices(size).filter(lambda one: (one.step or 1) > 0 or len(range(size)[one]) > 0)
    arrays = st.lists(places, min_size=0, max_size=2 * size).map(lambda v: np.array(v, dtype=int))
    return st.one_of(places, slices, arrays)


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, xr.Variable]]:
    folder = tmp_path_factory.mktemp("arrays")
    values = np.random.default_rng(0).random(SHAPE)
    found = {}
    for name, chunks in (("chunked", CHUNKS), ("whole", None)):
        source = stored(folder / f"{name}.h5", values, chunks)
        array = StoredArray(source, "x", SHAPE, values.dtype)
        found[name] = values, xr.Variable(("trial", "time", "neuron"), lazy(array))
    return found


@pytest.mark.parametrize("kind", ["chunked", "whole"])
@given(key=st.tuples(*(part_of(size) for size in SHAPE)))
@settings(deadline=None, max_examples=150)
def test_any_part_is_what_numpy_selects(variables: Any, kind: str, key: Any) -> None:
    values, variable = variables[kind]
    expected = values
    for axis, one in reversed(list(enumerate(key))):  # each axis by itself
        expected = expected[(slice(None),) * axis + (one,)]
    assert np.array_equal(variable[key].to_numpy(), expected), f"{key}"


def test_a_selection_of_a_selection(variables: Any) -> None:
    values, variable = variables["chunked"]
    twice = variable[{"trial": [1, 4, 9, 20]}][{"trial": slice(1, 3), "neuron": 2}]
    np.testing.assert_array_equal(twice.to_numpy(), values[[4, 9], :, 2])
    points = variable[{"trial": xr.Variable("point", [3, 3]), "time": xr.Variable("point", [1, 2])}]
    np.testing.assert_array_equal(points.to_numpy(), values[[3, 3], [1, 2]])


def test_a_loop_over_trials_unpacks_each_chunk_once(tmp_path: Path) -> None:
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    source = stored(tmp_path / "x.h5", values, CHUNKS)
    variable = xr.Variable(("trial", "time", "neuron"), lazy(StoredArray(source, "x", SHAPE, int)))
    read: list[Any] = []
    real = stored_arrays._part

    def noted(dataset: Any, key: Any) -> Any:
        read.append(key)
        return real(dataset, key)

    with mock.patch.object(stored_arrays, "_part", noted):
        for trial in range(SHAPE[0]):
            found = variable[trial].to_numpy()
            found += 1  # nobody else's
            np.testing.assert_array_equal(variable[trial].to_numpy(), values[trial])
    assert len(read) == 5  # chunks of 5 trials


def test_a_large_row_of_chunks_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_arrays, "_MOST_KEPT_BYTES", 100)
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    source = stored(tmp_path / "x.h5", values, CHUNKS)
    np.testing.assert_array_equal(source.read("x", (7, slice(None), slice(None))), values[7])
    assert not [key for key in stored_arrays._kept.blocks if key[0] == source]


# ---------------------------------------------------------------- files that change or are in use


def test_a_file_that_was_replaced_is_not_mixed_with_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    source = stored(path, np.zeros(SHAPE), CHUNKS)
    assert source.read("x", (0, 0, 0)) == 0
    stored(tmp_path / "new.h5", np.ones(SHAPE), CHUNKS)
    (tmp_path / "new.h5").replace(path)
    with pytest.raises(ResultsError, match="was replaced since it was opened"):
        source.read("x", (slice(None), 0, 0))
    path.unlink()
    with pytest.raises(ResultsError, match="gone since it was opened"):
        source.read("x", (slice(None), 0, 0))


def test_a_file_that_is_damaged_later_is_a_plain_error(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    source = stored(path, np.random.default_rng(0).random(SHAPE), CHUNKS)
    with path.open("r+b") as file:
        file.truncate(source.stamp.size // 2)
    source = Source.of(path)
    with pytest.raises(ResultsError, match="x cannot be read"):
        source.read("x", (slice(None), 0, 0))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_stays_open(tmp_path: Path) -> None:
    source = stored(tmp_path / "x.h5", np.zeros(SHAPE), CHUNKS)
    before = descriptors()
    for _ in range(3):
        source.read("x", (slice(None), 0, 0))
    assert descriptors() == before


def test_others_may_have_the_file_open_in_their_own_way(tmp_path: Path) -> None:
    source = stored(tmp_path / "x.h5", np.ones(SHAPE), CHUNKS)
    for options in ({}, {"locking": True}, {"locking": False}):
        with h5py.File(tmp_path / "x.h5", **options):
            assert source.read("x", (slice(None), 0, 0)).sum() == SHAPE[0]
    with netCDF4.Dataset(tmp_path / "x.h5"):
        assert source.read("x", (slice(None), 0, 0)).sum() == SHAPE[0]


# ---------------------------------------------------------------- posterior means


@pytest.fixture
def means_file(sweep: Any) -> Path:
    path: Path = sweep.runs[0].layout.posterior_means("day1")
    return path


def test_a_file_reads_as_with_xarray_s_own_backend(means_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    path.write_bytes(means_file.read_bytes())
    with netCDF4.Dataset(path, "a") as file:  # what datasets may carry along
        file.createDimension("axis", 2)
        for name, kind, dims in (
            ("window_start", "f8", ("trial",)),
            ("recording", str, ("trial",)),
            ("hand", "f4", ("trial", "time", "axis")),
        ):
            variable = file.createVariable(name, kind, dims)
            variable.setncatts({"units": "ms", "long_name": f"the {name}"})
        file["window_start"][:] = np.arange(20) * 100.0
        file["recording"][:] = np.array([f"r{k}" for k in range(20)], dtype=object)
        file["hand"][:] = np.random.default_rng(0).random((20, 10, 2))
    ours = open_posterior_means(path)
    with xr.open_dataset(path, engine="netcdf4", decode_times=False) as theirs:
        assert set(ours.variables) == set(theirs.variables)
        for name in theirs.variables:
            assert ours[name].dims == theirs[name].dims, name
            assert ours[name].attrs == theirs[name].attrs, name
            np.testing.assert_array_equal(ours[name].values, theirs[name].values, err_msg=str(name))
            if ours[name].dtype != object:  # texts
                assert ours[name].dtype == theirs[name].dtype, name
        assert {k: np.asarray(v).item() for k, v in ours.attrs.items()} == {
            k: np.asarray(v).item() for k, v in theirs.attrs.items()
        }
        assert ours.rates.encoding["chunksizes"] == theirs.rates.encoding["chunksizes"]
    assert {"window_start", "recording"} < set(ours.coords)
    assert "hand" in ours.data_vars
    ours.to_netcdf(tmp_path / "again.nc")
    with netCDF4.Dataset(tmp_path / "again.nc") as again:
        assert again["rates"].filters()["zlib"]


def test_datasets_go_to_other_processes(means_file: Path) -> None:
    means = open_posterior_means(means_file)
    again = pickle.loads(pickle.dumps(means))
    assert not again.rates.variable._in_memory
    xr.testing.assert_identical(again.load(), means.load())


def test_a_forked_process_reads_for_itself(means_file: Path) -> None:
    means = open_posterior_means(means_file, cache=False)
    expected = float(means.rates.sel(trial=3).sum())
    with stored_arrays._kept.lock:  # a thread that the child does not have
        child = os.fork()
        if child == 0:
            os._exit(0 if float(means.rates.sel(trial=3).sum()) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_splits_are_selected_without_reading(means_file: Path) -> None:
    means = open_posterior_means(means_file)
    valid = of_split(means, "valid")
    assert valid.sizes["trial"] == 4
    assert set(valid.split.values) == {"valid"}
    assert not valid.rates.variable._in_memory
    np.testing.assert_array_equal(valid.rates, means.rates.values[means.split.values == "valid"])
    with pytest.raises(ResultsError, match="no trial of the split 'new'"):
        of_split(means, "new")
