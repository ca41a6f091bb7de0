"""Read-in matrices that map the neurons of several sessions to common factors ("stitching").

The steps are those of the LFADS papers (Pandarinath et al. 2018, Methods, "Stitching") and of the Matlab run
manager, in float64 and on training trials alone:

1. average the counts of each session by condition; trials without a condition are left out;
2. put the neurons of all sessions side by side, rows being (condition, bin), and centre each neuron;
3. PCA: K = min(F, all neurons) global components Z;
4. for each session, regress Z on the session's own averages, over the conditions that all sessions share:
   weights W_d (neurons, F), zero in the columns beyond K; bias: the mean of the session's averages.

LFADS starts its read-in at `W_d` with offset `-bias W_d`, and its read-out at `W_d^T`.

A session need not have every condition. A covariance of the PCA between two sessions is the mean over the
conditions that both have (a neuron's own mean is over all that it has); Z exists where all sessions have
data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.data import binning
from lfadsrm_hpc.errors import DataError, UsageError, suggest

if TYPE_CHECKING:
    import xarray as xr

    from lfadsrm_hpc.data.inputs import SessionInputs

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

METHODS = ("least_squares", "ridge")
_MAX_FOLDS = 10
_PENALTIES = np.concatenate([[0.0], 10.0 ** np.arange(-6.0, 3.5, 0.5)])


@dataclass(frozen=True)
class Alignment:
    """How one session's neurons map to the common factors.

    Attributes
    ----------
    matrix : (D, F) float64
    bias : (D,) float64
        Mean counts a bin: `(counts - bias) @ matrix` approximates the global components.
    r2 : float
        Share of the variance of the global components, all together, that the session's averages explain on
        the shared conditions.
    r2_by_factor : (F,) float64
        The same for each component; NaN where there is none (zero columns).
    """

    matrix: Float64
    bias: Float64
    r2: float
    r2_by_factor: Float64


@dataclass(frozen=True)
class _Averages:
    """Condition averages of one session: `values[c]` is (T, D), for the conditions that it has."""

    name: str
    values: dict[Any, Float64]

    @property
    def mean(self) -> Float64:
        result: Float64 = np.mean([average.mean(axis=0) for average in self.values.values()], axis=0)
        return result


def align(
    sessions: Sequence[SessionInputs],
    factors_dim: int,
    *,
    method: str = "least_squares",
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
        conditions (of bins, where one condition is shared).
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
        A session has no conditions, no condition is shared by all, trials of the sessions are not equally
        long, neurons of `data` are not those of the session, a value is not finite.
    UsageError
        An unknown method, no session, no factor.
    """
    _check_call(sessions, factors_dim, method, data)
    extra = data if data is not None else [None] * len(sessions)
    averages = [_average(session, other) for session, other in zip(sessions, extra, strict=True)]
    shared = _shared_conditions(averages)
    components = _global_components(averages, shared, factors_dim)
    return [_regress(each, shared, components, factors_dim, method) for each in averages]


def _check_call(
    sessions: Sequence[SessionInputs], factors_dim: int, method: str, data: Sequence[Any] | None
) -> None:
    if method not in METHODS:
        raise UsageError(
            f"unknown alignment method {method!r}",
            hint=suggest(method, METHODS) or f"known are {', '.join(METHODS)}",
        )
    if not sessions or factors_dim < 1:
        raise UsageError(f"nothing to align: {len(sessions)} sessions, {factors_dim} factors")
    if data is not None and len(data) != len(sessions):
        raise UsageError(f"{len(data)} data sets for alignment are given for {len(sessions)} sessions")


# ------------------------------------------------------------------------------ condition averages


