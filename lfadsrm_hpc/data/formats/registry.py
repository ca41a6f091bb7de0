"""Which reader takes which file: those of the package, those of installed packages, those of this process.

Light to import: a reader's module is imported when one of its files is read, and packages are searched for
readers only when a file is met that no reader of ours takes.

Another package adds a reader by an entry point of the group `lfadsrm_hpc.readers`:

    [project.entry-points."lfadsrm_hpc.readers"]
    spk = "my_package.reading:READER"

The name is that of the format, for messages and for the option `format`; the object is a `Reader`, or a
function without arguments that returns one.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lfadsrm_hpc.errors import DataError, DataWarning, NotFoundError, UsageError, suggest

GROUP = "lfadsrm_hpc.readers"
COMMON = ("bin_ms", "format", "chop_ms", "overlap_ms", "chop_grid_ms")
"""Options that files of every format take."""


@dataclass(frozen=True)
class Reader:
    """How files of one format are read.

    Parameters
    ----------
    read : callable (path, bin_ms, **options) -> xr.Dataset
        `bin_ms`, where it is not None, takes the place of what the file says. What it returns is checked by
        `lfadsrm_hpc.data.form.check`. Continuous recordings may be a list of datasets of one long trial each.
    info : callable (path, **options) -> dict or None, optional
        What `lfadsrm_hpc.data.readers.info_of` returns, without loading the spikes; None where that cannot be
        told without them. It is asked only where it has all options that are given.
    suffixes : sequence of str
        Of the files, in lower case, as ".xyz".
    folder_with : sequence of str
        A folder that holds files of these names is one dataset of this format.
    by_name_only : bool
        Patterns such as "*" pass over these files, since other things end in the same suffix.
    options : tuple of str, optional
        Names of the options that users can give; the keyword-only parameters of `read` where left out.
    """

    read: Callable[..., Any]
    info: Callable[..., dict[str, Any] | None] | None = None
    suffixes: tuple[str, ...] = ()
    folder_with: tuple[str, ...] = ()
    by_name_only: bool = False
    options: tuple[str, ...] | None = None

    @property
    def option_names(self) -> tuple[str, ...]:
        """Names of the options, besides `COMMON`."""
        if self.options is not None:
            return self.options
        parameters = inspect.signature(self.read).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "bin_ms")

    def quick_info(self, options: Mapping[str, Any]) -> Callable[..., dict[str, Any] | None] | None:
        """Return `info` where it understands these options."""
        if self.info is None:
            return None
        parameters = inspect.signature(self.info).parameters.values()
        names = {p.name for p in parameters}
        takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
        return self.info if takes_all or set(options) <= names else None


def name_of(path: Path) -> str:
    """Return the name of the dataset in a file: the file's without suffix, or that of a folder as it is."""
    return path.name if path.is_dir() else path.stem


class Found(NamedTuple):
    """The name of a format and its reader."""

    name: str
    reader: Reader


class _Ours(NamedTuple):
    """Where a reader of this package is, and what must be known of it before it is imported."""

    module: str
    suffixes: tuple[str, ...] = ()
    folder_with: tuple[str, ...] = ()
    by_name_only: bool = False


_OURS = {
    "netcdf": _Ours("netcdf", (".nc",)),
    "hdf5": _Ours("plain_hdf5", (".h5", ".hdf5")),
    "npz": _Ours("plain_npz", (".npz",)),
    "mat": _Ours("plain_mat", (".mat",)),
    "nwb": _Ours("nwb", (".nwb",)),
    "phy": _Ours("phy", folder_with=("spike_times.npy", "spike_clusters.npy")),
    "csv": _Ours("spike_table", (".csv", ".tsv"), by_name_only=True),
    # found by the content of an .h5 file
    "lfads": _Ours("lfads_file"),
    "nlb": _Ours("nlb"),
}
REGISTERED: dict[str, Reader] = {}
"""Readers that this process has added, by suffix; they come before all others."""


def register(reader: Reader, *suffixes: str) -> None:
    """Read files with these suffixes (".xyz", lower case) by this reader from now on, in this process.

    Parameters
    ----------
    reader : Reader
    *suffixes : str
        In lower case, with the dot.
    """
    for suffix in suffixes or reader.suffixes:
        _check_suffix(suffix)
        REGISTERED[suffix] = reader


def _check_suffix(suffix: object) -> None:
    if not isinstance(suffix, str) or not suffix.startswith(".") or suffix != suffix.lower():
        raise UsageError(f"{suffix!r} is not a suffix", hint="write it like '.xyz', in lower case")


def readable_suffixes() -> tuple[str, ...]:
    """Return the suffixes of the files that can be read."""
    ours = [suffix for each in _OURS.values() for suffix in each.suffixes]
    theirs = [suffix for found in _plugins().readers.values() for suffix in found.suffixes]
    return tuple(dict.fromkeys([*ours, *REGISTERED, *theirs]))


def can_read(path: Path, *, by_name: bool = False) -> bool:
    """Say whether there is a reader for a file or folder, as far as its name tells.

    With `by_name` the user has named this very file; without, a pattern has met it.
    """
    if path.is_dir():
        return _of_folder(path) is not None
    suffix = path.suffix.lower()
    if suffix in REGISTERED:
        return by_name or not REGISTERED[suffix].by_name_only
    for ours in _OURS.values():
        if suffix in ours.suffixes:
            return by_name or not ours.by_name_only
    readers = [reader for reader in _plugins().readers.values() if suffix in reader.suffixes]
    return any(by_name or not reader.by_name_only for reader in readers)


