"""The index: a cache of what runs are at, so that `status` of thousands of runs opens hardly a file.

`index-<n>.json` holds a row for each run whose state rests on files alone: it has ended, or waits for a
scheduler. With it go marks: the modification times of the folder of its attempts and of each attempt's own.
Whatever is written there (a new attempt, a claim, a heartbeat, an exit record, a closing) changes one of
them, so a row is believed while its marks are what the disk says. Two things besides decide a state: the
cancellations on record, which are compared too, and the time, which decides nothing for these runs.

A folder that changed a moment before it was read could change again within the same tick of the clock and
keep its time. Like git's index, a row is therefore kept only if its marks are older than `RACY_S`, by the
clock of the file system.

An index is never rewritten: the next number is published by link(2), which fails if somebody else was faster,
and then the older ones are removed. It may be deleted at any time: nothing is known from it alone.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, fields
from functools import cache, cached_property
from typing import Any

from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest.disk import ATTEMPTS, attempt_name
from lfadsrm_hpc.manifest.facts import LATENCY_S
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.publish import publish_new
from lfadsrm_hpc.manifest.records import Claim, Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.plain_files import read_json

FORMAT = 1
RACY_S = LATENCY_S  # clocks of machines that write into one folder (Lustre takes theirs) may differ by less
LEAST_NEW = 20
_SHARE_NEW = 200  # one row in so many: a new index costs 5 us a row, a run that it lacks 150 us at each look

_STATES = {state.value: state for state in RunState}
_AGES = ("heartbeat_age_s", "silent_s")  # kept as moments, since ages grow
_PLAIN = ("attempt", "incarnation", "code", "reason")  # fields that nearly every row has
_FIELDS = [f.name for f in fields(RunStatus)]  # an index by a version that knows others is not believed
_MORE = set(_FIELDS) - {"run_id", "state", *_PLAIN}
_BLANK = vars(RunStatus("", RunState.PREPARED))

Marks = Sequence[int]
Row = list[Any]  # marks, the attempt that a cancellation covers, state, the fields of _PLAIN, other fields


class Index:
    """The newest index of a collection, and what was learnt since.

    Parameters
    ----------
    layout : CollectionLayout
    now : float
        By the clock of the file system, s.
    """

    def __init__(self, layout: CollectionLayout, now: float) -> None:
        self.layout, self.now = layout, now
        self.learnt: dict[str, Row | None] = {}  # None: nothing to keep

    def __enter__(self) -> Index:
        # Looks that start at the collection are a tenth faster than those that start at the root.
        self._root = os.open(self.layout.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    @cached_property
    def _read(self) -> tuple[int, dict[str, Row]]:
        return _read_newest(self.layout)

    def find(self, run_id: str, covered: int | None) -> RunStatus | None:
        """Return what a run is at; None: it is not known, or may have changed.

        Parameters
        ----------
        run_id : str
        covered : int or None
            The newest attempt that a cancellation covers.
        """
        row = self._read[1].get(run_id)
        if row is None:
            return None
        attempts = f"{run_id}/{ATTEMPTS}"
        try:
            marks = row[0]
            if row[1] != covered or _changed(attempts, self._root) != marks[0]:
                return None
            for number in range(1, len(marks)):
                if _changed(f"{attempts}/{attempt_name(number)}", self._root) != marks[number]:
                    return None
            return _status(run_id, row, self.now)
        except (OSError, KeyError, TypeError, ValueError, IndexError):
            return None  # deleted, or a damaged row

    def learn(self, status: RunStatus, marks: Marks | None, covered: int | None) -> None:
        """Keep what a run is at, which will not change by itself.

        Parameters
        ----------
        status : RunStatus
        marks : sequence of int or None
            Of `disk.attempts_of`; None: they could not be had.
        covered : int or None
            The newest attempt that a cancellation covers.
        """
        if marks is None or max(marks) > (self.now - RACY_S) * 1e9:
            self.learnt[status.run_id] = None
            return
        row = [list(marks), covered, status.state.value, *(getattr(status, name) for name in _PLAIN)]
        self.learnt[status.run_id] = [*row, _more(status, self.now)]

    def drop(self, run_id: str) -> None:
        """Forget a run."""
        self.learnt[run_id] = None

    def publish(self) -> bool:
        """Write the next index, if enough has been learnt; return whether this call did.

        Where nothing can be written (somebody else's collection, a full disk) it does without.
        """
        if len(self.learnt) < LEAST_NEW or not self.layout.state_dir.is_dir():
            return False
        number, rows = self._read
        new = {
            run: row for run, row in self.learnt.items() if row is not None and _differ(row, rows.get(run))
        }
        if len(new) < max(LEAST_NEW, len(rows) // _SHARE_NEW):
            return False
        kept = {run: row for run, row in rows.items() if self.learnt.get(run, row) is not None}
        content = {"format": FORMAT, "fields": _FIELDS, "runs": {**kept, **new}}
        try:
            data = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
            if not publish_new(self.layout.index(number + 1), data):
                return False
        except (OSError, TypeError, ValueError):  # the last two: a value that JSON has not
            return False
        for older in self.layout.index_numbers():
            if older <= number:
                with contextlib.suppress(OSError):
                    self.layout.index(older).unlink()
        return True


def _changed(folder: str, root: int) -> int:
    return os.stat(folder, dir_fd=root).st_mtime_ns


def _differ(row: Row, before: Row | None) -> bool:
    return not isinstance(before, list) or before[:-1] != row[:-1]  # ages are never twice the same


def _newest_number(layout: CollectionLayout) -> int:
    return max(layout.index_numbers(), default=0)


def _read_newest(layout: CollectionLayout) -> tuple[int, dict[str, Row]]:
    """Return the newest index's number and rows; no rows where it is damaged or of another version."""
    number = 0
    for _ in range(3):  # it may be replaced, and removed, while we look
        number = _newest_number(layout)
        if number == 0:
            break
        try:
            content = read_json(layout.index(number))
            if content["format"] == FORMAT and content["fields"] == _FIELDS:
                return number, dict(content["runs"])
            break
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError):
            break
    return number, {}


