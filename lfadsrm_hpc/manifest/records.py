"""The records of the manifest: what the small JSON files say, and how they are read.

Every record is one JSON object in UTF-8, one key a line (so that a shell can grep it), written once. Readers
ignore keys that they do not know and take what is missing as unknown: newer and older versions of this
package read each other's files. Times are seconds since 1970 (UTC) by the writer's clock; they are shown to
people and never compared between machines.

The exit record `attempts/<nnn>/exit.r<k>.json`
    written by Python, or by a shell when Python died (template `exit_record.sh.j2`), beside its place and
    then linked, so the first one wins:

    ============== ============= ===============================================================
    key            value         meaning
    ============== ============= ===============================================================
    code           integer       0 done, 1 failed, 65 bad data, 75 checkpointed, 128+n: signal n
    signal         integer|null  the signal that ended the process; 0 or null: none
    reason         string        done, failed, bad_data, checkpointed, timeout, lost, killed
    host           string        where it ran
    ended          number        when it ended
    started        number|null   optional: when it was claimed
    peak_memory_mb number|null   optional: greatest resident memory
    message        string        optional: the error as one text, for people
    token          string        the claim's token; a shell leaves it out
    writer         string        optional: "python" or "shell"
    ============== ============= ===============================================================

    Only a record with code 0 *and* the token of its claim completes a run: a shell cannot know whether
    every file is in place, so nothing that it writes is ever read as success.

What a shell prints, and how it publishes it (`$attempt` is the attempt's folder, `$k` the incarnation)::

    printf '{\n  "code": %d,\n  "signal": %d,\n  "reason": "%s",\n  "host": "%s",\n  "ended": %d,\n  "writer": "shell"\n}\n' \\
        "$code" "$signal" "$reason" "$host" "$(date +%s)" > "$attempt/.exit.r$k.json.$$.tmp"
    ln "$attempt/.exit.r$k.json.$$.tmp" "$attempt/exit.r$k.json"; rm -f "$attempt/.exit.r$k.json.$$.tmp"
"""  # noqa: E501 - the line of shell is one line

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from lfadsrm_hpc.errors import ManifestError
from lfadsrm_hpc.manifest.evidence import same_job
from lfadsrm_hpc.manifest.process import Process, boot_id, hostname
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.plain_files import parse_json

DONE = "done"
FAILED = "failed"
BAD_DATA = "bad_data"
CHECKPOINTED = "checkpointed"
TIMEOUT = "timeout"
LOST = "lost"
KILLED = "killed"
CANCELLED = "cancelled"
SUPERSEDED = "superseded"
# Reasons for which attempts are closed on a scheduler's word
DEADLINE = "deadline"  # out of time, and more time would not help
OUT_OF_MEMORY = "out_of_memory"
NODE_FAIL = "node_fail"
PREEMPTED = "preempted"
NO_RECORD = "no_record"  # the job says that it completed; the run does not
NEVER_STARTED = "never_started"  # the scheduler does not know the job any more, and nothing ever claimed
NOT_SUBMITTED = "not_submitted"  # reserved, but certainly never handed to a scheduler

NO_TRY = frozenset({SUPERSEDED, NOT_SUBMITTED})
"""An unclaimed attempt that was closed for one of these counts as if it had never been."""

CAUSES = frozenset({TIMEOUT, DEADLINE, OUT_OF_MEMORY, NODE_FAIL, PREEMPTED, CANCELLED})
"""What a scheduler can say of why a process was killed."""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_NOT_OURS = 64
EXIT_BAD_DATA = 65
EXIT_CHECKPOINTED = 75
_SIGNAL_BASE = 128

