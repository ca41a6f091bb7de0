"""Free space, inodes, quotas, and the limits of the user's session."""

from __future__ import annotations

import getpass
import os
import re
import resource
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lfadsrm_hpc.command import ask
from lfadsrm_hpc.doctor.checks import Found, absent, ok, problem, warning
from lfadsrm_hpc.doctor.mounts import Mount
from lfadsrm_hpc.errors import CommandError
from lfadsrm_hpc.schedulers.units import format_bytes

QUOTA_S = 10.0
_GIB = 1 << 30
_LITTLE, _NONE = 10 * _GIB, 1 * _GIB
_FEW_FILES, _NO_FILES = 20_000, 1_000
_NEARLY = 0.9  # of a quota
_MAKE_ROOM = "`lfadsrm clean --dry-run` lists what may go; checkpoints and TensorBoard events are largest"
_NUMBER = re.compile(r"(\d+)(\*?)")


def free(place: Path) -> Callable[[], Found]:
    """Return the check of free space and inodes."""

    def look() -> Found:
        about = os.statvfs(place)
        files = about.f_favail if about.f_files else None
        return judge_free(about.f_bavail * about.f_frsize, files)

    return look


def judge_free(size: int, files: int | None) -> Found:
    """Return what follows from so many free bytes and inodes (None: not counted); pure."""
    said = f"{format_bytes(size)} free" + ("" if files is None else f", {files} more files")
    details = {"bytes": size, "files": files}
    if size < _NONE or (files is not None and files < _NO_FILES):
        return problem(said, _MAKE_ROOM, **details)
    if size < _LITTLE or (files is not None and files < _FEW_FILES):
        return warning(said, _MAKE_ROOM, **details)
    return ok(said, **details)


# -- quotas ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quota:
    """A user's share of one file system; limits of None are none.

    Attributes
    ----------
    place : str
        Device or folder.
    used_kb, limit_kb, files, files_limit : int or None
    over : bool
        The program marks it as exceeded.
    """

    place: str
    used_kb: int
    limit_kb: int | None
    files: int | None = None
    files_limit: int | None = None
    over: bool = False


def quotas(mount: Callable[[], Mount | None]) -> Callable[[], Found]:
    """Return the check of quotas, by the programs that there are.

    Parameters
    ----------
    mount : callable
        Returns the file system that is examined.
    """

    def look() -> Found:
        where = mount()
        commands: list[list[str]] = []
        if where is not None and where.kind == "lustre" and shutil.which("lfs"):
            commands.append(["lfs", "quota", "-q", "-u", getpass.getuser(), where.point])
        if shutil.which("quota"):
            commands.append(["quota", "-w", "-p"])
        found, unread = [], []
        for command in commands:
            answer = _answer(command)
            found += read_quotas(answer)
            unread += [] if read_quotas(answer) or not answer.strip() else [command[0]]
        if found or not shutil.which("myquota"):
            return judge_quotas(found, unread, asked=bool(commands))
        text = _answer(["myquota"]).strip()
        return (
            ok(f"myquota says: {' | '.join(text.splitlines()[:4])}")
            if text
            else absent("myquota says nothing")
        )

    return look


def _answer(command: Sequence[str]) -> str:
    try:
        return ask(command, timeout_s=QUOTA_S, check=False).stdout  # it ends with 1 where a quota is exceeded
    except CommandError:
        return ""


def read_quotas(text: str) -> list[Quota]:
    """Read what `quota -w -p` and `lfs quota -q` print: place, then used, quota, limit, grace, twice.

    Kilobytes come first, then files. 0 as a limit is none; a star marks what is exceeded. Of Lustre a long
    place stands on a line of its own.
    """
    found: list[Quota] = []
    alone = ""
    for line in text.splitlines():
        fields = line.split()
        if alone and fields and _NUMBER.fullmatch(fields[0]):
            fields = [alone, *fields]
        alone = fields[0] if len(fields) == 1 and "/" in fields[0] else ""
        if len(fields) < 5 or not all(_NUMBER.fullmatch(field) for field in fields[1:4]):
            continue
        files = fields[5:8] if len(fields) >= 8 and all(map(_NUMBER.fullmatch, fields[5:8])) else []
        numbers = [int(field.rstrip("*")) for field in [*fields[1:4], *files]]
        found.append(
            Quota(
                fields[0],
                numbers[0],
                _lower(numbers[1:3]),
                numbers[3] if files else None,
                _lower(numbers[4:6]) if files else None,
                over=any(field.endswith("*") for field in [*fields[1:2], *files[:1]]),
            )
        )
    return found


