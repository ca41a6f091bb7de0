"""How a job of PBS Pro or Torque ended: its exit status, and what else tells why. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from lfadsrm_hpc.manifest.evidence import Seen
from lfadsrm_hpc.manifest.states import RunState

TERMINATED, FINISHED, FAILED_SUBSTATE = 91, 92, 93

# Exit statuses that PBS Pro gives itself: (state, curable, words).
_SPECIAL = {
    -29: (RunState.TIMEOUT, True, "its walltime was over"),
    -28: (RunState.TIMEOUT, False, "it used up the CPU time that it is allowed"),
    -27: (RunState.OUT_OF_MEMORY, True, "it used more memory than it asked for"),
    -26: (RunState.OUT_OF_MEMORY, True, "it used more virtual memory than it asked for"),
    -25: (RunState.FAILED, True, "it used more CPUs than it asked for"),
    -24: (RunState.FAILED, True, "it used more CPUs than it asked for"),
    -20: (RunState.NODE_FAIL, True, "its node was lost"),
    -19: (RunState.FAILED, True, "a hook of the site deleted it"),
    -17: (RunState.FAILED, True, "a hook of the site deleted it"),
    -14: (RunState.NODE_FAIL, True, "one of its nodes was lost"),
}
_START_FAILURES = range(-23, 0)  # the rest: the node could not start it, or gave it up

_EXCEEDED = re.compile(r"exceeded resource (\w+)")
_CGROUP = re.compile(r"cgroup mem\w* limit exceeded", re.IGNORECASE)
_MEMORY = {"mem", "pmem", "vmem", "pvmem"}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNITS = {"b": 0, "kb": 1, "mb": 2, "gb": 3, "tb": 4, "pb": 5, "w": 0, "kw": 1, "mw": 2, "gw": 3}


def end_of(word: str, told: Mapping[str, str], *, is_subjob: bool, history: bool) -> Seen:
    """Return how a job of PBS Pro ended whose state is `word` (F or X).

    Parameters
    ----------
    word : str
    told : dict of str to str
        Its attributes (`JobRecord.attributes`).
    is_subjob : bool
        Then its attributes are its array's own unless it has a host: of those only the comment is about it.
    history : bool
        The server keeps ended jobs.
    """
    live, ended = word == "X", _ended(told)
    if not told.get("exec_host") and (is_subjob or whole_number(told.get("Exit_status")) is None):
        return _without_host(word, told, is_subjob=is_subjob, history=history)
    state, curable, reason, code, signal = _of_status(told)
    return Seen(
        state, word, reason, curable, code, signal, host=told.get("exec_host", ""), ended=ended, live=live
    )


def _without_host(word: str, told: Mapping[str, str], *, is_subjob: bool, history: bool) -> Seen:
    live = word == "X"
    comment = told.get("comment", "").strip().lower()
    if is_subjob and comment == "subjob failed":
        return Seen(RunState.FAILED, word, "the server has forgotten how it failed", live=live)
    if is_subjob and comment == "subjob finished" and not history:
        # It may have run to its end, or have been deleted while it waited.
        return Seen(RunState.UNKNOWN, word, "ended; the server keeps no record of how", live=live)
    if not is_subjob and whole_number(told.get("substate")) not in (TERMINATED, FINISHED, FAILED_SUBSTATE):
        return Seen(RunState.UNKNOWN, word, "the server does not say how it ended", live=live)
    reason = "deleted before it ran"
    if "depend" in told:
        reason += f" (it depended on {told['depend']})"
    return Seen(RunState.CANCELLED, word, reason, ended=None if is_subjob else _ended(told), live=live)


def _of_status(
    told: Mapping[str, str],
) -> tuple[RunState, bool, str, int | None, int | None]:
    """Return state, curable, reason, code, signal."""
    status, substate = whole_number(told.get("Exit_status")), whole_number(told.get("substate"))
    comment = told.get("comment", "").strip()
    if status is None:
        if substate == TERMINATED:
            return RunState.CANCELLED, True, deleted_by(comment), None, None
        return RunState.UNKNOWN, True, "it has ended, but there is no exit status", None, None
    code, signal = code_and_signal(status)
    if status < 0:
        return (*_special(status, comment), code, signal)
    exceeded = _EXCEEDED.search(comment)
    if exceeded and exceeded[1] == "walltime":
        return RunState.TIMEOUT, True, "its walltime was over", code, signal
    if (exceeded and exceeded[1] in _MEMORY) or _CGROUP.search(comment):
        return RunState.OUT_OF_MEMORY, True, "it used more memory than it asked for", code, signal
    if substate == TERMINATED:
        return RunState.CANCELLED, True, deleted_by(comment), code, signal
    if status == 0:
        if substate not in (None, FINISHED):
            return RunState.UNKNOWN, True, f"exit status 0, but substate {substate}", code, signal
        return RunState.COMPLETED, True, "", code, signal
    return (*killed(told, signal), code, signal)


def _special(status: int, comment: str) -> tuple[RunState, bool, str]:
    if status in _SPECIAL:
        return _SPECIAL[status]
    if status in _START_FAILURES:
        words = f" ({comment})" if comment else ""
        return RunState.NODE_FAIL, True, f"the node could not start it, or gave it up: status {status}{words}"
    return RunState.UNKNOWN, True, f"exit status {status}"


def code_and_signal(status: int) -> tuple[int | None, int | None]:
    """Split an exit status: up to 127 the program's, 128 + n and 256 + n a signal; negative: neither."""
    if status < 0:
        return None, None
    if status > 256:
        return None, (status - 256 if status <= 256 + 64 else None)
    if 128 < status <= 128 + 64:
        return None, status - 128
    return status, None


