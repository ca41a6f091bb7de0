"""How the command line ends: codes, suggestions, reports, closed pipes; never a traceback."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from lfadsrm_hpc.cli import main as module
from lfadsrm_hpc.errors import (
    ConfigError,
    DataError,
    DataWarning,
    InterruptedRunError,
    LfadsrmError,
    NothingEligibleError,
    SomeRunsFailedError,
    UsageError,
)


@pytest.fixture
def act(call: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], Any]:
    """Call a command that does what one likes."""

    def acted(what: Callable[[], Any]) -> Any:
        command = click.Command("status", callback=what)
        monkeypatch.setattr(module._Commands, "get_command", lambda *_: command)
        return call("status")

    return acted


def raising(error: BaseException) -> Callable[[], None]:
    def do() -> None:
        raise error

    return do


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LfadsrmError("w"), 1),
        (UsageError("w"), 2),
        (ConfigError("w"), 3),
        (DataError("w"), 3),
        (NothingEligibleError("w"), 4),
        (SomeRunsFailedError("w"), 5),
        (InterruptedRunError("w"), 130),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (click.UsageError("w"), 2),
        (MemoryError(), 1),
    ],
)
def test_exit_codes_of_errors(act: Any, error: BaseException, code: int) -> None:
    said = act(raising(error))
    assert (said.code, said.out) == (code, "")
    assert said.err.strip()


def test_what_where_and_do_are_printed(act: Any) -> None:
    said = act(raising(ConfigError("it is wrong", where="a file", hint="mend it")))
    assert said.err == "error: it is wrong\n  where: a file\n  do: mend it\n"


def test_a_number_is_the_exit_code(act: Any) -> None:
    assert act(lambda: 75).code == 75
    assert act(lambda: None).code == 0


def test_a_bug_leaves_a_report(act: Any) -> None:
    said = act(raising(RuntimeError("surprise")))
    assert said.code == 1
    assert "a bug in lfadsrm_hpc: RuntimeError('surprise')" in said.err
    report = Path(re.search(r"details: (\S+)", said.err)[1])  # type: ignore[index]
    text = report.read_text()
    report.unlink()
    assert "RuntimeError: surprise" in text
    assert "Traceback" in text
    assert sys.version in text


def test_a_full_disk_is_no_bug(act: Any) -> None:
    said = act(raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some/file")))
    assert said.code == 1
    assert "No space left on device" in said.err
    assert "where: some/file" in said.err
    assert "bug" not in said.err
    Path(re.search(r"details: (\S+)", said.err)[1]).unlink()  # type: ignore[index]


def test_what_another_user_keeps_from_us(act: Any) -> None:
    said = act(raising(PermissionError(errno.EACCES, os.strerror(errno.EACCES), "theirs/.lfadsrm")))
    assert said.code == 1
    assert "where: theirs/.lfadsrm\n  do: if it is another user's, ask" in said.err
    Path(re.search(r"details: (\S+)", said.err)[1]).unlink()  # type: ignore[index]


def test_a_report_that_cannot_be_written(act: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    said = act(raising(RuntimeError("surprise")))
    assert said.code == 1
    assert "no report could be written" in said.err


def test_warnings_are_lines_for_people(act: Any) -> None:
    def warn() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("odd data", DataWarning, stacklevel=1)

    assert act(warn).err == "warning: odd data\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["statsu"], "there is no command 'statsu'; did you mean 'status'?"),
        (["prepair", "x"], "did you mean 'prepare'?"),
        (["xyz"], "there are: demo, init, prepare, run, time, plan, submit, retry, cancel, throttle"),
        (["status", "--jsn"], "--json"),
        (["run", "--slot", "2"], "--slots"),
        (["run", "--slots", "two"], "'two' is not a valid integer"),
        (["--vresion"], "--version"),
        (["logs"], "RUN"),
    ],
)
def test_slips_in_words(call: Any, words: list[str], hint: str) -> None:
    said = call(*words)
    assert said.code == 2
    assert said.out == ""
    assert hint in said.err
    assert "--help" in said.err


def test_no_command_shows_the_help(call: Any) -> None:
    said = call()
    assert said.code == 2
    assert "Begin:" in said.err


@pytest.mark.parametrize("words", [["show", "--params"], ["--help"], ["show", "--params", "--json"]])
def test_a_closed_pipe_is_silent(shell: Any, words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "lfadsrm_hpc", *words],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=shell.environment,
        check=False,
    )
    os.close(writer)
    assert process.stderr == b""
    assert process.returncode == module.EXIT_PIPE_CLOSED


def test_a_terminal_that_cannot_show_a_name(shell: Any, tmp_path: Path) -> None:
    said = shell("init", tmp_path / "日 1", PYTHONIOENCODING="latin-1")
    assert said.code == 0
    assert "\\u65e5 1" in said.out
    assert (tmp_path / "日 1" / "experiment.toml").is_file()


def test_the_module_is_the_command(shell: Any) -> None:
    said = shell("--version")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("lfadsrm, version ")
