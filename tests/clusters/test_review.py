"""Ways out: whatever becomes of a cluster, or of the files of a submission, some command frees every run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.errors import (
    ClaimLostError,
    NothingEligibleError,
    RunCancelledError,
    SchedulerRefusedError,
    SchedulerUnreachableError,
)
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.reading import collection_states
from lfadsrm_hpc.manifest.records import Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers import controlling
from lfadsrm_hpc.schedulers.planning import Wish
from lfadsrm_hpc.schedulers.resources import JobRequest
from lfadsrm_hpc.schedulers.sites.site import Site
from lfadsrm_hpc.schedulers.submission import Drafting, Sender, publish
from lfadsrm_hpc.schedulers.tracking import Tracked, track

if TYPE_CHECKING:
    from fake_cluster import FakeCluster

S = RunState


def hand_over(layout: CollectionLayout, site: Site, run_ids: list[str]) -> str:
    sender = Sender(layout)
    wishes = [Wish(run, JobRequest(3600, "gpu", memory_mb=4096)) for run in run_ids]
    sender.send(publish(Drafting(layout, site), wishes, lambda text: None))
    return sender.sent[0].job


def be_silent(layout: CollectionLayout, run_ids: list[str]) -> None:
    import fake_cluster

    fake_cluster.age_submissions(layout, 1000)
    for run in run_ids:
        fake_cluster.age_run(layout, run, 1000)


def look(layout: CollectionLayout, run_ids: list[str]) -> Tracked:
    return track(layout, collection_states(layout, [layout.run_by_id(run) for run in run_ids]))


def cluster_is_gone(layout: CollectionLayout, cluster: FakeCluster) -> None:
    cluster.down = True


def files_are_deleted(layout: CollectionLayout, cluster: FakeCluster) -> None:
    shutil.rmtree(layout.submissions()[0].path)


def plan_is_damaged(layout: CollectionLayout, cluster: FakeCluster) -> None:
    layout.submissions()[0].plan.write_text('{"ulid": ')


def table_is_damaged(layout: CollectionLayout, cluster: FakeCluster) -> None:
    layout.submissions()[0].tasks.write_text("")


@pytest.mark.filterwarnings("ignore:submission .* is damaged")
@pytest.mark.parametrize(
    "befall",
    [cluster_is_gone, files_are_deleted, plan_is_damaged, table_is_damaged],
    ids=lambda f: f.__name__,
)
def test_cancelling_frees_what_would_wait_for_ever(
    layout: CollectionLayout,
    site: Site,
    cluster: FakeCluster,
    run_ids: list[str],
    befall: Callable[[CollectionLayout, FakeCluster], None],
) -> None:
    """A task that died without a word, whose scheduler cannot be asked about it any more."""
    dead, waiting = run_ids[:2]
    job = hand_over(layout, site, [dead, waiting])
    cluster.start(job, 0, living=False)
    be_silent(layout, [dead, waiting])
    befall(layout, cluster)
    before = look(layout, [dead, waiting])
    assert before.statuses[dead].state is S.UNKNOWN
    with pytest.raises(ClaimLostError):
        store.reserve(layout.run_by_id(dead), "another")
    if befall is cluster_is_gone:
        with pytest.raises(SchedulerUnreachableError, match="on record"):
            controlling.cancel(layout, before.statuses.values())
    else:
        controlling.cancel(layout, before.statuses.values())
    after = look(layout, [dead, waiting])
    assert {status.state for status in after.statuses.values()} == {S.CANCELLED}
    assert [store.reserve(layout.run_by_id(run), "another") for run in (dead, waiting)] == [2, 2]


def test_cancelling_leaves_those_at_work_their_attempts(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    """They checkpoint: only what shows no sign of life, and that nobody vouches for, is given up."""
    fresh, vouched = run_ids[:2]
    job = hand_over(layout, site, [fresh, vouched])
    cluster.start(job, 0)
    cluster.start(job, 1, living=False)
    be_silent(layout, [vouched])
    controlling.cancel(layout, look(layout, [fresh, vouched]).statuses.values())
    for run in (fresh, vouched):
        assert not layout.run_by_id(run).attempt(1).closed.exists()


def test_a_cancelled_run_can_be_asked_for_on_this_machine(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    run = layout.run_by_id(run_ids[0])
    hand_over(layout, site, run_ids[:1])
    controlling.cancel(layout, look(layout, run_ids[:1]).statuses.values())
    with pytest.raises(RunCancelledError):
        store.take_local(run, Identity.local("", 0))
    store.lift(layout, [run, layout.run_by_id(run_ids[1])])
    claim = store.take_local(run, Identity.local("", 0))
    assert claim.attempt == 2
    assert look(layout, run_ids[:1]).statuses[run_ids[0]].state is S.RUNNING
    # Its old job, should it start, still finds nothing to do.
    with pytest.raises(ClaimLostError):
        cluster.start(next(iter(cluster.jobs)), -1)


def test_the_local_queue_leaves_out_what_a_scheduler_has_and_what_was_cancelled(
    project: Path, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It waited two minutes for each, and then called it failed."""
    from lfadsrm_hpc.cli.main import main

    def run(*args: str) -> tuple[int | str | None, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["lfadsrm", "run", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code, *capsys.readouterr())

    monkeypatch.chdir(project)
    rc = RunCollection.open(project / "runs/small")
    handed, cancelled, free = rc.runs[:2], rc.runs[2:3], rc.runs[3:]
    rc.submit([*handed, *cancelled], site="hill", walltime="1h")
    rc.cancel(cancelled)
    code, out, err = run("--dry-run")
    assert (code, out.split("\n")[:-1]) == (0, [one.id for one in free])
    assert "left out: 2 in the hands of a scheduler" in err
    assert "left out: 1 that were cancelled" in err
    code, out, err = run("--dry-run", "--cancelled")
    assert (code, out.split("\n")[:-1]) == (0, [one.id for one in (*cancelled, *free)])
    assert rc.status(cancelled)[0].state is S.CANCELLED, "a dry run changes nothing"
    name = handed[0].params.param_hash
    chosen = [one for one in rc.runs if one.params.param_hash == name]
    rc.submit(
        [one for one in chosen if one not in handed],
        site="hill",
        walltime="1h",
        states=["PREPARED", "CANCELLED"],
    )
    code, out, err = run("--match", f"factors_dim={handed[0].params.factors_dim}")
    assert (code, out) == (4, "")
    assert "nothing is left to do here" in err


def test_a_job_of_another_time_with_the_same_id_is_not_cancelled(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    """Ids begin anew where a cluster is set up anew."""
    job = hand_over(layout, site, run_ids)
    controlling.cancel(layout, look(layout, run_ids).statuses.values())
    cluster.purge(job)
    cluster.calls.clear()
    with pytest.raises(NothingEligibleError):
        controlling.cancel(layout, look(layout, run_ids).statuses.values())
    assert not any(call.startswith("cancel") for call in cluster.calls)


def test_cancelling_in_a_copy_leaves_the_jobs_to_the_original(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    job = hand_over(layout, site, run_ids)
    copy = CollectionLayout(layout.path.with_name("copy"))
    shutil.copytree(layout.path, copy.path)
    done = controlling.cancel(copy, look(copy, run_ids).statuses.values())
    assert (len(done.runs), done.jobs) == (12, ())
    assert done.warnings == (f"job {job} is left alone: it works for {layout.path}",)
    assert {one.state for one in look(copy, run_ids).statuses.values()} == {S.CANCELLED}
    assert {one.state for one in look(layout, run_ids).statuses.values()} == {S.PENDING}
    # One that was moved is no copy.
    shutil.rmtree(copy.path)
    layout.path.rename(copy.path)
    assert controlling.cancel(copy, look(copy, run_ids).statuses.values()).jobs == (job,)


@pytest.mark.parametrize("fault", ["refuse", "unreachable"])
def test_a_retry_that_was_not_taken_does_not_count(project: Path, cluster: FakeCluster, fault: str) -> None:
    """What was never handed over asked for nothing: its request neither sticks nor grows."""
    import fake_cluster

    rc = RunCollection.open(project / "runs/small")
    runs = rc.runs[:1]
    job = rc.submit(runs, site="hill", walltime="1h", memory="4G").jobs[0].job
    cluster.start(job, -1, living=False)
    cluster.set(job, -1, S.OUT_OF_MEMORY)
    fake_cluster.age_submissions(rc.layout, 500)
    fake_cluster.age_run(rc.layout, runs[0].id, 500)
    assert rc.status(runs)[0].state is S.OUT_OF_MEMORY
    for more in ({}, {}, {"partition": "cpu"}):
        cluster.faults = [fault]
        with pytest.raises(SchedulerRefusedError if fault == "refuse" else SchedulerUnreachableError):
            rc.retry(runs, **more)
        assert rc.status(runs)[0].state is S.OUT_OF_MEMORY
    [wish] = rc.plan(runs, retry=True).wishes
    assert (wish.request.partition, wish.request.memory_mb) == ("gpu", 6144)


def test_another_job_with_the_id_of_one_that_nobody_knows_of_is_not_cancelled(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    """The cluster was set up anew, and its history does not answer: only the ids are the same."""
    job = hand_over(layout, site, run_ids)
    cluster.start(job, 0, living=False)
    be_silent(layout, run_ids)
    cluster.purge(job)
    cluster.history_answers = False
    before = look(layout, run_ids)
    assert {status.state for status in before.statuses.values()} == {S.UNKNOWN}
    cluster.calls.clear()
    done = controlling.cancel(layout, before.statuses.values())
    assert (len(done.runs), done.jobs) == (12, ())
    assert not any(call.startswith("cancel") for call in cluster.calls)
    assert {one.state for one in look(layout, run_ids).statuses.values()} == {S.CANCELLED}


def test_a_job_that_we_may_not_cancel_stops_by_itself(
    layout: CollectionLayout, site: Site, cluster: FakeCluster, run_ids: list[str]
) -> None:
    """It is another user's: what works on the runs notices that their attempts are given up."""
    job = hand_over(layout, site, run_ids)
    (claim,) = cluster.start(job, 0)
    cluster.refuses = True
    done = controlling.cancel(layout, look(layout, run_ids[:2]).statuses.values())
    assert (done.jobs, [one.run_id for one in done.running]) == ((), run_ids[:1])
    assert "access denied" in done.warnings[0]
    assert store.is_superseded(layout.run_by_id(run_ids[0]), claim)
    found = look(layout, run_ids[:3]).statuses
    assert [found[run].state for run in run_ids[:3]] == [S.CANCELLED, S.CANCELLED, S.PENDING]