def _average(session: SessionInputs, other: xr.Dataset | None) -> _Averages:
    where = f"dataset {session.dataset!r}"
    if other is None:
        counts, condition = session.train_data, session.train_condition
    else:
        counts, condition = _other_counts(session, other)
    if condition is None or not len(labels := condition_trials(condition)):
        raise DataError(
            "there are no conditions to align by",
            where=where,
            hint="give trials a `condition` that the sessions share, or set use_alignment_matrix to False",
        )
    finite = np.isfinite(counts).all(axis=(1, 2))
    if not finite.all():
        raise DataError(f"{int((~finite).sum())} trials have values that are not finite", where=where)
    return _Averages(
        session.dataset,
        {label: counts[rows].mean(axis=0, dtype=np.float64) for label, rows in labels.items()},
    )


def _other_counts(session: SessionInputs, other: xr.Dataset) -> tuple[Array, Array | None]:
    binned = binning.rebin(other, session.bin_ms)
    counts = binned["spikes"].to_numpy()
    if counts.shape[2] != len(session.neuron_names):
        raise DataError(
            f"the data for alignment have {counts.shape[2]} neurons, the session {len(session.neuron_names)}",
            where=f"dataset {session.dataset!r}",
            hint="alignment data must hold the same neurons in the same order",
        )
    condition = other["condition"].to_numpy() if "condition" in other.variables else None
    return counts, condition


def condition_trials(condition: Array) -> dict[Any, Array]:
    """Return the trials of each condition; empty texts and NaN are no condition."""
    labels: dict[Any, list[int]] = {}
    for trial, label in enumerate(np.asarray(condition).tolist()):
        missing = label is None or label == "" or label != label
        if not missing:
            labels.setdefault(label, []).append(trial)
    return {label: np.array(trials) for label, trials in labels.items()}


def _shared_conditions(averages: Sequence[_Averages]) -> list[Any]:
    """Return the conditions that every session has, in the order of the first."""
    lengths = {each.name: len(next(iter(each.values.values()))) for each in averages}
    if len(set(lengths.values())) > 1:
        raise DataError(
            "trials of the sessions are not equally long: "
            + ", ".join(f"{name} has {length} bins" for name, length in lengths.items()),
            hint="cut all sessions to the same window before they are stitched",
        )
    shared = [label for label in averages[0].values if all(label in each.values for each in averages)]
    if not shared:
        raise DataError(
            "no condition is shared by the training trials of all sessions: "
            + "; ".join(f"{each.name} has {_some(each.values)}" for each in averages),
            hint="name the same conditions alike in all sessions, or set use_alignment_matrix to False",
        )
    return shared


def _some(labels: dict[Any, Any], most: int = 6) -> str:
    texts = [repr(label) for label in labels]
    rest = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {rest} more" if rest > 0 else "")


# ---------------------------------------------------------------------------------------- global PCA


def _global_components(averages: Sequence[_Averages], shared: Sequence[Any], factors_dim: int) -> Float64:
    """Return Z (shared conditions x bins, K), columns centred, largest variance first.

    The sign of a component is arbitrary in a PCA; here its third moment is positive, so that it depends
    neither on the order of neurons nor on the linear algebra library.
    """
    values, vectors = np.linalg.eigh(_covariance(averages))
    order = np.argsort(values)[::-1][:factors_dim]
    # no variance, no component; with missing conditions the smallest eigenvalues can even be negative
    order = order[values[order] > 1e-10 * max(values[-1], 0.0)]
    together = np.concatenate([_rows(each, shared) for each in averages], axis=1)
    components = together @ vectors[:, order]
    components -= components.mean(axis=0)
    signs = np.where((components**3).sum(axis=0) < 0, -1.0, 1.0)
    result: Float64 = components * signs
    return result


def _covariance(averages: Sequence[_Averages]) -> Float64:
    """Return the covariance of all neurons of all sessions, each block over the conditions both have."""
    blocks: list[list[Float64]] = []
    for i, one in enumerate(averages):
        row = [blocks[j][i].T for j in range(i)]
        for two in averages[i:]:
            both = [label for label in one.values if label in two.values]
            a, b = _rows(one, both), _rows(two, both)
            row.append(a.T @ b / len(a))
        blocks.append(row)
    whole = np.block(blocks)
    result: Float64 = 0.5 * (whole + whole.T)
    return result


