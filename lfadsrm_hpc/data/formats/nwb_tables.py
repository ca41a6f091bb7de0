"""Tables of NWB files -> pandas, with what rows are chosen by, and without what may be large."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

# of a unit; never what neurons are chosen by, and the first three may be larger than memory
_LARGE = ("spike_times", "spike_amplitudes", "waveforms", "waveform_mean", "waveform_sd", "obs_intervals")


def plain_table(table: Any) -> pd.DataFrame:
    """Return a table of intervals; columns of references to other objects are left out."""
    return _frame(table, skip=("timeseries", "tags_index"))


def neuron_table(units: Any) -> pd.DataFrame:
    """Return the columns of the units, and of their electrodes those whose names are not taken.

    A unit of several electrodes has all their values in a cell; an electrode group stands for its name.
    """
    found = _frame(units, skip=(*_LARGE, "electrodes", "electrode_group"))
    extra: dict[str, list[Any]] = {}
    if "electrode_group" in units.colnames:
        groups = [units["electrode_group"][row] for row in range(len(units))]
        extra["electrode_group"] = [getattr(group, "name", str(group)) for group in groups]
        extra["location"] = [getattr(group, "location", "") for group in groups]
    if "electrodes" in units.colnames:
        extra |= _of_electrodes(units)
    for name, cells in extra.items():
        if name not in found.columns:
            found[name] = pd.Series(cells, index=found.index, dtype=object)
    return found


def _of_electrodes(units: Any) -> dict[str, list[Any]]:
    """Return a column for each of the table of electrodes, a tuple of values a unit."""
    column = units["electrodes"]
    region = getattr(column, "target", column)  # an indexed column points at a region of the other table
    table = _frame(region.table, skip=("group",))
    if "group_name" in table.columns:
        table["electrode_group"] = table["group_name"]
    rows = [np.atleast_1d(np.asarray(cells)).astype(int) for cells in _raw_rows(column, len(units))]
    return {
        str(name): [tuple(values[row] for row in of_unit) for of_unit in rows]
        for name, values in ((name, list(table[name])) for name in table.columns)
    }


def _raw_rows(column: Any, n: int) -> list[Any]:
    """Return the row numbers that a column of references holds, without resolving them."""
    region = getattr(column, "target", None)
    if region is None:
        return list(column.data[:])
    ends = np.asarray(column.data[:], dtype=int)
    flat = np.asarray(region.data[:], dtype=int)
    return np.split(flat, ends[:-1]) if n else []


def _frame(table: Any, *, skip: tuple[str, ...]) -> pd.DataFrame:
    """Return the columns of a table whose cells are numbers, texts or short arrays of them."""
    ids = [int(number) for number in table.id[:]]
    n = len(ids)
    columns = {}
    for name in table.colnames:
        if name in skip:
            continue
        cells = _cells(table[name], n)
        if cells is not None:
            columns[name] = pd.Series(cells, index=ids, dtype=object)
    frame: pd.DataFrame = pd.DataFrame(columns, index=ids)
    return frame


def _cells(column: Any, n: int) -> list[Any] | None:
    """Return the cells of a column, read at once; None for references to other objects."""
    cells = column[:] if n else []
    if not isinstance(cells, list | tuple | np.ndarray) or len(cells) != n:
        return None
    if n and hasattr(cells[0], "parent"):
        return None
    return [_plain(cell) for cell in cells]


def _plain(cell: Any) -> Any:
    if isinstance(cell, bytes):
        return cell.decode(errors="replace")
    return cell.item() if isinstance(cell, np.generic) else cell
