"""Large files and folders that appear under their names only when they are complete: where they are before.

`lfadsrm_hpc.manifest.publish` does the same for small ones, which are written at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


def temporary_beside(path: Path) -> Path:
    """Return a name in the same folder that nobody else uses, hidden, for a file that is being written."""
    return path.with_name(f".{_stem(path)}.{os.getpid()}.{uuid.uuid4().hex[:6]}.partial")


def remove_leftovers(path: Path) -> None:
    """Remove what writers of this file, killed on this host, left behind (it can be gigabytes)."""
    for leftover in path.parent.glob(f".{_stem(path)}.*.partial"):
        pid = leftover.name.split(".")[-3]
        if pid.isdigit() and not _alive(int(pid)):
            with contextlib.suppress(OSError):
                if leftover.is_dir():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give a hidden name beside a file to write to; the file has its own name when the block has ended well.

    What was there before is replaced in one step; a block that fails or is interrupted leaves it as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        remove_leftovers(path)
        yield temporary
        flush(temporary)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Make a file or folder durable.

    Raises
    ------
    OSError
        The disk refuses.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stem(path: Path) -> str:
    """Return what marks the unfinished files of one target on one host; short, whatever the names are."""
    host = re.sub(r"[^A-Za-z0-9_-]", "_", platform.node())[:64]
    return f"{hashlib.sha256(path.name.encode()).hexdigest()[:12]}.{host}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
