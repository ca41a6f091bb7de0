"""Files of spike counts or spike times -> the one in-memory form (`lfadsrm_hpc.data.form`).

| what | format |
|---|---|
| `.nc`; `.h5`, `.hdf5` that are netCDF-4 | `netcdf`: the variables of the in-memory form, by `save_dataset`
or others |
| `.h5`, `.hdf5` | `hdf5`: arrays with the names that `lfadsrm_hpc.data.formats.fields` lists |
| `.h5` with `train_data` | `lfads`: of the original LFADS or the Matlab run manager |
| `.h5` with `train_encod_data` | `nlb`: of AutoLFADS and of the Neural Latents Benchmark |
| `.nwb`, `.h5` | `nwb`: Neurodata Without Borders |
| `.npz` | `npz`: arrays of numpy, no Python objects |
| `.mat` | `mat`: Matlab v4 to v7.3, also arrays of structs |
| a folder with `spike_times.npy` | `phy`: what phy and Kilosort write |
| `.csv`, `.tsv`, when named | `csv`: a line a spike |

Each has options: see docs/readers.md. Other packages add formats by entry points, a process by `register`:
see `lfadsrm_hpc.data.formats.registry`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from lfadsrm_hpc.data.arrays import from_arrays, from_spike_times
from lfadsrm_hpc.data.chopping import chop
from lfadsrm_hpc.data.form import SPIKE_DIMS, check
from lfadsrm_hpc.data.formats.foreign import check_file
from lfadsrm_hpc.data.formats.netcdf import from_xarray, save_dataset
from lfadsrm_hpc.data.formats.registry import (
    Reader,
    check_options,
    find,
    find_existing,
    name_of,
    readable_suffixes,
    register,
)
from lfadsrm_hpc.data.merging import merge_windows
from lfadsrm_hpc.errors import DataError, LfadsrmError

__all__ = [
    "Reader",
    "check_reading",
    "chop",
    "from_arrays",
    "from_spike_times",
    "from_xarray",
    "info_of",
    "merge_windows",
    "read",
    "read_info",
    "readable_suffixes",
    "register",
    "save_dataset",
]
INFO_KEYS = ("subject", "date", "save_tags", "comment")
T = TypeVar("T")


def read(
    path: str | os.PathLike[str],
    *,
    bin_ms: float | None = None,
    format: str | None = None,
    chop_ms: float | None = None,
    overlap_ms: float | None = None,
    chop_grid_ms: float | None = None,
    **options: Any,
) -> xr.Dataset:
    """Read a dataset; its name is the name of the file without suffix.

    Parameters
    ----------
    path : path
    bin_ms : float, optional
        Width of a bin in ms, where the file does not say it or says it wrongly.
    format : str, optional
        The name of a format, where the suffix tells the wrong one.
    chop_ms, overlap_ms : float, optional
        Cut each trial, or each continuous recording, into windows of this length, of which neighbours share
        `overlap_ms` (0 where left out): see `lfadsrm_hpc.data.chopping`.
    chop_grid_ms : float, optional
        In which steps a last window is moved back, where a recording does not end with one.
    **options
        Of the reader: see docs/readers.md.

    Returns
    -------
    xr.Dataset
        Loaded into memory and checked. What was left out of the file is in the attribute `notes`.

    Raises
    ------
    NotFoundError
        There is no such file.
    DataError
        The file is damaged, of an unknown kind, or holds data that cannot be used.
    UsageError
        An option that the reader does not have, or a value that it cannot have.
    """
    path = Path(path)
    name = name_of(path)

    def load() -> xr.Dataset:
        found = find_existing(path, format)
        check_options(found, options, path)
        content = found.reader.read(path, bin_ms, **options)
        parts = list(content) if isinstance(content, list | tuple) else [content]
        if (chop_ms, overlap_ms, chop_grid_ms) == (None, None, None) and len(parts) == 1:
            return check(parts[0], name=name)
        checked = [check(part, name=name) for part in parts]
        return chop(checked, chop_ms, overlap_ms or 0.0, grid_ms=chop_grid_ms, name=name)

    return _guarded(path, load)


def check_reading(path: str | os.PathLike[str], options: Mapping[str, Any]) -> None:
    """Check names of options as far as the name of a file tells its format; the file need not be there.

    Parameters
    ----------
    path : path
    options : mapping
        Of the reader, by name.

    Raises
    ------
    UsageError
    """
    path = Path(path)
    format = options.get("format")
    if format is None and path.suffix.lower() in (".h5", ".hdf5", "") and not path.exists():
        return
    try:
        found = find(path, format)
    except DataError:  # reading says it
        return
    check_options(found, options, path)


def read_info(path: str | os.PathLike[str], **options: Any) -> dict[str, Any]:
    """Return what `info_of` returns, without loading the spikes where the format allows it.

    `options` are those of `read`.

    Parameters
    ----------
    path : path
    **options
        Of the reader.
    """
    path = Path(path)

    def quick() -> dict[str, Any] | None:
        found = find_existing(path, options.get("format"))
        own = {key: value for key, value in options.items() if key != "format"}
        check_options(found, own, path)
        ask = None if {"chop_ms", "overlap_ms", "chop_grid_ms"} & set(own) else found.reader.quick_info(own)
        known = ask(path, **own) if ask is not None else None
        if known is None or "n_trials" in known:
            return known
        return _info(known["sizes"], known["condition"], known["attrs"], known["bin_ms"])

    info = _guarded(path, quick)
    return info_of(read(path, **options)) if info is None else info


def info_of(ds: xr.Dataset) -> dict[str, Any]:
    """Return what describes a dataset.

    Parameters
    ----------
    ds : xr.Dataset
        In the in-memory form.

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


def _guarded(path: Path, call: Callable[[], T]) -> T:
    """Say which file it is when a library stumbles over it."""
    try:
        check_file(path)
        return call()
    except LfadsrmError as error:
        if str(path) not in str(error.where):
            error.where = f"{error.where}, file {path}" if error.where is not None else path
        raise
    except MemoryError as error:
        raise DataError(
            f"the file needs more memory than there is ({error})",
            where=path,
            hint="read less of it, use wider bins or a larger machine; or the file is damaged",
        ) from error
    except Exception as error:  # scipy, h5py, netCDF4, pynwb, zlib and zipfile have no error in common
        raise DataError(
            f"the file cannot be read ({type(error).__name__}: {error})",
            where=path,
            hint="it may be damaged, unfinished, or of another kind than its suffix says",
        ) from error
