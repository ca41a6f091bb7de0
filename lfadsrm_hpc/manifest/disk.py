"""The facts of one run, read from its files. Paths are texts here: thousands of path objects are slow."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from lfadsrm_hpc.errors import ManifestError
from lfadsrm_hpc.layout import AttemptLayout, RunLayout
from lfadsrm_hpc.manifest.facts import Fact, RunFacts, gather
from lfadsrm_hpc.manifest.process import hostname
from lfadsrm_hpc.manifest.records import Claim, Closed, Exit, Heartbeat, Reservation, from_json
from lfadsrm_hpc.plain_files import MOST_BYTES, parse_json

T = TypeVar("T")

_FEW_ATTEMPTS = 5
_QUICK = (Claim, Heartbeat, Reservation)  # what is read of every run that works or waits
_ANY_RUN = RunLayout(Path("run"))  # names come from the layout
_ANY = AttemptLayout(Path("attempt"))
ATTEMPTS = _ANY_RUN.attempts_dir.name
_RESERVED, _CLOSED = _ANY.reserved.name, _ANY.closed.name


@cache
def attempt_name(number: int) -> str:
    """Return the name of an attempt's folder."""
    return _ANY_RUN.attempt(number).path.name


@cache
def file_name(kind: str, incarnation: int) -> str:
    """Return the name of a "claim", "heartbeat" or "exit" record."""
    path: Path = getattr(_ANY, kind)(incarnation)
    return path.name


@cache
def _known_names() -> dict[str, tuple[str, int]]:
    kinds = ("claim", "heartbeat", "exit")
    return {file_name(kind, k): (kind, k) for kind in kinds for k in range(100)}


def listed(folder: str) -> list[str]:
    """List a folder; one that is not there is empty."""
    try:
        return os.listdir(folder)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_there(path: str) -> bool:
    """Return whether there is such a file."""
    return os.path.exists(path)  # noqa: PTH110


def attempt_numbers(run_folder: str) -> list[int]:
    """Return the attempts that exist, sorted."""
    return attempts_of(run_folder)[0]


def attempts_of(run_folder: str) -> tuple[list[int], list[int] | None]:
    """Return the attempts that exist, sorted, and the marks by which it is seen that something changed.

    The marks are the modification times (ns) of the folder of all attempts, then of attempts 1, 2, ...; None
    where attempts do not count from 1 without a gap, or vanish meanwhile.

    Listing a folder takes six times as long as a look at a file. Most file systems count the folders in a
    folder (its links, less two): where so many are there from 1 on, these are all. Elsewhere it is listed.
    """
    attempts = f"{run_folder}/{ATTEMPTS}"
    try:
        found = os.stat(attempts)  # noqa: PTH116
    except OSError:
        return [], None
    count = found.st_nlink - 2
    if 0 < count <= _FEW_ATTEMPTS:
        marks = _marks(found.st_mtime_ns, attempts, range(1, count + 1))
        if marks is not None:
            return list(range(1, count + 1)), marks
    numbers = sorted(attempt.number for attempt in RunLayout(Path(run_folder)).attempts())
    whole = numbers == list(range(1, len(numbers) + 1))
    return numbers, _marks(found.st_mtime_ns, attempts, numbers) if whole else None


def _marks(top: int, attempts: str, numbers: Sequence[int]) -> list[int] | None:
    marks = [top]
    try:
        for number in numbers:
            found = os.stat(f"{attempts}/{attempt_name(number)}")  # noqa: PTH116
            if not stat.S_ISDIR(found.st_mode):
                return None
            marks.append(found.st_mtime_ns)
    except OSError:
        return None
    return marks


def only_reserved(attempt_folder: str) -> Reservation | None:
    """Return the reservation of an attempt of which nothing else is on record; None: there is more."""
    files = [name for name in listed(attempt_folder) if not name.startswith(".")]
    if files != [_RESERVED]:
        return None
    return read_record(Reservation, f"{attempt_folder}/{_RESERVED}")[0]


def read_run(
    run_id: str, folder: str, cancelled_up_to: int | None, numbers: Sequence[int] | None = None
) -> RunFacts:
    """Read everything that the manifest knows of one run.

    Parameters
    ----------
    run_id : str
    folder : str
        The run's.
    cancelled_up_to : int or None
        The newest attempt that a cancellation covers.
    numbers : sequence of int, optional
        The attempts that exist.
    """
    numbers = attempt_numbers(folder) if numbers is None else numbers
    return gather(run_id, _facts(folder, cancelled_up_to, numbers))


