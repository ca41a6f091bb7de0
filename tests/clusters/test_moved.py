"""Collections that were moved or copied, and runs that were deleted: nothing is sent in vain."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.errors import NothingEligibleError, PartlySubmittedError, SubmissionUncertainError
from lfadsrm_hpc.manifest.states import RunState

if TYPE_CHECKING:
    from fake_cluster import FakeCluster

S = RunState
ASKED: dict[str, Any] = {"site": "hill", "walltime": "1h", "sets": ["limits.array_tasks=3"]}


@pytest.fixture
def rc(project: Path) -> RunCollection:
    return RunCollection.open(project / "runs/small")


def move(rc: RunCollection) -> RunCollection:
    return RunCollection.open(rc.path.rename(rc.path.with_name("moved")))


def forget_sender(rc: RunCollection) -> None:
    for path in rc.layout.submissions_dir.rglob("sending-*.json"):
        path.write_text(path.read_text().replace(f'"pid": {os.getpid()},', f'"pid": {2**30},'))


@pytest.mark.parametrize("fault", ["unreachable", "timed out"])
def test_no_script_that_names_the_old_place_is_sent(
    rc: RunCollection, cluster: FakeCluster, fault: str
) -> None:
    """A job of such a script would find nothing there."""
    import fake_cluster

    cluster.faults = ["ok", fault]
    with pytest.raises((PartlySubmittedError, SubmissionUncertainError)):
        rc.submit(**ASKED)
    forget_sender(rc)
    moved = move(rc)
    fake_cluster.age_submissions(moved.layout, 1000)
    told: list[str] = []
    (job,) = moved.submit(**ASKED, on_message=told.append).jobs
    assert len(job.runs) == 3
    assert f"moved from {rc.path}" in " ".join(told)
    script = (cluster.jobs[job.job].submission.script(0)).read_text()
    assert f"{moved.path}/" in script
    assert f"{rc.path}/" not in script
    assert [status.state for status in moved.status()] == [S.PENDING] * 6
    assert len(cluster.jobs) == 2
    assert moved.reconcile().unsent == ()


def test_what_the_scheduler_has_of_a_moved_collection_is_still_its_own(
    rc: RunCollection, cluster: FakeCluster
) -> None:
    rc.submit(**ASKED)
    moved = move(rc)
    assert moved.reconcile().warnings == ()
    assert [status.state for status in moved.status()] == [S.PENDING] * 6
    with pytest.raises(NothingEligibleError):
        moved.submit(**ASKED)


def test_jobs_for_runs_that_were_deleted_are_not_sent(rc: RunCollection, cluster: FakeCluster) -> None:
    cluster.faults = ["ok", "unreachable"]
    with pytest.raises(PartlySubmittedError):
        rc.submit(**ASKED)
    for run in rc.runs[3:]:
        shutil.rmtree(run.path)
    with pytest.raises(NothingEligibleError):
        rc.submit(rc.runs[:3], **ASKED)
    assert cluster.submits == 2


def test_what_was_deleted_and_taken_anew_is_not_given_up_with_the_old(
    rc: RunCollection, cluster: FakeCluster
) -> None:
    cluster.faults = ["ok", "unreachable"]
    with pytest.raises(PartlySubmittedError):
        rc.submit(**ASKED)
    for run in rc.runs[3:]:
        shutil.rmtree(run.layout.attempts_dir)
    rc.submit(rc.runs[3:], **ASKED)
    moved = move(rc)
    moved.reconcile()
    assert [status.state for status in moved.status()] == [S.PENDING] * 6
    assert len(cluster.jobs) == 2


def test_a_run_that_was_done_anew_is_not_judged_by_its_old_job(
    rc: RunCollection, cluster: FakeCluster
) -> None:
    """Its attempts count from 1 again, while other runs of the old job still wait."""
    import fake_cluster

    old = rc.submit(site="hill", walltime="1h").jobs[0].job
    again = rc.runs[3]
    cluster.run(old, 3, 1)
    assert again.status().state is S.FAILED
    rc.delete_outputs([again], yes=True)
    new = rc.submit([again], site="hill", walltime="1h").jobs[0].job
    fake_cluster.age_submissions(rc.layout, 1000)
    assert [status.state for status in rc.status()] == [S.PENDING] * 6
    assert rc.track().handed_runs[again.id].job == cluster_job(rc, new)
    assert not again.layout.attempt(1).closed.exists()


def cluster_job(rc: RunCollection, job: str) -> Any:
    from disk_readers import read_submissions

    from lfadsrm_hpc.schedulers.handed import job_of

    jobs = [job_of(one.plan, chunk) for one in read_submissions(rc.layout, 0.0) for chunk in one.chunks]
    return next(found for found in jobs if found is not None and found.id == job)


def test_a_copy_does_not_throttle_the_jobs_of_the_original(rc: RunCollection, cluster: FakeCluster) -> None:
    job = rc.submit(site="hill", walltime="1h").jobs[0].job
    copy = RunCollection.open(shutil.copytree(rc.path, rc.path.with_name("copy")))
    with pytest.raises(NothingEligibleError, match=f"work for {rc.path}"):
        copy.throttle(2)
    assert cluster.jobs[job].throttle == 0
    assert rc.throttle(2).jobs == {job: 2}
