"""What in an experiment file errors of other rooms are about: a hyperparameter, an option, a run spec."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lfadsrm_hpc.errors import ConfigError, DataError, LfadsrmError, UsageError

_RUN_SPEC = re.compile(r"run spec '([^']+)'")


@dataclass(frozen=True)
class Said:
    """What an experiment file says, by table: names of hyperparameters and of options.

    Attributes
    ----------
    file : Path
    params, options : mapping of str to names
    specs : mapping of str to str
        Run specs with the key of [run_specs] that makes them.
    """

    file: Path
    params: Mapping[str, Collection[str]]
    options: Mapping[str, Collection[str]]
    specs: Mapping[str, str]

    def place(self, error: LfadsrmError) -> str | None:
        """Return file, table and key; what the message names counts more than what its hint names."""
        for table, key in _pairs(self.params):
            if _is_named(key.removeprefix("c_"), error.what):
                return f"{self.file}, [{table}] {key}"
        for table, key in _pairs(self.options):
            if f"option {key!r}" in error.what or re.match(rf"{re.escape(key)}\b", error.what):
                return f"{self.file}, [{table}] {key}"
        spec = _RUN_SPEC.fullmatch(str(error.where))
        if spec is not None and spec[1] in self.specs:
            return f"{self.file}, [run_specs] {self.specs[spec[1]]}"
        for table, key in _pairs(self.params):
            if "_" in key and _is_named(key.removeprefix("c_"), error.hint or ""):
                return f"{self.file}, [{table}] {key}"
        return None


@contextmanager
def naming(said: Said) -> Iterator[None]:
    """Give errors that are about something that an experiment file says the place where it says so.

    The dataset or the run that they named stays, in brackets. What a file says is no slip in a call: such
    errors become those of a file.
    """
    try:
        yield
    except (ConfigError, DataError, UsageError) as error:
        place = said.place(error)
        if place is None or str(error.where).startswith(str(said.file)):
            raise
        where = place if error.where is None else f"{place} ({error.where})"
        if isinstance(error, UsageError):
            raise ConfigError(error.what, where=where, hint=error.hint) from None
        error.where = where
        raise


def _pairs(tables: Mapping[str, Collection[str]]) -> Iterator[tuple[str, str]]:
    yield from ((table, key) for table, keys in tables.items() for key in keys)


def _is_named(key: str, text: str) -> bool:
    """Return whether a text names a hyperparameter: some of them, such as `split`, are words besides."""
    return re.search(rf"\b{re.escape(key)}\b{'' if '_' in key else ' ?='}", text) is not None
