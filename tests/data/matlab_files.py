"""Matlab files as Matlab writes them: v5 by scipy, v7.3 imitated with h5py."""

from __future__ import annotations

import struct
import zlib
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from scipy.io import savemat
from scipy.sparse import csc_matrix, issparse

Array = npt.NDArray[Any]


class Foreign:
    """An object of Matlab's own, such as a string array, to be written (v7.3)."""


class Structs(list[dict[str, Any]]):
    """An array of structs (1 x n) to be written."""


def cell(items: list[Any], shape: tuple[int, ...]) -> Array:
    """Return a cell array."""
    out = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        out[index] = item
    return out.reshape(shape)


def save_v73(path: Path, variables: dict[str, Any]) -> None:
    """Imitate `save -v7.3`: a header of 512 bytes, dimensions reversed, MATLAB_class, cells by reference.

    A field of an array of structs is a dataset of references without a class.
    """
    numbers = count()

    def put(group: Any, name: str, value: Any) -> Any:
        if isinstance(value, dict | Structs):
            made = group.create_group(name)
            made.attrs["MATLAB_class"] = np.bytes_("struct")
            if isinstance(value, dict):
                for key, item in value.items():
                    put(made, key, item)
            else:
                for key in value[0]:
                    stored = made.create_dataset(key, (len(value), 1), dtype=h5py.ref_dtype)
                    stored[...] = np.array([refer(item[key]) for item in value], dtype=object)[:, None]
            return made
        if isinstance(value, Foreign):  # where its values are in a part of the file that only Matlab knows
            made = group.create_dataset(name, data=np.array([[0xDD000000, 2, 1, 1, 1, 1]], dtype=np.uint32).T)
            made.attrs["MATLAB_class"] = np.bytes_("string")
            made.attrs["MATLAB_object_decode"] = np.int32(3)
            return made
        if issparse(value):
            sparse = csc_matrix(value)
            made = group.create_group(name)
            made.attrs["MATLAB_class"] = np.bytes_("double")
            made.attrs["MATLAB_sparse"] = np.uint64(sparse.shape[0])
            made["jc"] = sparse.indptr.astype(np.uint64)
            if sparse.nnz:
                made["data"], made["ir"] = sparse.data.astype(float), sparse.indices.astype(np.uint64)
            return made
        if isinstance(value, str):
            made = group.create_dataset(name, data=np.array([[ord(c)] for c in value], dtype=np.uint16))
            made.attrs["MATLAB_class"] = np.bytes_("char")
            return made
        value = np.atleast_2d(value)
        if value.dtype.kind == "O":
            made = group.create_dataset(name, value.shape[::-1], dtype=h5py.ref_dtype)
            made.attrs["MATLAB_class"] = np.bytes_("cell")
            flat = [refer(item) for item in value.T.ravel()]
            made[...] = np.array(flat, dtype=object).reshape(value.T.shape)
            return made
        if value.size == 0:
            made = group.create_dataset(name, data=np.array(value.shape, dtype=np.uint64))
            made.attrs["MATLAB_empty"] = np.uint8(1)
        else:
            made = group.create_dataset(name, data=value.T)
        made.attrs["MATLAB_class"] = np.bytes_("double")
        return made

    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")

        def refer(value: Any) -> Any:
            return put(refs, f"r{next(numbers)}", value).ref

        for name, value in variables.items():
            put(file, name, value)
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    with path.open("r+b") as raw:
        raw.write(head)


def append_object(path: Path, name: str, *, compressed: bool) -> None:
    """Add a string array to a v5 file, as Matlab does: a name, a class, and where its values are."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    where = struct.pack("<6I", 0xDD000000, 2, 1, 1, 1, 1)
    reference = element(6, struct.pack("<II", 13, 0)) + element(5, struct.pack("<ii", 6, 1)) + element(1, b"")
    content = element(6, struct.pack("<II", 17, 0)) + element(1, name.encode()) + element(1, b"MCOS")
    content += element(1, b"string") + element(14, reference + element(6, where))
    whole = element(14, content)
    packed = zlib.compress(whole)
    with path.open("ab") as file:
        file.write(struct.pack("<II", 15, len(packed)) + packed if compressed else whole)


def _for_scipy(value: Any) -> Any:
    if isinstance(value, Structs):
        made = np.empty((1, len(value)), dtype=[(key, object) for key in value[0]])
        for place, item in enumerate(value):
            for key in item:
                made[0, place][key] = _for_scipy(item[key])
        return made
    return {key: _for_scipy(item) for key, item in value.items()} if isinstance(value, dict) else value


def save_mat(path: Path, variables: dict[str, Any], version: str) -> Path:
    """Write a file of version "5" or "7.3"."""
    if version == "7.3":
        save_v73(path, variables)
    else:
        savemat(path, _for_scipy(variables))
    return path
