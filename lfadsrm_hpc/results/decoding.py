"""Linear decoding: behaviour from rates, true latents from factors; ridge regression from sums over trials.

``R2 = 1 - sum (y - y^)^2 / sum (y - mean)^2`` for each output, the mean being that of the *training* trials;
then the mean over outputs, whose units may differ. All is computed from sums of products, gathered block by
block for each fold of the training trials, so that memory does not grow with the trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, UsageError
from lfadsrm_hpc.results.metrics import Floats

# Relative to the variance of one standardised input.
PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
# True latents are a linear function of good factors: no more penalty than collinear factors need.
LEAST_PENALTY = (1e-6,)
FOLDS = 5
_CONSTANT = 1e-12  # variance, relative to the squared mean, of an input that never changes


@dataclass(frozen=True)
class Decoded:
    """How well outputs are decoded.

    Attributes
    ----------
    r2 : float
        Mean over outputs.
    by_output : ndarray, shape (output,)
        nan where an output does not vary.
    penalty : float
        What cross-validation within the training trials chose.
    """

    r2: float
    by_output: Floats
    penalty: float


class Sums:
    """Sums of products of inputs (P) and outputs (Q) over samples: all that a linear regression needs.

    They are taken about the mean of the first block, so that little cancels.
    """

    def __init__(self, inputs: int, outputs: int, at: tuple[Floats, Floats] | None = None) -> None:
        self.at = at
        self.n = 0.0
        self.x, self.y = np.zeros(inputs), np.zeros(outputs)
        self.xx, self.xy = np.zeros((inputs, inputs)), np.zeros((inputs, outputs))
        self.yy = np.zeros(outputs)

    def add(self, x: Floats, y: Floats) -> None:
        """Add samples (N, P) and (N, Q)."""
        if self.at is None:
            self.at = x.mean(axis=0), y.mean(axis=0)
        x, y = x - self.at[0], y - self.at[1]
        self.n += len(x)
        self.x += x.sum(axis=0)
        self.y += y.sum(axis=0)
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.yy += np.square(y).sum(axis=0)

    def __add__(self, other: Sums) -> Sums:
        made = Sums(len(self.x), len(self.y), self.at if self.at is not None else other.at)
        for name in ("n", "x", "y", "xx", "xy", "yy"):
            setattr(made, name, getattr(self, name) + getattr(other, name))
        return made


@dataclass(frozen=True)
class _Weights:
    """A regression about the origin of the sums: y = x w + b."""

    w: Floats  # (P, Q)
    b: Floats  # (Q,)
    mean: Floats  # (Q,) of y in what it was fitted on: the null

    def error(self, sums: Sums) -> Floats:
        """Return the squared error of each output over samples."""
        w, b = self.w, self.b
        predicted = np.einsum("pq,pr,rq->q", w, sums.xx, w) + 2 * b * (sums.x @ w) + sums.n * b**2
        cross = np.einsum("pq,pq->q", w, sums.xy) + b * sums.y
        result: Floats = np.maximum(sums.yy - 2 * cross + predicted, 0.0)
        return result

    def spread(self, sums: Sums) -> Floats:
        """Return the squares of each output about the null."""
        result: Floats = np.maximum(sums.yy - 2 * self.mean * sums.y + sums.n * self.mean**2, 0.0)
        return result


def _fits(sums: Sums, penalties: Sequence[float]) -> list[_Weights]:
    """Return ridge regressions on standardised inputs, intercept free, one a penalty."""
    n = max(sums.n, 1.0)
    mx, my = sums.x / n, sums.y / n
    square, cross = sums.xx / n - np.outer(mx, mx), sums.xy / n - np.outer(mx, my)
    variance = np.diag(square).copy()
    offset = sums.at[0] if sums.at is not None else 0.0
    varies = variance > _CONSTANT * np.maximum(np.square(mx + offset), np.finfo(float).tiny)
    scale = np.where(varies, np.sqrt(np.where(varies, variance, 1.0)), np.inf)
    values, vectors = np.linalg.eigh(square / np.outer(scale, scale))
    projected = vectors.T @ (cross / scale[:, None])
    found = []
    for penalty in penalties:
        w = (vectors @ (projected / (np.maximum(values, 0.0) + penalty)[:, None])) / scale[:, None]
        found.append(_Weights(w, my - mx @ w, my))
    return found


class Decoder:
    """Decodes outputs from inputs: fill it with training trials and trials to score, then ask.

    Parameters
    ----------
    inputs, outputs : int
    penalties : sequence of float
        To choose from by cross-validation within the training trials.
    lag_bins : int
        Outputs are decoded from inputs so many bins earlier (negative: later).
    folds : int
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        penalties: Sequence[float] = PENALTIES,
        lag_bins: int = 0,
        folds: int = FOLDS,
    ) -> None:
        self.penalties, self.lag = penalties, lag_bins
        self._size = inputs, outputs
        self._folds = [Sums(inputs, outputs) for _ in range(folds)]
        self._scored = Sums(inputs, outputs)

    def add_training(self, x: Floats, y: Floats, fold: npt.NDArray[Any]) -> None:
        """Add training trials: inputs (n, T, P), outputs (n, T, Q), and the fold of each trial (n,).

        Parameters
        ----------
        x : ndarray, shape (n, T, P)
        y : ndarray, shape (n, T, Q)
        fold : ndarray of int, shape (n,)
        """
        for number in np.unique(fold):
            own = fold == number
            self._add(self._folds[int(number)], x[own], y[own])

    def add_scored(self, x: Floats, y: Floats) -> None:
        """Add trials to score.

        Parameters
        ----------
        x : ndarray, shape (n, T, P)
        y : ndarray, shape (n, T, Q)
        """
        self._add(self._scored, x, y)

    def _add(self, sums: Sums, x: Floats, y: Floats) -> None:
        lag = self.lag
        if lag > 0:
            x, y = x[:, :-lag], y[:, lag:]
        elif lag < 0:
            x, y = x[:, -lag:], y[:, :lag]
        flat, target = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
        there = np.isfinite(target).all(axis=1)
        if not there.any():
            return
        if sums.at is None:  # all sums of a decoder have one origin
            at = flat[there].mean(axis=0), target[there].mean(axis=0)
            for one in (*self._folds, self._scored):
                one.at = at
        sums.add(flat[there], target[there])

    def scored(self) -> Decoded:
        """Return how well the outputs of the trials to score are decoded.

        Raises
        ------
        DataError
            Outputs are missing, or do not vary.
        """
        if not self._scored.n or not self._used():
            raise DataError(
                "there are no outputs to decode in the training trials or in those to score",
                hint="are they finite in any bin?",
            )
        folds = self._used()
        penalty = self._choose(folds)
        (fit,) = _fits(self._all(folds), [penalty])
        return _decoded(fit.error(self._scored), fit.spread(self._scored), penalty)

    def cross_validated(self) -> Decoded:
        """Return how well those of the training trials are, each fold by a regression on the others.

        The penalty of each is chosen within the others.

        Raises
        ------
        DataError
            There are too few training trials, or their outputs do not vary.
        """
        folds = self._used()
        if len(folds) < 2:
            raise DataError(
                "cross-validation needs at least 2 training trials with outputs",
                hint="give more training trials",
            )
        error, spread = np.zeros(self._size[1]), np.zeros(self._size[1])
        chosen = []
        for out in folds:
            others = [fold for fold in folds if fold is not out]
            penalty = self._choose(others)
            (fit,) = _fits(self._all(others), [penalty])
            error, spread = error + fit.error(out), spread + fit.spread(out)
            chosen.append(penalty)
        return _decoded(error, spread, float(np.median(chosen)))

    def _used(self) -> list[Sums]:
        return [fold for fold in self._folds if fold.n]

    def _all(self, folds: Sequence[Sums]) -> Sums:
        return sum(folds, Sums(*self._size))

    def _choose(self, folds: Sequence[Sums]) -> float:
        """Return the penalty of the least error in cross-validation over folds; each output counts alike."""
        if len(self.penalties) == 1 or len(folds) < 2:
            return self.penalties[len(self.penalties) // 2]  # nothing to choose, or nothing to choose by
        score = np.zeros(len(self.penalties))
        for out in folds:
            fits = _fits(self._all([fold for fold in folds if fold is not out]), self.penalties)
            spread = fits[0].spread(out)
            spread = np.where(spread > 0, spread, np.inf)
            score += [float(np.sum(fit.error(out) / spread)) for fit in fits]
        return float(self.penalties[int(np.argmin(score))])


def decode(
    train_inputs: npt.ArrayLike,
    train_outputs: npt.ArrayLike,
    inputs: npt.ArrayLike,
    outputs: npt.ArrayLike,
    *,
    lag_bins: int = 0,
    penalties: Sequence[float] = PENALTIES,
    folds: int = FOLDS,
    seed: int = 0,
) -> Decoded:
    """Decode outputs (behaviour) from inputs (rates) by ridge regression fitted on the training trials.

    The penalty is that of the least error in cross-validation within the training trials; a trial is never
    split over folds. Bins in which an output is nan are left out. Pei et al. 2021 (Neural Latents Benchmark)
    do the same with unstandardised rates and means over the scored trials.

    Parameters
    ----------
    train_inputs : array_like, shape (training trial, time, input)
    train_outputs : array_like, shape (training trial, time, output)
    inputs, outputs : array_like
        The same of the trials to score.
    lag_bins : int
        Outputs are decoded from inputs so many bins earlier: neurons lead the hand by some 100 ms.
    penalties : sequence of float
        Relative to the variance of one standardised input.
    folds, seed : int
        Of the cross-validation.

    Returns
    -------
    Decoded

    Raises
    ------
    UsageError
        Shapes do not agree, or the lag is longer than a trial.
    DataError
        Inputs are not finite, outputs missing or constant.
    """
    arrays = [np.asarray(one, dtype=np.float64) for one in (train_inputs, train_outputs, inputs, outputs)]
    for x, y in (arrays[:2], arrays[2:]):
        if x.ndim != 3 or y.ndim != 3 or x.shape[:2] != y.shape[:2]:
            raise UsageError(
                f"inputs {x.shape} and outputs {y.shape} are not (trial, time, ...) of the same",
                hint="both need the same trials and bins",
            )
        if not np.isfinite(x).all():
            raise DataError(
                "inputs to decode from are not finite", hint="are the rates those of a model that diverged?"
            )
        check_lag(lag_bins, x.shape[1])
    train_x, train_y, x, y = arrays
    decoder = Decoder(train_x.shape[2], train_y.shape[2], penalties=penalties, lag_bins=lag_bins, folds=folds)
    decoder.add_training(train_x, train_y, trial_folds(len(train_x), folds, seed))
    decoder.add_scored(x, y)
    return decoder.scored()


def latent_r2(
    train_factors: npt.ArrayLike, train_latents: npt.ArrayLike, factors: npt.ArrayLike, latents: npt.ArrayLike
) -> Decoded:
    """Regress true latents linearly on factors in the training trials, and score them in other trials.

    Parameters
    ----------
    train_factors, train_latents : array_like, shape (training trial, time, factor) and (..., latent)
    factors, latents : array_like
        The same of the trials to score.

    Raises
    ------
    UsageError, DataError
        As for `decode`.
    """
    return decode(train_factors, train_latents, factors, latents, penalties=LEAST_PENALTY)


def trial_folds(trials: int, folds: int = FOLDS, seed: int = 0) -> npt.NDArray[np.int64]:
    """Return the fold of each trial, folds of equal size, shuffled by the seed."""
    result: npt.NDArray[np.int64] = np.random.default_rng(seed).permutation(trials) % folds
    return result


def check_lag(lag_bins: int, bins: int) -> None:
    """Refuse a lag that leaves no bin."""
    if abs(lag_bins) >= bins:
        raise UsageError(f"a lag of {lag_bins} bins leaves nothing of {bins} bins", hint="use a shorter lag")


def _decoded(error: Floats, spread: Floats, penalty: float) -> Decoded:
    if not (spread > 0).any():
        raise DataError(
            "what is to be decoded does not vary", hint="choose an output that changes over bins or trials"
        )
    by_output = np.where(spread > 0, 1 - error / np.where(spread > 0, spread, 1.0), np.nan)
    return Decoded(float(np.nanmean(by_output)), by_output, penalty)
