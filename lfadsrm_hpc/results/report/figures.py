"""Figures of the report page: lines as paths of SVG, and what stands along their axes. Pure.

A figure is stretched to the width that the page has, so its paths are in a box of `WIDTH` x `HEIGHT` whole
numbers, and the labels of its axes are texts beside it, in percent. The template makes elements of both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

WIDTH, HEIGHT = 1000, 500


@dataclass(frozen=True)
class Line:
    """One path.

    Attributes
    ----------
    path : str
        The attribute `d`.
    color : str
        One of the page's own ("muted") or "#rrggbb".
    kind : str
        Class of the path: "line", "thin", "area", "dot" or "ticks".
    name : str
        What it is, for people who point at it; "" if the legend says so.
    row : int or None
        The run of the table that it belongs to.
    """

    path: str
    color: str
    kind: str = "line"
    name: str = ""
    row: int | None = None


@dataclass(frozen=True)
class Figure:
    """Lines in one pair of axes.

    Attributes
    ----------
    title, about : str
        Over it; in words for those who do not see it.
    x_ticks, y_ticks : sequence of (float, str)
        Place in percent, from the left and from the bottom, and label.
    lines : sequence of Line
    x_label, y_label : str
    zero : float or None
        Where time zero is, in percent, if within.
    """

    title: str
    about: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    lines: Sequence[Line] = field(default_factory=tuple)
    x_label: str = ""
    y_label: str = ""
    zero: float | None = None


class Axes(NamedTuple):
    """What a pair of axes spans."""

    left: float
    right: float
    low: float
    high: float

    def path(self, x: npt.ArrayLike, y: npt.ArrayLike) -> str:
        """Return a line through points; what is not finite interrupts it.

        Examples
        --------
        >>> Axes(0, 4, 0, 10).path([0, 1, 2, 3, 4], [0, 5, float("nan"), 10, 10])
        'M0 500l250-250M750 0l250 0'
        """
        across, up = self.place(x, y)
        known = np.isfinite(across) & np.isfinite(up)
        parts, before = [], None
        for k in np.flatnonzero(known):
            here = round(float(across[k])), round(float(up[k]))
            if before is None or not known[k - 1]:
                parts.append(f"M{here[0]} {here[1]}")
                fresh = True
            else:
                dx, dy = here[0] - before[0], here[1] - before[1]
                join = "l" if fresh else "" if dx < 0 else " "
                parts.append(f"{join}{dx}{'' if dy < 0 else ' '}{dy}")
                fresh = False
            before = here
        return "".join(parts)

    def area(self, x: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike) -> str:
        """Return the area between two lines, where both are finite."""
        xs, lows, highs = (np.asarray(one, dtype=np.float64) for one in (x, low, high))
        known = np.isfinite(lows) & np.isfinite(highs)
        if known.sum() < 2:
            return ""
        around = np.concatenate([xs[known], xs[known][::-1]])
        return self.path(around, np.concatenate([lows[known], highs[known][::-1]])) + "z"

    def place(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return where points are in the box; those far out of it are at three times its size."""
        xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        across = (xs - self.left) / ((self.right - self.left) or 1.0) * WIDTH
        up = (self.high - ys) / ((self.high - self.low) or 1.0) * HEIGHT
        return np.clip(across, -2 * WIDTH, 3 * WIDTH), np.clip(up, -2 * HEIGHT, 3 * HEIGHT)

    def x_ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """Return places in percent and labels along the bottom."""
        return _ticks(self.left, self.right, most)

    def y_ticks(self, most: int = 4) -> list[tuple[float, str]]:
        return _ticks(self.low, self.high, most)

    def zero(self) -> float | None:
        """Return where zero is on the way from left to right, in percent; None: not within."""
        if not self.left < 0 < self.right:
            return None
        return round(-100 * self.left / (self.right - self.left), 2)


def axes_of(x: npt.ArrayLike, ys: Iterable[npt.ArrayLike], *, from_zero: bool = False) -> Axes:
    """Return axes that span all values, with a little room above and below."""
    xs = np.asarray(x, dtype=np.float64)
    parts = [np.asarray(y, dtype=np.float64).ravel() for y in ys]
    values = np.concatenate(parts) if parts else np.empty(0)
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if from_zero:
        low = min(low, 0.0)
    room = 0.06 * (high - low) or max(abs(high), 1.0) * 0.05
    left, right = (float(xs.min()), float(xs.max())) if xs.size else (0.0, 1.0)
    return Axes(left, right, 0.0 if from_zero and low == 0 else low - room, high + room)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers within an interval, with at most so many steps between them.

    Examples
    --------
    >>> ticks(0, 100, 5), ticks(0.1, 0.42, 4)
    ([0.0, 20.0, 40.0, 60.0, 80.0, 100.0], [0.1, 0.2, 0.3, 0.4])
    """
    if not high > low:
        return [low]
    rough = (high - low) / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9)), 10 * power)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    span = (high - low) or 1.0
    return [(round(100 * (value - low) / span, 2), number(value)) for value in ticks(low, high, most)]


def number(value: float) -> str:
    """Return a number as people write it.

    Examples
    --------
    >>> [number(v) for v in (0.0, -0.25, 1500.0, 2000000.0)]
    ['0', '-0.25', '1500', '2e+06']
    """
    return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.3g}"
