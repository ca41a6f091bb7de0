"""Arrays as labs keep them, to (trial, ...): by condition and repeat, and trials of their own lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.data.formats.option_values import bins_between
from lfadsrm_hpc.errors import DataError

Array = npt.NDArray[Any]
UNFOLDED = ("condition", "repeat")


def unfold(
    arrays: Mapping[str, Any], order: Sequence[str], condition: Any, *, first: int, where: object
) -> tuple[dict[str, Array], tuple[str, ...], Array, int]:
    """Make trials of (condition, repeat), condition after condition.

    Parameters
    ----------
    arrays : mapping
        `spikes`, perhaps `truth` and `external_input`; each has the dimensions of `order`.
    order : sequence of str
        "condition", perhaps "repeat", and time and neuron (input).
    condition : sequence, optional
        A name or number for each condition; counted from `first` where left out.
    first : int
    where : object

    Returns
    -------
    arrays, order, condition of each trial, number of trials that were left out
        Trials of NaN alone are left out: conditions have unequal numbers of repeats.

    Raises
    ------
    DataError
    """
    moved = {key: _condition_first(key, value, order, where) for key, value in arrays.items()}
    n_conditions, n_repeats = moved["spikes"].shape[:2]
    for key, value in moved.items():
        if value.shape[:2] != (n_conditions, n_repeats):
            raise DataError(
                f"{key} has {value.shape[0]} conditions of {value.shape[1]} repeats, "
                f"spikes have {n_conditions} of {n_repeats}",
                where=where,
            )
    labels = np.arange(n_conditions) + first if condition is None else np.asarray(condition).ravel()
    if len(labels) != n_conditions:
        raise DataError(f"there are {len(labels)} names for {n_conditions} conditions", where=where)
    trials = {key: value.reshape(-1, *value.shape[2:]) for key, value in moved.items()}
    spikes = trials["spikes"]
    there: Array = np.ones(len(spikes), dtype=bool)
    if spikes.dtype.kind == "f":
        there = np.asarray(~np.isnan(spikes.reshape(len(spikes), -1)).all(axis=1))
    kept = {key: value[there] for key, value in trials.items()}
    rest = tuple(dim for dim in order if dim not in UNFOLDED)
    return kept, ("trial", *rest), np.repeat(labels, n_repeats)[there], int((~there).sum())


def _condition_first(key: str, value: Any, order: Sequence[str], where: object) -> Array:
    array = np.asarray(value)
    if array.ndim != len(order) or array.dtype.kind not in "biuf":
        raise DataError(
            f"{key} has the shape {array.shape} and dims names {len(order)} dimensions",
            where=where,
            hint=f"dims is {','.join(order)}",
        )
    array = np.moveaxis(array, order.index("condition"), 0)
    if "repeat" not in order:
        return array[:, None]
    rest = [dim for dim in order if dim != "condition"]
    return np.moveaxis(array, 1 + rest.index("repeat"), 1)


@dataclass(frozen=True)
class Window:
    """A window around an event of each trial.

    Attributes
    ----------
    events_ms : (E,) float
        In the time of the trials.
    before_ms, after_ms : float
    bin_ms : float
    """

    events_ms: npt.NDArray[np.float64]
    before_ms: float
    after_ms: float
    bin_ms: float

    @property
    def n_bins(self) -> int:
        return bins_between(-self.before_ms, self.after_ms, self.bin_ms)


def cut(
    trials: Mapping[str, Sequence[Any]],
    axis: int,
    starts_ms: Sequence[float],
    window: Window,
    *,
    where: object,
) -> tuple[dict[str, list[Array]], npt.NDArray[np.bool_]]:
    """Cut trials of unequal lengths to one window around an event.

    Parameters
    ----------
    trials : mapping
        Name -> an array a trial; `spikes` must be among them, and says how long a trial is.
    axis : int
        The axis of time in each array.
    starts_ms : (E,) float
        Start of the first bin of each trial.
    window : Window
    where : object

    Returns
    -------
    trials, (E,) bool
        The trials that are kept, and which they are: those whose window lies in them and whose event is
        known. The event is taken to be at the nearest edge of a bin.

    Raises
    ------
    DataError
        None is kept, or the arrays do not fit each other.
    """
    n_bins = window.n_bins
    lengths = np.array([np.asarray(trial).shape[axis] for trial in trials["spikes"]])
    for name, values in trials.items():
        others = [np.asarray(value).shape[axis] for value in values]
        if others != lengths.tolist():
            raise DataError(
                f"{name} and spikes have unequal lengths within trials, or numbers of them", where=where
            )
    events = np.asarray(window.events_ms, dtype=np.float64)
    if events.shape != lengths.shape:
        raise DataError(f"there are {events.size} events for {lengths.size} trials", where=where)
    place = (events - np.asarray(starts_ms, dtype=np.float64) - window.before_ms) / window.bin_ms
    known = np.isfinite(place)
    first = np.zeros(len(place), dtype=np.int64)
    first[known] = np.rint(place[known]).astype(np.int64)
    kept = known & (first >= 0) & (first + n_bins <= lengths)
    if not kept.any():
        raise DataError(
            f"no trial holds the window from {-window.before_ms:g} to {window.after_ms:g} ms around its "
            "event",
            where=where,
            hint=f"trials have {lengths.min() * window.bin_ms:g} to {lengths.max() * window.bin_ms:g} ms; "
            "events count from the start of the trial, or are in its own time",
        )
    out = {
        name: [
            np.take(np.asarray(value), np.arange(first[k], first[k] + n_bins), axis=axis)
            for k, value in enumerate(values)
            if kept[k]
        ]
        for name, values in trials.items()
    }
    return out, kept
