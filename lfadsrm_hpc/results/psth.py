"""Condition averages (PSTHs): how well those of rates match those of the data, the data's noise taken off.

An average of a few trials is noisy: against it even the true rates score far below 1. With the mean ``a_c``
of the n training trials of condition c, smoothed, and the variance ``v_c`` of that mean (the spread of the
trials about it, over n), the expected square of ``z_c - a_c`` exceeds that of the error by ``v_c``, whatever
the ``z_c`` that do not know these trials. So, sums over conditions, bins and neurons,

    signal = sum (a_c - m)^2 - sum v_c
    error  = sum (z_c - a_c)^2 - sum v_c
    R2     = 1 - error / signal

are free of bias, where ``z_c`` is the mean of the rates over the scored trials, smoothed alike, and m the
mean of the training trials: signal power as in Sahani & Linden, NIPS 2002. Every condition counts the same.
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
    uncertainty : float
        Standard error of the summed signal where there is none.
    conditions : int
        How many had at least 2 training trials and 1 scored trial.
    """

    error: Floats
    signal: Floats
    uncertainty: float
    conditions: int

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
        self._data = np.zeros(self._shape)
        self._squares = np.zeros((conditions, neurons))
        self._trials = np.zeros(conditions)
        self._rates: dict[str, tuple[Floats, Floats]] = {}

    def add_data(self, values: npt.ArrayLike, condition: npt.NDArray[Any]) -> None:
        """Add training trials (trial, time, neuron) of the conditions (trial,); -1: none, left out."""
        values, condition = _with_condition(values, condition)
        if not len(values):
            return
        smoothed = self._smooth(values)
        np.add.at(self._data, condition, smoothed)
        np.add.at(self._squares, condition, np.square(smoothed).sum(axis=1))
        np.add.at(self._trials, condition, 1.0)

    def add_rates(self, split: str, rates: npt.ArrayLike, condition: npt.NDArray[Any]) -> None:
        """Add rates of trials to score; `split` names them."""
        rates, condition = _with_condition(rates, condition)
        if split not in self._rates:
            self._rates[split] = (np.zeros(self._shape), np.zeros(self._shape[0]))
        sums, trials = self._rates[split]
        np.add.at(sums, condition, rates)
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
        sums, scored = self._rates.get(split, (self._data, np.zeros_like(self._trials)))
        good = (self._trials >= 2) & (scored >= 1)
        count = int(good.sum())
        if count < (2 if about == "time_course" else 1):
            return None
        n = self._trials[good][:, None, None]
        data, total = self._data[good], float(self._trials[good].sum())
        averages, found = data / n, self._smooth(sums[good] / scored[good][:, None, None])
        variance = self._squares[good] - np.square(data).sum(axis=1) / n[:, 0]
        variance = np.maximum(variance, 0.0) / (n[:, 0] * (n[:, 0] - 1))
        part = 1.0
        if about == "time_course":
            averages, found = averages - averages.mean(axis=0), found - found.mean(axis=0)
            part = 1 - 1 / count  # of the noise, what is left after its mean over conditions is gone
        else:
            mean = data.sum(axis=(0, 1)) / (total * self._shape[1])
            averages, found = averages - mean, found - mean
        off = part * variance.sum(axis=0) * noise
        return Explained(
            error=np.square(found - averages).sum(axis=(0, 1)) - off,
            signal=np.square(averages).sum(axis=(0, 1)) - off,
            uncertainty=self._uncertainty(variance, n[:, 0]) if noise else 0.0,
            conditions=count,
        )

    def _uncertainty(self, variance: Floats, n: Floats) -> float:
        """Return the standard error of the signal where there is none, from the variance of the averages.

        Bins within one kernel are not independent: of T bins about T / (2 sqrt(pi) sd) are.
        """
        independent = max(1.0, self._shape[1] / max(1.0, 2 * np.sqrt(np.pi) * self.sd_ms / self.bin_ms))
        return float(np.sqrt(np.sum(2 * variance**2 / independent * (1 + 1 / (n - 1)))))

    def _smooth(self, values: Floats) -> Floats:
        result: Floats = smooth_spikes(values, bin_ms=self.bin_ms, sd_ms=self.sd_ms) * (self.bin_ms / 1000.0)
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
        Whether to take the noise of the training trials' averages off; then a perfect model scores about 1,
        and may score a little more.
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
            raise UsageError(f"{np.size(np.asarray(labels))} conditions for {len(trials)} trials")
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
        raise DataError(TOO_NOISY)
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
    return [
        "" if value is None or (isinstance(value, float) and np.isnan(value)) else str(value)
        for value in np.asarray(condition).tolist()
    ]
