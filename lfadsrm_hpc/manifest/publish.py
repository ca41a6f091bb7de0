"""Files that appear whole or not at all, on local disks, NFS and Lustre.

A file is written under a hidden name beside its place, flushed to disk, and then given its name in one step:
by rename(2) where it has one writer, by link(2) where several may compete, since link fails when the name is
taken. Both are atomic on NFSv3 and later; locks and appends are not, so there are none here.

Files get the mode that the user's umask leaves, but never write permission for everybody.

The calls are plain `os` functions, one system call a line: tests kill the process between any two of them.
"""
# ruff: noqa: PTH102, PTH103, PTH104, PTH108, PTH121

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

_MODE = 0o664
_MODE_OF_SCRIPTS = 0o775

# What link(2) answers where the file system (or a container) has no hard links.
_NO_LINKS = {
    errno.EPERM,
    errno.EACCES,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EXDEV,
    errno.EINVAL,
}


def publish_new(path: Path, data: bytes, *, script: bool = False) -> bool:
    """Publish a file that several may compete for; return whether this call made it.

    A `script` can be executed by those who can read it.

    Where hard links do not exist the file is created exclusively. It is then visible before it is filled:
    a writer killed in between leaves it empty, and readers take such a file as void.

    Raises
    ------
    OSError
        The folder is missing, full or not writable.
    """
    mode = _MODE_OF_SCRIPTS if script else _MODE
    beside = _write_beside(path, data, mode)
    try:
        os.link(beside, path)
    except OSError as error:
        # NFS may lose the answer to a link that was made and report that the name is taken.
        if _same_file(beside, path):
            return True
        if error.errno == errno.EEXIST or os.path.lexists(path):
            return False
        if error.errno not in _NO_LINKS:
            raise
        return _create_new(path, data, mode)
    finally:
        _unlink(beside)
        _flush_folder(path.parent)
    return True


def publish_replacing(path: Path, data: bytes, *, script: bool = False) -> None:
    """Publish a file that has one writer; what was there before is replaced in one step.

    A `script` can be executed by those who can read it.

    Raises
    ------
    OSError
        The folder is missing, full or not writable.
    """
    beside = _write_beside(path, data, _MODE_OF_SCRIPTS if script else _MODE)
    try:
        os.rename(beside, path)
    except BaseException:
        _unlink(beside)
        raise
    _flush_folder(path.parent)


def publish_name(path: Path) -> None:
    """Make an empty file, whose name is all that it says; one that exists is left alone."""
    os.makedirs(path.parent, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, _MODE))
    _flush_folder(path.parent)


def make_folder(path: Path) -> bool:
    """Make one folder, with the folders above it; return whether this call made it."""
    os.makedirs(path.parent, exist_ok=True)
    try:
        os.mkdir(path)
    except FileExistsError:
        return False
    _flush_folder(path.parent)
    return True


def file_system_now(folder: Path) -> float | None:
    """Return the time by the clock of the file system, from a file just made there; None if none can be made.

    Ages of files are differences to this, so the clocks of the machines do not matter.
    """
    probe = folder / f".now.{os.urandom(8).hex()}.tmp"
    try:  # from before it is made: Ctrl-C may come just after
        handle = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _MODE)
        try:
            os.write(handle, b"\n")
            return os.fstat(handle).st_mtime
        finally:
            os.close(handle)
    except OSError:
        return None
    finally:
        _unlink(probe)


def _write_beside(path: Path, data: bytes, mode: int) -> Path:
    beside = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        _fill(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), data)
    except BaseException:  # Ctrl-C too
        _unlink(beside)
        raise
    return beside


def _create_new(path: Path, data: bytes, mode: int) -> bool:
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    except FileExistsError:
        return False
    _fill(handle, data)
    return True


def _fill(handle: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _flush_folder(folder: Path) -> None:
    """Flush a folder, so that a name survives a loss of power; some file systems cannot, and need not."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
