"""Arrays on a real Slurm, from submitting to the last run completed; the tasks do as a plan tells them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.errors import (
    LfadsrmWarning,
    SchedulerRefusedError,
    SchedulerUnreachableError,
    SubmissionUncertainError,
)
from lfadsrm_hpc.manifest.states import RunState

if TYPE_CHECKING:
    from slurm_cluster import SlurmCluster

S = RunState
ROOT = Path(__file__).resolve().parents[2]

# Claims and records as the real one does; what it does in between stands in plan.json beside the collection,
# by run spec: how long it works, and how it ends.
TASK = """
import argparse, json, os, signal, sys, time
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
plan = json.loads((Path(args.collection).parent / "plan.json").read_text())
seconds, end = plan.get(run.path.name, [0.2, 0])
until = time.monotonic() + seconds
while time.monotonic() < until and not stopped:
    store.heartbeat(run, claim, epoch=1)
    time.sleep(0.1)
if end == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
code = 75 if stopped else end
store.publish_exit(run, claim, Exit(code, reason_of(code)))
sys.exit(code)
"""


@pytest.fixture
def rc(tmp_path: Path) -> RunCollection:
    """Return eight prepared runs, in a folder whose name needs quotes."""
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.collection.run_spec import RunSpec
    from lfadsrm_hpc.data.dataset import Dataset
    from lfadsrm_hpc.data.dataset_collection import DatasetCollection

    folder = tmp_path / 'it\'s "mine" $(true)'
    (folder / "data").mkdir(parents=True)
    spikes = np.random.default_rng(1).poisson(0.5, (40, 20, 5))
    np.savez(folder / "data/day.npz", spikes=spikes, bin_ms=10.0)
    sessions = DatasetCollection(folder / "data")
    Dataset(sessions, "day.npz")
    made = RunCollection(folder, "runs", sessions)
    made.add_params(RunParams(spike_bin_ms=10, co_dim=0, batch_size=8))
    made.add_run_spec([RunSpec(f"r{n}", sessions, ["day"]) for n in range(8)])
    made.prepare_for_lfads(warn=False)
    (folder / "task.py").write_text(TASK)
    tell(made)
    return made


def tell(rc: RunCollection, **runs: tuple[float, int | str]) -> None:
    (rc.path.parent / "plan.json").write_text(json.dumps(runs))


def options(rc: RunCollection, **more: Any) -> dict[str, Any]:
    sets = (
        "filesystem.latency_s=1",
        "client.timeout_s=5",
        f'environment.variables.PYTHONPATH="{ROOT}"',
        *more.pop("sets", ()),
    )
    command = (sys.executable, str(rc.path.parent / "task.py"))
    return {"site": "generic-slurm", "sets": sets, "task_command": command, **more}


def until(rc: RunCollection, true: Callable[[Counter[RunState]], object], seconds: float = 60) -> list[Any]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = list(rc.track().statuses.values())
        if true(Counter(status.state for status in found)):
            return found
        time.sleep(0.3)
    raise AssertionError([(status.run_id, status.state, status.reason, status.message) for status in found])


def test_an_array_from_submitting_to_the_last_run(slurm: SlurmCluster, rc: RunCollection) -> None:
    tell(rc, r0=(30, 0), r1=(0.2, 1), r2=(0.2, "kill"), r7=(30, 0))
    submitted = rc.submit(**options(rc, walltime="0:10:00", memory="10M", cpus=1, max_parallel=4))
    (job,) = submitted.jobs
    assert job.tasks == 8
    until(rc, lambda n: n[S.COMPLETED] == 4 and n[S.RUNNING] == 2 and n[S.FAILED] == 2)
    slurm.until(
        lambda: all(rc.runs[n].status().claim for n in (0, 7)), "they have begun, not their jobs alone"
    )
    cancelled = rc.cancel([run for run in rc.runs if run.spec.name in ("r0", "r7")])
    assert {status.run_id for status in cancelled.running} == {rc.runs[0].id, rc.runs[7].id}
    until(rc, lambda n: n[S.CANCELLED] == 2)
    slurm.until(lambda: {rc.runs[n].status().code for n in (0, 7)} == {75}, "those at work have checkpointed")
    logs = [run.layout.attempt(1).log for run in rc.runs]
    assert all(log.is_file() for log in logs)
    tell(rc)
    submitted = rc.retry(states=["FAILED", "CANCELLED"], **options(rc, site=None))
    assert len(submitted.runs) == 4
    assert len(submitted.jobs) == 1
    until(rc, lambda n: n[S.COMPLETED] == 8)
    assert [len(run.layout.attempts()) for run in rc.runs] == [2, 2, 2, 1, 1, 1, 1, 2]


def test_chunks_over_a_small_array_size(new_slurm: Callable[..., SlurmCluster], rc: RunCollection) -> None:
    new_slurm(nodes=1, max_array_size=4)
    more: dict[str, Any] = {"walltime": "0:10:00", "memory": "10M", "cpus": 1}
    with pytest.raises(SchedulerRefusedError, match="array"):  # the site's description says too much
        rc.submit(rc.runs[:5], **options(rc, **more))
    assert {status.state for status in rc.status()} == {S.PREPARED}
    sets = ("limits.largest_array_index=3",)
    submitted = rc.submit(rc.runs[:5], **options(rc, sets=sets, **more))
    assert [job.tasks for job in submitted.jobs] == [2, 3]
    until(rc, lambda n: n[S.COMPLETED] == 5)


def test_a_throttle_and_pending_tasks_that_are_cancelled(slurm: SlurmCluster, rc: RunCollection) -> None:
    tell(rc, **{f"r{n}": (60, 0) for n in range(8)})
    (job,) = rc.submit(**options(rc, walltime="0:10:00", memory="10M", cpus=1, max_parallel=1)).jobs
    until(rc, lambda n: n[S.RUNNING] == 1 and n[S.PENDING] == 7)
    assert rc.throttle(3).jobs == {job.job: 3}
    until(rc, lambda n: n[S.RUNNING] == 3 and n[S.PENDING] == 5)
    assert len(rc.cancel(states=["PENDING"]).runs) == 5
    until(rc, lambda n: n[S.RUNNING] == 3 and n[S.CANCELLED] == 5)
    rc.cancel()
    until(rc, lambda n: n[S.CANCELLED] == 8)
    slurm.until(lambda: not slurm.run("squeue", "-h", "-j", job.job, check=False).strip(), "all have gone")


def test_a_controller_that_is_down(slurm: SlurmCluster, rc: RunCollection) -> None:
    more = options(rc, walltime="0:10:00", memory="10M", cpus=1)
    tell(rc, r0=(20, 0), r1=(20, 0))
    rc.submit(rc.runs[:2], **more)
    until(rc, lambda n: n[S.RUNNING] == 2)
    slurm.stop_controller()
    try:
        with pytest.raises(SchedulerUnreachableError):
            rc.submit(**more)
        assert len(rc.layout.submissions()) == 1
        with pytest.warns(LfadsrmWarning, match="cannot be asked"):
            found = rc.status()
        assert Counter(status.state for status in found)[S.PREPARED] == 6
    finally:
        slurm.start_controller()
    rc.submit(**more)
    until(rc, lambda n: n[S.COMPLETED] == 8)


def test_a_controller_that_answers_too_late_took_the_job(
    slurm: SlurmCluster, rc: RunCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is frozen while it is handed a job: sbatch runs out of time, and the job is there later."""
    from lfadsrm_hpc.schedulers.slurm.client import Slurm

    more = options(rc, walltime="0:10:00", memory="10M", cpus=1)
    real = Slurm.submit

    def frozen(self: Slurm, script: Path) -> Any:
        with slurm.frozen_controller():
            return real(self, script)

    monkeypatch.setattr(Slurm, "submit", frozen)
    # It wakes before the look that follows, so the job may be found at once.
    try:
        submitted = rc.submit(**more)
    except SubmissionUncertainError:
        monkeypatch.setattr(Slurm, "submit", real)
        for path in rc.layout.submissions_dir.rglob("sending-*.json"):
            path.write_text(path.read_text().replace(f'"pid": {os.getpid()},', f'"pid": {2**30},'))
        end = time.monotonic() + 60
        while rc.layout.submissions()[0].receipts() != [0] and time.monotonic() < end:
            cleared = rc.reconcile()
            if cleared.not_taken:
                rc.submit(**more)
            time.sleep(1)
    else:
        assert [job.adopted for job in submitted.jobs] == [True]
    until(rc, lambda n: n[S.COMPLETED] == 8)
    assert [len(run.layout.attempts()) for run in rc.runs] == [1] * 8
