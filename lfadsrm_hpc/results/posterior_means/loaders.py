"""A file of posterior means, opened lazily as an xr.Dataset.

Opening reads attributes, sizes, and what describes trials, bins and neurons; all else is read from disk when
it is used, and only the chunks that are asked for. No dask is needed, and no file stays open that is not
read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import xarray as xr
from h5py import h5a, h5d, h5g, h5i, h5r, h5s

from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.results.arrays.stored import Source, StoredArray, lazy
from lfadsrm_hpc.results.posterior_means.format import FORMAT, FORMAT_VERSION, VARIABLES, chunk_shape

# A run that is complete is passed over by a plain `lfadsrm run`.
_AGAIN = "make them again from the trained model: `lfadsrm run --posterior-only`"
_INDICES = ("trial", "time", "neuron")
_LABELS = {"neuron_name": "neuron", "split": "trial", "condition": "trial"}
# How netCDF-4 keeps dimensions in HDF5.
_HIDDEN = {"CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "coordinates"}
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable"


def open_posterior_means(
    path: str | os.PathLike[str], *, expect_token: str | None = None, cache: bool = True
) -> xr.Dataset:
    """Open the posterior means of one dataset of one run, lazily.

    Parameters
    ----------
    path : path
        `posterior_means/<dataset>.nc`.
    expect_token : str, optional
        Token of the claim whose exit record says success; a file of any other claim is refused.
    cache : bool
        Keep in memory what was read whole, as `xr.open_dataset` does.

    Returns
    -------
    xr.Dataset
        dims trial, time, neuron, factor, generator_unit, controller_output, ic; see
        `results.posterior_means.format.VARIABLES`. `time` in ms, `rates` in spikes/s. `rates_std` and
        other `<name>_std` are standard deviations over posterior samples (n - 1 degrees of freedom); files of
        format 1, of push-mean and of a single sample have none.
        `neuron` and `trial` are integer indices, so `pm.rates.sel(neuron=0)` reads one neuron alone.

    Raises
    ------
    ResultsError
        The file is missing, incomplete, damaged, of another program, or of another attempt.
    """
    path = Path(path).absolute()
    try:
        source = Source.of(path)
        with source.opened() as file:
            means = _dataset(source, file, expect_token, cache=cache)
    except FileNotFoundError as error:
        raise ResultsError(
            "there are no posterior means here",
            where=path,
            hint=f"see `lfadsrm status`; if the run is complete, {_AGAIN}",
        ) from error
    except PermissionError as error:
        raise ResultsError(
            "the posterior means cannot be read",
            where=path,
            hint="ask the owner of the file for the right to",
        ) from error
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise ResultsError(
            f"the posterior means are incomplete or damaged ({error})",
            where=path,
            hint=f"copy it again if it is a copy; else {_AGAIN}",
        ) from error
    return means


def of_split(means: xr.Dataset, split: str) -> xr.Dataset:
    """Return the trials of one split, in their order, without reading anything.

    Parameters
    ----------
    means : xr.Dataset
        Posterior means.
    split : {"train", "valid", "new"}

    Raises
    ------
    ResultsError
        There are none; or the runs of a stack are not split alike.

    Examples
    --------
    >>> pm = xr.Dataset({"costs": ("trial", [3.0, 4.0])}, {"split": ("trial", ["train", "valid"])})
    >>> of_split(pm, "valid").costs.values.tolist()
    [4.0]
    """
    labels = means["split"]
    if labels.dims != ("trial",):
        raise ResultsError(
            "these runs are not split alike, so that no trial is of one split in all of them",
            hint="select one of them first, or load one at a time",
        )
    found = np.flatnonzero(labels.to_numpy() == split)
    if not found.size:
        there = ", ".join(sorted({str(one) for one in labels.to_numpy()}))
        raise ResultsError(f"there is no trial of the split {split!r}", hint=f"there are: {there}")
    chosen: xr.Dataset = means.isel(trial=found)
    return chosen


# ---------------------------------------------------------------- the file's structure


def _dataset(source: Source, file: h5py.File, expect_token: str | None, *, cache: bool) -> xr.Dataset:
    """Return the file as a Dataset.

    What the format fixes for each variable (dimensions, type, words) is not read from the file again: of one
    with 25 variables only coordinates and the sizes of other dimensions are looked at.
    """
    group = h5g.open(file.id, b"/")
    attrs = _attributes(group)
    _check(attrs, Path(source.path), expect_token)
    names = [name.decode() for name in group]
    for name in names:  # HDF5 would open whatever file an external link names
        if group.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise ResultsError(f"{name} is no array of this file", where=source.path)
    looked_at = {n: _stored_here(source, group, n) for n in names if n not in VARIABLES}
    sizes = {name: one.shape[0] for name, one in looked_at.items() if len(one.shape) == 1}
    data, coords = {}, {}
    for name in names:
        if name in VARIABLES:
            data[name] = _of_the_format(source, name, group, sizes, cache=cache)
        elif name in _INDICES:
            coords[name] = xr.Variable((name,), _values(looked_at[name]), _words(looked_at[name]))
        elif name in _LABELS:
            coords[name] = _label(source, name, _LABELS[name], looked_at[name])
        elif not _is_bare_dimension(looked_at[name]):
            dims = _dims(name, looked_at[name])
            if dims == ("trial",):
                coords[name] = _label(source, name, "trial", looked_at[name])
            else:
                data[name] = _carried(source, name, dims, looked_at[name], cache=cache)
    means = xr.Dataset(data, coords, attrs)
    means.encoding["source"] = source.path
    return means


def _stored_here(source: Source, group: h5g.GroupID, name: str) -> h5d.DatasetID:
    """Return an array whose values are in the file itself: `stored_here`, for a group that is open."""
    stored = h5d.open(group, name.encode())
    plist = stored.get_create_plist()
    if plist.get_layout() == h5d.VIRTUAL or plist.get_external_count():
        raise ResultsError(f"{name} is no array of this file", where=source.path)
    return stored


def _of_the_format(
    source: Source, name: str, group: h5g.GroupID, sizes: Mapping[str, int], *, cache: bool
) -> xr.Variable:
    about = VARIABLES[name]
    shape = tuple(sizes[dim] for dim in about.dims)
    dtype, attrs = np.dtype("f4"), {"units": about.units, "long_name": about.long_name}
    if name == "spikes":  # counts, or values of a continuous signal
        stored = h5d.open(group, name.encode())
        dtype, attrs = stored.dtype, _words(stored)
    array = StoredArray(source, name, shape, dtype)
    encoding = _encoding(about.dims, shape, dtype, chunk_shape(about.dims, shape))
    return xr.Variable(about.dims, lazy(array, cache=cache), attrs, encoding, fastpath=True)


def _label(source: Source, name: str, dim: str, stored: h5d.DatasetID) -> xr.Variable:
    """Return what describes trials or neurons; read when it is used, and then kept."""
    array = StoredArray(source, name, stored.shape, stored.dtype)
    return xr.Variable((dim,), lazy(array, cache=True), _words(stored), fastpath=True)


def _carried(
    source: Source, name: str, dims: tuple[str, ...], stored: h5d.DatasetID, *, cache: bool
) -> xr.Variable:
    """Return a variable that the format does not know."""
    array = StoredArray(source, name, stored.shape, stored.dtype)
    attrs = {key: value for key, value in _attributes(stored).items() if not key.startswith("_")}
    return xr.Variable(dims, lazy(array, cache=cache), attrs, fastpath=True)


def _encoding(
    dims: tuple[str, ...], shape: tuple[int, ...], dtype: np.dtype[Any], chunks: tuple[int, ...]
) -> dict[str, Any]:
    """Return how the variable is stored, for those who write it again or cut it into dask's chunks."""
    return {
        "dtype": dtype,
        "zlib": True,
        "shuffle": True,
        "complevel": 1,
        "chunksizes": chunks,
        "original_shape": shape,
        "preferred_chunks": dict(zip(dims, chunks, strict=True)),
    }


