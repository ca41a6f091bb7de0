"""Real Slurm and fake PBS with client programs that go wrong: nothing is lost, nothing trained twice.

The tasks claim and record as the real one does, and write down in their run's folder that they "trained".
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk_readers import read_submissions
from fault_wrapper import CALLED_BEFORE, FAULTS

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.errors import (
    LfadsrmWarning,
    NothingEligibleError,
    PartlySubmittedError,
    SchedulerRefusedError,
    SchedulerUnreachableError,
    SubmissionUncertainError,
)
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.sites.live import ask_scheduler

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

S = RunState
ROOT = Path(__file__).resolve().parents[2]
CALL_S, LATENCY_S = 4, 1  # time limit of one call; of the file system

TASK = """
import argparse, os, signal, sys, time
from pathlib import Path
from lfadsrm_hpc.errors import ClaimLostError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import Exit, Identity, reason_of

parser = argparse.ArgumentParser()
for option in ("--collection", "--run", "--attempt", "--submission", "--task"):
    parser.add_argument(option, required=True)
args = parser.parse_args()
stopped = []
for number in (signal.SIGTERM, signal.SIGUSR2):
    signal.signal(number, lambda number, frame: stopped.append(number))
run = CollectionLayout(Path(args.collection)).run_by_id(args.run)
name = os.environ["LFADSRM_CLUSTER"], os.environ["LFADSRM_JOB"], args.task, args.submission
try:
    claim = store.claim(run, int(args.attempt), Identity(*name))
except ClaimLostError as error:
    print(error)
    sys.exit(64)
with (run.path / "trained").open("a") as file:
    file.write(f"{name}\\n")
while (Path(args.collection).parent / "wait").exists() and not stopped:
    store.heartbeat(run, claim, epoch=1)
    time.sleep(0.1)
