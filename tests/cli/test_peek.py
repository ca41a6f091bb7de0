"""`lfadsrm peek`, as a user calls it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.layout import fitlog
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import Claim, Exit, Identity
from lfadsrm_hpc.model.training.schedule import COLUMNS, FitLog


@pytest.fixture
def run(small: Path) -> Any:
    """Return a run that this process trains: two epochs are done."""
    found = RunCollection.open(small).find_runs("single_day1")[0]
    claim = store.take_local(found.layout, Identity.local("", 0))
    assert isinstance(claim, Claim)
    store.heartbeat(found.layout, claim, phase="training", epoch=2, eta_s=75.0)
    folder = found.layout.checkpoint_dir(1, 0)
    folder.mkdir(parents=True)
    FitLog(fitlog(folder), [[n, n, 9.0 - n, 9.5 - n, *[0.0] * (len(COLUMNS) - 4)] for n in (1, 2)])
    return found


def test_a_run_that_trains(call: Any, run: Any) -> None:
    said = call("peek", run.id, "-C", run.collection.path)
    assert (said.code, said.err) == (0, "")
    first, *rest = said.out.splitlines()
    assert first == f"{run.id}  factors_dim=2  running, 1m15s left"
    assert "cost at epoch 2" in rest[0]
    assert "no rates yet" in said.out
    assert "\x1b" not in said.out


def test_as_json(call: Any, run: Any) -> None:
    found = call("peek", run.id, "-C", run.collection.path, "--json").json
    assert found["schema_version"] == 1
    assert (found["state"], found["trial"]) == ("RUNNING", None)
    assert found["curve"] == {
        "epoch": [1, 2],
        "train": [8.0, 7.0],
        "valid": [8.5, 7.5],
        "lowest_valid_epoch": None,
        "lowest_valid_cost": None,
    }


def test_a_complete_run_as_json(call: Any, sweep: Any) -> None:
    run = sweep.find_runs("both")[1]
    words = (
        "peek",
        run.id,
        "-C",
        sweep.path,
        "--dataset",
        "day2",
        "--trial",
        3,
        "--neuron",
        2,
        "--neuron",
        0,
    )
    found = call(*words, "--json").json["trial"]
    means = run.load_posterior_means("day2", attach="spikes").sel(trial=3)
    assert found["neurons"] == means["neuron_name"].to_numpy()[[2, 0]].tolist()
    np.testing.assert_allclose(found["rates"], means["rates"].to_numpy().T[[2, 0]], atol=1e-5)
    assert found["data"] == means["spikes"].to_numpy().T[[2, 0]].tolist()
    assert call(*words).out.count("/s") == 2


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--trial", 4711], "has no trial 4711"),
        (["--dataset", "day3"], "day3"),
        (["--neuron", "n999"], "no neuron"),
        (["--every", 1, "--json"], "--every and --json"),
    ],
)
def test_what_is_not_there(call: Any, sweep: Any, words: list[Any], hint: str) -> None:
    said = call("peek", sweep.find_runs("both")[0].id, "-C", sweep.path, *words)
    assert (said.code, said.out) == (2, "")
    assert hint in said.err


@pytest.mark.parametrize(
    ("environment", "words", "ascii_"),
    [
        ({"TERM": "dumb"}, [], True),
        ({}, ["--ascii"], True),
        ({"PYTHONIOENCODING": "latin-1"}, [], True),
        ({}, [], False),
    ],
)
def test_terminals_without_the_characters(
    shell: Any, sweep: Any, environment: dict[str, str], words: list[str], ascii_: bool
) -> None:
    run = sweep.find_runs("single_day1")[0]
    said = shell(
        "peek", run.id, "-C", sweep.path, *words, **{"TERM": "xterm", "PYTHONUTF8": "0", **environment}
    )
    assert said.code == 0
    assert said.out.isascii() is ascii_


def test_it_looks_again_until_the_run_has_ended(call: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            claim = store.read_claim(run.layout.attempt(1), 0)
            assert claim is not None
            store.publish_exit(run.layout, claim, Exit(1, "failed", message="enough"))

    monkeypatch.setattr("lfadsrm_hpc.cli.peek.time.sleep", sleep)
    said = call("peek", run.id, "-C", run.collection.path, "--every", 2)
    assert (said.code, looks) == (0, [2.0, 2.0, 2.0])
    states = re.findall(r"factors_dim=2  (\w+)", said.out)
    assert states == ["running", "running", "running", "failed"]


def in_terminal(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Call `lfadsrm` in a terminal of its own, send it INT after its first look; return code and output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "lfadsrm_hpc", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    text, end, sent = b"", time.monotonic() + 60, False
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the terminal is closed: it has ended
                break
            text += data
        if b"epoch 1" in text and not sent:
            sent = True
            process.send_signal(signal.SIGINT)
    os.close(ours)
    return process.wait(30), text.decode()


@pytest.mark.parametrize("colours", [True, False])
def test_ctrl_c_ends_it_in_a_terminal(run: Any, shell: Any, colours: bool) -> None:
    environment = {**shell.environment, "TERM": "xterm-256color", "COLUMNS": "70", "LINES": "30"}
    environment.pop("NO_COLOR", None)
    if not colours:
        environment["NO_COLOR"] = "1"
    code, text = in_terminal(["peek", run.id, "-C", str(run.collection.path), "--every", "30"], environment)
    assert code == 130
    assert text.rstrip().endswith("interrupted")
    assert "Traceback" not in text
    assert ("\x1b[36m" in text) is colours
    assert "\x1b[H" in text
