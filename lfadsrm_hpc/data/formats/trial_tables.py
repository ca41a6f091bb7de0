"""Tables of trials, neurons and spikes in text files, comma or tab separated -> pandas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lfadsrm_hpc.data.formats import option_values
from lfadsrm_hpc.errors import DataError, NotFoundError

UNITS = {"s": 1.0, "ms": 0.001}


def read_table(path: Path) -> pd.DataFrame:
    """Read a table with a head line; empty cells are NaN.

    Raises
    ------
    NotFoundError
        It is not there.
    DataError
        It cannot be read as a table.
    """
    if not path.is_file():
        raise NotFoundError("there is no such table", where=path)
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        table: pd.DataFrame = pd.read_csv(path, sep=separator, skipinitialspace=True)
    except (ValueError, OSError) as error:  # parser and decoding errors of pandas are ValueErrors
        raise DataError(f"the table cannot be read: {error}", where=path) from error
    table.columns = [str(name).strip() for name in table.columns]
    return table


def read_trials(
    trial_table: str | None, beside: Path, columns: Sequence[str], time_unit: str | None
) -> pd.DataFrame | None:
    """Read the table of trials that a user names.

    Parameters
    ----------
    trial_table : str or None
        Absolute, or relative to `beside`; None for no table.
    beside : Path
        A folder.
    columns : sequence of str
        Those with times that are used besides start_time and stop_time.
    time_unit : {"s", "ms"} or None
        Of the times in it; seconds where left out.

    Returns
    -------
    pandas.DataFrame or None
        With the times in seconds.

    Raises
    ------
    NotFoundError, DataError, UsageError
    """
    scale = UNITS[option_values.choice("time_unit", time_unit or "s", tuple(UNITS))]
    if trial_table is None:
        return None
    path = beside / Path(option_values.text("trial_table", trial_table)).expanduser()
    table = read_table(path)
    for name in {*columns, "start_time", "stop_time"} & set(table.columns):
        if table[name].dtype.kind not in "biuf":
            raise DataError(f"the column {name!r} holds no times", where=path)
        table[name] = table[name] * scale
    return table
