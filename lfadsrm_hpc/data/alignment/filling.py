"""Averages with holes, filled by probabilistic PCA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

_FILLED_BY = 20  # components of the probabilistic PCA; those that the data do not need vanish by themselves
_MOST_STEPS = 300
_CLOSE = 1e-5  # change of the fitted values, relative to the largest, at which it has converged


def fill(values: Float64, there: Array) -> Float64:
    """Return values (C, T, N) with the holes filled in.

    Parameters
    ----------
    values : (C, T, N)
        NaN where a neuron's session lacks a condition.
    there : (C, N) bool
    """
    mean = np.nanmean(values, axis=(0, 1))
    spread = np.nanmax(np.abs(values - mean), axis=(0, 1))
    # neurons that never change would make the noise look smaller than it is
    changing = spread > 1e-9 * spread.max()
    result = np.where(there[:, None, :], values, mean)
    if changing.any():
        result[..., changing] = _filled(values[..., changing], there[:, changing])
    return result


def _filled(values: Float64, there: Array) -> Float64:
    model = _Filling(values, there)
    before = model.fitted()
    for _ in range(_MOST_STEPS):
        model.step()
        now = model.fitted()
        change = max(float(np.abs(b - a).max()) for a, b in zip(before, now, strict=True))
        before = now
        if change <= _CLOSE * max(float(np.abs(part).max()) for part in now):
            break
    return model.filled(values)


@dataclass
class _Rows:
    """The rows of the conditions that the same sessions have.

    All that the model needs of them are sums of squares and products with each other and with 1, so there are
    never more rows here than columns: an orthogonal transform leaves those sums as they are.

    Attributes
    ----------
    conditions, columns : (c,) and (n,)
        Which conditions, and which neurons have them.
    count : int
        How many rows there were.
    ones, x : (r,) and (r, n)
    """

    conditions: Array
    columns: Array
    count: int
    ones: Float64
    x: Float64

    @classmethod
    def of(cls, values: Float64, conditions: Array, columns: Array) -> _Rows:
        x = values[conditions][:, :, columns].reshape(-1, len(columns))
        together = np.column_stack([np.ones(len(x)), x])
        short: Any = np.linalg.qr(together, mode="r") if len(together) > together.shape[1] else together
        return cls(conditions, columns, len(x), short[:, 0], short[:, 1:])


class _Filling:
    """A probabilistic PCA, `x = mean + V z + noise`, of a matrix with holes.

    Variational Bayes: z ~ N(0, I), the columns of V ~ N(0, 1/precision), whose precisions and the variance of
    the noise are estimated. After each step the model is turned so that z has unit covariance and the columns
    of V are orthogonal, which changes no fitted value and makes it converge many times faster.
    """

    def __init__(self, values: Float64, there: Array) -> None:
        patterns, row_group = np.unique(there, axis=0, return_inverse=True)
        self.rows = [
            _Rows.of(values, np.flatnonzero(np.ravel(row_group) == group), np.flatnonzero(pattern))
            for group, pattern in enumerate(patterns)
        ]
        # neurons that have the same conditions are uncertain alike
        found, column_group = np.unique(there, axis=1, return_inverse=True)
        self.column_group, groups = np.ravel(column_group), len(found.T)
        self.elements = int(there.sum()) * values.shape[1]
        self.mean = np.nanmean(values, axis=(0, 1))
        centred = np.nan_to_num(values - self.mean).reshape(-1, values.shape[2])
        self.variance = float((centred**2).sum()) / self.elements
        both = there.T.astype(np.float64) @ there * values.shape[1]
        powers, axes = np.linalg.eigh(centred.T @ centred / np.maximum(both, 1.0))
        order = np.argsort(powers)[::-1][:_FILLED_BY]
        least = max(powers[order[0]], 0.0) * 1e-6
        self.weights: Float64 = axes[:, order] * np.sqrt(np.maximum(powers[order], least))
        k = self.weights.shape[1]
        self.weight_covariance = np.zeros((groups, k, k))
        self.latents: list[Float64] = [np.zeros((len(rows.x), k)) for rows in self.rows]
        self.latent_covariance = np.zeros((len(self.rows), k, k))
        self.noise = max(self.variance, 1e-300)
        self.precision = np.zeros(k)

    def fitted(self) -> list[Float64]:
        """Return what the model says of the rows, of all neurons."""
        return [
            np.outer(rows.ones, self.mean) + latents @ self.weights.T
            for rows, latents in zip(self.rows, self.latents, strict=True)
        ]

    def filled(self, values: Float64) -> Float64:
        """Return values (C, T, N), what the model says in the place of NaN."""
        result: Float64 = values.copy()
        for rows in self.rows:
            x = values[rows.conditions][:, :, rows.columns]
            latents = (x - self.mean[rows.columns]) @ self.weights[rows.columns] @ self._inverse(rows)
            there = result[rows.conditions]
            result[rows.conditions] = np.where(np.isnan(there), self.mean + latents @ self.weights.T, there)
        return result

    def step(self) -> None:
        self._infer_latents()
        self._fit_weights()
        self._turn()

    def _square(self, columns: Array) -> Float64:
        """Return the expectation of V^T V over some columns (neurons)."""
        counts = np.bincount(self.column_group[columns], minlength=len(self.weight_covariance))
        uncertain = np.tensordot(counts.astype(np.float64), self.weight_covariance, axes=1)
        result: Float64 = self.weights[columns].T @ self.weights[columns] + uncertain
        return result

    def _inverse(self, rows: _Rows) -> Float64:
        result: Float64 = np.linalg.inv(
            self._square(rows.columns) + self.noise * np.eye(self.weights.shape[1])
        )
        return result

    def _infer_latents(self) -> None:
        for group, rows in enumerate(self.rows):
            inverse = self._inverse(rows)
            seen = rows.x - np.outer(rows.ones, self.mean[rows.columns])
            self.latents[group] = seen @ self.weights[rows.columns] @ inverse
            self.latent_covariance[group] = self.noise * inverse

    def _fit_weights(self) -> None:
        error = 0.0
        for group in range(len(self.weight_covariance)):
            columns = np.flatnonzero(self.column_group == group)
            have = [i for i, rows in enumerate(self.rows) if columns[0] in rows.columns]
            places = [np.searchsorted(self.rows[i].columns, columns) for i in have]
            x = np.concatenate([self.rows[i].x[:, p] for i, p in zip(have, places, strict=True)])
            ones = np.concatenate([self.rows[i].ones for i in have])
            z = np.concatenate([self.latents[i] for i in have])
            uncertain = sum(self.rows[i].count * self.latent_covariance[i] for i in have)
            square = z.T @ z + uncertain
            self.mean[columns] = ones @ (x - z @ self.weights[columns].T) / (ones @ ones)
            inverse = np.linalg.inv(square + self.noise * np.diag(self.precision))
            centred = x - np.outer(ones, self.mean[columns])
            weights = centred.T @ z @ inverse
            self.weights[columns], self.weight_covariance[group] = weights, self.noise * inverse
            error += float(((centred - z @ weights.T) ** 2).sum())
            error += float(np.trace(weights.T @ weights @ uncertain))
            error += len(columns) * float(np.trace(self.weight_covariance[group] @ square))
        self.noise = max(error / self.elements, 1e-14 * self.variance, 1e-300)

    def _turn(self) -> None:
        square = sum(z.T @ z for z in self.latents)
        counts = np.array([float(rows.count) for rows in self.rows])
        square = square + np.tensordot(counts, self.latent_covariance, axes=1)
        powers, axes = np.linalg.eigh(square / counts.sum())
        turn = axes * np.sqrt(np.maximum(powers, 1e-300))
        powers, axes = np.linalg.eigh(turn.T @ self._square(np.arange(len(self.weights))) @ turn)
        turn = turn @ axes[:, ::-1]
        self.weights = self.weights @ turn
        self.weight_covariance = turn.T @ self.weight_covariance @ turn
        back = np.linalg.inv(turn).T
        self.latents = [z @ back for z in self.latents]
        # a component that vanishes gets a large precision, but a finite one
        self.precision = len(self.weights) / np.maximum(powers[::-1], max(1e-20 * powers[-1], 1e-200))
