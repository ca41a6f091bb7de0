"""Figures of rates against what is known: the true rates of synthetic data, and smoothed spikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.results.colors import INFERRED, SMOOTHED, foreground
from lfadsrm_hpc.results.metrics import pooled_r2, smooth_spikes
from lfadsrm_hpc.results.plots.factors import factors_3d
from lfadsrm_hpc.results.plots.parts import bare, neuron_order, new_figure, raster, split_figure
from lfadsrm_hpc.results.plots.runs import learning_curves

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


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
        raise UsageError(
            f"rates, counts and truth differ in shape: {y.shape}, {x.shape}, {t.shape}",
            hint="all three need the same trials, bins and neurons",
        )
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

    Parameters
    ----------
    rates, counts, truth : array_like, shape (trial, time, neuron)
    time_ms : array_like, shape (time,)
    bin_ms : float
    trial : int
    neurons : sequence of int
        Columns.
    sd_ms : float
        Of the Gaussian by which spikes are smoothed.
    axes : sequence of Axes
        As many as neurons.
    label : object, optional
    """
    y, x, t = (np.asarray(a, dtype=np.float64)[trial] for a in (rates, counts, truth))
    smoothed = smooth_spikes(x, bin_ms=bin_ms, sd_ms=sd_ms)
    time = np.asarray(time_ms, dtype=np.float64) + bin_ms / 2
    for ax, neuron in zip(axes, neurons, strict=True):
        ax.plot(time, smoothed[:, neuron], color=SMOOTHED, lw=1.2, label=f"smoothed, {sd_ms:g} ms")
        ax.plot(time, t[:, neuron], color=foreground(), lw=1.6, label="true")
        ax.plot(time, y[:, neuron], color=INFERRED, lw=1.8, label="inferred")
        fired = time[x[:, neuron] > 0]
        top = 1.05 * max(float(a[:, neuron].max()) for a in (smoothed, t, y))
        ax.plot(fired, np.full(fired.size, -0.1 * top), "|", color=foreground(), ms=5, mew=0.8)
        ax.set_ylabel(f"neuron {neuron}\nspikes/s", fontsize=8)
        ax.set_ylim(-0.2 * top, top)
        ax.axhline(0, color="0.7", lw=0.6)
        ax.margins(x=0)
        bare(ax)
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

    Parameters
    ----------
    rates, counts, truth : array_like, shape (trial, time, neuron)
    bin_ms : float
    sd_ms : float
        Of the Gaussian by which spikes are smoothed.
    axes : sequence of two Axes
        For the smoothed and for the inferred rates.
    most : int
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
        ax.plot([0, top], [0, top], color=foreground(), lw=0.8, ls="--")
        ax.set(xlim=(0, top), ylim=(0, top), aspect="equal", xlabel="true rate (spikes/s)")
        ax.set_title(f"{name}\nR² = {pooled_r2(values, t):.2f} (darker: more bins)", fontsize=10)
        bare(ax)
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
