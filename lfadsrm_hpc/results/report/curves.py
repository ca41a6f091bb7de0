"""Learning curves for the report page: few epochs of each fit log, and none that was not in it.

Of a stretch of epochs those with the lowest and the highest validation cost are kept, and of the whole log
the first, the last and the lowest that counts. Nothing is averaged, so a spike of one epoch stays visible.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.layout import fitlog
from lfadsrm_hpc.plain_files import read_bytes
from lfadsrm_hpc.results.colors import INFERRED, NAMED, VALID
from lfadsrm_hpc.results.report.figures import Axes, Figure, Floats, Line, axes_of
from lfadsrm_hpc.results.runs.fitlog import read_rows

TRAIN = INFERRED

MOST_RUNS = 2000
_MOST_EPOCHS = 400  # of one run
_BUDGET = 60_000  # epochs of all runs together: about 400 kB
_FEWEST_EPOCHS = 16
_FEW = 12  # runs that are all drawn in full
_TIMES = 3.0
_MOST_SINGLE = 12
_NEEDED = ("epoch", "train_total", "valid_total", "kl_weight", "l2_weight")


class Costs(NamedTuple):
    """The costs of a fit by epoch, in nats per trial.

    Attributes
    ----------
    settled : array of bool
        Both ramps were complete: the costs of such epochs can be compared.
    """

    epoch: Floats
    train: Floats
    valid: Floats
    settled: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Curves:
    """Learning curves as the page shows them.

    Attributes
    ----------
    together : Figure or None
        Validation costs of all runs; None: no run has finished an epoch.
    single : sequence of Figure
        Training and validation costs of chosen runs.
    count : int
        Curves in `together`.
    notes : list of str
        What is not drawn, and why.
    """

    together: Figure | None
    single: Sequence[Figure]
    count: int
    notes: list[str]


def curves_of(
    runs: Sequence[Run],
    names: Mapping[str, str],
    chosen: Sequence[str] = (),
    most: int = MOST_RUNS,
) -> Curves:
    """Read and thin out the fit logs of runs, and draw them.

    Parameters
    ----------
    runs : sequence of Run
        The rows of the table.
    names : dict of str to str
        By id, how runs are called.
    chosen : sequence of str
        Ids of runs that are drawn in colours, one by one too, and never left out.
    most : int
        So many runs.
    """
    rows = _spread([run.id for run in runs], set(chosen), most)
    epochs = int(np.clip(_BUDGET // max(1, len(rows)), _FEWEST_EPOCHS, _MOST_EPOCHS))
    found, notes = _read(runs, rows, epochs)
    if len(rows) < len(runs):
        notes.insert(
            0,
            f"{len(rows):,} of {len(runs):,} runs are drawn, evenly spread over the collection, the chosen "
            "runs among them; --match or --spec make a page of fewer runs.",
        )
    if not found:
        return Curves(None, (), 0, notes)
    place = {runs[row].id: row for row in rows}
    called = {row: names.get(runs[row].id) or runs[row].id for row in found}
    single = [place[run_id] for run_id in chosen if place.get(run_id) in found]
    together = _together(found, called, dict(zip(single, NAMED, strict=False)))
    figures = [_single(found[row], called[row]) for row in single[:_MOST_SINGLE]]
    return Curves(together, figures, len(found), notes)


def _read(runs: Sequence[Run], rows: Sequence[int], epochs: int) -> tuple[dict[int, Costs], list[str]]:
    """Return the costs that are drawn by row, and notes on those that are not."""
    found, damaged, without, thinned = {}, [], 0, False
    for row in rows:
        try:
            costs = read_costs(runs[row])
        except ResultsError as error:
            damaged.append(f"{runs[row].id}: {error.what}")
            continue
        if costs is None:
            without += 1
            continue
        kept = thin(costs, epochs)
        thinned = thinned or len(kept) < len(costs.epoch)
        found[row] = Costs(costs.epoch[kept], costs.train[kept], costs.valid[kept], costs.settled[kept])
    notes = []
    if without:
        notes.append(f"{without:,} run{' has' if without == 1 else 's have'} not finished an epoch yet.")
    if thinned:
        notes.append(
            f"At most {epochs} epochs of a run are drawn: of each stretch those of its lowest and highest "
            "validation cost, as they are in the log."
        )
    notes += [f"The fit log of {text}." for text in damaged[:5]]
    if len(damaged) > 5:
        notes.append(f"{len(damaged) - 5:,} more fit logs cannot be read.")
    return found, notes


# ---------------------------------------------------------------- drawing


def _together(found: Mapping[int, Costs], called: Mapping[int, str], colored: Mapping[int, str]) -> Figure:
    axes = _axes([(costs.epoch, costs.valid) for costs in found.values()])
    lines = []
    for row in sorted(found, key=lambda row: row in colored):  # what is drawn later is on top
        path = axes.path(found[row].epoch, found[row].valid)
        kind = "line" if row in colored else "thin"
        name = called[row] if row in colored else ""
        lines.append(Line(path, colored.get(row, "muted"), kind, name, row))
    lowest = [costs.valid[costs.settled].min() for costs in found.values() if costs.settled.any()]
    about = f"Validation costs of {len(found)} runs by epoch"
    if lowest:
        about += f"; the lowest is {min(lowest):.5g} nats per trial"
    return Figure(
        "Validation cost", about, _epochs(axes, 8), axes.y_ticks(6), lines, "epoch", "nats per trial"
    )


def _single(costs: Costs, name: str) -> Figure:
    axes = _axes([(costs.epoch, costs.train), (costs.epoch, costs.valid)])
    lines = []
    if not costs.settled.all():
        until = float(costs.epoch[costs.settled][0]) if costs.settled.any() else axes.right
        edge = [axes.left, until]
        lines.append(Line(axes.area(edge, [axes.low] * 2, [axes.high] * 2), "muted", "area"))
    lines.append(Line(axes.path(costs.epoch, costs.train), TRAIN))
    lines.append(Line(axes.path(costs.epoch, costs.valid), VALID))
    about = f"Training and validation cost of {name} by epoch"
    if costs.settled.any():
        at = int(np.argmin(np.where(costs.settled, costs.valid, np.inf)))
        dot = axes.path(costs.epoch[at : at + 1], costs.valid[at : at + 1])
        lines.append(Line(f"{dot}h0", VALID, "dot"))
        about += f"; the lowest validation cost is {costs.valid[at]:.5g} at epoch {costs.epoch[at]:.0f}"
    return Figure(name, about, _epochs(axes, 5), axes.y_ticks(), lines, "epoch")


def _axes(shown: Sequence[tuple[Floats, Floats]]) -> Axes:
    """Return axes for what is learned late: the first epochs cost so much more that they are cut off.

    The first tenth of each fit does not count, nor what is higher than a few times the range of the second
    half; and of many runs the few that cost most, since one that diverged would flatten all others.
    """
    later = [costs[epoch >= _at(epoch, 0.1)] for epoch, costs in shown]
    settled = [costs[epoch >= _at(epoch, 0.5)] for epoch, costs in shown]
    axes = axes_of(np.concatenate([epoch for epoch, _ in shown]), later)
    highest = [float(one[np.isfinite(one)].max()) for one in settled if np.isfinite(one).any()]
    if not highest:
        return axes
    high = max(highest) if len(highest) <= _FEW else float(np.quantile(highest, 0.95))
    return axes._replace(high=min(axes.high, axes.low + _TIMES * (high - axes.low)))


def _epochs(axes: Axes, most: int) -> list[tuple[float, str]]:
    """Return labels for epochs: there is none between two."""
    return [(at, label) for at, label in axes.x_ticks(most) if float(label).is_integer()]


def _at(epoch: Floats, share: float) -> float:
    return float(epoch[0] + share * (epoch[-1] - epoch[0]))


# ---------------------------------------------------------------- reading


def _spread(ids: Sequence[str], first: set[str], most: int) -> list[int]:
    """Return at most so many positions, evenly spread, with the first ones among them."""
    if len(ids) <= most:
        return list(range(len(ids)))
    wanted = [row for row, one in enumerate(ids) if one in first][:most]
    others = [row for row, one in enumerate(ids) if one not in first]
    places = np.linspace(0, len(others) - 1, most - len(wanted)).round().astype(int)
    return sorted([*wanted, *(others[place] for place in places)])


def read_costs(run: Run) -> Costs | None:
    """Read the costs of the newest attempt that has a fit log; None: there is none, or no epoch in it.

    Raises
    ------
    ResultsError
        It is damaged.
    """
    for _, _, folder in run.layout.checkpoint_dirs():
        path = fitlog(folder)
        if not path.is_file():
            continue
        names, rows = _quickly(path) or _with_care(path)
        if not len(rows):
            continue
        epoch, train, valid, kl, l2 = (rows[:, names.index(name)] for name in _NEEDED)
        return Costs(epoch, train, valid, (kl >= 1) & (l2 >= 1) & np.isfinite(valid))
    return None


def _quickly(path: Path) -> tuple[list[str], Floats] | None:
    """Return a log that is as it should be, without a look at each cell; None: it needs one."""
    try:
        head, _, body = read_bytes(path).decode().partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    names = head.split(",")
    if not body.endswith("\n") or not set(_NEEDED) <= set(names):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the end of what numpy could read
        try:
            cells = np.fromstring(body.replace("\n", ","), sep=",")
        except ValueError:
            return None
    lines = body.count("\n")
    if cells.size != lines * len(names) or body.count(",") != lines * (len(names) - 1):
        return None
    rows = cells.reshape(lines, len(names))
    epoch = rows[:, names.index("epoch")]
    return (names, rows) if np.all(np.diff(epoch) > 0) else None


def _with_care(path: Path) -> tuple[list[str], Floats]:
    names, rows = read_rows(path)
    return names, np.array(rows, dtype=np.float64).reshape(len(rows), len(names))


def thin(costs: Costs, most: int) -> npt.NDArray[np.int64]:
    """Return which epochs to keep, in order: at most so many.

    Examples
    --------
    >>> valid = np.array([5.2, 5.0, 5.1, 8.0, 5.0, 4.9, 4.8, 4.7])
    >>> some = Costs(np.arange(1.0, 9.0), valid, valid, np.ones(8, bool))
    >>> thin(some, 7).tolist()  # the ends, and of both halves the lowest and the highest: the spike at 3
    [0, 1, 3, 4, 7]
    """
    count = len(costs.epoch)
    if count <= most:
        return np.arange(count)
    kept = {0, count - 1}
    if costs.settled.any():
        kept.add(int(np.argmin(np.where(costs.settled, costs.valid, np.inf))))
    edges = np.linspace(0, count, max(1, (most - 3) // 2) + 1).astype(int)
    for begin, end in pairwise(edges):
        stretch = costs.valid[begin:end]
        if np.isfinite(stretch).any():
            kept.add(begin + int(np.argmin(np.where(np.isfinite(stretch), stretch, np.inf))))
            kept.add(begin + int(np.argmax(np.where(np.isfinite(stretch), stretch, -np.inf))))
    return np.array(sorted(kept))
