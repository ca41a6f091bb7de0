from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.errors import ClaimLostError, DataError, RunCancelledError
from lfadsrm_hpc.layout import CollectionLayout, RunLayout
from lfadsrm_hpc.manifest import process, store
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.records import Claim, Exit, Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.store import (
    AlreadyComplete,
    cancel,
    claim,
    close,
    collection_states,
    forget,
    heartbeat,
    is_superseded,
    owner,
    publish_exit,
    reserve,
    resume_source,
    run_status,
    take_local,
    winning_exit,
)

Fork = Callable[[Callable[[], object]], int]
DONE = Exit(0, "done")
FAILED = Exit(1, "failed", message="the loss was not finite")
CHECKPOINTED = Exit(75, "checkpointed")
BAD = Exit(65, "bad_data", message="trial 3 of neuron 4 is NaN")


def local(task: int = 1, submission: str = "S") -> Identity:
    return Identity.local(submission, task)


def taken(run: RunLayout, **options: bool) -> Claim:
    got = take_local(run, local(), **options)
    assert isinstance(got, Claim)
    return got


def died(run: RunLayout, forked: Fork) -> None:
    """A task took the run, beat once, and was killed."""

    def task() -> None:
        heartbeat(run, taken(run), epoch=1)
        os.kill(os.getpid(), 9)

    assert forked(task) == 9


@contextmanager
def on_another_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(process, "hostname", lambda: "another")
        yield


def age(run: RunLayout, seconds: float) -> None:
    """Let every file of a run look older."""
    for path in run.attempts_dir.rglob("*"):
        os.utime(path, (time.time() - seconds,) * 2)


def test_a_run_from_its_start_to_its_end(run: RunLayout, layout: CollectionLayout) -> None:
    assert run_status(run).state is RunState.PREPARED
    assert winning_exit(run) is None
    mine = taken(run)
    assert (mine.attempt, mine.incarnation) == (1, 0)
    heartbeat(run, mine, epoch=3, cost=float("nan"))
    status = run_status(run)
    assert status.state is RunState.RUNNING
    assert status.progress == {"epoch": 3, "cost": None}
    assert status.heartbeat_age_s is not None
    assert status.heartbeat_age_s < 60
    assert owner(run) == mine
    assert not is_superseded(run, mine)
    assert publish_exit(run, mine, DONE)
    assert not publish_exit(run, mine, FAILED)  # the first stands
    assert owner(run) is None
    found = winning_exit(run)
    assert found is not None
    record, token = found
    assert token == mine.token == record.token
    assert record.host == mine.process.host
    assert record.started == mine.claimed
    assert record.ended is not None
    assert (record.peak_memory_mb or 0) > 1
    for rescan in (False, True):
        (status,) = collection_states(layout, [run], rescan=rescan).values()
        assert (status.state, status.attempt, status.code) == (RunState.COMPLETED, 1, 0)
    again = take_local(run, local())
    assert again == AlreadyComplete(record, token)
    assert len(run.attempts()) == 1


def test_a_live_owner_keeps_its_run(run: RunLayout) -> None:
    mine = taken(run)
    age(run, 1e6)  # hung or stopped, but its process is there
    with pytest.raises(ClaimLostError, match=r"another task has this run: attempt 001\.r0"):
        take_local(run, local(2))
    with pytest.raises(ClaimLostError):
        take_local(run, local())  # the same task twice
    assert not is_superseded(run, mine)
    assert not run.attempt(1).closed.exists()


def test_a_dead_owner_loses_its_run_at_once(run: RunLayout, forked: Fork) -> None:
    died(run, forked)
    assert run_status(run).state is RunState.LOST
    assert owner(run) is None
    mine = taken(run)
    assert mine.attempt == 2
    assert run.attempt(1).closed.exists()
    assert run_status(run).state is RunState.RUNNING


