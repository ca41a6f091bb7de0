"""Figures of sweeps: what hyperparameters do to a metric, and how much that depends on the seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, NotFoundError, UsageError, suggest
from lfadsrm_hpc.results.colors import MUTED, colors, foreground, text_on
from lfadsrm_hpc.results.plots.groups import name_colors
from lfadsrm_hpc.results.plots.parts import (
    bare,
    grid_axes,
    new_axes,
    short_label,
    short_labels,
    spread,
    tidy_grid,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Array = npt.NDArray[Any]
_LOGARITHMIC = 8.0  # numbers that span this factor are spread by their logarithm
_MOST_WRITTEN = 60  # cells, beyond which no numbers are written into them


@dataclass(frozen=True)
class _About:
    """What a metric is called, and whether less of it is better."""

    label: str
    less_is_better: bool = False


_METRICS = {
    "bits_per_spike": _About("bits per spike"),
    "co_bps": _About("co-smoothing (bits per spike)"),
    "fp_bps": _About("forward prediction (bits per spike)"),
    "rate_r2": _About("R² of rates"),
    "psth_r2": _About("R² of condition averages"),
    "latent_r2": _About("R² of latents"),
    "decoding_r2": _About("R² of decoded behaviour"),
    "lowest_valid_cost": _About("lowest validation cost (nats per trial)", less_is_better=True),
    "valid_cost": _About("last validation cost (nats per trial)", less_is_better=True),
    "seconds": _About("time spent (s)", less_is_better=True),
    "peak_memory_mb": _About("peak memory (MB)", less_is_better=True),
}


def sweep_curve(
    table: pd.DataFrame,
    metric: str,
    over: str,
    *,
    by: str = "spec",
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    """Draw a metric against one swept hyperparameter: every run a dot, means as a line, spread as bars.

    Runs that differ in something else, such as the seed, share a dot's place: the line is their mean, the
    bar one standard deviation (n - 1 degrees of freedom) to either side where there are two or more. The best
    run has a ring.

    Parameters
    ----------
    table : DataFrame
        A row a run, with columns of the metric, the hyperparameter, and what `by` names: `rc.runs_table()`.
    metric : str
        Such as "co_bps" or "lowest_valid_cost".
    over : str
        The hyperparameter. Positive numbers that span a factor of 8 get a logarithmic axis; values
        that are not numbers stand side by side.
    by : str, optional
        The column whose values have lines of their own; without it there is one line.
    ax : matplotlib Axes, optional
    legend : bool, optional
        Whether to name the lines.

    Raises
    ------
    NotFoundError
        There is no such column.
    UsageError
        The metric is no column of numbers.
    DataError
        No run has the metric.
    """
    rows, lacking = _usable(table, metric, (over,))
    scale = _Scale.of(rows[over].tolist())
    kinds = sorted(rows[by].unique().tolist(), key=str) if by in rows else []
    parts = [(str(kind), rows[rows[by] == kind]) for kind in kinds] if len(kinds) > 1 else [("", rows)]
    ax = new_axes() if ax is None else ax
    scale.on(ax, "x")
    palette = colors(len(parts))
    width = min(0.5, 0.12 * (len(parts) - 1))
    shifts = np.linspace(-width / 2, width / 2, len(parts)) if len(parts) > 1 else [0.0]
    drawn: list[tuple[Array, Array]] = []
    for (_, own), color, shift in zip(parts, palette, shifts, strict=True):
        _draw_line(ax, scale, own, (metric, over), color, shift)
        drawn.append((scale.shift(scale.place(own[over].tolist()), shift), own[metric].to_numpy(float)))
    if metric in _METRICS:
        x, values = (np.concatenate(parts_of) for parts_of in zip(*drawn, strict=True))
        _ring_best(ax, x, values, metric)
    ax.set_xlabel(over)
    ax.set_ylabel(_about(metric).label)
    ax.set_title(_counted(len(rows), lacking, metric), fontsize="medium")
    bare(ax)
    if legend:
        name_colors(ax, short_labels([kind for kind, _ in parts], 26), palette, by)
    return ax


def sweep_map(
    table: pd.DataFrame,
    metric: str,
    over: Sequence[str],
    *,
    by: str = "spec",
    axes: Any = None,
) -> Array:
    """Draw a metric against two swept hyperparameters: a cell for each pair of values, with mean and spread.

    A cell is the mean over runs that differ in something else, such as the seed; where there are two or more,
    their standard deviation is written below it. The best cell has a frame. Pairs without a run are crossed
    out. Where values were drawn at random, so that few pairs have one, runs are dots instead.

    Parameters
    ----------
    table, metric, by
        As for `sweep_curve`; what `by` names gives a panel each.
    over : two str
        The hyperparameters: horizontally, vertically.
    axes : array of matplotlib Axes, optional
        One for each value of `by`.

    Returns
    -------
    ndarray of Axes

    Raises
    ------
    NotFoundError
        There is no such column.
    DataError
        No run has the metric.
    UsageError
        Not two hyperparameters; another number of axes; the metric is no column of numbers.
    """
    if len(over) != 2 or over[0] == over[1]:
        raise UsageError("this figure needs two different hyperparameters", hint="over=(name, other_name)")
    rows, lacking = _usable(table, metric, tuple(over))
    kinds = sorted(rows[by].unique().tolist(), key=str) if by in rows else [None]
    scales = (_Scale.of(rows[over[0]].tolist()), _Scale.of(rows[over[1]].tolist()))
    wide, high = (len(scale.values) for scale in scales)
    pairs = {*zip(map(str, rows[over[0]]), map(str, rows[over[1]]), strict=True)}
    draw = _dots if len(pairs) < 0.5 * wide * high else _cells
    size = (1.6 + 0.62 * min(wide, 8), max(3.1, 1.3 + 0.5 * min(high, 8)))  # the name of the colours is long
    flat, grid = grid_axes(axes, len(kinds), size=size)
    values = rows[metric].to_numpy(float)
    scale = _color_scale(values, metric)
    for ax, kind in zip(flat, kinds, strict=True):
        own = rows if kind is None else rows[rows[by] == kind]
        draw(ax, own, metric, over, scales, scale)
        ax.set_xlabel(over[0])
        ax.set_ylabel(over[1])
        text = _counted(len(own), lacking if len(kinds) == 1 else 0, metric)
        ax.set_title(f"{short_label(kind, 26)}: {text}" if len(kinds) > 1 else text, fontsize="medium")
    tidy_grid(grid)
    flat[0].figure.colorbar(
        scale, ax=grid.ravel().tolist(), label=_about(metric).label, fraction=0.05, pad=0.02, aspect=25
    )
    return flat


# ---------------------------------------------------------------- what there is to draw


def _about(metric: str) -> _About:
    return _METRICS.get(metric, _About(metric))


def _usable(table: pd.DataFrame, metric: str, over: Sequence[str]) -> tuple[pd.DataFrame, int]:
    """Return the rows that have the metric, and how many have not."""
    for name in (metric, *over):
        if name not in table:
            known = [str(column) for column in table]
            raise NotFoundError(
                f"the table of runs has no column {name!r}",
                hint=suggest(name, known) or f"it has {', '.join(known)}",
            )
    try:
        values = table[metric].astype(float)
    except (TypeError, ValueError):  # names, or times
        numbers = [str(column) for column in table.select_dtypes("number")]
        raise UsageError(
            f"the column {metric!r} does not hold numbers", hint=f"these do: {', '.join(numbers)}"
        ) from None
    rows = table[np.isfinite(values)]
    if rows.empty:
        raise DataError(
            f"none of {len(table)} runs has a value of {metric}",
            hint="are they complete? see `lfadsrm status`",
        )
    return rows, len(table) - len(rows)


def _counted(runs: int, lacking: int, metric: str) -> str:
    text = f"{runs} run{'' if runs == 1 else 's'}"
    return text + (f", {lacking} more without {metric}" if lacking else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)


def _ordered(values: Sequence[Any]) -> list[Any]:
    """Return the different values: numbers in their order, then all else in that of its text."""
    numbers = {value for value in values if _is_number(value) and value == value}
    others = {str(value): value for value in values if not _is_number(value) or value != value}
    return [*sorted(numbers), *(others[text] for text in sorted(others))]


def _text(value: Any) -> str:
    return f"{value:g}" if _is_number(value) else short_label(value, 16)


class _Scale(NamedTuple):
    """An axis of values: "linear" or "log" numbers, or "names" that stand side by side."""

    kind: str
    values: list[Any]

    @classmethod
    def of(cls, values: Sequence[Any]) -> _Scale:
        known = _ordered(values)
        if not all(_is_number(value) and value == value for value in known):
            return cls("names", known)
        wide = min(known) > 0 and max(known) / min(known) >= _LOGARITHMIC
        return cls("log" if wide else "linear", known)

    def place(self, values: Sequence[Any]) -> Array:
        if self.kind == "names":
            texts = [str(value) for value in self.values]
            return np.array([texts.index(str(value)) for value in values], float)
        return np.array(values, float)

    def shift(self, places: Array, amount: float) -> Array:
        """Move places by a share of the distance between neighbours, so that lines do not hide each other."""
        known = self.place(self.values)
        if len(known) < 2:
            return places + 0.1 * amount * max(1.0, abs(float(known[0])))
        if self.kind == "log":
            moved: Array = places * float(np.min(known[1:] / known[:-1])) ** amount
            return moved
        return places + amount * float(np.min(np.diff(known)))

    def on(self, ax: Axes, which: str) -> None:
        """Give the x or y axis this scale, with ticks at the values."""
        from matplotlib.ticker import FixedLocator, NullLocator

        axis = getattr(ax, f"{which}axis")
        known = self.place(self.values)
        if self.kind == "log":
            room = float(known[-1] / known[0]) ** 0.07
            ax.set(**{f"{which}scale": "log", f"{which}lim": (known[0] / room, known[-1] * room)})
        else:
            apart = 0.5 if self.kind == "names" else 0.07 * float(known[-1] - known[0]) or 1.0
            ax.set(**{f"{which}lim": (known[0] - apart, known[-1] + apart)})
        if self.kind != "names" and len(self.values) > 10:
            return  # drawn at random: matplotlib's own ticks are rounder numbers
        shown = spread(len(known), 10)
        axis.set_major_locator(FixedLocator(known[shown].tolist()))
        axis.set_minor_locator(NullLocator())
        axis.set_ticklabels([_text(self.values[k]) for k in shown])


# ---------------------------------------------------------------- one hyperparameter


def _draw_line(
    ax: Axes, scale: _Scale, own: pd.DataFrame, names: tuple[str, str], color: Any, shift: float
) -> None:
    metric, over = names
    values, given = own[metric].to_numpy(float), own[over].tolist()
    places = scale.place(given)
    ax.plot(scale.shift(places, shift), values, "o", color=color, ms=4, alpha=0.45, mew=0)
    middle, mean, sd = [], [], []
    for place in np.unique(places):
        at = values[places == place]
        middle.append(place)
        mean.append(at.mean())
        sd.append(at.std(ddof=1) if len(at) > 1 else np.nan)
    if len(middle) == len(values) and len(values) > 12:
        return  # drawn at random: no two runs share a place, and a line would only join noise
    x = scale.shift(np.array(middle), shift)
    line = "-" if scale.kind != "names" else "none"
    ax.errorbar(x, mean, yerr=sd, color=color, lw=1.6, ls=line, marker="_", ms=9, mew=1.8, elinewidth=1.2)


def _ring_best(ax: Axes, x: Array, values: Array, metric: str) -> None:
    k = int(values.argmin() if _about(metric).less_is_better else values.argmax())
    ax.plot([x[k]], [values[k]], "o", ms=10, mfc="none", mec=foreground(), mew=1.2)


# ---------------------------------------------------------------- two hyperparameters


def _color_scale(values: Array, metric: str) -> Any:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 0.5 * abs(low or 1.0), high + 0.5 * abs(high or 1.0)
    name = "viridis_r" if _about(metric).less_is_better else "viridis"  # bright is good
    return ScalarMappable(Normalize(low, high), colormaps[name])


def _dots(
    ax: Axes, own: pd.DataFrame, metric: str, over: Sequence[str], scales: tuple[_Scale, _Scale], scale: Any
) -> None:
    x, y = (one.place(own[name].tolist()) for one, name in zip(scales, over, strict=True))
    values = own[metric].to_numpy(float)
    ax.scatter(x, y, c=values, cmap=scale.cmap, norm=scale.norm, s=42, edgecolors=MUTED, linewidths=0.6)
    k = int(values.argmin() if _about(metric).less_is_better else values.argmax())
    ax.plot([x[k]], [y[k]], "o", ms=11, mfc="none", mec=foreground(), mew=1.4)
    for one, which in zip(scales, "xy", strict=True):
        one.on(ax, which)
    bare(ax)


def _cells(
    ax: Axes, own: pd.DataFrame, metric: str, over: Sequence[str], scales: tuple[_Scale, _Scale], scale: Any
) -> None:
    from matplotlib.patches import Rectangle

    xs, ys = (one.values for one in scales)
    mean, sd = _by_cell(own, metric, over, xs, ys)
    ax.imshow(mean, cmap=scale.cmap, norm=scale.norm, aspect="auto", origin="lower", interpolation="nearest")
    for row, column in np.argwhere(np.isnan(mean)):
        for way in (1, -1):
            ends = [column - 0.5, column + 0.5], [row - 0.5 * way, row + 0.5 * way]
            ax.plot(*ends, color=MUTED, lw=0.6)
    for row, column in np.argwhere(np.isfinite(mean)) if mean.size <= _MOST_WRITTEN else ():
        text = f"{mean[row, column]:.3g}"
        if np.isfinite(sd[row, column]):
            text += f"\n±{sd[row, column]:.1g}"
        color = text_on(scale.to_rgba(mean[row, column]))
        ax.text(column, row, text, color=color, ha="center", va="center", fontsize="small")
    if np.isfinite(mean).any():
        flat = np.nanargmin(mean) if _about(metric).less_is_better else np.nanargmax(mean)
        row, column = np.unravel_index(flat, mean.shape)
        frame = Rectangle(
            (column - 0.5, row - 0.5), 1, 1, fill=False, ec=foreground(), lw=2.2, clip_on=False, zorder=4
        )
        ax.add_patch(frame)
    for axis, values in ((ax.xaxis, xs), (ax.yaxis, ys)):
        shown = spread(len(values), 10)
        axis.set_ticks(shown, [_text(values[k]) for k in shown])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _by_cell(
    own: pd.DataFrame, metric: str, over: Sequence[str], xs: Sequence[Any], ys: Sequence[Any]
) -> tuple[Array, Array]:
    """Return mean and standard deviation (y, x); NaN where there is no run, or not a second one."""
    found: dict[tuple[str, str], list[float]] = {}
    columns = (own[over[0]].tolist(), own[over[1]].tolist(), own[metric].to_numpy(float).tolist())
    for x, y, value in zip(*columns, strict=True):
        found.setdefault((str(x), str(y)), []).append(value)
    cells = [[found.get((str(x), str(y)), []) for x in xs] for y in ys]
    mean = [[float(np.mean(cell)) if cell else np.nan for cell in row] for row in cells]
    sd = [[float(np.std(cell, ddof=1)) if len(cell) > 1 else np.nan for cell in row] for row in cells]
    return np.array(mean), np.array(sd)