_REASONS = {
    EXIT_DONE: DONE,
    EXIT_FAILED: FAILED,
    EXIT_NOT_OURS: LOST,
    EXIT_BAD_DATA: BAD_DATA,
    EXIT_CHECKPOINTED: CHECKPOINTED,
}
_STATES = {
    DONE: RunState.COMPLETED,
    CHECKPOINTED: RunState.PREEMPTED,
    TIMEOUT: RunState.TIMEOUT,
    LOST: RunState.LOST,
    CANCELLED: RunState.CANCELLED,
    SUPERSEDED: RunState.LOST,
    DEADLINE: RunState.TIMEOUT,
    OUT_OF_MEMORY: RunState.OUT_OF_MEMORY,
    NODE_FAIL: RunState.NODE_FAIL,
    PREEMPTED: RunState.PREEMPTED,
    NEVER_STARTED: RunState.LOST,
    NOT_SUBMITTED: RunState.LOST,
}

LOCAL = "local"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

T = TypeVar("T")


def reason_of(code: int) -> str:
    """Return the reason that an exit code stands for when nothing else is known."""
    return KILLED if code > _SIGNAL_BASE else _REASONS.get(code, FAILED)


def state_of(code: int, reason: str) -> RunState:
    """Return the state of a run whose newest incarnation ended with this code and reason."""
    if code == EXIT_DONE:
        return RunState.COMPLETED
    state = _STATES.get(reason, RunState.FAILED)
    return RunState.FAILED if state is RunState.COMPLETED else state


def new_ulid(now: float | None = None) -> str:
    """Return a ULID: 26 characters that sort by time (milliseconds) and are never given twice.

    Source: https://github.com/ulid/spec
    """
    milliseconds = round((time.time() if now is None else now) * 1000)
    number = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def ulid_time(ulid: str) -> float:
    """Return the time in a ULID, in seconds since 1970."""
    milliseconds = 0
    for letter in ulid[:10]:
        milliseconds = milliseconds * 32 + _CROCKFORD.index(letter)
    return milliseconds / 1000


def new_token() -> str:
    """Return 32 random hexadecimal characters: the mark by which an incarnation knows its own files."""
    return os.urandom(16).hex()


@dataclass(frozen=True)
class Identity:
    """Who asked a task to run: two starts with the same identity are incarnations of one attempt.

    Attributes
    ----------
    cluster : str
        Name of the cluster, or "local".
    job : str
        Job id; on the local queue `<host>/<boot id>/<submission>`.
    task : str
        Array index; on the local queue the number of the task in the queue.
    submission : str
        ULID of the submission; empty for a task started by hand.
    """

    cluster: str
    job: str
    task: str
    submission: str = ""

    @classmethod
    def local(cls, submission: str, task: int | str) -> Identity:
        """Return the identity of a task of a local queue on this machine and boot."""
        return cls(LOCAL, f"{hostname()}/{boot_id()}/{submission}", str(task), submission)

    def is_same_task(self, other: Identity) -> bool:
        """Return whether two starts are of one task. A scheduler may write a job's id in two ways."""
        if (self.cluster, self.task, self.submission) != (other.cluster, other.task, other.submission):
            return False
        return self.job == other.job or (self.cluster != LOCAL and same_job(self.job, other.job))


@dataclass(frozen=True)
class Reservation:
    """An attempt was taken: `reserved.json`.

    Attributes
    ----------
    submission : str
        For whom.
    process : Process or None
        The process that reserved it; None in records of older versions, which were made ahead.
    ahead : bool
        For a scheduler: the job claims it, perhaps days later. Otherwise `process` means to claim it at once.
    """

    submission: str
    reserved: float = 0.0
    process: Process | None = None
    ahead: bool = False

    @property
    def is_ahead(self) -> bool:
        """The attempt waits for a scheduler, not for the process that reserved it."""
        return self.ahead or self.process is None


@dataclass(frozen=True)
class Claim:
    """One incarnation owns an attempt: `claim.r<k>.json`.

    Attributes
    ----------
    redo : bool
        It was asked to work on a run that may be complete (posterior means again): what earlier attempts
        completed counts no longer as the run's state, though it can be loaded until it is replaced.
    """

    attempt: int
    incarnation: int
    identity: Identity
    process: Process
    token: str
    claimed: float = 0.0
    redo: bool = False

    def __str__(self) -> str:
        name = f"{self.attempt:03d}.r{self.incarnation}"
        return f"attempt {name}, process {self.process.pid} on {self.process.host}"


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life from the training loop: `heartbeat.r<k>`.

    Attributes
    ----------
    progress : dict
        Plain JSON values such as epoch, step, max_epochs, costs, eta_s (seconds); what is not finite is None.
    """

    token: str
    written: float = 0.0
    progress: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Exit:
    """How an incarnation ended: `exit.r<k>.json`; see this module's text for the keys."""

    code: int
    reason: str
    signal: int | None = None
    host: str = ""
    started: float | None = None
    ended: float | None = None
    peak_memory_mb: float | None = None
    message: str = ""
    token: str = ""
    writer: str = "python"

    @property
    def state(self) -> RunState:
        return state_of(self.code, self.reason)


