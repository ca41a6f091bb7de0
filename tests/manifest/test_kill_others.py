"""Cancelling, closing, deleting, caching are killed (-9) before every system call; doing it again works."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from killing import kill_before

from lfadsrm_hpc.errors import ClaimLostError
from lfadsrm_hpc.layout import CollectionLayout, RunLayout
from lfadsrm_hpc.manifest import index
from lfadsrm_hpc.manifest.records import Exit, Identity
from lfadsrm_hpc.manifest.states import RunState as S
from lfadsrm_hpc.manifest.store import (
    cancel,
    claim,
    close,
    collection_states,
    forget,
    heartbeat,
    lift,
    publish_exit,
    reserve,
    take_local,
)

Fork = Callable[[Callable[[], object]], int]
JOB = Identity("cluster", "17", "0", "PLAN")
# Folders with hard links and without; what differs between them is tested without killing too.
LINKS = [pytest.param(True, id="links"), pytest.param(False, id="no links", marks=pytest.mark.slow)]


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


class Worlds:
    """The same collection again and again, in which something is killed a step later each time."""

    def __init__(self, path: Path, forked: Fork, make: Callable[[CollectionLayout], list[RunLayout]]) -> None:
        self.path, self.forked, self.make = path, forked, make

    def killed(
        self,
        act: Callable[[CollectionLayout, list[RunLayout]], object],
        check: Callable[[CollectionLayout, list[RunLayout]], object],
        *,
        links: bool = True,
        half: bool = False,
    ) -> int:
        """Let `act` be killed at each step, check what is left; return how many steps it has."""
        for number in itertools.count(1):
            layout = CollectionLayout(self.path / str(number))
            # By a process that is gone afterwards, as the tasks of a job are.
            assert self.forked(lambda layout=layout: self.make(layout)) == 0  # type: ignore[misc]
            runs = [layout.run("abcdefghijkl", path.name) for path in sorted(layout.path.glob("param_*/*"))]

            def killed(
                layout: CollectionLayout = layout, runs: list[RunLayout] = runs, number: int = number
            ) -> None:
                kill_before(number, links=links, half=half)
                act(layout, runs)

            status = self.forked(killed)
            assert status in (0, signal.SIGKILL)
            if not links:
                let_latency_pass(layout.path)
            check(layout, runs)
            if status == 0:
                return number - 1
        raise AssertionError


def let_latency_pass(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (time.time() - 3600,) * 2)


def states(layout: CollectionLayout, runs: list[RunLayout]) -> list[S]:
    """Return what the runs are at; the quick way and the whole one must say the same."""
    found = [[one.state for one in collection_states(layout, runs, rescan=r).values()] for r in (False, True)]
    assert found[0] == found[1]
    return found[1]


def waiting_and_stopped(layout: CollectionLayout) -> list[RunLayout]:
    """Make a run that stopped, and one that waits for a scheduler."""
    runs = [layout.run("abcdefghijkl", name) for name in ("stopped", "waiting")]
    for run in runs:
        run.path.mkdir(parents=True)
        reserve(run, "PLAN")
    publish_exit(runs[0], claim(runs[0], 1, JOB), Exit(75, "checkpointed"))
    return runs


@pytest.mark.parametrize("links", LINKS)
def test_cancelling(tmp_path: Path, forked: Fork, links: bool) -> None:
    seen = set()

    def check(layout: CollectionLayout, runs: list[RunLayout]) -> None:
        before = states(layout, runs)
        seen.add(tuple(before))
        cancel(layout, runs)
        assert states(layout, runs) == [S.CANCELLED] * 2
        with pytest.raises(ClaimLostError):
            claim(runs[1], 1, JOB)
        lift(layout, runs)
        assert [reserve(run, "NEXT") for run in runs] == [2, 2]
        assert states(layout, runs) == [S.SUBMITTED] * 2

    worlds = Worlds(tmp_path, forked, waiting_and_stopped)
    assert worlds.killed(lambda layout, runs: cancel(layout, runs), check, links=links, half=not links) > 10
    # All runs are covered, or none.
    assert seen == {(S.PREEMPTED, S.SUBMITTED), (S.CANCELLED, S.CANCELLED)}


@pytest.mark.parametrize("links", LINKS)
def test_lifting_a_cancellation(tmp_path: Path, forked: Fork, links: bool) -> None:
    def make(layout: CollectionLayout) -> list[RunLayout]:
        runs = waiting_and_stopped(layout)
        cancel(layout, runs)
        return runs

    seen = set()

    def check(layout: CollectionLayout, runs: list[RunLayout]) -> None:
        seen.add(tuple(states(layout, runs)))
        lift(layout, runs)
        assert [take_local(run, Identity.local("S", 1)).attempt for run in runs] == [2, 2]  # type: ignore[union-attr]

    worlds = Worlds(tmp_path, forked, make)
    assert worlds.killed(lambda layout, runs: lift(layout, runs), check, links=links, half=not links) > 4
    assert seen == {(S.CANCELLED, S.CANCELLED), (S.PREEMPTED, S.CANCELLED)}  # a closed one stays closed


def killed_by_the_kernel(layout: CollectionLayout) -> list[RunLayout]:
    """Make a run of which the script says that it was killed."""
    run = layout.run("abcdefghijkl", "run")
    run.path.mkdir(parents=True)
    reserve(run, "PLAN")
    publish_exit(run, claim(run, 1, JOB), Exit(137, "killed", signal=9, writer="shell"))
    return [run]


@pytest.mark.parametrize("links", LINKS)
def test_closing_on_the_schedulers_word(tmp_path: Path, forked: Fork, links: bool) -> None:
    seen = set()

    def act(layout: CollectionLayout, runs: list[RunLayout]) -> None:
        close(runs[0], 1, "out_of_memory")

    def check(layout: CollectionLayout, runs: list[RunLayout]) -> None:
        seen.update(states(layout, runs))
        act(layout, runs)
        after = states(layout, runs)
        # Closed by a file that was left empty: that it is closed stands, why does not.
        assert after == [S.OUT_OF_MEMORY] or (not links and after == [S.FAILED])
        assert reserve(runs[0], "NEXT") == 2

    worlds = Worlds(tmp_path, forked, killed_by_the_kernel)
    assert worlds.killed(act, check, links=links, half=not links) > 8
    assert seen == {S.FAILED, S.OUT_OF_MEMORY}


def with_a_past(layout: CollectionLayout) -> list[RunLayout]:
    """Make a run that was lost, cancelled and completed by jobs, one after the other."""
    run = layout.run("abcdefghijkl", "run")
    run.path.mkdir(parents=True)
    reserve(run, "PLAN")
    heartbeat(run, claim(run, 1, JOB), epoch=1)
    close(run, 1, "node_fail")
    assert reserve(run, "PLAN") == 2
    cancel(layout, [run])
    assert reserve(run, "PLAN") == 3
    third = claim(run, 3, JOB)
    heartbeat(run, third, epoch=1)
    publish_exit(run, third, Exit(0, "done"))
    return [run]


@pytest.mark.slow
def test_deleting_outputs(tmp_path: Path, forked: Fork) -> None:
    """What is left of a deletion can be deleted, and never looks as if somebody worked on the run."""
    seen, facts = set(), set()

    def check(layout: CollectionLayout, runs: list[RunLayout]) -> None:
        seen.update(states(layout, runs))
        facts.add(len(list(runs[0].attempts_dir.rglob("*.json"))))
        forget(runs[0])
        assert states(layout, runs) == [S.PREPARED]
        assert layout.outbox_names() == []
        assert not runs[0].deleted_attempts.exists()
        assert take_local(runs[0], Identity.local("S", 1)).attempt == 1  # type: ignore[union-attr]

    worlds = Worlds(tmp_path, forked, with_a_past)
    assert worlds.killed(lambda layout, runs: forget(runs[0]), check) > 15
    assert seen == {S.COMPLETED, S.CANCELLED, S.PREPARED}
    assert facts == {0, 8}, "half of the facts would look like a task at work"


def test_the_index(tmp_path: Path, forked: Fork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "LEAST_NEW", 2)

    def make(layout: CollectionLayout) -> list[RunLayout]:
        runs = [layout.run("abcdefghijkl", f"{n:02d}") for n in range(2 * index.LEAST_NEW)]
        for run in runs:
            run.path.mkdir(parents=True)
            reserve(run, "PLAN")
        end(runs[: index.LEAST_NEW])
        let_latency_pass(layout.path)
        collection_states(layout, runs)
        end(runs[index.LEAST_NEW :])
        let_latency_pass(layout.path)
        return runs

    def end(runs: list[RunLayout]) -> None:
        for run in runs:
            publish_exit(run, claim(run, 1, JOB), Exit(0, "done"))

    seen = set()

    def check(layout: CollectionLayout, runs: list[RunLayout]) -> None:
        seen.add(tuple(layout.index_numbers()))
        for _ in range(2):
            assert states(layout, runs) == [S.COMPLETED] * len(runs)

    worlds = Worlds(tmp_path, forked, make)
    assert worlds.killed(lambda layout, runs: collection_states(layout, runs), check) > 8
    assert seen == {(1,), (1, 2), (2,)}
