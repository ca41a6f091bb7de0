"""The few numbers of a fit log that a table of runs shows; a thousand logs are read in a second."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Sequence
from typing import NamedTuple

from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.plain_files import read_bytes

_NEEDED = ("epoch", "valid_total", "kl_weight", "l2_weight")
Columns = tuple[list[float], list[float], list[float], list[float]]


class FitSummary(NamedTuple):
    """What `fitlog.read_fitlog` would say, without a DataFrame.

    Attributes
    ----------
    epochs : int
        The last one in the log.
    valid_cost : float
        Of that epoch; nats per trial.
    lowest_valid_cost, lowest_valid_epoch : float and int, or None
        Among the epochs with both ramps complete.
    """

    epochs: int
    valid_cost: float
    lowest_valid_cost: float | None
    lowest_valid_epoch: int | None


def read_fit_summary(path: str | os.PathLike[str]) -> FitSummary | None:
    """Read a fit log, also while a run is still writing it; see `fitlog.read_fitlog`.

    Returns
    -------
    FitSummary or None
        None: there is no log, or no epoch in it.

    Raises
    ------
    ResultsError
        A line other than the last is not what the header announces.
    """
    try:
        text = read_bytes(path).decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"the fit log cannot be read ({error})", where=path) from error
    text = text[: text.rfind("\n") + 1]  # what follows the last line break is not complete
    columns = _quickly(text) or _with_care(text, path)
    if not columns[0]:
        return None
    settled = [
        (cost, epoch)
        for epoch, cost, kl, l2 in zip(*columns, strict=True)
        if kl >= 1 and l2 >= 1 and math.isfinite(cost)
    ]
    best = min(settled, default=None)  # of equals, the first epoch
    return FitSummary(
        int(columns[0][-1]),
        columns[1][-1],
        None if best is None else best[0],
        None if best is None else int(best[1]),
    )


def _quickly(text: str) -> Columns | None:
    """Return the needed columns of a log as it should be; None: it must be read with care.

    That is one that a run wrote without being resumed: line after line, epoch after epoch.
    """
    head, _, body = text.partition("\n")
    names = head.split(",")
    if not body or not set(_NEEDED) <= set(names):
        return None
    cells = body[:-1].replace("\n", ",").split(",")
    width = len(names)
    if len(cells) != width * body.count("\n"):
        return None
    try:
        found = [list(map(float, cells[names.index(name) :: width])) for name in _NEEDED]
    except ValueError:
        return None
    epochs = found[0]
    steady = all(map(operator.lt, epochs, epochs[1:])) and math.isfinite(sum(epochs))
    return (found[0], found[1], found[2], found[3]) if steady else None


def _with_care(text: str, path: str | os.PathLike[str]) -> Columns:
    """Return the needed columns, or say which line is none; where epochs step back, the later ones count."""
    lines = text.split("\n")[:-1]
    rows = _rows(lines, path) if lines else []
    e, v, k, w = ([row[n] for row in rows] for n in range(4))
    return e, v, k, w


def _rows(lines: Sequence[str], path: str | os.PathLike[str]) -> list[tuple[float, float, float, float]]:
    """Return the needed columns of the rows that stand."""
    names = [name.strip() for name in lines[0].split(",")]
    try:
        e, v, k, w = (names.index(name) for name in _NEEDED)
    except ValueError as error:
        raise ResultsError(f"the fit log lacks a column: {error}", where=f"{path}, line 1") from None
    width = len(names)
    rows: list[tuple[float, float, float, float]] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        cells = line.split(",")
        try:
            row = (float(cells[e]), float(cells[v]), float(cells[k]), float(cells[w]))
        except (ValueError, IndexError):
            row = (math.nan,) * 4
        if len(cells) != width or not math.isfinite(row[0]):
            raise ResultsError(
                f"the fit log holds a line that is none: {line[:80]!r}", where=f"{path}, line {number}"
            )
        while rows and rows[-1][0] >= row[0]:
            rows.pop()
        rows.append(row)
    return rows
