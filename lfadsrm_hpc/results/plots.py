"""A first set of figures: learning curves, single-trial rates, factors in 3-D, rates against truth.

Every function draws into the axes or figure that it is given or into a new one, and returns it; none touches
pyplot's state, so that all work without a display. Save with ``ax.figure.savefig("name.png", dpi=150)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.results.metrics import pooled_r2, smooth_spikes
from lfadsrm_hpc.results.plot_parts import (
    INFERRED,
    SMOOTHED,
    TRUTH,
    VALID,
    chosen_conditions,
    colors,
    cut_off_start,
    lowest,
    mark_lowest,
    neuron_order,
    new_axes,
    new_figure,
    raster,
    short_label,
    split_figure,
    three_axes,
    trial_conditions,
)

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_MOST_LABELS = 12


def learning_curves(
    logs: pd.DataFrame | Mapping[str, pd.DataFrame], *, ax: Axes | None = None, legend: bool = True
) -> Axes:
    """Draw costs by epoch: training and validation of one run, or validation of several.

    The lowest validation cost that counts (see `read_fitlog`) is marked. The first epochs of a fit cost so
    much more than the rest that they are cut off.

    Parameters
    ----------
    logs : DataFrame or mapping of name to DataFrame
        What `read_fitlog` returns.
    ax : matplotlib Axes, optional
    legend : bool, optional
        Whether to name the runs.

    Raises
    ------
    UsageError
        There is no log.
    """
    named = dict(logs) if isinstance(logs, Mapping) else {"": logs}
    if not named:
        raise UsageError("there is no fit log to draw")
    ax = new_axes() if ax is None else ax
    if len(named) == 1:
        ((name, log),) = named.items()
        ax.plot(log["epoch"], log["train_total"], color=INFERRED, lw=1.5, label="training")
        ax.plot(log["epoch"], log["valid_total"], color=VALID, lw=1.5, label="validation")
        mark_lowest(ax, log, VALID)
        ax.set_title(name, fontsize=9)
    else:
        for (name, log), color in zip(named.items(), colors(len(named)), strict=True):
            ax.plot(log["epoch"], log["valid_total"], color=color, lw=1.3, label=name)
            mark_lowest(ax, log, color)
        title = f"validation cost of {len(named)} runs"
        best = lowest(named)
        if len(named) > _MOST_LABELS and best:
            title += f", lowest: {best}"
        ax.set_title(title, fontsize=9)
    cut_off_start(ax, list(named.values()))
    ax.set_xlabel("epoch")
    ax.set_ylabel("cost (nats per trial)")
    ax.spines[["top", "right"]].set_visible(False)
    if legend and len(named) <= _MOST_LABELS:
        ax.legend(fontsize=7, frameon=False, loc="upper right")
    return ax


def single_trial_rates_by_condition(
    means: xr.Dataset,
    neuron: int = 0,
    *,
    conditions: Sequence[object] | None = None,
    variable: str | None = None,
    ax: Axes | None = None,
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
    ax : matplotlib Axes, optional
    """
    name = variable or ("rates" if "rates" in means else "output_mean")
    if not 0 <= neuron < means.sizes["neuron"]:
        raise UsageError(f"there is no neuron {neuron}: they are 0 to {means.sizes['neuron'] - 1}")
    array = means[name].isel(neuron=neuron)
    values, time = np.asarray(array), means["time"].values
    labels = trial_conditions(means)
    shown = chosen_conditions(labels, conditions, most=8)
    ax = new_axes() if ax is None else ax
    for condition, color in zip(shown, colors(len(shown)), strict=True):
        trials = values[labels == condition]
        ax.plot(time, trials.T, color=color, lw=0.5, alpha=0.35)
        ax.plot(time, trials.mean(axis=0), color=color, lw=2.2, label=short_label(condition))
    ax.set_xlabel("time (ms)")
    ax.set_ylabel(f"rate ({array.attrs['units']})" if name == "rates" else f"{name} ({array.attrs['units']})")
    unit = np.asarray(means["neuron_name"])[neuron]
    ax.set_title(f"neuron {neuron} ({unit}), each trial and mean", fontsize=10)
    ax.margins(x=0)
    ax.spines[["top", "right"]].set_visible(False)
    if len(shown) > 1:
        ax.legend(title="condition", fontsize=7, title_fontsize=7, frameon=False, ncols=2)
    return ax


