"""Spike times of a whole session, a table of trials and signals -> the one in-memory form.

What NWB files, folders of phy and tables of spikes have in common. Spikes are read neuron by neuron, signals
window by window, so that a file may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.data.form import SPIKE_DIMS
from lfadsrm_hpc.data.formats import selecting, stretches, trial_columns
from lfadsrm_hpc.data.formats.counting import count_all
from lfadsrm_hpc.data.formats.epochs import Epochs
from lfadsrm_hpc.data.formats.signals import Signal, check, resample
from lfadsrm_hpc.errors import DataError, UsageError

if TYPE_CHECKING:
    import pandas as pd


Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Recording:
    """A session; all times, but for those in `trials`, are in seconds of its one clock.

    Attributes
    ----------
    where : object
        The file, for messages.
    neurons : pandas.DataFrame
        A row a neuron; its columns are what neurons are chosen by.
    names : (D,) str
        Of the neurons, where no column names them.
    spike_times : callable (row) -> (n,) array
        Of the neuron in a row; in any order.
    trials : pandas.DataFrame or None
        A row a trial; its index becomes `trial_id`.
    trial_unit : float
        Seconds in the unit of the times in `trials`.
    events : (E,) float or None
        When the events are that trials are aligned to, where the table of trials does not tell it.
    observed : callable (row) -> (k, 2) array or None
        When the neuron in a row was recorded; None: always.
    stretches : list of (name, start, stop), or None
        With `Epochs.continuous`: the parts that are recordings of their own; None: the file does not say.
    signals : mapping
        Name -> callable that returns the `Signal`.
    attrs : dict
        Of the dataset: subject, date, ...
    """

    where: object
    neurons: pd.DataFrame
    names: Array
    spike_times: Callable[[int], Array]
    trials: pd.DataFrame | None = None
    trial_unit: float = 1.0
    events: Float64 | None = None
    observed: Callable[[int], Array | None] = lambda row: None
    stretches: list[tuple[str, float, float]] | None = None
    signals: Mapping[str, Callable[[], Signal]] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def sorted_spikes(self, row: int) -> Float64:
        """Return the spike times of a neuron in order.

        Raises
        ------
        DataError
            One is not finite.
        """
        times = np.asarray(self.spike_times(row), dtype=np.float64).ravel()
        if not np.isfinite(times).all():
            raise DataError(
                f"a spike time of neuron {self.names[row]} is not finite",
                where=self.where,
                hint="leave the neuron out with the option neurons, or repair the file",
            )
        return np.sort(times) if bool((np.diff(times) < 0).any()) else times


@dataclass
class Plan:
    """Which neurons and windows a dataset has.

    Attributes
    ----------
    rows : (D,) int
        Of the table of neurons.
    trials : pandas.DataFrame
        Of the trials, in order.
    starts : (E,) float
        Where each window begins, seconds.
    notes : list of str
        What was left out, and why.
    """

    rows: npt.NDArray[np.int64]
    trials: pd.DataFrame
    starts: Float64
    notes: list[str]


def read(recording: Recording, epochs: Epochs, *, name: str) -> xr.Dataset | list[xr.Dataset]:
    """Make the dataset, or, of a continuous recording, a list of datasets of one trial each.

    Raises
    ------
    DataError
        Columns, neurons, trials or signals that are not there, times that cannot be, nothing left.
    """
    if epochs.continuous:
        return _read_continuous(recording, epochs, name)
    plan = plan_trials(recording, epochs)
    n_bins, bin_s = epochs.n_bins, epochs.bin_ms / 1000
    trains = (recording.sorted_spikes(int(row)) for row in plan.rows)
    counts = count_all(trains, len(plan.rows), plan.starts, n_bins, bin_s)
    plan.notes.extend(_overlaps(plan.starts, n_bins * bin_s))
    if not counts.any():
        _refuse_other_clock(recording, plan, n_bins * bin_s)
    ds = _assembled(
        counts,
        -epochs.before_ms + epochs.bin_ms * np.arange(n_bins),
        _names(recording, epochs, plan.rows),
        {"name": name, "bin_ms": epochs.bin_ms, **_attrs(recording, plan.notes)},
    )
    condition = selecting.labels(plan.trials, epochs.condition, where=recording.where)
    if condition is not None:
        ds = ds.assign_coords(condition=("trial", condition))
    ds = ds.assign(trial_columns.variables(plan.trials, epochs.keep, where=recording.where))
    ds = ds.assign(trial_id=("trial", plan.trials.index.to_numpy()))
    ds = _with_signals(ds, recording, epochs, plan.starts)
    return _with_held_out(ds, recording, epochs, plan.rows)


def info(recording: Recording, epochs: Epochs) -> dict[str, Any] | None:
    """Return numbers of trials, neurons, bins and conditions without reading spikes, or None."""
    if epochs.continuous:
        return None
    plan = plan_trials(recording, epochs)
    found = selecting.labels(plan.trials, epochs.condition, where=recording.where)
    sizes = {"trial": len(plan.starts), "time": epochs.n_bins, "neuron": len(plan.rows)}
    return {"sizes": sizes, "condition": found, "attrs": dict(recording.attrs), "bin_ms": epochs.bin_ms}


def plan_trials(recording: Recording, epochs: Epochs) -> Plan:
    """Choose neurons and trials.

    Raises
    ------
    DataError
    """
    where = recording.where
    rows = choose_neurons(recording, epochs)
    if recording.trials is None or not len(recording.trials):
        raise DataError(
            "there is no table of trials",
            where=where,
            hint="name one, or take the recording as a whole: continuous = true, chop_ms = 1000",
        )
    events = recording.events
    if events is None:
        events = recording.trial_unit * events_of(recording.trials, epochs.align_to, where)
    if epochs.after_ms is None:
        raise DataError(
            f"the window of the trials is not given{_durations(recording.trials, recording.trial_unit)}",
            where=where,
            hint="give after_ms (and before_ms), in ms around align_to; "
            f"the table of trials has {', '.join(map(str, recording.trials.columns))}",
        )
    notes: list[str] = []
    keep = selecting.choose(recording.trials, epochs.trials, what="trial", where=where)
    timed = np.isfinite(events)
    if bool((keep & ~timed).any()):
        notes.append(f"{int((keep & ~timed).sum())} trials without {epochs.align_to} are left out")
    keep &= timed
    if not keep.any():
        raise DataError(f"no trial has a time in {epochs.align_to!r}", where=where)
    starts = events[keep] - epochs.before_ms / 1000
    plan = Plan(rows, recording.trials.loc[keep], starts, notes)
    return _observed_only(recording, epochs, plan)


def choose_neurons(recording: Recording, epochs: Epochs) -> npt.NDArray[np.int64]:
    """Return the rows of the neurons that are wanted.

    Raises
    ------
    DataError
    """
    if not len(recording.neurons):
        raise DataError("there are no neurons", where=recording.where)
    chosen = selecting.choose(recording.neurons, epochs.neurons, what="neuron", where=recording.where)
    return np.flatnonzero(chosen)


def _assembled(
    counts: npt.NDArray[np.int64], time: Array, names: list[str], attrs: Mapping[str, Any]
) -> xr.Dataset:
    """Return counts as a dataset, without a copy."""
    coords = {"time": time, "neuron_name": ("neuron", np.array(names, dtype=str))}
    return xr.Dataset({"spikes": (SPIKE_DIMS, counts)}, coords=coords, attrs=dict(attrs))


def events_of(trials: pd.DataFrame, column: str, where: object) -> Float64:
    """Return the times in a column of the trial table, NaN where there is none.

    Raises
    ------
    DataError
        There is no such column, or it holds no times.
    """
    cells = selecting.values_of(trials, column, what="trial", where=where)
    try:
        return np.array([np.nan if cell is None else float(cell) for cell in cells], dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(
            f"the column {column!r} of the trials holds no times",
            where=where,
            hint="name another in align_to",
        ) from None


def _overlaps(starts: Float64, length: float) -> list[str]:
    """Return what is to be said of windows that share bins."""
    n = int((np.diff(np.sort(starts)) < length - 1e-6).sum())
    if not n:
        return []
    return [
        f"windows of {n} trials begin before that of another has ended, so that a validation trial may hold "
        "bins of a training trial: shorten the window, or say in split_group which trials stay together"
    ]


def _refuse_other_clock(recording: Recording, plan: Plan, length: float) -> None:
    """Say that there are spikes, and none in any window: a mistake about clocks or units."""
    spikes = [times for row in plan.rows if (times := recording.sorted_spikes(int(row))).size]
    if spikes:
        first, last = min(times[0] for times in spikes), max(times[-1] for times in spikes)
        raise DataError(
            f"no spike lies in the window of any trial: spikes go from {first:g} to {last:g} s, windows from "
            f"{plan.starts.min():g} to {plan.starts.max() + length:g} s",
            where=recording.where,
            hint="times of spikes and of trials must have one clock and one unit; tables may have "
            "time_unit = 'ms'",
        )


def _durations(trials: pd.DataFrame, unit: float) -> str:
    try:
        lengths = 1000 * unit * (trials["stop_time"].astype(float) - trials["start_time"].astype(float))
        return f"; trials take {lengths.min():g} to {lengths.max():g} ms"
    except (KeyError, TypeError, ValueError):
        return ""


def _observed_only(recording: Recording, epochs: Epochs, plan: Plan) -> Plan:
    """Leave out what the file says was not recorded."""
    if epochs.unobserved == "ignore":
        return plan
    stops = plan.starts + epochs.n_bins * epochs.bin_ms / 1000
    covered = np.stack(
        [stretches.covered(recording.observed(int(row)), plan.starts, stops) for row in plan.rows], axis=1
    )
    if covered.all():
        return plan
    dropping = epochs.unobserved == "drop_trials"
    keep = np.asarray(covered.all(axis=1 if dropping else 0))
    what = "trials" if dropping else "neurons"
    if not keep.any():
        worst = int(np.argmin(covered.sum(axis=0)))
        raise DataError(
            f"no {what[:-1]} is left: the file says that in each {'one' if dropping else 'of them'} "
            f"something was not recorded; neuron {recording.names[plan.rows[worst]]} was recorded during "
            f"{int(covered[:, worst].sum())} of {len(covered)} trials",
            where=recording.where,
            hint="leave such neurons out with the option neurons, or try unobserved = 'drop_neurons', "
            "'drop_trials' or 'ignore'",
        )
    because = "in which a neuron was not recorded" if dropping else "that were not recorded in all trials"
    plan.notes.append(f"{int((~keep).sum())} {what} {because} are left out")
    if dropping:
        return Plan(plan.rows, plan.trials.loc[keep], plan.starts[keep], plan.notes)
    return Plan(plan.rows[keep], plan.trials, plan.starts, plan.notes)


def _names(recording: Recording, epochs: Epochs, rows: npt.NDArray[np.int64]) -> list[str]:
    if epochs.neuron_name is None:
        return [str(recording.names[row]) for row in rows]
    cells = selecting.values_of(recording.neurons, epochs.neuron_name, what="neuron", where=recording.where)
    return [str(cells[row]) for row in rows]


def _attrs(recording: Recording, notes: list[str]) -> dict[str, Any]:
    return {**recording.attrs, **({"notes": notes} if notes else {})}


def _with_held_out(
    ds: xr.Dataset, recording: Recording, epochs: Epochs, rows: npt.NDArray[np.int64]
) -> xr.Dataset:
    if not epochs.held_out:
        return ds
    table = recording.neurons.iloc[rows]
    held = selecting.choose(table, epochs.held_out, what="neuron", where=recording.where)
    out: xr.Dataset = ds.assign_coords(held_out=("neuron", held))
    return out


def _with_signals(ds: xr.Dataset, recording: Recording, epochs: Epochs, starts: Float64) -> xr.Dataset:
    variables: dict[str, xr.DataArray] = {}
    found = trial_columns.find_signals(recording.signals, epochs.signals, where=recording.where)
    for name, make in found.items():
        signal = make()
        check(signal, name, recording.where)
        values = resample(signal, starts, ds.sizes["time"], epochs.bin_ms / 1000)
        dim = f"{name}_channel"
        coords = {dim: list(signal.channels)} if len(signal.channels) == values.shape[2] else {}
        units = {"units": signal.units} if signal.units else {}
        variables[name] = xr.DataArray(values, dims=("trial", "time", dim), coords=coords, attrs=units)
    out: xr.Dataset = ds.assign(variables)
    return out


def _read_continuous(recording: Recording, epochs: Epochs, name: str) -> list[xr.Dataset]:
    if epochs.trials and recording.stretches is None:
        raise UsageError(
            "trials is about trials, and continuous = true takes the recording as a whole",
            where=recording.where,
            hint="leave one of them out; or, in NWB files, name a table of intervals, whose rows it chooses",
        )
    rows = choose_neurons(recording, epochs)
    bin_s = epochs.bin_ms / 1000
    spikes = [recording.sorted_spikes(int(row)) for row in rows]
    parts, notes = stretches.whole(
        spikes,
        [recording.observed(int(row)) if epochs.unobserved != "ignore" else None for row in rows],
        recording.stretches,
        bounds=(epochs.start_ms, epochs.stop_ms),
        bin_s=bin_s,
        where=recording.where,
    )
    found = []
    for label, start, n_bins in parts:
        ds = _assembled(
            count_all(spikes, len(spikes), np.array([start]), n_bins, bin_s),
            1000 * start + epochs.bin_ms * np.arange(n_bins),
            _names(recording, epochs, rows),
            {"name": name, "bin_ms": epochs.bin_ms, **_attrs(recording, notes)},
        )
        ds = _with_signals(ds, recording, epochs, np.array([start]))
        ds = ds.assign_coords(recording=("trial", np.array([label])))
        found.append(_with_held_out(ds, recording, epochs, rows))
    return found
