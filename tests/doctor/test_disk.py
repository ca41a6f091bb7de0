"""The checks of a folder: what a good file system passes and a bad one does not, and that nothing is left."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.doctor import checks, disk
from lfadsrm_hpc.doctor.checks import Check, Found, Verdict, ok, perform

CHECKS = (
    disk.writable, disk.exclusive, disk.hard_links, disk.renaming, disk.listing, disk.latency, disk.clock,
    disk.hdf5,
)  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda one: one.__name__)
def test_this_file_system_is_good(check: Callable[..., Callable[[], Found]], tmp_path: Path) -> None:
    with disk.workbench(tmp_path) as bench:
        found = check(bench)()
    assert (found.verdict, found.fix) == (Verdict.OK, "")
    assert list(tmp_path.iterdir()) == []


def test_two_that_create_one_file_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_creates", lambda path: True)
    with disk.workbench(tmp_path) as bench:
        found = disk.exclusive(bench)()
    assert (found.verdict, "8 of 8" in found.evidence) == (Verdict.PROBLEM, True)


def test_a_folder_that_is_gone_is_a_finding_of_the_check(tmp_path: Path) -> None:
    with disk.workbench(tmp_path) as bench:
        bench.path.rmdir()
        result = perform(Check("exclusive", "disk", disk.exclusive(bench), 30.0))
    assert (result.verdict, "No such file" in result.evidence) == (Verdict.PROBLEM, True)


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with disk.workbench(tmp_path) as bench:
        assert disk.hard_links(bench)().verdict is Verdict.WARNING


def test_a_link_that_replaces_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", lambda old, new: new.write_bytes(old.read_bytes()))
    with disk.workbench(tmp_path) as bench:
        assert disk.hard_links(bench)().verdict is Verdict.PROBLEM


def test_a_rename_that_is_not_atomic_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_two_steps(self: Path, target: Path) -> None:
        target.unlink(missing_ok=True)
        time.sleep(0.01)
        target.write_bytes(self.read_bytes())

    monkeypatch.setattr(disk.Path, "replace", in_two_steps)
    with disk.workbench(tmp_path) as bench:
        assert disk.renaming(bench)().verdict is Verdict.PROBLEM


def test_a_folder_in_which_nothing_can_be_made(tmp_path: Path) -> None:
    with disk.workbench(tmp_path / "absent") as bench:
        found = disk.writable(bench)()
    assert (found.verdict, "no folder can be made" in found.evidence) == (Verdict.PROBLEM, True)


def test_what_a_killed_examination_left_is_removed(tmp_path: Path) -> None:
    old, new = tmp_path / f"{disk.PREFIX}old", tmp_path / f"{disk.PREFIX}new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "file").touch()
    os.utime(old, (1, 1))
    with disk.workbench(tmp_path) as bench:
        disk.writable(bench)()
    assert list(tmp_path.iterdir()) == [new], "another examination may be going on in it"


def test_the_folder_goes_while_a_check_still_writes_into_it(tmp_path: Path) -> None:
    stop = threading.Event()

    def write(bench: disk.Workbench) -> None:
        while not stop.is_set():
            try:
                (bench.path / "again").touch()
            except OSError:
                return

    with disk.workbench(tmp_path) as bench:
        assert bench.path.is_dir()
        writer = threading.Thread(target=write, args=(bench,))
        writer.start()
        time.sleep(0.05)
    writer.join(10)
    stop.set()
    assert list(tmp_path.iterdir()) == []


def test_hdf5_that_cannot_lock_is_told_how_to_do_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(path: Path, environment: dict[str, str]) -> str:
        free = environment.get("HDF5_USE_FILE_LOCKING") == "FALSE"
        return "ok 1.14" if free else "BlockingIOError: unable to lock file, errno = 524"

    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    monkeypatch.setattr(disk, "_tries", tried)
    with disk.workbench(tmp_path) as bench:
        found = disk.hdf5(bench)()
    assert found.verdict is Verdict.PROBLEM
    assert "export HDF5_USE_FILE_LOCKING=FALSE" in found.fix


# -- time limits -----------------------------------------------------------------------------------------


def test_a_check_that_hangs_is_a_finding() -> None:
    release = threading.Event()

    def hang() -> Found:
        release.wait(3000)
        return ok("at last")

    result = perform(Check("dead", "disk", hang, 0.2, "ask the operators"))
    release.set()
    assert (result.verdict, result.fix) == (Verdict.PROBLEM, "ask the operators")
    assert "no answer within 0.2 s" in result.evidence


@pytest.mark.parametrize("error", [OSError(errno.ESTALE, "Stale file handle"), ZeroDivisionError("oops")])
def test_a_check_that_fails_is_a_finding(error: Exception) -> None:
    def fail() -> Any:
        raise error

    result = perform(Check("bad", "disk", fail, 5.0))
    assert result.verdict is Verdict.PROBLEM
    assert str(error) in result.evidence or repr(error) in result.evidence


def test_results_are_plain_for_programs() -> None:
    result = perform(Check("good", "disk", lambda: checks.ok("fine", size=3), 5.0))
    assert {**result.to_dict(), "seconds": 0} == {
        "name": "good", "group": "disk", "verdict": "ok", "evidence": "fine", "fix": "",
        "details": {"size": 3}, "seconds": 0,
    }  # fmt: skip
