"""What Slurm's client programs print, read into rows: strict about damage, open to new words.

An answer is believed whole or not at all. `squeue` is asked for its header and for a mark at both ends of
each row, `sacct` for its header and for a bar at the end of each line: so an answer that was lost or cut is
not taken for one that names few jobs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lfadsrm_hpc.manifest.evidence import Seen
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.batch import PLAIN, Job

QUEUE_FIELDS = ("%F", "%K", "%T", "%N", "%e", "%V", "%r", "%j")
FIND_FIELDS = ("%F", "%K", "%T", "%N", "%e", "%V", "%k", "%j")
HISTORY_FIELDS = (
    "JobID", "State", "ExitCode", "Submit", "Start", "End", "NodeList", "Comment", "JobName",
)  # fmt: skip

_PENDING, _HELD, _RUNNING = RunState.PENDING, RunState.HELD, RunState.RUNNING
STATES = {
    **dict.fromkeys(
        ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "POWER_UP_NODE", "EXPEDITING"), _PENDING
    ),
    **dict.fromkeys(("REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT", "SUSPENDED", "STOPPED"), _HELD),
    **dict.fromkeys(("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING", "UPDATE_DB"), _RUNNING),
    "COMPLETED": RunState.COMPLETED,
    "FAILED": RunState.FAILED,
    "TIMEOUT": RunState.TIMEOUT,
    "DEADLINE": RunState.TIMEOUT,  # a moment that the user named has passed: more time does not help
    "OUT_OF_MEMORY": RunState.OUT_OF_MEMORY,
    "NODE_FAIL": RunState.NODE_FAIL,
    "BOOT_FAIL": RunState.NODE_FAIL,
    "PREEMPTED": RunState.PREEMPTED,
    "CANCELLED": RunState.CANCELLED,
    "REVOKED": RunState.CANCELLED,  # a federation gave the job to another cluster
}
# These can end without ever having run; all others without a start are phantoms.
_END_UNSTARTED = {"CANCELLED", "DEADLINE", "BOOT_FAIL", "REVOKED"}
_HOLDING = re.compile(r"held|hold", re.IGNORECASE)  # JobHeldUser, JobHoldMaxRequeue, "... in held state"
_RECORD = re.compile(r"^lf\{(.*?)\}lf$", re.DOTALL | re.MULTILINE)
_ROW = re.compile(
    r"(\d{1,10})(?:\+\d+)?\|(N/A|[0-9,:%-]+)\|([A-Z][A-Z_]*)\|([^|\n]*)\|([^|\n]*)\|([^|\n]*)\|(.*)\|([^|]*)",
    re.DOTALL | re.ASCII,
)
_STATE = re.compile(r"[A-Z][A-Z_]*(?: by \S+)?")
_JOB_ID = re.compile(r"(\d{1,10})(?:\+\d+)?(?:_(?:(\d{1,10})|\[([0-9,:%-]+)\]))?", re.ASCII)
_PART = re.compile(r"(\d{1,10})(?:-(\d{1,10})(?::(\d{1,10}))?)?", re.ASCII)


class DamagedError(ValueError):
    """An answer that cannot be read whole."""


@dataclass(frozen=True)
class Row:
    """What one row says of a plain job, of a task of an array, or of a range of tasks.

    Attributes
    ----------
    job : str
        Id of the job or of its array.
    ranges : tuple of range
        Indices; empty: a plain job.
    word : str
        The state, as Slurm writes it.
    reason, host, name, comment, cluster : str
    submitted, started, ended : float or None
        Seconds since 1970.
    code, signal : int or None
    """

    job: str
    ranges: tuple[range, ...]
    word: str
    reason: str = ""
    host: str = ""
    name: str = ""
    comment: str = ""
    cluster: str = ""
    submitted: float | None = None
    started: float | None = None
    ended: float | None = None
    code: int | None = None
    signal: int | None = None

    @property
    def state(self) -> RunState:
        state = STATES.get(self.word.split()[0], RunState.UNKNOWN)
        if state is RunState.PENDING and _HOLDING.search(self.reason):
            return RunState.HELD
        return state

    @property
    def is_range(self) -> bool:
        """It speaks of several tasks together."""
        return len(self.ranges) > 1 or any(len(part) > 1 for part in self.ranges)

    def names(self, index: int) -> bool:
        """Return whether it speaks of the task with this index (`PLAIN`: of a plain job)."""
        return not self.ranges if index == PLAIN else any(index in part for part in self.ranges)

    def seen(self, *, live: bool) -> Seen:
        state = self.state
        return Seen(
            state=state,
            word=self.word,
            reason=self.reason,
            curable=self.word != "DEADLINE",
            code=self.code,
            signal=self.signal,
            host=self.host,
            # squeue tells of a running job when it will end at the latest
            ended=self.ended if state.is_final else None,
            live=live,
        )


def queue_format(fields: Sequence[str]) -> str:
    """Return the text for squeue's `--format`."""
    return "lf{" + "|".join(fields) + "}lf"


