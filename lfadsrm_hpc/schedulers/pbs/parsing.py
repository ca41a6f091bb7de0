"""What PBS Pro prints, read without trust: answers of qstat, and what they say of a task. Pure.

Two ways lead into an answer. JSON is read as such where it is valid. Where it is not (older versions print
quotes and numbers of the user's variables as they are) or where it was cut, it is read line by line: every
attribute stands on a line of its own, and only a job whose closing brace was seen counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from lfadsrm_hpc.manifest.evidence import Seen
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.batch import PLAIN
from lfadsrm_hpc.schedulers.pbs.ends import end_of, seconds_since_1970, whole_number

STUCK_S = 300
"""A job that has been ending for so long hangs, as one whose output cannot be written does."""

_ID = re.compile(r"(\d+)(?:\[(\d*)\])?(?:\.\S*)?")
_LINE = re.compile(r'([ \t]*)"([^"]*)"\s*:\s*(.*?)\s*,?\s*')
_CLOSED = re.compile(r"([ \t]*)\},?\s*")
_BEGAN = re.compile(r"Job Array Began at|Job run at|Job was sent for execution")
_HOLDS = {
    "u": "held by its user (`qrls` lets it go)",
    "o": "held by an operator",
    "s": "held by the system, as for a dependency or after failed starts",
    "p": "held for a bad password",
}
_RUNNING = {"R": "", "E": "", "S": "suspended by the server", "U": "suspended: its machine is in use"}
_WAITING = {"Q": "", "T": "is being moved", "W": "waits for its time, or for files to be staged in"}
ENDED = ("F", "X")


@dataclass(frozen=True)
class JobRecord:
    """One job, array or sub-job of an answer.

    Attributes
    ----------
    id : str
        "123.server", "123[].server", "123[4].server".
    attributes : dict of str to str
        Scalars only; numbers as texts. Of an attribute that was given twice in two ways there is none.
        Resources stand as "Resource_List.walltime".
    variables : dict of str to str
        Variable_List. What looked like a number may have lost its form.
    """

    id: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def number(self) -> str:
        match = _ID.fullmatch(self.id)
        return match[1] if match else ""

    @property
    def index(self) -> str | None:
        """The index of a sub-job, "" for an array as a whole, None for a plain job."""
        match = _ID.fullmatch(self.id)
        return match[2] if match else None

    @property
    def state(self) -> str:
        return self.attributes.get("job_state", "")


@dataclass(frozen=True)
class Answer:
    """What one call of qstat printed.

    Attributes
    ----------
    jobs : tuple of JobRecord
    whole : bool
        Nothing is missing, as far as can be seen. A job that is not there may be believed to be absent.
    time : float or None
        When it was given, by the server's clock (s since 1970).
    """

    jobs: tuple[JobRecord, ...] = ()
    whole: bool = False
    time: float | None = None


def number_of(job: str) -> str:
    """Return the leading digits of a job id; "" where there are none. The rest differs between servers."""
    match = re.match(r"\d+", job.strip())
    return match[0] if match else ""


# -- reading ---------------------------------------------------------------------------------------------


class _Pairs(list[tuple[str, object]]):
    """An object of JSON with all of its keys, those that stand there twice as well."""


def parse_answer(text: str) -> Answer:
    """Read what `qstat -f -F json` printed. Never raises: what cannot be read is left out."""
    start = text.find("{")
    if start < 0:
        return Answer()
    try:
        decoder = json.JSONDecoder(object_pairs_hook=_Pairs, strict=False)
        content, end = decoder.raw_decode(text, start)
    except (ValueError, RecursionError):
        return _by_lines(text)
    if not isinstance(content, _Pairs) or text[end:].lstrip().startswith(","):
        return Answer()
    top = dict(content)
    jobs = top.get("Jobs", _Pairs())
    if "timestamp" not in top or not isinstance(jobs, _Pairs):
        return Answer()
    records = [_record(name, value) for name, value in jobs if isinstance(value, _Pairs)]
    whole = len(records) == len(jobs) and all(_ID.fullmatch(record.id) for record in records)
    return Answer(_unique(records), whole, _number(top["timestamp"]))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e12 else None


def _record(name: str, pairs: _Pairs) -> JobRecord:
    scalars: list[tuple[str, str]] = []
    variables: list[tuple[str, str]] = []
    for key, value in pairs:
        if isinstance(value, _Pairs):
            inner = [(str(k), _text(v)) for k, v in value if not isinstance(v, list)]
            if key == "Variable_List":
                variables += inner
            else:
                scalars += [(f"{key}.{k}", v) for k, v in inner]
        elif not isinstance(value, list):
            scalars.append((key, _text(value)))
    return JobRecord(name, _agreed(scalars), dict(variables))


def _text(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    try:
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    except ValueError:  # a number of thousands of digits
        return ""


def _agreed(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what is said once, or twice in the same way."""
    found: dict[str, str] = {}
    contested = set()
    for key, value in pairs:
        if found.setdefault(key, value) != value:
            contested.add(key)
    return {key: value for key, value in found.items() if key not in contested}


