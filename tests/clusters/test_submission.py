"""Runs handed over: plan first, receipts after; whatever happens, none is lost and none submitted twice."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from disk_readers import read_submissions

from lfadsrm_hpc.errors import (
    LfadsrmError,
    NothingEligibleError,
    PartlySubmittedError,
    SchedulerRefusedError,
    SubmissionUncertainError,
)
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.evidence import ChunkState
from lfadsrm_hpc.manifest.reading import collection_states
from lfadsrm_hpc.manifest.records import DONE, Exit, Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.clearing import Cleared, clear_up
from lfadsrm_hpc.schedulers.planning import Wish
from lfadsrm_hpc.schedulers.resources import JobRequest
from lfadsrm_hpc.schedulers.sites.site import Site
from lfadsrm_hpc.schedulers.submission import Drafting, Sender, publish, unfinished

if TYPE_CHECKING:
    from fake_cluster import FakeCluster

REQUEST = JobRequest(3600, "gpu", cpus=2, memory_mb=4096)


def wishes(run_ids: Sequence[str]) -> list[Wish]:
    return [Wish(run, REQUEST, title=run[-5:]) for run in run_ids]


def hand_over(layout: CollectionLayout, site: Site, run_ids: Sequence[str], **more: Any) -> Sender:
    sender = Sender(layout, **more)
    sender.send(publish(Drafting(layout, site), wishes(run_ids), lambda text: None))
    return sender


def states(layout: CollectionLayout) -> dict[str, RunState]:
    found = collection_states(layout, runs_of(layout))
    return {run: status.state for run, status in found.items()}


def runs_of(layout: CollectionLayout) -> list[Any]:
    return [layout.run("0123456789ab", f"day{n:02d}") for n in range(12)]


def clear(layout: CollectionLayout) -> Cleared:
    return clear_up(layout, collection_states(layout, runs_of(layout)))


def chunks(layout: CollectionLayout) -> list[ChunkState]:
    found = read_submissions(layout, 0.0)
    return [chunk.state for submission in found for chunk in submission.chunks]


def test_everything_is_on_disk_before_the_scheduler_hears_of_it(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    sender = hand_over(layout, site, run_ids)
    (job,) = sender.sent
    assert (job.job, job.tasks, job.runs) == ("100", 12, tuple(run_ids))
    (submission,) = read_submissions(layout, 0.0)
    assert submission.chunks[0].receipt is not None
    assert submission.chunks[0].receipt.job == "100"
    assert submission.plan.site == "hill"
    assert submission.layout.script(0).stat().st_mode & 0o111
    assert set(states(layout).values()) == {RunState.SUBMITTED}
    assert [(t.index, t.run_id, t.attempt) for t in submission.tasks] == [
        (n, run, 1) for n, run in enumerate(run_ids)
    ]


def test_a_run_that_another_has_is_left_out(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    store.take_local(layout.run_by_id(run_ids[3]), Identity.local("", 0))
    run = layout.run_by_id(run_ids[4])
    claim = store.take_local(run, Identity.local("", 1))
    assert isinstance(claim, store.Claim)
    store.publish_exit(run, claim, Exit(0, DONE))
    # A third failed a moment ago, after the choice was made: it may need no further try.
    run = layout.run_by_id(run_ids[5])
    claim = store.take_local(run, Identity.local("", 2))
    assert isinstance(claim, store.Claim)
    store.publish_exit(run, claim, Exit(1, "failed"))
    told: list[str] = []
    submission = publish(Drafting(layout, site), wishes(run_ids), told.append)
    assert len([text for text in told if "left out" in text]) == 3
    Sender(layout).send(submission)
    assert len(cluster.members("100", 0)) == 1
    assert len(cluster.jobs["100"].tasks) == 9
    assert states(layout)[run_ids[5]] is RunState.FAILED
    with pytest.raises(NothingEligibleError):
        publish(Drafting(layout, site), wishes(run_ids[:3]), told.append)
    assert unfinished(layout) == []


def test_two_that_submit_at_once_share_the_runs(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    barrier = threading.Barrier(4)

    def submit() -> None:
        barrier.wait()
        with contextlib.suppress(NothingEligibleError):
            hand_over(layout, site, run_ids)

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handed = [
        task.run_id
        for job in cluster.jobs
        for index in cluster.jobs[job].tasks
        for task in cluster.members(job, index)
    ]
    assert sorted(handed) == run_ids


def test_a_plan_that_cannot_be_rendered_leaves_no_trace(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str], tmp_path: Path
) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/slurm.sh.j2").write_text("{{ nothing_of_that_name }}")
    with pytest.raises(LfadsrmError):
        publish(Drafting(layout, site, (tmp_path / "templates",)), wishes(run_ids), lambda text: None)
    assert set(states(layout).values()) == {RunState.PREPARED}
    again = [dataclasses.replace(wish, attempt=2) for wish in wishes(run_ids)]
    Sender(layout).send(publish(Drafting(layout, site), again, lambda text: None))
    assert set(states(layout).values()) == {RunState.SUBMITTED}


def test_a_refusal_changes_nothing(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    cluster.faults = ["refuse"]
    with pytest.raises(SchedulerRefusedError, match="invalid account"):
        hand_over(layout, site, run_ids)
    assert set(states(layout).values()) == {RunState.PREPARED}
    assert unfinished(layout) == []


@pytest.mark.parametrize("fault", ["refuse", "unreachable"])
def test_half_a_submission(
    layout: CollectionLayout,
    limited: Callable[..., Site],
    cluster: FakeCluster,
    run_ids: list[str],
    fault: str,
) -> None:
    cluster.faults = ["ok", fault]
    with pytest.raises(PartlySubmittedError, match="1 of 3 jobs"):
        hand_over(layout, limited(largest_array_index=3), run_ids)
    found = [state for run, state in states(layout).items() if run in run_ids[:4]]
    assert found == [RunState.SUBMITTED] * 4
    if fault == "refuse":  # the same scripts would be refused again: the runs are free
        assert unfinished(layout) == []
        assert list(states(layout).values()).count(RunState.PREPARED) == 8
        return
    (left,) = unfinished(layout)
    sender = Sender(layout)
    sender.send(left.layout)
    assert [job.tasks for job in sender.sent] == [4, 4]
    assert chunks(layout) == [ChunkState.SENT] * 3
    assert len(cluster.jobs) == 3


@pytest.mark.parametrize("fault", ["accepted but timed out", "timed out"])
def test_an_uncertain_submission_is_adopted_or_sent_again_once_that_is_clear(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str], fault: str
) -> None:
    import fake_cluster

    cluster.faults, cluster.blind = [fault], True
    with pytest.raises(SubmissionUncertainError):
        hand_over(layout, site, run_ids)
    assert set(states(layout).values()) == {RunState.SUBMITTED}
    Sender(layout).send(unfinished(layout)[0].layout)
    assert cluster.submits == 1, "never a blind second submit"
    fake_cluster.age_submissions(layout, 30)
    cleared = clear(layout)
    assert cleared.uncertain == ()  # this process lives, so it counts as being sent
    fake_cluster.age_submissions(layout, 100)
    assert clear(layout).uncertain, "nobody answers: nothing follows from it"
    cluster.blind = False
    cleared = clear(layout)
    if fault == "timed out":
        assert (len(cleared.not_taken), cleared.adopted) == (1, ())
        Sender(layout).send(unfinished(layout)[0].layout)
        assert cluster.submits == 2
    else:
        assert cleared.adopted == ("100",)
    assert chunks(layout) == [ChunkState.SENT]
    assert len(cluster.jobs) == 1
    assert unfinished(layout) == []


def test_an_answer_that_was_lost_is_found_at_once(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    cluster.faults = ["accepted but timed out"]
    (job,) = hand_over(layout, site, run_ids).sent
    assert job.adopted
    assert chunks(layout) == [ChunkState.SENT]


def test_a_job_that_is_found_nowhere_but_whose_task_has_claimed_is_adopted(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    import fake_cluster

    cluster.faults, cluster.blind = ["accepted but timed out"], True
    with pytest.raises(SubmissionUncertainError):
        hand_over(layout, site, run_ids)
    cluster.run("100", 7)
    cluster.purge("100")
    cluster.blind = False
    fake_cluster.age_submissions(layout, 1000)
    assert clear(layout).adopted == ("100",)


@pytest.mark.parametrize("left", ["", '{"job": "1'], ids=["empty", "half"])
def test_a_receipt_that_was_left_half_written_is_found_again(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str], left: str
) -> None:
    """As a kill leaves it where there are no hard links."""
    import fake_cluster

    hand_over(layout, site, run_ids)
    (submission,) = layout.submissions()
    submission.receipt(0).write_text(left)
    fake_cluster.age_submissions(layout, 1000)
    assert chunks(layout) != [ChunkState.SENT]
    assert clear(layout).adopted == ("100",)
    assert chunks(layout) == [ChunkState.SENT]
    assert unfinished(layout) == []


@pytest.mark.parametrize("fault", ["interrupt", "accepted but interrupted"])
def test_ctrl_c_while_sending(
    layout: CollectionLayout,
    limited: Callable[..., Site],
    cluster: FakeCluster,
    run_ids: list[str],
    fault: str,
) -> None:
    import fake_cluster

    cluster.faults = ["ok", fault]
    with pytest.raises(KeyboardInterrupt):
        hand_over(layout, limited(largest_array_index=3), run_ids)
    fake_cluster.age_submissions(layout, 1000)
    cleared = clear(layout)
    assert len(cleared.adopted) == (fault != "interrupt")
    Sender(layout).send(unfinished(layout)[0].layout)
    assert len(cluster.jobs) == 3
    assert chunks(layout) == [ChunkState.SENT] * 3
    assert len({job.name for job in cluster.jobs.values()}) == 3


class Killed(BaseException):
    """The process dies here: nothing is tidied up."""


@pytest.mark.parametrize("step", range(26))
def test_a_kill_between_any_two_writes_can_be_gone_on_from(
    layout: CollectionLayout,
    limited: Callable[..., Site],
    cluster: FakeCluster,
    run_ids: list[str],
    step: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`submit` and `reconcile` afterwards end with each run in exactly one job."""
    import fake_cluster

    from lfadsrm_hpc.manifest import publish as publishing

    site = limited(largest_array_index=2)
    count = itertools.count()
    real = publishing.publish_new

    def dying(path: Path, data: bytes, **more: bool) -> bool:
        if next(count) == step:
            raise Killed
        return real(path, data, **more)

    for module in ("store", "submissions", "closing"):
        monkeypatch.setattr(f"lfadsrm_hpc.manifest.{module}.publish_new", dying)
    monkeypatch.setattr("lfadsrm_hpc.schedulers.submission.give_up", lambda *args: None)
    died = False
    try:
        hand_over(layout, site, run_ids)
    except Killed:
        died = True
    monkeypatch.undo()
    monkeypatch.setattr("lfadsrm_hpc.schedulers.known.make_scheduler", lambda site: cluster)
    fake_cluster.age_submissions(layout, 1000)
    for run in run_ids:
        fake_cluster.age_run(layout, run, 1000)
    _forget_this_process(layout)
    clear(layout)
    for left in unfinished(layout):
        Sender(layout).send(left.layout)
    free = [run for run, state in states(layout).items() if state is RunState.PREPARED]
    if free:
        numbers = {run: max((a.number for a in layout.run_by_id(run).attempts()), default=0) for run in free}
        more = [dataclasses.replace(wish, attempt=numbers[wish.run_id] + 1) for wish in wishes(free)]
        Sender(layout).send(publish(Drafting(layout, site), more, lambda text: None))
    handed = [
        task.run_id
        for job in cluster.jobs
        for index in cluster.jobs[job].tasks
        for task in cluster.members(job, index)
    ]
    assert sorted(handed) == run_ids
    assert died == (step < 12 + 1 + 4 + 1 + 8)