def factors_3d(
    means: xr.Dataset, *, conditions: Sequence[object] | None = None, ax: Any = None, trials: bool = True
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

    Returns
    -------
    Axes3D

    Raises
    ------
    DataError
        There is one factor only.
    """
    factors = np.asarray(means["factors"], dtype=np.float64)
    labels = trial_conditions(means)
    shown = chosen_conditions(labels, conditions, most=12)
    averages = np.stack([factors[labels == condition].mean(axis=0) for condition in shown])
    names, project = three_axes(averages, means["time"].values)
    ax = new_axes(projection="3d") if ax is None else ax
    for condition, average, color in zip(shown, averages, colors(len(shown)), strict=True):
        if trials:
            for path in factors[labels == condition][:10]:
                ax.plot(*project(path).T, color=color, lw=0.4, alpha=0.3)
        x, y, z = project(average).T
        ax.plot(x, y, z, color=color, lw=1.8)
        ax.scatter(x[:1], y[:1], z[:1], color=color, s=14)
    for axis, name in zip((ax.xaxis, ax.yaxis, ax.zaxis), names, strict=True):
        axis.set_label_text(name)
        axis.pane.set_alpha(0.04)
        if not name.startswith("time"):  # only directions have a meaning, not the numbers
            axis.labelpad = -8
            axis.set_ticklabels([])
    ax.set_box_aspect(None, zoom=1.1)
    ax.set_title(f"factors, {len(shown)} conditions", fontsize=10)
    return ax


def rates_against_truth(
    rates: npt.ArrayLike,
    counts: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    time_ms: npt.ArrayLike,
    bin_ms: float,
    trials: Sequence[int] = (0, 1, 2),
    neurons: Sequence[int] | None = None,
    labels: Sequence[object] | None = None,
    sd_ms: float = 50.0,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw spikes, smoothed spikes, inferred rates and true rates of some trials, with R2 over all trials.

    Parameters
    ----------
    rates, truth : array_like, shape (trial, time, neuron)
        Spikes/s.
    counts : array_like, shape (trial, time, neuron)
        Spikes per bin.
    time_ms : array_like, shape (time,)
    bin_ms : float
    trials : sequence of int
        Rows to show, one line of panels each.
    neurons : sequence of int, optional
        Which neurons to show; default all, ordered by how their true rates go together.
    labels : sequence, optional
        What to call the shown trials; default: their rows.
    sd_ms : float
        Standard deviation of the Gaussian that smooths spikes.
    figure : matplotlib Figure or SubFigure, optional
    """
    from matplotlib.ticker import MaxNLocator

    y, x, t = (np.asarray(a, dtype=np.float64) for a in (rates, counts, truth))
    if not y.shape == x.shape == t.shape:
        raise UsageError(f"rates, counts and truth differ in shape: {y.shape}, {x.shape}, {t.shape}")
    smoothed = smooth_spikes(x, bin_ms=bin_ms, sd_ms=sd_ms)
    order = neuron_order(t) if neurons is None else np.asarray(neurons)
    figure = new_figure(9.5, 1.0 + 1.5 * len(trials)) if figure is None else figure
    axes = figure.subplots(len(trials), 4, squeeze=False, sharex=True, sharey=True)
    titles = (
        "spikes",
        f"smoothed, {sd_ms:g} ms: R² {pooled_r2(smoothed, t):.2f}",
        f"inferred: R² {pooled_r2(y, t):.2f}",
        "true rates",
    )
    top = float(np.quantile(t[list(trials)], 0.995))
    time = np.asarray(time_ms, dtype=np.float64)
    extent = (float(time[0]), float(time[-1] + bin_ms), len(order) - 0.5, -0.5)
    look: dict[str, Any] = {"aspect": "auto", "interpolation": "nearest", "extent": extent}
    for row, trial, label in zip(axes, trials, labels or trials, strict=True):
        raster(row[0], x[trial][:, order], time + bin_ms / 2)
        for ax, values in zip(row[1:], (smoothed, y, t), strict=True):
            image = ax.imshow(values[trial][:, order].T, vmin=0, vmax=top, cmap="magma", **look)
        row[0].set_ylabel(f"trial {label}\nneuron" + (" (sorted)" if neurons is None else ""))
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("time (ms)")
        ax.xaxis.set_major_locator(MaxNLocator(4, prune="upper"))
    figure.colorbar(image, ax=axes[:, 1:].ravel().tolist(), label="spikes/s", fraction=0.03, pad=0.01)
    return figure


def rate_traces(
    rates: npt.ArrayLike,
    counts: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    time_ms: npt.ArrayLike,
    bin_ms: float,
    trial: int,
    neurons: Sequence[int],
    sd_ms: float,
    axes: Sequence[Axes],
    label: object = None,
) -> None:
    """Draw true, inferred and smoothed rates of a few neurons in one trial, one axes a neuron.

    Units and shapes as in `rates_against_truth`; `trial` is a row, `label` what to call it.
    """
    y, x, t = (np.asarray(a, dtype=np.float64)[trial] for a in (rates, counts, truth))
    smoothed = smooth_spikes(x, bin_ms=bin_ms, sd_ms=sd_ms)
    time = np.asarray(time_ms, dtype=np.float64) + bin_ms / 2
    for ax, neuron in zip(axes, neurons, strict=True):
        ax.plot(time, smoothed[:, neuron], color=SMOOTHED, lw=1.2, label=f"smoothed, {sd_ms:g} ms")
        ax.plot(time, t[:, neuron], color=TRUTH, lw=1.6, label="true")
        ax.plot(time, y[:, neuron], color=INFERRED, lw=1.8, label="inferred")
        fired = time[x[:, neuron] > 0]
        top = 1.05 * max(float(a[:, neuron].max()) for a in (smoothed, t, y))
        ax.plot(fired, np.full(fired.size, -0.1 * top), "|", color=TRUTH, ms=5, mew=0.8)
        ax.set_ylabel(f"neuron {neuron}\nspikes/s", fontsize=8)
        ax.set_ylim(-0.2 * top, top)
        ax.axhline(0, color="0.7", lw=0.6)
        ax.margins(x=0)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[:-1]:
        ax.tick_params(labelbottom=False)
    axes[0].set_title(f"trial {trial if label is None else label} (ticks: spikes)", fontsize=10, loc="left")
    axes[0].legend(fontsize=8, frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1.0, 0.98))
    axes[-1].set_xlabel("time (ms)")