code = 75 if stopped else 0
store.publish_exit(run, claim, Exit(code, reason_of(code)))
sys.exit(code)
"""
SLURM = ("sbatch", "squeue", "scancel", "scontrol", "scontrol")
PBS = ("qsub", "qstat", "qdel", "qalter", "qstat")
SUBMIT_ERRORS = (
    NothingEligibleError,
    PartlySubmittedError,
    SchedulerRefusedError,
    SchedulerUnreachableError,
    SubmissionUncertainError,
)


@dataclass
class Cluster:
    """A scheduler with client programs that can go wrong, and four prepared runs."""

    rc: RunCollection
    site: str
    faults: Any
    submit_program: str
    query_program: str
    cancel_program: str
    throttle_program: str
    greeting_program: str  # which is asked first whether anybody answers

    def submit(self, **more: Any) -> Any:
        sets = (
            f"filesystem.latency_s={LATENCY_S}",
            f"client.timeout_s={CALL_S}",
            "limits.array_tasks=2",  # four runs are two jobs
            f'environment.variables.PYTHONPATH="{ROOT}"',
        )
        command = (sys.executable, str(self.rc.path.parent / "task.py"))
        asked = {"walltime": "0:10:00", "memory": "100M", "cpus": 1, **more}
        return self.rc.submit(site=self.site, sets=sets, task_command=command, **asked)

    def submit_in_the_end(self) -> list[type[Exception]]:
        """Do as a patient user does, until every run is in some job; return what went wrong meanwhile."""
        went_wrong: list[type[Exception]] = []
        end = time.monotonic() + 90
        while not self.all_handed_over():
            assert time.monotonic() < end, [(s.run_id, s.state, s.reason) for s in self.status()]
            try:
                self.submit()
            except SUBMIT_ERRORS as error:
                went_wrong.append(type(error))
                time.sleep(0.5)
                with contextlib.suppress(SchedulerUnreachableError):
                    self.rc.reconcile()
        return went_wrong

    def all_handed_over(self) -> bool:
        handed: set[str] = set()
        for one in read_submissions(self.rc.layout, time.time()):
            sent = {chunk.chunk.number for chunk in one.chunks if chunk.receipt is not None}
            handed |= {task.run_id for task in one.tasks if task.chunk in sent}
        return handed == {run.id for run in self.rc.runs}

    def status(self) -> list[RunStatus]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LfadsrmWarning)
            return self.rc.status()

    def states(self) -> Counter[RunState]:
        return Counter(status.state for status in self.status())

    def until(self, true: Callable[[Counter[RunState]], object], seconds: float = 90) -> None:
        end = time.monotonic() + seconds
        while not true(self.states()):
            assert time.monotonic() < end, [(s.run_id, s.state, s.reason, s.message) for s in self.status()]
            time.sleep(0.3)

    def wait(self) -> None:
        """Let tasks work until `go`."""
        (self.rc.path.parent / "wait").touch()

    def go(self) -> None:
        (self.rc.path.parent / "wait").unlink(missing_ok=True)

    def trained(self) -> dict[str, int]:
        """Return how often each run was trained."""
        files = {run.id: run.layout.path / "trained" for run in self.rc.runs}
        return {
            run: len(file.read_text().splitlines()) if file.exists() else 0 for run, file in files.items()
        }

    def accepted(self) -> int:
        """Return how many jobs the scheduler took."""
        return sum(call.code == 0 for call in self.faults.calls(self.submit_program))

    def receipts(self) -> list[str]:
        found = read_submissions(self.rc.layout, time.time())
        return [chunk.receipt.job for one in found for chunk in one.chunks if chunk.receipt is not None]

    def closed(self) -> list[Path]:
        return sorted(self.rc.path.glob("param_*/*/attempts/*/closed.json"))


def make_collection(folder: Path) -> RunCollection:
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.collection.run_spec import RunSpec
    from lfadsrm_hpc.data.dataset import Dataset
    from lfadsrm_hpc.data.dataset_collection import DatasetCollection

    (folder / "data").mkdir(parents=True)
    spikes = np.random.default_rng(1).poisson(0.5, (40, 20, 5))
    np.savez(folder / "data/day.npz", spikes=spikes, bin_ms=10.0)
    sessions = DatasetCollection(folder / "data")
    Dataset(sessions, "day.npz")
    made = RunCollection(folder, "runs", sessions)
    made.add_params(RunParams(spike_bin_ms=10, co_dim=0, batch_size=8))
    made.add_run_spec([RunSpec(f"r{n}", sessions, ["day"]) for n in range(4)])
    made.prepare_for_lfads(warn=False)
    (folder / "task.py").write_text(TASK)
    return made


@pytest.fixture(params=["slurm", "pbspro", "torque"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    server = request.getfixturevalue(request.param)
    if request.param != "slurm":
        server.set(job_environment={"PATH": os.environ["PATH"]})
    faults = request.getfixturevalue("faults")  # last, so that it stands before the others on PATH
    rc = make_collection(tmp_path / "collections")
    programs = SLURM if request.param == "slurm" else PBS
    return Cluster(rc, f"generic-{request.param}", faults, *programs)


def check_trained_once(cluster: Cluster) -> None:
    cluster.until(lambda states: states[S.COMPLETED] == 4)
    assert set(cluster.trained().values()) == {1}


@pytest.mark.parametrize("fault", FAULTS)
def test_submitting(cluster: Cluster, fault: str) -> None:
    """The call for the second of two jobs goes wrong; whatever follows, each job is submitted once."""
    cluster.faults.inject(cluster.submit_program, fault, after=1, text="error: Socket timed out on send/recv")
    went_wrong = cluster.submit_in_the_end()
    assert len(went_wrong) <= 20
    check_trained_once(cluster)
    assert cluster.accepted() == len(set(cluster.receipts())) == 2
    spoiled = [call for call in cluster.faults.calls(cluster.submit_program) if call.fault]
    assert [call.fault for call in spoiled] == [fault]
    calls = len(cluster.faults.calls(cluster.submit_program))
    assert calls == (2 if fault in CALLED_BEFORE else 3), "what was accepted is never submitted again"


@pytest.mark.parametrize("fault", ["hang_after", "garbage", "hang_before"])
def test_submitting_while_queries_go_wrong_too(cluster: Cluster, fault: str) -> None:
    """Nobody knows what became of the job, and the first looks for it fail in every way."""
    cluster.faults.inject(cluster.submit_program, fault)
    with contextlib.suppress(*SUBMIT_ERRORS):
        cluster.submit()
    before = len(cluster.faults.calls(cluster.submit_program))
    time.sleep(CALL_S + LATENCY_S)  # the patience with a call is over: absence would count
    for how in ("fail", "lose_output", "half_output", "garbage", "error_after", "hang_before"):
        cluster.faults.inject(cluster.query_program, how, times=1000)
        with contextlib.suppress(SchedulerUnreachableError, SubmissionUncertainError), quiet():
            cluster.rc.reconcile()
        cluster.faults.clear()
    after = cluster.faults.calls(cluster.submit_program)
    assert len(after) == before
    cluster.submit_in_the_end()
    check_trained_once(cluster)
    assert cluster.accepted() == len(set(cluster.receipts())) == 2


def test_looking(cluster: Cluster) -> None:
    """Two runs work and two wait, while the queries go wrong in every way: no run is lost by that."""
    cluster.wait()
    cluster.submit(max_parallel=2)
    cluster.until(lambda states: states == Counter({S.RUNNING: 2, S.PENDING: 2}))
    time.sleep(2 * LATENCY_S)  # the receipts are older than the latency: absence would count
    for fault in FAULTS:
        cluster.faults.inject(cluster.query_program, fault, times=1000)
        states = cluster.states()
        cluster.faults.clear()
        assert states[S.RUNNING] == 2, (fault, states)
        assert states[S.PENDING] + states[S.UNKNOWN] == 2, (fault, states)
        assert cluster.closed() == [], fault
    assert cluster.states() == Counter({S.RUNNING: 2, S.PENDING: 2})
    cluster.go()
    check_trained_once(cluster)
    assert cluster.accepted() == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_cancelling(cluster: Cluster, fault: str) -> None:
    """The call goes wrong; the cancellation is on record all the same, and doing it again works."""
    cluster.wait()
    cluster.submit(max_parallel=2)
    cluster.until(lambda states: states[S.RUNNING] == 2 and sum(cluster.trained().values()) == 2)
    cluster.faults.inject(cluster.cancel_program, fault, text="error: Socket timed out on send/recv")
    went_wrong: list[Exception] = []
    with quiet():
        for _ in range(3):
            try:
                cluster.rc.cancel()
            except (SchedulerUnreachableError, SchedulerRefusedError, NothingEligibleError) as error:
                went_wrong.append(error)
    cluster.until(lambda states: states == Counter({S.CANCELLED: 4}))
    assert sorted(cluster.trained().values()) == [0, 0, 1, 1]
    cluster.go()
    cluster.submit(states=["CANCELLED"])  # asked for explicitly
    cluster.until(lambda states: states[S.COMPLETED] == 4)
    assert sorted(cluster.trained().values()) == [1, 1, 2, 2]


def test_throttling(cluster: Cluster) -> None:
    """The call goes wrong: no run is touched by that, and doing it again works."""
    cluster.wait()
    cluster.submit(max_parallel=2)
    cluster.until(lambda states: states == Counter({S.RUNNING: 2, S.PENDING: 2}))
    for fault in FAULTS:
        cluster.faults.inject(cluster.throttle_program, fault, text="error: Socket timed out on send/recv")
        with quiet(), contextlib.suppress(SchedulerUnreachableError):
            cluster.rc.throttle(2)
        spoiled = [call.fault for call in cluster.faults.calls(cluster.throttle_program) if call.fault]
        assert spoiled[-1] == fault
        assert cluster.states() == Counter({S.RUNNING: 2, S.PENDING: 2}), fault
        assert cluster.closed() == [], fault
    cluster.rc.throttle(4)
    cluster.until(lambda states: states == Counter({S.RUNNING: 4}))
    cluster.go()
    check_trained_once(cluster)


def test_nobody_answers_at_first(cluster: Cluster) -> None:
    """Before anything is written a scheduler must answer, and that answer may go wrong too."""
    for fault in set(FAULTS) - {"half_output"}:  # half of a long answer is one
        cluster.faults.inject(cluster.greeting_program, fault)
        with pytest.raises(SchedulerUnreachableError):
            cluster.submit()
        assert cluster.rc.layout.submissions() == [], fault
        assert not list(cluster.rc.path.glob("param_*/*/attempts/*")), fault
    assert cluster.states() == Counter({S.PREPARED: 4})
    assert cluster.faults.calls(cluster.submit_program) == []
    cluster.submit()
    check_trained_once(cluster)


def test_the_history_goes_wrong(slurm_with_accounting: Any, faults: Any, tmp_path: Path) -> None:
    """What became of the jobs is known to the accounts alone: while they answer badly nothing follows."""
    rc = make_collection(tmp_path / "collections")
    cluster = Cluster(rc, "generic-slurm", faults, *SLURM)
    slurm = slurm_with_accounting
    slurm.run("scontrol", "update", "PartitionName=debug", "State=DOWN")
    try:
        jobs = [job.job for job in cluster.submit().jobs]
        slurm.run("scancel", *jobs)
        for job in jobs:
            slurm.until(lambda job=job: not slurm.states(job), "the queue forgets it", 60)
            said = ("sacct", "-X", "-n", "-P", "-o", "State", "-j", job)
            slurm.until(lambda said=said: "CANCELLED" in slurm.run(*said), "the accounts know it", 60)
        time.sleep(2 * LATENCY_S)
        for fault in FAULTS:
            faults.inject("sacct", fault, times=1000)
            assert cluster.states() == Counter({S.UNKNOWN: 4}), fault
            faults.clear()
            assert cluster.closed() == [], fault
        assert cluster.states() == Counter({S.CANCELLED: 4})
    finally:
        slurm.run("scontrol", "update", "PartitionName=debug", "State=UP")
    cluster.submit(states=["CANCELLED"])
    check_trained_once(cluster)


@pytest.mark.parametrize("program", ["sinfo", "scontrol"])
def test_what_a_cluster_is_like(slurm: Any, faults: Any, program: str) -> None:
    """`lfadsrm site check --live` takes no lost, cut or garbled answer for a description."""
    known = ask_scheduler("slurm", 30)
    assert set(known.queues) == {"debug", "gpu"}
    for fault in FAULTS:
        faults.inject(program, fault)
        with pytest.raises(SchedulerUnreachableError):
            ask_scheduler("slurm", 2)
    assert ask_scheduler("slurm", 30) == known


def test_two_submit_at_once_while_calls_go_wrong(cluster: Cluster) -> None:
    for fault in ("hang_after", "garbage"):
        cluster.faults.inject(cluster.submit_program, fault)
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                with contextlib.suppress(*SUBMIT_ERRORS):
                    cluster.submit()
            finally:
                os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    cluster.submit_in_the_end()
    check_trained_once(cluster)
    assert cluster.accepted() == len(set(cluster.receipts()))


@contextlib.contextmanager
def quiet() -> Iterable[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LfadsrmWarning)
        yield
