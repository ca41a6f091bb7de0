"""Matlab files, v5 to v7 (by scipy) and v7.3 (HDF5), names and order of dimensions as in Matlab.

HDF5 counts the dimensions of a Matlab array the other way round: (trial, neuron, time) in Matlab is seen by
h5py as (time, neuron, trial). Here it is turned back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lfadsrm_hpc.data.fields import KNOWN, has_counts
from lfadsrm_hpc.data.form import Array


def read_fields(path: Path) -> dict[str, Any]:
    """Read the variables of a Matlab file that can belong to a dataset.

    They may be variables of their own or the fields of one struct (`save(file, 'data')`).

    Returns
    -------
    dict
        Numeric arrays with at least two dimensions; texts; object arrays for cell arrays.

    Raises
    ------
    OSError, ValueError
        The file is damaged.
    """
    return _read_hdf5(path) if h5py.is_hdf5(path) else _read_v5(path)


def _one_struct(variables: dict[str, Any]) -> dict[str, Any]:
    """Go into the struct where it, and not the file, holds the counts."""
    structs = [value for value in variables.values() if isinstance(value, dict) and has_counts(value)]
    if has_counts(variables) or len(structs) != 1:
        return variables
    return {key: value for key, value in structs[0].items() if value is not None}


def _read_v5(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat, whosmat

    names = [name for name, _, _ in whosmat(path)]
    wanted = [name for name in names if name in KNOWN] if has_counts(names) else names
    content = loadmat(path, variable_names=wanted, squeeze_me=False, struct_as_record=True)
    variables = {name: _decode_v5(content[name]) for name in wanted if name in content}
    return _one_struct({key: value for key, value in variables.items() if value is not None})


def _decode_v5(value: Any) -> Any:
    """Return an array, a text, an object array (cell) or a dict (struct); None for Matlab's own objects."""
    from scipy.io.matlab import MatlabFunction, MatlabOpaque

    if isinstance(value, (MatlabOpaque, MatlabFunction)) or not isinstance(value, np.ndarray):
        return None
    if value.dtype.names:
        record = value.ravel()[0] if value.size == 1 else None
        return {name: _decode_v5(record[name]) for name in value.dtype.names} if record is not None else None
    if value.dtype.kind == "O":
        return _cell([_decode_v5(item) for item in value.ravel()], value.shape)
    if value.dtype.kind == "U":
        rows = [str(row).rstrip() for row in value.ravel()]
        return np.array(rows) if len(rows) > 1 else "".join(rows)
    return value


def _read_hdf5(path: Path) -> dict[str, Any]:
    with h5py.File(path, "r") as file:
        names = [name for name in file if not name.startswith("#")]
        wanted = [name for name in names if name in KNOWN] if has_counts(names) else names
        variables = {name: _decode_hdf5(file[name], file) for name in wanted}
    return _one_struct({key: value for key, value in variables.items() if value is not None})


def _decode_hdf5(item: Any, file: Any) -> Any:
    """As `_decode_v5`, for the HDF5 objects of v7.3."""
    if "MATLAB_object_decode" in item.attrs:
        return None
    if isinstance(item, h5py.Group):
        return {name: _decode_hdf5(item[name], file) for name in item}
    kind = item.attrs.get("MATLAB_class", b"")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if item.attrs.get("MATLAB_empty", 0):
        shape = tuple(int(n) for n in np.atleast_1d(item[()]).ravel())  # instead of values
        return "" if kind == "char" else np.empty(shape, dtype=object if kind == "cell" else float)
    values = np.asarray(item[()]).T
    if h5py.check_ref_dtype(item.dtype) is not None:
        return _cell([_decode_hdf5(file[ref], file) for ref in values.ravel()], values.shape)
    if kind == "char":
        rows = ["".join(map(chr, row)).rstrip() for row in np.atleast_2d(values)]
        return np.array(rows) if len(rows) > 1 else "".join(rows)
    return values


def _cell(items: list[Any], shape: tuple[int, ...]) -> Array:
    """Return an object array; plain assignment would make one array of items of equal shape."""
    cell = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        cell[index] = item
    return cell.reshape(shape)
