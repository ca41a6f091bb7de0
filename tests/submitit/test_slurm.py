"""submitit's own executor on a real Slurm, with real, tiny trainings."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import submitit
from disk_readers import read_submissions

from lfadsrm_hpc.errors import (
    NothingEligibleError,
    SchedulerRefusedError,
    SchedulerUnreachableError,
    SubmissionUncertainError,
)
from lfadsrm_hpc.manifest.evidence import ChunkState, Seen
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.batch import PLAIN, Report
from lfadsrm_hpc.schedulers.slurm.client import Slurm
from lfadsrm_hpc.schedulers.slurm.parsing import STATES
from lfadsrm_hpc.submitit_plugin import submit_with
from lfadsrm_hpc.submitit_plugin.handing import own_environment
from lfadsrm_hpc.submitit_plugin.slurm import SlurmRunJob


def on_slurm(folder: Path, **parameters: Any) -> submitit.AutoExecutor:
    executor = submitit.AutoExecutor(folder, cluster="slurm")
    executor.update_parameters(**{"timeout_min": 10, "mem_gb": 1, "cpus_per_task": 1, **parameters})
    return executor


def states(collection: Any, runs: list[Any]) -> list[RunState]:
    return [status.state for status in collection.status(runs)]


@pytest.mark.slow
@pytest.mark.train
def test_an_array(collection: Any, short: list[Any], folder: Path, slurm: Any, helpers: Any) -> None:
    executor = on_slurm(folder)
    # Each task gets submitit's signal before Python has begun; that must not kill it.
    executor._executor.python = f'sh -c \'kill -USR2 $$; exec "$0" "$@"\' {executor._executor.python}'
    slurm.run("scontrol", "update", "PartitionName=debug", "State=DOWN")
    jobs = submit_with(collection, executor, short)
    try:
        assert states(collection, short) == [RunState.PENDING] * 2
        with pytest.raises(NothingEligibleError):
            submit_with(collection, executor, short)
        assert [job.state for job in jobs.values()] == ["PENDING"] * 2
        assert not any(job.done() for job in jobs.values())
    finally:
        slurm.run("scontrol", "update", "PartitionName=debug", "State=UP")

    (submission,) = read_submissions(collection.layout, 0.0)
    (chunk,) = submission.chunks
    assert (chunk.state, chunk.chunk.size) == (ChunkState.SENT, 2)
    assert [f"{chunk.receipt.job}_{n}" for n in (0, 1)] == [job.job_id for job in jobs.values()]
    found = Slurm().find([chunk.chunk.name], submission.plan.created)
    assert [(job.job, job.submission) for job in found] == [(chunk.receipt.job, submission.plan.ulid)]

    for index, run in enumerate(short):
        assert jobs[run.id].result().state is RunState.COMPLETED
        identity = helpers.incarnation(run, 1, 0).claim.identity
        assert (identity.job, identity.task) == (chunk.receipt.job, str(index))
        assert (identity.cluster, identity.submission) == (submission.plan.site, submission.plan.ulid)
    assert states(collection, short) == [RunState.COMPLETED] * 2
    with pytest.raises(NothingEligibleError):
        submit_with(collection, executor, short)


@pytest.mark.slow
@pytest.mark.train
def test_submitits_signal(
    collection: Any, long: Any, undisturbed: Any, folder: Path, slurm: Any, helpers: Any
) -> None:
    executor = on_slurm(folder)
    job = submit_with(collection, executor, [long])[long.id]
    helpers.until(lambda: collection.status([long])[0].progress.get("epoch"))
    assert helpers.state(long) is RunState.RUNNING
    job._interrupt()  # TERM, then its own signal, as preemption does
    helpers.until(lambda: slurm.states(job.job_id).get(-1) == "PENDING")
    assert helpers.state(long) is RunState.REQUEUED
    with pytest.raises(NothingEligibleError):
        submit_with(collection, executor, [long])
    # Slurm itself would wait two minutes. In the very second of the requeue a start is refused by the node.
    slurm.run("scontrol", "update", f"JobId={job.job_id}", "StartTime=now+3")
    assert job.result().state is RunState.COMPLETED

    first, second = helpers.incarnation(long, 1, 0), helpers.incarnation(long, 1, 1)
    assert first.claim.identity == second.claim.identity
    assert (first.exit.code, second.exit.code) == (75, 0)
    assert "resumes from 001.r0" in long.layout.attempt(1).log.read_text()
    helpers.same_bits(long, undisturbed)


@pytest.mark.slow
@pytest.mark.train
def test_out_of_time_by_its_own_clock(
    collection: Any, long: Any, folder: Path, slurm: Any, helpers: Any
) -> None:
    """Without srun submitit's signal reaches nobody; the run stops itself, and is put back all the same."""
    executor = on_slurm(folder, timeout_min=1, slurm_use_srun=False, slurm_signal_delay_s=69)
    job = submit_with(collection, executor, [long])[long.id]
    helpers.until(lambda: long.layout.attempt(1).exit(0).exists())
    helpers.until(lambda: slurm.states(job.job_id).get(-1) == "PENDING")
    ended = helpers.incarnation(long, 1, 0).exit
    assert (ended.code, ended.reason) == (75, "timeout")
    assert helpers.state(long) is RunState.REQUEUED
    collection.cancel([long])
    assert helpers.state(long) is RunState.CANCELLED
    helpers.until(lambda: slurm.states(job.job_id).get(-1) in (None, "CANCELLED"))


