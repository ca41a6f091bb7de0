"""The line of a TOML file that an error is about, found by a search for its table and key.

Parsers of TOML do not tell where a value stood. What an error says does: `where` names file, table and often
the key, `what` the key or the value. Where nothing fits, an error keeps the place that it has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lfadsrm_hpc.errors import LfadsrmError

_HEADER = re.compile(r"\s*\[\[?\s*(?P<name>[^\[\]]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"""\s*(?P<name>(?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_PLACE = re.compile(r"(?:, \[+(?P<table>[^\]]+)\]+)?(?:,? (?P<key>[\w.-]+))?")
_SPOKEN = re.compile(r"\[([\w.-]+)\]")
_QUOTED = re.compile(r"'([^']+)'|\"([^\"]+)\"")
_WORD = re.compile(r"[\w-]+")
_SYNTAX = re.compile(r"\(at line (\d+), column \d+\)")


@dataclass(frozen=True)
class _Entry:
    """A header or a key: its line, counted from 1, and its path; a header's ends with ""."""

    line: int
    path: tuple[str, ...]

    @property
    def is_header(self) -> bool:
        return self.path[-1] == ""


def point(error: LfadsrmError, path: Path) -> None:
    """Put the line that an error is about into its place, if the file shows it."""
    place = str(error.where)
    if not place.startswith(str(path)):
        return
    rest = place[len(str(path)) :]
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError:
        return
    line = line_of(text, error.what, rest)
    if line is not None:
        error.where = f"{path}, line {line}{rest}"


def line_of(text: str, what: str, place: str = "") -> int | None:
    """Return the line of a TOML text that a message is about; None: it cannot be told.

    Parameters
    ----------
    text : str
    what : str
        The message.
    place : str
        What stands behind the name of the file: ", [table] key".

    Examples
    --------
    >>> line_of("[params]\\nco_dim = 0\\ngen_dims = 3", "there is no hyperparameter 'gen_dims'", ", [params]")
    3
    """
    syntax = _SYNTAX.search(what)
    if syntax:
        return int(syntax[1])
    if "(at end of document)" in what:
        return len(text.splitlines())
    match = _PLACE.match(place)
    spoken = _SPOKEN.search(what)  # where the place names no table, the message may
    name = (match and match["table"]) or (spoken and spoken[1])
    table = _path(name) if name else ()
    key = _path(match["key"]) if match and match["key"] else ()
    entries = list(_entries(text))
    found = _find(_element(text, entries, table, key), table, key, what)
    return None if found is None else _within(text, entries, found, what).line


def _path(name: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(name))


def _entries(text: str) -> Iterator[_Entry]:
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.fullmatch(line)
        if header:
            table = _path(header["name"])
            yield _Entry(number, (*table, ""))
        elif key := _KEY.match(line):
            yield _Entry(number, (*table, *_path(key["name"])))


def _element(text: str, entries: list[_Entry], table: tuple[str, ...], key: tuple[str, ...]) -> list[_Entry]:
    """Return the entries of that element of an array of tables which has the key as a value: as its name."""
    headers = [one.line for one in entries if one.path == (*table, "")]
    if len(headers) < 2 or not key:
        return entries
    lines = text.splitlines()
    for first, after in zip(headers, [*headers[1:], len(lines) + 1], strict=True):
        inside = [one for one in entries if first <= one.line < after and one.path[: len(table)] == table]
        if any(_says(lines[one.line - 1], ".".join(key)) for one in inside):
            return inside
    return entries


def _says(line: str, value: str) -> bool:
    return re.search(rf"""["']{re.escape(value)}["']""", line) is not None


def _find(entries: list[_Entry], table: tuple[str, ...], key: tuple[str, ...], what: str) -> _Entry | None:
    """Return the key that is meant, else the header of its table."""
    if key:
        named = [one for one in entries if one.path[: len(table) + len(key)] == (*table, *key)]
        if named:
            return named[-1]
    inside = [one for one in entries if one.path[: len(table)] == table]
    for word, quoted in _words(what):
        named = [one for one in inside if one.path[len(table) : len(table) + 1] == (word,)]
        headers = [one for one in named if one.path == (*table, word, "")]
        # A message about the whole file may use the name of a table in passing.
        found = headers[:1] or named[-1:] if quoted or table else [o for o in named if o.path == (word,)][-1:]
        if found:
            return found[0]
    return next((one for one in reversed(inside) if table and one.path in (table, (*table, ""))), None)


def _words(what: str) -> Iterator[tuple[str, bool]]:
    """Yield the words of a message that may be keys, and whether in quotes: those come first."""
    for match in _QUOTED.finditer(what):
        yield match[1] or match[2], True
    yield from ((word, False) for word in _WORD.findall(what))


def _within(text: str, entries: list[_Entry], found: _Entry, what: str) -> _Entry:
    """Return the line of a quoted value inside a table or a list of several lines, where it is there."""
    after = [one.line for one in entries if one.line > found.line and (one.is_header or not found.is_header)]
    lines = text.splitlines()
    last = min(after, default=len(lines) + 1)
    for match in _QUOTED.finditer(what):
        value = match[1] or match[2]
        for number in range(last - 1, found.line - 1, -1):
            if _says(lines[number - 1], value):
                return _Entry(number, found.path)
    return found
