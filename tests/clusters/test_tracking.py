"""What runs on a cluster are at: their files, one question to the scheduler, and what is put on record."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from lfadsrm_hpc.errors import NothingEligibleError, SchedulerUnreachableError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.reading import collection_states
from lfadsrm_hpc.manifest.records import Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers import controlling, handed
from lfadsrm_hpc.schedulers.clearing import clear_up
from lfadsrm_hpc.schedulers.planning import Wish
from lfadsrm_hpc.schedulers.resources import JobRequest
from lfadsrm_hpc.schedulers.sites.site import Limits, Packing, Site
from lfadsrm_hpc.schedulers.submission import Drafting, Sender, publish
from lfadsrm_hpc.schedulers.tracking import Tracked, track

if TYPE_CHECKING:
    from fake_cluster import FakeCluster

S = RunState


@pytest.fixture
def job(layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]) -> str:
    """Return the id of an array with all runs, handed over some time ago."""
    return hand_over(layout, site, run_ids)


def hand_over(layout: CollectionLayout, site: Site, run_ids: Sequence[str], attempt: int = 1) -> str:
    import fake_cluster

    wishes = [Wish(run, JobRequest(3600, "gpu", memory_mb=4096), attempt) for run in run_ids]
    sender = Sender(layout)
    sender.send(publish(Drafting(layout, site), wishes, lambda text: None))
    fake_cluster.age_submissions(layout, 500)
    for run in run_ids:
        fake_cluster.age_run(layout, run, 500)
    return sender.sent[0].job


def look(layout: CollectionLayout, *, record: bool = True) -> Tracked:
    runs = [layout.run("0123456789ab", f"day{n:02d}") for n in range(12)]
    return track(layout, collection_states(layout, runs), record=record)


def states(tracked: Tracked, run_ids: Sequence[str], count: int = 12) -> list[RunState]:
    return [tracked.statuses[run].state for run in run_ids[:count]]


def test_one_question_for_all_and_none_where_none_is_needed(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    assert not look(layout).queried
    hand_over(layout, site, run_ids[:6])
    hand_over(layout, site, run_ids[6:])
    cluster.calls.clear()
    tracked = look(layout)
    assert cluster.calls == ["look 2"]
    assert tracked.queried
    for one, two in ((job, index) for job in list(cluster.jobs) for index in range(6)):
        cluster.run(one, two)
    cluster.calls.clear()
    tracked = look(layout)
    assert (cluster.calls, tracked.queried) == ([], False)
    assert set(states(tracked, run_ids)) == {S.COMPLETED}


def test_only_submissions_that_matter_are_read(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    first = hand_over(layout, site, run_ids[:6])
    for index in range(6):
        cluster.run(first, index)
    cluster.jobs[first].submission.plan.write_text("no longer of interest")
    hand_over(layout, site, run_ids[6:])
    assert states(look(layout), run_ids) == [S.COMPLETED] * 6 + [S.PENDING] * 6


def test_states_that_the_scheduler_tells(
    layout: CollectionLayout, cluster: FakeCluster, job: str, run_ids: list[str]
) -> None:
    cluster.start(job, 1)
    cluster.set(job, 2, S.HELD, reason="JobHeldUser")
    cluster.start(job, 3, living=False)
    cluster.set(job, 3, S.TIMEOUT)
    cluster.start(job, 4, living=False)
    cluster.set(job, 4, S.OUT_OF_MEMORY)
    cluster.start(job, 5, living=False)
    cluster.set(job, 5, S.NODE_FAIL)
    cluster.set(job, 6, S.NODE_FAIL)
    cluster.set(job, 7, S.CANCELLED)
    cluster.start(job, 8)
    cluster.end(job, 8, 75)
    cluster.set(job, 8, S.PENDING)
    cluster.set(job, 9, S.UNKNOWN)
    wanted = [
        S.PENDING, S.RUNNING, S.HELD, S.TIMEOUT, S.OUT_OF_MEMORY, S.NODE_FAIL, S.NODE_FAIL, S.CANCELLED,
        S.REQUEUED, S.UNKNOWN,
    ]  # fmt: skip
    tracked = look(layout, record=False)
    assert states(tracked, run_ids, 10) == wanted
    assert tracked.closed == ()
    tracked = look(layout)
    assert states(tracked, run_ids, 10) == wanted
    assert set(tracked.closed) == {run_ids[n] for n in (3, 4, 5, 6, 7)}
    assert len([text for text in tracked.warnings if run_ids[9] in text]) == 1
    # The scheduler forgets; what it said stands.
    cluster.purge(job)
    kept = states(look(layout), run_ids, 10)
    assert kept[3:8] == wanted[3:8]
    assert (kept[0], kept[1]) == (S.LOST, S.RUNNING)


def test_no_answer_changes_nothing(
    layout: CollectionLayout, cluster: FakeCluster, job: str, run_ids: list[str]
) -> None:
    cluster.start(job, 1)
    cluster.start(job, 2, living=False)
    before = {path: path.stat().st_mtime for path in layout.path.rglob("*.json")}
    cluster.down = True
    tracked = look(layout)
    assert states(tracked, run_ids, 3) == [S.UNKNOWN, S.RUNNING, S.UNKNOWN]
    assert any("no answer" in text for text in tracked.warnings)
    assert before == {path: path.stat().st_mtime for path in layout.path.rglob("*.json")}


def test_a_run_that_ends_between_the_two_looks_keeps_its_own_word(
    layout: CollectionLayout, cluster: FakeCluster, job: str, run_ids: list[str]
) -> None:
    cluster.start(job, 0, living=False)
    runs = [layout.run("0123456789ab", f"day{n:02d}") for n in range(12)]
    early = collection_states(layout, runs)
    cluster.end(job, 0, 0)
    cluster.purge(job)
    tracked = track(layout, early)
    assert tracked.statuses[run_ids[0]].state is S.COMPLETED
    assert not layout.run_by_id(run_ids[0]).attempt(1).closed.exists()


def test_a_checkpointed_run_is_asked_for_until_its_job_is_over(
    layout: CollectionLayout, cluster: FakeCluster, job: str, run_ids: list[str]
) -> None:
    import fake_cluster

    for index in range(12):
        cluster.start(job, index)
        cluster.end(job, index, 75, "timeout", state=S.COMPLETED)
    fake_cluster.age_run(layout, run_ids[0], 500)
    for run in run_ids:
        fake_cluster.age_run(layout, run, 500)
    assert set(states(look(layout), run_ids)) == {S.TIMEOUT}
    cluster.calls.clear()
    assert set(states(look(layout), run_ids)) == {S.TIMEOUT}
    assert cluster.calls == [], "what is settled is not asked for again"


def test_a_planner_at_work_is_left_alone_and_a_dead_one_is_not(
    layout: CollectionLayout, cluster: FakeCluster, run_ids: list[str]
) -> None:
    import fake_cluster

    ulid = "01J00000000000000000000000"
    for run in run_ids[:3]:
        store.reserve(layout.run_by_id(run), ulid)
        fake_cluster.age_run(layout, run, 5000)
    assert states(look(layout), run_ids, 3) == [S.SUBMITTED] * 3  # this process reserved them, and lives
    for run in run_ids[:3]:
        path = layout.run_by_id(run).attempt(1).reserved
        path.write_text(path.read_text().replace(f'"pid": {os.getpid()},', f'"pid": {2**30},'))
        fake_cluster.age(path, 50)
    assert states(look(layout), run_ids, 3) == [S.SUBMITTED] * 3
    for run in run_ids[:2]:
        fake_cluster.age_run(layout, run, 500)
    assert states(look(layout), run_ids, 3) == [S.SUBMITTED] * 3, "its youngest reservation counts"
    fake_cluster.age_run(layout, run_ids[2], 500)
    tracked = look(layout)
    assert states(tracked, run_ids, 3) == [S.PREPARED] * 3
    assert len(tracked.closed) == 3
    assert cluster.calls == []


def test_a_job_that_was_taken_after_all_is_asked_about_its_own_runs(
    layout: CollectionLayout, cluster: FakeCluster, job: str, run_ids: list[str]
) -> None:
    """Nobody knew of it, and the chunk was sent again; each of the two has claimed some of the runs."""
    import fake_cluster

    cluster.jobs["777"] = dataclasses.replace(
        cluster.jobs[job], id="777", tasks=dict(cluster.jobs[job].tasks)
    )
    cluster.start("777", 0, living=False)
    cluster.start("777", 1)
    cluster.start(job, 2)
    for index in (0, 1):
        cluster.set(job, index, S.COMPLETED)  # it found the run taken
    found = look(layout)
    assert states(found, run_ids, 4) == [S.RUNNING, S.RUNNING, S.RUNNING, S.PENDING]
    jobs = [found.handed_runs[run].job for run in run_ids[:3]]
    assert [one and one.id for one in jobs] == ["777", "777", job]
    fake_cluster.age_run(layout, run_ids[0], 500)
    cluster.set("777", 0, S.OUT_OF_MEMORY)
    assert states(look(layout), run_ids, 3) == [S.OUT_OF_MEMORY, S.RUNNING, S.RUNNING]
    assert layout.run_by_id(run_ids[0]).attempt(1).closed.exists(), "schedulers forget"
    cluster.calls.clear()
    assert set(cancel(layout, run_ids[:3]).jobs) == {"777", job}
    wanted = {"cancel 777 [1, 2]", f"cancel {job} [1, 2]"}  # the first run has ended
    assert wanted <= set(cluster.calls)


def test_a_local_run_is_no_matter_of_schedulers(
    layout: CollectionLayout, cluster: FakeCluster, job: str, run_ids: list[str]
) -> None:
    for index in range(1, 12):
        cluster.run(job, index)
    cluster.run(job, 0, 1)
    cluster.calls.clear()
    claim = store.take_local(layout.run_by_id(run_ids[0]), Identity.local("01J00000000000000000000001", 0))
    assert claim.attempt == 2  # type: ignore[union-attr]
    assert states(look(layout), run_ids, 1) == [S.RUNNING]
    assert cluster.calls == []


def test_tracking_costs_in_proportion_to_the_runs(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, count_calls: Any
) -> None:
    ids = [f"param_0123456789ab/many{n:04d}" for n in range(1000)]
    for run in ids:
        layout.run_by_id(run).path.mkdir(parents=True)
    hand_over(layout, dataclasses.replace(site, limits=Limits(None)), ids)
    statuses = collection_states(layout, [layout.run_by_id(run) for run in ids])
    some = dict(list(statuses.items())[:200])
    _, few = count_calls(lambda: track(layout, some))
    tracked, many = count_calls(lambda: track(layout, statuses))
    assert {status.state for status in tracked.statuses.values()} == {S.PENDING}
    assert many < 1.2 * 5 * few
    assert many / len(ids) < 200  # 89 when this was written


# -- cancel, throttle ----------------------------------------------------------------------------------


def cancel(layout: CollectionLayout, run_ids: Sequence[str]) -> controlling.Cancelled:
    statuses = look(layout).statuses
    return controlling.cancel(layout, [statuses[run] for run in run_ids])


def test_cancelling_tells_what_was_running_and_leaves_the_rest(
    layout: CollectionLayout, cluster: FakeCluster, job: str, run_ids: list[str]
) -> None:
    cluster.start(job, 0)
    cluster.run(job, 1)
    done = cancel(layout, run_ids[:3])
    assert done.runs == (run_ids[0], run_ids[2])
    assert [status.run_id for status in done.running] == [run_ids[0]]
    assert cluster.calls[-1] == f"cancel {job} [0, 2]"  # one has ended: what is known of it stays
    cluster.end(job, 0, 75, "checkpointed", state=S.CANCELLED)
    assert states(look(layout), run_ids, 4) == [S.CANCELLED, S.COMPLETED, S.CANCELLED, S.PENDING]
    with pytest.raises(store.ClaimLostError):
        cluster.start(job, 2)
    cluster.set(job, 2, S.CANCELLED)
    done = cancel(layout, run_ids)
    assert len(done.runs) == 9
    assert cluster.calls[-1] == f"cancel {job} all"


def test_a_cancellation_that_the_scheduler_did_not_hear_is_told_again(
    layout: CollectionLayout, cluster: FakeCluster, job: str, run_ids: list[str]
) -> None:
    statuses = look(layout).statuses
    cluster.down = True
    with pytest.raises(SchedulerUnreachableError, match="on record"):
        controlling.cancel(layout, statuses.values())
    cluster.down = False
    assert set(states(look(layout), run_ids)) == {S.CANCELLED}
    assert cluster.jobs[job].tasks[0].state is S.PENDING
    cancel(layout, run_ids)
    assert cluster.jobs[job].tasks[0].state is S.CANCELLED


def test_nothing_to_cancel(layout: CollectionLayout, cluster: FakeCluster, run_ids: list[str]) -> None:
    with pytest.raises(NothingEligibleError):
        cancel(layout, run_ids)


def test_a_run_that_shares_its_allocation_stops_alone(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    job = hand_over(layout, dataclasses.replace(site, packing=Packing(runs=4)), run_ids)
    cluster.start(job, 0)
    cluster.calls.clear()
    done = cancel(layout, [run_ids[1], *run_ids[4:8]])
    assert cluster.calls[-1] == f"cancel {job} [1]"
    assert [status.run_id for status in done.running] == [run_ids[1]]
    shared = layout.run_by_id(run_ids[1])
    claim = store.read_claim(shared.attempt(1), 0)
    assert claim is not None
    assert store.is_superseded(shared, claim), "it stops itself"
    assert not layout.run_by_id(run_ids[0]).attempt(1).closed.exists()


def test_a_throttle_for_all_arrays_together(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    first, second = hand_over(layout, site, run_ids[:9]), hand_over(layout, site, run_ids[9:])
    tracked = look(layout)
    done = controlling.throttle(tracked.statuses, tracked.handed_runs, 4)
    assert done.jobs == {first: 3, second: 1}
    assert (cluster.jobs[first].throttle, cluster.jobs[second].throttle) == (3, 1)
    controlling.throttle(tracked.statuses, tracked.handed_runs, 0, submission=cluster.jobs[second].plan.ulid)
    assert (cluster.jobs[first].throttle, cluster.jobs[second].throttle) == (3, 0)
    for index in range(9):
        cluster.run(first, index)
    tracked = look(layout)
    done = controlling.throttle(tracked.statuses, tracked.handed_runs, 2)
    assert done.jobs == {second: 2}
    with pytest.raises(NothingEligibleError):
        controlling.throttle({}, {}, 2)


def test_reconcile_closes_what_is_lost(
    layout: CollectionLayout, cluster: FakeCluster, job: str, run_ids: list[str]
) -> None:
    cluster.start(job, 0, living=False)
    cluster.run(job, 1)
    cluster.purge(job)
    runs = [layout.run_by_id(run) for run in run_ids]
    cleared = clear_up(layout, collection_states(layout, runs))
    assert len(cleared.closed) == 11
    assert states(cleared.tracked, run_ids, 3) == [S.LOST, S.COMPLETED, S.LOST]
    assert {store.run_status(run).state for run in runs} == {S.LOST, S.COMPLETED}


def test_a_plan_of_a_newer_version_hides_nothing_else(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    older, newer = hand_over(layout, site, run_ids[:6]), hand_over(layout, site, run_ids[6:])
    plan = cluster.jobs[newer].submission.plan
    plan.write_text(plan.read_text().replace('"latency_s"', '"latency_of_something_new_s"'))
    handed._sites.clear()
    assert set(states(look(layout), run_ids)) == {S.PENDING}
    for index in range(6):
        cluster.run(older, index)
    tracked = look(layout)
    assert set(states(tracked, run_ids[6:], 6)) == {S.UNKNOWN}
    assert any("latency_of_something_new_s" in text for text in tracked.warnings)


def test_what_is_hidden_of_another_user_is_not_lost(
    layout: CollectionLayout,
    cluster: FakeCluster,
    job: str,
    run_ids: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where PrivateData hides the jobs of others, their absence says nothing; our own would be seen."""
    cluster.purge(job)
    monkeypatch.setattr(handed, "user_name", lambda: "somebody else")
    monkeypatch.setattr(cluster, "hides_others", lambda: True)
    hidden = look(layout)
    assert set(states(hidden, run_ids)) == {S.UNKNOWN}
    assert all(layout.run_by_id(run).attempt(1).closed.exists() is False for run in run_ids)
    monkeypatch.setattr(cluster, "hides_others", lambda: False)
    assert set(states(look(layout), run_ids)) == {S.LOST}
