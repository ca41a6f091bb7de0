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
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import Claim, Exit, Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.store import (
    claim,
    collection_states,
    publish_exit,
    reserve,
    run_status,
    take_local,
)

Fork = Callable[[Callable[[], object]], int]
CONTENDERS = 8


Take = Callable[[RunLayout, int], str]


def locally(run: RunLayout, me: int) -> str:
    taken = take_local(run, Identity.local("S", me))
    assert isinstance(taken, Claim)
    return f"{taken.attempt} {taken.incarnation}"


def as_a_job(run: RunLayout, me: int) -> str:
    """Claim what was reserved, as one of several jobs that were submitted for it by mistake."""
    taken = claim(run, 1, Identity("cluster", f"{me}[].server", "3", "PLAN"))
    return f"{taken.attempt} {taken.incarnation}"


def as_one_job(run: RunLayout, me: int) -> str:
    """Claim what was reserved, as one of several starts of one job (a node was thought dead)."""
    taken = claim(run, 1, Identity("cluster", "7[].server", "3", "PLAN"))
    return f"{taken.attempt} {taken.incarnation}"


def ahead(run: RunLayout, me: int) -> str:
    return str(reserve(run, f"PLAN {me}"))


def contend(me: int, path: Path, names: list[str], barrier: Barrier, links: bool, take: Take) -> None:
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
            won.append(f"{name} {take(run, me)}\n")
        except ClaimLostError:
            continue
    (path / f"won.{me}").write_text("".join(won))
    barrier.wait(280)  # who ends early would look dead, and lose its runs by right


def compete(
    layout: CollectionLayout, runs: list[RunLayout], *, links: bool = True, take: Take = locally
) -> list[str]:
    """Return what was won: run, attempt and incarnation."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(CONTENDERS)
    names = [run.path.name for run in runs]
    children = [
        context.Process(target=contend, args=(me, layout.path, names, barrier, links, take))
        for me in range(CONTENDERS)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(300)
    assert [child.exitcode for child in children] == [0] * CONTENDERS
    return sorted(
        line for me in range(CONTENDERS) for line in (layout.path / f"won.{me}").read_text().splitlines()
    )


def make_runs(layout: CollectionLayout, count: int) -> list[RunLayout]:
    runs = [layout.run("abcdefghijkl", f"{i:04d}") for i in range(count)]
    for run in runs:
        run.path.mkdir(parents=True)
    return runs


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_each_run_has_one_winner(layout: CollectionLayout, links: bool) -> None:
    runs = make_runs(layout, 200 if links else 50)
    won = compete(layout, runs, links=links)
    assert won == [f"{run.path.name} 1 0" for run in runs]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("take", "outcome"), [(locally, "1 0"), (as_a_job, "1 0"), (ahead, "1")], ids=["local", "job", "reserve"]
)
def test_two_thousand_claims_have_one_winner_each(
    layout: CollectionLayout, monkeypatch: pytest.MonkeyPatch, take: Take, outcome: str
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    runs = make_runs(layout, 2000)
    if take is as_a_job:
        for run in runs:
            assert reserve(run, "PLAN") == 1
    assert compete(layout, runs, take=take) == [f"{run.path.name} {outcome}" for run in runs]
    state = RunState.SUBMITTED if take is ahead else RunState.RUNNING
    # Claims of processes that have ended meanwhile; those of a cluster wait for their scheduler's word.
    expected = {locally: RunState.LOST, as_a_job: RunState.UNKNOWN}.get(take, state)
    assert {run_status(run).state for run in runs[::100]} == {expected}


def test_several_starts_of_one_job_get_a_number_each(layout: CollectionLayout) -> None:
    runs = make_runs(layout, 30)
    for run in runs:
        reserve(run, "PLAN")
    won = compete(layout, runs, take=as_one_job)
    assert len(won) == len(set(won))
    for run in runs:
        mine = [line for line in won if line.startswith(f"{run.path.name} ")]
        taken = run.attempt(1).incarnations()["claim"]
        # One that lost its number to a faster one between look and claim has ended; the highest stands.
        assert taken == list(range(len(taken)))
        assert f"{run.path.name} 1 {taken[-1]}" in mine


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


def test_a_start_that_is_overtaken_leaves_the_attempt_to_the_later_one(
    layout: CollectionLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later start comes just when the earlier one has put its claim on record."""
    (run,) = make_runs(layout, 1)
    reserve(run, "PLAN")
    job = Identity("cluster", "7[].server", "3", "PLAN")
    real, later = store.is_superseded, []

    def overtaken(run: RunLayout, mine: Claim) -> bool:
        monkeypatch.setattr(store, "is_superseded", real)
        later.append(claim(run, 1, job))
        return real(run, mine)

    monkeypatch.setattr(store, "is_superseded", overtaken)
    with pytest.raises(ClaimLostError):
        claim(run, 1, job)
    assert [one.incarnation for one in later] == [1]
    assert not run.attempt(1).closed.exists()
    assert not real(run, later[0])
