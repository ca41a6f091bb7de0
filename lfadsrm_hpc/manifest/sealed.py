"""Whose scripts a submission holds: only those that the user has planned or trusted are handed over.

A plan that is on disk is gone on with later, by whoever submits again: in a collection that several people
write, or that came from elsewhere, its scripts and commands may be anybody's. What a user plans is on record
in that user's own settings (`trust.py`), by its content and its id, wherever the collection lies.
"""

from __future__ import annotations

import contextlib
import hashlib

from lfadsrm_hpc.errors import ConfigError, ManifestError, UntrustedError
from lfadsrm_hpc.layout import SubmissionLayout
from lfadsrm_hpc.plain_files import read_bytes
from lfadsrm_hpc.trust import is_own, is_trusted, remember, trusting


def remember_planned(layout: SubmissionLayout, plan: bytes) -> None:
    """Put on record that a submission is the user's own, before its plan appears and after its scripts.

    Where there is no place for such records, going on with it later asks.
    """
    if is_own(layout.path):
        return
    with contextlib.suppress(ConfigError):
        remember(trust_key(layout), _sealed(layout, plan), "a submission")


def trust_key(layout: SubmissionLayout) -> str:
    """Return the name by which a submission is remembered; its collection may move."""
    return f"submission {layout.ulid}"


def trust_content(layout: SubmissionLayout) -> bytes:
    """Return what of a submission ends up as commands, as it is on disk.

    Raises
    ------
    ManifestError
        It cannot be read.
    """
    try:
        return _sealed(layout, read_bytes(layout.plan))
    except OSError as error:
        raise ManifestError(
            f"this submission cannot be read: {error.strerror}", where=error.filename or layout.path
        ) from None


def require_trust(layout: SubmissionLayout) -> None:
    """Refuse a submission that the user has neither planned nor trusted.

    Its scripts would run as the user, whoever wrote them into the collection.

    Raises
    ------
    UntrustedError
    """
    if not is_own(layout.path) and not is_trusted(trust_key(layout), trust_content(layout)):
        raise UntrustedError(
            "somebody else has planned this submission; its scripts would run as you",
            where=layout.path,
            hint=trusting(layout.path),
            place=layout.path,
        )


def _sealed(layout: SubmissionLayout, plan: bytes) -> bytes:
    files = [layout.tasks, *layout.scripts()]
    parts = [("", plan), *((path.relative_to(layout.path).as_posix(), read_bytes(path)) for path in files)]
    return "".join(f"{hashlib.sha256(data).hexdigest()} {name}\n" for name, data in parts).encode()