def _unique(records: Iterable[JobRecord]) -> tuple[JobRecord, ...]:
    """Return one record a job; one that is told of in two ways has no state."""
    found: dict[str, JobRecord] = {}
    for record in records:
        other = found.get(record.id)
        if other is not None and other.attributes != record.attributes:
            record = replace(record, attributes={})
        found[record.id] = record
    return tuple(found.values())


def _by_lines(text: str) -> Answer:
    """Read an answer that is no valid JSON: line by line, by indentation."""
    reader = _LineReader()
    for line in text.splitlines():
        reader.read(line)
    whole = reader.closed and reader.open is None and not reader.doubtful
    return Answer(_unique(reader.records), whole, reader.time)


class _LineReader:
    """Reads lines such as `\\t\\t\\t"job_state":\\t"R",`; knows by their indentation what they belong to."""

    def __init__(self) -> None:
        self.records: list[JobRecord] = []
        self.open: str | None = None
        self.closed = False
        self.doubtful = False
        self.time: float | None = None
        self._indents: list[int] = []  # of "Jobs", of a job's name, of its attributes
        self._scalars: list[tuple[str, str]] = []
        self._variables: list[tuple[str, str]] = []
        self._block = ""

    def read(self, line: str) -> None:
        match = _LINE.fullmatch(line)
        if match:
            self.closed = False
            self._keyed(len(match[1]), match[2], match[3])
            return
        end = _CLOSED.fullmatch(line)
        if end is None:
            return  # a value that went on over the end of its line
        indent = len(end[1])
        if self.open is not None and len(self._indents) > 1 and indent == self._indents[1]:
            self.records.append(JobRecord(self.open, _agreed(self._scalars), dict(self._variables)))
            self.open = None
        elif indent == 0:
            self.closed = True

    def _keyed(self, indent: int, key: str, value: str) -> None:
        if not self._indents:
            if key == "timestamp" and re.fullmatch(r"\d{1,12}", value):
                self.time = float(value)
            if key == "Jobs" and value.startswith("{"):
                self._indents = [indent]
            return
        if len(self._indents) < 3 and indent > self._indents[-1]:
            self._indents.append(indent)
        depth = self._indents.index(indent) if indent in self._indents else 3
        if depth == 1 and value.startswith("{"):
            self.doubtful |= self.open is not None or _ID.fullmatch(key) is None
            self.open, self._scalars, self._variables = key, [], []
        elif depth == 2 and self.open is not None:
            self._block = key if value == "{" else ""
            if not self._block:
                self._scalars.append((key, _raw(value)))
        elif depth == 3 and self.open is not None and self._block == "Variable_List":
            self._variables.append((key, _raw(value)))
        elif depth == 3 and self.open is not None and self._block:
            self._scalars.append((f"{self._block}.{key}", _raw(value)))