def _rows(averages: _Averages, labels: Sequence[Any]) -> Float64:
    """Return (conditions x bins, D) averages less the session's mean."""
    return np.concatenate([averages.values[label] for label in labels]) - averages.mean


# ---------------------------------------------------------------------------------------- regression


def _regress(
    averages: _Averages, shared: Sequence[Any], components: Float64, factors_dim: int, method: str
) -> Alignment:
    own = _rows(averages, shared)
    own = own - own.mean(axis=0)
    if method == "ridge":
        weights = ridge(own, components, condition_folds(len(shared), len(own)))
    else:
        weights = np.linalg.lstsq(own, components, rcond=None)[0]
    residual = ((components - own @ weights) ** 2).sum(axis=0)
    total = (components**2).sum(axis=0)
    r2_by_factor = np.full(factors_dim, np.nan)
    r2_by_factor[: len(total)] = 1.0 - residual / np.where(total > 0, total, np.nan)
    matrix = np.zeros((own.shape[1], factors_dim))
    matrix[:, : weights.shape[1]] = weights
    r2 = float(1.0 - residual.sum() / total.sum()) if total.sum() > 0 else float("nan")
    return Alignment(matrix=matrix, bias=averages.mean, r2=r2, r2_by_factor=r2_by_factor)


def condition_folds(n_conditions: int, n_rows: int) -> Array:
    """Return the fold of each row: whole conditions, or stretches of bins where there is one condition.

    Neighbouring bins resemble each other, so rows of one condition must not be spread over folds.
    """
    if n_conditions == 1:
        return np.arange(n_rows) * min(_MAX_FOLDS, n_rows) // n_rows
    folds = np.arange(n_conditions) % min(_MAX_FOLDS, n_conditions)
    return np.repeat(folds, n_rows // n_conditions)


def ridge(own: Float64, components: Float64, folds: Array) -> Float64:
    """Return (D, K) weights; each component has the penalty that predicts left-out folds best.

    Parameters
    ----------
    own : (rows, D), components : (rows, K)
        Their columns centred.
    folds : (rows,)
        See `condition_folds`.
    """
    scale = float((own**2).sum()) / own.shape[1]
    if scale == 0.0:
        return np.zeros((own.shape[1], components.shape[1]))
    penalties = scale * _PENALTIES
    errors = np.zeros((len(penalties), components.shape[1]))
    for fold in np.unique(folds):
        out = folds == fold
        if out.all():
            break
        x, z = own[~out], components[~out]
        x_mean, z_mean = x.mean(axis=0), z.mean(axis=0)
        weights = _ridge_path(x - x_mean, z - z_mean, penalties)
        predicted = (own[out] - x_mean) @ weights + z_mean
        errors += ((components[out] - predicted) ** 2).sum(axis=1)
    # the last of equals: where nothing can be told apart, the strongest penalty
    best = len(penalties) - 1 - np.argmin(errors[::-1], axis=0)
    path = _ridge_path(own, components, penalties)
    result: Float64 = path[best, :, np.arange(components.shape[1])].T
    return result


def _ridge_path(x: Float64, z: Float64, penalties: Float64) -> Float64:
    """Return (penalties, D, K) ridge weights of centred data, from one eigendecomposition."""
    values, vectors = np.linalg.eigh(x.T @ x)
    values = np.maximum(values, 0.0)
    target = vectors.T @ (x.T @ z)
    shrunk = values + penalties[:, None]
    # directions without data get no weight, also at penalty 0
    usable = values > 1e-12 * values[-1] if values[-1] > 0 else np.zeros(len(values), dtype=bool)
    inverse = np.where(usable, 1.0 / np.where(usable, shrunk, 1.0), 0.0)
    result: Float64 = np.einsum("ij,pj,jk->pik", vectors, inverse, target, optimize=True)
    return result