def test_elsewhere_the_heartbeat_decides(run: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    with on_another_machine(monkeypatch):
        theirs = taken(run)
        heartbeat(run, theirs, epoch=1)
    assert theirs.process.host == "another"
    with pytest.raises(ClaimLostError):
        take_local(run, local())
    assert owner(run) == theirs
    age(run, 359)
    with pytest.raises(ClaimLostError):
        take_local(run, local())
    age(run, 361)
    mine = taken(run)
    assert mine.attempt == 2
    assert is_superseded(run, theirs)
    # The one thought dead comes back and believes that it is done: it may not say so.
    with pytest.raises(ClaimLostError, match="taken over"):
        publish_exit(run, theirs, DONE)
    assert run_status(run).state is RunState.RUNNING


@pytest.mark.parametrize("end", [FAILED, CHECKPOINTED, Exit(137, "killed", 9)])
def test_what_ended_is_followed_by_the_next_attempt(run: RunLayout, end: Exit) -> None:
    publish_exit(run, taken(run), end)
    assert run_status(run).state is end.state
    assert run_status(run).message == end.message
    assert taken(run).attempt == 2
    assert not run.attempt(1).closed.exists()


def test_bad_data_is_never_retried_unasked(run: RunLayout) -> None:
    publish_exit(run, taken(run), BAD)
    with pytest.raises(DataError, match="trial 3 of neuron 4"):
        take_local(run, local())
    assert len(run.attempts()) == 1
    assert taken(run, again=True).attempt == 2


def test_a_cancelled_run_is_not_taken_unasked(run: RunLayout, layout: CollectionLayout) -> None:
    other = layout.run("abcdefghijkl", "never tried")
    other.path.mkdir()
    publish_exit(run, taken(run), CHECKPOINTED)
    record = cancel(layout, [run, other])
    assert record.runs == {run.run_id: 1, other.run_id: 0}
    for rescan in (False, True):
        states = collection_states(layout, [run, other], rescan=rescan)
        assert [s.state for s in states.values()] == [RunState.CANCELLED] * 2
    for it in (run, other):
        with pytest.raises(RunCancelledError):
            take_local(it, local())
    assert taken(run, again=True).attempt == 2
    assert taken(other, again=True).attempt == 1
    states = collection_states(layout, [run, other])
    assert [s.state for s in states.values()] == [RunState.RUNNING] * 2
    assert cancel(layout, [run, other]).ulid > record.ulid


def test_a_cancelled_reservation_is_left_behind(
    run: RunLayout, layout: CollectionLayout, forked: Fork
) -> None:
    forked(lambda: reserve(run, "S"))
    cancel(layout, [run])
    assert taken(run, again=True).attempt == 2
    assert run.attempt(1).closed.exists()


def test_reserved_ahead_for_a_scheduler(run: RunLayout) -> None:
    assert reserve(run, "PLAN") == 1
    assert run_status(run).state is RunState.SUBMITTED
    with pytest.raises(ClaimLostError, match="reserved for submission PLAN"):
        take_local(run, local())
    with pytest.raises(ClaimLostError):
        reserve(run, "ANOTHER PLAN")
    mine = take_local(run, local(submission="PLAN"))
    assert isinstance(mine, Claim)
    assert mine.attempt == 1


def test_what_was_reserved_is_claimed_by_its_own_submission_alone(run: RunLayout) -> None:
    reserve(run, "PLAN")
    with pytest.raises(ClaimLostError, match="reserved for submission PLAN"):
        claim(run, 1, Identity("cluster", "7", "0", "ANOTHER"))
    with pytest.raises(ClaimLostError):
        claim(run, 2, Identity("cluster", "7", "0", "PLAN"))  # never reserved
    mine = claim(run, 1, Identity("cluster", "7", "0", "PLAN"))
    status = run_status(run)
    assert (status.state, status.submission, status.claim) == (RunState.RUNNING, "PLAN", mine)
    assert status.reserved_by == Process.current()
    assert status.silent_s is not None
    assert status.silent_s < 60


@pytest.mark.parametrize(
    ("reason", "state", "word"),
    [
        ("timeout", RunState.TIMEOUT, "timeout"),
        ("deadline", RunState.TIMEOUT, "deadline"),
        ("out_of_memory", RunState.OUT_OF_MEMORY, "out_of_memory"),
        ("node_fail", RunState.NODE_FAIL, "node_fail"),
        ("preempted", RunState.PREEMPTED, "preempted"),
        ("cancelled", RunState.CANCELLED, "cancelled"),
        ("failed", RunState.FAILED, "failed"),
        ("lost", RunState.LOST, "lost"),
        ("no_record", RunState.FAILED, "no_record"),
        ("never_started", RunState.LOST, "never_started"),
        ("a word of a newer version", RunState.FAILED, "a word of a newer version"),
    ],
)
@pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "unclaimed"])
def test_what_an_attempt_was_closed_for(
    run: RunLayout, layout: CollectionLayout, reason: str, state: RunState, word: str, claimed: bool
) -> None:
    reserve(run, "PLAN")
    job = Identity("cluster", "7", "0", "PLAN")
    if claimed:
        heartbeat(run, claim(run, 1, job), epoch=4)
    close(run, 1, reason, message="the scheduler says so")
    for rescan in (False, True):
        (status,) = collection_states(layout, [run], rescan=rescan).values()
        assert (status.state, status.reason, status.message, status.closed) == (
            state, word, "the scheduler says so", True,
        )  # fmt: skip
    with pytest.raises(ClaimLostError, match="given up"):
        claim(run, 1, job)  # its job comes up again, or at last
    assert reserve(run, "PLAN 2") == 2


