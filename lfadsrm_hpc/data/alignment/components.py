"""Global components of several sessions: the principal components of all neurons together.

Rows are (condition, bin), columns the neurons of all sessions side by side. Where sessions lack conditions
the matrix has holes, whole blocks of them, and there are two ways to deal with that:

`all`
    The holes are filled in by a probabilistic PCA (Ilin and Raiko 2010, JMLR 11:1957, "variational Bayesian
    PCA", with a precision for each component): conditions need be shared in pairs or chains only. The
    components are those of the filled matrix, on every condition that any session has.
`shared`
    As in the Matlab run manager: a covariance of two sessions is the mean over the conditions that both have,
    and components exist on the conditions that all have.

Without holes both are one plain PCA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.data.alignment.conditions import Averages, Label, some
from lfadsrm_hpc.errors import DataError

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

CONDITIONS = ("all", "shared")
WEIGHTS = ("datasets", "neurons")
_FILLED_BY = 20  # components of the probabilistic PCA; those that the data do not need vanish by themselves
_MOST_STEPS = 300
_CLOSE = 1e-5  # change of the fitted values, relative to the largest, at which it has converged


@dataclass(frozen=True)
class GlobalComponents:
    """Components on conditions.

    Attributes
    ----------
    labels : list of int or str
        The conditions, C of them, in order.
    values : (C, T, K)
        Largest variance first; mean 0 over conditions and bins.
    means : list of (D,)
        For each session the mean of its neurons over these conditions (with `all`, those that it lacks are
        filled in), so that read-ins of all sessions have one origin.
    """

    labels: list[Label]
    values: Float64
    means: list[Float64]

    def rows(self, labels: Sequence[Label]) -> Float64:
        """Return the components on some conditions below each other, (conditions x bins, K)."""
        places = [self.labels.index(label) for label in labels]
        return self.values[places].reshape(-1, self.values.shape[2])


def global_components(
    averages: Sequence[Averages], factors_dim: int, *, conditions: str = "all", weights: str = "datasets"
) -> GlobalComponents:
    """Return the K = min(F, all neurons) leading principal components, fewer where there is no variance.

    Parameters
    ----------
    averages : sequence of Averages
        Each with one condition at least, and equally many bins.
    factors_dim : int
        F.
    conditions : {"all", "shared"}
        See above.
    weights : {"datasets", "neurons"}
        Whether each session has the same share in the variance, or each neuron enters as it is, so that
        sessions with many or busy neurons weigh more (as in the Matlab run manager).

    Raises
    ------
    DataError
        No condition is shared by all (`shared`), or groups of sessions have none in common (`all`).
    """
    scales = _scales(averages) if weights == "datasets" else np.ones(len(averages))
    if conditions == "shared":
        return _of_shared(averages, shared_conditions(averages), scales, factors_dim)
    labels = _sorted({label for each in averages for label in each.values})
    has = np.array([[label in each.values for label in labels] for each in averages])
    _check_connected(averages, has)
    blocks = [_with_holes(each, labels) * s for each, s in zip(averages, scales, strict=True)]
    filled = np.concatenate(blocks, axis=2)
    if not has.all():
        filled = _fill(filled, np.repeat(has, [each.neurons for each in averages], axis=0).T)
    means = np.split(filled.mean(axis=(0, 1)), np.cumsum([each.neurons for each in averages])[:-1])
    centred = (filled - filled.mean(axis=(0, 1))).reshape(-1, filled.shape[2])
    values = _signed(centred @ _leading(centred.T @ centred / len(centred), factors_dim))
    shape = (len(labels), filled.shape[1], values.shape[1])
    return GlobalComponents(
        labels, values.reshape(shape), [m / s for m, s in zip(means, scales, strict=True)]
    )


def shared_conditions(averages: Sequence[Averages]) -> list[Label]:
    """Return the conditions that every session has, in order.

    Raises
    ------
    DataError
        There is none.
    """
    shared = _sorted({label for label in averages[0].values if all(label in a.values for a in averages)})
    if not shared:
        raise DataError(
            "no condition is shared by the training trials of all sessions: " + _listed(averages),
            hint="name the same conditions alike in all sessions; where they share them in pairs, set "
            "alignment_conditions to 'all'; or set use_alignment_matrix to False",
        )
    return shared


def _sorted(labels: set[Label]) -> list[Label]:
    """Return numbers, then texts.

    An order of their own: folds of a cross-validation must not depend on the order of trials or sessions.
    """
    return sorted(labels, key=lambda label: (isinstance(label, str), label))


def _listed(averages: Sequence[Averages]) -> str:
    return "; ".join(f"{each.name} has {some(each.values)}" for each in averages)


def _check_connected(averages: Sequence[Averages], has: Array) -> None:
    """Refuse groups of sessions of which none shares a condition with one of another group."""
    groups: list[tuple[set[int], Array]] = []
    for index, own in enumerate(has):
        joined = [group for group in groups if (group[1] & own).any()]
        groups = [group for group in groups if not (group[1] & own).any()]
        members = {index}.union(*(group[0] for group in joined))
        groups.append((members, np.logical_or.reduce([own, *(group[1] for group in joined)])))
    if len(groups) == 1:
        return
    texts = [", ".join(averages[i].name for i in sorted(members)) for members, _ in groups]
    raise DataError(
        f"no condition is shared by training trials of these groups of sessions: {' | '.join(texts)} "
        f"({_listed(averages)})",
        hint="name the same conditions alike in all sessions, stitch the groups apart, or set "
        "use_alignment_matrix to False",
    )


def _scales(averages: Sequence[Averages]) -> Float64:
    """Return what each session's averages are multiplied by, so that all have the same variance.

    The mean of the variances stays what it is, and so does the size of the components.
    """
    variances = np.array([_variance(each) for each in averages])
    some_variance = variances > 0
    if not some_variance.any():
        return np.ones(len(averages))
    wanted = variances[some_variance].mean()
    result: Float64 = np.sqrt(wanted / np.where(some_variance, variances, wanted))
    return result


def _variance(averages: Averages) -> float:
    """Return the variance of a session's averages, a bin, summed over neurons."""
    rows = averages.rows(list(averages.values))
    return float(((rows - averages.mean) ** 2).sum() / len(rows))


