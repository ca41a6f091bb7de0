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
from lfadsrm_hpc.data.alignment.filling import fill
from lfadsrm_hpc.errors import DataError

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
CONDITIONS = ("all", "shared")
WEIGHTS = ("datasets", "neurons")


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
        filled = fill(filled, np.repeat(has, [each.neurons for each in averages], axis=0).T)
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


def _with_holes(averages: Averages, labels: Sequence[Label]) -> Float64:
    """Return (C, T, D), NaN on the conditions that the session lacks."""
    shape = (averages.bins, averages.neurons)
    return np.stack([averages.values.get(label, np.full(shape, np.nan)) for label in labels])