def test_refused(collection: Any, short: list[Any], folder: Path, slurm: Any) -> None:
    with pytest.raises(SchedulerRefusedError, match="invalid partition"):
        submit_with(collection, on_slurm(folder, slurm_partition="nowhere"), short)
    assert states(collection, short) == [RunState.PREPARED] * 2
    slurm.stop_controller()
    with pytest.raises(SchedulerUnreachableError):
        submit_with(collection, on_slurm(folder), short)
    assert states(collection, short) == [RunState.PREPARED] * 2


def test_an_answer_that_is_lost(
    collection: Any,
    short: list[Any],
    folder: Path,
    slurm: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slurm took the job, but what sbatch says cannot be read: it is found by its name, not sent again."""
    real = shutil.which("sbatch")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sbatch").write_text(f'#!/bin/sh\n{real} --begin=now+1hour "$@" > /dev/null; echo garbage\n')
    (broken / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(SubmissionUncertainError, match="took 2 runs without an answer"):
        submit_with(collection, on_slurm(folder), short)
    assert states(collection, short) == [RunState.PENDING] * 2
    (submission,) = read_submissions(collection.layout, 0.0)
    assert submission.chunks[0].receipt.adopted
    collection.cancel(short)
    assert states(collection, short) == [RunState.CANCELLED] * 2


def test_from_inside_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = {"SLURM_JOB_ID": "3", "SLURM_MEM_PER_NODE": "9", "SLURM_CONF": "/etc/x", "LFADSRM_DEADLINE": "9"}
    for name, value in inside.items():
        monkeypatch.setenv(name, value)
    with own_environment():
        left = {name for name in os.environ if name.startswith(("SLURM_", "LFADSRM_"))}
        assert left == {"SLURM_CONF", "LFADSRM_THREADS"}
    assert inside.items() <= os.environ.items()
    monkeypatch.delenv("SLURM_JOB_ID")
    with own_environment():  # a user's own defaults stay
        left = {name for name in os.environ if name.startswith(("SLURM_", "LFADSRM_"))}
        assert left == {"SLURM_CONF", "SLURM_MEM_PER_NODE", "LFADSRM_THREADS"}
    assert os.environ["LFADSRM_DEADLINE"] == "9"


def test_a_throttle_and_the_users_own_parameters(
    collection: Any, short: list[Any], folder: Path, slurm: Any
) -> None:
    slurm.run("scontrol", "update", "PartitionName=gpu", "State=DOWN")
    executor = on_slurm(folder, slurm_partition="gpu", slurm_setup=["module load x"], gpus_per_node=1)
    before = dict(executor.parameters)
    jobs = submit_with(collection, executor, short, max_parallel=1)
    try:
        text = next(iter(jobs.values())).paths.submission_file.read_text()
        shown = slurm.run("scontrol", "-o", "show", "job", next(iter(jobs.values())).job_id.split("_")[0])
    finally:
        slurm.run("scontrol", "update", "PartitionName=gpu", "State=UP")
    assert executor.parameters == before
    assert "#SBATCH --array=0-1%1" in text
    assert "#SBATCH --requeue" in text
    assert "module load x" in text
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert "TimeLimit=00:10:00" in shown
    (submission,) = read_submissions(collection.layout, 0.0)
    assert submission.plan.chunks[0].request == {
        "walltime_s": 600, "partition": "gpu", "gpus": 1, "gpu_type": "", "cpus": 1, "memory_mb": 1024,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("word", "done"),
    [("SUSPENDED", False), ("CONFIGURING", False), ("SOMETHING_NEW", False), ("COMPLETED", True),
     ("CANCELLED by 0", True), ("TIMEOUT", True)],
)  # fmt: skip
def test_only_what_is_known_as_an_end_is_one(
    word: str, done: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(STATES.get(word.split()[0], RunState.UNKNOWN), word)

    def look(self: Slurm, jobs: Any) -> Report:
        return Report({("12", PLAIN): seen}, live_ok=True)

    monkeypatch.setattr(Slurm, "look", look)
    job: SlurmRunJob[Any] = SlurmRunJob(folder, "12")
    job.watcher.clear()
    job.watcher.register_job("12")
    assert job.watcher.is_done("12", mode="force") is done
