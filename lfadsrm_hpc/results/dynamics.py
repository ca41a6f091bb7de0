"""The generator of a trained model as a dynamical system: its step, fixed points, and linearisation.

The generator is a GRU (Sussillo et al., arXiv 1608.06315; row vectors, x the inputs of a bin):

    [r, u] = s(x W_x,ru + h W_h,ru + b_ru + [0, 1])
    c      = tanh(x W_x,c + (r*h) W_h,c + b_c)
    h'     = F(h) = clip(u*h + (1-u)*c, -cell_clip_value, +cell_clip_value)

Its derivative, by the chain rule (row i: what a change of unit i before the step does to all units after it):

    dh' / dh = diag(u) + W_h,u diag(u (1-u) (h - c))
             + [diag(r) + W_h,r diag(r (1-r) h)] W_h,c diag((1-u) (1 - c^2))

with columns of units that are clipped at zero. Points where F(h) = h, or nearly, are found by minimising
|F(h) - h|^2 from states that the model was in (Sussillo and Barak, Neural Computation 2013, doi
10.1162/NECO_a_00409). Near such a point, deviations evolve as d' = d J, so that an eigenvalue of J says how a
mode decays and turns in one bin.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, UsageError

if TYPE_CHECKING:
    import xarray as xr

Floats = npt.NDArray[np.float64]

SLOW = 1e-6  # a point that moves no more than this, per unit and bin, is called fixed
_SAME = 1e-2  # points as near as this, per unit, are one
_ITERATIONS = 200
_CLIP = 5.0  # cell_clip_value, where the file does not tell it


class Step(NamedTuple):
    """One bin of the generator: state after, gates and candidate, before the clipping too."""

    after: Floats
    unclipped: Floats
    r: Floats
    u: Floats
    c: Floats


@dataclass(frozen=True)
class Generator:
    """The weights of a generator of H units.

    Attributes
    ----------
    w_h : (3, H, H)
        Recurrent weights of r, u and c; [before, after].
    bias : (3, H)
        With the input term of a constant input, and the 1 that is added to u.
    clip : float
        Bound on states.
    """

    w_h: Floats
    bias: Floats
    clip: float = _CLIP

    @classmethod
    def of(cls, params: xr.Dataset, inputs: npt.ArrayLike | None = None) -> Generator:
        """Return the generator of a trained model.

        Parameters
        ----------
        params : xr.Dataset
            What `run.load_model_params()` gives.
        inputs : array_like, shape (generator_input,), optional
            Inputs that stay as they are: first the inferred ones, then external ones. Zero unless given,
            the mean of the prior of inferred inputs.
        """
        gates = ["r", "u", "c"]
        w_h = params["gen_W_h"].sel(gate=gates).transpose("gate", ...).to_numpy().astype(np.float64)
        bias = params["gen_b"].sel(gate=gates).to_numpy().astype(np.float64).copy()
        bias[1] += 1.0
        if inputs is not None:
            x = np.asarray(inputs, np.float64).ravel()
            width = params.sizes.get("generator_input", 0)
            if x.size != width:
                raise UsageError(
                    f"the generator has {width} inputs, and {x.size} are given",
                    hint="give one value an input, in the order of its inputs",
                )
            if width:
                w_x = params["gen_W_x"].sel(gate=gates).transpose("gate", "generator_input", ...).to_numpy()
                bias += np.einsum("i,gih->gh", x, w_x.astype(np.float64))
        hyperparameters = json.loads(params.attrs.get("hyperparameters", "{}"))
        return cls(w_h, bias, float(hyperparameters.get("cell_clip_value") or _CLIP))

    @property
    def units(self) -> int:
        """How many units the generator has."""
        return int(self.w_h.shape[1])

    def step(self, h: npt.ArrayLike) -> Step:
        """Take one bin from states (..., H).

        Parameters
        ----------
        h : array_like, shape (..., H)
        """
        before = np.asarray(h, np.float64)
        r, u = (_sigmoid(before @ self.w_h[gate] + self.bias[gate]) for gate in (0, 1))
        c = np.tanh((r * before) @ self.w_h[2] + self.bias[2])
        unclipped = u * before + (1 - u) * c
        return Step(np.clip(unclipped, -self.clip, self.clip), unclipped, r, u, c)

    def jacobian(self, h: npt.ArrayLike) -> Floats:
        """Return dF/dh at one state (H,): element [i, j] is d(unit j after) / d(unit i before).

        Parameters
        ----------
        h : array_like, shape (H,)
        """
        before = np.asarray(h, np.float64)
        _, unclipped, r, u, c = self.step(before)
        reset = np.diag(r) + self.w_h[0] * (r * (1 - r) * before)
        result = np.diag(u) + self.w_h[1] * (u * (1 - u) * (before - c))
        result += reset @ self.w_h[2] * ((1 - u) * (1 - c**2))
        return np.asarray(np.where(np.abs(unclipped) < self.clip, result, 0.0))

    def speed(self, h: npt.ArrayLike) -> float:
        """Return how far a state moves in a bin: the root mean square over units of F(h) - h.

        Parameters
        ----------
        h : array_like, shape (H,)
        """
        before = np.asarray(h, np.float64)
        return float(np.sqrt(np.mean((self.step(before).after - before) ** 2)))


@dataclass(frozen=True)
class FixedPoint:
    """A state that stays where it is, or nearly.

    Attributes
    ----------
    state : (H,)
    speed : float
        Root mean square over units of its change in one bin.
    found : int
        How many starts led to it.
    """

    state: Floats
    speed: float
    found: int

    @property
    def is_fixed(self) -> bool:
        return self.speed <= SLOW


def fixed_points(generator: Generator, starts: npt.ArrayLike) -> list[FixedPoint]:
    """Search for fixed points from each of some states.

    Parameters
    ----------
    generator : Generator
    starts : array_like, shape (start, H)
        States to begin at, such as posterior means of generator states.

    Returns
    -------
    list of FixedPoint
        Fixed ones first, by how many starts led there; then points where the search came to rest without
        having found one ("slow points"), slowest first.

    Raises
    ------
    DataError
        There is no finite state to start from.
    """
    begin = np.asarray(starts, np.float64).reshape(-1, generator.units)
    begin = begin[np.isfinite(begin).all(axis=1)]
    if not len(begin):
        raise DataError(
            "there is no finite state of the generator to start from",
            hint="did the model diverge? or give other states: starts=...",
        )
    ends = [_descend(generator, state) for state in begin]
    points: list[tuple[Floats, float, int]] = []
    for state, speed in sorted(ends, key=lambda end: end[1]):
        for k, (other, other_speed, count) in enumerate(points):
            if np.sqrt(np.mean((state - other) ** 2)) < _SAME:
                points[k] = (other, other_speed, count + 1)
                break
        else:
            points.append((state, speed, 1))
    made = [FixedPoint(*point) for point in points]
    return sorted(made, key=lambda p: (not p.is_fixed, -p.found if p.is_fixed else p.speed))


def _descend(generator: Generator, start: Floats) -> tuple[Floats, float]:
    """Minimise |F(h) - h|^2 from one state, by Levenberg and Marquardt's damped steps."""
    h, damping = start, 1e-2
    error = generator.step(h).after - h
    cost = float(error @ error)
    eye = np.eye(generator.units)
    for _ in range(_ITERATIONS):
        if cost <= generator.units * (SLOW / 100) ** 2:
            break
        slope = generator.jacobian(h) - eye
        square, gradient = slope @ slope.T, error @ slope.T
        while damping < 1e8:
            tried = h - np.linalg.solve(square + damping * eye, gradient)
            new_error = generator.step(tried).after - tried
            new_cost = float(new_error @ new_error)
            if new_cost < cost:
                break
            damping *= 4.0
        else:
            break
        small = cost - new_cost < 1e-10 * cost
        h, error, cost, damping = tried, new_error, new_cost, max(damping / 8.0, 1e-12)
        if small:
            break
    return h, float(np.sqrt(cost / generator.units))


