"""Figures of rates and spikes: single trials, averages by condition, rasters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, UsageError
from lfadsrm_hpc.results.colors import foreground
from lfadsrm_hpc.results.plots.groups import (
    MOST_LABELS,
    draw_averages,
    groups_of,
    known_conditions,
    name_groups,
    name_rows,
)
from lfadsrm_hpc.results.plots.parts import (
    bare,
    check_neuron,
    edges,
    grid_axes,
    label_time,
    neuron_label,
    new_axes,
    number_axis,
    output_of,
    short_label,
    spread,
    tidy_grid,
    title_figure,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

Array = npt.NDArray[Any]
_MOST_NEURONS = 6
_MOST_TRIALS = 50


def single_trial_rates_by_condition(
    means: xr.Dataset,
    neuron: int = 0,
    *,
    conditions: Sequence[object] | None = None,
    variable: str | None = None,
    most_trials: int = _MOST_TRIALS,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    """Draw the rate of one neuron in every trial (thin) and its mean by condition (thick).

    Parameters
    ----------
    means : xr.Dataset
        Posterior means; of the rates, this one neuron is read.
    neuron : int
        Index of the neuron.
    conditions : sequence, optional
        Which conditions, in order; default: at most eight, spread over all.
    variable : str, optional
        Default: ``rates``, or ``output_mean`` of a fit to continuous data.
    most_trials : int, optional
        Where a condition has more trials, so many are drawn, spread over the session. Means are over all.
    ax : matplotlib Axes, optional
    legend : bool, optional
        Whether to name the conditions.

    Returns
    -------
    Axes
        Time in ms, rates in spikes/s.

    Raises
    ------
    UsageError
        No such neuron, condition or variable.
    """
    check_neuron(means, neuron)
    name, label = output_of(means, variable)
    values, time = np.asarray(means[name].isel(neuron=neuron), np.float64), np.asarray(means["time"].values)
    groups = groups_of(means, conditions, most=8)
    ax = new_axes() if ax is None else ax
    for group in groups:
        some = group.rows[spread(len(group.rows), most_trials)]
        ax.plot(time, values[some].T, color=group.color, lw=0.5, alpha=0.35)
        mean = values[group.rows].mean(axis=0)
        ax.plot(time, mean, color=group.color, lw=2.2, label=group.label)
    label_time(ax, time)
    ax.set_ylabel(label)
    ax.set_title(f"{neuron_label(means, neuron)}, each trial and mean", fontsize="medium")
    bare(ax)
    if legend:
        name_groups(ax, groups)
    return ax


def average_rates_by_condition(
    means: xr.Dataset,
    neurons: int | Sequence[int] | None = None,
    *,
    conditions: Sequence[object] | None = None,
    variable: str | None = None,
    axes: Any = None,
    legend: bool = True,
) -> Array:
    """Draw the mean rate of each condition, and its standard error over trials as a band, a panel a neuron.

    The standard error is the standard deviation over trials (n - 1 degrees of freedom) divided by the root
    of n. A condition with a single trial has none; with more than twelve conditions bands would hide each
    other and are left out, which the title says.

    Parameters
    ----------
    means : xr.Dataset
        Posterior means; of the rates, these neurons are read.
    neurons : int or sequence of int, optional
        Default: at most six, spread over all.
    conditions : sequence, optional
        Which, in order; all unless given.
    variable : str, optional
        Default: ``rates``, or ``output_mean``; also "spikes" or "truth" where they are in `means`.
    axes : array of matplotlib Axes, optional
        One a neuron.
    legend : bool, optional
        Whether to name the conditions.

    Returns
    -------
    ndarray of Axes, shape (neuron,)

    Raises
    ------
    UsageError
        No such neuron, condition or variable; another number of axes.
    """
    if neurons is None:
        neurons = spread(means.sizes["neuron"], _MOST_NEURONS).tolist()
    chosen = [int(neurons)] if isinstance(neurons, int | np.integer) else [int(n) for n in neurons]
    for neuron in chosen:
        check_neuron(means, neuron)
    name, label = output_of(means, variable)
    groups, time = groups_of(means, conditions), np.asarray(means["time"].values)
    bands = len(groups) <= MOST_LABELS
    flat, grid = grid_axes(axes, len(chosen), size=(3.2, 2.3), sharex=True)
    for ax, neuron in zip(flat, chosen, strict=True):
        values = np.asarray(means[name].isel(neuron=neuron), np.float64)
        draw_averages(ax, time, values, groups, bands=bands)
        label_time(ax, time)
        ax.set_title(neuron_label(means, neuron), fontsize="medium")
        ax.set_ylabel(label)
    tidy_grid(grid)
    if axes is None:
        title_figure(flat, "mean ± standard error over trials" if bands else "mean over trials")
    if legend:
        last = flat[min(len(flat), grid.shape[1]) - 1]
        name_groups(last, groups, axes=grid)
    return flat


def raster_of_trial(
    data: xr.Dataset,
    trial: int,
    *,
    order: Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the spikes of all neurons in one trial, a row a neuron.

    Spikes are counted in bins, and where within a bin they fell is not known: those of one bin are drawn
    evenly over it.

    Parameters
    ----------
    data : xr.Dataset
        Posterior means with ``spikes`` (trial, time, neuron), or any other dataset that has them.
    trial : int
        As the coordinate ``trial`` names it.
    order : sequence of int, optional
        Neurons from top to bottom; default: as they are.
    ax : matplotlib Axes, optional

    Raises
    ------
    UsageError
        No such trial.
    DataError
        There are no spikes, or the values are no counts.
    """
    known = data["trial"].values if "trial" in data.coords else np.arange(data.sizes["trial"])
    rows = np.flatnonzero(known == trial)
    if not rows.size:
        raise UsageError(
            f"there is no trial {trial}: they are {known[0]} to {known[-1]}",
            hint="the original trial numbers count",
        )
    counts = _counts(data, trial=int(rows[0]))
    chosen = np.arange(counts.shape[1]) if order is None else np.asarray(order)
    ax = new_axes(size=(6.0, min(7.0, 1.6 + 0.09 * len(chosen)))) if ax is None else ax
    _ticks(ax, counts[:, chosen], data)
    ax.set_ylabel("neuron" if order is None else "neuron (ordered)")
    label = str(trial)
    shown = known_conditions(np.asarray(data["condition"])[rows]) if "condition" in data.variables else []
    if shown:
        label += f", condition {short_label(shown[0])}"
    total = int(counts.sum())
    ax.set_title(f"trial {label}: {total} spike{'' if total == 1 else 's'}", fontsize="medium")
    return ax


