"""What is large is asked about: at a terminal; without one it is refused, unless --yes agrees."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.cli import confirming
from lfadsrm_hpc.errors import NotConfirmedError, UsageError
from lfadsrm_hpc.manifest import store

LOCAL = ("--site", "local")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (f"LFADSRM_CONFIRM_{limit}" for limit in confirming.LIMITS):
        monkeypatch.delenv(name, raising=False)


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def waiting(small: Path) -> RunCollection:
    collection = RunCollection.open(small)
    for run in collection.runs:
        store.reserve(run.layout, "01JZZZZZZZZZZZZZZZZZZZZZZZ")
    return collection


def test_submitting_many_is_refused_without_a_terminal(
    experiment: Path, small: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LFADSRM_CONFIRM_RUNS", "5")
    before = files_of(small)
    said = call("submit", experiment, *LOCAL)
    assert said.code == 2
    assert "submit 6 runs" in said.err
    assert "--yes" in said.err
    assert "LFADSRM_CONFIRM_RUNS" in said.err
    assert {path for path in files_of(small) - before if not path.name.startswith("index-")} == set()


@pytest.mark.parametrize("how", ["--yes", "limit"])
def test_submitting_many_goes_on_where_it_is_agreed_to(
    experiment: Path, small: Path, call: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    started = []
    monkeypatch.setattr(
        "lfadsrm_hpc.schedulers.local.detach_queue", lambda script: started.append(script) or 7
    )
    monkeypatch.setenv("LFADSRM_CONFIRM_RUNS", "6" if how == "limit" else "5")
    said = call("submit", experiment, *LOCAL, *(["--yes"] if how == "--yes" else []))
    assert said.code == 0, said.err
    assert len(started) == 1


def test_gpu_hours_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    agree = confirming.agree_to("submit", yes=False)
    agree(1000, 1000.0)
    with pytest.raises(NotConfirmedError, match=r"submit 3 runs \(1001 GPU hours at most\)"):
        agree(3, 1001.0)
    confirming.agree_to("submit", yes=True)(10**6, 1e9)
    monkeypatch.setenv("LFADSRM_CONFIRM_GPU_HOURS", "inf")
    agree(3, 1e9)
    monkeypatch.setenv("LFADSRM_CONFIRM_GPU_HOURS", "0")
    with pytest.raises(NotConfirmedError):
        agree(1, 0.5)
    agree(1, 0.0)


@pytest.mark.parametrize("text", ["many", "-1", "nan"])
def test_a_limit_is_a_number(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("LFADSRM_CONFIRM_RUNS", text)
    with pytest.raises(UsageError, match="LFADSRM_CONFIRM_RUNS"):
        confirming.limit("RUNS")


def test_cancelling_many_is_refused_without_a_terminal(
    small: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = waiting(small)
    monkeypatch.setenv("LFADSRM_CONFIRM_RUNS", "5")
    said = call("cancel", small, "--all")
    assert (said.code, "cancel 6 runs?" in said.err) == (2, True)
    assert collection.layout.cancellations() == []
    assert call("cancel", small, "--spec", "all").code in (0, 6)  # two of them are few
    assert len(collection.layout.cancellations()) == 1


def test_preparing_much_is_refused_without_a_terminal(
    experiment: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    shutil.rmtree(experiment / "runs")
    monkeypatch.setenv("LFADSRM_CONFIRM_GB", "0.00001")
    said = call("prepare", experiment)
    assert (said.code, "GB of inputs" in said.err) == (2, True)
    assert not (experiment / "runs").exists()
    assert call("prepare", experiment, "--yes").code == 0
    assert call("prepare", experiment).code == 0  # all is there


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, environment: dict[str, str], *args: object) -> None:
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lfadsrm_hpc", *map(str, args)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        self.text = ""

    def read_until(self, true: Callable[[str], bool], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not true(self.text):
            assert time.monotonic() < end, self.text
            if select.select([self.ours], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.ours, 4096).decode()
                except OSError:  # it has ended
                    return

    def answer(self, text: str) -> int:
        self.read_until(lambda said: "[y/N]" in said)
        if text == "\x03":
            self.process.send_signal(signal.SIGINT)
        else:
            os.write(self.ours, text.encode())
        self.read_until(lambda said: False)
        os.close(self.ours)
        return self.process.wait(30)


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2), ("\n", 2), ("\x03", 130)])
def test_at_a_terminal_it_asks(small: Path, shell: Any, answer: str, code: int) -> None:
    left = small / ".left.0123456789abcdef.tmp"
    left.write_bytes(b"half")
    os.utime(left, (1e9, 1e9))
    terminal = Terminal(shell.environment, "clean", small)
    assert terminal.answer(answer) == code, terminal.text
    assert "delete 1 files and folders, 4 bytes?" in terminal.text
    assert left.exists() == (code != 0)