def find(path: Path, format: str | None = None) -> Found:
    """Return the reader of a file or folder.

    Parameters
    ----------
    path : Path
        Of what need not exist: then its name alone tells.
    format : str, optional
        The name of a format, where suffix and content tell the wrong one.

    Raises
    ------
    DataError
        There is none, or there are several.
    UsageError
        There is no such format.
    """
    if format is not None:
        return _by_name(format)
    if path.is_dir():
        name = _of_folder(path)
        if name is None:
            raise DataError(
                "this is a folder, and not one that can be read as a dataset",
                where=path,
                hint=f"folders that can: {_folders_text()}",
            )
        return _by_name(name)
    suffix = path.suffix.lower()
    if suffix in REGISTERED:
        return Found(suffix, REGISTERED[suffix])
    for name, ours in _OURS.items():
        if suffix in ours.suffixes:
            return _by_name(_by_content(path) if name == "hdf5" else name)
    return _of_plugin(path, suffix)


def check_options(found: Found, options: Mapping[str, Any], where: object = None) -> None:
    """Refuse options that a reader does not have.

    Raises
    ------
    UsageError
        The message suggests the nearest right name.
    """
    every = [*found.reader.option_names, *COMMON]
    for name in options:
        if name not in every:
            raise UsageError(
                f"the reader of {found.name} files has no option {name!r}",
                where=where,
                hint=suggest(name, every) or f"it has: {', '.join(every)}",
            )


def _by_name(name: str) -> Found:
    if name in _OURS:
        ours = _OURS[name]
        module = importlib.import_module(f"lfadsrm_hpc.data.formats.{ours.module}")
        return Found(name, module.READER)
    plugins = _plugins()
    if name in plugins.readers:
        return Found(name, plugins.readers[name])
    every = [*_OURS, *plugins.readers]
    hint = plugins.failures.get(name) or suggest(name, every) or f"there are: {', '.join(every)}"
    raise UsageError(f"there is no reader for the format {name!r}", hint=hint)


def _of_folder(path: Path) -> str | None:
    for name, ours in _OURS.items():
        if ours.folder_with and all((path / file).is_file() for file in ours.folder_with):
            return name
    for name, reader in _plugins().readers.items():
        if reader.folder_with and all((path / file).is_file() for file in reader.folder_with):
            return name
    return None


def _folders_text() -> str:
    ours = [(name, each.folder_with) for name, each in _OURS.items() if each.folder_with]
    theirs = [(name, each.folder_with) for name, each in _plugins().readers.items() if each.folder_with]
    return "; ".join(f"{name}, with {' and '.join(files)}" for name, files in [*ours, *theirs])


def _by_content(path: Path) -> str:
    """Tell the formats apart that end in .h5."""
    from lfadsrm_hpc.data.formats.hdf5_kinds import kind_of

    return kind_of(path)


def _of_plugin(path: Path, suffix: str) -> Found:
    plugins = _plugins()
    found = [Found(name, reader) for name, reader in plugins.readers.items() if suffix in reader.suffixes]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(each.name for each in found)
        raise DataError(
            f"there are several readers for files with the suffix {suffix!r}: {names}",
            where=path,
            hint=f"name one of them: format={found[0].name!r}",
        )
    hints = [
        f"these can: {', '.join(readable_suffixes())}; others by Dataset.from_arrays or a reader of your own"
    ]
    hints += plugins.failures.values()
    raise DataError(
        f"files with the suffix {path.suffix!r} cannot be read", where=path, hint="; ".join(hints)
    )


# --- readers of other packages


class _Plugins(NamedTuple):
    readers: dict[str, Reader]
    failures: dict[str, str]


@functools.lru_cache(maxsize=1)
def _plugins() -> _Plugins:
    """Load the readers of other packages; one that cannot be loaded is warned of, and costs no other."""
    from importlib.metadata import entry_points

    found = _Plugins({}, {})
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        package = f"package {entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
        label = f"the reader {entry.name!r} of {package} ({entry.value})"
        try:
            if entry.name in _OURS or entry.name in found.readers:
                raise UsageError(
                    f"there is another reader of the name {entry.name!r}",
                    hint="give the entry point another name",
                )
            found.readers[entry.name] = _usable(entry.load())
        except Exception as error:  # whatever a foreign module does when it is imported
            found.failures[entry.name] = f"{label} cannot be loaded ({type(error).__name__}: {error})"
    for failure in found.failures.values():
        warnings.warn(failure, DataWarning, stacklevel=3)
    return found


def _usable(loaded: Any) -> Reader:
    reader = loaded if isinstance(loaded, Reader) else loaded() if callable(loaded) else loaded
    if not isinstance(reader, Reader):
        raise UsageError(
            f"it is a {type(reader).__name__}, not a lfadsrm_hpc.data.readers.Reader",
            hint="make the entry point a Reader(...)",
        )
    for suffix in reader.suffixes:
        _check_suffix(suffix)
    if not reader.suffixes and not reader.folder_with:
        raise UsageError(
            "it names neither suffixes nor folder_with",
            hint="a Reader needs suffixes=, or folder_with= for folders",
        )
    return reader


def find_existing(path: Path, format: str | None = None) -> Found:
    """Do what `find` does for what must be there.

    Raises
    ------
    NotFoundError
        There is no such file or folder.
    """
    found = find(path, format)
    if not path.exists():
        raise NotFoundError("there is no such file", where=path)
    return found
