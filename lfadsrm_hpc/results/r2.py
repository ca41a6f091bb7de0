"""R2 of rates, pooled and neuron by neuron, where the true rates are known.

``R2 = 1 - sum (truth - estimate)^2 / sum (truth - null)^2``, where the null is each neuron's mean true rate
over the *training* trials, so that no scored trial enters what it is compared with.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, UsageError
from lfadsrm_hpc.results.metrics import Floats

# A neuron that fires less than this (spikes/s) gives a model hardly a spike to infer its rate from, and the
# variance that its R2 divides by is next to nothing: R2 of -100 for an error nobody would notice.
NEAR_SILENT = 0.5


def rate_r2(
    estimate: npt.ArrayLike, truth: npt.ArrayLike, *, train_truth: npt.ArrayLike | None = None
) -> float:
    """Return R2 of rates, squares summed over trials, bins and neurons before they are divided.

    That is the mean of the neurons' own R2, each weighted by the variance of its true rate: near-silent
    neurons hardly count. The plain mean over neurons is wrecked by them.

    Parameters
    ----------
    estimate, truth : array_like, shape (trial, time, neuron)
        Spikes/s, in the trials to score.
    train_truth : array_like, shape (training trial, time, neuron), optional
        True rates in the training trials, whose means are the null. None: the means over the scored trials
        (`pooled_r2`).

    Raises
    ------
    UsageError
        Shapes differ.
    DataError
        Values are not finite, or the truth does not vary.

    Examples
    --------
    >>> truth = [[[1.0], [2.0], [3.0]]]
    >>> rate_r2([[[1.0], [2.0], [2.0]]], truth)
    0.5
    """
    return pooled_rate_r2([(estimate, truth, train_truth)])


def pooled_rate_r2(sessions: Iterable[tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike | None]]) -> float:
    """Return R2 of rates of several sessions, squares summed over them too before they are divided.

    Parameters
    ----------
    sessions : iterable of (estimate, truth, train_truth)
        Of each session, as for `rate_r2`; neurons and trials may differ.

    Raises
    ------
    UsageError, DataError
        As for `rate_r2`.
    """
    errors = spreads = 0.0
    for estimate, truth, train_truth in sessions:
        error, spread = _squares(estimate, truth, train_truth)
        errors, spreads = errors + float(error.sum()), spreads + float(spread.sum())
    if spreads == 0:
        raise DataError("the true rates do not vary: R2 is not defined", hint="leave out silent neurons")
    return 1 - errors / spreads


def rate_r2_by_neuron(
    estimate: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    train_truth: npt.ArrayLike | None = None,
    least_rate: float = NEAR_SILENT,
) -> Floats:
    """Return R2 of each neuron's rates; nan for near-silent neurons, whose R2 says nothing.

    Of the others take the median: it is not moved by the few that only just pass.

    Parameters
    ----------
    estimate, truth, train_truth : array_like
        As for `rate_r2`.
    least_rate : float
        Spikes/s: a neuron whose mean true rate (in the training trials, where given) is below it is
        near-silent.

    Returns
    -------
    ndarray, shape (neuron,)
        nan also where the truth of a neuron does not vary.

    Raises
    ------
    UsageError, DataError
        As for `rate_r2`; a truth that does not vary is none.
    """
    error, spread = _squares(estimate, truth, train_truth)
    means = _means(truth if train_truth is None else train_truth)
    return r2_of_sums(error, spread, means, least_rate)


def r2_of_sums(error: Floats, spread: Floats, means: Floats, least_rate: float) -> Floats:
    """Return ``1 - error / spread``, nan where a neuron's mean rate is too low or its truth does not vary."""
    good = (means >= least_rate) & (spread > 0)
    result: Floats = np.where(good, 1 - error / np.where(spread > 0, spread, 1.0), np.nan)
    return result


def _squares(
    estimate: npt.ArrayLike, truth: npt.ArrayLike, train_truth: npt.ArrayLike | None
) -> tuple[Floats, Floats]:
    """Return each neuron's sums of squares: of the errors, and of the truth about the null."""
    y, t = np.asarray(estimate, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if y.shape != t.shape or t.ndim < 2:
        raise UsageError(
            f"the estimate has the shape {y.shape}, the truth {t.shape}",
            hint="both need the same trials, bins and neurons",
        )
    if not (np.isfinite(y).all() and np.isfinite(t).all()):
        raise DataError("an R2 needs finite values", hint="are the rates those of a model that diverged?")
    null = _means(t if train_truth is None else train_truth)
    if null.shape != t.shape[-1:]:
        raise UsageError(
            f"{null.size} neurons in training, {t.shape[-1]} to score", hint="both need the same neurons"
        )
    over = tuple(range(t.ndim - 1))
    return np.square(t - y).sum(axis=over), np.square(t - null).sum(axis=over)


def _means(rates: npt.ArrayLike) -> Floats:
    t = np.asarray(rates, dtype=np.float64)
    result: Floats = t.reshape(-1, t.shape[-1]).mean(axis=0)
    return result
