"""Many processes want the same runs at the same moment."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from lfadsrm_hpc.errors import ClaimLostError
from lfadsrm_hpc.layout import CollectionLayout, RunLayout
from lfadsrm_hpc.manifest.records import Claim, Exit, Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.store import collection_states, publish_exit, take_local

Fork = Callable[[Callable[[], object]], int]
CONTENDERS = 8


def contend(me: int, path: Path, names: list[str], barrier: Barrier, links: bool) -> None:
    os.fsync = lambda handle: None  # the disk's speed is not what is tested
    if not links:

        def link(*_: object) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        os.link = link  # type: ignore[assignment]
    won = []
    barrier.wait(60)
    for name in names:
        run = CollectionLayout(path).run("abcdefghijkl", name)
        try:
            taken = take_local(run, Identity.local("S", me))
        except ClaimLostError:
            continue
        assert isinstance(taken, Claim)
        won.append(f"{name} {taken.attempt} {taken.incarnation}\n")
    (path / f"won.{me}").write_text("".join(won))
    barrier.wait(60)  # who ends early would look dead, and lose its runs by right


def compete(layout: CollectionLayout, runs: list[RunLayout], *, links: bool = True) -> list[str]:
    """Return what was won: run, attempt and incarnation."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(CONTENDERS)
    names = [run.path.name for run in runs]
    children = [
        context.Process(target=contend, args=(me, layout.path, names, barrier, links))
        for me in range(CONTENDERS)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * CONTENDERS
    return sorted(
        line for me in range(CONTENDERS) for line in (layout.path / f"won.{me}").read_text().splitlines()
    )


def make_runs(layout: CollectionLayout, count: int) -> list[RunLayout]:
    runs = [layout.run("abcdefghijkl", f"{i:03d}") for i in range(count)]
    for run in runs:
        run.path.mkdir(parents=True)
    return runs


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_each_run_has_one_winner(layout: CollectionLayout, links: bool) -> None:
    runs = make_runs(layout, 200 if links else 50)
    won = compete(layout, runs, links=links)
    assert won == [f"{run.path.name} 1 0" for run in runs]


def test_each_dead_owners_run_has_one_heir(layout: CollectionLayout, forked: Fork) -> None:
    runs = make_runs(layout, 40)

    def die_with_all() -> None:
        for run in runs:
            take_local(run, Identity.local("S", 0))
        os.kill(os.getpid(), signal.SIGKILL)

    assert forked(die_with_all) == signal.SIGKILL
    assert compete(layout, runs) == [f"{run.path.name} 2 0" for run in runs]


def test_each_half_made_attempt_has_one_heir(layout: CollectionLayout) -> None:
    runs = make_runs(layout, 40)
    for run in runs:
        run.attempt(1).path.mkdir(parents=True)  # killed before the reservation
    assert compete(layout, runs) == [f"{run.path.name} 1 0" for run in runs]


def work_until_killed(me: int, path: Path, names: list[str], seed: int) -> None:
    """Take runs and complete them; write down each completion next to the run, for the count."""
    chance = random.Random(seed)
    while True:
        chance.shuffle(names)
        left = False
        for name in names:
            run = CollectionLayout(path).run("abcdefghijkl", name)
            try:
                taken = take_local(run, Identity.local("S", me))
            except ClaimLostError:
                left = True
                continue
            if isinstance(taken, Claim):
                try:
                    publish_exit(run, taken, Exit(0, "done"))
                except ClaimLostError:
                    left = True
        if not left:
            return


def test_random_kills_lose_no_run_and_complete_none_twice(layout: CollectionLayout) -> None:
    runs = make_runs(layout, 60)
    names = [run.path.name for run in runs]
    context = multiprocessing.get_context("fork")
    chance = random.Random(1)
    for number in range(12):
        child = context.Process(target=work_until_killed, args=(number, layout.path, list(names), number))
        partner = context.Process(
            target=work_until_killed, args=(100 + number, layout.path, list(names), -number)
        )
        child.start()
        partner.start()
        child.join(chance.uniform(0.01, 0.15))
        child.kill()
        partner.kill()
        child.join()
        partner.join()
    work_until_killed(0, layout.path, names, 0)
    states = collection_states(layout, runs)
    assert {status.state for status in states.values()} == {RunState.COMPLETED}
    assert states == {**collection_states(layout, runs)}
    for run in runs:
        exits = [a.number for a in run.attempts() if a.exit(0).exists()]
        assert len(exits) == 1, f"{run.run_id} was completed by the attempts {exits}"
    assert len(layout.outbox_names()) == len(runs)