def _more(status: RunStatus, now: float) -> dict[str, Any] | None:
    """Return the fields that are not blank, as plain values; None: all are."""
    found: dict[str, Any] = {}
    for name, value in vars(status).items():
        if name not in _MORE or value == _BLANK[name]:
            continue
        if name in _AGES:
            value = now - value
        elif isinstance(value, Process):
            value = astuple(value)
        elif isinstance(value, Claim):
            value = asdict(value)
        found[name] = value
    return found or None


def brief_status(
    run_id: str,
    state: RunState,
    attempt: int | None = None,
    incarnation: int | None = None,
    code: int | None = None,
    reason: str | None = None,
    cancelled: bool = False,
) -> RunStatus:
    """Return a status with these fields alone.

    Ten thousand times through a frozen dataclass's own __init__ would take as long as all the rest.
    """
    status = object.__new__(RunStatus)
    status.__dict__.update(
        _BLANK,
        run_id=run_id,
        state=state,
        attempt=attempt,
        incarnation=incarnation,
        code=code,
        reason=reason,
        cancelled=cancelled,
    )
    return status


def copy_for(status: RunStatus, run_id: str) -> RunStatus:
    """Return the same status of another run."""
    copy = object.__new__(RunStatus)
    copy.__dict__.update(status.__dict__, run_id=run_id)
    return copy


def _status(run_id: str, row: Row, now: float) -> RunStatus:
    _, _, state, attempt, incarnation, code, reason, more = row
    status = brief_status(run_id, _STATES[state], attempt, incarnation, code, reason)
    if more:
        status.__dict__.update(_built(more, now))
    return status


def _built(more: Mapping[str, Any], now: float) -> dict[str, Any]:
    found = dict(more)
    if "before" in found:
        found["before"] = _STATES[found["before"]]
    if "reserved_by" in found:  # one process plans thousands of runs
        found["reserved_by"] = _process(*found["reserved_by"])
    if "claim" in found:
        claim = found["claim"]
        parts = {"identity": Identity(**claim["identity"]), "process": Process(**claim["process"])}
        found["claim"] = Claim(**{**claim, **parts})
    for name in _AGES:
        if name in found:
            found[name] = max(0.0, now - found[name])
    return found


@cache
def _process(*values: Any) -> Process:
    return Process(*values)
