"""Fake PBS Pro and Torque for every test that wants one.

Fixtures
--------
pbspro, torque : FakePbs
    A fake server with `qsub qstat qdel qalter qsig qrerun qhold qrls` first on PATH (of this process, so that
    code under test finds them), jobs that really run, and a folder of its own. Everything is killed at the
    end of the test.

A conftest of another folder loads this file by its path, and makes its own fixture of `fake_pbs`::

    spec = importlib.util.spec_from_file_location("pbs_conftest", TESTS / "pbs" / "conftest.py")
    pbs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pbs)

    @pytest.fixture
    def pbspro(tmp_path, monkeypatch):
        with pbs.fake_pbs(tmp_path / "pbs", "pbspro", monkeypatch, slots=2) as server:
            yield server

What can be set, then and later by `server.set(name=value)`: see `DEFAULTS` in `fakes/server.py`; e.g.
`down=True`, `delay_s={"qstat": 5}`, `history=False`, `history_s=0.5`, `slots=2`, `kill_delay_s=0.2`,
`json="broken"`, `scheduling=False`, `throttle=False`, `refuse=[32, "qsub: no"]`,
`job_environment={"LFADSRM_THREADS": "1"}` (jobs get nothing of the tests' environment, as on a cluster).
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FAKES = Path(__file__).resolve().parent / "fakes"
PROGRAMS = ("qsub", "qstat", "qdel", "qalter", "qsig", "qrerun", "qhold", "qrls")


class FakePbs:
    """A fake server, as tests see it.

    Attributes
    ----------
    folder : Path
        Its state. `home` in it is the home of jobs, where they start.
    bin : Path
        The client programs.
    """

    def __init__(self, folder: Path, kind: str, **settings: Any) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        for name in ("bin", "home", "spool", "control", "tmp", "aux"):
            (folder / name).mkdir(parents=True)
        self.settings: dict[str, Any] = {"kind": kind}
        if kind == "torque":
            self.settings |= {"version": "6.1.2", "history_s": 300}
        self.set(**settings)
        python = shlex.join([sys.executable, "-I", "-S", str(FAKES / "clients.py"), str(folder)])
        for program in PROGRAMS:
            path = self.bin / program
            path.write_text(f'#!/bin/sh\nexec {python} {program} -- "$@"\n')
            path.chmod(0o755)

    def set(self, **settings: Any) -> None:
        """Change settings; waiting jobs start where they now may."""
        self.settings |= settings
        temporary = self.folder / "config.new"
        temporary.write_text(json.dumps(self.settings))
        temporary.replace(self.folder / "config.json")
        if "scheduling" in settings or "slots" in settings:
            self._schedule()

    def _schedule(self) -> None:
        with self.server().state() as state:
            self.server().schedule(state)

    def server(self) -> Any:
        """Return the fake's own view of its state (`fakes/server.py`)."""
        import importlib.util

        spec = importlib.util.spec_from_file_location("fake_pbs_server", FAKES / "server.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.Server(self.folder)

    def jobs(self) -> dict[str, Any]:
        """Return the jobs by number; each has `tasks` by index ("" for a plain job)."""
        with self.server().state() as state:
            return dict(state["jobs"])

    def task(self, job: str, index: int | None = None) -> dict[str, Any]:
        """Return what the server holds of one task: state, status, runs, host, deleted, ..."""
        number = job.partition("[")[0].partition(".")[0]
        return dict(self.jobs()[number]["tasks"]["" if index is None else str(index)])

    def states(self, job: str) -> str:
        """Return the states of all tasks of a job, one letter each: Q R E X."""
        number = job.partition("[")[0].partition(".")[0]
        return "".join(task["state"] for task in self.jobs()[number]["tasks"].values())

    def wait(self, job: str, states: str | None = None, *, seconds: float = 90.0) -> None:
        """Wait until all tasks of a job have ended, or have just these states."""
        number = job.partition("[")[0].partition(".")[0]

        def there() -> bool:
            jobs = self.jobs()
            if number not in jobs:
                return states is None
            found = "".join(task["state"] for task in jobs[number]["tasks"].values())
            return found == states if states is not None else set(found) == {"X"}

        wait_until(there, seconds)

    @staticmethod
    def until(true: Callable[[], Any]) -> Any:
        """Wait until something is true."""
        return wait_until(true, 90.0)

    def break_node(self, job: str, index: int | None = None, status: int = -20) -> None:
        """Kill a running task as the loss of its node does; it ends with that exit status."""
        server = self.server()
        with server.state() as state:
            found = state["jobs"][job.partition("[")[0].partition(".")[0]]
            server.tell(found, "" if index is None else str(index), f"end {status}")

    def calls(self, program: str = "") -> list[str]:
        """Return the calls of client programs so far, one line each."""
        log = self.folder / "calls.log"
        lines = log.read_text(errors="surrogateescape").splitlines() if log.exists() else []
        return [line for line in lines if line.startswith(program)]

    def call(self, *args: str | bytes, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run a client program as a user would."""
        return subprocess.run(
            [self.bin / os.fsdecode(args[0]), *args[1:]], capture_output=True, check=check, timeout=60
        )

    def stop(self) -> None:
        """Kill everything that runs."""
        self.set(stopped=True)
        wait_until(self._all_dead, 20.0)

    def _all_dead(self) -> bool:
        pids = self.folder / "runners"
        runners = [int(line) for line in pids.read_text().split()] if pids.exists() else []
        alive = [pid for pid in runners if Path(f"/proc/{pid}").exists() and not is_zombie(pid)]
        for pid in alive:
            children = Path(f"/proc/{pid}/task/{pid}/children")
            with contextlib.suppress(OSError):
                for child in children.read_text().split():
                    kill_session(int(child))
        for pid in runners:  # (reaps those that this process started)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return not alive


def is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def kill_session(leader: int) -> None:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[3]) == leader:
                    os.kill(int(entry.name), signal.SIGKILL)


def wait_until(true: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.03)
    raise AssertionError(f"waited {seconds} s in vain")


@contextlib.contextmanager
def fake_pbs(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[FakePbs]:
    """Start a fake server ("pbspro" or "torque"), put its programs on PATH, and stop it at the end."""
    for name in [name for name in os.environ if name.startswith(("PBS_", "PBS"))]:
        monkeypatch.delenv(name)
    server = FakePbs(folder, kind, **settings)
    monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def pbspro(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePbs]:
    """A fake PBS Pro 23.06 with history, eight slots and two GPUs."""
    with fake_pbs(tmp_path / "pbs server", "pbspro", monkeypatch) as server:
        yield server


@pytest.fixture
def torque(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePbs]:
    """A fake Torque 6.1 that keeps ended jobs for 300 s."""
    with fake_pbs(tmp_path / "torque server", "torque", monkeypatch) as server:
        yield server
