"""Matlab files v4 to v7, by scipy."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lfadsrm_hpc.data.formats.matlab_values import Structs, Token, at, cell, dense


class MatScipy:
    """An open file; a variable is loaded whole, when it is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loaded: dict[str, Any] = {}

    @cached_property
    def _classes(self) -> dict[str, str]:
        from scipy.io import whosmat

        try:
            return {name: kind for name, _, kind in whosmat(self._path)}
        except TypeError:  # scipy cannot list Matlab's own objects, though it can read what is beside them
            return _listed(self._path)

    @property
    def names(self) -> list[str]:
        return list(self._classes)

    def structs(self) -> list[str]:
        return [name for name, kind in self._classes.items() if kind == "struct"]

    def get(self, tokens: Sequence[Token]) -> Any:
        name = str(tokens[0])
        if name not in self._loaded:
            from scipy.io import loadmat

            content = loadmat(self._path, variable_names=[name], squeeze_me=False, struct_as_record=True)
            self._loaded[name] = decode(content[name]) if name in content else None
        return at(self._loaded[name], tokens[1:], _text(tokens))


_COMPRESSED, _MATRIX = 15, 14
_STRUCT, _OPAQUE = 2, 17
_HEAD = 2**12  # bytes; flags, sizes and name of a variable take far less


def _listed(path: Path) -> dict[str, str]:
    """Return the names of the variables of a v5 file and what they are, as far as it matters."""
    found: dict[str, str] = {}
    with path.open("rb") as file:
        order = "<" if file.read(128)[126:] == b"IM" else ">"
        while len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f"{order}II", tag)
            start = file.tell()
            head = file.read(min(size, _HEAD))
            if kind == _COMPRESSED:
                head = zlib.decompressobj().decompress(head, _HEAD)[8:]
            if kind in (_COMPRESSED, _MATRIX):
                name, number = _name_and_class(head, order)
                found[name] = {_STRUCT: "struct", _OPAQUE: "opaque"}.get(number, "other")
            file.seek(start + size)
    return found


def _name_and_class(head: bytes, order: str) -> tuple[str, int]:
    """Return the name and the class of a variable; its parts are flags, sizes (not of objects), the name."""
    number = head[8] if order == "<" else head[11]
    place = 16
    for _ in range(1 if number == _OPAQUE else 2):
        kind, size = struct.unpack_from(f"{order}II", head, place)
        start, length = place + 8, size
        if kind >> 16:  # up to four bytes stand in the tag itself
            start, length = place + 4, kind >> 16
            place += 8
        else:
            place += 8 + (size + 7) // 8 * 8
    return head[start : start + length].decode("latin1"), number


def _text(tokens: Sequence[Token]) -> str:
    return "".join(f".{t}" if isinstance(t, str) else f"({','.join(map(str, t))})" for t in tokens)[1:]


def decode(value: Any) -> Any:
    """Return an array, a text, an object array (cell), a dict or `Structs`; None for Matlab's own objects."""
    from scipy.io.matlab import MatlabFunction, MatlabOpaque
    from scipy.sparse import issparse

    if issparse(value):
        sparse: Any = value
        columns = sparse.tocsc()
        return dense(columns.data, columns.indices, columns.indptr, columns.shape)
    if isinstance(value, MatlabOpaque | MatlabFunction) or not isinstance(value, np.ndarray):
        return None
    if value.dtype.names:
        items = [{name: decode(item[name]) for name in value.dtype.names} for item in value.ravel(order="F")]
        return items[0] if len(items) == 1 else Structs(items, value.shape)
    if value.dtype.kind == "O":
        return cell([decode(item) for item in value.ravel()], value.shape)
    if value.dtype.kind == "U":
        rows = [str(row).rstrip() for row in value.ravel()]
        return np.array(rows) if len(rows) > 1 else "".join(rows)
    return value
