"""Which kind of file system a folder lies on, and what follows from that: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lfadsrm_hpc.doctor.checks import Found, absent, ok, warning

MOUNTS = Path("/proc/self/mountinfo")
_SHARED = {"lustre", "gpfs", "beegfs", "ceph", "panfs", "wekafs", "cvmfs2", "orangefs", "afs", "nfs", "nfs4"}
_LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "bcachefs"}
_PASSING = {"tmpfs": "memory", "ramfs": "memory", "overlay": "a layer of a container"}


@dataclass(frozen=True)
class Mount:
    """One mounted file system.

    Attributes
    ----------
    point, kind, source : str
        Where it is mounted, its type ("nfs4"), and what is mounted.
    options : frozenset of str
    """

    point: str
    kind: str
    source: str
    options: frozenset[str]


def mount_of(text: str, folder: str) -> Mount | None:
    """Return the file system of a folder by what /proc/self/mountinfo says (proc(5)); None: nothing."""
    found: Mount | None = None
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if not dash or len(fields) < 6 or len(rest) < 2:
            continue
        point = _plain(fields[4])
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        if inside and (found is None or len(point) >= len(found.point)):  # the last of several counts
            options = {*fields[5].split(","), *(rest[2].split(",") if len(rest) > 2 else ())}
            found = Mount(point, rest[0], _plain(rest[1]), frozenset(options))
    return found


def _plain(text: str) -> str:
    """Return a field without its octal escapes: "\\040" is a blank."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def judge_mount(mount: Mount | None, *, has_scheduler: bool, latency_s: float) -> Found:
    """Return what follows from the kind of file system that runs are to be on.

    Parameters
    ----------
    mount : Mount or None
    has_scheduler : bool
        Jobs run on other machines, which must see the folder too.
    latency_s : float
        How long the site lets a file system hide what another machine wrote.
    """
    if mount is None:
        return absent("the system does not tell")
    said = f"{mount.kind}, mounted at {mount.point} from {mount.source}"
    details = {
        "kind": mount.kind,
        "point": mount.point,
        "source": mount.source,
        "options": sorted(mount.options),
    }
    if "ro" in mount.options:
        return warning(f"{said}, for reading only", "choose another folder for runs", **details)
    if mount.kind.startswith("nfs"):
        return _nfs(mount, said, latency_s, details)
    if mount.kind in _PASSING:
        fix = "for runs that are to last choose a folder on a disk"
        return warning(f"{said}: it is {_PASSING[mount.kind]}, and goes with it", fix, **details)
    if mount.kind in _LOCAL:
        if has_scheduler:
            fix = "if compute nodes do not see it, choose a folder on the shared file system of the cluster"
            return warning(f"{said}: a disk of this machine", fix, **details)
        return ok(f"{said}: a disk of this machine", **details)
    if mount.kind in _SHARED:
        more = " without file locks (see HDF5 below)" if "noflock" in mount.options else ""
        return ok(f"{said}: shared{more}", **details)
    if mount.kind.startswith("fuse") or mount.kind in ("9p", "drvfs", "vboxsf", "cifs", "smb3"):
        fix = "such file systems may show files late: if a check below fails, keep runs where the disk is"
        return warning(said, fix, **details)
    return ok(f"{said}: not a kind that is known here; the checks below count", **details)


def _nfs(mount: Mount, said: str, latency_s: float, details: Mapping[str, object]) -> Found:
    if mount.options & {"soft", "softerr"}:
        fix = (
            "a slow server becomes errors of runs: ask the operators for a hard mount, or use another folder"
        )
        return warning(f"{said}, soft", fix, **details)
    caches = [
        float(match[1]) for one in mount.options if (match := re.fullmatch(r"ac(?:dirmax|timeo)=(\d+)", one))
    ]
    hides = 0.0 if "noac" in mount.options else max(caches, default=60.0)
    if hides > latency_s:
        fix = f"in your site file: [filesystem] latency_s = {hides:g}"
        return warning(
            f"{said}: it may hide what another machine wrote for {hides:g} s, the site says {latency_s:g} s",
            fix,
            **details,
        )
    return ok(f"{said}: shared, shows what other machines wrote within {hides:g} s", **details)
