"""The fit log of a run as a DataFrame."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.plain_files import read_bytes

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "epoch", "step", "train_total", "valid_total", "train_recon", "valid_recon", "train_kl", "valid_kl",
    "l2", "kl_weight", "l2_weight", "learning_rate", "train_sv_recon", "valid_sv_recon",
)  # fmt: skip
_ALWAYS = COLUMNS[:-2]  # the last two are newer
_COUNTERS = ("epoch", "step")


def read_fitlog(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read `fitlog.csv`, also while a run is still writing it.

    A last line without its line break is being written and is left out. Where the epochs step back (a run
    that resumed from a checkpoint does them again), what they had before is left out.

    Parameters
    ----------
    path : path
        `checkpoints/<nnn>.r<k>/fitlog.csv`.

    Returns
    -------
    pandas.DataFrame
        One row an epoch, `COLUMNS`: costs in nats per trial; those of sample validation (``train_sv_recon``,
        ``valid_sv_recon``) per withheld element, nan where none is. Further columns are kept. ``attrs`` holds
        ``lowest_valid_epoch`` and ``lowest_valid_cost``: the epoch of the lowest validation cost among those
        with both ramps complete, or None. Costs from within the ramps are not comparable and do not count.

    Raises
    ------
    ResultsError
        The file is missing, or a line other than the last is not what the header announces.
    """
    return as_frame(*read_rows(Path(path)))


def as_frame(names: Sequence[str], rows: Sequence[Sequence[float]]) -> pd.DataFrame:
    """Return the rows of a fit log as `read_fitlog` does, whatever file they are from.

    Parameters
    ----------
    names : sequence of str
        Of the columns, `COLUMNS` where they mean the same; those that are absent are nan.
    rows : sequence of sequence of float
        One an epoch, in order.
    """
    import pandas as pd

    log: pd.DataFrame = pd.DataFrame(rows, columns=pd.Index(names), dtype=np.float64)
    for name in COLUMNS:
        if name not in log:
            log[name] = np.nan
    for name in _COUNTERS:
        log[name] = log[name].astype(np.int64)
    settled = log[(log["kl_weight"] >= 1) & (log["l2_weight"] >= 1) & np.isfinite(log["valid_total"])]
    best = None if settled.empty else settled.loc[settled["valid_total"].idxmin()]
    log.attrs["lowest_valid_epoch"] = None if best is None else int(best["epoch"])
    log.attrs["lowest_valid_cost"] = None if best is None else float(best["valid_total"])
    return log


def read_rows(path: str | os.PathLike[str]) -> tuple[list[str], list[list[float]]]:
    """Return the names of the columns and the rows that stand, without pandas.

    Raises
    ------
    ResultsError
        As `read_fitlog`.
    """
    path = Path(path)
    try:
        text = read_bytes(path).decode()
    except FileNotFoundError as error:
        raise ResultsError(
            "there is no fit log here",
            where=path,
            hint="has the run finished its first epoch? see `lfadsrm status`",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"the fit log cannot be read ({error})", where=path) from error
    lines = text.split("\n")[:-1]  # what follows the last line break is not complete
    if not lines:
        return list(COLUMNS), []
    names = [name.strip() for name in lines[0].split(",")]
    missing = [name for name in _ALWAYS if name not in names]
    if missing:
        raise ResultsError(f"the fit log has no column {missing[0]!r}", where=f"{path}, line 1")
    epoch = names.index("epoch")
    rows: list[list[float]] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        row = _row(line, names, f"{path}, line {number}")
        while rows and rows[-1][epoch] >= row[epoch]:
            rows.pop()
        rows.append(row)
    return names, rows


def _row(line: str, names: list[str], where: str) -> list[float]:
    cells = line.split(",")
    try:
        row = [float(cell) for cell in cells]
        counters = [row[names.index(name)] for name in _COUNTERS]
    except (ValueError, IndexError):
        raise ResultsError(f"the fit log holds a line that is none: {line[:80]!r}", where=where) from None
    if len(row) != len(names) or not np.all(np.isfinite(counters)):
        raise ResultsError(f"the fit log holds a line that is none: {line[:80]!r}", where=where)
    return row
