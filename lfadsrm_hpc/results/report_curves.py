"""Learning curves for the report page: few epochs of each fit log, and none that was not in it.

Of a stretch of epochs those with the lowest and the highest validation cost are kept, and of the whole log
the first, the last and the lowest that counts. Nothing is averaged, so a spike of one epoch stays visible.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.layout import fitlog
from lfadsrm_hpc.results.fitlog import read_rows

Floats = npt.NDArray[np.float64]

MOST_RUNS = 2000
_MOST_EPOCHS = 400  # of one run
_BUDGET = 60_000  # epochs of all runs together: 1.2 MB
_FEWEST_EPOCHS = 16
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


class Curves(NamedTuple):
    """What the page draws, and what is to be said of it.

    Attributes
    ----------
    content : dict
        `rows` (which runs of the table), `epoch`, `train`, `valid` (a list a run), `settled` (the first epoch
        with both ramps complete, or null), `most` (epochs a run).
    notes : list of str
    """

    content: dict[str, Any]
    notes: list[str]


def curves_of(runs: Sequence[Run], first: Collection[str] = (), most: int = MOST_RUNS) -> Curves:
    """Read and thin out the fit logs of runs.

    Parameters
    ----------
    runs : sequence of Run
        The rows of the table.
    first : collection of str
        Ids of runs that must not be left out where there are too many.
    most : int
        So many runs.
    """
    chosen = _spread([run.id for run in runs], set(first), most)
    epochs = int(np.clip(_BUDGET // max(1, len(chosen)), _FEWEST_EPOCHS, _MOST_EPOCHS))
    content: dict[str, Any] = {"rows": [], "epoch": [], "train": [], "valid": [], "settled": [], "most": epochs}
    damaged, without, thinned = [], 0, False
    for row in chosen:
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
        settled = costs.epoch[costs.settled]
        content["rows"].append(row)
        content["epoch"].append(costs.epoch[kept].astype(int).tolist())
        content["train"].append(_short(costs.train[kept]))
        content["valid"].append(_short(costs.valid[kept]))
        content["settled"].append(int(settled[0]) if settled.size else None)
    notes = []
    if len(chosen) < len(runs):
        notes.append(
            f"{len(chosen):,} of {len(runs):,} runs are drawn, evenly spread over the collection, the best of "
            "each run spec among them; --match or --spec make a page of fewer runs."
        )
    if without:
        notes.append(f"{without:,} runs have not finished an epoch yet.")
    if thinned:
        notes.append(
            f"At most {epochs} epochs of a run are kept: of each stretch those of its lowest and highest "
            "validation cost, as they are in the log."
        )
    notes += [f"The fit log of {text}." for text in damaged[:5]]
    if len(damaged) > 5:
        notes.append(f"{len(damaged) - 5:,} more fit logs cannot be read.")
    return Curves(content, notes)


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
        head, _, body = path.read_text(encoding="utf-8").partition("\n")
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
    >>> valid = np.array([9.0, 5.0, 5.1, 8.0, 5.0, 4.9, 4.8, 4.7])
    >>> some = Costs(np.arange(1.0, 9.0), valid, valid, np.ones(8, bool))
    >>> thin(some, 6).tolist()  # the ends, the spike at 3, and the lowest
    [0, 1, 3, 7]
    """
    count = len(costs.epoch)
    if count <= most:
        return np.arange(count)
    kept = {0, count - 1}
    if costs.settled.any():
        kept.add(int(np.argmin(np.where(costs.settled, costs.valid, np.inf))))
    edges = np.linspace(0, count, max(1, (most - 3) // 2) + 1).astype(int)
    for begin, end in zip(edges[:-1], edges[1:], strict=True):
        stretch = costs.valid[begin:end]
        if np.isfinite(stretch).any():
            kept.add(begin + int(np.argmin(np.where(np.isfinite(stretch), stretch, np.inf))))
            kept.add(begin + int(np.argmax(np.where(np.isfinite(stretch), stretch, -np.inf))))
    return np.array(sorted(kept))


def _short(values: Floats) -> list[float | None]:
    """Return costs with five digits: more cannot be seen."""
    return [float(f"{one:.5g}") if np.isfinite(one) else None for one in values]