def test_a_job_that_was_killed_and_why(run: RunLayout, layout: CollectionLayout) -> None:
    reserve(run, "PLAN")
    mine = claim(run, 1, Identity("cluster", "7", "0", "PLAN"))
    publish_exit(run, mine, Exit(137, "killed", 9))

    def quick_and_whole() -> set[tuple[RunState, str | None, int | None]]:
        both = [collection_states(layout, [run], rescan=rescan)[run.run_id] for rescan in (False, True)]
        return {(status.state, status.reason, status.code) for status in both}

    assert quick_and_whole() == {(RunState.FAILED, "killed", 137)}
    close(run, 1, "out_of_memory")
    assert quick_and_whole() == {(RunState.OUT_OF_MEMORY, "out_of_memory", 137)}
    close(run, 1, "timeout")  # the first stands
    assert quick_and_whole() == {(RunState.OUT_OF_MEMORY, "out_of_memory", 137)}


def test_a_cause_that_did_not_get_on_record_is_not_believed(
    run: RunLayout, layout: CollectionLayout, forked: Fork, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lfadsrm_hpc.manifest import closing

    reserve(run, "PLAN")
    mine = claim(run, 1, Identity("cluster", "7", "0", "PLAN"))
    publish_exit(run, mine, Exit(137, "killed", 9))
    for name in layout.outbox_names():  # as if the shell had been killed before it
        layout.outbox_file(name).unlink()
    monkeypatch.setattr(closing, "publish_new", lambda *_: os.kill(os.getpid(), 9))
    assert forked(lambda: close(run, 1, "out_of_memory")) == 9
    assert len(layout.outbox_names()) == 2
    assert collection_states(layout, [run])[run.run_id].state is RunState.FAILED


def test_out_of_time_is_told_by_the_name_alone(
    run: RunLayout, layout: CollectionLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_exit(run, taken(run), Exit(75, "timeout"))
    (name,) = layout.outbox_names()
    assert (name.state, name.code) == ("TIMEOUT", 75)
    with monkeypatch.context() as patch:
        patch.setattr("lfadsrm_hpc.manifest.reading.read_facts", None)
        status = collection_states(layout, [run])[run.run_id]
    assert (status.state, status.code, status.reason) == (RunState.TIMEOUT, 75, "timeout")
    assert run_status(run).reason == "timeout"


def test_cancelled_while_it_waits_then_asked_for_again(run: RunLayout, layout: CollectionLayout) -> None:
    reserve(run, "PLAN")
    cancel(layout, [run])
    assert run.attempt(1).closed.exists()
    assert run_status(run).state is RunState.CANCELLED
    job = Identity("cluster", "7", "0", "PLAN")
    with pytest.raises(RunCancelledError):
        claim(run, 1, job)
    assert reserve(run, "PLAN 2") == 2
    assert run_status(run).state is RunState.SUBMITTED
    with pytest.raises(ClaimLostError):
        claim(run, 1, job)
    assert claim(run, 2, replace(job, job="8", submission="PLAN 2")).attempt == 2


def test_a_cancelling_that_was_killed_half_way(
    run: RunLayout, layout: CollectionLayout, forked: Fork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cancellation is on record, and the attempt is not closed."""
    from lfadsrm_hpc.manifest import cancelling

    reserve(run, "PLAN")
    monkeypatch.setattr(cancelling, "close", lambda *_: os.kill(os.getpid(), 9))
    assert forked(lambda: cancel(layout, [run])) == 9
    assert run_status(run).state is RunState.CANCELLED
    with pytest.raises(RunCancelledError):
        claim(run, 1, Identity("cluster", "7", "0", "PLAN"))
    assert reserve(run, "PLAN 2") == 2
    assert run_status(run).state is RunState.SUBMITTED


def test_cancelling_what_runs_leaves_its_attempt_open(run: RunLayout, layout: CollectionLayout) -> None:
    reserve(run, "PLAN")
    job = Identity("cluster", "7", "0", "PLAN")
    mine = claim(run, 1, job)
    cancel(layout, [run])
    assert not run.attempt(1).closed.exists()
    assert run_status(run).state is RunState.RUNNING
    assert run_status(run).cancelled
    publish_exit(run, mine, CHECKPOINTED)
    assert run_status(run).state is RunState.CANCELLED
    with pytest.raises(RunCancelledError):
        claim(run, 1, job)  # a requeue


def test_what_waits_for_a_scheduler_is_not_forgotten(run: RunLayout, layout: CollectionLayout) -> None:
    reserve(run, "PLAN")
    with pytest.raises(ClaimLostError, match="reserved for submission PLAN"):
        forget(run)
    cancel(layout, [run])
    forget(run)
    job = Identity("cluster", "7", "0", "PLAN")
    with pytest.raises(ClaimLostError):
        claim(run, 1, job)  # the job starts after all
    assert reserve(run, "PLAN 2") == 1
    with pytest.raises(ClaimLostError, match="reserved for submission PLAN 2"):
        claim(run, 1, job)
    assert not run.attempt(1).claim(0).exists()
    assert run_status(run).state is RunState.SUBMITTED


def test_a_stale_task_of_a_cluster_is_not_forgotten(run: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve(run, "PLAN")
    with on_another_machine(monkeypatch):
        claim(run, 1, Identity("cluster", "7", "0", "PLAN"))
    age(run, 1e6)
    with pytest.raises(ClaimLostError, match="being worked on"):
        forget(run)
    close(run, 1, "lost")
    forget(run)


def test_the_outputs_vanish_before_a_job_starts(run: RunLayout) -> None:
    import shutil

    reserve(run, "PLAN")
    shutil.rmtree(run.attempts_dir)
    with pytest.raises(ClaimLostError, match="deleted"):
        claim(run, 1, Identity("cluster", "7", "0", "PLAN"))
    with pytest.raises(ClaimLostError, match="deleted"):
        close(run, 1, "lost")


def test_reserving_after_a_loss(run: RunLayout, forked: Fork) -> None:
    """A task of a cluster is never lost by its silence; one of the local queue is."""
    died(run, forked)
    assert reserve(run, "PLAN") == 2
    assert run.attempt(1).closed.exists()
    forked(lambda: claim(run, 2, Identity("cluster", "7", "0", "PLAN")))
    assert run_status(run).state is RunState.UNKNOWN
    with pytest.raises(ClaimLostError):
        reserve(run, "PLAN 2")
    assert not run.attempt(2).closed.exists()
    close(run, 2, "lost")  # the scheduler was asked
    assert reserve(run, "PLAN 2") == 3


def test_what_was_handed_over_may_be_done_again_by_another_start(run: RunLayout) -> None:
    """After 75 the scheduler may start the job again; a retry that was reserved meanwhile ends that."""
    reserve(run, "PLAN")
    job = Identity("cluster", "7", "0", "PLAN")
    publish_exit(run, claim(run, 1, job), CHECKPOINTED)
    second = claim(run, 1, job)
    assert second.incarnation == 1
    publish_exit(run, second, CHECKPOINTED)
    assert reserve(run, "PLAN 2") == 2
    with pytest.raises(ClaimLostError, match="newer attempt"):
        claim(run, 1, job)
    assert run_status(run).state is RunState.SUBMITTED


def test_a_reservation_that_was_never_filled(run: RunLayout) -> None:
    run.attempt(1).path.mkdir(parents=True)
    run.attempt(1).reserved.touch()
    with pytest.raises(ClaimLostError, match="somebody is reserving"):
        reserve(run, "PLAN")
    age(run, 61)
    assert reserve(run, "PLAN") == 2


def test_a_reservation_given_up_frees_the_run(run: RunLayout) -> None:
    reserve(run, "PLAN")
    assert close(run, 1, "not_submitted")
    assert not close(run, 1, "lost")
    assert run_status(run).state is RunState.PREPARED
    with pytest.raises(ClaimLostError, match="given up"):
        claim(run, 1, local(submission="PLAN"))
    assert reserve(run, "PLAN 2") == 2


def test_reserve_refuses_a_run_that_is_complete_or_live(run: RunLayout) -> None:
    mine = taken(run)
    with pytest.raises(ClaimLostError, match="another task has this run"):
        reserve(run, "PLAN")
    publish_exit(run, mine, DONE)
    with pytest.raises(ClaimLostError, match="complete"):
        reserve(run, "PLAN")


def test_a_requeue_is_a_new_incarnation_of_the_same_attempt(run: RunLayout) -> None:
    job = Identity("cluster", "1234", "7", "PLAN")
    reserve(run, "PLAN")
    first = claim(run, 1, job)
    second = claim(run, 1, job)
    assert [(c.attempt, c.incarnation) for c in (first, second)] == [(1, 0), (1, 1)]
    assert is_superseded(run, first)
    assert not is_superseded(run, second)
    with pytest.raises(ClaimLostError):
        claim(run, 1, replace(job, job="1235"))  # a double submission trains nothing twice
    with pytest.raises(ClaimLostError, match="taken over"):
        publish_exit(run, first, DONE)
    publish_exit(run, second, DONE)
    with pytest.raises(ClaimLostError, match="complete"):
        claim(run, 1, job)


def test_a_stale_claim_of_a_cluster_needs_its_scheduler(
    run: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve(run, "PLAN")
    with on_another_machine(monkeypatch):
        claim(run, 1, Identity("cluster", "1234", "7", "PLAN"))
    age(run, 1e6)
    assert run_status(run).state is RunState.UNKNOWN
    with pytest.raises(ClaimLostError):
        take_local(run, local())


def test_an_empty_claim_is_void_once_it_is_old(run: RunLayout) -> None:
    run.attempt(1).path.mkdir(parents=True)
    run.attempt(1).claim(0).touch()
    job = Identity("cluster", "1234", "7", "PLAN")
    with pytest.raises(ClaimLostError):
        take_local(run, local())
    with pytest.raises(ClaimLostError):
        claim(run, 1, job)
    age(run, 61)
    assert claim(run, 1, job).incarnation == 1


def test_complete_once_is_complete_whatever_was_begun_by_mistake(run: RunLayout) -> None:
    first = taken(run)
    close(run, 1, "lost")  # by a machine that took it for dead
    second = taken(run)
    # Between its look and its exit record there was no time to notice:
    from lfadsrm_hpc.manifest.publish import publish_new
    from lfadsrm_hpc.manifest.records import to_json

    publish_new(run.attempt(1).exit(0), to_json(replace(DONE, token=first.token)))
    assert run_status(run).state is RunState.COMPLETED
    assert is_superseded(run, second)
    assert isinstance(take_local(run, local()), AlreadyComplete)


def test_redo(run: RunLayout, layout: CollectionLayout, forked: Fork) -> None:
    first = taken(run)
    publish_exit(run, first, DONE)
    second = taken(run, redo=True)
    assert second.attempt == 2
    assert not is_superseded(run, second)
    for rescan in (False, True):
        (status,) = collection_states(layout, [run], rescan=rescan).values()
        assert (status.state, status.attempt) == (RunState.RUNNING, 2)
    with pytest.raises(ClaimLostError):
        take_local(run, local(2))
    assert winning_exit(run) is not None
    assert winning_exit(run)[1] == first.token  # type: ignore[index]
    publish_exit(run, second, FAILED)
    third = taken(run)  # nobody has to ask for a redo to mend one
    assert third.attempt == 3
    assert not is_superseded(run, third)
    publish_exit(run, third, DONE)
    assert winning_exit(run)[1] == third.token  # type: ignore[index]
    assert run_status(run).state is RunState.COMPLETED


def test_an_outbox_name_older_than_the_newest_attempt_is_not_believed(
    run: RunLayout, layout: CollectionLayout, forked: Fork
) -> None:
    publish_exit(run, taken(run), FAILED)
    assert collection_states(layout, [run])[run.run_id].state is RunState.FAILED
    mine = taken(run)
    assert collection_states(layout, [run])[run.run_id].state is RunState.RUNNING
    publish_exit(run, mine, CHECKPOINTED)
    died(run, forked)
    status = collection_states(layout, [run])[run.run_id]
    assert (status.state, status.attempt) == (RunState.LOST, 3)


def test_quick_states_open_no_file_of_a_run_that_has_ended(
    run: RunLayout, layout: CollectionLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_exit(run, taken(run), CHECKPOINTED)
    monkeypatch.setattr("lfadsrm_hpc.manifest.reading.read_facts", None)
    status = collection_states(layout, [run])[run.run_id]
    assert (status.state, status.code, status.reason) == (RunState.PREEMPTED, 75, "checkpointed")


def test_without_an_outbox_nothing_is_lost(run: RunLayout, layout: CollectionLayout) -> None:
    mine = taken(run)
    publish_exit(run, mine, DONE)
    (name,) = layout.outbox.iterdir()
    name.unlink()
    assert collection_states(layout, [run])[run.run_id].state is RunState.COMPLETED
    assert isinstance(take_local(run, local()), AlreadyComplete)
    assert [p.name for p in layout.outbox.iterdir()] == [name.name]


def test_outputs_deleted_by_hand_do_not_stay_complete(run: RunLayout, layout: CollectionLayout) -> None:
    import shutil

    mine = taken(run)
    publish_exit(run, mine, DONE)
    shutil.rmtree(run.attempts_dir)
    assert collection_states(layout, [run])[run.run_id].state is RunState.PREPARED
    with pytest.raises(ClaimLostError, match="deleted"):
        heartbeat(run, mine)
    publish_exit(run, taken(run), FAILED)  # the same attempt and incarnation ended twice, differently
    assert len(layout.outbox_names()) == 2
    assert collection_states(layout, [run])[run.run_id].state is RunState.FAILED


def test_forget(run: RunLayout, layout: CollectionLayout) -> None:
    other = layout.run("abcdefghijkl", "other")
    other.path.mkdir()
    publish_exit(other, taken(other), DONE)
    mine = taken(run)
    with pytest.raises(ClaimLostError, match="being worked on"):
        forget(run)
    publish_exit(run, mine, CHECKPOINTED)
    cancel(layout, [run])
    forget(run)
    assert not run.attempts_dir.exists()
    states = collection_states(layout, [run, other])
    assert [s.state for s in states.values()] == [RunState.PREPARED, RunState.COMPLETED]
    assert taken(run).attempt == 1
    assert collection_states(layout, [run])[run.run_id].state is RunState.RUNNING
    forget(layout.run("abcdefghijkl", "not even prepared"))


def test_a_process_that_lost_its_run_still_writes(run: RunLayout) -> None:
    mine = taken(run)
    close(run, 1, "lost")
    assert run_status(run).state is RunState.LOST
    assert owner(run) == mine
    with pytest.raises(ClaimLostError, match="being worked on"):
        forget(run)


def test_a_record_never_goes_to_a_namesake(run: RunLayout) -> None:
    import shutil

    old = taken(run)
    shutil.rmtree(run.attempts_dir)  # by hand, while it ran
    new = taken(run)
    assert (old.attempt, old.incarnation) == (new.attempt, new.incarnation)
    assert is_superseded(run, old)
    with pytest.raises(ClaimLostError, match="deleted"):
        publish_exit(run, old, CHECKPOINTED)
    heartbeat(run, old, epoch=99)
    assert run_status(run).progress == {}  # not the new one's
    assert publish_exit(run, new, DONE)


def test_a_run_that_ends_while_it_is_looked_at_is_not_lost(
    run: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = taken(run)

    asked = []

    def ends_now(self: Process) -> bool:
        asked.append(self)
        if len(asked) == 2:  # the first question was about the reservation
            publish_exit(run, mine, DONE)
        return False

    monkeypatch.setattr(Process, "is_alive", ends_now)
    assert run_status(run).state is RunState.COMPLETED
    assert isinstance(take_local(run, local()), AlreadyComplete)


def test_an_attempt_closed_between_the_look_and_the_claim_is_left(
    run: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.publish_new

    def closed_first(path: Path, data: bytes) -> bool:
        if path.name == "claim.r0.json":
            monkeypatch.setattr(store, "publish_new", real)
            close(run, 1, "cancelled")
        return real(path, data)

    monkeypatch.setattr(store, "publish_new", closed_first)
    with pytest.raises(ClaimLostError, match="first"):
        take_local(run, local())
    assert taken(run).attempt == 2


def test_the_clocks_of_the_machines_do_not_matter(run: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    with on_another_machine(monkeypatch):
        heartbeat(run, taken(run), epoch=1)
    for shift in (-1e6, 1e6):
        now = time.time() + shift
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda now=now: now)
            status = run_status(run)
            assert status.state is RunState.RUNNING
            assert (status.heartbeat_age_s or 0) < 60


def test_resume_source(run: RunLayout) -> None:
    def complete(folder: Path) -> bool:
        return (folder / "complete").exists()

    for attempt in (1, 2, 3):
        mine = taken(run)
        run.checkpoint_dir(attempt, 0).mkdir(parents=True)
        if attempt < 3:
            (run.checkpoint_dir(attempt, 0) / "complete").touch()
            assert resume_source(run, mine, complete=complete) == (
                run.checkpoint_dir(1, 0) if attempt == 2 else None
            )
        publish_exit(run, mine, CHECKPOINTED)
    mine = taken(run)
    unclaimed = run.checkpoint_dir(2, 5)
    unclaimed.mkdir()
    (unclaimed / "complete").touch()
    own = run.checkpoint_dir(mine.attempt, mine.incarnation)
    own.mkdir()
    (own / "complete").touch()
    assert resume_source(run, mine, complete=complete) == run.checkpoint_dir(2, 0)


def test_a_claim_that_may_not_be_read_is_not_taken_for_void(
    run: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(run)
    real = os.open

    def refuse(path: str, *args: int, **kwargs: int) -> int:
        if Path(path).name.startswith("claim"):
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    from lfadsrm_hpc.errors import ManifestError

    with pytest.raises(ManifestError, match="Permission denied"):
        take_local(run, local(2))


def test_listing_costs_in_proportion_to_the_runs(
    layout: CollectionLayout, monkeypatch: pytest.MonkeyPatch, count_calls: Any
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    runs = [layout.run("abcdefghijkl", f"spec {i}") for i in range(200)]
    for run in runs:
        run.path.mkdir(parents=True)
        publish_exit(run, taken(run), DONE)
    _, few = count_calls(lambda: collection_states(layout, runs[:40]))
    states, many = count_calls(lambda: collection_states(layout, runs))
    assert many < 1.2 * 5 * few
    assert many / len(runs) < 1200  # 577 when this was written
    assert {s.state for s in states.values()} == {RunState.COMPLETED}
    assert list(states) == [run.run_id for run in runs]


def test_a_process_is_named_in_full(run: RunLayout) -> None:
    assert taken(run).process == Process.current()
