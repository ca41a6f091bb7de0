from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfadsrm_hpc.manifest.fold import Fact, Freshness, fold, gather, history
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.records import Claim, Closed, Exit, Heartbeat, Identity, Reservation
from lfadsrm_hpc.manifest.states import RunState

NOW = 100_000.0
FRESH = Freshness(NOW)
HERE = Process("here", "boot", "ns", 10, 1)


def reserved(attempt: int, *, planned: bool = False, alive: bool | None = True, age: float = 1.0) -> Fact:
    return Fact("reserved", attempt, -1, Reservation("S", 0.0, HERE, planned), NOW - age, alive)


def reserved_by_an_older_version(attempt: int) -> Fact:
    return Fact("reserved", attempt, -1, Reservation("S", 0.0, None), NOW - 1e6)


def claimed(
    attempt: int,
    k: int = 0,
    *,
    alive: bool | None = None,
    age: float = 1e6,
    cluster: str = "local",
    redo: bool = False,
) -> Fact:
    claim = Claim(attempt, k, Identity(cluster, "job", "1"), HERE, f"token{attempt}.{k}", 5.0, redo)
    return Fact("claim", attempt, k, claim, NOW - age, alive)


def beat(attempt: int, k: int = 0, *, age: float) -> Fact:
    return Fact("heartbeat", attempt, k, Heartbeat(f"token{attempt}.{k}", 0.0, {"epoch": 7}), NOW - age)


def ended(attempt: int, k: int = 0, code: int = 0, reason: str = "done", token: str | None = None) -> Fact:
    token = f"token{attempt}.{k}" if token is None else token
    return Fact("exit", attempt, k, Exit(code, reason, host="here", ended=9.0, token=token), NOW - 1)


def closed(attempt: int, reason: str = "lost") -> Fact:
    return Fact("closed", attempt, -1, Closed(reason), NOW - 1)


def cancelled(up_to: int) -> Fact:
    return Fact("cancelled", up_to)


def state(*facts: Fact) -> RunState:
    return fold(gather("param_a/b", facts), FRESH).state


VOID_CLAIM = Fact("claim", 1, 0, None, NOW - 10)
OLD_VOID_CLAIM = Fact("claim", 1, 0, None, NOW - 61)

