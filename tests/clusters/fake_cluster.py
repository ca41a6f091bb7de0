"""A scheduler in memory that does what real ones do: forget, time out after accepting, lose answers."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lfadsrm_hpc.errors import (
    SchedulerRefusedError,
    SchedulerUnreachableError,
    SubmissionUncertainError,
)
from lfadsrm_hpc.layout import CollectionLayout, SubmissionLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.evidence import Seen
from lfadsrm_hpc.manifest.records import Claim, Exit, Identity, reason_of
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.submission_reading import read_submission
from lfadsrm_hpc.manifest.submissions import Plan, PlannedTask
from lfadsrm_hpc.schedulers.batch import PLAIN, Accepted, BatchScheduler, Found, Job, Report

_ENDS = {
    RunState.COMPLETED,
    RunState.FAILED,
    RunState.TIMEOUT,
    RunState.OUT_OF_MEMORY,
    RunState.NODE_FAIL,
    RunState.CANCELLED,
    RunState.PREEMPTED,
}


@dataclass
class FakeJob:
    id: str
    name: str
    submission: SubmissionLayout
    plan: Plan
    chunk: int
    size: int
    tasks: dict[int, Seen]
    throttle: int
    submitted: float


@dataclass
class FakeCluster(BatchScheduler):
    """A cluster that runs nothing by itself: tests say what its tasks do.

    Attributes
    ----------
    faults : list of str
        What happens at the next calls of `submit`: "ok", "refuse", "unreachable", "accepted but timed out",
        "timed out", "interrupt", "accepted but interrupted".
    down : bool
        Nothing answers.
    remembers : bool
        Whether ended jobs are remembered after `purge`.
    history_answers : bool
        There is a history, and it can be asked.
    refuses : bool
        It lets us cancel nothing.
    """

    faults: list[str] = field(default_factory=list)
    down: bool = False
    blind: bool = False
    calls: list[str] = field(default_factory=list)
    jobs: dict[str, FakeJob] = field(default_factory=dict)
    purged: dict[str, FakeJob] = field(default_factory=dict)
    remembers: bool = False
    history_answers: bool = True
    refuses: bool = False

    name = "fake"

    def __post_init__(self) -> None:
        super().__init__()

    # -- the contract -----------------------------------------------------------------------------

    def submit(self, script: Path) -> Accepted:
        self.calls.append(f"submit {script.parent.name[-4:]} {script.name}")
        fault = self.faults.pop(0) if self.faults else "ok"
        if fault == "refuse":
            raise SchedulerRefusedError("invalid account", hint="name another")
        if fault == "unreachable" or self.down:
            raise SchedulerUnreachableError("nobody answers")
        if fault == "interrupt":
            raise KeyboardInterrupt
        if fault == "timed out":
            raise SubmissionUncertainError("no answer in time")
        job = self._take(script)
        if fault == "accepted but timed out":
            raise SubmissionUncertainError("no answer in time")
        if fault == "accepted but interrupted":
            raise KeyboardInterrupt
        return Accepted(job.id, output=f"Submitted batch job {job.id}")

    def _take(self, script: Path) -> FakeJob:
        assert script.is_file()
        submission = SubmissionLayout(script.parent)
        on_disk = read_submission(submission, time.time())
        assert on_disk is not None, "the plan must be on disk before the scheduler hears of it"
        match = re.fullmatch(r"script-(\d+)\.sh", script.name)
        assert match is not None
        chunk = on_disk.plan.chunks[int(match[1])]
        identity = str(100 + len(self.jobs) + len(self.purged))
        waits = Seen(RunState.PENDING, "PENDING", "Priority")
        indices = range(chunk.size) if chunk.size else (PLAIN,)
        job = FakeJob(
            identity,
            chunk.name,
            submission,
            on_disk.plan,
            chunk.number,
            chunk.size,
            dict.fromkeys(indices, waits),
            chunk.max_parallel,
            time.time(),
        )
        self.jobs[job.id] = job
        return job

    def look(self, jobs: Sequence[Job]) -> Report:
        self.calls.append(f"look {len(jobs)}")
        if self.down:
            return Report(live_ok=False, history_ok=False if self.remembers else None)
        known = {**(self.purged if self.remembers else {}), **self.jobs}
        tasks = {
            (job.id, index): replace(seen, live=job.id in self.jobs)
            for job in jobs
            if job.id in known
            for index, seen in known[job.id].tasks.items()
        }
        if not self.history_answers:
            return Report(tasks, live_ok=True, history_ok=False)
        return Report(tasks, live_ok=True, history_ok=True if self.remembers else None)

    def find(self, names: Sequence[str], since: float) -> list[Found]:
        self.calls.append(f"find {len(names)}")
        if self.down or self.blind:
            raise SchedulerUnreachableError("nobody answers")
        return [
            Found(job.id, job.name, job.plan.ulid)
            for job in self.jobs.values()
            if job.name in names and job.submitted >= since
        ]

    def cancel(self, job: Job, indices: Sequence[int] | None = None) -> None:
        self.calls.append(f"cancel {job.id} {'all' if indices is None else list(indices)}")
        if self.down:
            raise SchedulerUnreachableError("nobody answers")
        if self.refuses:
            raise SchedulerRefusedError("access denied")
        mine = self.jobs.get(job.id)
        for index in [] if mine is None else list(mine.tasks) if indices is None else indices:
            assert mine is not None
            if mine.tasks[index].state not in _ENDS:
                mine.tasks[index] = Seen(RunState.CANCELLED, "CANCELLED by 0", ended=time.time())

    def throttle(self, job: Job, most: int) -> None:
        self.calls.append(f"throttle {job.id} {most}")
        if self.down:
            raise SchedulerUnreachableError("nobody answers")
        self.jobs[job.id].throttle = most

    def version(self) -> str:
        self.calls.append("version")
        if self.down:
            raise SchedulerUnreachableError("nobody answers", hint="try again later")
        return "fake 1.0"

    # -- what tests let happen --------------------------------------------------------------------

    @property
    def submits(self) -> int:
        return sum(call.startswith("submit") for call in self.calls)

    def members(self, job: str, index: int) -> list[PlannedTask]:
        mine = self.jobs[job]
        on_disk = read_submission(mine.submission, time.time())
        assert on_disk is not None
        place = 0 if index == PLAIN else index
        return [task for task in on_disk.tasks if (task.chunk, task.index) == (mine.chunk, place)]

    def start(self, job: str, index: int, *, living: bool = True) -> list[Claim]:
        """Let a task begin: it claims its runs. A dead one leaves the claim of a process that is gone."""
        mine = self.jobs[job]
        mine.tasks[index] = Seen(RunState.RUNNING, "RUNNING", host="n0")
        claims = []
        for task in self.members(job, index):
            run = collection_of(mine.submission).run_by_id(task.run_id)
            cluster = mine.plan.cluster or mine.plan.site
            identity = Identity(cluster, job, str(max(index, 0)), mine.plan.ulid)
            claim = store.claim(run, task.attempt, identity)
            claims.append(claim)
            if not living:
                place = run.attempt(claim.attempt).claim(claim.incarnation)
                _kill(place)
        return claims

    def end(
        self, job: str, index: int, code: int, reason: str = "", *, state: RunState | None = None
    ) -> None:
        """Let a task that has begun end with a record of its own."""
        mine = self.jobs[job]
        for task in self.members(job, index):
            run = collection_of(mine.submission).run_by_id(task.run_id)
            attempt = run.attempt(task.attempt)
            k = attempt.incarnations()["claim"][-1]
            claim = store.read_claim(attempt, k)
            assert claim is not None
            store.publish_exit(run, claim, Exit(code, reason or reason_of(code), token=claim.token))
        word = state or (RunState.COMPLETED if code in (0, 64) else RunState.FAILED)
        self.set(job, index, word)

    def run(self, job: str, index: int, code: int = 0, reason: str = "") -> None:
        self.start(job, index)
        self.end(job, index, code, reason)

    def set(self, job: str, index: int, state: RunState, **more: Any) -> None:
        ended = time.time() - 1000 if state in _ENDS else None
        self.jobs[job].tasks[index] = Seen(state, state.value, ended=ended, **more)

    def purge(self, job: str) -> None:
        """Forget a job, as schedulers do some minutes after its end."""
        self.purged[job] = self.jobs.pop(job)


def collection_of(submission: SubmissionLayout) -> CollectionLayout:
    return CollectionLayout(submission.path.parents[2])


def age(path: Path, seconds: float) -> None:
    """Make a file older than it is."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def age_run(layout: CollectionLayout, run_id: str, seconds: float) -> None:
    """Let all that a run's attempts left be older."""
    for path in layout.run_by_id(run_id).attempts_dir.rglob("*"):
        age(path, seconds)


def age_submissions(layout: CollectionLayout, seconds: float) -> None:
    for submission in layout.submissions():
        for path in [*submission.path.rglob("*"), submission.path]:
            age(path, seconds)


def _kill(claim: Path) -> None:
    record = json.loads(claim.read_text())
    record["process"] |= {"pid": 2**30, "start": 1}
    claim.write_text(json.dumps(record))
    age(claim, 1000)
