"""Read-outs of rates from smoothed spikes, for many penalties at once: linear, or Poisson by Newton steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lfadsrm_hpc.results.metrics import Floats


@dataclass(frozen=True)
class ReadOut:
    """Weights on standardised inputs, with what standardises them."""

    weights: Floats  # (input, neuron)
    offset: Floats  # (neuron,)
    centre: Floats  # (input,)
    scale: Floats  # (input,)
    mean: Floats  # (neuron,) counts per bin in the trials that were fitted
    link: Literal["linear", "poisson"]

    def __call__(self, inputs: Floats, floor: float) -> Floats:
        """Return expected counts per bin, at least `floor` times the neuron's mean."""
        drive = ((inputs - self.centre) / self.scale) @ self.weights + self.offset
        if self.link == "poisson":
            # no bin beyond a hundred times the mean: the exponential of an unseen input can be anything
            drive = np.exp(np.minimum(drive, np.log(100 * self.mean)))
        result: Floats = np.maximum(drive, floor * self.mean)
        return result


def _fit_linear(inputs: Floats, y: Floats, ridges: Sequence[float], sd_bins: float) -> list[ReadOut]:
    """Ridge regression with an intercept; `sd_bins` is not needed."""
    flat, target = inputs.reshape(-1, inputs.shape[-1]), y.reshape(-1, y.shape[-1])
    centre, scale, mean = flat.mean(axis=0), spread(flat), target.mean(axis=0)
    z = (flat - centre) / scale
    square, cross = z.T @ z / len(z), z.T @ target / len(z)
    eye = np.eye(len(square))
    least = 0.5 / len(target)
    return [
        ReadOut(
            np.linalg.solve(square + ridge * eye, cross),
            mean,
            centre,
            scale,
            np.maximum(mean, least),
            "linear",
        )
        for ridge in ridges
    ]


def _fit_poisson(inputs: Floats, y: Floats, ridges: Sequence[float], sd_bins: float) -> list[ReadOut]:
    """Poisson regression with a log link by Newton's method, the strongest ridge first, each from the last.

    Smoothed inputs hardly change within half a standard deviation, so counts are summed over that many bins.
    """
    stride = int(max(1, min(sd_bins / 2, y.shape[1])))
    flat, target = _coarse(inputs, stride, np.mean), _coarse(y, stride, np.sum)
    centre, scale = flat.mean(axis=0), spread(flat)
    z = np.column_stack([(flat - centre) / scale, np.ones(len(flat))])
    mean = np.maximum(target.mean(axis=0), 0.5 / len(target)) / stride
    weights = np.zeros((z.shape[1], target.shape[1]))
    weights[-1] = np.log(mean * stride)
    found = {}
    for ridge in sorted(ridges, reverse=True):
        # the penalty is relative to the information that a neuron's spikes give: its mean count
        weights = np.column_stack(
            [
                _newton(z, target[:, d], weights[:, d], ridge * mean[d] * stride)
                for d in range(target.shape[1])
            ]
        )
        offset = weights[-1] - np.log(stride)
        found[ridge] = ReadOut(weights[:-1], offset, centre, scale, mean, "poisson")
    return [found[ridge] for ridge in ridges]


def _newton(z: Floats, y: Floats, start: Floats, ridge: float) -> Floats:
    """Minimise ``mean(exp(z w) - y z w) + ridge/2 |w|^2``, the last weight (the intercept) free."""
    penalty = np.full(z.shape[1], ridge)
    penalty[-1] = 1e-9

    def cost(w: Floats) -> float:
        drive = np.minimum(z @ w, 50.0)
        return float(np.mean(np.exp(drive) - y * drive) + 0.5 * np.sum(penalty * w * w))

    w, now = start, cost(start)
    for _ in range(25):
        expected = np.exp(np.minimum(z @ w, 50.0))
        slope = z.T @ (expected - y) / len(y) + penalty * w
        curve = (z * expected[:, None]).T @ z / len(y) + np.diag(penalty)
        step = np.linalg.lstsq(curve, slope, rcond=None)[0]
        size = 1.0
        while (later := cost(w - size * step)) > now and size > 1e-4:
            size /= 2
        if not later < now:
            break
        w, gained, now = w - size * step, now - later, later
        if gained < 1e-7 * abs(now):
            break
    return w


_Fit = Callable[[Floats, Floats, Sequence[float], float], list[ReadOut]]
FITS: dict[str, _Fit] = {"linear": _fit_linear, "poisson": _fit_poisson}


def spread(flat: Floats) -> Floats:
    """Return standard deviations; 1 for an input that never changes."""
    sd = flat.std(axis=0)
    return np.where(sd > 1e-12, sd, 1.0)


def _coarse(x: Floats, stride: int, how: Callable[..., Any]) -> Floats:
    bins = x.shape[1] // stride * stride
    pieces = x[:, :bins].reshape(len(x), bins // stride, stride, x.shape[2])
    result: Floats = how(pieces, axis=2).reshape(-1, x.shape[2])
    return result