def read_queue(text: str, *, comment: bool = False) -> list[Row]:
    """Read what squeue prints with `queue_format(QUEUE_FIELDS)`, or with `FIND_FIELDS` where `comment`.

    Names and reasons of other people's jobs may hold bars and line ends.

    Raises
    ------
    DamagedError
        The header is missing, or something is neither a whole row nor the name of a cluster.
    """
    rows: list[Row] = []
    headers, place, cluster = 0, 0, ""
    for match in _RECORD.finditer(text):
        cluster = _cluster(text[place : match.start()], cluster)
        place = match.end()
        if match.group(1).startswith("ARRAY_JOB_ID|"):
            headers += 1
            continue
        rows.append(_queue_row(match.group(1), comment, cluster))
    _cluster(text[place:], cluster)
    if not headers or not text.endswith("\n"):
        raise DamagedError("squeue's answer is cut")
    return rows


def _cluster(between: str, before: str) -> str:
    """Return the cluster that the lines between two rows announce; with several clusters squeue does so."""
    for line in between.splitlines():
        if line.startswith("CLUSTER: "):
            before = line.removeprefix("CLUSTER: ").strip()
        elif line.strip():
            raise DamagedError(f"squeue's answer has a line that is no row: {line[:80]!r}")
    return before


def _queue_row(record: str, comment: bool, cluster: str) -> Row:
    match = _ROW.fullmatch(record)
    if match is None:
        raise DamagedError(f"squeue's answer has a row that cannot be read: {record[:80]!r}")
    job, task, word, host, ended, submitted, words, name = match.groups()
    words = "" if words in ("None", "(null)") else words
    return Row(
        job=job,
        ranges=() if task == "N/A" else read_indices(task),
        word=word,
        reason="" if comment else words,
        comment=words if comment else "",
        host=host,
        name=name,
        cluster=cluster,
        submitted=read_time(submitted),
        ended=read_time(ended),
    )


def read_history(text: str) -> list[Row]:
    """Read what sacct prints with a header, fields between bars, and without steps (`-X`).

    Rows of steps and of further parts of heterogeneous jobs are passed over.

    Raises
    ------
    DamagedError
        The header is missing, or a line has another number of fields.
    """
    lines = text.split("\n")
    header = lines[0].split("|")
    if not {"JobID", "State"} <= set(header) or lines.pop() != "":
        raise DamagedError("sacct's answer is cut")
    rows = []
    for line in lines[1:]:
        fields = line.split("|")
        if len(fields) != len(header) or (header[-1] == "" and fields[-1] != ""):
            raise DamagedError(f"sacct's answer has a line that cannot be read: {line[:80]!r}")
        row = _history_row(dict(zip(header, fields, strict=True)))
        if row is not None:
            rows.append(row)
    return rows


def _history_row(fields: dict[str, str]) -> Row | None:
    job, word = fields["JobID"], fields["State"]
    if "." in job or re.search(r"\+[1-9]", job):
        return None
    match = _JOB_ID.fullmatch(job)
    if match is None or _STATE.fullmatch(word) is None:
        raise DamagedError(f"sacct's answer has a row that cannot be read: {job[:40]!r}, {word[:40]!r}")
    code, signal = read_exit_code(fields.get("ExitCode", ""))
    host = fields.get("NodeList", "")
    return Row(
        job=match.group(1),
        ranges=read_indices(match.group(2) or match.group(3) or ""),
        word=word,
        host="" if host == "None assigned" else host,
        name=fields.get("JobName", ""),
        comment=fields.get("Comment", ""),
        submitted=read_time(fields.get("Submit", "")),
        started=read_time(fields.get("Start", "")),
        ended=read_time(fields.get("End", "")),
        code=code,
        signal=signal,
    )


def read_indices(text: str) -> tuple[range, ...]:
    """Read indices of an array: `4`, `0-9`, `1-400:3%7`, `0,3-5`; "" has none.

    Raises
    ------
    DamagedError

    Examples
    --------
    >>> read_indices("0,3-9:3%2")
    (range(0, 1), range(3, 10, 3))
    """
    found = []
    for part in text.partition("%")[0].split(",") if text else ():
        match = _PART.fullmatch(part)
        if match is None:
            raise DamagedError(f"no indices of an array: {text[:40]!r}")
        first, last, step = (int(word) if word else None for word in match.groups())
        assert first is not None
        found.append(range(first, (first if last is None else last) + 1, step or 1))
    return tuple(found)


