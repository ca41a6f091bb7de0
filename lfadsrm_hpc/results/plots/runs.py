"""Figures of how runs were trained: costs by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.results.colors import INFERRED, MUTED, VALID, colors, foreground
from lfadsrm_hpc.results.plots.groups import MOST_LABELS, name_colors, place_legend
from lfadsrm_hpc.results.plots.parts import (
    bare,
    cut_off_start,
    lowest,
    mark_lowest,
    new_axes,
    short_label,
    short_labels,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_LONGEST = 44


def learning_curves(
    logs: pd.DataFrame | Mapping[str, pd.DataFrame], *, ax: Axes | None = None, legend: bool = True
) -> Axes:
    """Draw costs by epoch: training and validation of one run, or validation of several.

    The lowest validation cost that counts (see `read_fitlog`) is marked. The first epochs of a fit cost so
    much more than the rest that they are cut off. Of one run, the epochs in which the KL or L2 costs were
    still ramped up are shaded: costs there cannot be compared with later ones. More runs than twelve are
    coloured by their lowest cost, and the best of them is drawn in the colour of text.

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
        raise UsageError("there is no fit log to draw", hint="train a run first: `lfadsrm run`")
    ax = new_axes() if ax is None else ax
    if len(named) == 1:
        _curves_of_one(ax, *next(iter(named.items())))
    else:
        _curves_of_many(ax, named, legend)
    cut_off_start(ax, list(named.values()))
    ax.set_xlabel("epoch")
    ax.set_ylabel("cost (nats per trial)")
    bare(ax)
    if legend and len(named) == 1:  # costs fall: that corner is free
        ax.legend(fontsize="small", frameon=False, loc="upper right")
    elif legend and len(named) <= MOST_LABELS:
        place_legend(ax)
    return ax


def _curves_of_one(ax: Axes, name: str, log: pd.DataFrame) -> None:
    if {"kl_weight", "l2_weight"} <= set(log.columns):
        ramps = log["epoch"][(log["kl_weight"] < 1) | (log["l2_weight"] < 1)]
        if len(ramps):
            ax.axvspan(ramps.min(), ramps.max(), color=MUTED, alpha=0.15, lw=0, label="ramps of KL or L2")
    ax.plot(log["epoch"], log["train_total"], color=INFERRED, lw=1.5, label="training")
    ax.plot(log["epoch"], log["valid_total"], color=VALID, lw=1.5, label="validation")
    mark_lowest(ax, log, VALID)
    ax.set_title(short_label(name, 60), fontsize="medium")


def _curves_of_many(ax: Axes, named: Mapping[str, pd.DataFrame], legend: bool) -> None:
    best, many = lowest(named), len(named) > MOST_LABELS
    names = list(named)
    if many:  # which colour is whose cannot be told, so it tells the rank
        names.sort(key=lambda name: _cost(named[name]), reverse=True)
    palette = colors(len(names))
    for name, label, color in zip(names, short_labels(names, _LONGEST), palette, strict=True):
        shown = foreground() if many and name == best else color
        width = 2.0 if name == best else 0.8 if many else 1.3
        ax.plot(named[name]["epoch"], named[name]["valid_total"], color=shown, lw=width, label=label)
        mark_lowest(ax, named[name], shown)
    title = f"validation cost of {len(named)} runs"
    if many and best:
        title += f", lowest: {short_label(best, 40)}"
    ax.set_title(title, fontsize="medium")
    if many and legend:
        name_colors(ax, [str(rank) for rank in range(len(names), 0, -1)], palette, "rank of lowest cost")


def _cost(log: pd.DataFrame) -> float:
    cost = log.attrs.get("lowest_valid_cost")
    return float("inf") if cost is None else float(cost)
