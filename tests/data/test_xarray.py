"""xarray objects in memory, and netCDF files with names of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lfadsrm_hpc.data import readers
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.errors import DataError, UsageError

RENAME = {"epoch": "trial", "t": "time", "unit": "neuron", "stim": "condition"}


def counts() -> Any:
    return np.random.default_rng(0).poisson(1.0, (6, 5, 3))


def foreign(**time: Any) -> xr.DataArray:
    """Return counts as somebody else has them: other names, another order, times in seconds."""
    made: xr.DataArray = xr.DataArray(
        counts().transpose(2, 0, 1).astype(np.int16),
        dims=("unit", "epoch", "t"),
        coords={
            "t": ("t", -0.1 + 0.02 * np.arange(5), {"units": "s"}),
            "unit": ["u1", "u2", "u3"],
            "stim": ("epoch", ["a", "b"] * 3),
        },
    ).assign_coords(**time)
    return made


def test_a_data_array(tmp_path: Path) -> None:
    dc = DatasetCollection(tmp_path)
    ds = Dataset.from_xarray(dc, "day1", foreign(), rename=RENAME).load()
    np.testing.assert_array_equal(ds.spikes, counts())
    np.testing.assert_allclose(ds.time, [-100, -80, -60, -40, -20])
    assert ds.attrs["bin_ms"] == pytest.approx(20)
    assert ds.neuron_name.values.tolist() == ["u1", "u2", "u3"]
    assert ds.condition.values.tolist() == ["a", "b"] * 3
    assert dc["day1"].source()["kind"] == "arrays"
    named = readers.from_xarray(foreign().rename("rates"), rename=RENAME)
    np.testing.assert_array_equal(named.spikes, counts())


def test_a_dataset_with_other_variables() -> None:
    data = foreign().to_dataset(name="n").assign(pos=(("epoch", "t", "xy"), np.ones((6, 5, 2))), note="x")
    ds = readers.from_xarray(data, rename={**RENAME, "n": "spikes"})
    assert ds.pos.dims == ("trial", "time", "xy")
    np.testing.assert_array_equal(ds.spikes, counts())


def test_times_of_numpy_and_indices_of_several_levels() -> None:
    steps = pd.to_timedelta(-100 + 20 * np.arange(5), unit="ms")
    ds = readers.from_xarray(foreign(t=steps), rename=RENAME)
    assert ds.time.values.tolist() == [-100, -80, -60, -40, -20]
    levels = pd.MultiIndex.from_product([["a", "b"], [1, 2, 3]], names=["side", "repeat"])
    several = (
        foreign().drop_vars("stim").assign_coords(xr.Coordinates.from_pandas_multiindex(levels, "epoch"))
    )
    ds = readers.from_xarray(several, rename={key: name for key, name in RENAME.items() if key != "stim"})
    assert ds.side.values.tolist() == ["a"] * 3 + ["b"] * 3
    dates = pd.date_range("2020-01-01", periods=5, freq="20ms")
    with pytest.raises(DataError, match="time holds dates"):
        readers.from_xarray(foreign(t=dates), rename=RENAME)


def test_what_is_given_is_not_changed() -> None:
    data = foreign()
    ds = readers.from_xarray(data, rename=RENAME)
    ds.spikes[:] = 0
    np.testing.assert_array_equal(data.values, counts().transpose(2, 0, 1))


def test_a_netcdf_file_with_other_names(tmp_path: Path) -> None:
    path = tmp_path / "day1.nc"
    foreign().to_dataset(name="n").to_netcdf(path)
    rename = {**RENAME, "n": "spikes"}
    ds = readers.read(path, rename=rename)
    np.testing.assert_array_equal(ds.spikes, counts())
    np.testing.assert_allclose(ds.time, [-100, -80, -60, -40, -20])
    assert readers.read_info(path, rename=rename) == readers.info_of(ds)
    assert readers.read_info(path, rename=rename, bin_ms=20)["n_conditions"] == 2
    with pytest.raises(DataError, match=r"no variable or dimension 'units'[\s\S]*did you mean 'unit'"):
        readers.read(path, rename={"units": "neuron"})


@pytest.mark.parametrize(
    ("step", "unit", "bin_ms"), [(500, "us", 0.5), (20, "ms", 20), (1, "s", 1000), (300, "us", 0.3)]
)
def test_times_of_numpy_in_a_file(tmp_path: Path, step: int, unit: Any, bin_ms: float) -> None:
    """xarray stores them as numbers in the unit that fits."""
    steps = np.arange(5) * np.timedelta64(step, unit)
    foreign(t=steps).to_dataset(name="n").to_netcdf(tmp_path / "day1.nc")
    ds = readers.read(tmp_path / "day1.nc", rename={**RENAME, "n": "spikes"})
    assert ds.attrs["bin_ms"] == bin_ms
    np.testing.assert_allclose(ds.time, bin_ms * np.arange(5))


def test_units_of_time() -> None:
    ds = readers.from_xarray(foreign(t=("t", 500.0 * np.arange(5), {"units": "us"})), rename=RENAME)
    assert ds.attrs["bin_ms"] == 0.5
    with pytest.raises(DataError, match="time has the units 'frames'"):
        readers.from_xarray(foreign(t=("t", np.arange(5.0), {"units": "frames"})), rename=RENAME)


@pytest.mark.parametrize(
    ("data", "rename", "error", "message"),
    [
        (np.ones((2, 3, 4)), {}, UsageError, "no xarray object"),
        (foreign(), {"unit": "neuron"}, DataError, "dimensions"),
        (
            foreign(),
            {**RENAME, "unit": "epoch"},
            DataError,
            "cannot be renamed|which another variable has|epoch",
        ),
        (foreign(), {"stim": 3}, UsageError, "not a text"),
        (foreign().to_dataset(name="n"), RENAME, DataError, "no variable 'spikes'"),
    ],
)
def test_what_cannot_be(data: Any, rename: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        readers.from_xarray(data, rename=rename, bin_ms=20)
