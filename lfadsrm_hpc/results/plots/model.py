"""Figures of what was learned: weights of generator and read-outs, eigenvalues of the dynamics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, UsageError, suggest
from lfadsrm_hpc.results.colors import INFERRED, MUTED, VALID, foreground
from lfadsrm_hpc.results.dynamics import FixedPoint, Generator, Modes, fixed_points, modes
from lfadsrm_hpc.results.model_params import of_dataset
from lfadsrm_hpc.results.plots.parts import (
    bare,
    grid_axes,
    neuron_order,
    new_axes,
    number_axis,
    short_labels,
    take_axes,
    tidy_grid,
    title_figure,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

Array = npt.NDArray[Any]
Point = Literal["fixed", "origin"]

_GATES = {"r": "reset gate", "u": "update gate", "c": "candidate"}
_STARTS = 12
# time constants and frequencies that lines are drawn for, where they fall into the picture
_NICE_MS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_NICE_HZ = (0.5, 1, 2, 5, 10, 20, 50, 100)


def generator_weights(
    params: xr.Dataset, gates: Sequence[str] = ("r", "u", "c"), *, sort: bool = True, axes: Any = None
) -> Array:
    """Draw the recurrent weights of the generator, a heat map for each gate.

    Element (i, j) is the weight from unit i before the step to gate or candidate of unit j. One scale for
    all, symmetric about zero, with its ends at the 99.5 % quantile of absolute weights.

    Parameters
    ----------
    params : xr.Dataset
        What `run.load_model_params()` gives.
    gates : sequence of {"r", "u", "c"}, optional
        Reset gate, update gate, candidate.
    sort : bool, optional
        Put units side by side whose weights in the candidate are alike; the same order in all panels.
    axes : array of matplotlib Axes, optional
        One a gate.

    Returns
    -------
    ndarray of Axes, shape (gate,)

    Raises
    ------
    UsageError
        No such gate; another number of axes.
    """
    for gate in gates:
        if gate not in _GATES:
            raise UsageError(f"the generator has no gate {gate!r}", hint='they are "r", "u" and "c"')
    weights = params["gen_W_h"].transpose("gate", ...)
    candidate = np.asarray(weights.sel(gate="c"), np.float64)
    order = neuron_order(np.concatenate([candidate, candidate.T])) if sort else np.arange(len(candidate))
    flat: Array = take_axes(axes, 1, len(gates), size=(3.0, 3.0), sharey=True)[0]
    shown = [np.asarray(weights.sel(gate=gate), np.float64)[np.ix_(order, order)] for gate in gates]
    top = _top(shown)
    for ax, gate, values in zip(flat, gates, shown, strict=True):
        image = _heat_map(ax, values, top, square=True)
        ax.set_title(_GATES[gate], fontsize="medium")
        ax.set_xlabel("unit after" + (" (sorted)" if sort else ""))
    flat[0].set_ylabel("unit before" + (" (sorted)" if sort else ""))
    _color_bar(image, flat, "weight")
    if axes is None:
        title_figure(flat, f"recurrent weights of the generator, {len(candidate)} units")
    return flat


def readout_weights(
    params: xr.Dataset, datasets: Sequence[str] | None = None, *, sort: bool = True, axes: Any = None
) -> Array:
    """Draw the read-out of each dataset as a heat map: how neurons depend on factors.

    Element (k, d) is what one unit of factor k adds to the log rate of neuron d (to its mean, where
    continuous data were fitted).

    Parameters
    ----------
    params : xr.Dataset
        What `run.load_model_params()` gives.
    datasets : sequence of str, optional
        All of the model unless given.
    sort : bool, optional
        Put neurons of a dataset side by side that depend on factors alike.
    axes : array of matplotlib Axes, optional
        One a dataset.

    Returns
    -------
    ndarray of Axes, shape (dataset,)

    Raises
    ------
    NotFoundError
        The model has no such dataset.
    UsageError
        Another number of axes.
    """
    names = list(params.attrs["datasets"]) if datasets is None else list(datasets)
    weights = [
        np.asarray(of_dataset(params, name)["readout_W"].transpose("factor", ...), float) for name in names
    ]
    flat, grid = grid_axes(axes, len(names), size=(3.3, 2.5))
    top = _top(weights)
    for ax, label, values in zip(flat, short_labels(names, 30), weights, strict=True):
        image = _heat_map(ax, values[:, neuron_order(values)] if sort else values, top)
        ax.set_title(label, fontsize="medium")
        ax.set_xlabel("neuron" + (" (sorted)" if sort else ""))
        ax.set_ylabel("factor")
    tidy_grid(grid)
    counts = json.loads(params.attrs.get("hyperparameters", "{}")).get("output_dist", "poisson")
    is_rate = counts in ("poisson", "negative_binomial")
    _color_bar(image, grid, "log rate per unit of factor" if is_rate else "weight")
    if axes is None:
        title_figure(flat, "read-out weights")
    return flat


def generator_eigenvalues(
    params: xr.Dataset,
    means: xr.Dataset | None = None,
    *,
    at: Point | npt.ArrayLike = "fixed",
    inputs: npt.ArrayLike | None = None,
    bin_ms: float | None = None,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw the eigenvalues of the generator's linearised dynamics in the complex plane.

    What is shown: the eigenvalues of the Jacobian dF/dh of one bin of the whole generator, gates, candidate
    and clipping included (`lfadsrm_hpc.results.dynamics` has the equations and derives it), at a state h*,
    with inputs held constant. That is not the spectrum of a weight matrix: the gates decide as much as the
    candidate how long a GRU remembers. By default h* is a fixed point, F(h*) = h*, to which searches lead
    from states of the posterior means (the method of Sussillo and Barak 2013, doi 10.1162/NECO_a_00409); of
    several the one that most searches find. Where none is found, it is the slowest point that they come to,
    which the title says: there the picture holds only for as long as the state stays near.

    Inside the circle a mode decays, outside it grows. Circles are lines of one time constant
    ``-bin / log(abs(eigenvalue))``, rays of one frequency ``angle / (2 pi bin)``.

    Parameters
    ----------
    params : xr.Dataset
        What `run.load_model_params()` gives.
    means : xr.Dataset, optional
        Posterior means, whose ``generator_states`` are where the searches begin; without them they begin at
        the origin and near it.
    at : {"fixed", "origin"} or array_like, shape (generator_unit,)
        Where to linearise. "origin" is a state of zero.
    inputs : array_like, shape (generator_input,), optional
        Zero unless given: the mean of the prior of inferred inputs.
    bin_ms : float, optional
        Width of a bin; that of `means` unless given.
    seed : int, optional
        Of the choice of the states to begin at.
    ax : matplotlib Axes, optional

    Raises
    ------
    UsageError
        Neither `means` nor `bin_ms` is given; a state or inputs of another size.
    DataError
        No state to begin at is finite.
    """
    if bin_ms is None:
        if means is None:
            raise UsageError("how wide is a bin?", hint="give the posterior means, or bin_ms=")
        bin_ms = float(means.attrs["bin_ms"])
    generator = Generator.of(params, inputs)
    state, where = _linearised_at(generator, means, at, seed)
    found = modes(generator.jacobian(state), bin_ms)
    ax = new_axes(size=(5.6, 4.6)) if ax is None else ax
    _draw_plane(ax, found, bin_ms)
    ax.set_title(f"{_in_words(found)}\n{where}", fontsize="medium")
    return ax


