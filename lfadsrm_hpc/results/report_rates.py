"""Rates and factors of chosen runs for the report page: a few trials, neurons, conditions and factors.

Only what is shown is read, as far as the chunks of the files allow. Long trials have fewer points on the page
than bins: each is the mean over a few bins, and the page says over how many.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.errors import LfadsrmError, NotFoundError
from lfadsrm_hpc.results.attaching import attach
from lfadsrm_hpc.results.averages import condition_averages
from lfadsrm_hpc.results.metrics import smooth_spikes
from lfadsrm_hpc.results.of_runs import Wanted, open_one
from lfadsrm_hpc.results.plot_colors import INFERRED, NAMED
from lfadsrm_hpc.results.report_figures import Axes, Figure, Line, axes_of

Array = npt.NDArray[Any]

MOST_SHOWN = 8  # datasets of runs on a page, about 100 kB each
MOST_DATASETS = 3  # of one run
_NEURONS, _TRIALS, _CONDITIONS, _FACTORS = 6, 3, 8, 6
_POINTS = 160
_LOOKED_AT = 16  # trials by which neurons and factors are chosen
_SMOOTHING_MS = 50.0


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


@dataclass(frozen=True)
class Panel:
    """What is shown of one dataset of a run.

    Attributes
    ----------
    run_id, label, why, dataset : str
        Whose it is, how the run is called, and why it is shown.
    about : str
        Sizes and units, as a sentence.
    trials : sequence of Trial
    measured : str
        What is drawn beside inferred rates: "spikes, smoothed ..."; "" if nothing.
    conditions : sequence of (str, str)
        Name and colour.
    averages, factors : sequence of Figure
        Averages over the trials of each condition: of rates, one a neuron; of factors.
    notes : list of str
        What is not there.
    """

    run_id: str
    label: str
    why: str
    dataset: str
    about: str
    trials: Sequence[Trial]
    measured: str = ""
    conditions: Sequence[tuple[str, str]] = ()
    averages: Sequence[Figure] = ()
    factors: Sequence[Figure] = ()
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Part:
    """The part of posterior means that a panel shows."""

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

    @property
    def smoothing_ms(self) -> float:
        return max(_SMOOTHING_MS, 2 * self.bin_ms)


@dataclass(frozen=True)
class Chosen:
    """A complete run that is to be shown.

    Attributes
    ----------
    run : Run
    token : str
        Of the claim that completed it.
    label, why : str
        How it is called on the page, and why it was chosen.
    """

    run: Run
    token: str
    label: str
    why: str


def panels_of(chosen: Sequence[Chosen], most: int = MOST_SHOWN) -> tuple[list[Panel], list[str]]:
    """Return what is shown of some runs, and what had to be left out of the page."""
    panels: list[Panel] = []
    notes: list[str] = []
    left_out = []
    for one in chosen:
        names = one.run.dataset_names
        here = _spread(len(names), min(MOST_DATASETS, most - len(panels)))
        if not len(here):
            left_out.append(one.run.id)
            continue
        if len(here) < len(names):
            shown = ", ".join(names[k] for k in here)
            notes.append(f"{one.run.id} has {len(names)} datasets; shown are {shown}.")
        for k in here:
            try:
                panels.append(panel_of(one, names[k]))
            except (LfadsrmError, OSError) as error:
                text = error.what if isinstance(error, LfadsrmError) else str(error)
                notes.append(f"{one.run.id}, {names[k]}: {text}.")
    if left_out:
        notes.append(
            f"A page shows {most} datasets; {len(left_out)} more runs are left out: {', '.join(left_out[:5])}"
            f"{' ...' if len(left_out) > 5 else ''} (--run NAME shows those that you name)."
        )
    return panels, notes


def panel_of(one: Chosen, dataset: str) -> Panel:
    """Return what is shown of one dataset of a run.

    Raises
    ------
    LfadsrmError
        The results cannot be opened, or are not those of the run.
    """
    with open_one(one.run, dataset, one.token, Wanted()) as means:
        notes: list[str] = []
        means = _with_spikes(means, one.run, dataset, notes)
        part = _part(means)
        rows = _trials(means)
        conditions, averages, factors = _averages(part, notes)
        measured = ""
        if "spikes" in means and part.rates == "rates":
            measured = f"spikes (ticks), and these smoothed with a Gaussian of {part.smoothing_ms:g} ms"
        elif "spikes" in means:
            measured = "the data"
        return Panel(
            one.run.id,
            one.label,
            one.why,
            dataset,
            _about(part),
            [_trial(part, int(row)) for row in rows],
            measured,
            conditions,
            averages,
            factors,
            [f"{one.run.id}, {dataset}: {text}" for text in notes],
        )


def _part(means: xr.Dataset) -> _Part:
    rates = "rates" if "rates" in means else "output_mean"
    group = math.ceil(means.sizes["time"] / _POINTS)
    neurons = _neurons(means, rates)
    names = means["neuron_name"].to_numpy() if "neuron_name" in means.coords else means["neuron"].to_numpy()
    held_out = set(json.loads(str(means.attrs.get("held_out_neurons", "[]"))))
    called = [f"{names[k]}{' (held out)' if int(k) in held_out else ''}" for k in neurons]
    time = _means_over(means["time"].to_numpy().astype(float), group)
    return _Part(means, rates, neurons, called, _factors(means), group, time)


def _about(part: _Part) -> str:
    sizes = part.means.sizes
    text = (
        f"{sizes['trial']:,} trials of {sizes['time']:,} bins of {part.bin_ms:g} ms, {sizes['neuron']:,} neurons, "
        f"{sizes['factor']:,} factors. Shown are {len(part.neurons)} neurons from the most active to a quiet one, "
        f"and the {len(part.factors)} factors that vary most."
    )
    return text + (f" Each point is the mean over {part.group} bins." if part.group > 1 else "")


def _with_spikes(means: xr.Dataset, run: Run, dataset: str, notes: list[str]) -> xr.Dataset:
    if "spikes" in means:
        return means
    try:
        return attach(means, run.input_files()[dataset], "spikes")
    except NotFoundError:
        notes.append("the input file of the run is not there, so rates are shown without spikes.")
    except (LfadsrmError, OSError) as error:
        notes.append(f"rates are shown without spikes: {getattr(error, 'what', error)}.")
    return means


# ---------------------------------------------------------------- what is shown


def _spread(count: int, most: int) -> Array:
    """Return at most so many numbers below a count, evenly spread."""
    return np.unique(np.linspace(0, count - 1, max(0, min(count, most))).round().astype(int))


def _neurons(means: xr.Dataset, rates: str) -> Array:
    """Return a few neurons, from the most active one to a quiet one."""
    some = means[rates].isel(trial=_spread(means.sizes["trial"], _LOOKED_AT)).to_numpy()
    order = np.argsort(-np.nan_to_num(some.mean(axis=(0, 1))), kind="stable")
    # the quietest tenth seldom shows anything
    return order[_spread(max(1, math.ceil(0.9 * len(order))), _NEURONS)]


def _factors(means: xr.Dataset) -> Array:
    """Return the factors that vary most, in their order."""
    some = means["factors"].isel(trial=_spread(means.sizes["trial"], _LOOKED_AT)).to_numpy()
    spread = np.nan_to_num(some.std(axis=(0, 1)))
    return np.sort(np.argsort(-spread, kind="stable")[:_FACTORS])


def _trials(means: xr.Dataset) -> Array:
    """Return the rows of a few trials: held for validation if there are any, of different conditions."""
    split = means["split"].to_numpy() if "split" in means.coords else np.full(means.sizes["trial"], "")
    rows = np.flatnonzero(split == "valid") if (split == "valid").any() else np.arange(len(split))
    labels = [_condition(means, row) for row in rows]
    first = {label: row for row, label in zip(rows[::-1], labels[::-1], strict=True) if label}
    chosen = sorted(first.values()) if len(first) >= min(_TRIALS, len(rows)) else list(rows)
    return np.array(chosen)[_spread(len(chosen), _TRIALS)]


def _condition(means: xr.Dataset, row: int) -> str:
    if "condition" not in means.coords:
        return ""
    value = means["condition"].to_numpy()[row]
    return "" if value is None or value != value else str(value)


def _trial(part: _Part, row: int) -> Trial:
    means = part.means
    inferred = _means_over(means[part.rates].isel(trial=row, neuron=part.neurons).to_numpy(), part.group)
    measured = counts = None
    if "spikes" in means:
        counts = means["spikes"].isel(trial=row, neuron=part.neurons).to_numpy()
        measured = counts
        if part.rates == "rates":
            measured = smooth_spikes(counts[None], bin_ms=part.bin_ms, sd_ms=part.smoothing_ms)[0]
            counts = _sums_over(counts, part.group)
        else:
            counts = None
        measured = _means_over(measured, part.group)
    split = str(means["split"].to_numpy()[row]) if "split" in means.coords else ""
    condition = _condition(means, row)
    words = [f"trial {int(means['trial'].to_numpy()[row])}", {"valid": "validation", "train": "training"}.get(split, split)]
    name = ", ".join(word for word in [*words, f"condition {condition}" if condition else ""] if word)
    rates = [
        _rates_of_trial(
            part,
            f"{part.neuron_names[k]} in {name}",
            part.neuron_names[k],
            inferred[:, k],
            None if measured is None else measured[:, k],
            None if counts is None else counts[:, k],
        )
        for k in range(len(part.neurons))
    ]
    found = _means_over(means["factors"].isel(trial=row, factor=part.factors).to_numpy(), part.group)
    axes = axes_of(part.time, [found])
    lines = [
        Line(axes.path(part.time, found[:, k]), NAMED[k % len(NAMED)], name=f"factor {number}")
        for k, number in enumerate(part.factors)
    ]
    return Trial(name, rates, _figure(axes, "factors", f"Factors in {name}", lines))


def _rates_of_trial(
    part: _Part, about: str, title: str, inferred: Array, measured: Array | None, counts: Array | None
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
    return Figure(
        title, about, axes.x_ticks(4), axes.y_ticks(3), lines, "ms", units, axes.zero()
    )


def _averages(
    part: _Part, notes: list[str]
) -> tuple[list[tuple[str, str]], list[Figure], list[Figure]]:
    """Return conditions with their colours, and averages of rates and factors by condition."""
    means = part.means
    if "condition" not in means.coords:
        return [], [], []
    labels = np.array([_condition(means, row) for row in range(means.sizes["trial"])], dtype=object)
    known = sorted(set(labels) - {""}, key=_natural)
    if not known:
        return [], [], []
    chosen = [known[k] for k in _spread(len(known), _CONDITIONS)]
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


def _average(part: _Part, found: xr.Dataset, name: str, k: int, title: str, units: str) -> Figure:
    """Draw one neuron or factor: its mean over the trials of each condition, and of rates the SEM."""
    means = [_means_over(one[:, k], part.group) for one in found[name].to_numpy()]  # condition, time, k
    spread = [_means_over(one[:, k], part.group) for one in found[f"{name}_sem"].to_numpy()]
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


def _means_over(values: Array, group: int) -> Array:
    """Return means over so many bins, the first axis; the last one may be over fewer."""
    starts = np.arange(0, values.shape[0], group)
    sizes = np.diff([*starts, values.shape[0]]).reshape(-1, *[1] * (values.ndim - 1))
    found: Array = np.add.reduceat(values.astype(np.float64), starts, axis=0) / sizes
    return found


def _sums_over(values: Array, group: int) -> Array:
    found: Array = np.add.reduceat(np.nan_to_num(values), np.arange(0, values.shape[0], group), axis=0)
    return found