def _is_bare_dimension(stored: h5d.DatasetID) -> bool:
    """Return whether it is no variable: netCDF-4 stores dimensions that have none under their names."""
    return h5a.exists(stored, b"NAME") and str(_attribute(stored, b"NAME")).startswith(_NO_VARIABLE)


def _dims(name: str, stored: h5d.DatasetID) -> tuple[str, ...]:
    """Return the dimensions that netCDF-4 has noted beside a variable."""
    if not h5a.exists(stored, b"DIMENSION_LIST"):
        return (name,)
    noted = h5py.Dataset(stored).attrs["DIMENSION_LIST"]
    scales = (h5r.dereference(one[0], stored) for one in noted)
    return tuple(h5i.get_name(scale).decode().rpartition("/")[2] for scale in scales)


def _values(stored: h5d.DatasetID) -> npt.NDArray[Any]:
    values = np.empty(stored.shape, stored.dtype)
    stored.read(h5s.ALL, h5s.ALL, values)
    return values


def _words(stored: h5d.DatasetID) -> dict[str, Any]:
    keys = (b"units", b"long_name")
    return {key.decode(): _attribute(stored, key) for key in keys if h5a.exists(stored, key)}


def _attributes(stored: Any) -> dict[str, Any]:
    names = [h5a.open(stored, index=index).name for index in range(h5a.get_num_attrs(stored))]
    return {
        name.decode(): _attribute(stored, name)
        for name in names
        if name.decode() not in _HIDDEN and not name.startswith(b"_N")
    }


def _attribute(stored: Any, name: bytes) -> Any:
    """Return an attribute as the netCDF library gives it: a text, a number, or an array of them."""
    attribute = h5a.open(stored, name)
    values = np.zeros(attribute.shape, attribute.dtype)
    if values.size:
        attribute.read(values)
    if values.dtype.kind in "OS":
        texts = [one.decode() if isinstance(one, bytes) else str(one) for one in values.reshape(-1)]
        return texts[0] if len(texts) == 1 else texts or ""
    return values.reshape(-1)[0] if values.size == 1 else values


# ---------------------------------------------------------------- the file's promises


def _check(attrs: Mapping[str, Any], path: Path, expect_token: str | None) -> None:
    """Raise unless the file is complete, ours, and of the attempt that counts."""
    if attrs.get("format") != FORMAT:
        raise ResultsError("this is no file of posterior means of lfadsrm_hpc", where=path)
    version = int(np.asarray(attrs.get("format_version", 0)))
    if version > FORMAT_VERSION:
        raise ResultsError(
            f"the file has format version {version}, this release reads up to {FORMAT_VERSION}",
            where=path,
            hint="install a newer lfadsrm_hpc",
        )
    if int(np.asarray(attrs.get("complete", 0))) != 1:
        raise ResultsError(
            "the posterior means are incomplete: the program that wrote them did not finish",
            where=path,
            hint=_AGAIN,
        )
    token = attrs.get("claim_token")
    if expect_token is not None and token != expect_token:
        raise ResultsError(
            f"the posterior means were written by another attempt (claim {token}) than the one that "
            f"completed the run (claim {expect_token})",
            where=path,
            hint=_AGAIN,
        )