@dataclass(frozen=True)
class Modes:
    """What the eigenvalues of one bin's linear map mean in time.

    Attributes
    ----------
    eigenvalue : (H,) complex
        Slowest decay first.
    time_constant_ms : (H,)
        After this time a mode is at 1/e of what it was; negative where it grows, infinite where it stays.
    frequency_hz : (H,)
        How fast it turns; 0 for a real positive eigenvalue.
    """

    eigenvalue: npt.NDArray[np.complex128]
    time_constant_ms: Floats
    frequency_hz: Floats


def modes(jacobian: npt.ArrayLike, bin_ms: float) -> Modes:
    """Return eigenvalues, time constants and frequencies of a linear map of one bin.

    An eigenvalue L scales its mode by abs(L) and turns it by angle(L) in each bin, so that the time constant
    is ``-bin_ms / log(abs(L))`` and the frequency ``abs(angle(L)) / (2 pi bin)``.

    Parameters
    ----------
    jacobian : array_like, shape (H, H)
        Of one bin, as `Generator.jacobian` returns it.
    bin_ms : float
        Width of a bin in ms.

    Examples
    --------
    >>> found = modes([[np.exp(-0.1)]], bin_ms=10.0)
    >>> round(float(found.time_constant_ms[0]), 6), float(found.frequency_hz[0])
    (100.0, 0.0)
    """
    values = np.linalg.eigvals(np.asarray(jacobian, np.float64)).astype(np.complex128)
    # pairs side by side, that of positive frequency first
    order = np.lexsort((-values.imag, -np.abs(values.imag).round(9), -np.abs(values).round(9)))
    values = values[order]
    with np.errstate(divide="ignore"):
        decay = -np.log(np.abs(values))
        time_constant = np.where(decay == 0, np.inf, bin_ms / np.where(decay == 0, 1.0, decay))
    frequency = np.abs(np.angle(values)) / (2 * np.pi) * 1000.0 / bin_ms
    return Modes(values, time_constant, frequency)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))
