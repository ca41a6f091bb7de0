"""Files of spike counts or spike times -> the one in-memory form (`lfadsrm_hpc.data.form`).

| suffix | what |
|---|---|
| `.nc` | netCDF with the variables of the in-memory form, by `save_dataset` or others |
| `.h5`, `.hdf5` | the same (netCDF-4 is HDF5), or plain HDF5, or an LFADS input file |
| `.npz` | arrays of numpy, no Python objects |
| `.mat` | Matlab v5 to v7.3 |

The names that are understood in plain files are listed in `lfadsrm_hpc.data.fields`. Another format is added
by `register`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from lfadsrm_hpc.data.arrays import from_arrays, from_spike_times
from lfadsrm_hpc.data.fields import (
    CONDITIONS,
    KNOWN,
    MATLAB_DIMS,
    bin_width,
    described,
    from_fields,
    has_counts,
    sizes_of,
)
from lfadsrm_hpc.data.form import SPIKE_DIMS, check
from lfadsrm_hpc.errors import DataError, LfadsrmError, NotFoundError, UsageError

__all__ = [
    "READERS",
    "Reader",
    "from_arrays",
    "from_spike_times",
    "info_of",
    "read",
    "read_info",
    "readable_suffixes",
    "register",
    "save_dataset",
]
INFO_KEYS = ("subject", "date", "save_tags", "comment")


@dataclass(frozen=True)
class Reader:
    """How files of one format are read.

    Parameters
    ----------
    read : callable (path, bin_ms or None) -> xr.Dataset
        `bin_ms`, where given, takes the place of what the file says.
    info : callable (path) -> dict or None, optional
        What `info_of` returns, without loading the spikes; None where that cannot be told without them.
    """

    read: Callable[[Path, float | None], xr.Dataset]
    info: Callable[[Path], dict[str, Any] | None] | None = None


READERS: dict[str, Reader] = {}
T = TypeVar("T")


def register(reader: Reader, *suffixes: str) -> None:
    """Read files with these suffixes (".xyz", lower case) by this reader from now on."""
    for suffix in suffixes:
        if not suffix.startswith(".") or suffix != suffix.lower():
            raise UsageError(f"{suffix!r} is not a suffix", hint="write it like '.xyz', in lower case")
        READERS[suffix] = reader


def readable_suffixes() -> tuple[str, ...]:
    """Return the suffixes of the files that can be read."""
    return tuple(READERS)


def read(path: str | os.PathLike[str], *, bin_ms: float | None = None) -> xr.Dataset:
    """Read a dataset; its name is the name of the file without suffix.

    Parameters
    ----------
    path : path
    bin_ms : float, optional
        Width of a bin in ms, where the file does not say it or says it wrongly.

    Returns
    -------
    xr.Dataset
        Loaded into memory and checked.

    Raises
    ------
    NotFoundError
        There is no such file.
    DataError
        The file is damaged, of an unknown kind, or holds data that cannot be used.
    """
    path = Path(path)
    return _guarded(path, lambda: check(_reader(path).read(path, bin_ms), name=path.stem))


def read_info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `info_of` returns, without loading the spikes where the format allows it."""
    path = Path(path)
    quick = _reader(path).info
    found = _guarded(path, lambda: quick(path)) if quick is not None else None
    return info_of(read(path)) if found is None else found


def info_of(ds: xr.Dataset) -> dict[str, Any]:
    """Return what describes a dataset.

    Returns
    -------
    dict
        n_trials, n_neurons, n_bins, n_conditions, bin_ms, subject, date, save_tags (a list), comment.
    """
    sizes = {dim: int(ds.sizes[dim]) for dim in SPIKE_DIMS}
    condition = ds["condition"].to_numpy() if "condition" in ds.variables else None
    return _info(sizes, condition, ds.attrs, float(ds.attrs["bin_ms"]))


def _info(
    sizes: Mapping[str, int], condition: Any, attrs: Mapping[str, Any], bin_ms: float
) -> dict[str, Any]:
    n_conditions = 0
    if condition is not None:
        values = {v for v in np.asarray(condition).tolist() if v not in ("", b"", None) and v == v}
        n_conditions = len(values)
    counts = {f"n_{dim}s" if dim != "time" else "n_bins": sizes[dim] for dim in SPIKE_DIMS}
    described = {key: attrs.get(key, [] if key == "save_tags" else "") for key in INFO_KEYS}
    return {**counts, "n_conditions": n_conditions, "bin_ms": bin_ms, **described}


def _reader(path: Path) -> Reader:
    if path.suffix.lower() not in READERS:
        raise DataError(
            f"files with the suffix {path.suffix!r} cannot be read",
            where=path,
            hint=f"these can: {', '.join(READERS)}; others by Dataset.from_arrays or a reader of your own",
        )
    if not path.is_file():
        raise NotFoundError("there is no such file", where=path)
    return READERS[path.suffix.lower()]


