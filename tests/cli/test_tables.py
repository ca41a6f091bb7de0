"""What people see of states: cells, spans of time, what is shown where there is little room."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.cli.run import headline, most_telling
from lfadsrm_hpc.cli.status import duration, progress_cells, remark
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.states import RunState

RUNNING = RunStatus("r", RunState.RUNNING, progress={"phase": "training", "epoch": 0, "eta_s": 61.0})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (200, "3m20s"),
        (7500, "2h05m"),
        (273600, "3d4h"),
        (None, ""),
        (float("nan"), ""),
        (-1, ""),
    ],
)
def test_duration(seconds: Any, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("progress", "cells"),
    [
        ({}, ("", "", "", "")),
        ({"phase": "training", "epoch": 0, "max_epochs": 5, "eta_s": 61.0}, ("0/5", "", "", "1m01s")),
        ({"epoch": 7, "train_total": 1.25, "valid_total": float("nan")}, ("7", "1.2", "", "")),
        ({"phase": "posterior means", "epoch": 7}, ("7", "", "", "posterior means")),
    ],
)
def test_progress(progress: dict[str, Any], cells: tuple[str, ...]) -> None:
    assert progress_cells(RunStatus("r", RunState.RUNNING, progress=progress)) == cells


def test_remarks() -> None:
    assert remark(RunStatus("r", RunState.FAILED, reason="killed")) == "killed"
    assert remark(RunStatus("r", RunState.FAILED, reason="bad_data")) == "bad data"
    assert remark(RunStatus("r", RunState.LOST, reason="lost")) == ""
    assert remark(RunStatus("r", RunState.RUNNING, heartbeat_age_s=95.0)) == "silent for 1m35s"
    assert remark(RunStatus("r", RunState.RUNNING, heartbeat_age_s=30.0)) == ""
    assert remark(RunStatus("r", RunState.COMPLETED, started=100.0, ended=161.0)) == "took 1m01s"
    assert remark(RunStatus("r", RunState.COMPLETED)) == ""


def test_headline() -> None:
    other = RunStatus("r", RunState.RUNNING, progress={"eta_s": 5.0})
    text = headline([RUNNING, other, RunStatus("r", RunState.FAILED)])
    assert text[8:] == "  2 running, 1 failed; those running need about 1m01s more"


def test_where_there_is_no_room_for_all_those_that_work_are_shown() -> None:
    words = ["COMPLETED", "PREPARED", "FAILED", "RUNNING", "COMPLETED", "RUNNING"]
    states = [RunStatus("r", RunState(word)) for word in words]
    assert most_telling(states, 9) == [0, 1, 2, 3, 4, 5]
    assert most_telling(states, 4) == [0, 2, 3, 5]
    assert most_telling(states, 3) == [2, 3, 5]
    assert most_telling(states, 0) == [3]


def on_a_terminal(words: list[str], columns: int, environment: dict[str, str], cwd: Path) -> tuple[int, str]:
    """Run a command on a terminal of its own; return how it ended and all that it showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "lfadsrm_hpc", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env=environment | {"COLUMNS": str(columns), "LINES": "40", "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    return process.wait(60), shown.decode()


def test_live_progress_on_a_terminal(shell: Any, experiment: Path, plan: Any) -> None:
    plan(all=(2.5, 0))
    code, shown = on_a_terminal(["run", "--spec", "all"], 110, shell.environment, experiment)
    assert code == 0
    assert "running" in shown
    assert "3/9" in shown
    assert shown.count("completed") >= 2
    assert "\x1b[?25h" in shown, "the cursor is not given back"


def test_a_narrow_terminal_hides_no_message(shell: Any, experiment: Path, plan: Any) -> None:
    plan(all=(0.1, 1))
    assert shell("run", experiment, "--spec", "all").code == 5
    code, shown = on_a_terminal(["status"], 72, shell.environment, experiment)
    assert code == 0
    assert shown.count("/all: the planned failure\r\n") == 2