# ---------------------------------------------------------------------------------------- plain PCA


def _leading(covariance: Float64, factors_dim: int) -> Float64:
    """Return the leading principal axes as columns; none without variance."""
    values, vectors = np.linalg.eigh(covariance)
    order = np.argsort(values)[::-1][:factors_dim]
    # with missing conditions the smallest eigenvalues of a pairwise covariance can even be negative
    order = order[values[order] > 1e-10 * max(values[-1], 0.0)]
    result: Float64 = vectors[:, order]
    return result


def _signed(components: Float64) -> Float64:
    """Return components (rows, K) centred, and with a positive third moment.

    The sign of a component is arbitrary in a PCA; so it depends neither on the order of neurons nor on the
    linear algebra library.
    """
    components = components - components.mean(axis=0)
    result: Float64 = components * np.where((components**3).sum(axis=0) < 0, -1.0, 1.0)
    return result


def _of_shared(
    averages: Sequence[Averages], shared: Sequence[Label], scales: Float64, factors_dim: int
) -> GlobalComponents:
    axes = _leading(_pairwise_covariance(averages, scales), factors_dim)
    together = [(each.rows(shared) - each.mean) * scale for each, scale in zip(averages, scales, strict=True)]
    components = _signed(np.concatenate(together, axis=1) @ axes)
    values = components.reshape(len(shared), -1, components.shape[1])
    return GlobalComponents(list(shared), values, [each.rows(shared).mean(axis=0) for each in averages])


def _pairwise_covariance(averages: Sequence[Averages], scales: Float64) -> Float64:
    """Return the covariance of all neurons of all sessions, each block over the conditions both have."""
    blocks: list[list[Float64]] = []
    for i, one in enumerate(averages):
        row = [blocks[j][i].T for j in range(i)]
        for j, two in enumerate(averages[i:], start=i):
            both = [label for label in one.values if label in two.values]
            a, b = one.rows(both) - one.mean, two.rows(both) - two.mean
            row.append(scales[i] * scales[j] * (a.T @ b) / len(a))
        blocks.append(row)
    whole = np.block(blocks)
    result: Float64 = 0.5 * (whole + whole.T)
    return result


# ---------------------------------------------------------------------------------------- filling in


def _with_holes(averages: Averages, labels: Sequence[Label]) -> Float64:
    """Return (C, T, D), NaN on the conditions that the session lacks."""
    shape = (averages.bins, averages.neurons)
    return np.stack([averages.values.get(label, np.full(shape, np.nan)) for label in labels])


def _fill(values: Float64, there: Array) -> Float64:
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
