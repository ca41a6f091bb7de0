"""Figures of rates and factors for the report page: of single trials, and averages by condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.results.averages import condition_averages
from lfadsrm_hpc.results.colors import INFERRED, NAMED
from lfadsrm_hpc.results.metrics import smooth_spikes
from lfadsrm_hpc.results.report.figures import Axes, Figure, Line, axes_of

Array = npt.NDArray[Any]

_CONDITIONS = 8
_SMOOTHING_MS = 50.0
_SPLITS = {"valid": "validation", "train": "training"}


@dataclass(frozen=True)
class Part:
    """The part of posterior means that a panel shows.

    Attributes
    ----------
    means : xr.Dataset
    rates : str
        "rates" or "output_mean".
    neurons, factors : array of int
        Which are shown.
    neuron_names : sequence of str
        Of these.
    group : int
        Bins that are one point.
    time : array
        Of the points, ms.
    """

    means: xr.Dataset
    rates: str
    neurons: Array
    neuron_names: Sequence[str]
    factors: Array
    group: int
    time: Array

    @property
    def bin_ms(self) -> float:
        return float(self.means.attrs["bin_ms"])

    @property
    def units(self) -> str:
        return str(self.means[self.rates].attrs.get("units", ""))

    def over_time(self, values: xr.DataArray) -> Array:
        """Return values (time, ...) by point."""
        return means_over(values.to_numpy(), self.group)

    @property
    def smoothing_ms(self) -> float:
        return max(_SMOOTHING_MS, 2 * self.bin_ms)


@dataclass(frozen=True)
class Trial:
    """One trial: rates of a few neurons, and factors.

    Attributes
    ----------
    name : str
    rates : sequence of Figure
        One a neuron.
    factors : Figure
    """

    name: str
    rates: Sequence[Figure]
    factors: Figure


def trial_of(part: Part, row: int) -> Trial:
    """Return what is shown of the trial in a row."""
    name = _name(part.means, row)
    inferred = part.over_time(part.means[part.rates].isel(trial=row, neuron=part.neurons))
    measured, counts = _measured(part, row)
    rates = [
        _rates_of_trial(
            part,
            f"{title} in {name}",
            title,
            inferred[:, k],
            None if measured is None else measured[:, k],
            None if counts is None else counts[:, k],
        )
        for k, title in enumerate(part.neuron_names)
    ]
    found = part.over_time(part.means["factors"].isel(trial=row, factor=part.factors))
    axes = axes_of(part.time, [found])
    lines = [
        Line(axes.path(part.time, found[:, k]), NAMED[k % len(NAMED)], name=f"factor {number}")
        for k, number in enumerate(part.factors)
    ]
    return Trial(name, rates, _figure(axes, "factors", f"Factors in {name}", lines))


def _name(means: xr.Dataset, row: int) -> str:
    split = str(means["split"].to_numpy()[row]) if "split" in means.coords else ""
    condition = conditions_of(means)[row]
    words = [f"trial {int(means['trial'].to_numpy()[row])}", _SPLITS.get(split, split)]
    return ", ".join(word for word in [*words, f"condition {condition}" if condition else ""] if word)


def _measured(part: Part, row: int) -> tuple[Array | None, Array | None]:
    """Return what inferred rates are compared with, and where spikes were, by point and neuron."""
    if "spikes" not in part.means:
        return None, None
    data = part.means["spikes"].isel(trial=row, neuron=part.neurons).to_numpy()
    if part.rates != "rates":  # no counts
        return means_over(data, part.group), None
    smooth = smooth_spikes(data[None], bin_ms=part.bin_ms, sd_ms=part.smoothing_ms)[0]
    counts = np.add.reduceat(np.nan_to_num(data), np.arange(0, len(data), part.group), axis=0)
    return means_over(smooth, part.group), counts


def _rates_of_trial(
    part: Part, about: str, title: str, inferred: Array, measured: Array | None, counts: Array | None
) -> Figure:
    shown = [inferred] if measured is None else [inferred, measured]
    axes = axes_of(part.time, shown, from_zero=part.rates == "rates")
    lines = []
    if counts is not None:
        at = part.time[np.flatnonzero(counts > 0)]
        where = axes.place(at, np.full(len(at), axes.low))[0]
        lines.append(Line("".join(f"M{round(float(x))} 500v-28" for x in where), "text", "ticks"))
    if measured is not None:
        lines.append(Line(axes.path(part.time, measured), "muted"))
    lines.append(Line(axes.path(part.time, inferred), INFERRED))
    return _figure(axes, title, f"Rate of {about}", lines, part.units)


def _figure(axes: Axes, title: str, about: str, lines: Sequence[Line], units: str = "") -> Figure:
    return Figure(title, about, axes.x_ticks(4), axes.y_ticks(3), lines, "ms", units, axes.zero())


def averages_of(part: Part, notes: list[str]) -> tuple[list[tuple[str, str]], list[Figure], list[Figure]]:
    """Return conditions with their colours, and averages of rates and factors by condition."""
    means = part.means
    labels = conditions_of(means)
    known = sorted(set(labels) - {""}, key=_natural)
    if not known:
        return [], [], []
    chosen = [known[k] for k in spread(len(known), _CONDITIONS)]
    if len(chosen) < len(known):
        notes.append(f"{len(chosen)} of {len(known)} conditions are shown.")
    some = means[[part.rates, "factors"]].isel(
        neuron=part.neurons, factor=part.factors, trial=np.flatnonzero(np.isin(labels, chosen))
    )
    some = some.assign_coords(condition=("trial", labels[np.isin(labels, chosen)]))
    found = condition_averages(some, [part.rates, "factors"]).sel(condition=chosen)
    count = {name: int(n) for name, n in zip(chosen, found["n_trials"].to_numpy(), strict=True)}
    conditions = [(f"{name} ({count[name]})", NAMED[k % len(NAMED)]) for k, name in enumerate(chosen)]
    rates = [
        _average(part, found, part.rates, k, title, part.units) for k, title in enumerate(part.neuron_names)
    ]
    factors = [
        _average(part, found, "factors", k, f"factor {number}", "") for k, number in enumerate(part.factors)
    ]
    return conditions, rates, factors


def _average(part: Part, found: xr.Dataset, name: str, k: int, title: str, units: str) -> Figure:
    """Draw one neuron or factor: its mean over the trials of each condition, and of rates the SEM."""
    means = [means_over(one[:, k], part.group) for one in found[name].to_numpy()]  # condition, time, k
    spread = [means_over(one[:, k], part.group) for one in found[f"{name}_sem"].to_numpy()]
    axes = axes_of(part.time, means, from_zero=name == "rates")
    lines = []
    for c, (mean, sem) in enumerate(zip(means, spread, strict=True)):
        if name != "factors" and (area := axes.area(part.time, mean - sem, mean + sem)):
            lines.append(Line(area, NAMED[c % len(NAMED)], "area"))
    for c, mean in enumerate(means):
        condition = str(found["condition"].to_numpy()[c])
        lines.append(Line(axes.path(part.time, mean), NAMED[c % len(NAMED)], name=condition))
    return _figure(axes, title, f"{title}, averages over {len(means)} conditions", lines, units)


def _natural(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


# ---------------------------------------------------------------- numbers for the page


def means_over(values: Array, group: int) -> Array:
    """Return means over so many bins, the first axis; the last one may be over fewer."""
    starts = np.arange(0, values.shape[0], group)
    sizes = np.diff([*starts, values.shape[0]]).reshape(-1, *[1] * (values.ndim - 1))
    found: Array = np.add.reduceat(values.astype(np.float64), starts, axis=0) / sizes
    return found


def conditions_of(means: xr.Dataset) -> Array:
    """Return the condition of each trial as a text; "" where it has none."""
    if "condition" not in means.coords:
        return np.full(means.sizes["trial"], "", dtype=object)
    values = means["condition"].to_numpy()
    return np.array(["" if one is None or one != one else _text(one) for one in values], dtype=object)


def _text(condition: object) -> str:
    """Return a condition as a text; beside NaN whole numbers are floating-point numbers."""
    if isinstance(condition, float) and condition.is_integer():
        return str(int(condition))
    return str(condition)


def spread(count: int, most: int) -> Array:
    """Return at most so many numbers below a count, evenly spread."""
    return np.unique(np.linspace(0, count - 1, max(0, min(count, most))).round().astype(int))
