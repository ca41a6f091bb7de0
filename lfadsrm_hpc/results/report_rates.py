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

Array = npt.NDArray[Any]

MOST_SHOWN = 12  # datasets of runs on a page, about 60 KB each
MOST_DATASETS = 3  # of one run
_NEURONS, _TRIALS, _CONDITIONS, _FACTORS = 6, 4, 8, 6
_POINTS = 160
_LOOKED_AT = 16  # trials by which neurons and factors are chosen
_SMOOTHING_MS = 50.0


@dataclass(frozen=True)
class Panel:
    """What is shown of one dataset of a run.

    Attributes
    ----------
    content : dict
        For the page; see `panel_of`.
    notes : list of str
        What is not there.
    """

    run_id: str
    content: dict[str, Any]
    notes: list[str] = field(default_factory=list)


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

    Returns
    -------
    Panel
        `content`: `run`, `label`, `why`, `dataset`, `units`, `bin_ms`, `group` (bins a point), `time` (ms),
        `neurons` ({name, rate, held_out}), `trials` (one of {trial, split, condition, rates, measured,
        spikes, factors}: a list a neuron or factor; `spikes` are [point, count] pairs), `factors` (their
        numbers), `conditions` (names), `averages` ({rates, sem, factors} by neuron or factor, then
        condition).

    Raises
    ------
    LfadsrmError
        The results cannot be opened, or are not those of the run.
    """
    with open_one(one.run, dataset, one.token, Wanted()) as means:
        notes: list[str] = []
        rates = "rates" if "rates" in means else "output_mean"
        bin_ms = float(means.attrs["bin_ms"])
        group = math.ceil(means.sizes["time"] / _POINTS)
        neurons, levels = _neurons(means, rates)
        factors = _factors(means)
        trials = _trials(means)
        means = _with_spikes(means, one.run, dataset, notes)
        content: dict[str, Any] = {
            "run": one.run.id,
            "label": one.label,
            "why": one.why,
            "dataset": dataset,
            "units": str(means[rates].attrs.get("units", "")),
            "bin_ms": bin_ms,
            "group": group,
            "smoothing_ms": max(_SMOOTHING_MS, 2 * bin_ms),
            "time": [round(float(t), 2) for t in _means_over(means["time"].to_numpy().astype(float), group)],
            "sizes": {name: int(means.sizes[name]) for name in ("trial", "time", "neuron", "factor")},
            "neurons": _about(means, neurons, levels),
            "factors": factors.tolist(),
            "trials": [_trial(means, rates, int(row), neurons, factors, bin_ms, group) for row in trials],
            "conditions": [],
            "averages": None,
        }
        _add_averages(content, means, rates, neurons, factors, notes)
    return Panel(one.run.id, content, [f"{one.run.id}, {dataset}: {text}" for text in notes])


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


def _neurons(means: xr.Dataset, rates: str) -> tuple[Array, Array]:
    """Return a few neurons, from the most active one to a quiet one, and their mean rates in some trials."""
    some = means[rates].isel(trial=_spread(means.sizes["trial"], _LOOKED_AT)).to_numpy()
    level = np.nan_to_num(some.mean(axis=(0, 1)))
    order = np.argsort(-level, kind="stable")
    # the quietest tenth seldom shows anything
    places = _spread(max(1, math.ceil(0.9 * len(order))), _NEURONS)
    return order[places], level[order[places]]


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


def _about(means: xr.Dataset, neurons: Array, levels: Array) -> list[dict[str, Any]]:
    names = means["neuron_name"].to_numpy() if "neuron_name" in means.coords else means["neuron"].to_numpy()
    held_out = set(json.loads(str(means.attrs.get("held_out_neurons", "[]"))))
    return [
        {"name": str(names[k]), "rate": round(float(level), 1), "held_out": int(k) in held_out}
        for k, level in zip(neurons, levels, strict=True)
    ]


def _trial(
    means: xr.Dataset, rates: str, row: int, neurons: Array, factors: Array, bin_ms: float, group: int
) -> dict[str, Any]:
    inferred = means[rates].isel(trial=row, neuron=neurons).to_numpy()
    found: dict[str, Any] = {
        "trial": int(means["trial"].to_numpy()[row]),
        "split": str(means["split"].to_numpy()[row]) if "split" in means.coords else "",
        "condition": _condition(means, row),
        "rates": _lists(_means_over(inferred, group)),
        "factors": _lists(_means_over(means["factors"].isel(trial=row, factor=factors).to_numpy(), group)),
        "measured": None,
        "spikes": None,
    }
    if "spikes" in means:
        counts = means["spikes"].isel(trial=row, neuron=neurons).to_numpy()
        if rates == "rates":
            smooth = smooth_spikes(counts[None], bin_ms=bin_ms, sd_ms=max(_SMOOTHING_MS, 2 * bin_ms))[0]
            found["spikes"] = _pairs(counts, group)
        else:
            smooth = counts
        found["measured"] = _lists(_means_over(smooth, group))
    return found


def _pairs(counts: Array, group: int) -> list[list[list[int]]]:
    """Return, for each neuron, the points with spikes and how many."""
    starts = np.arange(0, counts.shape[0], group)
    sums = np.add.reduceat(np.nan_to_num(counts), starts, axis=0).astype(int)
    return [[[int(k), int(column[k])] for k in np.flatnonzero(column)] for column in sums.T]


def _add_averages(
    content: dict[str, Any], means: xr.Dataset, rates: str, neurons: Array, factors: Array, notes: list[str]
) -> None:
    if "condition" not in means.coords:
        return
    known = sorted({_condition(means, row) for row in range(means.sizes["trial"])} - {""}, key=_natural)
    if not known:
        return
    chosen = [known[k] for k in _spread(len(known), _CONDITIONS)]
    if len(chosen) < len(known):
        notes.append(f"{len(chosen)} of {len(known)} conditions are shown.")
    labels = np.array([_condition(means, row) for row in range(means.sizes["trial"])], dtype=object)
    wanted = np.flatnonzero(np.isin(labels, chosen))
    some = means[[rates, "factors"]].isel(neuron=neurons, factor=factors, trial=wanted)
    some = some.assign_coords(condition=("trial", labels[wanted]))
    found = condition_averages(some, [rates, "factors"]).sel(condition=chosen)
    group = content["group"]

    def by_condition(name: str) -> list[Any]:
        values = found[name].to_numpy()  # condition, time, neuron or factor
        return [
            [_list(_means_over(values[c, :, k], group)) for c in range(len(chosen))]
            for k in range(values.shape[2])
        ]

    content["conditions"] = chosen
    content["counts"] = [int(n) for n in found["n_trials"].to_numpy()]
    content["averages"] = {
        "rates": by_condition(rates),
        "sem": by_condition(f"{rates}_sem"),
        "factors": by_condition("factors"),
    }


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


def _lists(values: Array) -> list[list[float | None]]:
    """Return (time, something) as a list for each of the latter."""
    return [_list(column) for column in values.T]


def _list(values: Array) -> list[float | None]:
    return [float(f"{one:.4g}") if math.isfinite(one) else None for one in values]
