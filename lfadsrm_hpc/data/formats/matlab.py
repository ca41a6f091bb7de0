"""Matlab files, v4 to v7.3, names, places and order of dimensions as in Matlab.

HDF5 counts the dimensions of a Matlab array the other way round: (trial, neuron, time) in Matlab is seen by
h5py as (time, neuron, trial). Here it is turned back. Only what is asked for is loaded; of a v5 file whole
variables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from lfadsrm_hpc.data.formats import matlab_hdf5, matlab_scipy
from lfadsrm_hpc.data.formats.fields import DESCRIBING, KNOWN, has_counts
from lfadsrm_hpc.data.formats.matlab_values import Structs, Token, at, parse
from lfadsrm_hpc.errors import DataError, suggest


class MatFile(Protocol):
    """An open file."""

    @property
    def names(self) -> list[str]:
        """Names of its variables."""

    def structs(self) -> list[str]:
        """Return the names of variables that are structs."""

    def get(self, tokens: Sequence[Token]) -> Any:
        """Return what a path leads to: an array, a text, an object array (cell), a dict (struct), `Structs`,
        None for Matlab's own objects, or a list with one of these for each struct of an array."""


@contextmanager
def opened(path: Path) -> Iterator[MatFile]:
    """Open a file of either kind.

    Raises
    ------
    OSError, ValueError
        The file is damaged.
    """
    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            yield matlab_hdf5.MatHdf5(file)
    else:
        yield matlab_scipy.MatScipy(path)


@dataclass(frozen=True)
class Source:
    """A file as `lfadsrm_hpc.data.formats.plain.Source`.

    Attributes
    ----------
    file : MatFile
    struct : str or None
        Where names are looked for.
    automatic : bool
        Whether to go into the only struct that holds counts, where none is named.
    """

    file: MatFile
    struct: str | None = None
    automatic: bool = True

    def there(self) -> list[str]:
        if self.struct is None:
            return self.file.names
        value = self.get(self.struct)
        first = value.items[0] if isinstance(value, Structs) and value.items else value
        return [f"{self.struct}.{name}" for name in first] if isinstance(first, dict) else [self.struct]

    def known(self) -> dict[str, Any]:
        if self.struct is not None:
            return _fields_of(self.get(self.struct), self.struct)
        names = self.file.names
        if not has_counts(names) and self.automatic:
            found = {name: self.file.get([name]) for name in self.file.structs()}
            holding = {name: value for name, value in found.items() if _holds_counts(value)}
            if len(holding) == 1:
                ((name, value),) = holding.items()
                return _fields_of(value, name)
            if holding:
                raise DataError(
                    f"several structs hold spikes: {', '.join(holding)}",
                    hint=f"name one: struct={names[0]!r}",
                )
        return _readable({name: self.file.get([name]) for name in names if name in KNOWN})

    def get(self, path: str) -> Any:
        tokens = parse(path)
        if self.struct is not None and tokens[0] not in self.file.names:
            value = at(self.get_value(parse(self.struct)), tokens, path)
        else:
            value = self.get_value(tokens)
        if _is_foreign(value):
            raise _foreign(path)
        return value

    def get_value(self, tokens: Sequence[Token]) -> Any:
        if tokens[0] not in self.file.names:
            names = self.file.names
            raise DataError(
                f"there is no variable {tokens[0]!r}",
                hint=suggest(tokens[0], names) or f"there is: {', '.join(names) or 'none'}",
            )
        return self.file.get(tokens)


def _holds_counts(value: Any) -> bool:
    if isinstance(value, Structs):
        return bool(value.items) and has_counts(value.items[0])
    return isinstance(value, dict) and has_counts(value)


def _fields_of(value: Any, name: str) -> dict[str, Any]:
    """Return the fields of a struct, or of an array of them a list each, with one entry a trial."""
    if isinstance(value, dict):
        return _readable({key: item for key, item in value.items() if key in KNOWN})
    if not isinstance(value, Structs) or not value.items:
        raise DataError(
            f"{name} is no struct that holds anything",
            hint="name the struct that holds the trials: struct=NAME",
        )
    first = value.items[0]
    for item in value.items:
        counts = item.get("spikes", item.get("counts"))
        if isinstance(counts, np.ndarray) and counts.ndim > 2:
            raise DataError(
                f"{name} is an array of {len(value.items)} structs that hold whole sessions",
                hint=f"name one: struct='{name}(1)'",
            )
    keys = [key for key in first if key in KNOWN and all(key in item for item in value.items)]
    return _readable({key: [item[key] for item in value.items] for key in keys})


def _readable(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields without Matlab's own objects, if none of them matters.

    Raises
    ------
    DataError
        One does: without its conditions, say, a session would be another one, and nobody would know.
    """
    for name in fields:
        if _is_foreign(fields[name]) and name not in DESCRIBING:
            raise _foreign(name)
    return {name: value for name, value in fields.items() if not _is_foreign(value)}


def _is_foreign(value: Any) -> bool:
    return value is None or (isinstance(value, list) and any(item is None for item in value))


def _foreign(name: str) -> DataError:
    return DataError(
        f"{name} is an object of Matlab (string, categorical, table, datetime, ...), which Matlab alone can "
        "read",
        hint="save it as something plainer: cellstr(x), double(x), table2struct(x)",
    )
