"""netCDF files, and xarray objects in memory, with the variables of the in-memory form under any names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lfadsrm_hpc.beside import appearing
from lfadsrm_hpc.data.form import SPIKE_DIMS, check
from lfadsrm_hpc.data.formats import option_values
from lfadsrm_hpc.data.formats.registry import Reader
from lfadsrm_hpc.errors import DataError, UsageError, suggest

SUFFIXES = (".nc", ".h5", ".hdf5")
_MS = {
    name: factor
    for names, factor in (
        ("ms msec millisecond milliseconds", 1.0),
        ("s sec second seconds", 1000.0),
        ("us µs μs usec microsecond microseconds", 1e-3),
        ("ns nsec nanosecond nanoseconds", 1e-6),
        ("min minute minutes", 6e4),
        ("h hour hours", 3.6e6),
        ("d day days", 8.64e7),
    )
    for name in names.split()
}  # xarray writes timedelta64 in the widest unit in which all are whole


def read(path: Path, bin_ms: float | None, *, rename: Mapping[str, str] | None = None) -> xr.Dataset:
    """Read a netCDF file.

    Parameters
    ----------
    path : Path
    bin_ms : float or None
        Takes the place of what the file says.
    rename : mapping, optional
        Names in the file -> the names of the in-memory form, of variables and dimensions.
    """
    with xr.open_dataset(path, engine="netcdf4", decode_times=False) as lazy:
        ds = _renamed(lazy, rename).load()
    attrs = {key: from_attribute(key, value) for key, value in ds.attrs.items()}
    ds.attrs = attrs | ({} if bin_ms is None else {"bin_ms": bin_ms})
    return _in_ms(ds)


def info(
    path: Path, *, bin_ms: float | None = None, rename: Mapping[str, str] | None = None
) -> dict[str, Any] | None:
    """Return what describes a session without reading its spikes, or None."""
    with xr.open_dataset(path, engine="netcdf4", decode_times=False) as lazy:
        ds = _renamed(lazy, rename)
        width = bin_ms if bin_ms is not None else ds.attrs.get("bin_ms")
        if "spikes" not in ds or width is None or set(ds["spikes"].dims) != set(SPIKE_DIMS):
            return None
        attrs = {key: from_attribute(key, value) for key, value in ds.attrs.items()}
        condition = ds["condition"].to_numpy() if "condition" in ds.variables else None
        sizes = {dim: int(ds.sizes[dim]) for dim in SPIKE_DIMS}
    return {"sizes": sizes, "condition": condition, "attrs": attrs, "bin_ms": float(np.ravel(width)[0])}


READER = Reader(read, info)


def from_xarray(
    data: xr.Dataset | xr.DataArray,
    *,
    name: str = "data",
    bin_ms: float | None = None,
    rename: Mapping[str, str] | None = None,
) -> xr.Dataset:
    """Make a dataset from an xarray object in memory.

    Parameters
    ----------
    data : xr.Dataset or xr.DataArray
        A DataArray is taken as the spikes. Times of the type timedelta64, or with the units "s", become ms.
    name : str
    bin_ms : float, optional
        Width of a bin in ms, where neither `time` nor the attribute `bin_ms` says it.
    rename : mapping, optional
        Its names -> the names of the in-memory form: `spikes`, `condition`, `trial`, `time`, `neuron`, ...

    Raises
    ------
    DataError
        It cannot be brought into the form.
    UsageError
        It is no xarray object, or `rename` names what is not there.

    Examples
    --------
    >>> counts = xr.DataArray(np.ones((3, 4, 2)), dims=("epoch", "t", "unit"))
    >>> ds = from_xarray(counts, bin_ms=5, rename={"epoch": "trial", "t": "time", "unit": "neuron"})
    >>> dict(ds.sizes)
    {'trial': 3, 'time': 4, 'neuron': 2}
    """
    if isinstance(data, xr.DataArray):
        own = "spikes" if data.name is None else str(data.name)
        data = data.to_dataset(name=own)
        rename = {**({own: "spikes"} if own != "spikes" else {}), **(rename or {})}
    if not isinstance(data, xr.Dataset):
        raise UsageError(
            f"this is a {type(data).__name__}, no xarray object",
            hint="give an xr.Dataset or an xr.DataArray; arrays: from_arrays",
        )
    ds = _renamed(data, rename).load()
    if bin_ms is not None:
        ds = ds.assign_attrs(bin_ms=bin_ms)
    return check(_in_ms(_without_levels(ds)), name=name)


def _renamed(ds: xr.Dataset, rename: Mapping[str, str] | None) -> xr.Dataset:
    """Give variables and dimensions our names."""
    if not rename:
        return ds
    wanted = option_values.text_table("rename", rename)
    there = [str(name) for name in {**ds.variables, **ds.sizes}]
    for name in wanted:
        if name not in there:
            raise DataError(
                f"there is no variable or dimension {name!r}",
                hint=suggest(name, there) or f"there is: {', '.join(there)}",
            )
    for name in set(wanted.values()) & set(there) - set(wanted):
        raise DataError(
            f"rename gives the name {name!r}, which another variable has", hint="rename that one too"
        )
    renamed: xr.Dataset = ds.rename(wanted)
    return renamed


def _without_levels(ds: xr.Dataset) -> xr.Dataset:
    """Turn indices of several levels, which no file holds, into plain coordinates."""
    several = [name for name, index in ds.xindexes.items() if len(ds.xindexes.get_all_coords(name)) > 1]
    return ds.reset_index(several) if several else ds


def _in_ms(ds: xr.Dataset) -> xr.Dataset:
    if "time" not in ds.coords:
        return ds
    time = ds["time"]
    if time.dtype.kind == "m":
        counted: xr.Dataset = ds.assign_coords(time=time.to_numpy() / np.timedelta64(1, "ms"))
        return counted
    if time.dtype.kind == "M":
        raise DataError("time holds dates", hint="give ms from an event, such as ds.assign_coords(time=...)")
    units = str(time.attrs.get("units", "")).strip().lower()
    if units and units not in _MS:
        raise DataError(
            f"time has the units {units!r}", hint="give ms, or s, and say so in the attribute 'units' of time"
        )
    # divided where that is exact: 300 us are 0.3 ms, and 300 times 0.001 is not
    factor = _MS.get(units, 1.0)
    values = time.to_numpy().astype(float)
    timed: xr.Dataset = ds.assign_coords(time=values * factor if factor >= 1 else values / round(1 / factor))
    return timed


# --- writing


def save_dataset(ds: xr.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write a dataset as netCDF-4, which is HDF5, compressed; `read` gives it back.

    Written beside the place, flushed to disk and renamed, so that a file is complete or not there.

    Parameters
    ----------
    ds : xr.Dataset
        In the in-memory form; it is checked first.
    path : path ending in .nc, .h5 or .hdf5
        An existing file is replaced. Missing folders are made.

    Raises
    ------
    UsageError
        Another suffix.
    DataError
        The data, or an attribute, cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path.name!r} is not a name for a netCDF file", hint="end it in .nc, .h5 or .hdf5")
    out = check(ds, name=path.stem)
    out.attrs = {key: _to_attribute(key, v, path.stem) for key, v in out.attrs.items() if v is not None}
    encoding: dict[str, dict[str, Any]] = {}
    for key, variable in out.data_vars.items():
        if variable.dtype.kind in "iuf" and variable.size:
            encoding[str(key)] = {"zlib": True, "complevel": 2, "shuffle": True, "_FillValue": None}
    encoding["spikes"]["dtype"] = _smallest(out["spikes"].to_numpy())
    with appearing(path) as beside:
        out.to_netcdf(beside, engine="netcdf4", format="NETCDF4", encoding=encoding)
    return path


def _smallest(values: Any) -> str:
    """Return the name of the smallest integer type that holds all values."""
    if values.dtype.kind == "f":
        return str(values.dtype)
    return str(np.result_type(np.min_scalar_type(values.min()), np.min_scalar_type(values.max())))


def _to_attribute(key: str, value: Any, name: str) -> Any:
    """Return a value that netCDF can hold."""
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, (str, int, float, np.number, np.ndarray)):
        return value
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value)
    raise DataError(
        f"the attribute {key!r} of dataset {name!r} is a {type(value).__name__}, which cannot be written",
        hint="use text, numbers or lists",
    )


def from_attribute(key: str, value: Any) -> Any:
    """Return an attribute of a file as it was before it was written."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    return [value] if key == "save_tags" and not isinstance(value, list) else value
