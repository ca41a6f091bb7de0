"""The table [datasets] of an `experiment.toml`: which files, and with which options they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lfadsrm_hpc.errors import ConfigError, LfadsrmError, suggest
from lfadsrm_hpc.layout import check_name
from lfadsrm_hpc.toml_lines import point

Session = tuple[str, str, dict[str, Any]]
_OPTIONS_EXAMPLE = "[datasets.options] on a line of its own, then lines such as bin_ms = 5"
_SESSIONS_EXAMPLE = (
    '[[datasets.sessions]], then name = "s1", file = "all.mat", options = { struct = "data(1)" }'
)


def matches(folder: Path, entry: str, *, where: str, one: bool = False) -> list[str]:
    """Return the files, or folders that are one dataset, that a name or pattern means, relative and sorted.

    Parameters
    ----------
    folder : Path
    entry : str
        A name, with or without its suffix, or a pattern.
    where : str
        The place in the experiment file.
    one : bool
        Whether it must mean one file.

    Raises
    ------
    ConfigError
        It means nothing that can be read; the message suggests a name.
    """
    from lfadsrm_hpc.data.formats.registry import can_read

    present = _present(folder, entry, where)
    readable = [path for path in present if can_read(path, by_name=path.suffix.lower() in entry.lower())]
    if not readable:
        raise _nothing(folder, entry, bool(present), where)
    if one and len(readable) > 1:
        names = ", ".join(path.name for path in readable)
        raise ConfigError(f"{entry!r} means {len(readable)} files: {names}", where=where, hint="name one")
    return [path.relative_to(folder).as_posix() for path in readable]


def _present(folder: Path, entry: str, where: str) -> list[Path]:
    exact = folder / entry
    try:
        globbed = sorted(folder.glob(entry))
        if not any(c in entry for c in "*?["):
            globbed += sorted(folder.glob(f"{entry}.*"))  # a name without its suffix
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"{entry!r} is neither a name nor a pattern: {error}",
            where=where,
            hint='write names or patterns relative to the folder, as "day*.mat"',
        ) from None
    return [exact] if exact.is_file() else [path for path in globbed if not path.name.startswith(".")]


def _nothing(folder: Path, entry: str, there: bool, where: str) -> ConfigError:
    from lfadsrm_hpc.data.formats.registry import readable_suffixes

    hint = f"files that can be read end in {', '.join(readable_suffixes())}"
    if there:
        return ConfigError(
            f"{entry!r} in {str(folder)!r} matches no file that can be read", where=where, hint=hint
        )
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return ConfigError(
        f"nothing in {str(folder)!r} matches {entry!r}", where=where, hint=suggest(entry, names) or hint
    )


def reader_options(value: Any, *, where: str) -> dict[str, Any]:
    """Return a table of options; their names are checked when the format of the file is known.

    Raises
    ------
    ConfigError
    """
    if not isinstance(value, dict):
        raise ConfigError("options must be a table", where=where, hint=_OPTIONS_EXAMPLE)
    if "name" in value:
        raise ConfigError(
            "name is no option of a reader", where=where, hint="name sessions under [[datasets.sessions]]"
        )
    return dict(value)


def sessions(value: Any, *, where: str) -> tuple[Session, ...]:
    """Return name, file and options of each of `[[datasets.sessions]]`.

    Raises
    ------
    ConfigError
    """
    found: list[Session] = []
    for entry in value if isinstance(value, list) else [None]:
        if not isinstance(entry, dict) or not all(isinstance(entry.get(k), str) for k in ("name", "file")):
            raise ConfigError(
                "sessions must be tables with name and file, and perhaps options",
                where=where,
                hint=_SESSIONS_EXAMPLE,
            )
        refuse_unknown(entry, ("name", "file", "options"), where, "key")
        with located(where):
            check_name(entry["name"], "dataset")
        if any(name == entry["name"] for name, _, _ in found):
            raise ConfigError(f"two sessions have the name {entry['name']!r}", where=where)
        found.append((entry["name"], entry["file"], reader_options(entry.get("options", {}), where=where)))
    return tuple(found)


def refuse_unknown(content: Mapping[str, Any], known: Sequence[str], where: object, kind: str) -> None:
    """Refuse names that have no meaning, with the nearest that has one.

    Raises
    ------
    ConfigError
    """
    for name in content:
        if name not in known:
            hint = suggest(name, known) or f"known here: {', '.join(known)}"
            raise ConfigError(f"unknown {kind} {name!r}", where=where, hint=hint)


@contextmanager
def pointing(file: Path) -> Iterator[None]:
    """Give errors that are about a TOML file the line that they are about."""
    try:
        yield
    except LfadsrmError as error:
        point(error, file)
        raise


@contextmanager
def located(where: str) -> Iterator[None]:
    """Give errors of other rooms the place in the file that they are about."""
    try:
        yield
    except LfadsrmError as error:
        file = where.partition(", [")[0]
        if str(error.where).startswith(f"{file}, ["):
            raise  # it names a place of this file already, and knows better
        place = where if error.where is None else f"{where} ({error.where})"
        raise ConfigError(error.what, where=place, hint=error.hint) from None