def inferred_and_smoothed(
    rates: npt.ArrayLike,
    counts: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    bin_ms: float,
    sd_ms: float,
    axes: Sequence[Axes],
    most: int = 200_000,
) -> None:
    """Draw how often smoothed and inferred rates go with which true rate, with pooled R2, in two axes.

    Units and shapes as in `rates_against_truth`; at most `most` bins are counted, drawn at random.
    """
    t = np.asarray(truth, dtype=np.float64)
    smoothed = smooth_spikes(counts, bin_ms=bin_ms, sd_ms=sd_ms)
    pick = np.random.default_rng(0).permutation(t.size)[:most]
    top = float(np.quantile(t, 0.998)) * 1.15
    pairs = (("smoothed spikes", smoothed, "YlOrBr"), ("inferred by LFADS", np.asarray(rates), "Blues"))
    look: dict[str, Any] = {"gridsize": 45, "bins": "log", "mincnt": 1, "extent": (0, top, 0, top)}
    for ax, (name, values, scale) in zip(axes, pairs, strict=True):
        true, estimated = t.ravel()[pick], values.ravel()[pick]
        inside = (true <= top) & (estimated <= top)
        ax.hexbin(true[inside], estimated[inside], cmap=scale, **look)
        ax.plot([0, top], [0, top], color=TRUTH, lw=0.8, ls="--")
        ax.set(xlim=(0, top), ylim=(0, top), aspect="equal", xlabel="true rate (spikes/s)")
        ax.set_title(f"{name}\nR² = {pooled_r2(values, t):.2f} (darker: more bins)", fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("estimated rate (spikes/s)")


def demo_summary(
    means: xr.Dataset,
    counts: npt.ArrayLike,
    truth: npt.ArrayLike,
    logs: Mapping[str, pd.DataFrame],
    *,
    sd_ms: float = 50.0,
    trial: int = 0,
    title: str = "",
) -> Figure:
    """Put on one page what a run found: rates against truth and smoothed spikes, factors, learning curves.

    Parameters
    ----------
    means : xr.Dataset
        Posterior means of one dataset of one run.
    counts, truth : array_like, shape (trial, time, neuron)
        Spikes per bin, and spikes/s, of the trials of `means` (which may be a selection, say the validation
        trials; every R2 is over these).
    logs : mapping of name to DataFrame
        Fit logs of all runs to show.
    sd_ms : float
        Of the Gaussian that smooths spikes.
    trial : int
        Row of the trial to show; it is named by the coordinate ``trial``.
    title : str, optional
    """
    rates, t = np.asarray(means["rates"]), np.asarray(truth, dtype=np.float64)
    time, bin_ms = means["time"].values, float(means.attrs["bin_ms"])
    same: dict[str, Any] = {"bin_ms": bin_ms, "sd_ms": sd_ms}
    name = int(means["trial"].values[trial])
    figure = new_figure(13, 10.5)
    top, middle, bottom = split_figure(figure, 3, 1, height_ratios=(1.0, 1.35, 1.25))
    rates_against_truth(rates, counts, t, time_ms=time, trials=[trial], labels=[name], figure=top, **same)
    left, right = split_figure(middle, 1, 2, width_ratios=(1.0, 1.05))
    neurons = np.argsort(-t[trial].std(axis=0))[:3]
    rate_traces(
        rates, counts, t, time_ms=time, trial=trial, neurons=neurons.tolist(),
        axes=np.ravel(left.subplots(len(neurons), 1, sharex=True)).tolist(), label=name, **same,
    )  # fmt: skip
    inferred_and_smoothed(rates, counts, t, axes=right.subplots(1, 2).tolist(), **same)
    low_left, low_right = split_figure(bottom, 1, 2, width_ratios=(0.9, 1.15))
    factors_3d(means, ax=low_left.subplots(subplot_kw={"projection": "3d"}))
    learning_curves(logs, ax=low_right.subplots())
    if title:
        figure.suptitle(title, fontsize=12)
    return figure
