"""A prepared experiment whose runs are done by a fake task, and two ways to call the command line."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
for _name in ("every_command", "forking", "laboratory"):  # tests are no package; so they can import these
    _spec = importlib.util.spec_from_file_location(_name, Path(__file__).parent / f"{_name}.py")
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules[_name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_name])
FAKE_TASK = Path(__file__).parent / "fake_task.py"
EXPERIMENT = f"""
[collection]
name = "small"
comment = "for tests"
[params]
spike_bin_ms = 10
batch_size = 8
co_dim = 0
[sweep]
factors_dim = [2, 3]
[run_specs]
stitched = "all"
[queue]
task_command = {json.dumps([sys.executable, str(FAKE_TASK)])}
poll_s = 0.05
look_s = 0
slots = 2
cpu_cap = 1
use_gpu = false
"""


@dataclass(frozen=True)
class Said:
    """How a call ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Said]


def write_sessions(folder: Path, *names: str, trials: int = 40) -> None:
    """Write small sessions of 20 bins of 10 ms, four conditions, 5, 6, ... neurons."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        spikes = np.random.default_rng(number).poisson(0.5, (trials, 20, 5 + number))
        np.savez(folder / f"{name}.npz", spikes=spikes, bin_ms=10.0, condition=np.arange(trials) % 4)


def clean_environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LFADSRM_", "CUDA_", "OMP_", "COLUMNS", "PYTEST_"))
    }
    return kept | {
        "LFADSRM_TRUSTED": "/",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")])),
    }


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call `lfadsrm` in this process, as its script does."""
    from lfadsrm_hpc.cli.main import main

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main() sets its own
    for name in ("LFADSRM_COLLECTION", "LFADSRM_JSON"):
        monkeypatch.delenv(name, raising=False)

    def called(*args: object) -> Said:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["lfadsrm", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert isinstance(code, int)
        said = Said(code, *capsys.readouterr())
        assert "Traceback" not in said.out + said.err
        return said

    return called


@dataclass
class Shell:
    """Starts `lfadsrm` as a process of its own."""

    started: list[subprocess.Popen[str]]
    environment: dict[str, str]

    def start(self, *args: object, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "lfadsrm_hpc", *map(str, args)],
            cwd=cwd,
            env=self.environment | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def end(self, process: subprocess.Popen[str], timeout: float = 180) -> Said:
        out, err = process.communicate(timeout=timeout)
        assert "Traceback" not in out + err
        return Said(process.returncode, out, err)

    def __call__(self, *args: object, cwd: Path | None = None, **env: str) -> Said:
        return self.end(self.start(*args, cwd=cwd, **env))

    @staticmethod
    def wait_until(true: Callable[[], Any], seconds: float = 120.0) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := true():
                return value
            time.sleep(0.05)
        raise AssertionError(f"waited {seconds} s in vain")


@pytest.fixture
def shell() -> Iterator[Shell]:
    made = Shell([], clean_environment())
    yield made
    for process in made.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate(timeout=90)


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.experiment_file import read_experiment

    folder = tmp_path_factory.mktemp("prepared")
    write_sessions(folder / "datasets", "day1", "day2")
    (folder / "experiment.toml").write_text(EXPERIMENT)
    read_experiment(folder).build(RunCollection).prepare_for_lfads(warn=False)
    return folder


@pytest.fixture
def experiment(_prepared: Path, tmp_path: Path) -> Path:
    """Return the folder of an experiment with 3 run specs x 2 params, prepared, nothing run yet."""
    return shutil.copytree(_prepared, tmp_path / "my experiment")


@pytest.fixture
def small(experiment: Path) -> Path:
    """Return its run collection."""
    return experiment / "runs" / "small"


@pytest.fixture
def plan(experiment: Path) -> Callable[..., None]:
    """Say for how many seconds the runs of a run spec work, and with which code they end."""

    def planned(**runs: tuple[float, int]) -> None:
        (experiment / "plan.json").write_text(json.dumps(runs))

    return planned
