"""The client against a real Slurm without accounting: what it submits, sees, cancels, throttles, finds."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster

from lfadsrm_hpc.errors import (
    SchedulerRefusedError,
    SchedulerUnreachableError,
    SubmissionUncertainError,
)
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.batch import PLAIN, Job, Report
from lfadsrm_hpc.schedulers.slurm.client import Slurm, clean_environment

Hand = Callable[..., Job]
# sbatch's own time for an answer is 5 s here.
FAST = Slurm(timeout_s=30)


def states(report: Report, job: Job) -> dict[int, RunState]:
    return {index: seen.state for (number, index), seen in report.tasks.items() if number == job.id}


def look(*jobs: Job) -> Report:
    report = FAST.look(jobs)
    assert report.live_ok
    assert report.history_ok is None
    assert report.warnings == ()
    return report


def wait(slurm: SlurmCluster, job: Job, expected: Mapping[int, RunState]) -> Report:
    slurm.until(lambda: states(look(job), job) == expected, f"job {job.id} is {expected}")
    return look(job)


def test_array_and_plain_job_from_start_to_end(slurm: SlurmCluster, hand: Hand, tmp_path: Path) -> None:
    body = f'while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; exit "$SLURM_ARRAY_TASK_ID"'
    array = hand(body, 3, "--array=0-2%1")
    plain = hand("exit 0")
    wait(slurm, array, {0: RunState.RUNNING, 1: RunState.PENDING, 2: RunState.PENDING})
    seen = look(array).tasks[array.id, 0]
    assert (seen.host in slurm.nodes, seen.word, seen.live) == (True, "RUNNING", True)
    assert look(array).tasks[array.id, 1].reason == "JobArrayTaskLimit"
    wait(slurm, plain, {PLAIN: RunState.COMPLETED})
    (tmp_path / "go").touch()
    wait(slurm, array, {0: RunState.COMPLETED, 1: RunState.FAILED, 2: RunState.FAILED})
    both = look(array, plain)
    assert len(both.tasks) == 4
    end = both.tasks[array.id, 2]
    assert end.reason == "NonZeroExitCode"
    assert end.ended is not None
    assert abs(end.ended - time.time()) < 30


def test_an_array_of_hundreds_is_one_answer(slurm: SlurmCluster, hand: Hand) -> None:
    job = hand("true", 700, "--hold")
    assert states(look(job), job) == dict.fromkeys(range(700), RunState.HELD)
    FAST.cancel(job, range(0, 700, 2))  # a list of 350 indices
    # Those that were cancelled while they waited vanish.
    assert states(look(job), job) == dict.fromkeys(range(1, 700, 2), RunState.HELD)
    FAST.cancel(job, range(301, 500))
    assert states(look(job), job).keys() == {*range(1, 301, 2), *range(501, 700, 2)}
    FAST.cancel(job)
    slurm.until(lambda: RunState.HELD not in states(look(job), job).values(), "nothing waits")


def test_cancelling_tasks_that_wait_run_and_ended(slurm: SlurmCluster, hand: Hand) -> None:
    job = hand('[ "$SLURM_ARRAY_TASK_ID" = 0 ] || exec sleep 100', 6, "--array=0-5%2")
    slurm.until(lambda: states(look(job), job).get(0) is RunState.COMPLETED, "0 ends")
    slurm.until(lambda: states(look(job), job).get(2) is RunState.RUNNING, "2 runs")
    FAST.cancel(job, [0, 1, 4, 5])
    slurm.until(lambda: states(look(job), job).get(1) is RunState.CANCELLED, "1 is cancelled")
    slurm.until(lambda: states(look(job), job).get(3) is RunState.RUNNING, "3 runs in its place")
    left = states(look(job), job)
    assert left[0] is RunState.COMPLETED
    assert left.get(4) in (None, RunState.CANCELLED)
    FAST.cancel(job)
    slurm.until(lambda: RunState.RUNNING not in states(look(job), job).values(), "none runs")
    FAST.cancel(job)  # all have ended: no error
    FAST.cancel(job, [2])
    FAST.cancel(job, [])
    FAST.cancel(Job("999999", "lfnone", 0, time.time()))


def test_plain_job_is_cancelled_by_its_index(slurm: SlurmCluster, hand: Hand) -> None:
    job = hand("sleep 100")
    wait(slurm, job, {PLAIN: RunState.RUNNING})
    FAST.cancel(job, [3])  # has no such task
    FAST.cancel(job, [PLAIN])
    wait(slurm, job, {PLAIN: RunState.CANCELLED})


def test_throttle(slurm: SlurmCluster, hand: Hand) -> None:
    job = hand('[ "$SLURM_ARRAY_TASK_ID" = 0 ] || exec sleep 100', 7, "--array=0-6%1")
    slurm.until(lambda: states(look(job), job).get(1) is RunState.RUNNING, "1 runs")

    def running() -> int:
        return list(states(look(job), job).values()).count(RunState.RUNNING)

    FAST.throttle(job, 3)  # a task has ended: scontrol complains, and does it
    slurm.until(lambda: running() == 3, "three run")
    FAST.throttle(job, 0)
    slurm.until(lambda: running() == 6, "all run")
    FAST.throttle(job, 2)  # nothing waits any more
    FAST.cancel(job)
    slurm.until(lambda: running() == 0, "none runs")
    FAST.throttle(job, 2)
    FAST.throttle(Job("999999", "lfnone", 5, time.time()), 2)


def test_throttle_of_a_plain_job_is_nothing(slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    FAST.throttle(Job("1", "lfplain", 0, time.time()), 2)


def test_held_and_requeued(slurm: SlurmCluster, hand: Hand, tmp_path: Path) -> None:
    held = hand("true", 0, "--hold")
    again = hand(f'echo "${{SLURM_RESTART_COUNT:-0}}" >>{tmp_path}/starts; sleep 100', 0, "--requeue")
    wait(slurm, held, {PLAIN: RunState.HELD})
    wait(slurm, again, {PLAIN: RunState.RUNNING})
    slurm.run("scontrol", "requeuehold", again.id)
    report = wait(slurm, again, {PLAIN: RunState.HELD})
    assert "held" in report.tasks[again.id, PLAIN].reason
    slurm.run("scontrol", "release", again.id)
    slurm.start_again(again.id)
    wait(slurm, again, {PLAIN: RunState.RUNNING})
    slurm.until(lambda: (tmp_path / "starts").read_text() == "0\n1\n", "the second start")
    slurm.run("scontrol", "suspend", again.id)
    wait(slurm, again, {PLAIN: RunState.HELD})
    slurm.run("scontrol", "resume", again.id)
    wait(slurm, again, {PLAIN: RunState.RUNNING})


def test_find_by_name_and_comment(slurm: SlurmCluster, hand: Hand) -> None:
    since = time.time()
    one = hand("sleep 100", 3, "--comment=01JABC", name="lfONE")
    two = hand("true", 0, "--hold", name="lfTWO")
    hand("true", name="lfTHREE")
    found = {job.name: job for job in FAST.find(["lfONE", "lfTWO", "lfNONE"], since)}
    assert {name: (job.job, job.submission) for name, job in found.items()} == {
        "lfONE": (one.id, "01JABC"),
        "lfTWO": (two.id, ""),
    }
    assert FAST.find([], since) == []
    assert FAST.find(["lfNONE"], since) == []
    assert FAST.find(["lfONE"], time.time() + 7200) == []  # submitted before that


def test_a_job_of_another_name_is_not_taken_for_ours(slurm: SlurmCluster, hand: Hand) -> None:
    job = hand("sleep 100", name="lfONE")
    assert look(Job(job.id, "lfOTHER", 0, time.time())).tasks == {}
    assert look(Job("999999", "lfONE", 0, time.time())).tasks == {}  # one that was purged, alone
    assert look(Job("999998", "x", 0, 0.0), Job("999999", "x", 0, 0.0), job).tasks.keys() == {(job.id, PLAIN)}
    assert FAST.look([]) == Report(live_ok=True)


def test_another_users_jobs_are_seen_too(
    slurm: SlurmCluster, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = hand("sleep 100", 2, name="lfUSERS")
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    slurm.until(lambda: set(states(look(job), job).values()) == {RunState.RUNNING}, "it runs")
    assert [found.job for found in FAST.find(["lfUSERS"], 0.0)] == [job.id]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--partition=nope", "sinfo -s"),
        ("--array=0-20000", "limits.largest_array_index"),
        ("--gres=gpu:99", "no node"),
        ("--mem=9999999", "no node"),
        ("--time=soon", "directives"),
        ("--nonsense", "directives"),
    ],
)
def test_refused(slurm: SlurmCluster, hand: Hand, option: str, words: str) -> None:
    with pytest.raises(SchedulerRefusedError, match="Slurm refused the job") as caught:
        hand("true", 0, option)
    assert words in str(caught.value)
    assert slurm.run("squeue", "-h") == ""


def test_missing_script_is_refused(slurm: SlurmCluster, tmp_path: Path) -> None:
    with pytest.raises(SchedulerRefusedError):
        FAST.submit(tmp_path / "absent.sh")


def test_version(slurm: SlurmCluster) -> None:
    assert FAST.version().startswith("slurm 2")
    assert FAST.configuration()["MaxArraySize"] == "10001"


# Slurm is not there


def test_controller_down_and_up(slurm: SlurmCluster, hand: Hand) -> None:
    job = hand("sleep 100", 2, name="lfDOWN")
    slurm.stop_controller()
    calls: list[Callable[[], object]] = [
        lambda: hand("true", name="lfDOWN"),
        lambda: FAST.find(["lfDOWN"], 0.0),
        lambda: FAST.cancel(job),
        lambda: FAST.cancel(job, [1]),
        lambda: FAST.throttle(job, 1),
        FAST.version,
    ]
    with ThreadPoolExecutor() as threads:  # each takes its seconds
        report = threads.submit(FAST.look, [job])
        tries = [threads.submit(call) for call in calls]
        errors = [one.exception() for one in tries]
    assert [type(error) for error in errors] == [SchedulerUnreachableError] * len(calls)
    assert (report.result().tasks, report.result().live_ok) == ({}, False)
    assert len(report.result().warnings) == 1
    slurm.start_controller()
    wait(slurm, job, {0: RunState.RUNNING, 1: RunState.RUNNING})
    assert len(FAST.find(["lfDOWN"], 0.0)) == 1  # the second was not accepted


def test_a_frozen_controller_takes_the_job_when_it_wakes(slurm: SlurmCluster, hand: Hand) -> None:
    """Why a time limit is no refusal."""
    with slurm.frozen_controller():
        with pytest.raises(SubmissionUncertainError, match="Socket timed out"):
            hand("sleep 100", name="lfFROZEN")
        with pytest.raises(SubmissionUncertainError, match="no answer within 1 s") as caught:
            hand("sleep 100", name="lfCUT", client=Slurm(timeout_s=1))
        assert "lfadsrm reconcile" in str(caught.value)
        report = Slurm(timeout_s=0.5).look([Job("1", "x", 0, 0.0)])
        assert (report.live_ok, report.tasks) == (False, {})
    slurm.until(lambda: len(FAST.find(["lfFROZEN", "lfCUT"], 0.0)) == 2, "both were accepted")


def test_programs_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    script = tmp_path / "s.sh"
    script.touch()
    with pytest.raises(SchedulerUnreachableError, match="sbatch cannot be started"):
        FAST.submit(script)
    with pytest.raises(SchedulerUnreachableError, match="scontrol cannot be started"):
        FAST.version()
    report = FAST.look([Job("1", "x", 0, 0.0)])
    assert (report.live_ok, report.tasks) == (False, {})
    assert "squeue cannot be started" in report.warnings[0]


def test_no_configuration(slurm: SlurmCluster, hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", "/nonexistent/slurm.conf")
    with pytest.raises(SchedulerUnreachableError, match="cannot stat file"):
        hand("true", client=Slurm(timeout_s=1))  # sbatch would try for a minute


# The environment


def test_environment_keeps_only_what_says_where_the_cluster_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("SLURM_", "SBATCH_")):
            monkeypatch.delenv(name)
    for name in ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JOB_ID", "SBATCH_PARTITION", "SQUEUE_FORMAT", "LF_X"):
        monkeypatch.setenv(name, name)
    kept = {name for name in clean_environment() if name.startswith(("SLURM", "SBATCH", "SQUEUE", "LF_X"))}
    assert kept == {"SLURM_CONF", "SLURM_CLUSTERS", "LF_X"}
    monkeypatch.setenv("SBATCH_CLUSTERS", "there")
    assert clean_environment()["SLURM_CLUSTERS"] == "there"


def test_settings_of_the_shell_reach_neither_jobs_nor_queries(
    slurm: SlurmCluster, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "SBATCH_PARTITION": "nope",
        "SBATCH_ARRAY_INX": "0-3",
        "SBATCH_HOLD": "1",
        "SQUEUE_FORMAT": "%i",
        "SQUEUE_STATES": "SUSPENDED",
        "SQUEUE_USERS": "nobody",
        "SQUEUE_SORT": "i",
        "SLURM_TIME_FORMAT": "relative",
        "SLURM_BITSTR_LEN": "3",
    }.items():
        monkeypatch.setenv(name, value)
    job = hand("exit 0")
    report = wait(slurm, job, {PLAIN: RunState.COMPLETED})
    assert report.tasks[job.id, PLAIN].ended is not None


def test_from_inside_a_job(slurm: SlurmCluster, hand: Hand, tmp_path: Path) -> None:
    """A job that submits, looks and cancels: what Slurm told it about itself must not reach the new job."""
    inner = tmp_path / "inner.sh"
    inner.write_text(
        "#!/bin/bash\n#SBATCH --job-name=lfINNER\n#SBATCH --mem=10\n"
        f"#SBATCH --output={tmp_path}/inner.out\nenv | grep '^SLURM' >{tmp_path}/inner.env\nsleep 100\n"
    )
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, time\nfrom pathlib import Path\n"
        "from lfadsrm_hpc.schedulers.batch import Job\n"
        "from lfadsrm_hpc.schedulers.slurm.client import Slurm\n"
        f"client = Slurm()\njob = client.submit(Path({str(inner)!r})).job\n"
        "report = client.look([Job(job, 'lfINNER', 0, time.time())])\n"
        f"Path({str(tmp_path)!r}, 'told').write_text(f'{{job}} {{report.live_ok}} {{len(report.tasks)}}')\n"
    )
    root = Path(__file__).resolve().parents[2]
    body = f"cd {root} && {sys.executable} {program} >{tmp_path}/program.out 2>&1"
    outer = hand(
        f"export PYTHONPATH={root}; {body}", 1, "--cpus-per-task=2", "--time=3", "--mem=300", "--gres=gpu:1"
    )
    wait(slurm, outer, {0: RunState.COMPLETED})
    job, live_ok, tasks = (tmp_path / "told").read_text().split()
    assert (live_ok, tasks) == ("True", "1")
    told = tmp_path / "inner.env"
    slurm.until(lambda: told.exists() and "SLURM_JOB_ID" in told.read_text(), "the inner job runs")
    variables = dict(line.split("=", 1) for line in told.read_text().splitlines())
    assert variables["SLURM_JOB_ID"] == job
    assert variables["SLURM_MEM_PER_NODE"] == "10"
    assert "SLURM_CPUS_PER_TASK" not in variables
    assert "SLURM_ARRAY_JOB_ID" not in variables
    assert "SLURM_TIME_FORMAT" not in variables
    FAST.cancel(Job(job, "lfINNER", 0, time.time()))