def _raw(value: str) -> str:
    """Return a value that stands on one line, whatever quotes it holds."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1].replace('\\"', '"').replace("\\/", "/").replace("\\\\", "\\")
    return value


# -- meaning ---------------------------------------------------------------------------------------------


def seen_of(record: JobRecord, answer: Answer, *, history: bool, parent: JobRecord | None = None) -> Seen:
    """Return what a record says of the task that it is about.

    Parameters
    ----------
    record : JobRecord
        A plain job, or a sub-job (never an array as a whole: its own state means nothing for its tasks).
    answer : Answer
        It stands in this one.
    history : bool
        The server keeps ended jobs: then a sub-job without a host never ran. Where it does not, the record of
        every ended sub-job is gone, and its parent's attributes stand in its place.
    parent : JobRecord, optional
        The array that it belongs to.
    """
    word = record.state
    told = record.attributes
    host = told.get("exec_host", "")
    if word in ENDED:
        return end_of(word, told, is_subjob=parent is not None, history=history)
    if word in _RUNNING:
        reason = _RUNNING[word] or _stuck(record, answer)
        return Seen(RunState.RUNNING, word, reason, host=host)
    if word == "H" or (parent is not None and parent.state == "H" and word in _WAITING):
        return Seen(RunState.HELD, word, _held(told))
    if word in _WAITING:
        return Seen(RunState.PENDING, word, _WAITING[word] or waits_for(told))
    reason = "moved to another server" if word == "M" else ""
    return Seen(RunState.UNKNOWN, word, reason)


def waits_for(attributes: Mapping[str, str]) -> str:
    """Return why a job waits, for people."""
    comment = attributes.get("comment", "").strip()
    if _BEGAN.match(comment):
        return ""  # the array's own comment, which its waiting sub-jobs show
    return comment.removeprefix("Not Running:").strip()


def never_runs(attributes: Mapping[str, str]) -> bool:
    """Return whether the scheduler says that nothing here can run the job."""
    return attributes.get("comment", "").lstrip().lower().startswith("can never run")


def _held(attributes: Mapping[str, str]) -> str:
    holds = [_HOLDS[letter] for letter in attributes.get("Hold_Types", "") if letter in _HOLDS]
    return "; ".join([*holds, *filter(None, [waits_for(attributes)])])


def _stuck(record: JobRecord, answer: Answer) -> str:
    if record.state != "E":
        return ""
    since = seconds_since_1970(record.attributes.get("mtime", ""))
    if since is None or answer.time is None or answer.time - since < STUCK_S:
        return "ending"
    minutes = (answer.time - since) / 60
    return f"has been ending for {minutes:.0f} minutes: can its output ({_output(record)}) be written?"


def _output(record: JobRecord) -> str:
    return record.attributes.get("Output_Path", "").partition(":")[2] or "path unknown"


def tasks_of(answer: Answer, number: str, indices: Iterable[int], *, history: bool) -> dict[int, Seen] | None:
    """Return what an answer says of the tasks of one job; None where the job does not stand in it.

    Sub-jobs that wait may be left out of a list: then the array tells which indices remain. Of one that has
    ended, and of which the server keeps no record, nothing is said: as of a plain job that it has forgotten.
    """
    mine = [record for record in answer.jobs if record.number == number]
    if not mine:
        return None
    plain = next((record for record in mine if record.index is None), None)
    parent = next((record for record in mine if record.index == ""), None)
    listed = {record.index: record for record in mine if record.index}
    found: dict[int, Seen] = {}
    for index in indices:
        record = plain if index == PLAIN else listed.get(str(index))
        if record is not None:
            if index != PLAIN and not history and _is_forgotten(record):
                continue
            above = parent or JobRecord("") if index != PLAIN else None
            found[index] = seen_of(record, answer, history=history, parent=above)
        elif parent is not None and index != PLAIN and answer.whole:
            found[index] = _not_listed(parent, index)
    return found


def _is_forgotten(record: JobRecord) -> bool:
    """Return whether a sub-job has ended (it is never started again) and shows what its array is at."""
    told = record.attributes
    finished = told.get("comment", "").strip().lower() == "subjob finished"
    return record.state in ENDED and finished and "exec_host" not in told


def _not_listed(parent: JobRecord, index: int) -> Seen:
    """Return what an array says of a sub-job that has no line of its own."""
    word, told = parent.state, parent.attributes
    waits = index in indices_of(told.get("array_indices_remaining", ""))
    if word == "H":
        return Seen(RunState.HELD, word, _held(told))
    if word in _WAITING or (word == "B" and waits):
        return Seen(RunState.PENDING, "Q", waits_for(told))
    if word == "F" and whole_number(told.get("substate")) == 91 and "stime" not in told:
        return Seen(RunState.CANCELLED, word, "deleted while it was queued", live=False)
    return Seen(RunState.UNKNOWN, word, "the array does not say what has become of this task")


def indices_of(text: str) -> set[int]:
    """Read the indices of "2-9", "5,7-9", "0-9:3"; an empty set for "-" and for what cannot be read."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,7})(?:-(\d{1,7})(?::(\d{1,7}))?)?\s*", part)
        if match:
            found.update(range(int(match[1]), int(match[2] or match[1]) + 1, int(match[3] or 1) or 1))
    return found