def read_time(text: str) -> float | None:
    """Read a time, in seconds since 1970 as we ask for or in local time; None: it has none (N/A, Unknown)."""
    if re.fullmatch(r"\d{1,12}", text, re.ASCII):
        return float(text)
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return None


def read_exit_code(text: str) -> tuple[int | None, int | None]:
    """Read `code:signal`; None for both where it is something else, None for no signal."""
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text, re.ASCII)
    if match is None:
        return None, None
    return int(match.group(1)), int(match.group(2)) or None


def live_tasks(rows: Iterable[Row], job: Job) -> dict[int, Row]:
    """Return the rows of the live queue that speak of a job, by index; a task's own row wins over a range."""
    return _by_task((row for row in rows if _belongs(row, job)), job)


def ended_tasks(rows: Iterable[Row], job: Job) -> dict[int, Row]:
    """Return the rows of the history that tell how tasks of a job ended, or say an unknown word.

    The newest row counts (a requeued job may have several), and a task's own row before one of a range. What
    the history says of tasks that wait or run is stale beside the live queue. An end without a time, or
    without a start where there must have been one, is not believed, and of a range only that it was
    cancelled.
    """
    mine = [row for row in rows if _belongs(row, job)]
    mine.sort(key=lambda row: row.submitted or 0.0)
    return {index: row for index, row in _by_task(mine, job).items() if _is_end(row)}


def _is_end(row: Row) -> bool:
    word = row.word.split()[0]
    if row.state is RunState.UNKNOWN:
        return not row.is_range
    if not row.state.is_final or row.ended is None:
        return False
    if row.is_range:
        return word == "CANCELLED"
    return row.started is not None or word in _END_UNSTARTED


def _belongs(row: Row, job: Job) -> bool:
    # Ids are used again when a cluster is set up anew; names are not.
    return row.job == job_number(job.id) and (not job.name or not row.name or row.name == job.name)


def _by_task(rows: Iterable[Row], job: Job) -> dict[int, Row]:
    """Return the last row that speaks of each task; rows of ranges only where there is no other."""
    found: dict[int, Row] = {}
    ranges: list[Row] = []
    for row in rows:
        if row.is_range:
            ranges.append(row)
        elif not row.ranges:
            if not job.size:
                found[PLAIN] = row
        elif row.ranges[0].start in job.indices:
            found[row.ranges[0].start] = row
    for row in ranges:
        for index in job.indices:
            if row.names(index) and (index not in found or found[index].is_range):
                found[index] = row
    return found


def job_number(job: str) -> str:
    """Return the digits that an id begins with: `12` of `12;cluster`, `12_[3-9%2]`, `12+0`."""
    match = re.match(r"\d+", job, re.ASCII)
    return match.group() if match else job


def read_receipt(text: str) -> tuple[str, str] | None:
    """Read what `sbatch --parsable` prints: the job's id and, where it says so, the cluster; None: neither.

    Sites may print more lines around it; a cut one, without its line end, is not believed.

    Examples
    --------
    >>> read_receipt("123;perlmutter\\n")
    ('123', 'perlmutter')
    """
    found = re.findall(r"^(\d+)(?:;([A-Za-z0-9_.-]+))?\r?\n", text, re.MULTILINE | re.ASCII)
    return (found[0][0], found[0][1]) if len(found) == 1 else None


def write_elements(job: str, indices: Sequence[int], *, longest: int = 1000) -> list[str]:
    """Return words that name some tasks of an array, none longer than `longest` characters where it can be.

    Examples
    --------
    >>> write_elements("12", [0, 1, 2, 7])
    ['12_[0-2,7]']
    """
    parts: list[str] = []
    for first, last in _runs(sorted(set(indices))):
        parts.append(str(first) if first == last else f"{first}-{last}")
    words: list[str] = []
    line = ""
    for part in parts:
        if line and len(line) + len(part) >= longest:
            words.append(f"{job}_[{line}]")
            line = ""
        line = f"{line},{part}" if line else part
    return [*words, f"{job}_[{line}]"] if line else words


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def shows_throttle(text: str, most: int) -> bool:
    """Return whether `scontrol -o show job` shows the throttle of an array's waiting tasks as `most`, or no
    waiting tasks at all."""
    waiting = [line for line in text.splitlines() if " JobState=PENDING " in line]
    throttles = {number for line in waiting for number in re.findall(r" ArrayTaskThrottle=(\d+)", line)}
    return not waiting or throttles == ({str(most)} if most else set())
