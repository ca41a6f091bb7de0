"""The experiment or collection itself: can it be read, is it prepared, which versions wrote it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.collection.roster import Roster
from lfadsrm_hpc.doctor.checks import Found, absent, ok, problem, warning
from lfadsrm_hpc.doctor.python_side import release
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest.reading import read_record
from lfadsrm_hpc.manifest.submissions import Plan
from lfadsrm_hpc.plain_files import read_json

_MOST_LOOKED_AT = 200  # runs, spread over all: each costs a question to the file server
_MOST_FILES = 20


def collection(path: Path | None) -> Callable[[], Found]:
    """Return the check whether a collection can be read and its runs are prepared."""

    def look() -> Found:
        if path is None or not CollectionLayout(path).collection_json.is_file():
            return absent("there is no run collection yet: `lfadsrm init`, then `lfadsrm prepare`")
        roster = Roster.open(path)
        count = len(roster.entries)
        some = roster.entries[:: max(1, count // _MOST_LOOKED_AT)]
        lacking = [one.id for one in some if not roster.layout.run_by_id(one.id).params_json.is_file()]
        said = f"{path}: {count} runs, {len(roster.specs)} run specs"
        if lacking:
            return problem(f"{said}; {lacking[0]} is not prepared", "lfadsrm prepare makes what is missing")
        return ok(f"{said}, prepared", runs=count, run_specs=len(roster.specs))

    return look


def versions(path: Path | None) -> Callable[[], Found]:
    """Return the check which versions of this package wrote a collection."""

    def look() -> Found:
        if path is None or not CollectionLayout(path).collection_json.is_file():
            return absent("there is no run collection yet")
        wrote = sorted({*_versions_in(CollectionLayout(path))}, key=release)
        if not wrote:
            return absent("it does not say")
        said = f"written by {', '.join(wrote)}; this is {__version__}"
        if release(wrote[-1]) > release(__version__):
            return warning(said, "a newer version wrote it: update lfadsrm_hpc, as everybody who works on it")
        return ok(said, versions=wrote)

    return look


def _versions_in(layout: CollectionLayout) -> Iterator[str]:
    with suppress(OSError, ValueError, AttributeError):
        found = read_json(layout.collection_json).get("version")
        if isinstance(found, str):
            yield found
    for submission in layout.submissions()[-_MOST_FILES:]:
        plan, _ = read_record(Plan, submission.plan)
        if plan is not None and plan.version:
            yield plan.version
