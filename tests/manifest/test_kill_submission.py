"""A submission is killed (-9) before every system call; the next loses no run and hands none over twice."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from disk_readers import read_submissions
from killing import kill_before

from lfadsrm_hpc.errors import ClaimLostError
from lfadsrm_hpc.layout import CollectionLayout, RunLayout, SubmissionLayout
from lfadsrm_hpc.manifest.evidence import ChunkState, Evidence
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.reading import look
from lfadsrm_hpc.manifest.reconcile import reconcile
from lfadsrm_hpc.manifest.records import Claim, Exit, Identity, new_ulid
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.store import claim, close, heartbeat, publish_exit, reserve, run_status
from lfadsrm_hpc.manifest.submissions import (
    Plan,
    PlannedChunk,
    PlannedTask,
    Receipt,
    begin_sending,
    record_receipt,
    record_refusal,
    write_plan,
)

Fork = Callable[[Callable[[], object]], int]


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


class World:
    """Four runs, handed over as two jobs, and a scheduler that writes down what it accepts."""

    def __init__(self, path: Path) -> None:
        self.layout = CollectionLayout(path)
        self.runs = [self.layout.run("abcdefghijkl", f"run {n}") for n in range(4)]
        for run in self.runs:
            run.path.mkdir(parents=True)
        self.scheduler = path / "scheduler"
        self.scheduler.mkdir()

    @property
    def accepted(self) -> list[str]:
        """The names of the jobs that the scheduler took, each as often as it took it."""
        return [path.stem for path in self.scheduler.iterdir()]

    def submit(self) -> None:
        """What `lfadsrm submit` does with the manifest."""
        submission = self.layout.submission(new_ulid())
        taken: list[tuple[RunLayout, int]] = []
        for run in self.runs:
            try:
                taken.append((run, reserve(run, submission.ulid)))
            except ClaimLostError:
                continue
        if not taken:
            return
        tasks = [PlannedTask(n // 2, n % 2, run.run_id, k) for n, (run, k) in enumerate(taken)]
        chunks = tuple(
            PlannedChunk(number, f"{submission.ulid}-{number}", 2)
            for number in sorted({t.chunk for t in tasks})
        )
        plan = Plan(submission.ulid, "fake", "site", chunks=chunks, process=Process.current())
        write_plan(submission, plan, tasks, {f"script-{chunk.number}.sh": "exit 0\n" for chunk in chunks})
        for chunk in chunks:
            self.send(submission, chunk, 1)

    def send(self, submission: SubmissionLayout, chunk: PlannedChunk, number: int) -> None:
        if begin_sending(submission, chunk.number, number):
            os.close(os.open(self.scheduler / f"{chunk.name}.{new_ulid()}", os.O_WRONLY | os.O_CREAT))
            record_receipt(submission, chunk.number, Receipt(chunk.name, time.time()))

    def clear_up(self) -> None:
        """What `lfadsrm reconcile` does, long after."""
        now = look(self.layout.path).now + 1000
        plans = read_submissions(self.layout, now)
        for one in plans:
            for chunk in one.chunks:
                if chunk.state is not ChunkState.UNCERTAIN:
                    continue
                if chunk.chunk.name in self.accepted:
                    record_receipt(one.layout, chunk.chunk.number, Receipt(chunk.chunk.name, adopted=True))
                else:
                    record_refusal(one.layout, chunk.chunk.number, chunk.sendings, "not there")
        known = {one.plan.ulid for one in plans}
        for run in self.runs:
            status = run_status(run)
            if status.state is RunState.SUBMITTED and status.submission not in known:
                assert status.reserved_by is not None
                evidence = Evidence(
                    ChunkState.NO_PLAN, 1000, planner_alive=status.reserved_by.is_alive(), live_ok=False
                )
                verdict = reconcile(status, evidence)
                assert (verdict.state, verdict.close) == (RunState.PREPARED, "not_submitted")
                close(run, status.attempt or 0, "not_submitted")

    def go_on(self) -> None:
        """What the next `lfadsrm submit` does."""
        self.clear_up()
        for one in read_submissions(self.layout, look(self.layout.path).now + 1000):
            for chunk in one.chunks:
                if chunk.state is ChunkState.UNSENT:
                    self.send(one.layout, chunk.chunk, chunk.sendings + 1)
        self.submit()

    def check(self) -> None:
        """Every run is in exactly one accepted job, under the attempt that it now has."""
        handed: list[tuple[str, int]] = []
        for one in read_submissions(self.layout, look(self.layout.path).now):
            assert [chunk.state for chunk in one.chunks] == [ChunkState.SENT] * len(one.chunks)
            assert one.damage == ""
            for chunk in one.chunks:
                count = self.accepted.count(chunk.chunk.name)
                assert count == 1
                assert chunk.receipt is not None
                assert chunk.receipt.job == chunk.chunk.name
            handed += [(task.run_id, task.attempt) for task in one.tasks]
        assert len(self.accepted) == len(set(self.accepted))
        assert Counter(run for run, _ in handed) == Counter(run.run_id for run in self.runs)
        for run, attempt in handed:
            status = run_status(self.layout.run_by_id(run))
            assert (status.state, status.attempt) == (RunState.SUBMITTED, attempt)


def let_latency_pass(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True], ids=["between calls", "within a write"])
@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_every_write_point(tmp_path: Path, forked: Fork, links: bool, half: bool) -> None:
    seen: Counter[str] = Counter()
    for number in itertools.count(1):
        world = World(tmp_path / str(number))

        def killed(world: World = world, number: int = number) -> None:
            kill_before(number, links=links, half=half)
            world.submit()

        status = forked(killed)
        if status == 0:
            break
        assert status == signal.SIGKILL
        if not links:
            let_latency_pass(world.layout.path)
        plans = read_submissions(world.layout, look(world.layout.path).now)
        seen.update(chunk.state.value for one in plans for chunk in one.chunks)
        seen["no plan"] += not plans
        world.go_on()
        world.check()
        world.go_on()  # nothing is left to do
        world.check()
    assert number > 100
    assert set(seen) == {"no plan", "unsent", "uncertain", "sent"}


@pytest.mark.slow
def test_every_write_point_of_going_on(tmp_path: Path, forked: Fork) -> None:
    """The one that goes on is killed too, at each of its own steps."""
    for first in (30, 75, 100):
        for number in itertools.count(1):
            world = World(tmp_path / f"{first}-{number}")

            def killed(world: World = world, first: int = first) -> None:
                kill_before(first)
                world.submit()

            def killed_again(world: World = world, number: int = number) -> None:
                kill_before(number)
                world.go_on()

            assert forked(killed) == signal.SIGKILL
            if forked(killed_again) == 0:
                break
            world.go_on()
            world.check()
        assert number > 3


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_job_is_killed_at_every_write_point_and_started_again(
    tmp_path: Path, forked: Fork, links: bool
) -> None:
    job = Identity("cluster", "17[].server", "3", "PLAN")
    seen = set()
    for number in itertools.count(1):
        run = CollectionLayout(tmp_path / str(number)).run("abcdefghijkl", "run")
        run.path.mkdir(parents=True)
        reserve(run, "PLAN")

        def start(run: RunLayout = run, number: int = number) -> None:
            kill_before(number, links=links, half=not links)
            mine = claim(run, 1, job)
            heartbeat(run, mine, epoch=1)
            with (run.path / "trained").open("a") as file:
                file.write(f"{mine.incarnation}\n")
            publish_exit(run, mine, Exit(0, "done"))

        status = forked(start)
        if status == 0:
            break
        assert status == signal.SIGKILL
        if not links:
            let_latency_pass(run.attempts_dir)
        before = run_status(run)
        seen.add(before.state)
        try:
            # The scheduler starts the job again, and writes its id another way.
            mine = claim(run, 1, replace(job, job="17[].server.site.org"))
            assert before.state is not RunState.COMPLETED
            assert mine.incarnation == (0 if before.state is RunState.SUBMITTED else 1)
            publish_exit(run, mine, Exit(0, "done"))
        except ClaimLostError:
            assert before.state is RunState.COMPLETED
            assert (run.path / "trained").read_text() == "0\n"
        assert run_status(run).state is RunState.COMPLETED
        with pytest.raises(ClaimLostError):
            claim(run, 1, replace(job, job="18[].server"))
        assert [a.number for a in run.attempts()] == [1]
    assert number > 20
    assert seen == {RunState.SUBMITTED, RunState.UNKNOWN, RunState.COMPLETED}


def test_a_late_job_finds_its_attempt_given_up(tmp_path: Path) -> None:
    world = World(tmp_path / "w")
    world.submit()
    run = world.runs[0]
    close(run, 1, "never_started")
    again = new_ulid()
    assert reserve(run, again) == 2
    (first,) = {status.submission for status in map(run_status, world.runs[1:])}
    with pytest.raises(ClaimLostError) as caught:
        claim(run, 1, Identity("cluster", "17", "0", first))
    assert caught.value.exit_code == 64
    assert isinstance(claim(run, 2, Identity("cluster", "18", "0", again)), Claim)
