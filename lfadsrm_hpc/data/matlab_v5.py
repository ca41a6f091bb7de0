"""Matlab files v5 to v7, read with every size checked against the bytes that are there.

scipy crashes on some damaged files, and a crash cannot be told to the user. The layout is that of MathWorks'
"MAT-File Format" (level 5): elements of a tag (type, number of bytes) and data, padded to 8 bytes; a variable
is an element of elements (flags, dimensions, name, content), perhaps compressed by zlib. Files v4 are left to
scipy.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lfadsrm_hpc.data.matlab_values import Structs, Token, at, cell, dense

_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
    16: "u1", 17: "u2", 18: "u4",
}  # fmt: skip
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR, _SPARSE = 1, 2, 4, 5
_CLASSES = dict(enumerate(("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), start=6))
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


class _Element(NamedTuple):
    kind: int
    data: memoryview
    stop: int


class _Head(NamedTuple):
    """What a variable says of itself, and where its content begins."""

    cls: int
    shape: tuple[int, ...]
    name: str
    content: int
    is_complex: bool
    is_logical: bool


class MatV5:
    """An open file; a variable is read whole, when it is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: dict[str, Any] = {}

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Class and position of each variable, by name."""
        found = {}
        with self._path.open("rb") as file:
            for position, kind, size in _top_level(file, self._order):
                head = _head_of(_start_of(file, kind, size, self._order), self._order)
                if head is not None and head.name:
                    found[head.name] = (head.cls, position)
        return found

    @cached_property
    def _order(self) -> str:
        """Byte order, "<" or ">"."""
        with self._path.open("rb") as file:
            mark = file.read(128)[126:128]
        if mark not in (b"IM", b"MI"):
            raise ValueError("it has no head of a Matlab file")
        return "<" if mark == b"IM" else ">"

    @property
    def names(self) -> list[str]:
        return list(self._places)

    def structs(self) -> list[str]:
        return [name for name, (cls, _) in self._places.items() if cls == _STRUCT]

    def get(self, tokens: Sequence[Token]) -> Any:
        name = str(tokens[0])
        if name not in self._read:
            with self._path.open("rb") as file:
                file.seek(self._places[name][1])
                kind, size = struct.unpack(self._order + "II", file.read(8))
                whole = _whole(file, kind, size, self._order)
            self._read[name] = _Parser(self._order).matrix(whole)
        return at(self._read[name], tokens[1:], _text(tokens))


def is_v5(path: Path) -> bool:
    """Say whether a file begins as one of v5 to v7 does; those of v4 have no such head."""
    with path.open("rb") as file:
        return file.read(128)[126:128] in (b"IM", b"MI")


def _text(tokens: Sequence[Token]) -> str:
    return "".join(f".{t}" if isinstance(t, str) else f"({','.join(map(str, t))})" for t in tokens)[1:]


def _top_level(file: Any, order: str) -> Iterator[tuple[int, int, int]]:
    """Yield position, type and size of every element of the file."""
    end = file.seek(0, 2)
    position = 128
    while position + 8 <= end:
        file.seek(position)
        kind, size = struct.unpack(order + "II", file.read(8))
        if kind not in (_MATRIX, _COMPRESSED) or position + 8 + size > end:
            raise ValueError(f"the file ends within a variable, or is damaged, at byte {position}")
        yield position, kind, size
        position += 8 + size
    if position != end:
        raise ValueError("the file ends within a variable")


def _start_of(file: Any, kind: int, size: int, order: str) -> memoryview:
    """Return the first bytes of a variable, enough for its name; the file stands behind its tag."""
    if kind == _MATRIX:
        return memoryview(file.read(min(size, 4096)))
    return memoryview(zlib.decompressobj().decompress(file.read(min(size, 8192)), 8 + 4096))[8:]


def _whole(file: Any, kind: int, size: int, order: str) -> memoryview:
    data = file.read(size)
    if kind == _MATRIX:
        return memoryview(data)
    unpacker = zlib.decompressobj()
    tag = unpacker.decompress(data, 8)
    inner, n = struct.unpack(order + "II", tag)
    content = unpacker.decompress(unpacker.unconsumed_tail, n) if n else b""
    unpacker.decompress(unpacker.unconsumed_tail, 1)  # on to the check sum
    if inner != _MATRIX or len(content) != n or not unpacker.eof:
        raise ValueError("a compressed variable is incomplete")
    return memoryview(content)


def _head_of(data: memoryview, order: str) -> _Head | None:
    """Return the head of a variable; None for Matlab's own objects, which have another."""
    flags = _element(data, 0, order)
    if flags.kind != 6 or len(flags.data) != 8:
        raise ValueError("a variable does not say its class")
    word = struct.unpack_from(order + "I", flags.data)[0]
    cls = word & 0xFF
    if cls not in (_CELL, _STRUCT, _CHAR, _SPARSE, *_CLASSES):
        return None
    dims = _element(data, flags.stop, order)
    if dims.kind not in (5, 6) or len(dims.data) % 4 or not 8 <= len(dims.data) <= 256:
        raise ValueError("a variable does not say its size")
    shape = struct.unpack(f"{order}{len(dims.data) // 4}i", dims.data)
    if any(n < 0 for n in shape):
        raise ValueError(f"a variable has the size {shape}")
    name = _element(data, dims.stop, order)
    return _Head(
        cls, shape, bytes(name.data).decode("latin-1"), name.stop, bool(word & 0x0800), bool(word & 0x0200)
    )


