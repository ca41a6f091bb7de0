"""Read-in matrices that map the neurons of several sessions to common factors ("stitching").

The steps are those of the LFADS papers (Pandarinath et al. 2018, Methods, "Stitching") and of the Matlab run
manager, in float64 and on training trials alone:

1. average the counts of each session by condition; trials without a condition are left out;
2. put the neurons of all sessions side by side, rows being (condition, bin), and centre each neuron;
3. PCA: K = min(F, all neurons) global components Z (`components`);
4. for each session, regress Z on the session's own averages (`regression`): weights W_d (neurons, F), zero in
   the columns beyond K; bias: the mean of the session's averages.

LFADS starts its read-in at `W_d` with offset `-bias W_d`, and its read-out at `W_d^T`; the bias of the
read-out starts at the log of each neuron's mean count a bin.

What goes beyond that program, each with its choice:

- in step 2 each session is scaled to the same variance, so that large sessions do not have their way
  (`weights="neurons"`: as there, every neuron as it is);
- conditions that a session lacks are filled in, and each session is regressed on all that it has
  (`conditions="shared"`: as there, on those that all have);
- sessions without any condition can start at their own principal components, or at random.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.data.alignment.components import CONDITIONS, WEIGHTS, GlobalComponents, global_components
from lfadsrm_hpc.data.alignment.conditions import Averages, average, check_lengths
from lfadsrm_hpc.data.alignment.record import MOST_COMPONENTS, Reconstruction
from lfadsrm_hpc.data.alignment.regression import (
    Fit,
    condition_folds,
    explained,
    least_squares,
    left_out_predictions,
    ridge_about_origin,
)
from lfadsrm_hpc.errors import DataError, UsageError, suggest

if TYPE_CHECKING:
    import xarray as xr

    from lfadsrm_hpc.data.inputs.session import SessionInputs

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

METHODS = ("least_squares", "ridge")
WITHOUT_CONDITIONS = ("refuse", "pca", "random")
_FITS: dict[str, Fit] = {"least_squares": least_squares, "ridge": ridge_about_origin}
_NOTES = {
    "pca": "it has no conditions: its read-in starts at its own principal components, not at those that the "
    "other datasets share",
    "random": "it has no conditions: its read-in and read-out start at random numbers, not aligned to others",
}


@dataclass(frozen=True)
class Alignment:
    """How one session's neurons map to the common factors.

    Attributes
    ----------
    matrix : (D, F) float64 or None
        None where the read-in is to start at random numbers.
    bias : (D,) float64 or None
        Mean counts a bin: `(counts - bias) @ matrix` approximates the global components.
    r2 : float
        Share of the variance of the global components, all together, that the session's averages explain on
        the conditions that it was regressed on. NaN where it was not regressed.
    r2_left_out : float
        The same of conditions (of stretches of bins, where there is one condition) that the regression did
        not see; the components did.
    r2_by_factor : (F,) float64
        `r2` of each component; NaN where there is none (zero columns).
    r2_by_neuron : (D,) float64
        Share of the variance of each neuron's averages that the global components explain; NaN for neurons
        without variance.
    made_by : {"conditions", "pca", "random"}
    conditions, all_conditions : int
        How many it was regressed on, and how many the sessions have together.
    other_data : bool
        Whether other data than its training trials were used.
    note : str
        What the user should know; "" for nothing.
    reconstruction : Reconstruction or None
        The leading components, and what the read-in makes of the session's averages. None where it was not
        regressed.
    """

    matrix: Float64 | None
    bias: Float64 | None
    r2: float
    r2_by_factor: Float64
    r2_left_out: float = float("nan")
    r2_by_neuron: Float64 = field(default_factory=lambda: np.zeros(0))
    made_by: str = "conditions"
    conditions: int = 0
    all_conditions: int = 0
    other_data: bool = False
    note: str = ""
    reconstruction: Reconstruction | None = None

    def described(self, choices: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the attributes of an input file say of the alignment, as JSON can hold it.

        made_by ("conditions", "pca" or "random"), conditions (how many it was regressed on), all_conditions
        (of all sessions together), other_data, r2, r2_left_out, r2_by_factor (None for NaN), note, and the
        choices.
        """
        return {
            "made_by": self.made_by,
            "conditions": self.conditions,
            "all_conditions": self.all_conditions,
            "other_data": self.other_data,
            "r2": _number(self.r2),
            "r2_left_out": _number(self.r2_left_out),
            "r2_by_factor": [_number(value) for value in self.r2_by_factor],
            "note": self.note,
            **choices,
        }


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def align(
    sessions: Sequence[SessionInputs],
    factors_dim: int,
    *,
    method: str = "least_squares",
    conditions: str = "all",
    weights: str = "datasets",
    without_conditions: str = "refuse",
    data: Sequence[xr.Dataset | None] | None = None,
) -> list[Alignment]:
    """Compute alignment matrices for sessions that share conditions.

    Parameters
    ----------
    sessions : sequence of SessionInputs
        One or more; with one, the matrix holds its own principal components.
    factors_dim : int
        F.
    method : {"least_squares", "ridge"}
        Ridge: the penalty of each component is the one with the least squared error on left-out folds of
        conditions (of bins, where there is one condition).
    conditions : {"all", "shared"}
        What each session is regressed on: all conditions that it has, those that others lack being filled in
        for the components, or those that all sessions have.
    weights : {"datasets", "neurons"}
        What weighs alike in the components: each session, or each neuron.
    without_conditions : {"refuse", "pca", "random"}
        What becomes of a session without any condition: an error; a read-in of its own principal components
        (of the covariance of neighbouring bins over single trials, in which noise without memory is not); or
        no matrix, so that the model draws one. Others are aligned without it.
    data : sequence of xr.Dataset or None, optional
        For each session other data to align by, with the same neurons; all of their trials are used. None:
        the session's own training trials.

    Returns
    -------
    list of Alignment
        In the order of the sessions.

    Raises
    ------
    DataError
        A session has no conditions, none are shared as `conditions` needs it, trials of the sessions are not
        equally long, neurons of `data` are not those of the session, a value is not finite.
    UsageError
        An unknown choice, no session, no factor.
    """
    _check_choices(method=method, conditions=conditions, weights=weights, without=without_conditions)
    if not sessions or factors_dim < 1:
        raise UsageError(
            f"nothing to align: {len(sessions)} sessions, {factors_dim} factors",
            hint="give at least one session, and factors_dim of at least 1",
        )
    if data is not None and len(data) != len(sessions):
        raise UsageError(
            f"{len(data)} data sets for alignment are given for {len(sessions)} sessions",
            hint="give one a session, None for a session that is its own",
        )
    extra = data if data is not None else [None] * len(sessions)
    averages = [average(session, other) for session, other in zip(sessions, extra, strict=True)]
    known = [each for each in averages if each.values]
    if without_conditions == "refuse" and len(known) < len(averages):
        raise _no_conditions(next(each.name for each in averages if not each.values))
    regressed: Iterator[Alignment] = iter(())
    size = None
    if known:
        check_lengths(known)
        components = global_components(known, factors_dim, conditions=conditions, weights=weights)
        regressed = (
            _regress(each, components, mean, factors_dim, method)
            for each, mean in zip(known, components.means, strict=True)
        )
        size = float(np.sqrt((components.values**2).sum(axis=2).mean()))
    return [
        replace(next(regressed), note=_other_window(each, known[0], session.bin_ms))
        if each.values
        else _without(session, each, factors_dim, without_conditions, size)
        for session, each in zip(sessions, averages, strict=True)
    ]


