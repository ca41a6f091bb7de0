"""What inferred rates are to be compared with: condition averages, and read-outs of smoothed spikes.

Each baseline chooses its own settings by cross-validation within the training trials, so that it is as good
as it can be without having seen the trials that are scored. Rates are in spikes/s, counts in spikes per bin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.results.metrics import (
    Floats,
    bits_per_spike,
    check_mask,
    mean_rates,
    poisson_nll,
    smooth_spikes,
)
from lfadsrm_hpc.results.r2 import pooled_rate_r2
from lfadsrm_hpc.results.read_outs import FITS

if TYPE_CHECKING:
    from lfadsrm_hpc.data.inputs import SessionInputs

WIDTHS_MS = (10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
SHRINKAGES = (0.5, 2.0, 8.0, 32.0, np.inf)
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
FLOORS = (0.02, 0.1, 0.3)
# Neural Latents Benchmark adds this many spikes per bin before it takes the logarithm of smoothed spikes.
_LOG_OFFSET = 1e-4
_FINE_WIDTHS_MS = (10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0)


@dataclass(frozen=True)
class Baseline:
    """Rates of a baseline.

    Attributes
    ----------
    rates : ndarray, shape (trial, time, neuron)
        Spikes/s.
    settings : dict
        The settings that cross-validation chose.
    """

    rates: Floats
    settings: dict[str, float]


def condition_average(
    train_counts: npt.ArrayLike,
    train_condition: npt.ArrayLike,
    condition: npt.ArrayLike,
    *,
    bin_ms: float,
    sd_ms: float | Sequence[float] = (*WIDTHS_MS, np.inf),
    shrinkage: float | Sequence[float] = SHRINKAGES,
    folds: int = 5,
    seed: int = 0,
) -> Baseline:
    """Give each trial the smoothed mean rates of the training trials of its condition.

    The mean of n trials is drawn towards the mean of all training trials, as if `shrinkage` further trials
    had that mean: ``(n mean + shrinkage overall) / (n + shrinkage)``. Without it a condition of few trials
    has bins with a rate of zero, in which a spike is impossible. Where several widths or shrinkages are
    given, the pair with the best Poisson likelihood in cross-validation over the training trials is taken.

    Parameters
    ----------
    train_counts : array_like, shape (training trial, time, neuron)
    train_condition : array_like, shape (training trial,)
    condition : array_like, shape (trial,)
        Conditions of the trials to predict. What no training trial has, and "" (none), gets the mean of all.
    bin_ms : float
    sd_ms : float or sequence of float
        Standard deviation of the Gaussian in ms; infinite: constant over time.
    shrinkage : float or sequence of float
        In trials; infinite: the mean of all for every condition.
    folds, seed : int
        Of the cross-validation.

    Raises
    ------
    UsageError
        Conditions and trials do not agree in number.
    """
    x = np.asarray(train_counts, dtype=np.float64)
    known = np.asarray(train_condition).astype(str)
    if len(known) != len(x):
        raise UsageError(
            f"{len(known)} conditions for {len(x)} training trials", hint="give one condition a trial"
        )
    names, index = np.unique(known, return_inverse=True)
    grid = [(sd, k) for sd in _several(sd_ms) for k in _several(shrinkage)]
    scores = np.zeros(len(grid))
    for train, test in _folds(len(x), folds, seed) if len(grid) > 1 else ():
        sums, n = _sums(x[test], index[test], len(names))
        for i, tables in enumerate(_condition_tables(x[train], index[train], names, bin_ms, grid)):
            table = tables[:-1] * (bin_ms / 1000.0)
            scores[i] += np.sum(n[:, None, None] * table - sums * np.log(table))
    best = grid[int(np.argmin(scores))]
    (tables,) = _condition_tables(x, index, names, bin_ms, [best])
    place = {str(name): i for i, name in enumerate(names) if str(name)}
    rows = [place.get(str(name), len(names)) for name in np.asarray(condition)]
    return Baseline(tables[rows], {"sd_ms": best[0], "shrinkage": best[1]})


def smoothed_read_out(
    train_counts: npt.ArrayLike,
    counts: npt.ArrayLike,
    held_out: npt.ArrayLike,
    *,
    bin_ms: float,
    kind: Literal["linear", "poisson"] = "linear",
    sd_ms: float | Sequence[float] = WIDTHS_MS,
    ridge: float | Sequence[float] = RIDGES,
    folds: int = 5,
    seed: int = 0,
) -> Baseline:
    """Predict the held-out neurons' rates from the smoothed spikes of the others.

    Spikes of the held-in neurons are smoothed with a Gaussian and standardised; a read-out per held-out
    neuron is fitted on the training trials: ridge regression on the counts (`linear`, predictions floored at
    a fraction of the neuron's mean rate), or Poisson regression on the logarithm of the smoothed spikes
    (`poisson`, as in the smoothing baseline of Pei et al. 2021, arXiv 2109.04463). Width, ridge and floor are
    those of the best Poisson likelihood in cross-validation over the training trials.

    Parameters
    ----------
    train_counts : array_like, shape (training trial, time, neuron)
    counts : array_like, shape (trial, time, neuron)
        The trials to predict; held-out neurons are not looked at.
    held_out : array_like of bool, shape (neuron,)
    bin_ms : float
    kind : {"linear", "poisson"}
    sd_ms : float or sequence of float
        Standard deviation of the Gaussian in ms.
    ridge : float or sequence of float
        Penalty relative to the variance of one standardised input.
    folds, seed : int
        Of the cross-validation.

    Returns
    -------
    Baseline
        Rates of the held-out neurons alone, shape (trial, time, held-out neuron).

    Raises
    ------
    UsageError
        No neuron is held out, or none is left.
    """
    x = np.asarray(train_counts, dtype=np.float64)
    mask = check_mask(held_out, x.shape[-1])
    if mask.all():
        raise UsageError(
            "all neurons are held out, so there is nothing to predict from", hint="hold out some of them"
        )
    if kind not in FITS:
        raise UsageError(
            f"kind {kind!r} is neither 'linear' nor 'poisson'", hint='write kind="linear" or kind="poisson"'
        )
    y = x[..., mask]
    ridges = _several(ridge)
    parts = _folds(len(x), folds, seed)
    best: tuple[float, dict[str, float]] = (np.inf, {})
    for sd in _several(sd_ms):
        inputs = _inputs(x[..., ~mask], kind, bin_ms, sd)
        for settings, score in _scores(inputs, y, kind, sd / bin_ms, ridges, parts):
            if score < best[0]:
                best = (score, {"sd_ms": sd, **settings})
    if not best[1]:
        raise UsageError("no setting gives a finite likelihood", hint="are all held-out neurons silent?")
    sd, chosen = best[1]["sd_ms"], best[1]
    inputs = _inputs(x[..., ~mask], kind, bin_ms, sd)
    read_out = FITS[kind](inputs, y, [chosen["ridge"]], sd / bin_ms)[0]
    scored = _inputs(np.asarray(counts, dtype=np.float64)[..., ~mask], kind, bin_ms, sd)
    return Baseline(read_out(scored, chosen["floor"]) * (1000.0 / bin_ms), chosen)


def co_smoothing_baselines(
    train_counts: npt.ArrayLike,
    counts: npt.ArrayLike,
    held_out: npt.ArrayLike,
    *,
    bin_ms: float,
    train_condition: npt.ArrayLike | None = None,
    condition: npt.ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, tuple[float, dict[str, float]]]:
    """Score every baseline on the held-out neurons.

    Parameters
    ----------
    train_counts, counts : array_like, shape (trial, time, neuron)
        Spikes per bin of the training trials and of those that are scored.
    held_out : array_like of bool, shape (neuron,)
        Which neurons are to be predicted from the others.
    bin_ms : float
        Width of a bin in ms.
    train_condition, condition : array_like, shape (trial,), optional
        Of the same trials.
    seed : int
        Of the cross-validation by which settings are chosen.

    Returns
    -------
    dict
        ``condition_average`` (where conditions are given), ``smoothed_linear``, ``smoothed_poisson`` ->
        (bits per spike above each neuron's mean rate in the training trials, chosen settings).
    """
    x, test = np.asarray(train_counts), np.asarray(counts)
    mask = check_mask(held_out, x.shape[-1])
    found: dict[str, Baseline] = {}
    if train_condition is not None and condition is not None:
        found["condition_average"] = condition_average(
            x[..., mask], train_condition, condition, bin_ms=bin_ms, seed=seed
        )
    found["smoothed_linear"] = smoothed_read_out(x, test, mask, bin_ms=bin_ms, kind="linear", seed=seed)
    found["smoothed_poisson"] = smoothed_read_out(x, test, mask, bin_ms=bin_ms, kind="poisson", seed=seed)
    null = mean_rates(x[..., mask], bin_ms=bin_ms)
    return {
        name: (bits_per_spike(base.rates, test[..., mask], null, bin_ms=bin_ms), base.settings)
        for name, base in found.items()
    }


def best_smoothed(
    sessions: Sequence[SessionInputs], widths_ms: Sequence[float] = _FINE_WIDTHS_MS
) -> tuple[float, float]:
    """Return the best that Gaussian smoothing of the spikes can do, where the true rates are known.

    The width is chosen by those true rates, as no method that has only spikes could choose it.

    Parameters
    ----------
    sessions : sequence of SessionInputs
        Of counts; those whose true rates are not known are left out.
    widths_ms : sequence of float
        Standard deviations of the Gaussian to try.

    Returns
    -------
    width, r2 : float
        In ms; R2 of the rates of all sessions' validation trials (`pooled_rate_r2`).
    """
    scored = {}
    for width in widths_ms:
        scored[width] = pooled_rate_r2(
            (smooth_spikes(one.valid_data, bin_ms=one.bin_ms, sd_ms=width), one.valid_truth, one.train_truth)
            for one in sessions
            if one.valid_truth is not None
        )
    best = max(scored, key=scored.__getitem__)
    return best, scored[best]


def _sums(x: Floats, index: npt.NDArray[Any], conditions: int) -> tuple[Floats, Floats]:
    """Return summed counts (condition, time, neuron) and numbers of trials (condition,)."""
    sums = np.zeros((conditions, *x.shape[1:]))
    np.add.at(sums, index, x)
    return sums, np.bincount(index, minlength=conditions).astype(np.float64)


def _condition_tables(
    x: Floats,
    index: npt.NDArray[Any],
    names: npt.NDArray[np.str_],
    bin_ms: float,
    grid: Sequence[tuple[float, float]],
) -> Iterator[Floats]:
    """Yield rates (condition + 1, time, neuron) for each setting; the last row is the mean of all."""
    sums, n = _sums(x, index, len(names))
    n = np.where(names == "", 0, n)
    floor = mean_rates(x, bin_ms=bin_ms) * FLOORS[0]
    smooth_at: dict[float, Floats] = {}
    for sd, shrinkage in grid:
        if sd not in smooth_at:
            smooth_at[sd] = _smooth(sums, bin_ms, sd)
        totals = smooth_at[sd]
        overall = totals.sum(axis=0) / len(x)
        if np.isinf(shrinkage):
            means = np.broadcast_to(overall, totals.shape)
        else:
            weight = np.where(n > 0, n + shrinkage, 1.0)[:, None, None]
            means = np.where(n[:, None, None] > 0, (totals + shrinkage * overall) / weight, overall)
        yield np.maximum(np.concatenate([means, overall[None]]), floor)


def _smooth(x: Floats, bin_ms: float, sd_ms: float) -> Floats:
    if np.isinf(sd_ms):
        return np.broadcast_to(x.mean(axis=-2, keepdims=True) * (1000.0 / bin_ms), x.shape)
    return smooth_spikes(x, bin_ms=bin_ms, sd_ms=sd_ms)


def _inputs(x: Floats, kind: str, bin_ms: float, sd_ms: float) -> Floats:
    smoothed = smooth_spikes(x, bin_ms=bin_ms, sd_ms=sd_ms) * (bin_ms / 1000.0)
    return smoothed if kind == "linear" else np.log(smoothed + _LOG_OFFSET)


def _scores(
    inputs: Floats,
    y: Floats,
    kind: str,
    sd_bins: float,
    ridges: Sequence[float],
    parts: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]],
) -> list[tuple[dict[str, float], float]]:
    """Return each setting's negative log-likelihood over all folds."""
    floors = FLOORS if kind == "linear" else FLOORS[:1]
    scores = np.zeros((len(ridges), len(floors)))
    for train, test in parts:
        for i, read_out in enumerate(FITS[kind](inputs[train], y[train], ridges, sd_bins)):
            for j, floor in enumerate(floors):
                expected = read_out(inputs[test], floor)
                scores[i, j] += poisson_nll(expected * 1000.0, y[test], bin_ms=1.0)
    return [
        ({"ridge": ridge, "floor": floor}, float(scores[i, j]))
        for i, ridge in enumerate(ridges)
        for j, floor in enumerate(floors)
    ]


def _several(value: float | Sequence[float]) -> list[float]:
    return [float(v) for v in np.atleast_1d(np.asarray(value, dtype=np.float64))]


def _folds(trials: int, folds: int, seed: int) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Return (trials to fit, trials to score) for each fold, shuffled by the seed."""
    count = min(folds, trials)
    if count < 2:
        raise UsageError(
            f"cross-validation needs at least 2 training trials and folds, not {count}",
            hint="give more trials, or at least 2 folds",
        )
    parts = np.array_split(np.random.default_rng(seed).permutation(trials), count)
    everything = np.arange(trials)
    return [(np.setdiff1d(everything, part), np.sort(part)) for part in parts]
