"""Matlab files v7.3, which are HDF5: a struct is a group, a cell array a dataset of references.

An array of structs is a group whose fields are datasets of references without a class of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from lfadsrm_hpc.data.formats.matlab_values import Structs, Token, at, cell, dense, field, linear


class MatHdf5:
    """An open file; only what a path leads to is read."""

    def __init__(self, file: Any) -> None:
        self._file = file

    @property
    def names(self) -> list[str]:
        return [name for name in self._file if not name.startswith("#")]

    def structs(self) -> list[str]:
        return [name for name in self.names if isinstance(self._file[name], h5py.Group)]

    def get(self, tokens: Sequence[Token]) -> Any:
        text = "".join(f".{t}" if isinstance(t, str) else str(t) for t in tokens)[1:]
        return self._descend(self._file[str(tokens[0])], tokens[1:], text)

    def _descend(self, item: Any, tokens: Sequence[Token], path: str) -> Any:
        if not tokens:
            return self._decode(item)
        token, rest = tokens[0], tokens[1:]
        if _is_struct(item):
            if not _is_struct_array(item):
                if isinstance(token, str):
                    return self._descend(field(dict(item), token, path), rest, path)
                linear(token, (1, 1), path)
                return self._descend(item, rest, path)
            return self._descend_array(item, token, rest, path)
        if isinstance(token, tuple) and _is_references(item):
            place = linear(token, item.shape[::-1], path)
            return self._descend(self._file[item[()].ravel()[place]], rest, path)
        return at(self._decode(item), tokens, path)

    def _descend_array(self, item: Any, token: Token, rest: Sequence[Token], path: str) -> Any:
        if isinstance(token, str):
            references = field(dict(item), token, path)[()].ravel()
            return [self._descend(self._file[each], rest, path) for each in references]
        first = next(iter(item.values()))
        place = linear(token, first.shape[::-1], path)
        if rest and isinstance(rest[0], str):
            references = field(dict(item), rest[0], path)[()].ravel()
            return self._descend(self._file[references[place]], rest[1:], path)
        one = {name: self._decode(self._file[refs[()].ravel()[place]]) for name, refs in item.items()}
        return at(one, rest, path)

    def _decode(self, item: Any) -> Any:
        if "MATLAB_object_decode" in item.attrs:
            return None
        if isinstance(item, h5py.Group):
            return self._decode_group(item)
        kind = item.attrs.get("MATLAB_class", b"")
        kind = kind.decode() if isinstance(kind, bytes) else str(kind)
        if item.attrs.get("MATLAB_empty", 0):
            return _empty(item, kind)
        values = np.asarray(item[()]).T
        if _is_references(item):
            return cell([self._decode(self._file[ref]) for ref in values.ravel()], values.shape)
        if kind == "char":
            rows = ["".join(map(chr, row)).rstrip() for row in np.atleast_2d(values)]
            return np.array(rows) if len(rows) > 1 else "".join(rows)
        return values

    def _decode_group(self, group: Any) -> Any:
        if "MATLAB_sparse" in group.attrs:
            return _sparse(group)
        if not _is_struct_array(group):
            return {name: self._decode(group[name]) for name in group}
        references = {name: item[()].ravel() for name, item in group.items()}
        shape = next(iter(group.values())).shape[::-1]
        n = int(np.prod(shape, dtype=int))
        items = [
            {name: self._decode(self._file[refs[place]]) for name, refs in references.items()}
            for place in range(n)
        ]
        return Structs(items, tuple(shape))


def _is_struct(item: Any) -> bool:
    return isinstance(item, h5py.Group) and "MATLAB_sparse" not in item.attrs


def _is_struct_array(group: Any) -> bool:
    items = list(group.values())
    return bool(items) and all(_is_references(item) and "MATLAB_class" not in item.attrs for item in items)


def _is_references(item: Any) -> bool:
    return isinstance(item, h5py.Dataset) and h5py.check_ref_dtype(item.dtype) is not None


def _empty(item: Any, kind: str) -> Any:
    shape = tuple(int(n) for n in np.atleast_1d(item[()]).ravel())  # instead of values
    if 0 not in shape:
        raise ValueError(f"{item.name} is marked as empty and has the size {shape}")
    return "" if kind == "char" else np.empty(shape, dtype=object if kind == "cell" else float)


def _sparse(group: Any) -> Any:
    ends = group["jc"][()]
    none = np.zeros(0)
    values, rows = (group[name][()] if name in group else none for name in ("data", "ir"))
    return dense(values, rows, ends, (int(group.attrs["MATLAB_sparse"]), len(ends) - 1))
