"""What a user does with a collection on a cluster: submit, retry each run by its reason, cancel, go on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from disk_readers import read_submissions

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.errors import (
    ConfigError,
    LfadsrmWarning,
    MismatchError,
    NothingEligibleError,
    PartlySubmittedError,
    SchedulerUnreachableError,
    SubmissionUncertainError,
    UsageError,
)
from lfadsrm_hpc.manifest.states import RunState

if TYPE_CHECKING:
    from fake_cluster import FakeCluster

S = RunState


@pytest.fixture
def rc(project: Path, cluster: FakeCluster) -> RunCollection:
    return RunCollection.open(project / "runs/small")


def hand_over(rc: RunCollection, **more: Any) -> str:
    """Submit all runs, and let that be some minutes ago; return the job."""
    options = {"site": "hill", "walltime": "1:00:00", "memory": "4G", **more}
    job = rc.submit(**options).jobs[0].job
    let_time_pass(rc)
    return job


def let_time_pass(rc: RunCollection, seconds: float = 500) -> None:
    import fake_cluster

    fake_cluster.age_submissions(rc.layout, seconds)
    for run in rc.runs:
        fake_cluster.age_run(rc.layout, run.id, seconds)


def states(rc: RunCollection) -> list[RunState]:
    return [status.state for status in rc.status()]


def requests(rc: RunCollection) -> dict[str, tuple[str, int, int]]:
    """Return, by run, partition, walltime and memory of what was asked for last."""
    found = {}
    for submission in read_submissions(rc.layout, 0.0):
        for task in submission.tasks:
            asked = submission.plan.chunks[task.chunk].request
            found[task.run_id] = (asked["partition"], asked["walltime_s"], asked["memory_mb"])
    return found


def checkpoint(rc: RunCollection, number: int, attempt: int, step: int) -> None:
    folder = rc.runs[number].layout.checkpoint_dir(attempt, 0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"checkpoint-{step:012d}.npz").write_bytes(b"")


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_the_road(rc: RunCollection, cluster: FakeCluster) -> None:
    told: list[str] = []
    submitted = rc.submit(site="hill", walltime="1:00:00", on_message=told.append)
    assert len(submitted.runs) == 6
    assert any("job 100: 6 tasks, 6 runs" in text for text in told)
    assert states(rc) == [S.PENDING] * 6
    with pytest.raises(NothingEligibleError, match="6 pending"):
        rc.submit(site="hill", walltime="1:00:00")
    for index in range(6):
        cluster.run("100", index, 1 if index == 2 else 0)
    assert states(rc).count(S.COMPLETED) == 5
    with pytest.raises(NothingEligibleError, match="5 completed, 1 failed") as caught:
        rc.submit(site="hill", walltime="1:00:00")
    assert "lfadsrm retry" in str(caught.value)
    with pytest.raises(NothingEligibleError):
        rc.retry()
    assert len(rc.retry(states=["FAILED"]).runs) == 1
    cluster.run("101", -1)
    assert states(rc) == [S.COMPLETED] * 6


def test_each_by_its_reason(rc: RunCollection, cluster: FakeCluster) -> None:
    job = hand_over(rc)
    for index, state in enumerate([S.OUT_OF_MEMORY, S.NODE_FAIL, S.TIMEOUT, S.TIMEOUT]):
        cluster.start(job, index, living=False)
        cluster.set(job, index, state)
    checkpoint(rc, 3, 1, 100)
    cluster.run(job, 4, 1)
    cluster.run(job, 5, 65)
    let_time_pass(rc)
    planned = rc.plan(retry=True)
    assert [wish.reason for wish in planned.wishes] == ["OUT_OF_MEMORY", "NODE_FAIL", "TIMEOUT", "TIMEOUT"]
    submitted = rc.retry()
    assert len(submitted.jobs) == 3, "one for each request"
    asked = requests(rc)
    ids = [run.id for run in rc.runs]
    assert asked[ids[0]] == ("gpu", 3600, 6144)
    assert asked[ids[1]] == ("gpu", 3600, 4096)
    assert asked[ids[2]] == ("gpu", 5400, 4096)
    assert asked[ids[3]] == ("gpu", 3600, 4096), "it gained a checkpoint"
    submitted = rc.retry(states=["FAILED"])
    assert submitted.runs == (ids[4],)
    assert "data cannot be used" in str(submitted.declined[ids[5]])
    assert [len(run.layout.attempts()) for run in rc.runs] == [2, 2, 2, 2, 2, 1]


def test_requests_grow_up_to_the_caps_of_the_partition(rc: RunCollection, cluster: FakeCluster) -> None:
    job = hand_over(rc, memory="10G", runs=rc.runs[:1])
    grown = []
    for _ in range(2):
        cluster.start(job, -1, living=False)
        cluster.set(job, -1, S.OUT_OF_MEMORY)
        let_time_pass(rc)
        job = rc.retry(max_attempts=9).jobs[0].job
        let_time_pass(rc)
        grown.append(requests(rc)[rc.runs[0].id][2] // 1024)
    assert grown == [15, 16]
    cluster.start(job, -1, living=False)
    cluster.set(job, -1, S.OUT_OF_MEMORY)
    let_time_pass(rc)
    with pytest.raises(NothingEligibleError, match="the most of its partition"):
        rc.retry(max_attempts=9)
    assert len(rc.retry(partition="cpu", memory="32G", max_attempts=9).jobs) == 1
    assert requests(rc)[rc.runs[0].id] == ("cpu", 3600, 32 * 1024)


def test_lost_runs_are_tried_so_often_and_no_more(rc: RunCollection, cluster: FakeCluster) -> None:
    job = hand_over(rc, runs=rc.runs[:1])
    for _ in range(2):
        cluster.purge(job)
        assert states(rc)[0] is S.LOST
        job = rc.retry(max_infrastructure_attempts=3).jobs[0].job
        let_time_pass(rc)
    cluster.purge(job)
    with pytest.raises(NothingEligibleError, match="ended 3 attempts"):
        rc.retry(max_infrastructure_attempts=3)


def test_a_retry_keeps_site_and_account(rc: RunCollection, cluster: FakeCluster) -> None:
    job = hand_over(rc, runs=rc.runs[:1], sets=["options.account=lab7"])
    cluster.purge(job)
    rc.retry()
    script = rc.layout.submissions()[-1].script(0).read_text()
    assert "#SBATCH --account=lab7" in script
    assert read_submissions(rc.layout, 0.0)[-1].plan.site == "hill"


def test_defaults_hold_for_runs_without_an_earlier_request(rc: RunCollection, cluster: FakeCluster) -> None:
    job = hand_over(rc, runs=rc.runs[:1])
    cluster.start(job, -1, living=False)
    cluster.set(job, -1, S.TIMEOUT)
    let_time_pass(rc)
    rc.submit(states=["TIMEOUT", "PREPARED"], site="hill", defaults={"walltime": "2:00:00"})
    asked = requests(rc)
    assert asked[rc.runs[0].id][1] == 5400
    assert asked[rc.runs[1].id][1] == 7200


def test_planning_changes_nothing(rc: RunCollection, cluster: FakeCluster) -> None:
    hand_over(rc, runs=rc.runs[:2])
    before, calls = files(rc.path), len(cluster.calls)
    planned = rc.plan(site="hill", walltime="8:00:00", max_parallel=2)
    assert planned.runs == tuple(run.id for run in rc.runs[2:])
    assert planned.draft is not None
    assert "#SBATCH --array=0-3%2" in planned.draft.scripts["script-0.sh"]
    assert planned.cost is not None
    assert planned.cost.core_hours_at_most == 4 * 8 * 4
    assert files(rc.path) == before
    assert {call.split()[0] for call in cluster.calls[calls:]} == {"look"}


def test_runs_that_share_a_job_are_paid_once(rc: RunCollection, cluster: FakeCluster) -> None:
    order: dict[str, Any] = {"site": "hill", "walltime": "8:00:00", "gpus": 4}
    alone = rc.plan(**order)
    assert alone.cost is not None
    assert alone.cost.gpu_hours_at_most == 6 * 8 * 4
    assert [text for text in alone.warnings if "packing.runs=4" in text]
    packed = rc.plan(**order, sets=["packing.runs=4"])
    assert packed.cost is not None
    assert packed.cost.gpu_hours_at_most == 2 * 8 * 4
    assert packed.warnings == ()
    said: list[str] = []
    submitted = rc.submit(**order, sets=["packing.runs=3"], on_message=said.append)
    warning = "a task gets 4 GPUs and does 3 runs, which use one each: --set packing.runs=4 uses them all"
    assert f"warning: {warning}" in said
    assert warning in submitted.warnings


def test_what_cannot_be_is_refused_before_anything_changes(rc: RunCollection, cluster: FakeCluster) -> None:
    before = files(rc.path)
    for wrong in (
        {},  # no walltime
        {"walltime": "9:00:00"},
        {"walltime": "1:00:00", "memory": "17G"},
        {"walltime": "1:00:00", "partition": "cpus"},
        {"walltime": "1:00:00", "sets": ["limits.nonsense=3"]},
    ):
        with pytest.raises(ConfigError):
            rc.submit(site="hill", **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        rc.submit(site="hil", walltime="1:00:00")
    with pytest.raises(UsageError):
        rc.submit(site="hill", walltime="1:00:00", states=["FALED"])
    cluster.down = True
    with pytest.raises(SchedulerUnreachableError):
        rc.submit(site="hill", walltime="1:00:00")
    assert files(rc.path) == before
    assert cluster.submits == 0


def test_an_input_that_was_replaced_is_refused(rc: RunCollection, cluster: FakeCluster) -> None:
    record = json.loads(rc.runs[0].layout.params_json.read_text())
    record["inputs"][0]["inputs_fingerprint"] = "0" * 64
    rc.runs[0].layout.params_json.write_text(json.dumps(record))
    with pytest.raises(MismatchError, match="not the one"):
        rc.submit(site="hill", walltime="1:00:00")
    assert not rc.layout.submissions()
    rc.submit(rc.runs[1:], site="hill", walltime="1:00:00")


def test_half_a_submission_is_gone_on_with(rc: RunCollection, cluster: FakeCluster) -> None:
    cluster.faults = ["ok", "unreachable"]
    options: dict[str, Any] = {"site": "hill", "walltime": "1:00:00", "sets": ["limits.array_tasks=2"]}
    with pytest.raises(PartlySubmittedError):
        rc.submit(**options)
    assert rc.plan(rc.runs, site="hill", walltime="1:00:00").unsent
    submitted = rc.submit(**options)
    assert [job.tasks for job in submitted.jobs] == [2, 2]
    assert states(rc) == [S.PENDING] * 6
    assert len(rc.layout.submissions()) == 1


def test_an_uncertain_submission_blocks_its_own_runs_only(rc: RunCollection, cluster: FakeCluster) -> None:
    cluster.faults, cluster.blind = ["timed out"], True
    with pytest.raises(SubmissionUncertainError):
        rc.submit(rc.runs[:3], site="hill", walltime="1:00:00")
    _forget_sender(rc)
    assert states(rc)[:3] == [S.UNCERTAIN] * 3
    assert len(rc.submit(site="hill", walltime="1:00:00").runs) == 3
    with pytest.raises(SubmissionUncertainError):
        rc.submit(site="hill", walltime="1:00:00")
    cluster.blind = False
    let_time_pass(rc)
    submitted = rc.submit(site="hill", walltime="1:00:00")
    assert len(submitted.runs) == 3
    assert states(rc) == [S.PENDING] * 6


def _forget_sender(rc: RunCollection) -> None:
    for path in rc.layout.submissions_dir.rglob("sending-*.json"):
        path.write_text(path.read_text().replace(f'"pid": {os.getpid()},', f'"pid": {2**30},'))


def test_cancelled_runs_come_back_when_asked(rc: RunCollection, cluster: FakeCluster) -> None:
    job = hand_over(rc)
    cluster.start(job, 0)
    done = rc.cancel(states=["PENDING"])
    assert len(done.runs) == 5
    assert states(rc) == [S.RUNNING] + [S.CANCELLED] * 5
    with pytest.raises(NothingEligibleError):
        rc.retry()
    submitted = rc.retry(states=["CANCELLED"])
    assert len(submitted.runs) == 5
    assert states(rc) == [S.RUNNING] + [S.PENDING] * 5


def test_a_scheduler_that_does_not_answer_is_a_warning(rc: RunCollection, cluster: FakeCluster) -> None:
    hand_over(rc)
    cluster.down = True
    with pytest.warns(LfadsrmWarning, match="no answer"):
        found = rc.status()
    assert {status.state for status in found} == {S.UNKNOWN}
    assert {status.state for status in rc.status(ask=False)} == {S.SUBMITTED}


def test_an_order_of_the_user_for_a_task_program(rc: RunCollection, cluster: FakeCluster) -> None:
    rc.submit(site="hill", walltime="1:00:00", task_command=["/opt/my task", "go"])
    assert "'/opt/my task' go --collection" in rc.layout.submissions()[0].script(0).read_text()
