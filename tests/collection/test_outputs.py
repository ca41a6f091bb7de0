"""Deleting outputs, and the TensorBoard script run by a real bash."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lfadsrm_hpc.collection.collection import RunCollection
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.layout import run_key
from lfadsrm_hpc.manifest.reading import run_status
from lfadsrm_hpc.manifest.records import Claim, Exit, Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.store import publish_exit, take_local


def identity() -> Identity:
    return Identity.local("01ARZ3NDEKTSV4RRFFQ69G5FAV", 0)


def finish(run: Run) -> None:
    """Leave what a finished run leaves."""
    claim = take_local(run.layout, identity())
    assert isinstance(claim, Claim)
    checkpoint = run.layout.checkpoint_dir(claim.attempt, claim.incarnation)
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights.npz").write_bytes(b"w")
    run.layout.posterior_dir.mkdir()
    run.layout.posterior_means("dataset001").write_bytes(b"p")
    run.layout.model_params.write_bytes(b"m")
    for path in (run.layout.inferred("later"), run.layout.adapted("day9").record):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    publish_exit(run.layout, claim, Exit(0, "done"))
    states = run.collection.layout.queue_state_dir("somewhere")
    states.mkdir(parents=True, exist_ok=True)
    (states / f"{run_key(run.id)}.done").write_text("")


def traces(run: Run) -> list[str]:
    """Return all files that name the run or lie in its folder."""
    root = run.collection.path
    found = [p for p in root.rglob("*") if run_key(run.id) in p.name]
    found += [p for p in run.path.rglob("*") if p.is_file()]
    return sorted(p.relative_to(root).as_posix() for p in found)


@pytest.fixture
def finished(collection: RunCollection) -> RunCollection:
    collection.prepare_for_lfads()
    for run in collection.find_runs("single_dataset001"):
        finish(run)
    return collection


def test_outputs_go_inputs_stay(finished: RunCollection) -> None:
    run, other = finished.find_runs("single_dataset001")
    assert len(traces(run)) > 5
    kept = traces(other)
    questions: list[str] = []

    def agree(question: str) -> bool:
        questions.append(question)
        return True

    assert finished.delete_outputs(run, confirm=agree) == [run]
    assert len(questions) == 1
    assert run.id in questions[0]
    assert traces(run) == [f"{run.id}/params.json"]
    assert traces(other) == kept
    run.check_inputs()
    assert run_status(run.layout).state is RunState.PREPARED
    assert run_status(other.layout).state is RunState.COMPLETED
    # and it can be run again, from its first attempt on
    finish(run)
    assert run_status(run.layout).state is RunState.COMPLETED


def test_nothing_goes_without_consent(finished: RunCollection) -> None:
    run = finished.find_run("single_dataset001", 0)
    before = traces(run)
    with pytest.raises(UsageError, match="not confirmed"):
        finished.delete_outputs(run)
    assert finished.delete_outputs(run, confirm=lambda _: False) == []
    assert traces(run) == before


def test_live_runs_are_refused_and_nothing_is_deleted(finished: RunCollection) -> None:
    live = finished.find_run("single_dataset002", 0)
    take_local(live.layout, identity())
    done = finished.find_run("single_dataset001", 0)
    before = traces(done)
    with pytest.raises(UsageError, match=r"(?s)1 of the runs may be running.*single_dataset002"):
        finished.delete_outputs(yes=True)
    with pytest.raises(UsageError, match="may be running"):
        finished.delete_outputs(done, yes=True, is_live=lambda run: run.id == done.id)
    assert traces(done) == before
    assert finished.delete_outputs([done], yes=True) == [done]


def test_deleting_what_never_ran(collection: RunCollection) -> None:
    collection.prepare_for_lfads()
    assert len(collection.delete_outputs(yes=True)) == 6
    assert all(run.is_prepared for run in collection.runs)
    assert collection.delete_outputs([], yes=True) == []


# ---------------------------------------------------------------- TensorBoard


@pytest.fixture
def fake_tensorboard(tmp_path: Path) -> dict[str, str]:
    """A `tensorboard` that notes its arguments and what it sees, and then waits."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "tensorboard"
    program.write_text(
        f"""#!/usr/bin/env bash
cd -P -- "$2" || exit 9
find -L . -name 'events*' | sort > {shlex.quote(str(tmp_path / "seen"))}
printf '%s\\n' "$@" > {shlex.quote(str(tmp_path / "arguments.tmp"))}
echo $$ > {shlex.quote(str(tmp_path / "pid"))}
mv {shlex.quote(str(tmp_path / "arguments.tmp"))} {shlex.quote(str(tmp_path / "arguments"))}
[ -e {shlex.quote(str(tmp_path / "wait"))} ] && exec sleep 60
exit 0
"""
    )
    program.chmod(0o755)
    (tmp_path / "scratch").mkdir()
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(tmp_path / "scratch")}


def test_tensorboard_shows_each_run_by_its_name(
    collection: RunCollection, datasets: DatasetCollection, tmp_path: Path, fake_tensorboard: dict[str, str]
) -> None:
    odd = 'it\'s $(touch never) "odd", ü'
    collection.add_run_spec(RunSpec(odd, datasets, [0]))
    collection.prepare_for_lfads()
    run, plain = collection.find_run(odd, 0), collection.find_run("all", 1)
    for each in (run, plain):
        events = each.layout.checkpoint_dir(1, 0) / "tensorboard"
        events.mkdir(parents=True)
        (events / "events.out").write_text("")
    script = collection.layout.tensorboard_script
    subprocess.run(["bash", "-n", script], check=True)
    subprocess.run(["bash", script, "--port", "1234"], env=fake_tensorboard, check=True, cwd=tmp_path)
    seen = (tmp_path / "seen").read_text().splitlines()
    assert sorted(seen) == sorted(
        f"./{each.id.replace('/', '__')}/001.r0/tensorboard/events.out" for each in (run, plain)
    )
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[0] == "--logdir"
    assert arguments[2:] == ["--port", "1234"]
    assert not list((tmp_path / "scratch").iterdir())
    assert not list(tmp_path.rglob("never"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_the_script_stops_tensorboard(
    collection: RunCollection, tmp_path: Path, fake_tensorboard: dict[str, str], number: signal.Signals
) -> None:
    (tmp_path / "wait").write_text("")
    collection.prepare_for_lfads()
    script = subprocess.Popen(["bash", collection.layout.tensorboard_script], env=fake_tensorboard)
    deadline = time.monotonic() + 90
    while not (tmp_path / "arguments").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    child = int((tmp_path / "pid").read_text())
    script.send_signal(number)
    assert script.wait(timeout=90) == 128 + number
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        time.sleep(0.02)
    else:
        pytest.fail("tensorboard goes on")
    assert not list((tmp_path / "scratch").iterdir())
