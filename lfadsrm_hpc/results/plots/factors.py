"""Figures of what lies behind the rates: factors over time and in space, inferred inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, UsageError
from lfadsrm_hpc.results.colors import MUTED, foreground
from lfadsrm_hpc.results.plots.groups import (
    MOST_LABELS,
    Group,
    draw_averages,
    groups_of,
    name_groups,
    name_rows,
)
from lfadsrm_hpc.results.plots.parts import (
    edges,
    grid_axes,
    label_time,
    new_axes,
    spread,
    take_axes,
    three_axes,
    tidy_grid,
    title_figure,
)

if TYPE_CHECKING:
    import xarray as xr

Array = npt.NDArray[Any]
_MOST_FACTORS = 12
_MOST_PATHS = 10


def factors_over_time(
    means: xr.Dataset,
    factors: int | Sequence[int] | None = None,
    *,
    conditions: Sequence[object] | None = None,
    trials: bool = False,
    axes: Any = None,
    legend: bool = True,
) -> Array:
    """Draw factors over time, a panel each: means by condition, with standard errors as bands.

    Factors have no unit of their own: rates depend on them through the read-out.

    Parameters
    ----------
    means : xr.Dataset
        Posterior means.
    factors : int or sequence of int, optional
        Default: the twelve whose condition means vary most, by number.
    conditions : sequence, optional
        Which, in order; all unless given.
    trials : bool, optional
        Draw single trials too, thin, at most ten of each condition.
    axes : array of matplotlib Axes, optional
        One a factor.
    legend : bool, optional
        Whether to name the conditions.

    Returns
    -------
    ndarray of Axes, shape (factor,)

    Raises
    ------
    UsageError
        No such factor or condition; another number of axes.
    """
    values = np.asarray(means["factors"], np.float64)
    groups, time = groups_of(means, conditions), np.asarray(means["time"].values)
    count = values.shape[-1]
    chosen = _chosen(factors, count, "factor") if factors is not None else _strongest(values, groups)
    bands = len(groups) <= MOST_LABELS
    flat, grid = grid_axes(axes, len(chosen), size=(2.9, 1.9), sharex=True)
    for ax, factor in zip(flat, chosen, strict=True):
        if trials:
            _thin_trials(ax, time, values[..., factor], groups)
        draw_averages(ax, time, values[..., factor], groups, bands=bands and not trials)
        label_time(ax, time)
        ax.set_ylabel("factor (a.u.)")
        ax.set_title(f"factor {factor}", fontsize="medium")
    tidy_grid(grid)
    if axes is None:
        some = f"{len(chosen)} of {count} factors" if len(chosen) < count else "factors"
        what = "means and single trials" if trials else "mean ± standard error" if bands else "means"
        title_figure(flat, f"{some}: {what}")
    if legend:
        last = flat[min(len(flat), grid.shape[1]) - 1]
        name_groups(last, groups, axes=grid)
    return flat


def factors_3d(
    means: xr.Dataset,
    *,
    conditions: Sequence[object] | None = None,
    ax: Any = None,
    trials: bool = True,
    legend: bool = False,
) -> Any:
    """Draw the factors as paths in space, by condition: means thick, single trials thin, a dot at the start.

    More than three factors are projected on the first three principal components of the condition means;
    two are drawn over time.

    Parameters
    ----------
    means : xr.Dataset
        Posterior means.
    conditions : sequence, optional
        Which conditions; default: at most twelve, spread over all.
    ax : matplotlib Axes3D, optional
        Axes with ``projection="3d"``.
    trials : bool, optional
        Draw single trials too (at most ten of each condition).
    legend : bool, optional
        Whether to name the conditions.

    Returns
    -------
    Axes3D

    Raises
    ------
    DataError
        There is one factor only.
    """
    from matplotlib.ticker import MaxNLocator, NullFormatter

    factors = np.asarray(means["factors"], dtype=np.float64)
    groups = groups_of(means, conditions, most=12)
    averages = np.stack([factors[group.rows].mean(axis=0) for group in groups])
    names, project = three_axes(averages, means["time"].values)
    if ax is None:
        ax = new_axes(projection="3d", size=(5.2, 4.4))
    elif getattr(ax, "name", "") != "3d":
        raise UsageError("these axes have no depth", hint='figure.subplots(subplot_kw={"projection": "3d"})')
    for group, average in zip(groups, averages, strict=True):
        if trials:
            for path in factors[group.rows][:_MOST_PATHS]:
                ax.plot(*project(path).T, color=group.color, lw=0.4, alpha=0.3)
        x, y, z = project(average).T
        ax.plot(x, y, z, color=group.color, lw=1.8)
        ax.scatter(x[:1], y[:1], z[:1], color=group.color, s=14)
    for axis, name in zip((ax.xaxis, ax.yaxis, ax.zaxis), names, strict=True):
        axis.set_label_text(name)
        axis.pane.set_alpha(0.04)
        if not name.startswith("time"):  # only directions have a meaning, not the numbers
            axis.labelpad = -8
            axis.set_major_locator(MaxNLocator(4))
            axis.set_major_formatter(NullFormatter())
    ax.set_box_aspect(None, zoom=1.1)
    kinds = f"{len(groups)} conditions" if len(groups) > 1 else groups[0].title
    ax.set_title(f"factors, {kinds}", fontsize="medium")
    if legend:
        name_groups(ax, groups)
    return ax


def inferred_inputs(
    means: xr.Dataset,
    outputs: int | Sequence[int] | None = None,
    *,
    conditions: Sequence[object] | None = None,
    axes: Any = None,
    legend: bool = True,
) -> Array:
    """Draw what the controller put into the generator: every trial as a row, and averages by condition.

    Left: posterior means in single trials, sorted by condition, blue below and red above zero. Right: mean
    and standard error by condition. Inferred inputs have no unit, and their signs are arbitrary; zero is the
    mean of their prior.

    Parameters
    ----------
    means : xr.Dataset
        Posterior means.
    outputs : int or sequence of int, optional
        Which controller outputs; all unless given.
    conditions : sequence, optional
        Which, from top to bottom; all unless given.
    axes : array of matplotlib Axes, optional
        Two a controller output.
    legend : bool, optional
        Whether to name the conditions.

    Returns
    -------
    ndarray of Axes, shape (output, 2)

    Raises
    ------
    DataError
        The model has no controller.
    UsageError
        No such output or condition; another number of axes.
    """
    if "controller_outputs" not in means:
        raise DataError(
            "the model has no controller, so it infers no inputs",
            hint="set co_dim to the number of inputs that it shall infer",
        )
    values = np.asarray(means["controller_outputs"], np.float64)
    chosen = _chosen(outputs, values.shape[-1], "controller output")
    groups, time = groups_of(means, conditions), np.asarray(means["time"].values)
    grid = take_axes(axes, len(chosen), 2, size=(3.7, 2.2), sharex=True)
    rows = np.concatenate([group.rows for group in groups])
    for (left, right), output in zip(grid, chosen, strict=True):
        top = float(np.quantile(np.abs(values[rows][..., output]), 0.995)) or 1.0
        image = left.imshow(
            values[rows][..., output], aspect="auto", interpolation="nearest", cmap="RdBu_r", vmin=-top,
            vmax=top, extent=(*edges(time, means.attrs.get("bin_ms")), len(rows) - 0.5, -0.5),
        )  # fmt: skip
        left.figure.colorbar(image, ax=left, fraction=0.06, pad=0.02, label="a.u.")
        draw_averages(right, time, values[..., output], groups, bands=len(groups) <= MOST_LABELS)
        right.axhline(0, color=MUTED, lw=0.7, ls=":", zorder=0)
        for ax in (left, right):
            label_time(ax, time)
        left.set_xlim(*edges(time, means.attrs.get("bin_ms")))
        left.set_ylabel("trial")
        name_rows(left, groups, foreground())
        left.set_title(f"inferred input {output}, every trial", fontsize="medium")
        right.set_ylabel("input (a.u.)")
        right.set_title("mean by condition" if len(groups) > 1 else "mean over trials", fontsize="medium")
    for row in grid[:-1]:
        for ax in row:
            ax.set_xlabel("")
    if legend:
        name_groups(grid[0, 1], groups, axes=grid[:, 1])
    return grid


def _thin_trials(ax: Any, time: Array, values: Array, groups: Sequence[Group]) -> None:
    for group in groups:
        some = group.rows[spread(len(group.rows), _MOST_PATHS)]
        ax.plot(time, values[some].T, color=group.color, lw=0.4, alpha=0.3)


def _chosen(wanted: int | Sequence[int] | None, count: int, what: str) -> list[int]:
    if wanted is None:
        return list(range(count))
    chosen = [int(wanted)] if isinstance(wanted, int | np.integer) else [int(one) for one in wanted]
    for one in chosen:
        if not 0 <= one < count:
            raise UsageError(f"there is no {what} {one}: they are 0 to {count - 1}", hint="count from 0")
    return chosen


def _strongest(values: Array, groups: Sequence[Group]) -> list[int]:
    """Return the factors whose condition means vary most, by number."""
    averages = np.stack([values[group.rows].mean(axis=0) for group in groups])
    variance = averages.reshape(-1, averages.shape[-1]).var(axis=0)
    return sorted(np.argsort(-variance, kind="stable")[:_MOST_FACTORS].tolist())
