"""Let a process be killed (-9) before any of its system calls that change a file."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable

CALLS = ("open", "write", "fsync", "link", "rename", "replace", "mkdir", "unlink", "rmdir", "chmod")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_before(number: int, *, links: bool = True, half: bool = False) -> None:
    """Let this process be killed before its system call `number`; with `half`, in the middle of a write."""
    count = 0

    def watched(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count == number:
                if half and name == "write":
                    data = args[1]
                    assert isinstance(data, bytes | memoryview)
                    real(args[0], data[: len(data) // 2])
                die()
            if name == "link" and not links:
                raise OSError(errno.EOPNOTSUPP, "no hard links here")
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, watched(name, getattr(os, name)))
