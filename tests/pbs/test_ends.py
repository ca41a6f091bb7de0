"""Exit statuses, and what else tells how a job ended."""

from __future__ import annotations

import pytest

from lfadsrm_hpc.manifest.states import RunState as S
from lfadsrm_hpc.schedulers.pbs.ends import code_and_signal, end_of, seconds_since_1970

RAN = {"exec_host": "n1/0", "substate": "93"}


@pytest.mark.parametrize(
    ("status", "substate", "state", "code", "signal", "curable"),
    [
        (0, 92, S.COMPLETED, 0, None, True),
        (1, 93, S.FAILED, 1, None, True),
        (75, 93, S.FAILED, 75, None, True),
        (127, 93, S.FAILED, 127, None, True),
        (128, 93, S.FAILED, 128, None, True),
        (137, 93, S.FAILED, None, 9, True),
        (139, 93, S.FAILED, None, 11, True),
        (265, 93, S.FAILED, None, 9, True),
        (271, 93, S.FAILED, None, 15, True),
        (271, 91, S.CANCELLED, None, 15, True),
        (0, 91, S.CANCELLED, 0, None, True),
        (0, 93, S.UNKNOWN, 0, None, True),
        (-1, 93, S.NODE_FAIL, None, None, True),
        (-2, 93, S.NODE_FAIL, None, None, True),
        (-3, 93, S.NODE_FAIL, None, None, True),
        (-14, 93, S.NODE_FAIL, None, None, True),
        (-20, 93, S.NODE_FAIL, None, None, True),
        (-24, 93, S.FAILED, None, None, True),
        (-26, 93, S.OUT_OF_MEMORY, None, None, True),
        (-27, 93, S.OUT_OF_MEMORY, None, None, True),
        (-28, 93, S.TIMEOUT, None, None, False),
        (-29, 93, S.TIMEOUT, None, None, True),
        (-29, 91, S.TIMEOUT, None, None, True),
        (-99, 93, S.UNKNOWN, None, None, True),
    ],
)
def test_exit_status(
    status: int, substate: int, state: S, code: int | None, signal: int | None, curable: bool
) -> None:
    told = {"exec_host": "n1/0", "Exit_status": str(status), "substate": str(substate)}
    seen = end_of("F", told, is_subjob=False, history=True)
    assert (seen.state, seen.code, seen.signal, seen.curable) == (state, code, signal, curable)
    assert seen.host == "n1/0"
    assert not seen.live


def test_killed_at_the_end_of_the_walltime_or_of_the_memory() -> None:
    told = RAN | {
        "Exit_status": "271",
        "resources_used.walltime": "01:00:03",
        "Resource_List.walltime": "01:00:00",
    }
    assert end_of("F", told, is_subjob=False, history=True).state is S.TIMEOUT
    told |= {"resources_used.walltime": "00:59:00"}
    assert end_of("F", told, is_subjob=False, history=True).state is S.FAILED
    told = RAN | {"Exit_status": "137", "resources_used.mem": "1048570kb", "Resource_List.mem": "1gb"}
    assert end_of("F", told, is_subjob=False, history=True).state is S.OUT_OF_MEMORY
    told |= {"resources_used.mem": "300mb"}
    assert end_of("F", told, is_subjob=False, history=True).state is S.FAILED
    told |= {"comment": "Cgroup mem limit exceeded: oom-kill"}
    assert end_of("F", told, is_subjob=False, history=True).state is S.OUT_OF_MEMORY
    told |= {"comment": "Job run at Sun on (n1) and exceeded resource walltime"}
    assert end_of("F", told, is_subjob=False, history=True).state is S.TIMEOUT


@pytest.mark.parametrize("parent_status", ["0", "1", "271", "-29"])
def test_a_subjob_without_a_host_shows_its_arrays_status(parent_status: str) -> None:
    told = {"Exit_status": parent_status, "substate": "93", "comment": "Subjob finished"}
    assert end_of("X", told, is_subjob=True, history=True).state is S.CANCELLED
    assert end_of("X", told, is_subjob=True, history=False).state is S.UNKNOWN
    told["comment"] = "Subjob failed"
    assert end_of("X", told, is_subjob=True, history=False).state is S.FAILED
    told["comment"] = "Subjob terminated"
    assert end_of("X", told, is_subjob=True, history=False).state is S.CANCELLED
    assert end_of("X", told, is_subjob=True, history=True).code is None


def test_signals() -> None:
    assert code_and_signal(256 + 15) == (None, 15)
    assert code_and_signal(256 + 100) == (None, None)
    assert code_and_signal(255) == (255, None)


def test_times() -> None:
    assert seconds_since_1970("1795352159") == 1795352159
    first, second = (seconds_since_1970(f"Sun Nov {day} 12:55:48 2026") for day in (" 1", "02"))
    assert first is not None
    assert second is not None
    assert second - first == 86400
    for text in ("", "yesterday", "Sun Nix 22 12:55:48 2026", "-5", "9" * 40):
        assert seconds_since_1970(text) is None
