"""Client programs that go wrong, before real or fake schedulers.

Fixtures
--------
faults : Faults
    Stands before `sbatch squeue sacct scancel scontrol sinfo qsub qstat qdel qalter` on the PATH of this
    process, and passes every call on unless it is told otherwise::

        def test_x(slurm, faults):          # ask for the scheduler first: it sets PATH too
            faults.inject("sbatch", "hang_after")                 # the next call
            faults.inject("squeue", "garbage", times=3, after=1)  # the second to the fourth
            ...
            assert [call.fault for call in faults.calls("sbatch")] == ["hang_after", ""]

    The faults, and what a rule may say, stand in `wrapper.py`.
pbspro, torque
    The fake servers of `tests/pbs`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
PROGRAMS = (
    "sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo", "qsub", "qstat", "qdel", "qalter",
)  # fmt: skip


def load(name: str, path: Path) -> ModuleType:
    """Load a module by its path: tests are no package."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


wrapper = load("fault_wrapper", HERE / "wrapper.py")
pbs = load("pbs_conftest", HERE.parent / "pbs" / "conftest.py")


@dataclass(frozen=True)
class Call:
    """One call of a client program.

    Attributes
    ----------
    fault : str
        "": it was passed on.
    code : int or None
        Exit status of the real program; None: it was not called.
    """

    program: str
    arguments: tuple[str, ...]
    fault: str
    code: int | None


class Faults:
    """Rules for client programs, and the record of their calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        for program in PROGRAMS:
            # -I -S: a quick start, whatever the environment says.
            command = [sys.executable, "-I", "-S", str(HERE / "wrapper.py"), str(folder), program]
            file = self.bin / program
            file.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
            file.chmod(0o755)

    def inject(self, program: str, fault: str, **more: Any) -> None:
        """Add a rule; see `wrapper.py` for what it may say."""
        assert program in PROGRAMS
        assert fault in wrapper.FAULTS
        path = self.folder / "plan.json"
        rules = json.loads(path.read_text()) if path.exists() else []
        path.write_text(json.dumps([*rules, {"program": program, "fault": fault, **more}]))

    def clear(self) -> None:
        """Let everything work again."""
        (self.folder / "plan.json").unlink(missing_ok=True)

    def calls(self, program: str | None = None) -> list[Call]:
        """Return the calls so far, of one program or of all."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        return [
            Call(one["program"], tuple(one["arguments"]), one["fault"], one["code"])
            for one in found
            if program in (None, one["program"])
        ]


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faults:
    made = Faults(tmp_path / "faults")
    monkeypatch.setenv("PATH", f"{made.bin}{os.pathsep}{os.environ['PATH']}")
    return made


@pytest.fixture
def pbspro(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with pbs.fake_pbs(tmp_path / "pbs", "pbspro", monkeypatch) as server:
        yield server


@pytest.fixture
def torque(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with pbs.fake_pbs(tmp_path / "pbs", "torque", monkeypatch) as server:
        yield server