def _linearised_at(
    generator: Generator, means: xr.Dataset | None, at: Point | npt.ArrayLike, seed: int
) -> tuple[Array, str]:
    """Return the state to linearise at, and what to call it."""
    if isinstance(at, str):
        if at == "origin":
            origin = np.zeros(generator.units)
            return origin, f"at the origin (speed {generator.speed(origin):.1g} a bin)"
        if at != "fixed":
            raise UsageError(f"at={at!r} is no state", hint=suggest(at, ("fixed", "origin")) or "an array")
        starts = _starts(generator, means, seed)
        point = fixed_points(generator, starts)[0]
        return point.state, _name_point(point, len(starts))
    state = np.asarray(at, np.float64).ravel()
    if state.size != generator.units or not np.isfinite(state).all():
        raise UsageError(
            f"a state has {generator.units} finite values, and {state.size} are given",
            hint="give one state of the generator",
        )
    return state, f"at a given state (speed {generator.speed(state):.1g} a bin)"


def _starts(generator: Generator, means: xr.Dataset | None, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    origin = np.zeros((1, generator.units))
    if means is None or "generator_states" not in means:
        return np.concatenate([origin, 0.1 * rng.standard_normal((_STARTS - 1, generator.units))])
    states = means["generator_states"]
    if states.sizes["generator_unit"] != generator.units:
        raise UsageError(
            f"the posterior means have {states.sizes['generator_unit']} generator units, the model "
            f"{generator.units}: they are of different runs",
            hint="load both from one run",
        )
    trials = rng.integers(0, states.sizes["trial"], _STARTS - 1)
    bins = rng.integers(0, states.sizes["time"], _STARTS - 1)
    picked = [np.asarray(states.isel(trial=t, time=b), float) for t, b in zip(trials, bins, strict=True)]
    return np.concatenate([origin, picked])


def _name_point(point: FixedPoint, starts: int) -> str:
    if point.is_fixed:
        return f"at the fixed point that {point.found} of {starts} searches find"
    return f"no fixed point found; at the slowest point (speed {point.speed:.1g} a bin)"


def _in_words(found: Modes) -> str:
    """Return which mode lasts longest, and which of those that turn, in words."""
    growing = int((np.abs(found.eigenvalue) > 1).sum())
    texts = []
    if growing:
        texts.append(f"{growing} growing mode{'' if growing == 1 else 's'}")
    decaying = np.flatnonzero(np.abs(found.eigenvalue) < 1)
    turning = decaying[found.eigenvalue[decaying].imag > 1e-9]
    if decaying.size:
        texts.append(f"slowest decay {_time(found.time_constant_ms[decaying[0]])}")
    if turning.size:
        k = turning[0]
        text = f"turning at {found.frequency_hz[k]:.2g} Hz"
        if k == decaying[0]:
            texts[-1] += f", {text}"
        else:
            texts.append(f"slowest {text}: {_time(found.time_constant_ms[k])}")
    return "; ".join(texts) or "no mode decays"


def _time(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.2g} s"


def _draw_plane(ax: Axes, found: Modes, bin_ms: float) -> None:
    values = found.eigenvalue
    grows = np.abs(values) > 1
    left, right, height = _limits(values)
    _lines_of_time(ax, bin_ms, height)
    _lines_of_frequency(ax, bin_ms, height)
    turn = np.linspace(0, 2 * np.pi, 721)
    ax.plot(np.cos(turn), np.sin(turn), color=foreground(), lw=1.0)
    dots: dict[str, Any] = {"s": 26, "linewidths": 0.5, "edgecolors": "white", "zorder": 3}
    ax.scatter(values[~grows].real, values[~grows].imag, color=INFERRED, **dots)
    ax.scatter(values[grows].real, values[grows].imag, color=VALID, marker="D", **dots)
    ax.axhline(0, color=MUTED, lw=0.6, zorder=0)
    ax.set_aspect("equal", adjustable="box")
    ax.set_xlim(left, right)
    ax.set_ylim(-height, height)
    ax.set_xlabel("real part of the eigenvalue (per bin)")
    ax.set_ylabel("imaginary part (per bin)")
    bare(ax)


def _limits(values: Array) -> tuple[float, float, float]:
    """Return left and right end, and half the height: all values, some of the circle, nearly square."""
    height = max(0.35, 1.15 * float(np.abs(values.imag).max()))
    right = max(1.12, 1.04 * float(values.real.max()))
    left = min(0.55, float(values.real.min()) - 0.05)
    missing = 2.2 * height - (right - left)
    return left - max(missing, 0.0), right, max(height, (right - left) / 2.2)


def _lines_of_time(ax: Axes, bin_ms: float, height: float) -> None:
    """Draw circles of one time constant, each named below the real axis, where it leaves the picture."""
    last = np.inf
    turn = np.linspace(0, 2 * np.pi, 361)
    for ms in reversed(_NICE_MS):
        radius = float(np.exp(-bin_ms / ms))
        if radius > 0.975 or radius < 0.15 or last - radius < 0.1:
            continue
        last = radius
        ax.plot(radius * np.cos(turn), radius * np.sin(turn), color=MUTED, lw=0.6, ls=":", zorder=0)
        angle = -min(0.9 * np.arcsin(min(1.0, 0.93 * height / radius)), 0.3 * np.pi)
        ax.text(
            radius * np.cos(angle), radius * np.sin(angle), _time(ms), color=MUTED, fontsize="x-small",
            ha="center", va="center", clip_on=True, zorder=1,
            bbox={"facecolor": ax.get_facecolor(), "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def _lines_of_frequency(ax: Axes, bin_ms: float, height: float) -> None:
    """Draw rays of one frequency, each named outside the circle."""
    last = 0.0
    for hertz in _NICE_HZ:
        angle = 2 * np.pi * hertz * bin_ms / 1000
        beyond = angle > 0.85 * np.pi or (angle < np.pi / 2 and 1.06 * np.sin(angle) > height)
        if beyond or angle - last < 0.12:
            continue
        last = angle
        for sign in (1, -1):
            ax.plot([0, np.cos(angle)], [0, sign * np.sin(angle)], color=MUTED, lw=0.6, ls=":", zorder=0)
        ax.text(
            1.02 * np.cos(angle), 1.02 * np.sin(angle), f"{hertz:g} Hz", color=MUTED, fontsize="x-small",
            ha="left" if angle < np.pi / 2 else "right", va="bottom", clip_on=True,
        )  # fmt: skip


def _top(arrays: Sequence[Array]) -> float:
    values = np.concatenate([np.abs(array[np.isfinite(array)]).ravel() for array in arrays])
    if not values.size:
        raise DataError(
            "no weight is finite: the model diverged", hint="`lfadsrm status` and the fit log say when"
        )
    return float(np.quantile(values, 0.995)) or 1.0


def _heat_map(ax: Axes, values: Array, top: float, *, square: bool = False) -> Any:
    image = ax.imshow(
        values, cmap="RdBu_r", vmin=-top, vmax=top, interpolation="nearest",
        aspect="equal" if square else "auto",
    )  # fmt: skip
    for axis, count in ((ax.xaxis, values.shape[1]), (ax.yaxis, values.shape[0])):
        number_axis(axis, count)
    return image


def _color_bar(image: Any, axes: Array, label: str) -> None:
    axes.ravel()[0].figure.colorbar(
        image, ax=axes.ravel().tolist(), label=label, fraction=0.04, pad=0.02, aspect=30
    )
