"""How good rates are: likelihoods, bits per spike, R2; and Gaussian smoothing.

Rates are in spikes/s and counts in spikes per bin everywhere; functions that need both take `bin_ms`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, UsageError

Floats = npt.NDArray[np.float64]

# Neural Latents Benchmark replaces a rate of zero by this many spikes per bin; so do we, for any below it.
_FLOOR = 1e-9


def poisson_nll(rates: npt.ArrayLike, counts: npt.ArrayLike, *, bin_ms: float) -> float:
    """Return the negative log-likelihood of counts under Poisson rates, summed, in nats.

    Parameters
    ----------
    rates : array_like
        Spikes/s; broadcast against `counts`.
    counts : array_like
        Spikes per bin.
    bin_ms : float
        Width of a bin in ms.

    Raises
    ------
    DataError
        Rates are negative or not finite, or counts are not counts.

    Examples
    --------
    >>> round(poisson_nll([100.0], [2], bin_ms=10.0), 4)  # 1 - 2 log 1 + log 2!
    1.6931
    """
    from scipy.special import gammaln

    x = _counts(counts)
    return float(nll_terms(rates, x, bin_ms).sum() + gammaln(x + 1).sum())


def mean_rates(counts: npt.ArrayLike, *, bin_ms: float) -> Floats:
    """Return each neuron's mean rate in spikes/s, as the null model of `bits_per_spike`.

    A neuron without any spike gets the rate of half a spike in all the data, so that a later spike of it
    does not cost infinitely much.

    Parameters
    ----------
    counts : array_like, shape (trial, time, neuron)
        Spikes per bin of the *training* trials.
    bin_ms : float
        Width of a bin in ms.

    Returns
    -------
    ndarray, shape (neuron,)
    """
    x = _counts(counts)
    bins = _positive(x[..., 0].size if x.ndim else 0, "number of bins")
    spikes = x.reshape(-1, x.shape[-1]).sum(axis=0)
    result: Floats = np.maximum(spikes, 0.5) / bins * (1000.0 / _positive(bin_ms, "bin_ms"))
    return result


def bits_per_spike(
    rates: npt.ArrayLike, counts: npt.ArrayLike, null_rates: npt.ArrayLike, *, bin_ms: float
) -> float:
    """Return how many bits per spike the rates tell more than each neuron's mean rate.

    ``(nll(null) - nll(rates)) / (number of spikes * log 2)``, pooled over trials, bins and neurons: Pei
    et al. 2021 (Neural Latents Benchmark, arXiv 2109.04463). There the null model is the mean over the scored
    trials; here it is given, and should come from the training trials (`mean_rates`), so that no model sees
    the scored ones.

    Parameters
    ----------
    rates : array_like, shape (trial, time, neuron)
        Spikes/s.
    counts : array_like, shape (trial, time, neuron)
        Spikes per bin.
    null_rates : array_like, shape (neuron,)
        Spikes/s.
    bin_ms : float
        Width of a bin in ms.

    Raises
    ------
    DataError
        There is no spike to score, or values are not rates or counts.
    """
    x = _counts(counts)
    spikes = x.sum()
    if spikes == 0:
        raise DataError("there is no spike to score", hint="choose neurons and trials that hold spikes")
    if np.shape(rates) != x.shape:
        raise UsageError(
            f"rates have the shape {np.shape(rates)}, counts {x.shape}",
            hint="both need the same trials, bins and neurons",
        )
    gain = nll_terms(null_rates, x, bin_ms).sum() - nll_terms(rates, x, bin_ms).sum()
    return float(gain / (spikes * np.log(2)))


def co_smoothing_bits_per_spike(
    rates: npt.ArrayLike,
    counts: npt.ArrayLike,
    *,
    train_counts: npt.ArrayLike,
    held_out: npt.ArrayLike,
    bin_ms: float,
) -> float:
    """Return bits per spike on the neurons that the encoders did not see.

    Parameters
    ----------
    rates : array_like, shape (trial, time, neuron)
        Spikes/s of all neurons, or of the held-out ones alone.
    counts : array_like, shape (trial, time, neuron)
        Spikes per bin of all neurons, in the trials to score.
    train_counts : array_like, shape (training trial, time, neuron)
        For the null model.
    held_out : array_like of bool, shape (neuron,)
    bin_ms : float

    Raises
    ------
    UsageError
        No neuron is held out, or shapes do not agree.
    """
    mask = check_mask(held_out, np.shape(counts)[-1])
    given = np.asarray(rates, dtype=np.float64)
    if given.shape[-1] == mask.size:
        given = given[..., mask]
    null = mean_rates(np.asarray(train_counts)[..., mask], bin_ms=bin_ms)
    return bits_per_spike(given, np.asarray(counts)[..., mask], null, bin_ms=bin_ms)


def forward_prediction_bits_per_spike(
    rates: npt.ArrayLike,
    counts: npt.ArrayLike,
    *,
    train_counts: npt.ArrayLike,
    bins: int,
    bin_ms: float,
) -> float:
    """Return bits per spike in the last bins of each trial, which the encoders did not see.

    The null model is each neuron's mean rate in the same bins of the training trials, so that a rate which
    drifts within the trial is no merit of the model.

    Parameters
    ----------
    rates : array_like, shape (trial, time, neuron)
        Spikes/s in all bins.
    counts : array_like, shape (trial, time, neuron)
        Spikes per bin in the trials to score.
    train_counts : array_like, shape (training trial, time, neuron)
        For the null model.
    bins : int
        How many (`forward_prediction_bins` of the run).
    bin_ms : float

    Raises
    ------
    UsageError
        `bins` is not between 1 and the length of a trial.
    """
    x = np.asarray(counts)
    if not 1 <= bins <= x.shape[1]:
        raise UsageError(
            f"of {x.shape[1]} bins, {bins} cannot be the ones that are predicted",
            hint="give from 1 to all but one of the bins",
        )
    null = mean_rates(np.asarray(train_counts)[:, -bins:], bin_ms=bin_ms)
    return bits_per_spike(np.asarray(rates)[:, -bins:], x[:, -bins:], null, bin_ms=bin_ms)


def pooled_r2(
    estimate: npt.ArrayLike, truth: npt.ArrayLike, *, about: Literal["neuron", "all"] = "neuron"
) -> float:
    """Return 1 - (squared error) / (variance of the truth), sums pooled over trials, bins and neurons.

    Parameters
    ----------
    estimate, truth : array_like, shape (trial, time, neuron)
        In the same unit.
    about : {"neuron", "all"}
        Variance about each neuron's own mean (default: differences between neurons' mean rates, which any
        estimate gets right, then earn nothing), or about one mean for all.

    Raises
    ------
    UsageError
        Shapes differ.
    DataError
        Values are not finite, or the truth does not vary.

    Examples
    --------
    >>> truth = [[[1.0], [2.0], [3.0]]]
    >>> pooled_r2([[[1.0], [2.0], [2.0]]], truth)
    0.5
    """
    y, t = np.asarray(estimate, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if y.shape != t.shape:
        raise UsageError(
            f"the estimate has the shape {y.shape}, the truth {t.shape}",
            hint="both need the same trials, bins and neurons",
        )
    if not (np.isfinite(y).all() and np.isfinite(t).all()):
        raise DataError("an R2 needs finite values", hint="are the rates those of a model that diverged?")
    mean = t.mean() if about == "all" else t.reshape(-1, t.shape[-1]).mean(axis=0)
    total = np.sum((t - mean) ** 2)
    if total == 0:
        raise DataError(
            "the true rates do not vary: R2 is not defined",
            hint="leave out silent neurons, or score against spikes: bits_per_spike",
        )
    return float(1 - np.sum((t - y) ** 2) / total)


def smooth_spikes(counts: npt.ArrayLike, *, bin_ms: float, sd_ms: float) -> Floats:
    """Smooth counts over time with a Gaussian, into spikes/s.

    At the ends of a trial the kernel is cut and its rest normalised, so that rates do not sag there.

    Parameters
    ----------
    counts : array_like, shape (trial, time, neuron)
        Spikes per bin. Any number of leading dimensions.
    bin_ms : float
        Width of a bin in ms.
    sd_ms : float
        Standard deviation of the kernel in ms; cut at 4 of them.

    Returns
    -------
    ndarray, shape (trial, time, neuron)
        Spikes/s.

    Examples
    --------
    >>> smooth_spikes([[[1], [1], [1]]], bin_ms=10.0, sd_ms=20.0).round(6).ravel().tolist()
    [100.0, 100.0, 100.0]
    """
    from scipy.ndimage import gaussian_filter1d

    x = np.asarray(counts, dtype=np.float64)
    if x.ndim < 2:
        raise UsageError("counts need the dimensions (..., time, neuron)", hint="give (trial, time, neuron)")
    sd = _positive(sd_ms, "sd_ms") / _positive(bin_ms, "bin_ms")
    # no kernel reaches further than the trial is long
    radius = max(1, min(int(4 * sd + 0.5), x.shape[-2]))
    smoothed = gaussian_filter1d(x, sd, axis=-2, mode="constant", radius=radius)
    mass = gaussian_filter1d(np.ones(x.shape[-2]), sd, mode="constant", radius=radius)
    result: Floats = smoothed / mass[:, None] * (1000.0 / bin_ms)
    return result


def check_mask(held_out: npt.ArrayLike, neurons: int) -> npt.NDArray[np.bool_]:
    """Return the mask of held-out neurons, or raise `UsageError` if it is none."""
    mask = np.asarray(held_out)
    if mask.dtype != bool or mask.shape != (neurons,):
        raise UsageError(
            f"`held_out` must be {neurons} truth values, one a neuron",
            hint="give True for each held-out neuron, False for the others",
        )
    if not mask.any():
        raise UsageError(
            "no neuron is held out, so there is nothing to score", hint="mark at least one in `held_out`"
        )
    return mask


def nll_terms(rates: npt.ArrayLike, counts: Floats, bin_ms: float) -> Floats:
    """Return the Poisson negative log-likelihood in nats, without the term that counts alone decide."""
    expected = np.asarray(rates, dtype=np.float64) * (_positive(bin_ms, "bin_ms") / 1000.0)
    if not np.isfinite(expected).all() or (expected < 0).any():
        raise DataError("rates must be finite and not negative", hint="in spikes/s, not log-rates")
    expected = np.maximum(expected, _FLOOR)
    result: Floats = expected - counts * np.log(expected)
    return result


def log_expected(rates: Floats, bin_ms: float) -> Floats:
    """Return the logarithms of expected spikes per bin, with the floor of the likelihoods."""
    result: Floats = np.log(np.maximum(rates * (bin_ms / 1000.0), _FLOOR))
    return result


def _counts(counts: npt.ArrayLike) -> Floats:
    x = np.asarray(counts, dtype=np.float64)
    if not np.isfinite(x).all() or (x < 0).any():
        raise DataError(
            "counts must be finite and not negative",
            hint="are these counts, and not rates or a continuous signal?",
        )
    return x


def _positive(value: float, name: str) -> float:
    if not value > 0:
        raise UsageError(f"`{name}` must be positive, not {value}", hint="give a number above 0")
    return float(value)