def killed(told: Mapping[str, str], signal: int | None) -> tuple[RunState, bool, str]:
    """Return state, curable and reason of a task that failed by itself or by a signal."""
    if signal in (9, 15):
        used, limit = (
            _seconds(told.get("resources_used.walltime")),
            _seconds(told.get("Resource_List.walltime")),
        )
        if used is not None and limit and used >= limit:
            return RunState.TIMEOUT, True, "its walltime was over"
        memory, most = _bytes(told.get("resources_used.mem")), _bytes(told.get("Resource_List.mem"))
        if signal == 9 and memory is not None and most and memory >= 0.95 * most:
            return RunState.OUT_OF_MEMORY, True, "killed, and it had used all the memory that it asked for"
    return RunState.FAILED, True, ""


def deleted_by(comment: str) -> str:
    """Return who deleted a job, as far as its comment tells."""
    match = re.search(r"terminated by (\S+)", comment)
    return f"deleted by {match[1]}" if match else "deleted"


def _ended(told: Mapping[str, str]) -> float | None:
    stamp = whole_number(told.get("history_timestamp"))
    if stamp is not None and 0 < stamp < 1e12:
        return float(stamp)
    return seconds_since_1970(told.get("obittime", ""))


def whole_number(text: str | None) -> int | None:
    """Return the whole number that a text is; None where it is none."""
    return int(text) if text is not None and re.fullmatch(r"\s*[+-]?[0-9]{1,15}\s*", text) else None


def seconds_since_1970(text: str) -> float | None:
    """Read "Sun Nov  2 12:55:48 2026", which qstat prints in the time zone of this machine, or a number."""
    match = re.fullmatch(r"\s*\w{3}\s+(\w{3})\s+(\d{1,2})\s+(\d\d):(\d\d):(\d\d)\s+(\d{4})\s*", text)
    if match is None:
        number = whole_number(text)
        return float(number) if number is not None and 0 < number < 1e12 else None
    if match[1] not in _MONTHS:
        return None
    day, hour, minute, second, year = (int(part) for part in match.group(2, 3, 4, 5, 6))
    try:
        return time.mktime((year, _MONTHS.index(match[1]) + 1, day, hour, minute, second, 0, 0, -1))
    except (OverflowError, ValueError):
        return None


def _seconds(text: str | None) -> float | None:
    if text is None or not re.fullmatch(r"(\d{1,6}:){0,2}\d{1,9}", text.strip()):
        return None
    total = 0
    for part in text.split(":"):
        total = total * 60 + int(part)
    return float(total)


def _bytes(text: str | None) -> float | None:
    match = re.fullmatch(r"\s*(\d{1,18})\s*([a-zA-Z]{0,2})\s*", text or "")
    if match is None or match[2].lower() not in {"", *_UNITS}:
        return None
    unit = match[2].lower()
    return float(match[1]) * 1024.0 ** _UNITS.get(unit, 0) * (8 if unit.endswith("w") else 1)
