"""What the verdict on a run rests on: numbers from its fit log, its posterior means and its scores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.results.metrics import Floats
from lfadsrm_hpc.results.posterior_means.format import STD
from lfadsrm_hpc.results.runs.fitlog import read_rows
from lfadsrm_hpc.results.scoring.scores import Scores
from lfadsrm_hpc.results.scoring.trial_blocks import TRAIN, VALID

if TYPE_CHECKING:
    import xarray as xr

SMOOTHED = 10  # epochs over which costs are averaged, as early stopping does
# A dimension of the initial condition with less divergence from the prior than this says nothing (nats).
ACTIVE_NATS = 0.01
_BLOCK = 2**21
_OF_RATES, _OF_GAUSSIAN = "their mean", "the standard deviation of the data"


@dataclass(frozen=True)
class FitEvidence:
    """How the training went.

    Attributes
    ----------
    epochs, step : int
        Done at its end.
    kl_weight, l2_weight : float
        Ramps at its end, 0 to 1.
    ramp_steps : int
        Steps that both ramps take, from the first step on.
    after_ramps : int
        Epochs with both ramps complete.
    not_finite : int
        Epochs whose costs were not finite.
    went_back : int
        How often the rate was halved because a cost was not finite, as far as the log shows it.
    lowest_epoch : int or None
        Of the lowest validation cost with both ramps complete.
    rise : float
        What the validation cost of reconstruction has risen from there to the end, both averaged over 10
        epochs, relative to what it had fallen since the first epoch; 0 for a run that started from another's
        model, whose first epoch tells nothing.
    """

    epochs: int
    step: int
    kl_weight: float
    l2_weight: float
    ramp_steps: int
    after_ramps: int
    not_finite: int
    went_back: int
    lowest_epoch: int | None
    rise: float


@dataclass(frozen=True)
class DatasetEvidence:
    """What the posterior means of one dataset are like; None: not known, or not there.

    Attributes
    ----------
    dataset : str
    bits, train_bits : float
        Bits per spike in validation and in training trials.
    ic_nats : float
        Divergence of the initial condition's posterior from its prior, summed over dimensions, mean over
        trials.
    ic_active, ic_dim : int
        Dimensions that say something, and all.
    inputs : tuple of float
        For each inferred input, the part of its variance that the data decide: 0 for a posterior that is the
        prior, 1 for one without doubt.
    modulation : float
        Standard deviation of rates over trials, relative to `modulation_of`.
    apart_r2 : float
        R2 of the differences between conditions, noise taken off, validation trials; None too where the data
        do not tell conditions apart.
    bits_error : float
        Standard error of `bits` that the number of spikes makes.
    modulation_of : str
        "their mean"; of Gaussian data the standard deviation of the data. In words.
    """

    dataset: str
    bits: float | None
    train_bits: float | None
    ic_nats: float | None
    ic_active: int
    ic_dim: int
    inputs: tuple[float, ...]
    modulation: float | None
    apart_r2: float | None
    bits_error: float | None = None
    modulation_of: str = _OF_RATES


def fit_evidence(fitlog: str | os.PathLike[str], params: Mapping[str, Any]) -> FitEvidence:
    """Read how a training went from its fit log.

    Parameters
    ----------
    fitlog : path
    params : mapping
        Hyperparameters that it trained with, ramps scaled.

    Raises
    ------
    ResultsError
        There is no fit log, or it is damaged.
    """
    names, rows = read_rows(fitlog)
    log = {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}
    finite = np.isfinite(log["valid_total"]) & np.isfinite(log["train_total"])
    settled = (log["kl_weight"] >= 1) & (log["l2_weight"] >= 1)
    good = settled & finite
    anew = params.get("start_from") is None
    lowest = None
    if good.any():
        lowest = int(np.argmin(np.where(good, log["valid_total"], np.inf)))
    ramps = [params[f"{name}_start_step"] + params[f"{name}_increase_steps"] for name in ("kl", "l2")]
    return FitEvidence(
        epochs=len(rows),
        step=int(log["step"][-1]) if rows else 0,
        kl_weight=float(log["kl_weight"][-1]) if rows else 0.0,
        l2_weight=float(log["l2_weight"][-1]) if rows else 0.0,
        ramp_steps=max(ramps),
        after_ramps=int(settled.sum()),
        not_finite=int((~finite).sum()),
        went_back=_went_back(log["learning_rate"], params, anew=anew),
        lowest_epoch=None if lowest is None else int(log["epoch"][lowest]),
        rise=_rise(log["valid_recon"], finite, settled, lowest) if anew and lowest is not None else 0.0,
    )


def _rise(recon: Floats, finite: npt.NDArray[np.bool_], settled: npt.NDArray[np.bool_], lowest: int) -> float:
    """Return how much of what the cost had fallen it has risen again, both ends averaged."""
    first = float(recon[finite][0])
    recon = recon[settled & finite]
    at = lowest - int(np.flatnonzero(settled)[0])
    window = min(SMOOTHED, len(recon))
    means = np.convolve(recon, np.full(window, 1 / window), mode="valid")
    low, last = float(means[: max(1, at + 1)].min()), float(means[-1])
    fallen = first - low
    return max(0.0, last - low) / fallen if fallen > 0 else 0.0


def _went_back(rate: Floats, params: Mapping[str, Any], *, anew: bool) -> int:
    """Return how often the learning rate was halved beyond what its rule does."""
    if anew:  # else it began where another training stood
        rate = np.concatenate([[float(params["learning_rate_init"])], rate])
    decay, count = float(params["learning_rate_decay_factor"]), 0
    for before, after in pairwise(rate.tolist()):
        if before > 0 and after > 0:
            halvings = [float(np.log2(usual * before / after)) for usual in (1.0, decay)]
            whole = [round(one) for one in halvings if abs(one - round(one)) < 1e-3]
            count += max(0, min(whole, default=0))  # a decay of a half is not taken for going back
    return count


def dataset_evidence(means: xr.Dataset, scores: Scores) -> DatasetEvidence:
    """Return what the posterior means of a dataset are like.

    Parameters
    ----------
    means : xr.Dataset
        Read in blocks of trials.
    scores : Scores
        Of these posterior means.
    """
    nats = ic_divergence(means)
    apart = scores.apart
    return DatasetEvidence(
        dataset=scores.dataset,
        bits=scores.values(VALID).get("bits_per_spike"),
        train_bits=scores.values(TRAIN).get("bits_per_spike"),
        ic_nats=None if nats is None else float(nats.sum()),
        ic_active=0 if nats is None else int((nats > ACTIVE_NATS).sum()),
        ic_dim=0 if nats is None else len(nats),
        inputs=tuple(float(one) for one in input_information(means)),
        modulation=scores.modulation,
        apart_r2=apart.r2 if apart is not None and apart.is_sure else None,
        bits_error=scores.bits_error,
        modulation_of=_OF_GAUSSIAN if means.attrs.get("output_dist") == "gaussian" else _OF_RATES,
    )


def ic_divergence(means: xr.Dataset) -> Floats | None:
    """Return how far the initial condition's posterior is from its prior, (ic,) nats, mean over trials.

    ``KL = (log v0 - log v + (v + (m - m0)^2) / v0 - 1) / 2`` of each dimension; None where there is none.
    """
    if "post_g0_mean" not in means:
        return None
    names = ("post_g0_mean", "post_g0_logvar", "prior_g0_mean", "prior_g0_logvar")
    m, lv, m0, lv0 = (means[name].to_numpy().astype(np.float64) for name in names)
    each = 0.5 * (lv0 - lv + np.exp(lv - lv0) + np.square(m - m0) * np.exp(-lv0) - 1)
    result: Floats = each.mean(axis=0)
    return result


def input_information(means: xr.Dataset) -> Floats:
    """Return for each inferred input the part of its variance that the data decide, (controller_output,).

    ``between / (between + within)``: the variance of posterior means over trials and bins, less what sampling
    adds to it, and the posterior variance. Push-mean and single samples tell no posterior variance: the
    variance is then compared with that of the prior that training started from.
    """
    name = "controller_outputs"
    if name not in means:
        return np.zeros(0)
    trials, bins, width = means[name].shape
    samples = max(1, int(np.asarray(means.attrs.get("num_samples", 1)).item()))
    total, square, within = np.zeros(width), np.zeros(width), np.zeros(width)
    step = max(1, _BLOCK // (bins * width))
    for start in range(0, trials, step):
        rows = slice(start, start + step)
        u = means[name].isel(trial=rows).to_numpy().astype(np.float64)
        total += u.sum(axis=(0, 1))
        square += np.square(u).sum(axis=(0, 1))
        if name + STD in means:
            std = means[name + STD].isel(trial=rows).to_numpy().astype(np.float64)
            within += np.square(std).sum(axis=(0, 1))
    count = trials * bins
    within /= count
    between = np.maximum(square / count - np.square(total / count) - within / samples, 0.0)
    if name + STD not in means:
        within = np.full(width, _prior_variance(means))
    result: Floats = between / np.maximum(between + within, np.finfo(float).tiny)
    return result


def _prior_variance(means: xr.Dataset) -> float:
    """Return the stationary variance of the AR(1) prior that training started from."""
    import json

    values = json.loads(str(means.attrs.get("params", "{}"))).get("values", {})
    phi = np.exp(-1 / float(values.get("prior_ar_atau", 10.0)))
    return float(values.get("prior_ar_nvar", 0.1)) / float(1 - phi**2)
