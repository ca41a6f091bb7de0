"""Least squares and ridge regression whose penalty is cross-validated over whole conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Fit = Callable[[Float64, Float64, Array], Float64]

_MAX_FOLDS = 10
_PENALTIES = np.concatenate([[0.0], 10.0 ** np.arange(-6.0, 3.5, 0.5)])


def condition_folds(n_conditions: int, n_rows: int) -> Array:
    """Return the fold of each row: whole conditions, or stretches of bins where there is one condition.

    Neighbouring bins resemble each other, so rows of one condition must not be spread over folds.
    """
    if n_conditions == 1:
        return np.arange(n_rows) * min(_MAX_FOLDS, n_rows) // n_rows
    folds = np.arange(n_conditions) % min(_MAX_FOLDS, n_conditions)
    return np.repeat(folds, n_rows // n_conditions)


def least_squares(own: Float64, components: Float64, folds: Array) -> Float64:
    """Return the (D, K) weights of least squared error, the smallest of them; `folds` are not needed."""
    return np.asarray(np.linalg.lstsq(own, components, rcond=None)[0], dtype=np.float64)


def ridge(own: Float64, components: Float64, folds: Array, *, centred: bool = True) -> Float64:
    """Return (D, K) weights; each component has the penalty that predicts left-out folds best.

    Parameters
    ----------
    own : (rows, D), components : (rows, K)
        Relative to their means (or to the origin that they share, with `centred` false).
    folds : (rows,)
        See `condition_folds`.
    centred : bool
        Whether the means are estimated anew from the rows that each fold leaves, as an intercept would be.
    """
    penalties = _scale(own) * _PENALTIES
    if not penalties.any():
        return np.zeros((own.shape[1], components.shape[1]))
    errors = np.zeros((len(penalties), components.shape[1]))
    for fold in np.unique(folds):
        out = folds == fold
        if out.all():
            break
        x, z = own[~out], components[~out]
        x_mean = x.mean(axis=0) if centred else np.zeros(x.shape[1])
        z_mean = z.mean(axis=0) if centred else np.zeros(z.shape[1])
        weights = _ridge_path(x - x_mean, z - z_mean, penalties)
        predicted = (own[out] - x_mean) @ weights + z_mean
        errors += ((components[out] - predicted) ** 2).sum(axis=1)
    # the last of equals: where nothing can be told apart, the strongest penalty
    best = len(penalties) - 1 - np.argmin(errors[::-1], axis=0)
    path = _ridge_path(own, components, penalties)
    result: Float64 = path[best, :, np.arange(components.shape[1])].T
    return result


def _scale(own: Float64) -> float:
    """Return the mean sum of squares of a direction that has any: a unit for penalties.

    Neither silent neurons nor a rotation of the neurons change it.
    """
    values = np.linalg.eigvalsh(own.T @ own)
    some = values > 1e-12 * max(values[-1], 0.0)
    return float(values[some].mean()) if some.any() else 0.0


def ridge_about_origin(own: Float64, components: Float64, folds: Array) -> Float64:
    """Return `ridge` of values whose origin is known."""
    return ridge(own, components, folds, centred=False)


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


def left_out_predictions(own: Float64, components: Float64, n_conditions: int, fit: Fit) -> Float64:
    """Return what is predicted of each row by a fit on the rows of other folds, (rows, K).

    The fit has folds of its own within the rows that are left, so that no penalty is chosen by what it is
    judged by.
    """
    folds = condition_folds(n_conditions, len(own))
    predicted = np.zeros_like(components)
    for fold in np.unique(folds):
        out = folds == fold
        left = int((~out).sum())
        if not left:
            break
        of_fold = n_conditions - _conditions_in(out, n_conditions)
        weights = fit(own[~out], components[~out], condition_folds(max(of_fold, 1), left))
        predicted[out] = own[out] @ weights
    return predicted


def _conditions_in(out: Array, n_conditions: int) -> int:
    """Return how many whole conditions are left out."""
    return 0 if n_conditions == 1 else int(out.reshape(n_conditions, -1).all(axis=1).sum())


def explained(values: Float64, predicted: Float64) -> tuple[float, Float64]:
    """Return the share of variance that is predicted: of all columns together, and of each.

    NaN where there is no variance.
    """
    residual = ((values - predicted) ** 2).sum(axis=0)
    total = ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    total[total <= 1e-20 * total.max(initial=0.0)] = 0.0  # rounding is no variance
    whole = float(1.0 - residual.sum() / total.sum()) if total.sum() > 0 else float("nan")
    each: Float64 = 1.0 - residual / np.where(total > 0, total, np.nan)
    return whole, each