def _forget_this_process(layout: CollectionLayout) -> None:
    """Let whoever reserved and sent be a process that is gone."""
    files = [*layout.path.rglob("reserved.json"), *layout.submissions_dir.rglob("*.json")]
    for path in files:
        text, then = path.read_text(), path.stat().st_mtime
        import os

        path.write_text(text.replace(f'"pid": {os.getpid()},', f'"pid": {2**30},'))
        os.utime(path, (then, then))


def test_the_limit_of_jobs_is_heeded(
    layout: CollectionLayout, limited: Callable[..., Site], cluster: FakeCluster, run_ids: list[str]
) -> None:
    with pytest.raises(PartlySubmittedError, match="allows 8 tasks"):
        hand_over(layout, limited(jobs=8), run_ids)
    assert [len(job.tasks) for job in cluster.jobs.values()] == [2, 2, 2, 2]
    with pytest.raises(PartlySubmittedError):
        Sender(layout, occupied=7).send(unfinished(layout)[0].layout)
    assert len(cluster.jobs) == 4
    Sender(layout, occupied=4).send(unfinished(layout)[0].layout)
    assert len(cluster.jobs) == 6


def test_so_many_submissions_a_minute(
    layout: CollectionLayout, limited: Callable[..., Site], cluster: FakeCluster, run_ids: list[str]
) -> None:
    slept: list[float] = []
    told: list[str] = []
    site = limited(largest_array_index=2, submissions_per_minute=3)
    hand_over(layout, site, run_ids, sleep=slept.append, tell=told.append)
    assert len(slept) == 1
    assert 55 < slept[0] <= 60
    assert any("3 submissions a minute" in text for text in told)


def test_packed_runs_share_a_task(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    from lfadsrm_hpc.schedulers.sites.site import Packing

    packed = dataclasses.replace(site, packing=Packing(runs=5))
    hand_over(layout, packed, run_ids)
    assert [len(cluster.members("100", index)) for index in (0, 1, 2)] == [5, 5, 2]
    (submission,) = layout.submissions()
    assert submission.queue_script(0, 2).is_file()
