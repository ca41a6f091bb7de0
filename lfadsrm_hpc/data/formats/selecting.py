"""Rows of a table of trials or neurons, chosen by the values in their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, suggest

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]
_MOST = 20


def choose(
    table: pd.DataFrame, wanted: Mapping[str, Any], *, what: str, where: object
) -> npt.NDArray[np.bool_]:
    """Return which rows have the values that are wanted, in every column that is named.

    Parameters
    ----------
    table : pandas.DataFrame
    wanted : mapping
        Column -> a value, a list of values of which a row must have one, or `{"min": a, "max": b}`, both
        included and either left out. Where a cell holds several values, one of them is enough.
    what : str
        "trial" or "neuron", for messages.
    where : object

    Raises
    ------
    DataError
        A column that is not there, a range over what are no numbers, or no row left.
    """
    keep = np.ones(len(table), dtype=bool)
    for column, value in wanted.items():
        cells = values_of(table, column, what=what, where=where)
        fits = np.array([_fits(cell, value, column, where) for cell in cells], dtype=bool)
        if not fits.any():
            there = sorted({str(item) for cell in cells for item in _items(cell)})[:_MOST]
            raise DataError(
                f"no {what} has {column} = {value!r}", where=where, hint=f"there is: {', '.join(there)}"
            )
        keep &= fits
    if not keep.any():
        raise DataError(f"no {what} has all of {dict(wanted)!r}", where=where, hint="ask for less")
    return keep


def values_of(table: pd.DataFrame, column: str, *, what: str, where: object) -> list[Any]:
    """Return the cells of a column.

    Raises
    ------
    DataError
        There is no such column; the message lists those that are.
    """
    if column not in table.columns:
        names = [str(name) for name in table.columns]
        hints = [suggest(column, names), f"there are: {', '.join(names) or 'none'}"]
        raise DataError(
            f"the table of {what}s has no column {column!r}",
            where=where,
            hint="; ".join(hint for hint in hints if hint),
        )
    return list(table[column])


def labels(table: pd.DataFrame, columns: Sequence[str], *, where: object) -> Array | None:
    """Return the condition of each trial from one or several columns; None for no columns.

    One column keeps its numbers where they are whole, NaN for none. Values of several are joined with a
    comma; where one is missing, the trial has no condition.

    Raises
    ------
    DataError
        A column is not there, or holds more than a value a trial.
    """
    if not columns:
        return None
    cells = [values_of(table, column, what="trial", where=where) for column in columns]
    for column, values in zip(columns, cells, strict=True):
        if any(np.ndim(value) for value in values):
            raise DataError(f"{column!r} holds several values a trial, which is no condition", where=where)
    if len(columns) == 1:
        numbers = _whole_numbers(cells[0])
        if numbers is not None:
            return numbers
    rows = zip(*cells, strict=True)
    texts = ["" if any(_missing(v) for v in row) else ", ".join(_label(v) for v in row) for row in rows]
    return np.array(texts, dtype=str)


def _whole_numbers(values: Sequence[Any]) -> Array | None:
    if not all(_missing(v) or isinstance(v, int | float | np.integer | np.floating) for v in values):
        return None
    numbers = np.array([np.nan if _missing(v) else float(v) for v in values])
    return numbers if bool((np.isnan(numbers) | (numbers == np.round(numbers))).all()) else None


def _label(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{float(value):g}"
    return str(value)


def _missing(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, float | np.floating) and bool(np.isnan(value)))
        or _text(value) == ""
    )


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _items(cell: Any) -> list[Any]:
    if isinstance(cell, np.ndarray | list | tuple | set | frozenset):
        return [_text(item) for item in cell]
    return [_text(cell)]


def _fits(cell: Any, wanted: Any, column: str, where: object) -> bool:
    items = _items(cell)
    if isinstance(wanted, Mapping):
        low, high = _bounds(wanted, column, where)
        try:
            return any(low <= float(item) <= high for item in items)
        except (TypeError, ValueError):
            raise DataError(
                f"{column!r} holds {items[0]!r}, which is no number to compare with {dict(wanted)!r}",
                where=where,
            ) from None
    several = wanted if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
    return any(_same(item, value) for item in items for value in several)


def _bounds(wanted: Mapping[str, Any], column: str, where: object) -> tuple[float, float]:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in wanted.values())
    if not wanted or set(wanted) - {"min", "max"} or not numbers:
        raise DataError(
            f"the range of {column!r} is {dict(wanted)!r}",
            where=where,
            hint="write it { min = 0.2, max = 0.8 }, or with one of the two",
        )
    return float(wanted.get("min", -np.inf)), float(wanted.get("max", np.inf))


def _same(item: Any, value: Any) -> bool:
    """Compare; True and 1 are the same, as are bytes and text, but "1" and 1 are not."""
    if isinstance(item, str) != isinstance(value, str):
        return False
    return bool(item == value)
