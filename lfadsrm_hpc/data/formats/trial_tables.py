"""Tables of trials, neurons and spikes in text files, comma or tab separated -> pandas."""

from __future__ import annotations

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


def read_trials(trial_table: str | None, beside: Path) -> pd.DataFrame | None:
    """Read the table of trials that a user names.

    Parameters
    ----------
    trial_table : str or None
        Absolute, or relative to `beside`; None for no table.
    beside : Path
        A folder.

    Returns
    -------
    pandas.DataFrame or None
        As it is in the file, times too: what is kept of it has the units that the user knows.

    Raises
    ------
    NotFoundError, DataError, UsageError
    """
    if trial_table is None:
        return None
    return read_table(beside / Path(option_values.text("trial_table", trial_table)).expanduser())


def seconds_in(time_unit: str | None) -> float:
    """Return how many seconds the unit of times in a table has; seconds where it is left out.

    Raises
    ------
    UsageError
        There is no such unit.
    """
    return UNITS[option_values.choice("time_unit", time_unit or "s", tuple(UNITS))]
