"""Parts of figures: colours, limits, projections; nothing here reads or decides anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, UsageError
from lfadsrm_hpc.results.metrics import Floats

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Colours that people who do not tell red from green can tell (Okabe and Ito).
INFERRED, SMOOTHED, TRUTH, VALID = "#0072B2", "#E69F00", "#000000", "#D55E00"


def new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def split_figure(figure: Figure | SubFigure, rows: int, columns: int, **ratios: Any) -> list[SubFigure]:
    parts: Any = figure.subfigures(rows, columns, **ratios)
    return list(np.ravel(parts))


def new_axes(projection: str | None = None) -> Any:
    return new_figure(6.0, 4.2).subplots(subplot_kw={"projection": projection})


def colors(count: int) -> list[Any]:
    """Return distinguishable colours: named ones for few, a scale without its palest end for many."""
    import matplotlib

    if count <= 8:
        okabe_ito = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
        return list(okabe_ito[:count])
    return list(matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, count)))


def lowest(logs: Mapping[str, pd.DataFrame]) -> str | None:
    costs = {name: log.attrs.get("lowest_valid_cost") for name, log in logs.items()}
    known = {name: cost for name, cost in costs.items() if cost is not None}
    return min(known, key=lambda name: known[name]) if known else None


def mark_lowest(ax: Axes, log: pd.DataFrame, color: Any) -> None:
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


def trial_conditions(means: xr.Dataset) -> npt.NDArray[Any]:
    if "condition" not in means.variables:
        return np.full(means.sizes["trial"], "all")
    return np.asarray(means["condition"])


def chosen_conditions(labels: npt.NDArray[Any], wanted: Sequence[object] | None, *, most: int) -> list[Any]:
    known = [label for label in np.unique(labels) if label != ""]
    if wanted is not None:
        missing = [condition for condition in wanted if condition not in known]
        if missing:
            raise UsageError(f"no trial has the condition {missing[0]!r}", hint=f"they are {known}")
        return list(wanted)
    if not known:
        raise DataError("no trial has a condition")
    rows = np.unique(np.linspace(0, len(known) - 1, min(most, len(known))).round().astype(int))
    return [known[row] for row in rows]


def short_label(condition: object) -> str:
    return str(condition) if len(str(condition)) <= 20 else str(condition)[:19] + "…"


def three_axes(averages: Floats, time: npt.NDArray[Any]) -> tuple[tuple[str, str, str], Any]:
    """Return names of three axes and what takes factors (time, factor) to points (time, 3)."""
    count = averages.shape[-1]
    if count < 2:
        raise DataError("a single factor is no path in space", hint="draw it over time")
    if count == 2:
        return ("time (ms)", "factor 0", "factor 1"), lambda f: np.column_stack([time, f])
    if count == 3:
        return ("factor 0", "factor 1", "factor 2"), lambda f: f
    flat = averages.reshape(-1, count)
    centre = flat.mean(axis=0)
    _, size, directions = np.linalg.svd(flat - centre, full_matrices=False)
    share = size**2 / max(float(np.sum(size**2)), 1e-30)
    names = tuple(f"PC {i + 1} ({100 * share[i]:.0f} %)" for i in range(3))
    return (names[0], names[1], names[2]), lambda f: (f - centre) @ directions[:3].T


def neuron_order(truth: Floats) -> npt.NDArray[np.intp]:
    """Order neurons by their weights in two principal components, so that alike ones are neighbours."""
    flat = truth.reshape(-1, truth.shape[-1])
    z = (flat - flat.mean(axis=0)) / np.maximum(flat.std(axis=0), 1e-12)
    _, vectors = np.linalg.eigh(z.T @ z)
    second = vectors[:, -2] if len(vectors) > 1 else np.zeros(1)
    return np.argsort(np.arctan2(second, vectors[:, -1]))


def raster(ax: Axes, counts: Floats, time: Floats) -> None:
    bins, neurons = np.nonzero(counts)
    ax.plot(time[bins], neurons, "|", color=TRUTH, ms=4, mew=0.8)
    ax.set_facecolor("white")