def _lower(limits: Sequence[int]) -> int | None:
    return min((limit for limit in limits if limit), default=None)


def judge_quotas(found: Sequence[Quota], unread: Sequence[str] = (), *, asked: bool = True) -> Found:
    """Return what follows from quotas; pure."""
    if not asked:
        return absent("neither quota nor lfs is here")
    limited = [one for one in found if one.limit_kb or one.files_limit]
    if not limited:
        return absent(f"{', '.join(unread)} cannot be read" if unread else "no quota is set for you")
    texts = [_quota_text(one) for one in limited]
    details = {"quotas": [vars(one) for one in limited]}
    if any(one.over for one in limited):
        return problem(f"exceeded: {'; '.join(texts)}", _MAKE_ROOM, **details)
    if any(_share(one) > _NEARLY for one in limited):
        return warning("; ".join(texts), f"nearly used up; {_MAKE_ROOM}", **details)
    return ok("; ".join(texts), **details)


def _share(quota: Quota) -> float:
    shares = [quota.used_kb / quota.limit_kb] if quota.limit_kb else []
    shares += [quota.files / quota.files_limit] if quota.files is not None and quota.files_limit else []
    return max(shares, default=0.0)


def _quota_text(quota: Quota) -> str:
    of = f" of {format_bytes(quota.limit_kb * 1024)}" if quota.limit_kb else ""
    text = f"{quota.place}: {format_bytes(quota.used_kb * 1024)}{of}"
    return text + (f", {quota.files} of {quota.files_limit} files" if quota.files_limit else "")


# -- limits of the session -------------------------------------------------------------------------------

_LIMITS = {
    "open files": (resource.RLIMIT_NOFILE, 256, "ulimit -n 4096"),
    "processes and threads": (resource.RLIMIT_NPROC, 256, "ulimit -u 4096, or ask the operators"),
    "memory, kB": (
        resource.RLIMIT_AS,
        None,
        "TensorFlow reserves much that it does not use: ulimit -v unlimited",
    ),
    "size of a file": (resource.RLIMIT_FSIZE, None, "ulimit -f unlimited"),
    "seconds on a core": (
        resource.RLIMIT_CPU,
        None,
        "train in jobs: `lfadsrm submit`, not on this login node",
    ),
}
_LITTLE_MEMORY = 8 * _GIB


def user_limits() -> Found:
    """Check the limits of this session."""
    soft = {name: resource.getrlimit(which)[0] for name, (which, _, _) in _LIMITS.items()}
    return judge_limits(soft, memory_limit())


def judge_limits(soft: Mapping[str, int], memory: int | None) -> Found:
    """Return what follows from limits (`resource.RLIM_INFINITY`: none) and the session's memory; pure."""
    told, fixes = [], []
    for name, value in soft.items():
        _, least, fix = _LIMITS[name]
        if value != resource.RLIM_INFINITY and (least is None or value < least):
            told.append(f"{name}: {value}")
            fixes.append(fix)
    if memory is not None and memory < _LITTLE_MEMORY:
        told.append(f"memory of this session: {format_bytes(memory)}")
        fixes.append("train in jobs: `lfadsrm submit`")
    details = {
        "limits": {k: None if v == resource.RLIM_INFINITY else v for k, v in soft.items()},
        "memory": memory,
    }
    if told:
        return warning(f"limited: {'; '.join(told)}", "; ".join(dict.fromkeys(fixes)), **details)
    return ok(f"{soft['open files']} open files; nothing that matters is limited", **details)


def memory_limit(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Return the most memory that this session's control groups allow, bytes; None: no limit, or not told."""
    try:
        line = next(line for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    folder, found = root / line[3:].lstrip("/"), []
    while folder != root.parent and folder.is_relative_to(root):
        try:
            text = (folder / "memory.max").read_text().strip()
        except OSError:
            text = ""
        found += [int(text)] if text.isdigit() else []
        folder = folder.parent
    return min(found, default=None)