def _facts(folder: str, cancelled_up_to: int | None, numbers: Sequence[int]) -> Iterator[Fact]:
    if cancelled_up_to is not None:
        yield Fact("cancelled", cancelled_up_to)
    for number in numbers:
        yield from _attempt_facts(f"{folder}/{ATTEMPTS}/{attempt_name(number)}", number)


def _attempt_facts(folder: str, number: int) -> Iterator[Fact]:
    yield Fact("attempt", number)
    names = listed(folder)
    files = _by_kind(folder, names)
    reservation, modified = read_record(Reservation, f"{folder}/{_RESERVED}")
    if modified is not None:
        process = reservation.process if reservation and not reservation.is_ahead else None
        yield Fact("reserved", number, -1, reservation, modified, process.is_alive() if process else None)
    claimed, host = files["claim"], hostname()
    for k in claimed:
        claim, modified = read_record(Claim, f"{folder}/{file_name('claim', k)}")
        if modified is not None:
            alive = claim.process.is_alive() if claim and claim.process.host == host else None
            yield Fact("claim", number, k, claim, modified, alive)
    # Only now the exit records: a process that was gone above wrote its own before, so it is seen here. In
    # the other order a run that ends between the two looks would be taken for lost.
    for k in sorted({*claimed, *files["exit"]}):
        ended, modified = read_record(Exit, f"{folder}/{file_name('exit', k)}")
        if modified is not None:
            yield Fact("exit", number, k, ended, modified)
    for k in files["heartbeat"]:
        beat, modified = read_record(Heartbeat, f"{folder}/{file_name('heartbeat', k)}")
        if modified is not None:
            yield Fact("heartbeat", number, k, beat, modified)
    if _CLOSED in names:
        closed, modified = read_record(Closed, f"{folder}/{_CLOSED}")
        if modified is not None:
            yield Fact("closed", number, -1, closed, modified)


def _by_kind(folder: str, names: Sequence[str]) -> dict[str, list[int]]:
    """Return which incarnations have a claim, a heartbeat and an exit record, sorted."""
    known = _known_names()
    found: dict[str, list[int]] = {"claim": [], "heartbeat": [], "exit": []}
    for name in names:
        if name in known:
            kind, k = known[name]
            found[kind].append(k)
    if any(numbers and max(numbers) >= 99 for numbers in found.values()):  # there may be more
        return AttemptLayout(Path(folder)).incarnations()
    return {kind: sorted(numbers) for kind, numbers in found.items()}


def read_record(kind: type[T], path: Path | str) -> tuple[T | None, float | None]:
    """Return a record (None: empty or unreadable) and when it was written (None: there is no such file).

    Raises
    ------
    ManifestError
        The file cannot be read.
    """
    for _ in range(3):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                found = os.fstat(handle)
                plain = stat.S_ISREG(found.st_mode) and found.st_size <= MOST_BYTES
                modified, data = found.st_mtime, _whole(handle) if plain else b""
            finally:
                os.close(handle)
            break
        except FileNotFoundError:
            return None, None
        except OSError as caught:
            error = caught  # NFS: the file was replaced while it was read (ESTALE); look again
    else:
        raise ManifestError(
            f"a file of the manifest cannot be read: {error.strerror}",
            where=path,
            hint="check its permissions; a claim that cannot be read cannot be judged",
        ) from error
    try:
        quick = _built(kind, parse_json(data.decode())) if kind in _QUICK else None
        return (from_json(kind, data) if quick is None else quick), modified
    except (ManifestError, ValueError):
        return None, modified


@cache
def _shape(kind: type) -> tuple[tuple[str, type, bool], ...]:
    """Return of each field of a record its name, its type, and whether it is a record itself."""
    hints = get_type_hints(kind)
    found = []
    for one in fields(kind):
        hint = next((arg for arg in get_args(hints[one.name]) if arg is not type(None)), hints[one.name])
        plain = dict if get_origin(hints[one.name]) is Mapping else hint
        found.append((one.name, plain, is_dataclass(plain)))
    return tuple(found)


def _built(kind: type[T], value: Any) -> T | None:
    """Build a record as `from_json` does, where every value has its very type; None: ask `from_json`.

    That checks and converts all it is given; of thousands of records nearly none needs it.
    """
    if type(value) is not dict:
        return None
    known = {}
    for name, wanted, nested in _shape(cast(Any, kind)):
        given = value.get(name)
        if given is None:
            continue
        if nested:
            given = _built(wanted, given)
            if given is None:
                return None
        elif type(given) is not wanted:
            return None
        known[name] = given
    try:
        return kind(**known)
    except TypeError:  # something is missing
        return None


def _whole(handle: int) -> bytes:
    data = os.read(handle, 65536)
    piece = data
    while piece and len(data) % 65536 == 0:
        piece = os.read(handle, 65536)
        data += piece
    return data
