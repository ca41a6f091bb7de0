"""Trials by condition, and the averages of each condition, by which sessions are aligned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.data.binning import rebin
from lfadsrm_hpc.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

    from lfadsrm_hpc.data.inputs.session import SessionInputs

Array = npt.NDArray[Any]
Label: TypeAlias = int | str
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Averages:
    """Condition averages of one session.

    Attributes
    ----------
    name : str
        Of the session.
    values : dict of label to (T, D)
        For the conditions that it has, in the order of their first trials.
    time_ms : (T,)
        Start of each bin.
    neurons : int
    other_data : bool
        Whether they are of other data than what LFADS sees.
    """

    name: str
    values: dict[Label, Float64]
    time_ms: Float64
    neurons: int
    other_data: bool = False

    @property
    def bins(self) -> int:
        """T, of a session with conditions."""
        return len(next(iter(self.values.values())))

    @property
    def mean(self) -> Float64:
        """The mean over conditions and bins, (D,)."""
        result: Float64 = np.mean([average.mean(axis=0) for average in self.values.values()], axis=0)
        return result

    def rows(self, labels: Sequence[Label]) -> Float64:
        """Return the averages of some conditions below each other, (conditions x bins, D)."""
        return np.concatenate([self.values[label] for label in labels])


def condition_trials(condition: Array) -> dict[Label, Array]:
    """Return the trials of each condition by its name; empty texts and NaN are no condition.

    Whole numbers are one name in whatever form they come, so that sessions fit together whose files say 1,
    1.0 and "1".

    Examples
    --------
    >>> condition_trials(np.array([2.0, 1.0, np.nan, 2.0]))
    {2: array([0, 3]), 1: array([1])}
    """
    labels: dict[Label, list[int]] = {}
    for trial, value in enumerate(np.asarray(condition).tolist()):
        name = condition_name(value)
        if name is not None:
            labels.setdefault(name, []).append(trial)
    return {label: np.array(trials) for label, trials in labels.items()}


def condition_name(value: Any) -> Label | None:
    """Return the name of a condition, an integer or a text; None where it is none.

    Examples
    --------
    >>> [condition_name(value) for value in (1.0, " 1", "01", "left ", "", float("nan"))]
    [1, 1, '01', 'left', None, None]
    """
    if value is None or value != value:
        return None
    if isinstance(value, str | bytes):
        text = (value.decode() if isinstance(value, bytes) else value).strip()
        is_number = text.removeprefix("-").isdecimal() and str(int(text)) == text
        return int(text) if is_number else text or None
    return int(value) if value == int(value) else str(value)


def average(session: SessionInputs, other: xr.Dataset | None = None) -> Averages:
    """Average a session's training trials, or all trials of other data of its neurons, by condition.

    Without conditions the result holds none.

    Raises
    ------
    DataError
        Values are not finite; the other data are of other neurons, or in bins that do not fit.
    """
    where = f"dataset {session.dataset!r}"
    if other is None:
        counts, condition, time_ms = session.train_data, session.train_condition, session.time_ms
    else:
        counts, condition, time_ms = _other_counts(session, other)
    labels = {} if condition is None else condition_trials(condition)
    finite = np.isfinite(counts).all(axis=(1, 2))
    if not finite.all():
        raise DataError(f"{int((~finite).sum())} trials have values that are not finite", where=where)
    return Averages(
        name=session.dataset,
        values={label: counts[rows].mean(axis=0, dtype=np.float64) for label, rows in labels.items()},
        time_ms=np.asarray(time_ms, dtype=np.float64),
        neurons=counts.shape[2],
        other_data=other is not None,
    )


def _other_counts(session: SessionInputs, other: xr.Dataset) -> tuple[Array, Array | None, Array]:
    name = f"{session.dataset} (alignment data)"
    _check_neurons(session, other)
    binned = rebin(other.assign_attrs(name=name), session.bin_ms)
    condition = other["condition"].to_numpy() if "condition" in other.variables else None
    return binned["spikes"].to_numpy(), condition, binned["time"].to_numpy()


def _check_neurons(session: SessionInputs, other: xr.Dataset) -> None:
    """Refuse other data whose neurons are not those of the session, as far as numbers and names tell."""
    where, hint = (
        f"dataset {session.dataset!r}",
        "alignment data must hold the same neurons in the same order",
    )
    here, count = [str(name) for name in session.neuron_names], other.sizes["neuron"]
    if count != len(here):
        raise DataError(
            f"the data for alignment have {count} neurons, the session {len(here)}", where=where, hint=hint
        )
    if "neuron_name" not in other.variables:
        return
    there = [str(name) for name in other["neuron_name"].to_numpy()]
    numbered = [f"n{i:03d}" for i in range(count)]
    differing = [(a, b) for a, b in zip(here, there, strict=True) if a != b]
    if differing and here != numbered and there != numbered:
        raise DataError(
            f"neuron {differing[0][0]!r} of the session is {differing[0][1]!r} in the data for alignment"
            + (f", and {len(differing) - 1} more differ" if len(differing) > 1 else ""),
            where=where,
            hint=hint,
        )


def check_lengths(averages: Sequence[Averages]) -> None:
    """Refuse sessions whose trials (or whose data for alignment) differ in length.

    Raises
    ------
    DataError
    """
    lengths = {each.name: each.bins for each in averages}
    if len(set(lengths.values())) < 2:
        return
    own = " (data for alignment)" if any(each.other_data for each in averages) else ""
    raise DataError(
        f"trials of the sessions are not equally long{own}: "
        + ", ".join(f"{name} has {length} bins" for name, length in lengths.items()),
        hint="cut all sessions to the same window before they are stitched"
        + (", and give data for alignment to all of them or to none" if own else ""),
    )


def some(labels: Sequence[Any] | dict[Any, Any], most: int = 6) -> str:
    """Return a few names as text.

    Examples
    --------
    >>> some(["left", "right", "up"], most=2)
    "'left', 'right' and 1 more"
    """
    texts = [repr(label) for label in labels]
    rest = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {rest} more" if rest > 0 else "")
