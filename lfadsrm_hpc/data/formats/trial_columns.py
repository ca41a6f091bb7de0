"""Columns of a trial table, and signals by their names -> further variables of a dataset."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr

from lfadsrm_hpc.data.formats.selecting import values_of
from lfadsrm_hpc.errors import DataError, suggest

if TYPE_CHECKING:
    import pandas as pd

TAKEN = ("spikes", "truth", "external_input", "condition", "trial", "time", "neuron", "neuron_name", "input")
T = TypeVar("T")


def variables(trials: pd.DataFrame, columns: Sequence[str], *, where: object) -> dict[str, xr.DataArray]:
    """Return columns of the trial table as variables (trial) or (trial, <name>_item).

    Raises
    ------
    DataError
        A column is not there, or holds what is neither numbers nor text, or more in one trial than another.
    """
    found = {}
    for column in columns:
        cells = values_of(trials, column, what="trial", where=where)
        name = f"trial_{column}" if column in TAKEN else column
        found[name] = _variable(name, cells, where)
    return found


def _variable(name: str, cells: list[Any], where: object) -> xr.DataArray:
    cells = [cell.decode(errors="replace") if isinstance(cell, bytes) else cell for cell in cells]
    if any(isinstance(cell, str) for cell in cells):
        return xr.DataArray(np.array(["" if _gone(c) else str(c) for c in cells], dtype=str), dims="trial")
    try:
        values = np.array([np.nan if cell is None else cell for cell in cells])
    except ValueError:
        values = np.array([], dtype=object)
    if values.dtype.kind not in "biufU" or values.ndim not in (1, 2):
        raise DataError(
            f"the column {name!r} of the trials cannot be kept",
            where=where,
            hint="it must have a number, a text, or equally many numbers in every trial",
        )
    return xr.DataArray(values, dims=("trial", f"{name}_item")[: values.ndim])


def _gone(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and np.isnan(cell))


def find_signals(there: Mapping[str, T], wanted: Sequence[str], *, where: object) -> dict[str, T]:
    """Return the signals that names or patterns mean, under names that variables can have.

    A signal is meant by its whole path or the end of it, with or without patterns in it.

    Raises
    ------
    DataError
        A name means none, or, without * in it, several; the message lists those that are there.
    """
    paths: list[str] = []
    for name in wanted:
        hits = [path for path in there if fnmatch.fnmatchcase(f"/{path}", f"*/{name}")]
        exact = [path for path in hits if path == name]
        pattern = any(c in name for c in "*?[")
        if not hits or (len(hits) > 1 and not pattern and not exact):
            what = "there is no signal" if not hits else f"{len(hits)} signals have the name"
            hints = [
                suggest(name, [*there, *map(_last, there)]),
                f"there are: {', '.join(hits or there) or 'none'}",
            ]
            raise DataError(f"{what} {name!r}", where=where, hint="; ".join(h for h in hints if h))
        paths += hits if pattern else exact or hits
    paths = list(dict.fromkeys(paths))
    short = [_last(path) for path in paths]
    names = [s if short.count(s) == 1 else p.replace("/", "_") for s, p in zip(short, paths, strict=True)]
    names = [f"signal_{name}" if name in TAKEN else name for name in names]
    return {name: there[path] for name, path in zip(names, paths, strict=True)}


def _last(path: str) -> str:
    return path.rpartition("/")[2]
