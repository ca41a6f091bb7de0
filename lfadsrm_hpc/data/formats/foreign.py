"""What a file from anybody must not do when it is read: wait, reach for other files, or fill the memory.

HDF5 files (netCDF-4, NWB, Matlab v7.3 among them) can name other files: by links, by virtual datasets, and
as storage of a dataset's bytes. The library opens whatever is named, a named pipe, a device or a private
file; here only regular files of the same folder may be named, as those who split recordings do.
"""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from lfadsrm_hpc.errors import DataError
from lfadsrm_hpc.plain_files import check_regular

_LARGE = 2**30  # bytes; what claims more and has stored nothing is no recording
_MOST_OBJECTS = 1_000_000
_DEEPEST = 3


class _Way(NamedTuple):
    """The files that lead to the one that is looked into, it too, and those that were looked into."""

    files: tuple[Path, ...]
    done: set[Path]


def check_file(path: Path) -> None:
    """Refuse a file that its reader should not open.

    A damaged one passes: the reader says what is wrong with it.

    Raises
    ------
    DataError
        It is no regular file, names files elsewhere, or claims more than the memory of this machine.
    """
    if path.is_dir() or not os.path.lexists(path):
        return
    try:
        check_regular(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"this cannot be read: {error.strerror}", where=path) from None
    if h5py.is_hdf5(path):
        _check_hdf5(path, _Way((path.resolve(),), set()))
    elif path.suffix.lower() == ".npz" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            _check_size(sum(one.file_size for one in file.infolist()), path, "")


def _check_hdf5(path: Path, way: _Way) -> None:
    with h5py.File(path, "r", locking=False) as file:
        links: list[tuple[bytes, int]] = []
        # Goes along hard links alone, to each object once.
        file.id.links.visit(lambda name, info: _note(links, name, info, path), info=True)
        for name, kind in links:
            if kind == h5py.h5l.TYPE_EXTERNAL:
                _check_other(path, os.fsdecode(file.id.links.get_val(name)[0]), os.fsdecode(name), way)
            elif kind == h5py.h5l.TYPE_HARD:
                item = h5py.h5o.open(file.id, name)
                if isinstance(item, h5py.h5d.DatasetID):
                    _check_dataset(path, item, os.fsdecode(name), way)


def _note(links: list[tuple[bytes, int]], name: bytes, info: Any, path: Path) -> None:
    links.append((name, info.type))
    if len(links) > _MOST_OBJECTS:
        raise DataError(f"there are more than {_MOST_OBJECTS} objects in it", where=path)


def _check_dataset(path: Path, stored: h5py.h5d.DatasetID, name: str, way: _Way) -> None:
    plist = stored.get_create_plist()
    for index in range(plist.get_external_count()):
        _check_other(path, os.fsdecode(plist.get_external(index)[0]), name, way, is_storage=True)
    virtual = plist.get_layout() == h5py.h5d.VIRTUAL
    if virtual:
        for index in range(plist.get_virtual_count()):
            named = _no_pattern(plist.get_virtual_filename(index), name, path)
            array = _no_pattern(plist.get_virtual_dsetname(index), name, path)
            if named != ".":
                _check_other(path, named, name, way)
            elif _is_virtual(stored, array):
                raise DataError(f"{name} is made of another virtual dataset of this file", where=path)
    claimed = math.prod(stored.shape or ()) * stored.get_type().get_size()
    if claimed > _LARGE and not virtual and not stored.get_storage_size():
        raise DataError(f"{name} claims {claimed} bytes and holds none", where=path)
    _check_size(claimed, path, name)


def _no_pattern(named: str, name: str, path: Path) -> str:
    """Return what HDF5 will look for; it puts numbers in the place of `%b`, and reads `%%` as `%`."""
    plain = named.replace("%%", "\0")
    if "%" in plain:
        raise DataError(f"{name} is made of arrays that a pattern names ({named!r})", where=path)
    return plain.replace("\0", "%")


def _is_virtual(stored: h5py.h5d.DatasetID, name: str) -> bool:
    """Return whether a dataset of the same file is virtual: HDF5 follows circles until the stack is full."""
    try:
        source = h5py.h5d.open(h5py.h5i.get_file_id(stored), name.encode())
    except KeyError:  # it reads as fill values
        return False
    return bool(source.get_create_plist().get_layout() == h5py.h5d.VIRTUAL)


def _check_other(path: Path, named: str, name: str, way: _Way, *, is_storage: bool = False) -> None:
    """Check a file that another one names; HDF5 files are looked into in their turn."""
    other = path.parent / named
    # In the folder itself, and not merely under its name: a link there could lead anywhere.
    inside = os.path.join(os.path.realpath(path.parent), Path(named).name)  # noqa: PTH118
    if any(os.path.realpath(place) != inside for place in (other, *_elsewhere(path, named, is_storage))):
        raise DataError(
            f"{name} is in another file, {named!r}, outside of this folder",
            where=path,
            hint="if you trust it, put that file beside this one, or copy both into one (h5repack, h5copy)",
        )
    real = other.resolve()
    if real in way.files:
        raise DataError(f"{name} leads back to this file by way of {named!r}", where=path)
    if real in way.done or not other.exists():
        return
    try:
        check_regular(other)
    except OSError as error:
        raise DataError(f"{name} is in {named!r}, of which: {error.strerror}", where=path) from None
    if len(way.files) >= _DEEPEST:
        raise DataError(f"more than {_DEEPEST} files name each other", where=path)
    if h5py.is_hdf5(other):
        _check_hdf5(other, _Way((*way.files, real), way.done))
    way.done.add(real)


def _elsewhere(path: Path, named: str, is_storage: bool) -> list[Path]:
    """Return the files that HDF5 would open beside, or instead of, the one in the folder.

    It looks for storage where the command was called, and for other files there and where a link to the
    file leads, if they are not in its folder.
    """
    if (path.parent / named).exists() and not is_storage:
        return []
    return [place for place in (Path.cwd() / named, path.resolve().parent / named) if os.path.lexists(place)]


def _check_size(claimed: int, path: Path, name: str) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if claimed > memory:
        raise DataError(
            f"{name or 'this file'} claims {claimed / 2**30:.1f} GiB, and this machine has "
            f"{memory / 2**30:.1f} GiB of memory",
            where=path,
            hint="read less of it, or on a larger machine; or the file is damaged",
        )
