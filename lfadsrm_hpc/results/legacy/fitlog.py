"""The fit log of the original LFADS, in the form of ours.

It has neither a header nor columns: `epoch,0, step,5, total,80.1,79.2, recon,...`,
labels and values in turn. It is appended to when a training is resumed, and counts epochs anew then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.plain_files import read_bytes
from lfadsrm_hpc.results.runs.fit_summary import FitSummary
from lfadsrm_hpc.results.runs.fitlog import as_frame

if TYPE_CHECKING:
    import pandas as pd

# What follows each label: training and validation, or one number for both.
_LABELS: Mapping[str, tuple[str, ...]] = {
    "epoch": ("epoch",),
    "step": ("step",),
    "total": ("train_total", "valid_total"),
    "recon": ("train_recon", "valid_recon"),
    "kl": ("train_kl", "valid_kl"),
    "l2": ("l2",),
    "klweight": ("kl_weight",),
    "l2weight": ("l2_weight",),
    "lr": ("learning_rate",),
}
_IN_ORDER = [cell for label, names in _LABELS.items() if label != "lr" for cell in (f":{label}", *names)]
_PLACES = [(place, cell[1:]) for place, cell in enumerate(_IN_ORDER) if cell.startswith(":")]
_USUAL = {place: "" if cell.startswith(":") else cell for place, cell in enumerate(_IN_ORDER)}
Row = dict[str, float]


def read_lfads_log(path: Path) -> pd.DataFrame:
    """Read `fitlog.csv` of the original LFADS (TensorFlow 1), also while it is being written.

    Returns
    -------
    pandas.DataFrame
        As `results.runs.fitlog.read_fitlog`: `epoch` is how many are done, where the file counts from
        0, and it counts on where a training was resumed; what that did again is there once, as it was done
        last. The original rounds costs to two digits, and does not log the learning rate. `attrs["resumed"]`
        tells how often.

    Raises
    ------
    ResultsError
        There is no log, or a line is none.
    """
    rows, resumed = _read_rows(path)
    log = _frame(rows)
    log.attrs["resumed"] = resumed
    return log


def read_lfads_summary(path: Path) -> FitSummary | None:
    """Return the few numbers of a fit log that a table shows, without pandas; None: no epoch is done.

    Raises
    ------
    ResultsError
        As `read_lfads_log`.
    """
    rows, _ = _read_rows(path)
    if not rows:
        return None
    nan = float("nan")
    best, epoch = math.inf, None
    for row in rows:
        cost = row.get("valid_total", nan)
        full = row.get("kl_weight", nan) >= 1 and row.get("l2_weight", nan) >= 1
        if full and math.isfinite(cost) and cost < best:
            best, epoch = cost, int(row["epoch"])
    last = rows[-1]
    return FitSummary(
        int(last["epoch"]), last.get("valid_total", nan), None if epoch is None else best, epoch
    )


def _read_rows(path: Path) -> tuple[list[Row], int]:
    """Return the rows that stand, and how often the training was resumed."""
    rows: list[Row] = []
    resumed = 0
    for number, line in enumerate(_lines(path), start=1):
        row = _row(line)
        if row is None:
            raise ResultsError(
                f"the fit log holds a line that is none: {line[:80]!r}", where=f"{path}, line {number}"
            )
        if rows and row["step"] <= rows[-1]["step"]:
            resumed += 1
            while rows and rows[-1]["step"] >= row["step"]:
                rows.pop()
        elif rows and row["epoch"] == 0:
            resumed += 1
        row["epoch"] = (rows[-1] if rows else row)["epoch"] + 1
        rows.append(row)
    return rows, resumed


def _frame(rows: list[Row]) -> pd.DataFrame:
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["epoch", "step"]
    return as_frame(names, [[row.get(name, float("nan")) for name in names] for row in rows])


def _lines(path: Path) -> Iterator[str]:
    """Yield the complete lines that hold something."""
    try:
        text = read_bytes(path).decode()
    except FileNotFoundError as error:
        raise ResultsError("there is no fit log here", where=path) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"the fit log cannot be read ({error})", where=path) from error
    yield from filter(str.strip, text[: text.rfind("\n") + 1].splitlines())


def _row(line: str) -> Row | None:
    """Return the numbers of a line by our names, also of forks that log more; None if it is no line."""
    return _usual_row(line.split(",")) or _any_row(line)


def _usual_row(cells: list[str]) -> Row | None:
    """Return the numbers of a line with the labels of the original, quickly; None for another."""
    if len(cells) != len(_USUAL) or any(cells[place].strip() != label for place, label in _PLACES):
        return None
    try:
        found = {name: float(cells[place]) for place, name in _USUAL.items() if name}
    except ValueError:
        return None
    return found if found["epoch"].is_integer() and found["step"].is_integer() else None


def _any_row(line: str) -> Row | None:
    values: dict[str, list[float]] = {}
    label = ""
    for cell in map(str.strip, line.split(",")):
        try:
            number = float(cell)
        except ValueError:
            label = cell
            continue
        values.setdefault(label, []).append(number)
    found = {
        name: number
        for label, names in _LABELS.items()
        for name, number in zip(names, values.get(label, ()), strict=False)
    }
    whole = all(name in found and found[name].is_integer() for name in ("epoch", "step"))
    return found if whole and "train_total" in found else None
