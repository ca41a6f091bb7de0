"""The client against a real Slurm with slurmdbd: what the history adds once the live queue has forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from slurm_cluster import SlurmCluster

from lfadsrm_hpc.errors import SchedulerRefusedError, SchedulerUnreachableError
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.batch import PLAIN, Job, Report
from lfadsrm_hpc.schedulers.slurm.client import Slurm

Hand = Callable[..., Job]


@pytest.fixture(scope="module")
def accounts(session_slurm_with_accounting: SlurmCluster) -> None:
    """An account for us, and a QOS with room for two jobs."""
    cluster = session_slurm_with_accounting
    for words in (
        "add account lab",
        f"add user {cluster.user} account=lab",
        "add qos two set MaxSubmitJobsPerUser=2",
        f"modify user {cluster.user} set qos+=two",
    ):
        cluster.run("sacctmgr", "-i", *words.split(), check=False)


@pytest.fixture
def cluster(accounts: None, slurm_with_accounting: SlurmCluster) -> SlurmCluster:
    return slurm_with_accounting


def states(report: Report, job: Job) -> dict[int, RunState]:
    return {index: seen.state for (number, index), seen in report.tasks.items() if number == job.id}


def test_purged_jobs_are_known_from_the_history_alone(cluster: SlurmCluster, hand: Hand) -> None:
    client = Slurm()
    since = time.time()
    array = hand('[ "$SLURM_ARRAY_TASK_ID" = 0 ] || kill -9 $$', 2, "--comment=01JX", name="lfARRAY")
    plain = hand("exit 3", name="lfPLAIN")
    running = hand("sleep 100", 4, "--array=0-3%1", name="lfRUN")
    waiting = hand("sleep 100", 0, "--hold", name="lfWAIT")
    client.cancel(waiting)
    cluster.until(lambda: states(client.look([running]), running).get(0) is RunState.RUNNING, "it runs")
    client.cancel(running, [0, 2])
    jobs = [array, plain, running, waiting]

    def purged() -> bool:
        report = client.look(jobs)
        assert report.live_ok
        assert report.history_ok
        return not any(seen.live and seen.state.is_final for seen in report.tasks.values())

    cluster.until(purged, "the live queue forgets what has ended", 60, every=0.5)
    report = client.look(jobs)
    assert states(report, array) == {0: RunState.COMPLETED, 1: RunState.FAILED}
    assert states(report, plain) == {PLAIN: RunState.FAILED}
    assert states(report, running) == {0: RunState.CANCELLED, 1: RunState.RUNNING, 3: RunState.PENDING}
    assert states(report, waiting) == {PLAIN: RunState.CANCELLED}
    end = report.tasks[plain.id, PLAIN]
    assert (end.code, end.signal, end.live, end.host in cluster.nodes) == (3, None, False, True)
    assert end.ended is not None
    assert abs(end.ended - time.time()) < 120
    assert report.tasks[array.id, 1].signal == 9
    assert report.tasks[running.id, 0].word.startswith("CANCELLED by ")

    found = {job.name: job for job in client.find(["lfARRAY", "lfPLAIN", "lfRUN", "lfNONE"], since)}
    assert {name: job.job for name, job in found.items()} == {
        "lfARRAY": array.id,
        "lfPLAIN": plain.id,
        "lfRUN": running.id,
    }
    assert found["lfARRAY"].submission == "01JX"  # the comment survives in the accounts of this site

    # Without a history, or with one that is down, those jobs are not known: absent, and that is all.
    without = Slurm(history="none").look(jobs)
    assert (without.live_ok, without.history_ok) == (True, None)
    assert {number for number, _ in without.tasks} == {running.id}
    cluster.stop_accounting()
    down = client.look(jobs)
    assert (down.live_ok, down.history_ok, len(down.warnings)) == (True, False, 1)
    assert {number for number, _ in down.tasks} == {running.id}
    with pytest.raises(SchedulerUnreachableError):
        client.find(["lfARRAY"], since)
    assert [job.job for job in client.find(["lfRUN"], since)] == [running.id]  # the live queue knows it
    cluster.start_accounting()
    assert client.look(jobs).history_ok


def test_an_array_that_is_cancelled_while_it_waits(cluster: SlurmCluster, hand: Hand) -> None:
    client = Slurm()
    job = hand("true", 6, "--hold")
    client.cancel(job)
    cluster.until(
        lambda: states(client.look([job]), job) == dict.fromkeys(range(6), RunState.CANCELLED),
        "all cancelled",
    )


def test_a_requeued_job_is_not_judged_by_its_first_end(cluster: SlurmCluster, hand: Hand) -> None:
    client = Slurm()
    job = hand("sleep 100", 0, "--requeue")
    cluster.until(lambda: states(client.look([job]), job) == {PLAIN: RunState.RUNNING}, "it runs")
    cluster.run("scontrol", "requeue", job.id)
    cluster.until(lambda: states(client.look([job]), job) == {PLAIN: RunState.PENDING}, "it waits")
    form = ("-X", "-n", "-P", "-D", "-S", "now-1hour", "-o", "State")
    cluster.until(
        lambda: "REQUEUED" in cluster.run("sacct", *form, "-j", job.id).split(),  # accounts lag
        "the accounts tell of the first start's end",
    )
    seen = client.look([job]).tasks[job.id, PLAIN]
    assert (seen.state, seen.live) == (RunState.PENDING, True)
    cluster.start_again(job.id)
    assert states(client.look([job]), job) == {PLAIN: RunState.RUNNING}


def test_a_named_cluster(cluster: SlurmCluster, hand: Hand) -> None:
    client = Slurm(cluster="pytest")
    job = hand("sleep 100", 3, "--array=0-2%1", client=client, name="lfNAMED")
    assert job.cluster == "pytest"
    cluster.until(lambda: states(client.look([job]), job).get(0) is RunState.RUNNING, "it runs")
    assert client.look([job, Job("999999", "x", 0, time.time(), "pytest")]).live_ok
    assert client.look([Job("999999", "x", 0, time.time(), "pytest")]).live_ok
    [found] = client.find(["lfNAMED"], 0.0)
    assert (found.job, found.cluster) == (job.id, "pytest")
    assert client.version().startswith("slurm ")
    client.throttle(job, 2)
    cluster.until(lambda: states(client.look([job]), job).get(1) is RunState.RUNNING, "another runs")
    client.cancel(job, [1])
    cluster.until(lambda: states(client.look([job]), job).get(1) is RunState.CANCELLED, "it is cancelled")

    nowhere = Slurm(cluster="nowhere")
    with pytest.raises(SchedulerUnreachableError, match="nowhere"):
        hand("true", client=nowhere)
    report = Slurm().look([job, Job("1", "x", 0, time.time(), "nowhere")])
    assert not report.live_ok
    assert (job.id, 0) in report.tasks  # the other cluster answered


@pytest.mark.parametrize(
    ("option", "size", "words"),
    [
        ("--account=nope", 0, "options.account"),
        ("--qos=nope", 0, "QOS"),
        ("--qos=two", 3, "limits.jobs"),
        ("--array=0-20000", 0, "limits.largest_array_index"),
        ("--partition=closed", 0, "sinfo"),
        ("--partition=short --time=10", 0, "ask for less time"),
        ("--cpus-per-task=99", 0, "no node"),
    ],
)
def test_refused_by_limits(cluster: SlurmCluster, hand: Hand, option: str, size: int, words: str) -> None:
    with pytest.raises(SchedulerRefusedError) as caught:
        hand("true", size, *option.split())
    assert words in str(caught.value)
    assert cluster.run("squeue", "-h") == ""