def _other_window(one: Averages, first: Averages, bin_ms: float) -> str:
    """Return what is to be said of a session whose window starts at another time than the first's."""
    here, there = float(one.time_ms[0]), float(first.time_ms[0])
    if abs(here - there) < 0.5 * bin_ms:
        return ""
    return (
        f"its window starts at {here:g} ms, that of {first.name!r} at {there:g} ms: they are aligned bin by "
        "bin, so these times must mean the same"
    )


def _check_choices(**chosen: str) -> None:
    known = {
        "method": METHODS, "conditions": CONDITIONS, "weights": WEIGHTS, "without": WITHOUT_CONDITIONS,
    }  # fmt: skip
    for name, value in chosen.items():
        if value not in known[name]:
            what = "without_conditions" if name == "without" else name
            raise UsageError(
                f"unknown alignment {what} {value!r}",
                hint=suggest(value, known[name]) or f"known are {', '.join(known[name])}",
            )


def _no_conditions(name: str) -> DataError:
    return DataError(
        "there are no conditions to align by",
        where=f"dataset {name!r}",
        hint="give trials a `condition` that the sessions share; or set alignment_without_conditions to "
        "'pca' or 'random', so that this dataset starts unaligned; or set use_alignment_matrix to False",
    )


# ---------------------------------------------------------------------------------------- regression


