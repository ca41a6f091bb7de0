"""Parts of figures: axes, limits, labels, projections; nothing here reads or decides anything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, UsageError
from lfadsrm_hpc.results.colors import MUTED, foreground
from lfadsrm_hpc.results.metrics import Floats

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Array = npt.NDArray[Any]

_LONGEST = 20


# ---------------------------------------------------------------- figures and axes


def new_figure(width: float, height: float) -> Figure:
    """Make a figure of a size in inches, laid out so that nothing overlaps."""
    from lfadsrm_hpc.results.plots.notebook_figure import NotebookFigure

    return NotebookFigure(figsize=(width, height), layout="constrained")


def split_figure(figure: Figure | SubFigure, rows: int, columns: int, **ratios: Any) -> list[SubFigure]:
    """Return parts of a figure, row by row."""
    parts: Any = figure.subfigures(rows, columns, **ratios)
    return list(np.ravel(parts))


def new_axes(projection: str | None = None, size: tuple[float, float] = (6.0, 4.2)) -> Any:
    """Make a figure with one pair of axes, or one of another projection."""
    return new_figure(*size).subplots(subplot_kw={"projection": projection})


def take_axes(
    axes: Any, rows: int, columns: int, *, size: tuple[float, float] = (3.2, 2.4), **shared: Any
) -> Array:
    """Return axes as (rows, columns): those that were given, or those of a new figure.

    Parameters
    ----------
    axes : None, Axes, or array of them
    size : (float, float)
        Width and height of each of the new ones, inches.
    **shared
        `sharex`, `sharey`, `width_ratios` of the new ones.

    Raises
    ------
    UsageError
        As many as are needed were not given.
    """
    if axes is None:
        figure = new_figure(max(4.2, size[0] * columns), max(2.6, size[1] * rows))
        made: Array = figure.subplots(rows, columns, squeeze=False, **shared)
        return made
    given = np.array(axes, dtype=object).ravel()
    if given.size != rows * columns:
        raise UsageError(
            f"this figure needs {rows} x {columns} axes, and {given.size} are given",
            hint=f"axes=figure.subplots({rows}, {columns}), or leave `axes` out",
        )
    return given.reshape(rows, columns)


def grid_shape(count: int, most_columns: int = 4) -> tuple[int, int]:
    """Return rows and columns for some panels.

    Examples
    --------
    >>> [grid_shape(n) for n in (1, 3, 4, 5, 6, 9)]
    [(1, 1), (1, 3), (1, 4), (2, 3), (2, 3), (3, 3)]
    """
    rows = math.ceil(count / most_columns)
    return rows, math.ceil(count / rows)


def grid_axes(axes: Any, count: int, *, size: tuple[float, float], **shared: Any) -> tuple[Array, Array]:
    """Return one axes a panel, and the grid they are in; what a new grid has too many is hidden."""
    if axes is not None:
        flat = take_axes(axes, 1, count)[0]
        return flat, flat[None, :]
    grid = take_axes(None, *grid_shape(count), size=size, **shared)
    flat = grid.ravel()
    for ax in flat[count:]:
        ax.set_visible(False)
    return flat[:count], grid


def tidy_grid(grid: Array) -> None:
    """Leave the labels of panels where they are not said already: at the left and at the bottom."""
    for row in grid:
        for ax in row[1:]:
            if ax.get_ylabel() == row[0].get_ylabel():
                ax.set_ylabel("")
    for column in grid.T:
        seen = [ax for ax in column if ax.get_visible()]
        for ax in seen[:-1]:
            ax.set_xlabel("")
        if seen and len(seen) < len(column):
            seen[-1].tick_params(labelbottom=True)


def title_figure(axes: Array, text: str) -> None:
    """Put a title over a figure of our own."""
    axes.ravel()[0].figure.suptitle(text, fontsize="medium")


def spread(count: int, most: int) -> npt.NDArray[np.intp]:
    """Return at most so many of the numbers from 0, spread over all.

    Examples
    --------
    >>> spread(10, 4).tolist(), spread(2, 4).tolist()
    ([0, 3, 6, 9], [0, 1])
    """
    return np.unique(np.linspace(0, max(count - 1, 0), min(most, count)).round().astype(np.intp))


def bare(ax: Axes) -> None:
    """Remove the sides of the frame that hold no scale."""
    ax.spines[["top", "right"]].set_visible(False)


def label_time(ax: Axes, time: Floats) -> None:
    """Name the time axis, and mark time zero where it is in the midst of a trial."""
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel("time (ms)")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.margins(x=0)
    if len(time) and time[0] < 0 < time[-1]:
        ax.axvline(0, color=MUTED, lw=0.8, ls=":", zorder=0)


def edges(time: Floats, bin_ms: float | None = None) -> tuple[float, float]:
    """Return start of the first and end of the last bin, ms."""
    width = bin_ms or (float(time[1] - time[0]) if len(time) > 1 else 1.0)
    return float(time[0]), float(time[-1]) + width


def short_label(text: object, longest: int = _LONGEST) -> str:
    """Return a text cut to what a label holds.

    Examples
    --------
    >>> short_label("a name that is much too long"), short_label(3)
    ('a name that is much…', '3')
    """
    whole = str(text)
    return whole if len(whole) <= longest else whole[: longest - 1] + "…"


def short_labels(texts: Sequence[object], longest: int = _LONGEST) -> list[str]:
    """Return texts cut to what labels hold, so that those that differ still do.

    Examples
    --------
    >>> short_labels(["a reach to the left, near", "a reach to the left, far"], 16)
    ['a reach…ft, near', 'a reach…eft, far']
    """
    whole = [str(text) for text in texts]
    head = longest // 2
    in_the_midst = [t if len(t) <= longest else f"{t[: head - 1]}…{t[head - longest :]}" for t in whole]
    for made in ([short_label(text, longest) for text in whole], in_the_midst):
        if len(set(made)) == len(set(whole)):
            return made
    return whole


def number_axis(axis: Any, count: int) -> None:
    """Put ticks at whole numbers from 0."""
    from matplotlib.ticker import MaxNLocator

    if count <= 6:
        axis.set_ticks(range(count))
    else:
        axis.set_major_locator(MaxNLocator(6, integer=True))


def neuron_label(means: xr.Dataset, neuron: int) -> str:
    """Return "neuron 3 (its name)"; the name alone says nothing where it is the number again."""
    if "neuron_name" not in means.variables:
        return f"neuron {neuron}"
    name = str(np.asarray(means["neuron_name"])[neuron])
    return f"neuron {neuron}" if name == str(neuron) else f"neuron {neuron} ({short_label(name)})"


def check_neuron(means: xr.Dataset, neuron: int) -> None:
    """Refuse the number of a neuron that is not there."""
    count = means.sizes["neuron"]
    if not 0 <= neuron < count:
        known = "there is only neuron 0" if count == 1 else f"they are 0 to {count - 1}"
        raise UsageError(f"there is no neuron {neuron}: {known}", hint="count from 0")


def output_of(means: xr.Dataset, variable: str | None) -> tuple[str, str]:
    """Return the variable that holds rates (or means of continuous data), and the label of its axis."""
    name = variable or ("rates" if "rates" in means else "output_mean")
    if name not in means:
        raise UsageError(
            f"there is no variable {name!r}", hint=f"there are {', '.join(map(str, means.data_vars))}"
        )
    words = {"rates": "rate", "output_mean": "mean", "truth": "true rate", "spikes": "spikes"}
    units = str(means[name].attrs.get("units", "")) or ("spikes/s" if name in ("rates", "truth") else "a.u.")
    if name == "spikes":
        return name, "spikes per bin"
    return name, f"{words.get(name, name)} ({units})"


# ---------------------------------------------------------------- learning curves


def lowest(logs: Mapping[str, pd.DataFrame]) -> str | None:
    """Return the name of the fit that reached the lowest validation cost; None where none did."""
    costs = {name: log.attrs.get("lowest_valid_cost") for name, log in logs.items()}
    known = {name: cost for name, cost in costs.items() if cost is not None}
    return min(known, key=lambda name: known[name]) if known else None


def mark_lowest(ax: Axes, log: pd.DataFrame, color: Any) -> None:
    """Draw a dot at the epoch of lowest validation cost."""
    epoch = log.attrs.get("lowest_valid_epoch")
    if epoch is not None:
        ax.plot([epoch], [log.attrs["lowest_valid_cost"]], "o", color=color, ms=5, mec="white", mew=0.8)


def cut_off_start(ax: Axes, logs: Sequence[pd.DataFrame]) -> None:
    """Set the limits of the costs by what comes after the first tenth of each fit."""
    later = [log[["train_total", "valid_total"]].to_numpy()[len(log) // 10 :].ravel() for log in logs]
    values = np.concatenate(later) if later else np.empty(0)
    values = values[np.isfinite(values)]
    if values.size:
        low, high = values.min(), values.max()
        margin = 0.05 * (high - low) or 1.0
        ax.set_ylim(low - margin, high + margin)


# ---------------------------------------------------------------- projections and orders


def three_axes(averages: Floats, time: Array) -> tuple[tuple[str, str, str], Any]:
    """Return names of three axes and what takes factors (time, factor) to points (time, 3)."""
    count = averages.shape[-1]
    if count < 2:
        raise DataError("a single factor is no path in space", hint="draw it over time: factors_over_time")
    if count == 2:
        return ("time (ms)", "factor 0", "factor 1"), lambda f: np.column_stack([time, f])
    if count == 3:
        return ("factor 0", "factor 1", "factor 2"), lambda f: f
    centre, directions, share = principal_axes(averages.reshape(-1, count))
    names = tuple(f"PC {i + 1} ({100 * share[i]:.0f} %)" for i in range(3))
    return (names[0], names[1], names[2]), lambda f: (f - centre) @ directions[:, :3]


def principal_axes(rows: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the mean of rows (n, K), their principal axes as columns (K, K), and the shares of variance.

    The sign of an axis is arbitrary; here its largest element is positive, so that figures can be compared.
    """
    centre = rows.mean(axis=0)
    values, vectors = np.linalg.eigh((rows - centre).T @ (rows - centre))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return centre, vectors, values / max(float(values.sum()), 1e-30)


def neuron_order(truth: Floats) -> npt.NDArray[np.intp]:
    """Order neurons by their weights in two principal components, so that alike ones are neighbours."""
    flat = truth.reshape(-1, truth.shape[-1])
    z = (flat - flat.mean(axis=0)) / np.maximum(flat.std(axis=0), 1e-12)
    _, directions, _ = principal_axes(z)
    second = directions[:, 1] if len(directions) > 1 else np.zeros(1)
    return np.argsort(np.arctan2(second, directions[:, 0]))


def raster(ax: Axes, counts: Floats, time: Floats) -> None:
    """Draw a tick for each bin with spikes, neurons upwards."""
    bins, neurons = np.nonzero(counts)
    ax.plot(time[bins], neurons, "|", color=foreground(), ms=4, mew=0.8)
