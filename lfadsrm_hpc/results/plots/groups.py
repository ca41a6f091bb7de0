"""Trials by condition: which there are, how they are drawn, what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, UsageError
from lfadsrm_hpc.results.colors import INFERRED, MUTED, colors
from lfadsrm_hpc.results.metrics import Floats
from lfadsrm_hpc.results.plots.parts import bare, short_labels, spread

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

Array = npt.NDArray[Any]

MOST_LABELS = 12  # a legend with more entries is a colour bar
ALL = "all trials"


@dataclass(frozen=True)
class Group:
    """The trials of one condition: which rows, and how they are drawn."""

    label: str
    rows: Array
    color: Any

    @property
    def title(self) -> str:
        return self.label if self.label == ALL else f"condition {self.label}"


def trial_conditions(means: xr.Dataset) -> Array:
    """Return the condition of each trial; "all" where the data have none."""
    if "condition" not in means.variables:
        return np.full(means.sizes["trial"], "all")
    return np.asarray(means["condition"])


def known_conditions(labels: Array) -> list[Any]:
    """Return the conditions that trials have, sorted; empty texts, None and NaN are no condition."""
    values = labels.tolist()
    found = {
        int(value) if isinstance(value, float) and value.is_integer() else value  # beside NaN they are floats
        for value in values
        if value is not None and value != "" and value == value
    }
    try:
        return sorted(found)
    except TypeError:  # numbers and texts together
        return sorted(found, key=str)


def chosen_conditions(labels: Array, wanted: Sequence[object] | None, *, most: int | None) -> list[Any]:
    """Return the conditions that are wanted, or else all, at most so many, spread over them."""
    known = known_conditions(labels)
    if wanted is not None:
        return find_conditions(wanted, known, "no trial has")
    if not known:
        raise DataError("no trial has a condition", hint="name single trials, or give the dataset conditions")
    if most is None:
        return known
    return [known[row] for row in spread(len(known), most)]


def find_conditions(wanted: Sequence[object], known: Sequence[Any], lacking: str) -> list[Any]:
    """Return the conditions that are meant, each as it is or as text; `lacking` begins what errors say."""
    texts = {str(one): one for one in known}
    missing = [one for one in wanted if one not in known and str(one) not in texts]
    if missing:
        raise UsageError(f"{lacking} the condition {missing[0]!r}", hint=f"they are {list(known)}")
    return [one if one in known else texts[str(one)] for one in wanted]


def groups_of(
    means: xr.Dataset, wanted: Sequence[object] | None = None, *, most: int | None = None
) -> list[Group]:
    """Return the trials by condition; all of them as one group where none has a condition.

    Parameters
    ----------
    wanted : sequence, optional
        Which conditions, in order; at most `most`, spread over all, unless given.
    """
    labels = trial_conditions(means)
    if wanted is None and ("condition" not in means.variables or not known_conditions(labels)):
        return [Group(ALL, np.arange(len(labels)), INFERRED)]
    chosen = chosen_conditions(labels, wanted, most=most)
    return [
        Group(label, np.flatnonzero(labels == one), color)
        for one, label, color in zip(chosen, short_labels(chosen), colors(len(chosen)), strict=True)
    ]


def mean_and_sem(trials: Floats) -> tuple[Floats, Floats | None]:
    """Return the mean over trials (the first axis) and its standard error; None for a single trial."""
    mean: Floats = trials.mean(axis=0)
    if len(trials) < 2:
        return mean, None
    sem: Floats = trials.std(axis=0, ddof=1) / np.sqrt(len(trials))
    return mean, sem


def draw_averages(ax: Axes, time: Array, values: Array, groups: Sequence[Group], *, bands: bool) -> None:
    """Draw the mean of each group over time, and its standard error as a band; `values` is (trial, time)."""
    from matplotlib.ticker import MaxNLocator

    for group in groups:
        mean, sem = mean_and_sem(values[group.rows])
        if sem is not None and bands:
            ax.fill_between(time, mean - sem, mean + sem, color=group.color, alpha=0.25, lw=0)
        width = 1.6 if len(groups) <= MOST_LABELS else 1.1
        ax.plot(time, mean, color=group.color, lw=width, label=group.label)
    ax.yaxis.set_major_locator(MaxNLocator(4))
    bare(ax)


def name_rows(ax: Axes, groups: Sequence[Group], color: Any = MUTED) -> None:
    """Part the rows of conditions by lines, and name as many of them as there is room for."""
    if len(groups) < 2:
        return
    counts = np.array([len(group.rows) for group in groups])
    ends = np.cumsum(counts)
    for end in ends[:-1] if len(groups) <= 30 else ():
        ax.axhline(end - 0.5, color=color, lw=0.5, zorder=2)
    shown = spread(len(groups), 12)
    places = (ends - counts / 2 - 0.5)[shown]
    ax.set_yticks(places, [groups[i].label for i in shown], fontsize="small")
    ax.tick_params(axis="y", length=0)
    ax.set_ylabel("trials by condition")


def name_groups(ax: Axes, groups: Sequence[Group], *, axes: Any = None) -> None:
    """Say which colour is which condition; see `name_colors`."""
    name_colors(ax, [g.label for g in groups], [g.color for g in groups], "condition", axes=axes)


def name_colors(
    ax: Axes, labels: Sequence[str], palette: Sequence[Any], title: str, *, axes: Any = None
) -> None:
    """Say which colour is what: by a legend, or by a colour bar where there are many.

    Parameters
    ----------
    ax : Axes
        Where the legend stands.
    axes : array of Axes, optional
        Which axes give room to a colour bar; `ax` unless given.
    """
    if len(labels) < 2:
        return
    if len(labels) > MOST_LABELS:
        _bar_of_groups(ax, labels, palette, title, ax if axes is None else list(np.ravel(axes)))
        return
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=c, lw=2.2, label=t) for t, c in zip(labels, palette, strict=True)]
    place_legend(ax, handles=handles, title=title)


def place_legend(ax: Axes, **options: Any) -> None:
    """Put a legend beside the axes where the layout makes room for it, else where it hides least."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    ours: dict[str, Any] = {"fontsize": "small", "title_fontsize": "small", "frameon": False}
    ours.update({"handlelength": 1.2, "borderaxespad": 0.3, "alignment": "left"})
    if isinstance(ax.figure.get_layout_engine(), ConstrainedLayoutEngine):
        beside = -0.02 if ax.name == "3d" else 1.01  # the name of the third axis is at the right
        ours.update({"loc": "upper left", "bbox_to_anchor": (beside, 1.0)})
    ax.legend(**{**ours, **options})


def _bar_of_groups(ax: Axes, labels: Sequence[str], palette: Sequence[Any], title: str, room: Any) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    count = len(labels)
    scale = ScalarMappable(BoundaryNorm(np.arange(count + 1) - 0.5, count), ListedColormap(list(palette)))
    shown = spread(count, 6)
    bar = ax.figure.colorbar(scale, ax=room, ticks=shown, fraction=0.05, pad=0.02, aspect=30)
    bar.ax.set_yticklabels([labels[i] for i in shown], fontsize="small")
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label(f"{title} ({count})", fontsize="small")
