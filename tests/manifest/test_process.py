from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lfadsrm_hpc.manifest import process
from lfadsrm_hpc.manifest.process import Process, is_alive, peak_memory_mb, process_start_time

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@linux
def test_this_process_lives_and_nothing_else_has_its_name() -> None:
    me = Process.current()
    assert me.pid == os.getpid()
    assert me.is_alive() is True
    assert replace(me, start=(me.start or 0) + 1).is_alive() is False  # its id was given to another
    assert replace(me, host="elsewhere").is_alive() is None
    assert replace(me, boot_id="before the reboot").is_alive() is None
    assert replace(me, pid_namespace="another container").is_alive() is None


@linux
def test_a_killed_process_is_gone_even_while_it_is_a_zombie() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    start = process_start_time(child.pid)
    assert start is not None
    assert is_alive(child.pid, start) is True
    child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 90
    while is_alive(child.pid, start) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Path(f"/proc/{child.pid}").exists()  # nobody has waited for it yet
    assert is_alive(child.pid, start) is False
    assert process_start_time(child.pid) is None
    child.wait()
    assert is_alive(child.pid, start) is False


def test_ids_that_no_process_has() -> None:
    assert is_alive(0, 1) is False
    assert is_alive(-1, 1) is False
    assert process_start_time(2**22 + 5) is None


@linux
def test_without_a_start_time_a_living_id_proves_nothing() -> None:
    assert is_alive(os.getpid(), None) is None


@linux
def test_a_name_with_blanks_and_parentheses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "77"
    folder.mkdir()
    fields = " ".join(["R", *map(str, range(4, 53))])
    (folder / "stat").write_text(f"77 (a) b (c) {fields}\n")
    monkeypatch.setattr(process, "_PROC", tmp_path)
    assert process_start_time(77) == 22


def test_without_proc_only_death_can_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_PROC", tmp_path)
    me = Process.current()
    assert (me.boot_id, me.start) == ("", None)
    assert me.is_alive() is None
    assert is_alive(os.getpid(), None) is None
    assert is_alive(2**22 + 5, None) is False


@linux
def test_peak_memory_is_that_of_this_program_alone() -> None:
    """A child's getrusage starts with what its parent had when it forked; ours does not."""
    ballast = bytearray(300 * 2**20)
    ballast[:: 2**12] = b"x" * len(ballast[:: 2**12])
    code = """if True:
        from lfadsrm_hpc.manifest.process import peak_memory_mb
        before, x = peak_memory_mb(), b"x" * 2**26
        print(before, peak_memory_mb())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    small, larger = map(float, done.stdout.split())
    assert 5 < small < 150
    assert 50 < larger - small < 100
    assert peak_memory_mb() > 300
    del ballast
