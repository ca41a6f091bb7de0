"""Small files that anybody may have written: read whole, within limits, and never waited for.

In a folder that came from elsewhere any name may be a named pipe, whose reader waits for ever, a link to a
device without an end, or a text that nests deeper than a parser can follow.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import Any

MOST_BYTES = 256 << 20
"""More than any record, table or description of ours holds."""


def read_bytes(path: str | os.PathLike[str], most: int = MOST_BYTES) -> bytes:
    """Return the content of a regular file.

    Raises
    ------
    OSError
        It cannot be read, is no regular file, or is larger than `most` bytes.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # which a pipe does not hold up
    try:
        found = os.fstat(handle)
        _check(found, path)
        if found.st_size > most:
            raise OSError(errno.EFBIG, f"it has {found.st_size} bytes, and {most} is the most", str(path))
        return _whole(handle, most)
    finally:
        os.close(handle)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Check that what will be opened by other means is a regular file.

    Raises
    ------
    OSError
        It is not there, or something else: a folder, a pipe, a device.
    """
    _check(os.stat(path), path)  # noqa: PTH116


def _check(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def _whole(handle: int, most: int) -> bytes:
    data = piece = os.read(handle, 65536)
    while piece and len(data) % 65536 == 0 and len(data) <= most:
        piece = os.read(handle, 65536)
        data += piece
    return data


def parse_json(data: bytes | str) -> Any:
    """Return what a JSON text says.

    Raises
    ------
    ValueError
        It is none, or nests too deeply.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return what a JSON file says.

    Raises
    ------
    OSError
        As `read_bytes`.
    ValueError
        As `parse_json`.
    """
    return parse_json(read_bytes(path))