def raster_of_neuron(
    data: xr.Dataset,
    neuron: int = 0,
    *,
    conditions: Sequence[object] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the spikes of one neuron in all trials, a row a trial, sorted by condition.

    Parameters
    ----------
    data : xr.Dataset
        Posterior means with ``spikes`` (trial, time, neuron), or any other dataset that has them.
    neuron : int
    conditions : sequence, optional
        Which, from top to bottom; all unless given. Trials without a condition are left out where others have
        one.
    ax : matplotlib Axes, optional

    Raises
    ------
    UsageError
        No such neuron or condition.
    DataError
        There are no spikes, or the values are no counts.
    """
    check_neuron(data, neuron)
    groups = groups_of(data, conditions)
    counts = _counts(data, neuron=neuron)
    rows = np.concatenate([group.rows for group in groups])
    ax = new_axes(size=(6.0, min(7.0, 1.8 + 0.035 * len(rows)))) if ax is None else ax
    palette = np.repeat([i for i, _ in enumerate(groups)], [len(group.rows) for group in groups])
    many = len(groups) > 1
    shades = [group.color for group in groups] if many else [foreground()]
    _ticks(ax, counts[rows].T, data, palette, shades)
    ax.set_ylabel("trial" if not many else "trials by condition")
    if many:
        name_rows(ax, groups)
    ax.set_title(f"{neuron_label(data, neuron)}: {int(counts[rows].sum())} spikes", fontsize="medium")
    return ax


def _ticks(
    ax: Axes,
    counts: Array,
    data: xr.Dataset,
    palette: Array | None = None,
    shades: Sequence[Any] | None = None,
) -> None:
    """Draw a tick for each spike of `counts` (time, row); `palette` is the row's number among `shades`."""
    from matplotlib.collections import LineCollection

    time = np.asarray(data["time"].values, np.float64)
    start, end = edges(time, data.attrs.get("bin_ms"))
    width = (end - start) / len(time)
    bins, rows = np.nonzero(counts)
    number = counts[bins, rows].astype(int)
    place = np.concatenate([(np.arange(n) + 0.5) / n for n in number]) if number.size else np.empty(0)
    x = np.repeat(time[bins], number) + width * place
    y = np.repeat(rows, number)
    half = 0.42
    lines = np.stack([np.stack([x, y - half], -1), np.stack([x, y + half], -1)], 1)
    color: Any = foreground() if palette is None or shades is None else [shades[palette[row]] for row in y]
    ax.add_collection(LineCollection(list(lines), colors=color, linewidths=0.9))
    label_time(ax, time)
    ax.set_xlim(start, end)
    ax.set_ylim(counts.shape[1] - 0.5, -0.5)
    number_axis(ax.yaxis, counts.shape[1])
    bare(ax)


def _counts(data: xr.Dataset, *, trial: int | None = None, neuron: int | None = None) -> Array:
    if "spikes" not in data:
        raise DataError(
            "there are no spikes here",
            hint="a run has them in its inputs: `run.plot_raster`; or add them: means.assign(spikes=...)",
        )
    one = data["spikes"].isel(trial=trial) if trial is not None else data["spikes"].isel(neuron=neuron)
    counts = np.asarray(one, np.float64)
    if not np.array_equal(counts, np.floor(counts)) or (counts < 0).any():
        raise DataError(
            "these are values of a continuous signal, not spikes: there is no raster of them",
            hint="draw its rates: plot_single_trial_rates",
        )
    return counts.astype(np.int64)
