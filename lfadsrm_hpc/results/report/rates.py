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
from lfadsrm_hpc.results.posterior_means.of_runs import Own, Wanted, open_one
from lfadsrm_hpc.results.report.figures import Figure
from lfadsrm_hpc.results.report.rate_figures import (
    Part,
    Trial,
    averages_of,
    conditions_of,
    means_over,
    spread,
    trial_of,
)

Array = npt.NDArray[Any]

MOST_SHOWN = 8  # datasets of runs on a page, about 100 kB each
MOST_DATASETS = 3  # of one run
_NEURONS, _TRIALS, _FACTORS = 6, 3, 6
_POINTS = 160
_LOOKED_AT = 16  # trials by which neurons and factors are chosen


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
        here = spread(len(names), min(MOST_DATASETS, most - len(panels)))
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
    with open_one(Own(one.run, one.token), dataset, Wanted()) as means:
        notes: list[str] = []
        means = _with_spikes(means, one.run, dataset, notes)
        part = _part(means)
        rows = _trials(means)
        conditions, averages, factors = averages_of(part, notes)
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
            [trial_of(part, int(row)) for row in rows],
            measured,
            conditions,
            averages,
            factors,
            [f"{one.run.id}, {dataset}: {text}" for text in notes],
        )


def _part(means: xr.Dataset) -> Part:
    rates = "rates" if "rates" in means else "output_mean"
    group = math.ceil(means.sizes["time"] / _POINTS)
    neurons = _neurons(means, rates)
    names = means["neuron_name"].to_numpy() if "neuron_name" in means.coords else means["neuron"].to_numpy()
    held_out = set(json.loads(str(means.attrs.get("held_out_neurons", "[]"))))
    called = [f"{names[k]}{' (held out)' if int(k) in held_out else ''}" for k in neurons]
    time = means_over(means["time"].to_numpy().astype(float), group)
    return Part(means, rates, neurons, called, _factors(means), group, time)


def _about(part: Part) -> str:
    sizes = part.means.sizes
    text = (
        f"{sizes['trial']:,} trials of {sizes['time']:,} bins of {part.bin_ms:g} ms, "
        f"{sizes['neuron']:,} neurons, {sizes['factor']:,} factors. Shown are {len(part.neurons)} neurons, "
        f"from the most active to a quiet one, and the {len(part.factors)} factors that vary most."
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


def _neurons(means: xr.Dataset, rates: str) -> Array:
    """Return a few neurons, from the most active one to a quiet one."""
    some = means[rates].isel(trial=spread(means.sizes["trial"], _LOOKED_AT)).to_numpy()
    order = np.argsort(-np.nan_to_num(some.mean(axis=(0, 1))), kind="stable")
    # the quietest tenth seldom shows anything
    return order[spread(max(1, math.ceil(0.9 * len(order))), _NEURONS)]


def _factors(means: xr.Dataset) -> Array:
    """Return the factors that vary most, in their order."""
    some = means["factors"].isel(trial=spread(means.sizes["trial"], _LOOKED_AT)).to_numpy()
    varies = np.nan_to_num(some.std(axis=(0, 1)))
    return np.sort(np.argsort(-varies, kind="stable")[:_FACTORS])


def _trials(means: xr.Dataset) -> Array:
    """Return the rows of a few trials: held for validation if there are any, of different conditions."""
    split = means["split"].to_numpy() if "split" in means.coords else np.full(means.sizes["trial"], "")
    rows = np.flatnonzero(split == "valid") if (split == "valid").any() else np.arange(len(split))
    labels = conditions_of(means)[rows].tolist()
    first = {label: row for row, label in zip(rows[::-1], labels[::-1], strict=True) if label}
    chosen = sorted(first.values()) if len(first) >= min(_TRIALS, len(rows)) else list(rows)
    return np.array(chosen)[spread(len(chosen), _TRIALS)]