def _element(data: memoryview, position: int, order: str) -> _Element:
    """Return the element at a position, and where the next one begins."""
    if position + 8 > len(data):
        raise ValueError("a variable ends within an element")
    kind, size = struct.unpack_from(order + "II", data, position)
    if kind >> 16:  # up to four bytes of data in the tag itself
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise ValueError("a short element is too long")
        return _Element(kind, data[position + 4 : position + 4 + size], position + 8)
    start = position + 8
    if start + size > len(data):
        raise ValueError("an element is longer than its variable")
    return _Element(kind, data[start : start + size], start + size + (-size % 8))


class _Parser:
    def __init__(self, order: str) -> None:
        self._order = order

    def matrix(self, data: memoryview) -> Any:
        """Return an array, text, object array (cell), dict or `Structs`; None for Matlab's own objects."""
        if not len(data):
            return np.zeros((0, 0))
        head = _head_of(data, self._order)
        if head is None:
            return None
        if head.cls == _CELL:
            n = self._count(head.shape, data)
            return cell(list(self._matrices(data, head.content, n)), head.shape[::-1]).T
        if head.cls == _STRUCT:
            return self._struct(data, head)
        if head.cls == _SPARSE:
            return self._sparse(data, head)
        first = _element(data, head.content, self._order)
        if head.cls == _CHAR:
            return self._chars(first, head.shape)
        values = self._numbers(first, math.prod(head.shape))
        if head.is_complex:
            second = self._numbers(_element(data, first.stop, self._order), values.size)
            return (values + 1j * second).reshape(head.shape, order="F")
        return values.astype(_CLASSES[head.cls]).reshape(head.shape, order="F")

    def _count(self, shape: tuple[int, ...], data: memoryview) -> int:
        n = math.prod(shape)
        if n * 8 > len(data):
            raise ValueError(f"a variable of the size {shape} has {len(data)} bytes")
        return n

    def _matrices(self, data: memoryview, position: int, n: int) -> Iterator[Any]:
        for _ in range(n):
            found = _element(data, position, self._order)
            if found.kind != _MATRIX:
                raise ValueError("a part of a cell array or struct is no variable")
            yield self.matrix(found.data)
            position = found.stop

    def _struct(self, data: memoryview, head: _Head) -> Any:
        length = _element(data, head.content, self._order)
        size = int(self._numbers(length, 1)[0])
        texts = _element(data, length.stop, self._order)
        if size < 1 or len(texts.data) % size:
            raise ValueError("the names of the fields of a struct are damaged")
        raw = [bytes(texts.data[k : k + size]) for k in range(0, len(texts.data), size)]
        names = [text.split(b"\0", 1)[0].decode("utf-8", errors="replace") for text in raw]
        n = self._count(head.shape, data) if names else min(math.prod(head.shape), 1)
        values = self._matrices(data, texts.stop, n * len(names))
        items = [{name: next(values) for name in names} for _ in range(n)]
        return items[0] if len(items) == 1 else Structs(items, head.shape)

    def _numbers(self, element: _Element, n: int) -> Any:
        if element.kind not in _NUMBERS:
            raise ValueError(f"numbers of the type {element.kind}")
        dtype = np.dtype(self._order + _NUMBERS[element.kind])
        if len(element.data) != n * dtype.itemsize:
            raise ValueError(f"{len(element.data)} bytes of numbers where {n} numbers are said to be")
        return np.frombuffer(element.data, dtype=dtype)

    def _chars(self, element: _Element, shape: tuple[int, ...]) -> Any:
        if element.kind not in _TEXT:
            raise ValueError(f"text of the type {element.kind}")
        name = _TEXT[element.kind]
        encoding = name + ("-le" if self._order == "<" else "-be") if name in ("utf-16", "utf-32") else name
        text = bytes(element.data).decode(encoding, errors="replace")
        rows = shape[0] if shape else 0
        if rows <= 1:
            return text.rstrip()
        if rows > max(len(text), 1):
            return ""
        return np.array([text[row::rows].rstrip() for row in range(rows)])

    def _sparse(self, data: memoryview, head: _Head) -> Any:
        rows = _element(data, head.content, self._order)
        columns = _element(data, rows.stop, self._order)
        values = _element(data, columns.stop, self._order)
        index, ends = self._all_numbers(rows), self._all_numbers(columns)
        if head.is_logical and len(values.data) < 8 * max(1, len(index)):
            values = values._replace(kind=2)  # Matlab writes bytes and calls them doubles
        return dense(self._all_numbers(values), index, ends, head.shape)

    def _all_numbers(self, element: _Element) -> Any:
        size = np.dtype(_NUMBERS.get(element.kind, "u1")).itemsize
        return self._numbers(element, len(element.data) // size)
