"""Values of Matlab in Python, and places in them as Matlab writes them: `R(3).spikes`, `data.times{2}`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, UsageError, suggest

Array = npt.NDArray[Any]
Token: TypeAlias = str | tuple[int, ...]
_MOST_DENSE = 10**9  # numbers
_STEP = re.compile(r"\.?([A-Za-z]\w*)|[({]\s*(\d+(?:\s*,\s*\d+)*)\s*[)}]")


@dataclass(frozen=True)
class Structs:
    """An array of structs, in Matlab's order (first index fastest)."""

    items: list[dict[str, Any]]
    shape: tuple[int, ...]


def parse(path: str) -> list[Token]:
    """Return the names and indices of a path.

    Examples
    --------
    >>> parse("data(3).times{1,2}")
    ['data', (3,), 'times', (1, 2)]

    Raises
    ------
    UsageError
        It is no path.
    """
    tokens: list[Token] = []
    place = 0
    while place < len(path):
        step = _STEP.match(path, place)
        starts_right = step is not None and (step[1] is None) == bool(tokens and path[place] in "({")
        if step is None or not starts_right or (step[1] and (path[place] == ".") != bool(tokens)):
            raise UsageError(
                f"{path!r} is no place in a Matlab file", hint="write it as in Matlab: 'data(3).spikes'"
            )
        tokens.append(step[1] if step[1] else tuple(int(n) for n in step[2].split(",")))
        place = step.end()
    if not tokens:
        raise UsageError(
            "an empty text is no place in a Matlab file",
            hint="name a variable, and fields of it: data.spikes",
        )
    return tokens


def at(value: Any, tokens: Sequence[Token], path: str) -> Any:
    """Return what is at a place in a value.

    A field of an array of structs is a list, with one entry for each of them.

    Raises
    ------
    DataError
        There is no such field or index.
    """
    if not tokens:
        return value
    token, rest = tokens[0], tokens[1:]
    if isinstance(value, list):
        return [at(item, tokens, path) for item in value]
    if isinstance(token, str):
        if isinstance(value, Structs):
            return [at(field(item, token, path), rest, path) for item in value.items]
        return at(field(value, token, path), rest, path)
    if isinstance(value, Structs):
        return at(value.items[linear(token, value.shape, path)], rest, path)
    if isinstance(value, np.ndarray):
        return at(value.ravel(order="F")[linear(token, value.shape, path)], rest, path)
    linear(token, (1, 1), path)
    return at(value, rest, path)


def field(value: Any, name: str, path: str) -> Any:
    """Return a field of a struct.

    Raises
    ------
    DataError
    """
    if not isinstance(value, dict):
        raise DataError(
            f"{path}: {name!r} is asked of what is no struct",
            hint="name a field of a struct, or the variable itself",
        )
    if name not in value:
        hint = suggest(name, list(value)) or f"it has: {', '.join(value) or 'none'}"
        raise DataError(f"{path}: the struct has no field {name!r}", hint=hint)
    return value[name]


def linear(index: tuple[int, ...], shape: tuple[int, ...], path: str) -> int:
    """Return the position in Matlab's order, from 0, of an index from 1.

    Raises
    ------
    DataError
        It is out of bounds.
    """
    size = int(np.prod(shape, dtype=int))
    if len(index) == 1:
        found = index[0] - 1
    else:
        padded = (*shape, *[1] * (len(index) - len(shape)))
        inside = len(padded) == len(index) and all(1 <= i <= n for i, n in zip(index, padded, strict=True))
        found = int(np.ravel_multi_index([i - 1 for i in index], padded, order="F")) if inside else -1
    if not 0 <= found < size:
        raise DataError(
            f"{path}: index {index} is out of bounds, the size is {' x '.join(map(str, shape))}",
            hint="indices in texts count as Matlab does, from 1",
        )
    return found


def cell(items: list[Any], shape: tuple[int, ...]) -> Array:
    """Return an object array; plain assignment would make one array of items of equal shape."""
    made = np.empty(len(items), dtype=object)
    for place, item in enumerate(items):
        made[place] = item
    return made.reshape(shape)


def dense(values: Array, rows: Array, ends: Array, shape: tuple[int, ...]) -> Array:
    """Return a sparse matrix of Matlab as a full one.

    Parameters
    ----------
    values : (n,) numbers
        Column by column; there may be more than are used.
    rows : (n,) int
        From 0.
    ends : (columns + 1,) int
        Where each column begins, and the last one ends, in the two others.
    shape : (rows, columns)

    Raises
    ------
    ValueError
        They do not go together, or the full matrix is too large to be meant.
    """
    if len(shape) != 2 or shape[0] * shape[1] > _MOST_DENSE:
        raise ValueError(f"a sparse matrix of the size {shape}")
    counts: Any = np.diff(ends.astype(np.int64))
    used = int(ends[-1]) if ends.size else 0
    fits = ends.size == shape[1] + 1 and bool((counts >= 0).all()) and int(ends[0]) == 0
    if not fits or used > min(values.size, rows.size) or (used and int(rows[:used].max()) >= shape[0]):
        raise ValueError("a sparse matrix is damaged")
    out = np.zeros(shape)
    out[rows[:used].astype(np.int64), np.repeat(np.arange(shape[1]), counts)] = values[:used]
    return out
