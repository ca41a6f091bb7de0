"""Figures made of characters, for a terminal: pure functions from numbers to lines of text.

With Unicode a curve is drawn in braille, 2 x 4 dots a character, and a strip in eighths of a block. Plain
ASCII serves where the terminal has no such characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII_LEVELS = " .:-=+*#%@"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille character, row by row
_BRAILLE = 0x2800
_ASCII_MARKS = ".o"
_BOTH = "@"


@dataclass(frozen=True)
class Cell:
    """One character of a figure, and which curve it belongs to; None: none, or several."""

    text: str
    owner: int | None = None


Row = list[Cell]


def curves(
    x: Array, series: Sequence[Array], *, width: int, height: int, low: float, high: float, unicode: bool
) -> list[Row]:
    """Draw up to two curves over one axis; the first is a line, the second is dotted.

    Parameters
    ----------
    x : (E,) array
        Increasing.
    series : sequence of (E,) array
        What is not finite, or outside of `low` to `high`, is not drawn.
    width, height : int
        In characters.
    """
    across, down = (2, 4) if unicode else (1, 1)
    columns, rows = width * across, height * down
    grids = [
        _drawn(_resampled(x, values, columns), rows, low, high, solid=number == 0, step=across)
        for number, values in enumerate(series)
    ]
    return [
        [
            _cell([grid[r : r + down, c : c + across] for grid in grids], unicode)
            for c in range(0, columns, across)
        ]
        for r in range(0, rows, down)
    ]


def _resampled(x: Array, values: Array, columns: int) -> Array:
    """Return one value a column: the mean of those that fall into it, else what lies on the line."""
    fine = np.isfinite(values)
    x, values = x[fine].astype(float), values[fine].astype(float)
    if not len(x):
        return np.full(columns, np.nan)
    first, last = float(x[0]), float(x[-1])
    if last <= first:
        return np.where(np.arange(columns) == 0, values[-1], np.nan)
    places = np.rint((x - first) / (last - first) * (columns - 1)).astype(int)
    sums, counts = np.bincount(places, values, columns), np.bincount(places, minlength=columns)
    there = counts > 0
    means = sums[there] / counts[there]
    return np.interp(np.arange(columns), np.flatnonzero(there), means)


def _drawn(
    values: Array, rows: int, low: float, high: float, *, solid: bool, step: int
) -> npt.NDArray[np.bool_]:
    """Return which dots are set, (rows, columns), the uppermost row first."""
    grid = np.zeros((rows, len(values)), bool)
    parts = _parts(values, low, high)
    before: int | None = None
    for column, (value, part) in enumerate(zip(values, parts, strict=True)):
        if not low <= value <= high:
            before = None
            continue
        row = rows - 1 - round(float(part) * (rows - 1))
        if solid:
            start = row if before is None else before + (row > before) - (row < before)
            grid[min(start, row) : max(start, row) + 1, column] = True
        elif column % (2 * step) < step:
            grid[row, column] = step == 1 or column % step == 0
        before = row
    return grid


def _cell(parts: Sequence[npt.NDArray[np.bool_]], unicode: bool) -> Cell:
    there = [number for number, part in enumerate(parts) if part.any()]
    if not there:
        return Cell(" ")
    owner = there[0] if len(there) == 1 else None
    if not unicode:
        return Cell(_BOTH if owner is None else _ASCII_MARKS[owner], owner)
    dots = np.logical_or.reduce(list(parts))
    code = sum(_DOTS[r][c] for r, c in zip(*np.nonzero(dots), strict=True))
    return Cell(chr(_BRAILLE + code), owner)


def strip(values: Array, *, low: float, high: float, unicode: bool) -> str:
    """Draw numbers as one line, a character each; what is not finite is a blank."""
    levels = _BLOCKS if unicode else _ASCII_LEVELS
    parts = _parts(np.asarray(values, float), low, high)
    return "".join(levels[round(float(one) * (len(levels) - 1))] for one in parts)


def _parts(values: Array, low: float, high: float) -> Array:
    """Return where values are between two others, 0 to 1; halves, since differences of huge ones overflow."""
    parts = (values / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)
    found: Array = np.clip(np.nan_to_num(parts, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)
    return found


def spikes(counts: Array, *, wide: int = 1, unicode: bool) -> str:
    """Draw spike counts as one line: a bar for one spike, a digit for more, + for more than nine.

    Parameters
    ----------
    wide : int
        Characters of a bin; the mark is in its middle.
    """
    one = "╵" if unicode else "'"
    marks = [" ", one, *"23456789"]
    texts = (marks[int(n)] if 0 <= n < len(marks) else "+" for n in np.rint(counts))
    return "".join(text.center(wide) for text in texts)


def grouped(values: Array, columns: int, *, total: bool) -> tuple[Array, int]:
    """Return the first axis in at most so many groups, each summed or averaged, and how many rows make one.

    The last group may be of fewer rows.
    """
    size = max(1, -(-len(values) // columns))
    starts = np.arange(0, len(values), size)
    sums = np.add.reduceat(np.asarray(values, float), starts, axis=0)
    if total:
        return sums, size
    lengths = np.diff([*starts, len(values)])
    return sums / lengths.reshape(-1, *[1] * (sums.ndim - 1)), size


def limits(series: Sequence[Array], skipped: int) -> tuple[float, float] | None:
    """Return the lowest and highest value of curves after their first so many; None: nothing is finite."""
    values = np.concatenate([values[skipped:] for values in series])
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if len(values) else None