TABLE = {
    # Nothing, or nothing that counts
    "no fact": ([], RunState.PREPARED),
    "killed after mkdir": ([Fact("attempt", 1)], RunState.PREPARED),
    "reserver died": ([reserved(1, alive=False)], RunState.PREPARED),
    "reserver lives": ([reserved(1)], RunState.PENDING),
    "reserver lives but never claimed": ([reserved(1, age=61)], RunState.PREPARED),
    "reserver elsewhere, just now": ([reserved(1, alive=None)], RunState.PENDING),
    "reserver elsewhere, long ago": ([reserved(1, alive=None, age=61)], RunState.PREPARED),
    "planned for a scheduler long ago": ([reserved(1, planned=True, age=1e6)], RunState.SUBMITTED),
    "planned by an older version": ([reserved_by_an_older_version(1)], RunState.SUBMITTED),
    "planned by one that died": ([reserved(1, planned=True, alive=False, age=1e6)], RunState.SUBMITTED),
    "planned and never handed over": (
        [reserved(1, planned=True), closed(1, "not_submitted")],
        RunState.PREPARED,
    ),
    "planned and left behind": ([reserved(1, planned=True), closed(1, "superseded")], RunState.PREPARED),
    "planned and never started": ([reserved(1, planned=True), closed(1, "never_started")], RunState.LOST),
    "planned, out of time in its setup": (
        [reserved(1, planned=True), closed(1, "timeout")],
        RunState.TIMEOUT,
    ),
    "planned, the script failed": ([reserved(1, planned=True), closed(1, "failed")], RunState.FAILED),
    "planned, the job was cancelled": (
        [reserved(1, planned=True), closed(1, "cancelled")],
        RunState.CANCELLED,
    ),
    "planned, closed, the file is empty": (
        [reserved(1, planned=True), Fact("closed", 1, -1, None, NOW)],
        RunState.LOST,
    ),
    "about to start, closed": ([reserved(1), closed(1)], RunState.PREPARED),
    "a retry was never handed over": (
        [
            claimed(1),
            ended(1, code=1, reason="failed"),
            reserved(2, planned=True),
            closed(2, "not_submitted"),
        ],
        RunState.FAILED,
    ),
    "a retry was never started": (
        [
            claimed(1),
            ended(1, code=1, reason="failed"),
            reserved(2, planned=True),
            closed(2, "never_started"),
        ],
        RunState.LOST,
    ),
    "a retry waits": (
        [claimed(1), ended(1, code=1, reason="failed"), reserved(2, planned=True)],
        RunState.SUBMITTED,
    ),
    "void reservation": ([Fact("reserved", 1, -1, None, NOW)], RunState.PREPARED),
    "reserver of a retry died": (
        [claimed(1), ended(1, code=1, reason="failed"), reserved(2, alive=False)],
        RunState.FAILED,
    ),
    # Claimed, no exit record
    "process lives, stale heartbeat": ([claimed(1, alive=True), beat(1, age=1e5)], RunState.RUNNING),
    "process gone, fresh heartbeat": ([claimed(1, alive=False), beat(1, age=1)], RunState.LOST),
    "elsewhere, fresh heartbeat": ([claimed(1), beat(1, age=359)], RunState.RUNNING),
    "elsewhere, stale heartbeat": ([claimed(1), beat(1, age=361)], RunState.LOST),
    "elsewhere, just claimed": ([claimed(1, age=359)], RunState.RUNNING),
    "elsewhere, claimed long ago, no heartbeat": ([claimed(1, age=361)], RunState.LOST),
    "cluster, stale heartbeat": ([claimed(1, cluster="c"), beat(1, age=1e4)], RunState.UNKNOWN),
    "cluster, fresh heartbeat": ([claimed(1, cluster="c"), beat(1, age=10)], RunState.RUNNING),
    "cluster, process on this machine gone": (
        [claimed(1, cluster="c", alive=False), beat(1, age=1)],
        RunState.UNKNOWN,  # its scheduler may start it again
    ),
    "cluster, void claim": ([reserved(1, planned=True), OLD_VOID_CLAIM], RunState.UNKNOWN),
    "cluster, claim being written": ([reserved(1, planned=True), VOID_CLAIM], RunState.RUNNING),
    "claim being written": ([VOID_CLAIM], RunState.RUNNING),
    "void claim": ([OLD_VOID_CLAIM], RunState.LOST),
    "closed as lost": ([claimed(1), closed(1)], RunState.LOST),
    "closed, the file is empty": ([claimed(1), Fact("closed", 1, -1, None, NOW)], RunState.LOST),
    "zombie in a closed attempt": ([claimed(1, alive=True), closed(1)], RunState.LOST),
    "stamped in the future": ([claimed(1, age=-1000.0)], RunState.RUNNING),
    # Exit records
    "done": ([claimed(1), ended(1)], RunState.COMPLETED),
    "done, process still there": ([claimed(1, alive=True), ended(1)], RunState.COMPLETED),
    "done but never claimed": ([ended(1)], RunState.PREPARED),
    "done without a token": ([claimed(1, alive=False), ended(1, token="")], RunState.FAILED),
    "done by another token": ([claimed(1, alive=False), ended(1, token="x")], RunState.LOST),
    "empty exit record": ([claimed(1, alive=False), Fact("exit", 1, 0, None, NOW)], RunState.LOST),
    "done, unreadable claim": ([OLD_VOID_CLAIM, ended(1)], RunState.FAILED),
    "failed": ([claimed(1), ended(1, code=1, reason="failed")], RunState.FAILED),
    "bad data": ([claimed(1), ended(1, code=65, reason="bad_data")], RunState.FAILED),
    "checkpointed": ([claimed(1), ended(1, code=75, reason="checkpointed")], RunState.PREEMPTED),
    "out of time": ([claimed(1), ended(1, code=75, reason="timeout")], RunState.TIMEOUT),
    "killed, said a shell": ([claimed(1), ended(1, code=137, reason="killed", token="")], RunState.FAILED),
    "killed and closed": (
        [claimed(1), ended(1, code=137, reason="killed", token=""), closed(1)],
        RunState.FAILED,
    ),
    "killed, and the scheduler said why": (
        [claimed(1), ended(1, code=137, reason="killed", token=""), closed(1, "out_of_memory")],
        RunState.OUT_OF_MEMORY,
    ),
    "failed, whatever the scheduler said": (
        [claimed(1), ended(1, code=1, reason="failed"), closed(1, "out_of_memory")],
        RunState.FAILED,
    ),
    "checkpointed and closed": (
        [claimed(1), ended(1, code=75, reason="timeout"), closed(1, "node_fail")],
        RunState.TIMEOUT,
    ),
    "closed on the scheduler's word": ([claimed(1, cluster="c"), closed(1, "node_fail")], RunState.NODE_FAIL),
    "closed for a deadline": ([claimed(1, cluster="c"), closed(1, "deadline")], RunState.TIMEOUT),
    "closed without a record": ([claimed(1, cluster="c"), closed(1, "no_record")], RunState.FAILED),
    "closed, and then it was done": ([claimed(1, cluster="c"), closed(1), ended(1)], RunState.COMPLETED),
    # Incarnations
    "requeued and running": (
        [claimed(1), ended(1, code=75, reason="checkpointed"), claimed(1, 1, alive=True)],
        RunState.RUNNING,
    ),
    "exit of a lower incarnation does not count": (
        [claimed(1), ended(1, code=1, reason="failed"), claimed(1, 1, alive=False)],
        RunState.LOST,
    ),
    # Attempts
    "retry running": (
        [claimed(1), ended(1, code=1, reason="failed"), claimed(2, alive=True)],
        RunState.RUNNING,
    ),
    "retry done": ([claimed(1), closed(1), claimed(2), ended(2)], RunState.COMPLETED),
    "completed by one thought dead": (
        [claimed(1), closed(1), ended(1), claimed(2, alive=True)],
        RunState.COMPLETED,
    ),
    # Redone
    "being redone": ([claimed(1), ended(1), claimed(2, alive=True, redo=True)], RunState.RUNNING),
    "redoing was killed": ([claimed(1), ended(1), claimed(2, alive=False, redo=True)], RunState.LOST),
    "redoing failed, then mended": (
        [claimed(1), ended(1), claimed(2, redo=True), closed(2), claimed(3), ended(3)],
        RunState.COMPLETED,
    ),
    "redone": ([claimed(1), ended(1), claimed(2, redo=True), ended(2)], RunState.COMPLETED),
    # Cancelled
    "cancelled, never tried": ([cancelled(0)], RunState.CANCELLED),
    "cancelled and gone": ([claimed(1, alive=False), cancelled(1)], RunState.CANCELLED),
    "cancelled and closed": ([claimed(1), closed(1), cancelled(1)], RunState.CANCELLED),
    "cancelled and checkpointed": (
        [claimed(1), ended(1, code=75, reason="checkpointed"), cancelled(1)],
        RunState.CANCELLED,
    ),
    "cancelled and killed": (
        [claimed(1), ended(1, code=143, reason="killed", token=""), cancelled(1)],
        RunState.CANCELLED,
    ),
    "cancelled but still there": ([claimed(1, alive=True), cancelled(1)], RunState.RUNNING),
    "cancelled on a cluster, stale": ([claimed(1, cluster="c"), cancelled(1)], RunState.CANCELLED),
    "cancelled while planned": ([reserved(1, planned=True), cancelled(1)], RunState.CANCELLED),
    "cancelled while planned, and closed": (
        [reserved(1, planned=True), closed(1, "cancelled"), cancelled(1)],
        RunState.CANCELLED,
    ),
    "cancelled, then planned again": (
        [reserved(1, planned=True), closed(1, "cancelled"), cancelled(1), reserved(2, planned=True)],
        RunState.SUBMITTED,
    ),
    "cancelled after it was done": ([claimed(1), ended(1), cancelled(1)], RunState.COMPLETED),
    "cancelled after it failed": (
        [claimed(1), ended(1, code=1, reason="failed"), cancelled(1)],
        RunState.FAILED,
    ),
    "asked for again after a cancellation": (
        [claimed(1), closed(1), cancelled(1), claimed(2, alive=True)],
        RunState.RUNNING,
    ),
    "lost after being asked for again": (
        [claimed(1), closed(1), cancelled(1), claimed(2, alive=False)],
        RunState.LOST,
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_table(name: str) -> None:
    facts, expected = TABLE[name]
    assert state(*facts) is expected


def test_a_status_tells_what_is_known() -> None:
    status = fold(gather("param_a/b", [claimed(2, 1, alive=True), beat(2, 1, age=30), closed(1)]), FRESH)
    assert (status.attempt, status.incarnation, status.host) == (2, 1, "here")
    assert status.progress == {"epoch": 7}
    assert status.heartbeat_age_s == 30
    assert status.started == 5.0
    plain = status.to_dict()
    assert plain["state"] == "RUNNING"
    assert plain["claim"]["process"]["pid"] == 10


def test_a_status_tells_what_a_scheduler_has_to_be_asked_for() -> None:
    known = [reserved(1, planned=True), claimed(1, cluster="c"), beat(1, age=700), cancelled(1)]
    status = fold(gather("r", known), FRESH)
    assert (status.submission, status.reserved_by, status.silent_s) == ("S", HERE, 700)
    assert (status.closed, status.cancelled) == (False, True)
    record = Closed("timeout", message="the scheduler says TIMEOUT")
    status = fold(gather("r", [*known[:2], Fact("closed", 1, -1, record, NOW)]), FRESH)
    assert (status.closed, status.message) == (True, "the scheduler says TIMEOUT")


def test_history() -> None:
    known = [
        reserved(1, planned=True), claimed(1, cluster="c"), closed(1, "node_fail"),
        reserved(2, planned=True), closed(2, "not_submitted"),
        reserved(3, planned=True), closed(3, "never_started"),
        reserved(4, planned=True), claimed(4), ended(4, code=75, reason="timeout"), cancelled(3),
        reserved(5, planned=True),
    ]  # fmt: skip
    told = history(gather("r", known), FRESH)
    assert [(s.attempt, s.state) for s in told] == [
        (1, RunState.CANCELLED), (3, RunState.CANCELLED), (4, RunState.TIMEOUT), (5, RunState.SUBMITTED),
    ]  # fmt: skip
    told = history(gather("r", [fact for fact in known if fact.kind != "cancelled"]), FRESH)
    assert [s.state for s in told[:2]] == [RunState.NODE_FAIL, RunState.LOST]
    (redone, failed) = history(
        gather("r", [claimed(1), ended(1), claimed(2, redo=True), ended(2, code=1, reason="failed")]), FRESH
    )
    assert (redone.state, failed.state) == (RunState.COMPLETED, RunState.FAILED)


def test_the_newest_winner_is_the_one_to_load() -> None:
    facts = gather(
        "r", [claimed(1), ended(1), claimed(2, redo=True), ended(2), claimed(3, redo=True, alive=True)]
    )
    assert facts.winner is not None
    assert facts.winner[0].number == 2
    assert facts.completed is None


ENDS = ["done", "failed", "checkpointed", "killed"]
records = st.one_of(
    st.builds(Exit, st.sampled_from([0, 1, 65, 75, 137]), st.sampled_from(ENDS),
              token=st.sampled_from(["", "token1.0", "token2.0", "x"])),
    st.just(None),
)  # fmt: skip
ages = st.sampled_from([0.0, 30.0, 100.0, 500.0])
moments = ages.map(lambda age: NOW - age)
liveness = st.sampled_from([True, False, None])
facts = st.one_of(
    st.builds(Fact, st.just("attempt"), st.integers(1, 3)),
    st.builds(reserved, st.integers(1, 3), planned=st.booleans(), alive=liveness, age=ages),
    st.builds(claimed, st.integers(1, 3), st.integers(0, 2), alive=liveness, age=ages,
              cluster=st.sampled_from(["local", "c"]), redo=st.booleans()),
    st.builds(Fact, st.just("claim"), st.integers(1, 3), st.integers(0, 2), st.none(), moments),
    st.builds(beat, st.integers(1, 3), st.integers(0, 2), age=ages),
    st.builds(Fact, st.just("exit"), st.integers(1, 3), st.integers(0, 2), records, moments),
    st.builds(closed, st.integers(1, 3), st.sampled_from(
        ["lost", "cancelled", "timeout", "out_of_memory", "not_submitted", "never_started", "superseded"])),
    st.builds(cancelled, st.integers(0, 3)),
)  # fmt: skip


@given(st.lists(facts, max_size=12).flatmap(lambda some: st.tuples(st.just(some), st.permutations(some))))
def test_the_order_of_reading_does_not_matter(pair: tuple[list[Fact], list[Fact]]) -> None:
    one, other = (gather("r", some) for some in pair)
    assert one == other
    assert fold(one, FRESH) == fold(other, FRESH)


@given(st.lists(facts, max_size=12), st.data())
def test_reading_twice_changes_nothing(some: list[Fact], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(some), max_size=6)) if some else []
    assert gather("r", [*some, *again]) == gather("r", some) == gather("r", [*again, *some, *some])


@given(st.lists(facts, max_size=12))
def test_only_an_exit_with_the_claims_token_completes(some: list[Fact]) -> None:
    known = gather("r", some)
    status = fold(known, FRESH)
    proof = any(
        i.claim and i.exit and (i.exit.code, i.exit.token) == (0, i.claim.token)
        for a in known.attempts
        for i in a.incarnations
    )
    assert (status.state is RunState.COMPLETED) <= proof
    assert (known.completed is not None) <= (known.winner is not None) == proof


@given(st.lists(facts, max_size=12))
def test_the_last_of_the_history_is_what_the_run_is_at(some: list[Fact]) -> None:
    known = gather("r", some)
    status, told = fold(known, FRESH), history(known, FRESH)
    if known.completed is None and told:
        assert status.attempt == told[-1].attempt
        covered = (known.cancelled_up_to or -1) >= known.newest_number
        if known.is_cancelled == covered and known.newest_number == status.attempt:
            assert status.state is told[-1].state


@given(st.lists(facts, max_size=12), st.integers(1, 3))
def test_closing_an_attempt_never_undoes_what_its_task_said(some: list[Fact], number: int) -> None:
    before = fold(gather("r", some), FRESH)
    after = fold(gather("r", [*some, closed(number, "out_of_memory")]), FRESH)
    if before.state is RunState.COMPLETED or (before.code is not None and before.reason != "killed"):
        assert (after.state, after.attempt, after.code) == (before.state, before.attempt, before.code)
