"""Habits of a real Slurm that the client must live with."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from slurm_cluster import SlurmCluster

from lfadsrm_hpc.errors import SubmissionUncertainError
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.batch import PLAIN, Job
from lfadsrm_hpc.schedulers.slurm.client import Slurm

Hand = Callable[..., Job]


def states(client: Slurm, job: Job) -> dict[int, RunState]:
    report = client.look([job])
    assert report.live_ok
    return {index: seen.state for (_, index), seen in report.tasks.items()}


def test_long_lists_of_waiting_tasks_come_whole(slurm: SlurmCluster, hand: Hand) -> None:
    client = Slurm()
    job = hand("true", 400, "--hold")
    gone = {index for index in range(400) if index % 7 in (0, 3) or index % 11 == 5}
    client.cancel(job, sorted(gone))
    assert states(client, job) == dict.fromkeys(set(range(400)) - gone, RunState.HELD)
    cut = slurm.run("squeue", "-h", "-j", job.id, "-o", "%K")
    assert len(cut) < 80  # as squeue writes it for people
    assert "..." in cut


def test_evenly_spaced_waiting_tasks_are_all_there(slurm: SlurmCluster, hand: Hand) -> None:
    client = Slurm()
    job = hand("true", 100, "--hold")
    client.cancel(job, range(0, 100, 2))
    assert states(client, job) == dict.fromkeys(range(1, 100, 2), RunState.HELD)


def test_a_script_that_a_signal_kills_has_failed(slurm: SlurmCluster, hand: Hand) -> None:
    client = Slurm()
    job = hand("kill -11 $$")
    slurm.until(lambda: states(client, job) == {PLAIN: RunState.FAILED}, "it fails")
    assert client.look([job]).tasks[job.id, PLAIN].reason == "JobLaunchFailure"


def test_an_ended_job_is_forgotten_and_that_is_no_end(
    new_slurm: Callable[..., SlurmCluster], hand: Hand
) -> None:
    cluster = new_slurm(nodes=1, gpus=0, min_job_age=2)
    client = Slurm()
    job, other = hand("true", 2), hand("sleep 300")
    cluster.until(lambda: set(states(client, job).values()) == {RunState.COMPLETED}, "it ends")
    cluster.until(lambda: states(client, job) == {}, "it is forgotten", 60, every=0.5)
    report = client.look([job, other])
    assert (report.live_ok, report.history_ok) == (True, None)
    assert set(report.tasks) == {(other.id, PLAIN)}


def test_a_full_cluster_accepts_nothing(new_slurm: Callable[..., SlurmCluster], hand: Hand) -> None:
    new_slurm(nodes=1, gpus=0, max_job_count=10)
    client = Slurm()
    job = hand("true", 8, "--hold")
    since = time.time()
    with pytest.raises(SubmissionUncertainError, match="temporarily unable"):
        hand("true", 8, name="lfFULL", client=Slurm(timeout_s=2))  # sbatch would try for two minutes
    assert client.find(["lfFULL"], since) == []
    client.cancel(job)
    time.sleep(1)
    assert client.find(["lfFULL"], since) == []  # and nothing of it comes later
