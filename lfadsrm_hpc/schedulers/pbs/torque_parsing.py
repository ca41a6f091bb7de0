"""What Torque prints, read without trust: XML of `qstat -x`, text of `qstat -f`, the plain table. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lfadsrm_hpc.manifest.evidence import Seen
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.batch import PLAIN
from lfadsrm_hpc.schedulers.pbs.ends import code_and_signal, killed, seconds_since_1970, whole_number

_ID = re.compile(r"(\d+)(?:\[(\d*)\]|-(\d+))?(?:\.\S*)?")
_JOB = re.compile(r"<Job>(.*?)</Job>", re.DOTALL)
_BLOCK = re.compile(r"<(Resource_List|resources_used)>(.*?)</\1>", re.DOTALL)
_LEAF = re.compile(r"<([A-Za-z_][\w.-]*)>([^<]*)</\1>")
_ROW = re.compile(
    r"(?P<id>\d+(?:\[\d*\]|-\d+)?(?:\.\S*)?)\s+(?P<name>\S+)\s+\S+\s+\S+\s+(?P<state>[A-Z])\s+\S+\s*"
)
_RUNNING = {"R": "", "E": "ending", "S": "suspended"}
_WAITING = {"Q": "", "T": "is being moved", "W": "waits for its time"}
_SPECIAL = {
    -12: (RunState.TIMEOUT, False, "it used up the CPU time that it is allowed"),
    -11: (RunState.TIMEOUT, True, "its walltime was over"),
    -10: (RunState.OUT_OF_MEMORY, True, "it used more memory than it asked for"),
}


@dataclass(frozen=True)
class TorqueRecord:
    """One job, array or task of an array.

    Attributes
    ----------
    id : str
    attributes : dict of str to str
    """

    id: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def number(self) -> str:
        match = _ID.fullmatch(self.id)
        return match[1] if match else ""

    @property
    def index(self) -> str | None:
        """The index of a task, "" for an array as a whole, None for a plain job."""
        match = _ID.fullmatch(self.id)
        return (match[2] if match[2] is not None else match[3]) if match else None

    @property
    def name(self) -> str:
        """The name that the job was given; tasks of arrays show it with their index."""
        name = self.attributes.get("Job_Name", "")
        return name.removesuffix(f"-{self.index}").removesuffix(f"[{self.index}]") if self.index else name

    @property
    def state(self) -> str:
        return self.attributes.get("job_state", "")

    def variable(self, name: str) -> str:
        """Return one of the variables that the job was given; "" where it cannot be seen."""
        match = re.search(rf"(?:^|,){re.escape(name)}=([^,]*)", self.attributes.get("Variable_List", ""))
        return match[1] if match else ""


@dataclass(frozen=True)
class TorqueAnswer:
    """What one call of qstat printed.

    Attributes
    ----------
    jobs : tuple of TorqueRecord
    whole : bool
        Nothing is missing, as far as can be seen.
    """

    jobs: tuple[TorqueRecord, ...] = ()
    whole: bool = False


def _records(found: Iterable[tuple[str, list[tuple[str, str]]]]) -> tuple[TorqueRecord, ...]:
    """Return one record an id; what is told in two ways is not told."""
    records: dict[str, dict[str, str]] = {}
    contested: set[tuple[str, str]] = set()
    for name, pairs in found:
        told = records.setdefault(name, {})
        contested |= {(name, key) for key, value in pairs if told.setdefault(key, value) != value}
    return tuple(
        TorqueRecord(name, {key: value for key, value in told.items() if (name, key) not in contested})
        for name, told in records.items()
    )


def parse_xml(text: str) -> TorqueAnswer:
    """Read what `qstat -x` printed: nothing at all where there are no jobs."""
    if not text.strip():
        return TorqueAnswer(whole=True)
    found = []
    for block in _JOB.findall(text):
        pairs: list[tuple[str, str]] = []
        for name, inner in _BLOCK.findall(block):
            pairs += [(f"{name}.{key}", html.unescape(value)) for key, value in _LEAF.findall(inner)]
        pairs += [(key, html.unescape(value)) for key, value in _LEAF.findall(_BLOCK.sub("", block))]
        names = {value for key, value in pairs if key == "Job_Id"}
        if len(names) == 1 and _ID.fullmatch(name := names.pop().strip()):
            found.append((name, [(key, value.strip()) for key, value in pairs]))
    started, ended = text.count("<Job>"), text.rstrip().endswith("</Data>")
    return TorqueAnswer(_records(found), ended and started == len(found))


def parse_full(text: str) -> TorqueAnswer:
    """Read what `qstat -f` printed; long values go on in lines that start with a tab."""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    for line in text.replace("\r", "").replace("\n\t", "").splitlines():
        head = re.fullmatch(r"Job Id:\s*(\S+)\s*", line)
        if head and _ID.fullmatch(head[1]):
            found.append((head[1], []))
        elif found and (pair := re.fullmatch(r" {4}([\w.]+) = (.*)", line)):
            found[-1][1].append((pair[1], pair[2].strip()))
    # Every job is followed by an empty line: one that is not may have been cut.
    whole = not text.strip() or (bool(found) and text.endswith("\n\n"))
    if found and not whole:
        found.pop()
    return TorqueAnswer(_records(found), whole)


def parse_table(text: str) -> TorqueAnswer:
    """Read the plain table: states, and no word about how anything ended."""
    found = []
    rows = [line for line in text.splitlines() if re.match(r"\d", line)]
    for line in rows:
        match = _ROW.fullmatch(line)
        if match:
            pairs = [("Job_Name", match["name"]), ("job_state", match["state"])]
            found.append((match["id"], pairs))
    whole = len(found) == len(rows) and (not text.strip() or (bool(rows) and text.endswith("\n")))
    return TorqueAnswer(_records(found), whole)


def seen_of(record: TorqueRecord) -> Seen:
    """Return what a record says of the task that it is about."""
    word, told = record.state, record.attributes
    host = told.get("exec_host", "")
    if word == "C":
        return _end_of(told)
    if word in _RUNNING:
        return Seen(RunState.RUNNING, word, _RUNNING[word], host=host)
    if word == "H":
        return Seen(RunState.HELD, word, told.get("comment", "") or "held")
    if word in _WAITING:
        return Seen(RunState.PENDING, word, _WAITING[word] or told.get("comment", ""))
    return Seen(RunState.UNKNOWN, word)


def _end_of(told: Mapping[str, str]) -> Seen:
    status, host = whole_number(told.get("exit_status")), told.get("exec_host", "")
    ended = seconds_since_1970(told.get("comp_time", ""))

    def end(state: RunState, reason: str, curable: bool = True) -> Seen:
        code, signal = code_and_signal(status) if status is not None else (None, None)
        return Seen(state, "C", reason, curable, code, signal, host=host, ended=ended)

    if not host and "start_time" not in told and "Job_Owner" in told and status in (None, 271):
        return end(RunState.CANCELLED, "deleted before it ran")
    if status is None:
        return end(RunState.UNKNOWN, "it has ended, but there is no exit status")
    if status in _SPECIAL:
        state, curable, reason = _SPECIAL[status]
        return end(state, reason, curable)
    if status < 0:
        return end(RunState.NODE_FAIL, f"the node could not start it, or gave it up: status {status}")
    if status == 0:
        return end(RunState.COMPLETED, "")
    state, curable, reason = killed(told, code_and_signal(status)[1])
    if state is RunState.FAILED and status == 271:  # qdel sends TERM, as nobody else does
        return end(RunState.CANCELLED, "deleted")
    return end(state, reason, curable)


def tasks_of(answer: TorqueAnswer, number: str, indices: Iterable[int]) -> dict[int, Seen] | None:
    """Return what an answer says of the tasks of one job; None where the job does not stand in it."""
    mine = {record.index: record for record in answer.jobs if record.number == number}
    if not mine:
        return None
    found = {}
    for index in indices:
        record = mine.get(None if index == PLAIN else str(index))
        if record is not None:
            found[index] = seen_of(record)
        elif index != PLAIN and "" in mine and answer.whole:
            found[index] = _of_array(mine[""])
    return found


def _of_array(whole: TorqueRecord) -> Seen:
    """Return what an array as a whole says of a task that is not listed: only that it waits."""
    seen = seen_of(whole)
    if seen.state in (RunState.PENDING, RunState.HELD):
        return seen
    return Seen(RunState.UNKNOWN, whole.state, "the array does not say what has become of this task")
