"""Figures of how sessions were aligned: global components beside what each session's read-in makes of them.

As in `plots`, functions draw into new figures (or given axes) and return axes; pyplot is left alone. What
trained read-ins make of the sessions is drawn by `plots.session_alignment`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.results.colors import colors, foreground
from lfadsrm_hpc.results.plots.parts import bare, new_figure

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_MOST_CONDITIONS = 6
_PALE, _THICK, _THIN = 0.35, 3.5, 1.0


def alignment_components(
    alignments: Mapping[str, xr.Dataset],
    *,
    components: int | Sequence[int] = 3,
    conditions: Sequence[str] | None = None,
) -> Any:
    """Draw the global components (thick, pale) and each session's projection (thin) by condition over time.

    Where thin lines run along the pale ones of their colour, the session's read-in starts at what all share.

    Parameters
    ----------
    alignments : mapping of session to xr.Dataset
        What `lfadsrm_hpc.results.alignments.open_alignment` returns.
    components : int or sequence of int
        How many of the leading ones, or which (from 0).
    conditions : sequence of str, optional
        Which; up to 6, evenly chosen, unless given. A session draws those that it has.

    Returns
    -------
    ndarray of matplotlib Axes, (sessions, components)
        `axes[0, 0].figure` is the figure.

    Raises
    ------
    UsageError
        There is no session, no such component, or no such condition.
    """
    if not alignments:
        raise UsageError("there is no alignment to draw", hint="align at least one session")
    known = min(one.sizes["component"] for one in alignments.values())
    chosen = list(range(min(components, known))) if isinstance(components, int) else list(components)
    if not chosen or max(chosen) >= known or min(chosen) < 0:
        raise UsageError(f"components {chosen} cannot be drawn", hint=f"there are {known}, counted from 0")
    labels = _labels(alignments, conditions)
    palette = dict(zip(labels, colors(len(labels)), strict=True))
    figure = new_figure(0.8 + 2.6 * len(chosen), 0.9 + 1.35 * len(alignments))
    axes = figure.subplots(len(alignments), len(chosen), sharex=True, sharey="col", squeeze=False)
    for row, (name, one) in enumerate(alignments.items()):
        axes[row, 0].set_ylabel(name, fontsize=8)
        for column, component in enumerate(chosen):
            _draw(axes[row, column], one, component, palette)
    for column, component in enumerate(chosen):
        axes[0, column].set_title(f"component {component}", fontsize=8)
        axes[-1, column].set_xlabel("time (ms)", fontsize=8)
    _legend(figure, axes[0, 0], palette)
    return axes


def _legend(figure: Any, ax: Axes, palette: Mapping[str, Any]) -> None:
    kinds = [
        ax.plot([], [], color=foreground(), lw=_THICK, alpha=_PALE, label="all sessions")[0],
        ax.plot([], [], color=foreground(), lw=_THIN, label="the session's read-in")[0],
    ]
    lines = [ax.plot([], [], color=color, lw=2, label=label)[0] for label, color in palette.items()]
    figure.legend(
        handles=[*kinds, *lines],
        loc="outside lower center",
        ncols=min(4, 2 + len(lines)),
        fontsize=7,
        frameon=False,
    )


def _labels(alignments: Mapping[str, xr.Dataset], wanted: Sequence[str] | None) -> list[str]:
    there = list(dict.fromkeys(str(c) for one in alignments.values() for c in one.condition.values))
    if wanted is None:
        count = min(len(there), _MOST_CONDITIONS)
        return [there[i] for i in np.unique(np.linspace(0, len(there) - 1, count).round().astype(int))]
    unknown = [str(c) for c in wanted if str(c) not in there]
    if unknown:
        raise UsageError(f"there is no condition {unknown[0]!r}", hint=f"there are: {', '.join(there[:20])}")
    return [str(c) for c in wanted]


def _draw(ax: Axes, one: xr.Dataset, component: int, palette: Mapping[str, Any]) -> None:
    own = [str(c) for c in one.condition.values]
    for kind, width, alpha in (("components", _THICK, _PALE), ("projection", _THIN, 1.0)):
        values = one[kind].values[..., component]
        for label in (label for label in palette if label in own):
            line = values[own.index(label)]
            ax.plot(one.time.values, line, color=palette[label], lw=width, alpha=alpha)
    r2 = float(one.r2_by_factor[component])
    ax.text(0.98, 0.97, f"R² {r2:.2f}", transform=ax.transAxes, ha="right", va="top", fontsize=7)
    bare(ax)
    ax.tick_params(labelsize=7)