@dataclass(frozen=True)
class Closed:
    """An attempt was given up: `closed.json`. Its task, should it still live, ends with 64.

    Attributes
    ----------
    reason : str
        A word; `state_of` says which state it stands for.
    message : str
        The words of the scheduler on which it rests, for people.
    """

    reason: str
    closed: float = 0.0
    host: str = ""
    submission: str = ""
    message: str = ""


@dataclass(frozen=True)
class Cancellation:
    """Somebody cancelled runs: `cancel-<ulid>.json`.

    Attributes
    ----------
    runs : dict of str to int
        Run id to the newest attempt at that time (0: none yet). Later attempts are not covered: they were
        asked for afterwards. -1: earlier cancellations of the run are lifted (its outputs were deleted).
    """

    ulid: str
    runs: Mapping[str, int]
    cancelled: float = 0.0
    host: str = ""


def to_json(record: object) -> bytes:
    """Write a record as JSON, one key a line; numbers that are not finite become null."""
    text = json.dumps(_plain(asdict(record)), indent=2, allow_nan=False, ensure_ascii=True)  # type: ignore[call-overload]
    return text.encode() + b"\n"


def _plain(value: Any) -> Any:
    """Turn numpy scalars and the like into what JSON has."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__index__"):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None


def from_json(cls: type[T], data: bytes) -> T:
    """Read a record; unknown keys are ignored.

    Raises
    ------
    ManifestError
        It is not a JSON object, lacks a key that it needs, or a value has the wrong type.
    """
    try:
        value = parse_json(data)
        if not isinstance(value, dict):
            raise TypeError(f"a JSON object is needed, not {type(value).__name__}")
        return _build(cls, value)
    except (ValueError, TypeError, KeyError) as error:
        raise ManifestError(f"a {cls.__name__} record cannot be read: {error}") from error


def _build(cls: type[T], value: Mapping[str, Any]) -> T:
    anything: Any = cls
    kinds, several = _kinds(anything), _lists(anything)
    known: dict[str, Any] = {
        name: _several(kinds[name], value[name], name)
        if name in several
        else _as(kinds[name], value[name], name)
        for name in kinds
        if value.get(name) is not None  # null means not known, like an absent key
    }
    if cls is Exit:
        known["signal"] = known.get("signal") or None
        known.setdefault("reason", reason_of(known.get("code", EXIT_FAILED)))
    return cls(**known)


@cache
def _kinds(cls: type) -> dict[str, type]:
    """Return the plain type of each field of a record: `int` for `int | None`."""
    kinds = {}
    for name, hint in get_type_hints(cls).items():
        one = next((arg for arg in get_args(hint) if arg is not type(None)), hint)
        kinds[name] = dict if get_origin(hint) is not None and issubclass(get_origin(hint), Mapping) else one
    return kinds


@cache
def _lists(cls: type) -> frozenset[str]:
    """Return the fields of a record that are lists."""
    return frozenset(name for name, hint in get_type_hints(cls).items() if get_origin(hint) is tuple)


def _several(kind: type, value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{name} is {value!r}, not a list")
    return tuple(_as(kind, item, name) for item in value)


def _as(kind: type, value: Any, name: str) -> Any:
    if is_dataclass(kind) and isinstance(value, Mapping):
        return _build(kind, value)
    wanted = (int, float) if kind is float else kind
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, wanted):
        raise TypeError(f"{name} is {value!r}, not of type {kind.__name__}")
    return value if kind is dict else kind(value)
