"""Which process is which: host, boot, process id and start time, and whether it still lives."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_START_FIELD = 22  # of /proc/<pid>/stat, counted from 1: see proc(5)
_DEAD = frozenset("ZXx")  # a zombie has ended; only its parent has not looked yet


@dataclass(frozen=True)
class Process:
    """One process, named so that no other, now or after a reboot, has the same name.

    Attributes
    ----------
    host : str
    boot_id : str
        Changes with every boot of the machine; empty where the system does not tell.
    pid_namespace : str
        Containers number their processes anew; empty where the system does not tell.
    pid : int
    start : int or None
        Clock ticks between the boot and the start of the process; None where the system does not tell.
    """

    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    start: int | None = None

    @classmethod
    def current(cls) -> Process:
        """Return the process that calls."""
        pid = os.getpid()
        return cls(hostname(), boot_id(), pid_namespace(), pid, process_start_time(pid))

    def is_alive(self) -> bool | None:
        """Return whether the process lives; None when that cannot be told from here.

        Only a process of this host, this boot and this numbering of processes can be told.
        """
        here = (hostname(), boot_id(), pid_namespace())
        if (self.host, self.boot_id, self.pid_namespace) != here or not self.boot_id:
            return None
        return is_alive(self.pid, self.start)


def hostname() -> str:
    """Return the name of this machine, as `uname -n` gives it."""
    return socket.gethostname()


def boot_id() -> str:
    """Return the identity of this boot of the machine; empty where the system does not tell."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def pid_namespace() -> str:
    """Return the identity of this numbering of processes; empty where the system does not tell."""
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return ""


def process_start_time(pid: int) -> int | None:
    """Return the start of a process in clock ticks since the boot.

    None: there is no such process, it has ended and is a zombie, or the system does not tell.
    """
    stat = _stat(pid)
    return None if stat is None or stat[0] in _DEAD else stat[1]


def peak_memory_mb() -> float:
    """Return the greatest resident memory that this process had, in MiB.

    /proc counts this program alone; getrusage would count what its parent had when it forked, too.
    """
    try:
        for line in (_PROC / "self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    except (OSError, ValueError, IndexError):
        pass
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


def is_alive(pid: int, start: int | None) -> bool | None:
    """Return whether the process `pid` that began at `start` lives on this machine.

    None: it cannot be told (another user's process that the system hides, or no start time is known).
    """
    stat = _stat(pid)
    if stat is not None:
        if stat[0] in _DEAD:
            return False
        return None if start is None else stat[1] == start
    if pid <= 0:
        return False
    # /proc may be absent, or hide the processes of other users: a signal that does nothing can still tell.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return None
    return None


def _stat(pid: int) -> tuple[str, int] | None:
    """Return the state letter and the start of a process, from /proc/<pid>/stat."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses; it may itself hold blanks and parentheses.
    fields = text.rpartition(")")[2].split()
    if len(fields) < _START_FIELD - 2:
        return None
    return fields[0], int(fields[_START_FIELD - 3])
