"""The wrapper itself, before a program that writes down that it was called."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fault_wrapper import CALLED_BEFORE, FAULTS, GARBAGE

ANSWER = b"1234;cluster\n"


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the record of the calls of programs that accept everything."""
    folder = tmp_path / "real bin"
    folder.mkdir()
    for name in ("sbatch", "squeue"):
        program = folder / name
        record = f"printf '%s|' {name} \"$@\" >> '{tmp_path}/real'; echo >> '{tmp_path}/real'"
        program.write_text(f"#!/bin/sh\n{record}\nprintf '%s\\n' '1234;cluster'\necho told >&2\nexit $CODE\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CODE", "0")
    (tmp_path / "real").touch()
    return tmp_path / "real"


def call(*arguments: str, timeout: float = 30) -> tuple[int, bytes, bytes]:
    done = subprocess.run(arguments, capture_output=True, timeout=timeout)
    return done.returncode, done.stdout, done.stderr


def test_without_a_rule_a_call_is_passed_on(real: Path, faults: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("sbatch", "--name=a b", "it's") == (0, ANSWER, b"told\n")
    monkeypatch.setenv("CODE", "3")
    assert call("squeue", "-h") == (3, ANSWER, b"told\n")
    assert real.read_text().splitlines() == ["sbatch|--name=a b|it's|", "squeue|-h|"]
    assert [(c.program, c.arguments, c.fault, c.code) for c in faults.calls()] == [
        ("sbatch", ("--name=a b", "it's"), "", 0),
        ("squeue", ("-h",), "", 3),
    ]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault(real: Path, faults: Any, fault: str) -> None:
    faults.inject("sbatch", fault, code=7, text="sbatch: error: Socket timed out")
    error = b"sbatch: error: Socket timed out\n"
    expected = {
        "lose_output": (0, b"", b""),
        "half_output": (0, ANSWER[:6], b""),
        "garbage": (0, GARBAGE, b""),
        "error_after": (7, b"", error),
        "die_after": (-signal.SIGKILL, b"", b""),
        "fail": (7, b"", error),
    }
    if fault in expected:
        assert call("sbatch", "x") == expected[fault]
    else:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            call("sbatch", "x", timeout=2)
        assert not caught.value.stdout
    assert len(real.read_text().splitlines()) == (fault in CALLED_BEFORE)
    assert [c.fault for c in faults.calls()] == [fault]
    assert (faults.calls()[0].code is None) == (fault not in CALLED_BEFORE)
    assert call("sbatch", "x")[:2] == (0, ANSWER)  # once, then it works


def test_which_calls_a_rule_spoils(real: Path, faults: Any) -> None:
    faults.inject("sbatch", "fail", after=1, times=2)
    faults.inject("squeue", "lose_output", match="--user", times=99)
    assert [call("sbatch")[0] for _ in range(4)] == [0, 1, 1, 0]
    assert [call("squeue", *more)[1] for more in ((), ("--user=me",), ("--user=me",))] == [ANSWER, b"", b""]
    faults.clear()
    assert call("squeue", "--user=me")[1] == ANSWER


def test_garbage_is_no_utf_8() -> None:
    with pytest.raises(UnicodeDecodeError):
        GARBAGE.decode()


def test_a_rule_is_used_once_by_many_at_once(real: Path, faults: Any) -> None:
    faults.inject("sbatch", "fail", times=5)
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: call("sbatch")[0], range(20)))
    assert sorted(codes) == [0] * 15 + [1] * 5
    assert len(faults.calls()) == 20
    assert len(real.read_text().splitlines()) == 15


def test_a_program_that_is_not_there(faults: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{faults.bin}{os.pathsep}{Path(sys.executable).parent}")
    code, output, error = call("/bin/sh", "-c", "qsub")
    assert (code, output) == (1, b"")
    assert b"no real one" in error