def _regress(
    averages: Averages, components: GlobalComponents, mean: Float64, factors_dim: int, method: str
) -> Alignment:
    labels = [label for label in components.labels if label in averages.values]
    own, z = averages.rows(labels) - mean, components.rows(labels)
    fit = _FITS[method]
    weights = fit(own, z, condition_folds(len(labels), len(own)))
    matrix = np.zeros((averages.neurons, factors_dim))
    matrix[:, : weights.shape[1]] = weights
    projected = own @ weights
    r2, of_components = explained(z, projected)
    by_factor = np.concatenate([of_components, np.full(factors_dim - len(of_components), np.nan)])
    by_neuron = _explained_by(z, own)
    shape = (len(labels), averages.bins, -1)
    return Alignment(
        matrix=matrix,
        bias=mean,
        r2=r2,
        r2_by_factor=by_factor,
        r2_left_out=explained(z, left_out_predictions(own, z, len(labels), fit))[0],
        r2_by_neuron=by_neuron,
        conditions=len(labels),
        all_conditions=len(components.labels),
        other_data=averages.other_data,
        reconstruction=Reconstruction(
            conditions=np.array([str(label) for label in labels]),
            time_ms=averages.time_ms,
            components=z.reshape(shape)[..., :MOST_COMPONENTS].astype(np.float32),
            projection=projected.reshape(shape)[..., :MOST_COMPONENTS].astype(np.float32),
            r2_by_factor=by_factor,
            r2_by_neuron=by_neuron,
        ),
    )


def _explained_by(components: Float64, own: Float64) -> Float64:
    """Return the share of the variance of each neuron's averages that is linear in the components, (D,)."""
    known = np.column_stack([components, np.ones(len(components))])
    return explained(own, known @ least_squares(known, own, np.zeros(0)))[1]


# -------------------------------------------------------------------------------- without conditions


def _without(
    session: SessionInputs, averages: Averages, factors_dim: int, choice: str, size: float | None
) -> Alignment:
    """Return how a session without conditions starts; `size` is that of the others' components."""
    nothing = np.full(factors_dim, np.nan)
    found = Alignment(
        None, None, float("nan"), nothing,
        r2_by_neuron=np.full(averages.neurons, np.nan),
        made_by=choice,
        other_data=averages.other_data,
        note=_NOTES[choice],
    )  # fmt: skip
    if choice == "random":
        return found
    counts = session.train_data.astype(np.float64)
    mean = counts.mean(axis=(0, 1))
    return replace(found, matrix=_own_components(counts - mean, factors_dim, size), bias=mean)


def _own_components(centred: Float64, factors_dim: int, size: float | None) -> Float64:
    """Return the (D, F) leading principal axes of a session's single trials, zero beyond its neurons.

    Of the covariance of neighbouring bins: noise that has no memory, nearly all of a count's variance, is not
    in it. With `size` the axes are stretched so that what they read in is as large as what others read in.
    """
    before, after = (centred[:, :-1], centred[:, 1:]) if centred.shape[1] > 1 else (centred, centred)
    square = np.einsum("etd,etk->dk", before, after, optimize=True) / (before.shape[0] * before.shape[1])
    powers, axes = np.linalg.eigh((square + square.T) / 2)
    order = np.argsort(powers)[::-1][:factors_dim]
    order = order[powers[order] > 1e-10 * np.abs(powers).max()]
    matrix = np.zeros((centred.shape[2], factors_dim))
    if not len(order):
        return matrix
    read_in = centred.reshape(-1, centred.shape[2]) @ axes[:, order]
    signs = np.where((read_in**3).sum(axis=0) < 0, -1.0, 1.0)
    matrix[:, : len(order)] = axes[:, order] * signs
    if size is not None:
        matrix *= size / np.sqrt(powers[order].sum())
    return matrix