def _guarded(path: Path, call: Callable[[], T]) -> T:
    """Say which file it is when a library stumbles over it."""
    try:
        return call()
    except LfadsrmError as error:
        if str(path) not in str(error.where):
            error.where = f"{error.where}, file {path}" if error.where is not None else path
        raise
    except MemoryError:
        raise
    except Exception as error:  # scipy, h5py, netCDF4, zlib and zipfile have no error in common
        raise DataError(
            f"the file cannot be read ({type(error).__name__}: {error})",
            where=path,
            hint="it may be damaged, unfinished, or of another kind than its suffix says",
        ) from error


# --- netCDF and HDF5


def _read_netcdf(path: Path, bin_ms: float | None) -> xr.Dataset:
    with xr.open_dataset(path, engine="netcdf4", decode_times=False) as lazy:
        ds: xr.Dataset = lazy.load()
    attrs = {key: _from_attribute(key, value) for key, value in ds.attrs.items()}
    ds.attrs = attrs | ({} if bin_ms is None else {"bin_ms": bin_ms})
    return ds


def _info_netcdf(path: Path) -> dict[str, Any] | None:
    with xr.open_dataset(path, engine="netcdf4", decode_times=False) as lazy:
        if "spikes" not in lazy or "bin_ms" not in lazy.attrs or set(lazy["spikes"].dims) != set(SPIKE_DIMS):
            return None
        lazy.attrs = {key: _from_attribute(key, value) for key, value in lazy.attrs.items()}
        return info_of(lazy)


def _is_netcdf(path: Path) -> bool:
    import h5py

    with h5py.File(path, "r") as file:
        return "_NCProperties" in file.attrs


def _read_hdf5(path: Path, bin_ms: float | None) -> xr.Dataset:
    if _is_netcdf(path):
        return _read_netcdf(path, bin_ms)
    return from_fields(_hdf5_fields(path)[0], name=path.stem, bin_ms=bin_ms)


def _info_hdf5(path: Path) -> dict[str, Any] | None:
    if _is_netcdf(path):
        return _info_netcdf(path)
    small, shapes = _hdf5_fields(path, most_dims=1)
    sizes, bin_ms = sizes_of(shapes, small), bin_width(small)
    if sizes is None or bin_ms is None:
        return None
    parts = [small[key] for key in CONDITIONS if key in small]
    return _info(sizes, np.concatenate(parts) if parts else None, described(small), bin_ms)


def _hdf5_fields(
    path: Path, most_dims: int | None = None
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Return known datasets and attributes of the file, or of its only group that holds counts; and shapes.

    With `most_dims`, arrays of more dimensions are left out of the first.
    """
    import h5py

    with h5py.File(path, "r") as file:
        groups = [item for item in file.values() if isinstance(item, h5py.Group) and has_counts(list(item))]
        root = groups[0] if len(groups) == 1 and not has_counts(list(file)) else file
        fields = {key: root.attrs[key] for key in root.attrs if key in KNOWN}
        shapes = {}
        for key, item in root.items():
            if key in KNOWN and isinstance(item, h5py.Dataset):
                shapes[key] = item.shape
                if most_dims is None or item.ndim <= most_dims:
                    fields[key] = item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()]
    return fields, shapes


# --- numpy and Matlab


def _read_npz(path: Path, bin_ms: float | None) -> xr.Dataset:
    with np.load(path, allow_pickle=False) as file:
        fields = {key: file[key] for key in file.files if key in KNOWN}
    return from_fields(fields, name=path.stem, bin_ms=bin_ms)


def _read_mat(path: Path, bin_ms: float | None) -> xr.Dataset:
    from lfadsrm_hpc.data.matlab import read_fields

    fields = read_fields(path)
    return from_fields(fields, name=path.stem, bin_ms=bin_ms, dims=MATLAB_DIMS, first_index=1)


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
    if path.suffix.lower() not in (".nc", ".h5", ".hdf5"):
        raise UsageError(f"{path.name!r} is not a name for a netCDF file", hint="end it in .nc, .h5 or .hdf5")
    out = check(ds, name=path.stem)
    out.attrs = {key: _to_attribute(key, v, path.stem) for key, v in out.attrs.items() if v is not None}
    encoding: dict[str, dict[str, Any]] = {}
    for key, variable in out.data_vars.items():
        if variable.dtype.kind in "iuf" and variable.size:
            encoding[str(key)] = {"zlib": True, "complevel": 2, "shuffle": True, "_FillValue": None}
    encoding["spikes"]["dtype"] = _smallest(out["spikes"].to_numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        out.to_netcdf(beside, engine="netcdf4", format="NETCDF4", encoding=encoding)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
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


def _from_attribute(key: str, value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    return [value] if key == "save_tags" and not isinstance(value, list) else value


register(Reader(_read_netcdf, _info_netcdf), ".nc")
register(Reader(_read_hdf5, _info_hdf5), ".h5", ".hdf5")
register(Reader(_read_npz), ".npz")
register(Reader(_read_mat), ".mat")
