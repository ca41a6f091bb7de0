"""Names of files: which are allowed, what they say, and how folders are listed by them."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from lfadsrm_hpc.errors import UsageError

EXAMINATION = ".lfadsrm-doctor-"
"""How the names of the folders begin in which `lfadsrm doctor` tries a file system out."""

ATTEMPT = re.compile(r"\d{3,}")
CHECKPOINT = re.compile(r"checkpoint-(\d+)(?:-best)?\.npz")
_OUTBOX = re.compile(r"([0-9a-f]{16})\.(\d{3,})\.r(\d+)\.([A-Z_]+)\.(\d+)")


def check_name(name: str, kind: str) -> str:
    """Return `name` if it can be a file name on every system in use, else raise.

    Spaces, quotes and non-ASCII letters are allowed; what would leave the folder, hide the file,
    or break a line-based file is not.
    """
    if not name or name != name.strip() or name.startswith((".", "-")) or len(name.encode()) > 200:
        raise UsageError(
            f"{name!r} cannot be the name of {'an' if kind[0] in 'aeiou' else 'a'} {kind}",
            hint="use 1 to 200 bytes that begin with neither '.' nor '-' nor a blank",
        )
    bad = sorted({c for c in name if c == "/" or not c.isprintable()})
    if bad:
        raise UsageError(
            f"the name of {kind} {name!r} contains {bad[0]!r}", hint="use printable characters without '/'"
        )
    return name


def unfinished(path: Path, mark: str) -> Path:
    """Return the hidden name beside a large file under which it is written."""
    return path.with_name(f".{path.name}.{mark}.partial")


def unfinished_files(path: Path) -> list[Path]:
    """Return such files on disk."""
    return sorted(path.parent.glob(f".{glob.escape(path.name)}.*.partial"))


def is_temporary(name: str) -> bool:
    """Return whether something of this name is being written or deleted, or was when its writer died."""
    if name.startswith("."):
        return name.endswith((".tmp", ".partial", ".deleted")) or name.startswith(
            (".released.", ".removed.", EXAMINATION)
        )
    return False


def names_in(folder: Path) -> list[str]:
    """List a folder once; one that is not there is empty."""
    return os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 - texts, not thousands of paths


def run_key(run_id: str) -> str:
    """Return the 16 hexadecimal characters that stand for a run where its id cannot (file names, outbox)."""
    return hashlib.sha256(run_id.encode()).hexdigest()[:16]


def numbered(folder: Path) -> list[Path]:
    """Return the folders in `folder` whose names are numbers (001, 002, ...), highest first."""
    found = [path for path in folder.iterdir() if ATTEMPT.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name), reverse=True)


@dataclass(frozen=True)
class OutboxName:
    """What the name of an empty file in the outbox says.

    Attributes
    ----------
    key : str
        `run_key` of the run.
    state : str
        The word of a `RunState`.
    """

    key: str
    attempt: int
    incarnation: int
    state: str
    code: int

    def __str__(self) -> str:
        return f"{self.key}.{self.attempt:03d}.r{self.incarnation}.{self.state}.{self.code}"

    @classmethod
    def parse(cls, name: str) -> OutboxName | None:
        """Read a file name; None if it is not one of ours."""
        match = _OUTBOX.fullmatch(name)
        return cls(match[1], int(match[2]), int(match[3]), match[4], int(match[5])) if match else None


@dataclass(frozen=True)
class TrustLayout:
    """What the user has trusted: `trusted/` in the user's own settings, one file an answer."""

    path: Path

    def record(self, name: str) -> Path:
        return self.path / "trusted" / name
