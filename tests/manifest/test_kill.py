"""A task is killed (-9) before every system call that changes a file; the next one must set it right."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from killing import die, kill_before

from lfadsrm_hpc.layout import CollectionLayout, RunLayout
from lfadsrm_hpc.manifest.records import Claim, Exit, Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.store import (
    AlreadyComplete,
    collection_states,
    heartbeat,
    publish_exit,
    resume_source,
    run_status,
    take_local,
    winning_exit,
)

Fork = Callable[[Callable[[], object]], int]
# Folders with hard links and without; what differs between them is tested without killing too.
LINKS = [pytest.param(True, id="links"), pytest.param(False, id="no links", marks=pytest.mark.slow)]


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing matters when the power fails, not when a process is killed; it still counts as a call."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def task(run: RunLayout) -> None:
    """What a worker does with the manifest, and the file that stands for its training."""
    taken = take_local(run, Identity.local("S", 1))
    assert isinstance(taken, Claim)
    heartbeat(run, taken, epoch=1)
    with (run.path / "trained").open("a") as file:
        file.write("x")
    heartbeat(run, taken, epoch=2)
    publish_exit(run, taken, Exit(0, "done"))


def let_latency_pass(run: RunLayout) -> None:
    for path in run.attempts_dir.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)


def check_next_task(run: RunLayout, layout: CollectionLayout, *, believed: bool) -> None:
    """The next task completes the run, and trains it again only if it had not been completed."""
    trained = (run.path / "trained").read_text() if (run.path / "trained").exists() else ""
    taken = take_local(run, Identity.local("T", 1))
    assert isinstance(taken, AlreadyComplete) == believed
    if isinstance(taken, AlreadyComplete):
        assert trained == "x"
    else:
        assert taken.attempt <= 3
        assert resume_source(run, taken, complete=Path.is_dir) is None
        heartbeat(run, taken, epoch=1)
        publish_exit(run, taken, Exit(0, "done"))
    for rescan in (False, True):
        (status,) = collection_states(layout, [run], rescan=rescan).values()
        assert status.state is RunState.COMPLETED
    assert len(layout.outbox_names()) == 1


@pytest.mark.parametrize("half", [False, True], ids=["between calls", "within a write"])
@pytest.mark.parametrize("links", LINKS)
def test_every_write_point(layout: CollectionLayout, forked: Fork, links: bool, half: bool) -> None:
    seen = set()
    number = 0
    while True:
        number += 1
        run = CollectionLayout(layout.path.parent / str(number)).run("abcdefghijkl", "run")
        run.path.mkdir(parents=True)

        def killed(run: RunLayout = run, number: int = number) -> None:
            kill_before(number, links=links, half=half)
            task(run)

        status = forked(killed)
        if status == 0:
            break
        assert status == signal.SIGKILL
        if not links:
            let_latency_pass(run)
        state = run_status(run).state
        seen.add(state)
        quick = collection_states(run.collection, [run])[run.run_id]
        assert quick.state is state
        # It counts as complete exactly if its exit record is whole.
        assert (state is RunState.COMPLETED) == (winning_exit(run) is not None)
        check_next_task(run, run.collection, believed=state is RunState.COMPLETED)
    assert number > 40
    assert seen == {RunState.PREPARED, RunState.LOST, RunState.COMPLETED}


@pytest.mark.slow
def test_every_write_point_of_the_recovery(layout: CollectionLayout, forked: Fork) -> None:
    """The one that sets it right is killed too."""

    def first(run: RunLayout) -> None:
        heartbeat(run, take_local(run, Identity.local("S", 1)), epoch=1)  # type: ignore[arg-type]
        die()

    number = 0
    while True:
        number += 1
        run = CollectionLayout(layout.path.parent / str(number)).run("abcdefghijkl", "run")
        run.path.mkdir(parents=True)
        assert forked(lambda run=run: first(run)) == signal.SIGKILL  # type: ignore[misc]

        def second(run: RunLayout = run, number: int = number) -> None:
            kill_before(number, links=True, half=False)
            task(run)

        status = forked(second)
        if status == 0:
            break
        assert status == signal.SIGKILL
        done = run_status(run).state is RunState.COMPLETED
        check_next_task(run, run.collection, believed=done)
    assert number > 40


def test_the_attempts_tell_the_story(run: RunLayout, forked: Fork) -> None:
    def start_and_die() -> None:
        take_local(run, Identity.local("S", 1))
        die()

    for _ in range(3):
        assert forked(start_and_die) == signal.SIGKILL
    taken = take_local(run, Identity.local("S", 1))
    assert isinstance(taken, Claim)
    assert taken.attempt == 4
    assert [a.closed.exists() for a in run.attempts()] == [True, True, True, False]
