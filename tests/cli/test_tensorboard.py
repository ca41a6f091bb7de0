"""`lfadsrm tensorboard`: which runs under which names, how it starts, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.cli import tensorboard as command
from lfadsrm_hpc.collection.roster import Roster

ROOT = Path(__file__).resolve().parents[2]
# Stands where TensorBoard would: tells what it was given, and waits until it is stopped.
FAKE = """
import json, os, sys, time
folder = sys.argv[sys.argv.index("--logdir") + 1]
links = {name: os.readlink(os.path.join(folder, name)) for name in os.listdir(folder)}
with open(os.environ["TOLD"] + ".new", "w") as file:
    json.dump({"words": sys.argv[1:], "folder": folder, "links": links, "pid": os.getpid()}, file)
os.rename(os.environ["TOLD"] + ".new", os.environ["TOLD"])
sys.exit(7) if "--port" in sys.argv and "7" in sys.argv else time.sleep(60)
"""


def until(happened: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """Start `lfadsrm tensorboard` with a program in the place of TensorBoard."""
    fake = tmp_path / "fake" / "tensorboard"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("")
    (fake / "main.py").write_text(FAKE)
    (tmp_path / "scratch").mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": f"{fake.parent}{os.pathsep}{ROOT}",
        "TOLD": str(tmp_path / "told"),
        "TMPDIR": str(tmp_path / "scratch"),
    }

    def started(*words: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "lfadsrm_hpc", "tensorboard", *map(str, words)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_shows_the_selected_runs_and_leaves_nothing(
    start: Any, sweep: RunCollection, tmp_path: Path, number: int
) -> None:
    process = start(sweep.path, "--spec", "single_day1", "--port", "6123", "--host", "127.0.0.1")
    told = json.loads(until(lambda: (tmp_path / "told").is_file() and (tmp_path / "told").read_text()))
    assert told["words"] == ["--port", "6123", "--host", "127.0.0.1", "--logdir", told["folder"]]
    assert told["links"] == {
        f"factors_dim={run.params.factors_dim} seed={run.params.seed}": str(run.layout.checkpoints)
        for run in sweep.runs[:4]
    }
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "4 runs, of which 4 have begun" in err
    assert "ssh -N -L 6123:localhost:6123" in err
    assert list((tmp_path / "scratch").iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(told["pid"], 0)


def test_its_own_end_is_a_failure(start: Any, sweep: RunCollection, tmp_path: Path) -> None:
    process = start(sweep.path, "--port", "7")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "TensorBoard ended by itself with status 7" in err
    assert "--port" in err
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_dry_run_prints_commands_that_a_shell_can_run(
    call: Any, sweep: RunCollection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "it's here"
    monkeypatch.setattr(command, "_program", lambda: ["sh", "-c", 'ls "$2" > "$0"', str(told)])
    said = call("tensorboard", sweep.path, "--match", "seed=1", "--dry-run")
    assert (said.code, said.err) == (0, "")
    subprocess.run(["sh", "-eu", "-c", said.out], check=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert told.read_text().splitlines() == [
        "both factors_dim=2", "both factors_dim=4", "single_day1 factors_dim=2", "single_day1 factors_dim=4",
    ]  # fmt: skip
    content = call(
        "tensorboard", sweep.path, "--state", "completed", "--dry-run", "--json", "--port", "0"
    ).json
    assert content["schema_version"] == 1
    assert content["command"][-2:] == ["--port", "0"]
    assert sorted(content["runs"].values()) == sorted(str(run.layout.checkpoints) for run in sweep.runs[:-1])


def test_refusals(call: Any, sweep: RunCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("tensorboard", sweep.path, "--json").code == 2
    assert call("tensorboard", sweep.path, "--state", "failed", "--dry-run").code == 2
    assert call("tensorboard", sweep.path, "--port", "70000").code == 2
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nowhere")
    said = call("tensorboard", sweep.path)
    assert said.code == 3
    assert "TensorBoard is not installed here" in said.err
    assert "pip install tensorboard" in said.err


def test_names_are_unique_and_fit_a_file_system(
    sweep: RunCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    roster = Roster.open(sweep.path)
    entries = roster.select()
    long = "x" * 300
    monkeypatch.setattr(Roster, "label", lambda self, params, varying: f"../{long}")
    names = command.run_names(roster, entries)
    assert list(names.values()) == list(entries)
    assert all(len(name.encode()) <= 200 and "/" not in name and name[0] not in ".-" for name in names)


@pytest.mark.slow
def test_real_tensorboard_lists_the_runs_by_their_names(sweep: RunCollection, tmp_path: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    from lfadsrm_hpc.layout import tensorboard_events

    run = sweep.runs[0]
    writer = EventFileWriter(str(tensorboard_events(run.layout.checkpoint_dir(1, 0))))
    value = Summary.Value(tag="cost", simple_value=1.0)
    writer.add_event(Event(wall_time=time.time(), step=1, summary=Summary(value=[value])))
    writer.close()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lfadsrm_hpc", "tensorboard", str(sweep.path), "--port", "0"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
    try:
        words = until(lambda: [w for w in (tmp_path / "log").read_text().split() if w.startswith("http://l")])

        def runs() -> Any:
            with urllib.request.urlopen(f"{words[0]}data/runs", timeout=60) as answer:
                return json.load(answer)

        assert until(runs) == ["single_day1 factors_dim=2 seed=0/001.r0/tensorboard"]
    finally:
        process.terminate()
        assert process.wait(90) == 0
