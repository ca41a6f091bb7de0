"""Figures of stitched runs: all sessions in one space, by the factors and by the read-ins."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, UsageError
from lfadsrm_hpc.results.averages import condition_averages
from lfadsrm_hpc.results.colors import colors, foreground
from lfadsrm_hpc.results.model_params import of_dataset
from lfadsrm_hpc.results.plots.groups import (
    ALL,
    find_conditions,
    known_conditions,
    name_colors,
    trial_conditions,
)
from lfadsrm_hpc.results.plots.parts import (
    bare,
    label_time,
    new_figure,
    output_of,
    principal_axes,
    short_label,
    short_labels,
    spread,
    take_axes,
    tidy_grid,
    title_figure,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SharedSpace:
    """Condition averages of several sessions, projected on their common principal axes.

    Attributes
    ----------
    sessions : list of str
    conditions : list
        Those that every session has.
    time : (T,)
        ms.
    paths : (session, condition, T, component)
    share : (component,)
        Of the variance over sessions, conditions and bins, what each component holds.
    alike : (session,)
        How well the mean of the other sessions predicts a session: 1 - |session - mean of others|^2 /
        |session - its mean|^2, over conditions, bins and all axes; 1 is perfect, and below 0 the session's
        own mean would be better. NaN with one session.
    """

    sessions: list[str]
    conditions: list[Any]
    time: Floats
    paths: Floats
    share: Floats
    alike: Floats


def shared_space(averages: Mapping[str, Mapping[Any, Floats]], time: npt.ArrayLike) -> SharedSpace:
    """Put condition averages of sessions into one space.

    Parameters
    ----------
    averages : mapping of session to mapping of condition to ndarray, shape (T, K)
        Averages in axes that all sessions have in common, such as factors.
    time : array_like, shape (T,)

    Returns
    -------
    SharedSpace
        Principal axes of all sessions together, each of the same weight, over the conditions that all have.

    Raises
    ------
    DataError
        No condition is shared by all, or trials are not equally long.
    """
    shared = [one for one in next(iter(averages.values())) if all(one in own for own in averages.values())]
    if not shared:
        raise DataError(
            "no condition is shared by all sessions, so they cannot be compared",
            hint="draw sessions that share conditions",
        )
    lengths = {len(own[shared[0]]) for own in averages.values()}
    if len(lengths) > 1:
        raise DataError(
            f"trials of the sessions are not equally long: {sorted(lengths)} bins",
            hint="draw sessions of one length",
        )
    stacked = np.stack([np.stack([own[one] for one in shared]) for own in averages.values()])
    centre, directions, share = principal_axes(stacked.reshape(-1, stacked.shape[-1]))
    return SharedSpace(
        list(averages),
        shared,
        np.asarray(time, np.float64),
        (stacked - centre) @ directions,
        share,
        _alike(stacked),
    )


def _alike(stacked: Floats) -> Floats:
    count = len(stacked)
    if count < 2:
        return np.full(count, np.nan)
    others = (stacked.sum(axis=0) - stacked) / (count - 1)
    error = ((stacked - others) ** 2).sum(axis=(1, 2, 3))
    total = ((stacked - stacked.mean(axis=(1, 2), keepdims=True)) ** 2).sum(axis=(1, 2, 3))
    return np.asarray(1 - error / np.where(total > 0, total, np.nan))


def session_components(
    means: Mapping[str, xr.Dataset],
    components: int = 3,
    *,
    conditions: Sequence[object] | None = None,
    axes: Any = None,
    legend: bool = True,
) -> Array:
    """Draw the factors of all sessions of a stitched run in one space: PCs of their condition averages.

    A panel for each principal component over time, and one of the first two against each other. A colour is a
    condition, a thin line a session, the thick one the mean over sessions: where a stitched model found
    dynamics that the sessions share, lines of one colour lie on each other. The title tells how well the
    others predict a session (see `SharedSpace.alike`), the median over sessions.

    Parameters
    ----------
    means : mapping of dataset to xr.Dataset
        Posterior means of the datasets of one run; one is enough.
    components : int, optional
        At most as many as there are factors.
    conditions : sequence, optional
        Which; at most eight of those that all sessions have, unless given.
    axes : array of matplotlib Axes, optional
        One more than components (as many as components, where there is one component only).
    legend : bool, optional
        Whether to name the conditions.

    Returns
    -------
    ndarray of Axes

    Raises
    ------
    DataError
        No condition is shared by all sessions.
    UsageError
        No session; another number of axes.
    """
    averages = {name: _averages(one, "factors") for name, one in _some(means)}
    space = shared_space(averages, next(iter(means.values()))["time"].values)
    chosen = _wanted(space.conditions, conditions, most=8)
    count = min(components, space.paths.shape[-1])
    panels = count + (count > 1)
    flat: Array = take_axes(axes, 1, panels, size=(2.9, 2.7))[0]
    palette = colors(len(chosen))
    for row, color in zip(chosen, palette, strict=True):
        paths = space.paths[:, row]
        for k in range(count):
            _lines(flat[k], space.time[None], paths[..., k], color)
        if count > 1:
            _lines(flat[-1], paths[..., 0], paths[..., 1], color)
            start = paths[:, 0].mean(axis=0)
            flat[-1].plot(start[:1], start[1:2], "o", color=color, ms=5)
    for k in range(count):
        label_time(flat[k], space.time)
        flat[k].set_ylabel(f"PC {k + 1} (a.u.)")
        flat[k].set_title(f"PC {k + 1}, {100 * space.share[k]:.0f} % of variance", fontsize="medium")
    if count > 1:
        flat[-1].set_xlabel("PC 1 (a.u.)")
        flat[-1].set_ylabel("PC 2 (a.u.)")
        flat[-1].set_title("dots: start of the trial", fontsize="medium")
    for ax in flat:
        bare(ax)
    if axes is None:
        title_figure(flat, f"factors of {_told(space)}")
    if legend and space.conditions != [ALL]:
        names = short_labels([space.conditions[row] for row in chosen])
        name_colors(flat[-1], names, palette, "condition", axes=flat)
    return flat


def session_alignment(
    params: xr.Dataset,
    means: Mapping[str, xr.Dataset],
    components: int = 3,
    *,
    conditions: Sequence[object] | None = None,
    variable: str | None = None,
    axes: Any = None,
) -> Array:
    """Draw how read-ins bring the sessions of a stitched run together.

    Condition averages of each session, in counts per bin, go through its trained read-in, x W_in + b_in, as
    the spikes of its trials do before the encoders see them; a read-in is linear, so averaging before it or
    after is the same. All sessions together are drawn on their common principal axes: a row of panels a
    component, a column a condition, a colour a session. Sessions that are well aligned lie on each other. The
    last column tells for each session how well the mean of the others predicts it, over all channels and
    shared conditions (see `SharedSpace.alike`).

    Parameters
    ----------
    params : xr.Dataset
        What `run.load_model_params()` gives.
    means : mapping of dataset to xr.Dataset
        Posterior means of datasets of the same run.
    components : int, optional
        Rows; at most as many as read-ins have channels.
    conditions : sequence, optional
        Columns; at most three of those that all sessions have, unless given.
    variable : str, optional
        What is averaged: by default the inferred ``rates`` (``output_mean`` for continuous data), whose
        averages are less noisy; "spikes" for what was measured, where `means` has it.
    axes : array of matplotlib Axes, optional
        Components x conditions, row by row, and one for the bars.

    Returns
    -------
    ndarray of Axes
        Components x conditions, row by row, and the one with the bars.

    Raises
    ------
    DataError
        The model has no read-in; no condition is shared by all sessions.
    UsageError
        No session; another number of axes.
    """
    averages = {name: _read_in(params, name, one, variable) for name, one in _some(means)}
    space = shared_space(averages, next(iter(means.values()))["time"].values)
    chosen = _wanted(space.conditions, conditions, most=3)
    rows = min(components, space.paths.shape[-1])
    grid, summary = _alignment_axes(axes, rows, len(chosen))
    palette = colors(len(space.sessions))
    for k in range(rows):
        for ax, row in zip(grid[k], chosen, strict=True):
            for path, color in zip(space.paths[:, row, :, k], palette, strict=True):
                ax.plot(space.time, path, color=color, lw=1.2, alpha=0.85)
            label_time(ax, space.time)
            ax.set_ylabel(f"PC {k + 1} (a.u.), {100 * space.share[k]:.0f} %")
            bare(ax)
            if k == 0:
                named = space.conditions[row]
                ax.set_title(named if named == ALL else f"condition {short_label(named)}", fontsize="medium")
    tidy_grid(grid)
    _draw_alike(summary, space, palette)
    if axes is None:
        title_figure(grid, f"read-ins of {_told(space)}")
    return np.array([*grid.ravel(), summary], dtype=object)


# ---------------------------------------------------------------- what there is to draw


def _some(means: Mapping[str, xr.Dataset]) -> list[tuple[str, xr.Dataset]]:
    if not means:
        raise UsageError("there is no session to draw", hint="name at least one session")
    return list(means.items())


def _averages(means: xr.Dataset, name: str) -> dict[Any, Floats]:
    """Return the mean over the trials of each condition, (T, K); over all trials where there are none."""
    if "condition" not in means.variables or not known_conditions(trial_conditions(means)):
        means = means.assign_coords(condition=("trial", np.full(means.sizes["trial"], ALL, dtype=object)))
    found = condition_averages(means, name)  # in blocks of trials: rates may be larger than memory
    return dict(zip(found["condition"].values.tolist(), found[name].to_numpy(), strict=True))


def _read_in(params: xr.Dataset, name: str, means: xr.Dataset, variable: str | None) -> dict[Any, Floats]:
    """Return the condition averages of a session behind its read-in, (T, channel) each."""
    own = of_dataset(params, name)
    if "readin_W" not in own:
        raise DataError(
            "the model has no read-in: its encoders see the neurons themselves",
            hint="stitched runs have read-ins, and runs with use_alignment_matrix for one dataset",
        )
    weights = np.asarray(own["readin_W"].transpose("neuron", ...), np.float64)
    source, _ = output_of(means, variable)
    per_bin = float(means.attrs["bin_ms"]) / 1000.0 if source in ("rates", "truth") else 1.0
    seen = np.full(means.sizes["neuron"], per_bin)
    seen[json.loads(str(means.attrs.get("held_out_neurons", "[]")))] = 0.0  # encoders never see them
    bias = np.asarray(own["readin_b"], np.float64) if "readin_b" in own else 0.0
    return {label: (mean * seen) @ weights + bias for label, mean in _averages(means, source).items()}


def _wanted(shared: Sequence[Any], wanted: Sequence[object] | None, *, most: int) -> list[int]:
    """Return the rows of the conditions to draw."""
    if wanted is None:
        return [int(row) for row in spread(len(shared), most)]
    return [shared.index(one) for one in find_conditions(wanted, shared, "not all sessions have")]


def _told(space: SharedSpace) -> str:
    """Return how many sessions there are, and how much they are alike, in words."""
    count = len(space.sessions)
    if count == 1:
        return f"session {short_label(space.sessions[0], 40)}"
    share = 100 * float(np.median(space.alike))
    return f"{count} sessions, {share:.0f} % of each explained by the others (median)"


# ---------------------------------------------------------------- drawing


def _lines(ax: Axes, x: Floats, y: Floats, color: Any) -> None:
    """Draw a thin line for each session, and a thick one for their mean; x and y are (session, T)."""
    if len(y) > 1:
        for one, other in zip(np.broadcast_to(x, y.shape), y, strict=True):
            ax.plot(one, other, color=color, lw=0.6, alpha=0.6)
    ax.plot(x.mean(axis=0), y.mean(axis=0), color=color, lw=2.0)


def _alignment_axes(axes: Any, rows: int, columns: int) -> tuple[Array, Axes]:
    """Return panels (rows, columns), and the axes beside them that spans all rows."""
    if axes is not None:
        flat = take_axes(axes, 1, rows * columns + 1)[0]
        return flat[:-1].reshape(rows, columns), flat[-1]
    figure = new_figure(2.3 * columns + 3.0, max(2.8, 1.75 * rows))
    places = figure.add_gridspec(rows, columns + 1)
    grid = np.empty((rows, columns), dtype=object)
    for row, column in np.ndindex(rows, columns):
        grid[row, column] = figure.add_subplot(
            places[row, column],
            sharex=grid[0, 0] if (row, column) != (0, 0) else None,
            sharey=grid[row, 0] if column else None,
        )
        grid[row, column].tick_params(labelbottom=row == rows - 1, labelleft=column == 0)
    return grid, figure.add_subplot(places[:, -1])


def _draw_alike(ax: Axes, space: SharedSpace, palette: Sequence[Any]) -> None:
    """Draw how well the others predict each session, as bars that also name the sessions."""
    count = len(space.sessions)
    worth = np.clip(np.nan_to_num(space.alike, nan=0.0), -0.05, 1.0)
    ax.barh(np.arange(count), worth, color=palette, height=0.7)
    shown, names = spread(count, 20), short_labels(space.sessions)
    ax.set_yticks(shown, [names[k] for k in shown], fontsize="small")
    ax.set_ylim(max(count, 6) - 0.5, -0.5)
    ax.set_xlim(min(0.0, float(worth.min())), 1.0)
    ax.axvline(0, color=foreground(), lw=0.8)
    ax.set_xlabel("R² by the other sessions" if count > 1 else "one session")
    bare(ax)
