"""Condition averages (PSTHs): how well those of rates match those of the data, the data's noise taken off.

An average of a few trials is noisy: against it even the true rates score far below 1. Let ``a_c`` be the
mean of the training trials of condition c, ``z_c`` that of the rates in its scored trials, both smoothed, and
``v_c``, ``w_c`` the variances of these means: the spread of the trials about them, over their number. The
squared difference of ``a_c`` and ``z_c`` exceeds that of their expected values by ``v_c + w_c``. So, sums
over conditions, bins and neurons, with m the mean of the training trials,

    signal = sum (a_c - m)^2 - sum v_c
    error  = sum (z_c - a_c)^2 - sum (v_c + w_c)
    R2     = 1 - error / signal

are free of bias: signal power as in Sahani & Linden, NIPS 2002. Trials of a condition may differ, in the data
and in the rates, without its being held against a model. Every condition counts the same.
About the mean time course of all conditions, instead of m, they say how well conditions are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, UsageError
from lfadsrm_hpc.results.metrics import Floats, smooth_spikes

# The noise is taken off whatever the width: a narrow kernel, which spares fast responses, will do.
PSTH_SD_MS = 20.0
# Signal that is not above so many standard errors may be noise: nothing can be said of it.
SURE = 3.0

About = Literal["mean", "time_course"]


@dataclass(frozen=True)
class Explained:
    """What rates explain of the condition averages, by neuron.

    Attributes
    ----------
    error, signal : ndarray, shape (neuron,)
        Sums over conditions and bins, the noise taken off.
    noise : ndarray, shape (condition,)
        Squared differences of the averages of two halves of the training trials, scaled to have the noise of
        the average of all; sums over bins and neurons. Of conditions with 2 training trials and 1 scored.
    variance : float
        Of the summed signal where there is none, if bins further apart than the kernel were independent, and
        neurons too.
    """

    error: Floats
    signal: Floats
    noise: Floats
    variance: float

    @property
    def conditions(self) -> int:
        """How many conditions had enough trials."""
        return len(self.noise)

    @property
    def uncertainty(self) -> float:
        """Standard error of the summed signal where there is none.

        Neurons that fluctuate together make it larger than `variance` says: it is at least what the noise of
        the conditions varies by.
        """
        spread = len(self.noise) * float(self.noise.var(ddof=1)) if len(self.noise) > 1 else 0.0
        return float(np.sqrt(max(self.variance, spread)))

    @property
    def is_sure(self) -> bool:
        """Whether the averages differ by more than noise would make them."""
        return bool(self.signal.sum() > SURE * self.uncertainty)

    @property
    def r2(self) -> float:
        """R2 pooled over neurons."""
        return float(1 - self.error.sum() / self.signal.sum())


class ConditionSums:
    """Sums over trials of each condition, filled block by block.

    Parameters
    ----------
    conditions, bins, neurons : int
    bin_ms : float
    sd_ms : float
        Of the Gaussian that smooths data and rates.

    Notes
    -----
    Data and rates in the same unit.
    """

    def __init__(
        self, conditions: int, bins: int, neurons: int, *, bin_ms: float, sd_ms: float = PSTH_SD_MS
    ) -> None:
        self.bin_ms, self.sd_ms = bin_ms, sd_ms
        self._shape = (conditions, bins, neurons)
        self._halves = np.zeros((2, *self._shape))  # every other trial of a condition
        self._counts = np.zeros((2, conditions))
        self._squares = np.zeros((conditions, neurons))
        self._rates: dict[str, tuple[Floats, Floats, Floats]] = {}

    def add_data(self, values: npt.ArrayLike, condition: npt.NDArray[Any]) -> None:
        """Add training trials (trial, time, neuron) of the conditions (trial,); -1: none, left out."""
        values, condition = _with_condition(values, condition)
        if not len(values):
            return
        smoothed = self._smooth(values)
        seen = self._counts.sum(axis=0).astype(np.int64)
        half = np.empty(len(condition), dtype=np.int64)
        for row, number in enumerate(condition):
            half[row] = seen[number] % 2
            seen[number] += 1
        np.add.at(self._halves, (half, condition), smoothed)
        np.add.at(self._counts, (half, condition), 1.0)
        np.add.at(self._squares, condition, np.square(smoothed).sum(axis=1))

    def add_rates(self, split: str, rates: npt.ArrayLike, condition: npt.NDArray[Any]) -> None:
        """Add rates of trials to score; `split` names them."""
        rates, condition = _with_condition(rates, condition)
        if split not in self._rates:
            conditions, _, neurons = self._shape
            empty = np.zeros(self._shape), np.zeros((conditions, neurons)), np.zeros(conditions)
            self._rates[split] = empty
        if not len(rates):
            return
        sums, squares, trials = self._rates[split]
        smoothed = self._smooth(rates)
        np.add.at(sums, condition, smoothed)
        np.add.at(squares, condition, np.square(smoothed).sum(axis=1))
        np.add.at(trials, condition, 1.0)

    def explained(self, split: str, about: About = "mean", *, noise: bool = True) -> Explained | None:
        """Return what the rates of these trials explain; None where no condition has enough trials.

        Parameters
        ----------
        about : {"mean", "time_course"}
            Differences from each neuron's mean, or from its mean time course over all conditions (which needs
            at least 2).
        noise : bool
            Whether to take the noise off.
        """
        if split not in self._rates:
            return None
        rates, rate_squares, scored = self._rates[split]
        trials = self._counts.sum(axis=0)
        good = (trials >= 2) & (scored >= 1)
        count = int(good.sum())
        if count < (2 if about == "time_course" else 1):
            return None
        n = trials[good]
        averages = self._halves[:, good].sum(axis=0) / n[:, None, None]
        found = rates[good] / scored[good][:, None, None]
        spread = self._squares[good] - n[:, None] * np.square(averages).sum(axis=1)
        variance = np.maximum(spread, 0.0) / (n * (n - 1))[:, None]
        spread = np.maximum(rate_squares[good] - scored[good][:, None] * np.square(found).sum(axis=1), 0.0)
        part = 1.0
        if about == "time_course":
            averages, found = averages - averages.mean(axis=0), found - found.mean(axis=0)
            part = 1 - 1 / count  # of the noise, what is left after its mean over conditions is gone
        else:
            mean = np.average(averages.mean(axis=1), axis=0, weights=n)
            averages, found = averages - mean, found - mean
        of_data = noise * part * variance.sum(axis=0)
        of_rates = noise * part * _variance_of_means(spread, scored[good])
        return Explained(
            error=np.square(found - averages).sum(axis=(0, 1)) - of_data - of_rates,
            signal=np.square(averages).sum(axis=(0, 1)) - of_data,
            noise=self._noise(good) * noise,
            variance=self._variance(variance, n) * noise,
        )

    def _noise(self, good: npt.NDArray[np.bool_]) -> Floats:
        """Return the squared differences of halves, scaled, (condition,)."""
        one, other = self._counts[:, good]
        means = self._halves[:, good] / self._counts[:, good][..., None, None]
        scale = 1 / ((one + other) * (1 / one + 1 / other))
        result: Floats = np.square(means[0] - means[1]).sum(axis=(1, 2)) * scale
        return result

    def _variance(self, variance: Floats, n: Floats) -> float:
        """Return the variance of the signal where there is none, from the variances of the averages.

        Bins within one kernel are not independent: of T bins about T / (2 sqrt(pi) sd) are.
        """
        independent = max(1.0, self._shape[1] / max(1.0, 2 * np.sqrt(np.pi) * self.sd_ms / self.bin_ms))
        return float(np.sum(2 * variance**2 / independent * (1 + 1 / (n - 1))[:, None]))

    def _smooth(self, values: Floats) -> Floats:
        result: Floats = smooth_spikes(values, bin_ms=self.bin_ms, sd_ms=self.sd_ms) * (self.bin_ms / 1000.0)
        return result


def _variance_of_means(spread: Floats, trials: Floats) -> Floats:
    """Return the variances of means, summed over conditions, from squares about them (condition, neuron).

    One variance for all conditions: many have but one scored trial. Where all have, it is not known, and 0.
    """
    freedom = float(np.maximum(trials - 1, 0).sum())
    variance = spread.sum(axis=0) / freedom if freedom else np.zeros(spread.shape[1])
    result: Floats = variance * float((1 / trials).sum())
    return result


def condition_index(
    *conditions: npt.ArrayLike | None,
) -> tuple[list[str], list[npt.NDArray[np.int64]]]:
    """Return the names of all conditions, sorted, and their numbers in each list of trials; -1: none.

    No condition is None, "" and nan.

    Examples
    --------
    >>> names, (first,) = condition_index(["b", "", "a"])
    >>> names, first.tolist()
    (['a', 'b'], [1, -1, 0])
    """
    texts = [_texts(one) for one in conditions]
    names = sorted({str(name) for one in texts for name in one} - {""})
    place = {name: number for number, name in enumerate(names)}
    return names, [np.array([place.get(str(name), -1) for name in one], dtype=np.int64) for one in texts]


def psth_r2(
    rates: npt.ArrayLike,
    condition: npt.ArrayLike,
    *,
    train_counts: npt.ArrayLike,
    train_condition: npt.ArrayLike,
    bin_ms: float,
    sd_ms: float = PSTH_SD_MS,
    noise: bool = True,
    average: Literal["pooled", "uniform"] = "pooled",
) -> float:
    """Return R2 of the condition averages of rates against those of the training trials.

    Pei et al. 2021 (Neural Latents Benchmark) do not take the noise off and average over neurons:
    `noise=False, average="uniform"`.

    Parameters
    ----------
    rates : array_like, shape (trial, time, neuron)
        Spikes/s, in the trials to score.
    condition : array_like, shape (trial,)
        Their conditions; "" is none. A condition counts if it has a scored and two training trials.
    train_counts : array_like, shape (training trial, time, neuron)
        Spikes per bin.
    train_condition : array_like, shape (training trial,)
    bin_ms : float
    sd_ms : float
        Of the Gaussian that smooths averages, ms.
    noise : bool
        Whether to take the noise of the averages off; then a perfect model scores about 1, and may score a
        little more.
    average : {"pooled", "uniform"}
        Squares summed over neurons (near-silent neurons hardly count), or the mean of the neurons' R2.

    Raises
    ------
    DataError
        No condition has enough trials, or the averages do not differ by more than noise.
    UsageError
        Trials and conditions do not agree in number.
    """
    y, x = np.asarray(rates, dtype=np.float64), np.asarray(train_counts, dtype=np.float64)
    for trials, labels in ((y, condition), (x, train_condition)):
        if len(trials) != np.size(np.asarray(labels)):
            raise UsageError(
                f"{np.size(np.asarray(labels))} conditions for {len(trials)} trials",
                hint="give one condition a trial",
            )
    names, (scored, trained) = condition_index(condition, train_condition)
    sums = ConditionSums(len(names), *x.shape[1:], bin_ms=bin_ms, sd_ms=sd_ms)
    sums.add_data(x * (1000.0 / bin_ms), trained)
    sums.add_rates("scored", y, scored)
    explained = sums.explained("scored", noise=noise)
    if explained is None:
        raise DataError(
            "no condition has two training trials and one to score", hint="condition averages need conditions"
        )
    if not explained.is_sure:
        raise DataError(
            TOO_NOISY,
            hint="more trials a condition, or fewer and larger conditions, make averages less noisy",
        )
    if average == "pooled":
        return explained.r2
    return float(np.mean(1 - explained.error / explained.signal))


TOO_NOISY = "the condition averages of the training trials do not differ by more than noise"


def _with_condition(
    values: npt.ArrayLike, condition: npt.NDArray[Any]
) -> tuple[Floats, npt.NDArray[np.int64]]:
    has = condition >= 0
    return np.asarray(values, dtype=np.float64)[has], condition[has]


def _texts(condition: npt.ArrayLike | None) -> list[str]:
    if condition is None:
        return []
    return [_text(value) for value in np.asarray(condition).tolist()]


def _text(value: object) -> str:
    """Return a condition as text: 2 and 2.0, which whole numbers become beside NaN, are the same."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
