"""The truth table of reconciling: a case for each row, and for what lies beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfadsrm_hpc.manifest.evidence import ChunkState, Evidence, Seen, same_job
from lfadsrm_hpc.manifest.fold import Fact, Freshness, RunStatus, fold, gather
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.reconcile import Verdict, is_settled, reconcile
from lfadsrm_hpc.manifest.records import Claim, Closed, Exit, Heartbeat, Identity, Reservation
from lfadsrm_hpc.manifest.states import RunState

NOW = 1e6
FRESH = Freshness(NOW)
THERE = Process("node1", "boot", "ns", 10, 1)
TOKEN = "token"

S = RunState
Row = tuple[list[Fact], Evidence, RunState, str | None]


# -- what the run's own files say ------------------------------------------------------------------------


def planned(attempt: int = 1) -> Fact:
    return Fact("reserved", attempt, -1, Reservation("ULID", 0.0, THERE, ahead=True), NOW - 9e4)


def claim(
    k: int = 0, *, job: str = "77", task: str = "3", age: float = 9e4, alive: bool | None = None
) -> Fact:
    identity = Identity("cluster", job, task, "ULID")
    return Fact("claim", 1, k, Claim(1, k, identity, THERE, f"{TOKEN}{k}"), NOW - age, alive)


def beat(age: float, k: int = 0) -> Fact:
    return Fact("heartbeat", 1, k, Heartbeat(f"{TOKEN}{k}"), NOW - age)


def ended(code: int, reason: str, k: int = 0, *, shell: bool = False, age: float = 1e4) -> Fact:
    return Fact("exit", 1, k, Exit(code, reason, token="" if shell else f"{TOKEN}{k}"), NOW - age)


def closed(reason: str) -> Fact:
    return Fact("closed", 1, -1, Closed(reason), NOW - 1)


CANCELLED = Fact("cancelled", 1)
UNCLAIMED = [planned()]
RUNS = [planned(), claim(), beat(20)]
STALE = [planned(), claim(), beat(3000)]
VOID = [planned(), Fact("claim", 1, 0, None, NOW - 1000)]
DONE = [planned(), claim(), ended(0, "done")]
STOPPED = [planned(), claim(), ended(75, "checkpointed")]
OUT_OF_TIME = [planned(), claim(), ended(75, "timeout")]
KILLED = [planned(), claim(), ended(137, "killed", shell=True)]
OTHERS = [planned(), claim(job="78"), beat(20)]
OTHERS_STALE = [planned(), claim(job="78"), beat(3000)]


# -- what the plan and the scheduler say -----------------------------------------------------------------

ABSENT = Evidence(
    ChunkState.SENT, 9000.0, live_ok=True, history_ok=True, job="77[].server", task="3", now=5000.0
)
NO_HISTORY = replace(ABSENT, history_ok=None)
NO_ANSWER = replace(ABSENT, live_ok=False, history_ok=None)
HISTORY_SILENT = replace(ABSENT, history_ok=False)
YOUNG = replace(ABSENT, age_s=59.0)
LONG_AGO, JUST_NOW, AHEAD = 5000.0 - 61, 5000.0 - 59, 5000.0 + 3600


def seen(state: RunState, word: str | None = None, evidence: Evidence = ABSENT, **more: Any) -> Evidence:
    return replace(evidence, seen=Seen(state, state.value if word is None else word, **more))


def over(state: RunState, **more: Any) -> Evidence:
    return seen(state, ended=LONG_AGO, **more)


PENDING, RUNNING, HELD = seen(S.PENDING, reason="Priority"), seen(S.RUNNING), seen(S.HELD, "SUSPENDED")
STRANGE = seen(S.UNKNOWN, "FROBNICATING")
NO_PLAN = Evidence(ChunkState.NO_PLAN, 61.0, planner_alive=False, live_ok=False)

TABLE: dict[str, Row] = {
    # The scheduler did not answer: nothing changes
    "no answer, unclaimed": (UNCLAIMED, NO_ANSWER, S.UNKNOWN, None),
    "no answer, stale": (STALE, NO_ANSWER, S.UNKNOWN, None),
    "no answer, but it is alive": (RUNS, NO_ANSWER, S.RUNNING, None),
    "no answer, stopped": (STOPPED, NO_ANSWER, S.UNKNOWN, None),
    "no answer, killed": (KILLED, NO_ANSWER, S.FAILED, None),
    "no answer, done": (DONE, NO_ANSWER, S.COMPLETED, None),
    "no answer, cancelled while it waited": ([planned(), CANCELLED], NO_ANSWER, S.UNKNOWN, None),
    "no answer, cancelled, stale": ([*STALE, CANCELLED], NO_ANSWER, S.UNKNOWN, None),
    "no answer, cancelled, alive": ([*RUNS, CANCELLED], NO_ANSWER, S.RUNNING, None),
    "live did not answer, history says it ended": (
        UNCLAIMED, seen(S.FAILED, evidence=NO_ANSWER, live=False, ended=LONG_AGO), S.UNKNOWN, None,
    ),
    "half an answer, and it is in it": (UNCLAIMED, seen(S.PENDING, evidence=NO_ANSWER), S.PENDING, None),
    "not asked about it": (STALE, replace(ABSENT, job=""), S.UNKNOWN, None),
    # An exit record wins
    "done, scheduler says failed": (DONE, over(S.FAILED), S.COMPLETED, None),
    "done, still in the queue": (DONE, RUNNING, S.COMPLETED, None),
    "failed, scheduler says completed": (
        [planned(), claim(), ended(1, "failed")], over(S.COMPLETED), S.FAILED, None,
    ),
    "failed, queued again": ([planned(), claim(), ended(1, "failed")], PENDING, S.FAILED, None),
    "bad data": ([planned(), claim(), ended(65, "bad_data")], over(S.FAILED), S.FAILED, None),
    "closed before, and back in the queue": ([*STALE, closed("lost")], RUNNING, S.LOST, None),
    # Killed, says a shell: the scheduler may know why
    "killed, out of memory": (KILLED, over(S.OUT_OF_MEMORY), S.OUT_OF_MEMORY, "out_of_memory"),
    "killed, out of time": (KILLED, over(S.TIMEOUT), S.TIMEOUT, "timeout"),
    "killed, node failed": (KILLED, over(S.NODE_FAIL), S.NODE_FAIL, "node_fail"),
    "killed, cancelled by hand": (KILLED, over(S.CANCELLED), S.CANCELLED, "cancelled"),
    "killed, why is not known yet": (KILLED, seen(S.OUT_OF_MEMORY, ended=JUST_NOW), S.FAILED, None),
    "killed, the scheduler says failed": (KILLED, over(S.FAILED), S.FAILED, "killed"),
    "killed, the scheduler says completed": (KILLED, over(S.COMPLETED), S.FAILED, "killed"),
    "killed, forgotten": (KILLED, ABSENT, S.FAILED, "killed"),
    "killed, history did not answer": (KILLED, HISTORY_SILENT, S.FAILED, None),
    "killed a moment ago": (
        [planned(), claim(), ended(137, "killed", shell=True, age=10)], ABSENT, S.FAILED, None,
    ),
    "killed, others share its job": (KILLED, RUNNING, S.FAILED, None),
    "killed, queued again": (KILLED, PENDING, S.REQUEUED, None),
    "killed, a strange word": (KILLED, STRANGE, S.FAILED, None),
    "killed, and the cause is on record": ([*KILLED, closed("out_of_memory")], ABSENT, S.OUT_OF_MEMORY, None),
    # 75: checkpointed
    "stopped, queued": (STOPPED, PENDING, S.REQUEUED, None),
    "stopped, started again": (STOPPED, RUNNING, S.REQUEUED, None),
    "stopped, held": (STOPPED, HELD, S.HELD, None),
    "stopped, absent": (STOPPED, ABSENT, S.PREEMPTED, "checkpointed"),
    "stopped, absent, no history": (STOPPED, NO_HISTORY, S.PREEMPTED, "checkpointed"),
    "stopped, absent, history did not answer": (STOPPED, HISTORY_SILENT, S.PREEMPTED, None),
    "stopped a moment ago, absent": (
        [planned(), claim(), ended(75, "checkpointed", age=10)], ABSENT, S.PREEMPTED, None,
    ),
    "stopped, scheduler says failed": (STOPPED, over(S.FAILED), S.PREEMPTED, "checkpointed"),
    "stopped, scheduler says timeout": (STOPPED, over(S.TIMEOUT), S.PREEMPTED, "checkpointed"),
    "stopped, ended a moment ago": (STOPPED, seen(S.FAILED, ended=JUST_NOW), S.PREEMPTED, None),
    "stopped, a strange word": (STOPPED, STRANGE, S.UNKNOWN, None),
    "stopped, only the history has it queued": (STOPPED, seen(S.PENDING, live=False), S.PREEMPTED, None),
    "out of time, queued": (OUT_OF_TIME, PENDING, S.REQUEUED, None),
    "out of time, absent": (OUT_OF_TIME, ABSENT, S.TIMEOUT, "timeout"),
    "stopped and cancelled, queued": ([*STOPPED, CANCELLED], PENDING, S.CANCELLED, None),
    "stopped, closed, queued": ([*STOPPED, closed("checkpointed")], PENDING, S.PREEMPTED, None),
    "stopped, next incarnation runs": ([*STOPPED, claim(1, age=10)], RUNNING, S.RUNNING, None),
    "stopped, next incarnation vanished": ([*STOPPED, claim(1)], ABSENT, S.LOST, "lost"),
    # Cancelled
    "cancelled, alive, absent": ([*RUNS, CANCELLED], ABSENT, S.CANCELLED, None),
    "cancelled, silent, absent": ([*STALE, CANCELLED], ABSENT, S.CANCELLED, "cancelled"),
    "cancelled, scheduler says so": ([*STALE, CANCELLED], over(S.CANCELLED), S.CANCELLED, "cancelled"),
    "cancelled, scheduler says timeout": ([*STALE, CANCELLED], over(S.TIMEOUT), S.CANCELLED, "cancelled"),
    "cancelled a moment ago": (
        [*RUNS, CANCELLED], seen(S.CANCELLED, ended=JUST_NOW), S.CANCELLED, None,
    ),
    "cancelled, still running": ([*RUNS, CANCELLED], RUNNING, S.RUNNING, None),
    "cancelled, still waiting": ([planned(), CANCELLED], PENDING, S.PENDING, None),
    "cancelled while it waited": ([planned(), CANCELLED], ABSENT, S.CANCELLED, "cancelled"),
    "cancelled while it waited, just sent": ([planned(), CANCELLED], YOUNG, S.CANCELLED, None),
    "cancelled and done": ([planned(), claim(), ended(0, "done"), CANCELLED], ABSENT, S.COMPLETED, None),
    "cancelled and failed": ([planned(), claim(), ended(1, "failed"), CANCELLED], ABSENT, S.FAILED, None),
    "cancelled, never handed over": (
        [planned(), CANCELLED], replace(ABSENT, chunk=ChunkState.UNSENT, job=""), S.CANCELLED, None,
    ),
    "cancelled and closed": ([planned(), CANCELLED, closed("cancelled")], PENDING, S.CANCELLED, None),
    "an older attempt was cancelled": (
        [Fact("cancelled", 0), planned()], PENDING, S.PENDING, None,
    ),
    # The scheduler says that it ended; no exit record
    "timeout": (STALE, over(S.TIMEOUT), S.TIMEOUT, "timeout"),
    "deadline": (STALE, over(S.TIMEOUT, curable=False), S.TIMEOUT, "deadline"),
    "out of memory": (STALE, over(S.OUT_OF_MEMORY), S.OUT_OF_MEMORY, "out_of_memory"),
    "node failed": (STALE, over(S.NODE_FAIL), S.NODE_FAIL, "node_fail"),
    "node failed, its processes live on": (RUNS, over(S.NODE_FAIL), S.NODE_FAIL, "node_fail"),
    "preempted": (STALE, over(S.PREEMPTED), S.PREEMPTED, "preempted"),
    "cancelled by hand": (STALE, over(S.CANCELLED), S.CANCELLED, "cancelled"),
    "failed": (STALE, over(S.FAILED), S.FAILED, "failed"),
    "ended a moment ago, alive": (RUNS, seen(S.TIMEOUT, ended=JUST_NOW), S.RUNNING, None),
    "ended a moment ago, stale": (STALE, seen(S.TIMEOUT, ended=JUST_NOW), S.UNKNOWN, None),
    "ended a moment ago, unclaimed": (UNCLAIMED, seen(S.FAILED, ended=JUST_NOW), S.SUBMITTED, None),
    "ended, nobody says when, alive": (RUNS, seen(S.TIMEOUT), S.RUNNING, None),
    "ended, nobody says when, silent": (STALE, seen(S.TIMEOUT), S.TIMEOUT, "timeout"),
    "ended, the scheduler's clock is far ahead": (
        STALE, seen(S.TIMEOUT, ended=AHEAD), S.TIMEOUT, "timeout",
    ),
    "ended, the scheduler's clock is far ahead, alive": (RUNS, seen(S.TIMEOUT, ended=AHEAD), S.RUNNING, None),
    "ended, the scheduler's clock is a little ahead": (
        STALE, seen(S.TIMEOUT, ended=5000.0 + 59), S.UNKNOWN, None,
    ),
    "failed before it claimed": (UNCLAIMED, over(S.FAILED), S.FAILED, "failed"),
    "timeout before it claimed": (UNCLAIMED, over(S.TIMEOUT), S.TIMEOUT, "timeout"),
    "cancelled by hand while it waited": (UNCLAIMED, over(S.CANCELLED), S.CANCELLED, "cancelled"),
    "from the history": (STALE, over(S.TIMEOUT, live=False), S.TIMEOUT, "timeout"),
    "void claim, timeout": (VOID, over(S.TIMEOUT), S.TIMEOUT, "timeout"),
    # The scheduler says COMPLETED; no exit record
    "completed, this task": (STALE, over(S.COMPLETED), S.FAILED, "no_record"),
    "completed, this task, a moment ago": (RUNS, seen(S.COMPLETED, ended=JUST_NOW), S.RUNNING, None),
    "completed, another's": (OTHERS, over(S.COMPLETED), S.RUNNING, None),
    "completed, another's, stale": (OTHERS_STALE, over(S.COMPLETED), S.UNKNOWN, None),
    "completed, another task of the job": (
        [planned(), claim(task="4"), beat(20)], over(S.COMPLETED), S.RUNNING, None,
    ),
    "completed, nobody's": (UNCLAIMED, over(S.COMPLETED), S.LOST, "never_started"),
    # Another task holds the claim: nothing follows for it
    "another's, ours is running": (OTHERS_STALE, RUNNING, S.UNKNOWN, None),
    "another's, ours is absent": (OTHERS_STALE, ABSENT, S.UNKNOWN, None),
    "another's, ours timed out": (OTHERS, over(S.TIMEOUT), S.RUNNING, None),
    "another's, stopped, ours is queued": (
        [planned(), claim(job="78"), ended(75, "checkpointed")], PENDING, S.PREEMPTED, None,
    ),
    # Held
    "suspended": (RUNS, HELD, S.HELD, None),
    "suspended for long": (STALE, HELD, S.HELD, None),
    "held before it started": (UNCLAIMED, HELD, S.HELD, None),
    # Waiting, running
    "waits": (UNCLAIMED, PENDING, S.PENDING, None),
    "starts": (UNCLAIMED, RUNNING, S.RUNNING, None),
    "requeued without a word": (STALE, PENDING, S.REQUEUED, None),
    "requeued, a zombie beats on": (RUNS, PENDING, S.REQUEUED, None),
    "requeued, void claim": (VOID, PENDING, S.REQUEUED, None),
    "runs, silent": (STALE, RUNNING, S.RUNNING, None),
    # Absent
    "alive, absent": (RUNS, ABSENT, S.RUNNING, None),
    "alive by its process, absent": ([planned(), claim(alive=True)], ABSENT, S.RUNNING, None),
    "its process is gone, absent": ([planned(), claim(alive=False), beat(5)], ABSENT, S.LOST, "lost"),
    "stale, absent": (STALE, ABSENT, S.LOST, "lost"),
    "stale, absent, no history": (STALE, NO_HISTORY, S.LOST, "lost"),
    "stale, absent, history did not answer": (STALE, HISTORY_SILENT, S.UNKNOWN, None),
    "stale, absent, the history has it running": (STALE, seen(S.RUNNING, live=False), S.UNKNOWN, None),
    "void claim, absent": (VOID, ABSENT, S.LOST, "lost"),
    "never claimed, absent": (UNCLAIMED, ABSENT, S.LOST, "never_started"),
    "never claimed, absent, no history": (UNCLAIMED, NO_HISTORY, S.LOST, "never_started"),
    "never claimed, absent, history did not answer": (UNCLAIMED, HISTORY_SILENT, S.UNKNOWN, None),
    "never claimed, absent, the history has it": (UNCLAIMED, seen(S.PENDING, live=False), S.UNKNOWN, None),
    "never claimed, absent, just sent": (UNCLAIMED, YOUNG, S.SUBMITTED, None),
    # Local
    "claimed on this host, gone": (
        [Fact("claim", 1, 0, Claim(1, 0, Identity("local", "here", "1"), THERE, "t"), NOW - 5, False)],
        ABSENT, S.LOST, None,
    ),
    # Unknown words
    "a strange word": (UNCLAIMED, STRANGE, S.UNKNOWN, None),
    "a strange word, stale": (STALE, STRANGE, S.UNKNOWN, None),
    "a strange word, alive": (RUNS, STRANGE, S.RUNNING, None),
    # How far the submission is
    "planner died": (UNCLAIMED, NO_PLAN, S.PREPARED, "not_submitted"),
    "planner died a moment ago": (UNCLAIMED, replace(NO_PLAN, age_s=59.0), S.SUBMITTED, None),
    "planner lives": (UNCLAIMED, replace(NO_PLAN, planner_alive=True, age_s=1e5), S.SUBMITTED, None),
    "planner elsewhere, quiet": (UNCLAIMED, replace(NO_PLAN, planner_alive=None), S.SUBMITTED, None),
    "planner elsewhere, long ago": (
        UNCLAIMED, replace(NO_PLAN, planner_alive=None, age_s=361.0), S.PREPARED, "not_submitted",
    ),
    "planner of a retry died": (
        [claim(), ended(1, "failed"), planned(2)], NO_PLAN, S.FAILED, "not_submitted",
    ),
    "unsent": (UNCLAIMED, replace(ABSENT, chunk=ChunkState.UNSENT, job=""), S.SUBMITTED, None),
    "being sent": (UNCLAIMED, replace(ABSENT, chunk=ChunkState.SENDING, job=""), S.SUBMITTED, None),
    "uncertain": (UNCLAIMED, replace(ABSENT, chunk=ChunkState.UNCERTAIN, job=""), S.UNCERTAIN, None),
    "uncertain, but it runs": (RUNS, replace(ABSENT, chunk=ChunkState.UNCERTAIN, job=""), S.RUNNING, None),
    "uncertain, it ran": (STALE, replace(ABSENT, chunk=ChunkState.UNCERTAIN, job=""), S.UNKNOWN, None),
    "uncertain, it stopped": (STOPPED, replace(ABSENT, chunk=ChunkState.UNCERTAIN, job=""), S.UNKNOWN, None),
    "uncertain, it was killed": (
        KILLED, replace(ABSENT, chunk=ChunkState.UNCERTAIN, job=""), S.FAILED, None,
    ),
    "uncertain, but seen": (UNCLAIMED, seen(
        S.PENDING, evidence=replace(ABSENT, chunk=ChunkState.UNCERTAIN)), S.PENDING, None,
    ),
}  # fmt: skip


def status_of(facts: list[Fact]) -> RunStatus:
    return fold(gather("param_a/b", facts), FRESH)


@pytest.mark.parametrize("name", TABLE)
def test_table(name: str) -> None:
    facts, evidence, state, close = TABLE[name]
    verdict = reconcile(status_of(facts), evidence)
    assert (verdict.state, verdict.close) == (state, close), verdict


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row[3] is not None])
def test_what_is_put_on_record_says_the_same_without_the_scheduler(name: str) -> None:
    facts, evidence, state, close = TABLE[name]
    assert close is not None
    attempt = status_of(facts).attempt
    assert attempt is not None
    status = status_of([*facts, Fact("closed", attempt, -1, Closed(close), NOW)])
    if close == "not_submitted":
        assert (status.attempt or 0) < attempt  # as if it had never been
        assert status.state is state
    else:
        assert (status.state, status.attempt) == (state, attempt)
        assert reconcile(status, evidence) == Verdict(state, status.reason or "", None, None, status.message)
    assert is_settled(status)


WARNINGS = {
    "a strange word": "FROBNICATING",
    "a strange word, alive": "FROBNICATING",
    "stopped, a strange word": "FROBNICATING",
    "cancelled, still running": "cancelled, but its job",
    "cancelled, still waiting": "cancelled, but its job",
    "runs, silent": "no sign of life for 50 minutes",
    "completed, another's, stale": "job 78 has the run",
    "stale, absent, the history has it running": "the history has it as RUNNING",
}


@pytest.mark.parametrize("name", TABLE)
def test_warnings(name: str) -> None:
    facts, evidence, *_ = TABLE[name]
    warning = reconcile(status_of(facts), evidence).warning
    if name in WARNINGS:
        assert warning is not None
        assert WARNINGS[name] in warning
    elif not any(word in name for word in ("another", "strange", "the history has it")):
        assert warning is None


def test_the_schedulers_words_are_kept() -> None:
    evidence = over(S.OUT_OF_MEMORY, reason="OutOfMemory", signal=125, host="n0")
    verdict = reconcile(status_of(STALE), evidence)
    assert verdict.message == "the scheduler says OUT_OF_MEMORY, OutOfMemory, signal 125, on n0"
    assert reconcile(status_of(UNCLAIMED), PENDING).reason == "Priority"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("123", "123[].server", True),
        ("123[].server", "123[].server.site.org", True),
        ("123.server", "124.server", False),
        ("12", "123", False),
        ("host/boot/S", "host/boot/S", True),
        ("host/boot/S", "host/boot/T", False),
        ("host", "123", False),
    ],
)
def test_same_job(one: str, other: str, same: bool) -> None:
    assert same_job(one, other) is same is same_job(other, one)


def test_what_needs_no_scheduler() -> None:
    by_name = RunStatus("r", S.FAILED, 1, 0, code=1, reason="failed")
    assert is_settled(by_name)
    assert is_settled(RunStatus("r", S.PREPARED))
    assert is_settled(replace(by_name, state=S.COMPLETED, code=0, reason="done"))
    # What stopped or was killed may start again, and a name in the outbox does not tell that it was closed.
    assert not is_settled(replace(by_name, state=S.PREEMPTED, code=75, reason="checkpointed"))
    assert not is_settled(replace(by_name, code=137, reason="killed"))
    never_tried = fold(gather("r", [Fact("cancelled", 0)]), FRESH)
    assert is_settled(never_tried)


# -- whatever is known -----------------------------------------------------------------------------------

ages = st.sampled_from([0.0, 30.0, 100.0, 1000.0])
lists = st.lists(
    st.one_of(
        st.just(planned()),
        st.builds(claim, st.integers(0, 1), job=st.sampled_from(["77", "78"]), age=ages,
                  alive=st.sampled_from([None, True, False])),
        st.builds(beat, ages, st.integers(0, 1)),
        st.builds(lambda end, k, shell, age: ended(*end, k, shell=shell, age=age),
                  st.sampled_from([(0, "done"), (1, "failed"), (65, "bad_data"), (75, "checkpointed"),
                                   (75, "timeout"), (137, "killed")]),
                  st.integers(0, 1), st.booleans(), ages),
        st.builds(closed, st.sampled_from(["lost", "cancelled", "not_submitted", "out_of_memory"])),
        st.just(CANCELLED),
    ),
    max_size=6,
).map(lambda some: [planned(), *some])  # fmt: skip
sightings = st.one_of(
    st.none(),
    st.builds(
        Seen,
        st.sampled_from([S.PENDING, S.HELD, S.RUNNING, S.COMPLETED, S.FAILED, S.TIMEOUT, S.OUT_OF_MEMORY,
                         S.NODE_FAIL, S.PREEMPTED, S.CANCELLED, S.UNKNOWN]),
        st.just("WORD"),
        curable=st.booleans(),
        ended=st.sampled_from([None, LONG_AGO, JUST_NOW]),
        live=st.booleans(),
    ),
)  # fmt: skip
evidences = st.builds(
    Evidence,
    st.sampled_from(list(ChunkState)),
    ages,
    sightings,
    st.booleans(),
    st.sampled_from([None, True, False]),
    st.sampled_from(["77", "77[].server", ""]),
    st.just("3"),
    now=st.sampled_from([None, 5000.0]),
    planner_alive=st.sampled_from([None, True, False]),
)


@given(lists, evidences)
def test_absence_completes_and_fails_nothing(facts: list[Fact], evidence: Evidence) -> None:
    status = status_of(facts)
    verdict = reconcile(status, evidence)
    assert (verdict.state is S.COMPLETED) == (status.state is S.COMPLETED)
    if evidence.seen is None and verdict.state is S.FAILED:
        assert status.state is S.FAILED


@given(lists, evidences)
def test_what_is_not_known_changes_nothing(facts: list[Fact], evidence: Evidence) -> None:
    status = status_of(facts)
    verdict = reconcile(status, evidence)
    if verdict.state in (S.UNKNOWN, S.UNCERTAIN) or verdict.state.is_live or verdict.state is S.PENDING:
        assert verdict.close is None
    if not evidence.live_ok and evidence.seen is None and verdict.close is not None:
        assert (evidence.chunk, verdict.close) == (ChunkState.NO_PLAN, "not_submitted")
    if verdict.close is not None:
        assert not status.closed


@given(lists, evidences)
def test_what_a_run_said_of_its_end_is_never_overturned(facts: list[Fact], evidence: Evidence) -> None:
    status = status_of(facts)
    verdict = reconcile(status, evidence)
    if status.code is not None and status.code != 75 and status.reason != "killed":
        assert verdict == Verdict(status.state, status.reason or "", None, None, status.message)
    if status.state in (S.PREEMPTED, S.TIMEOUT) and status.code == 75:
        assert verdict.state in (status.state, S.REQUEUED, S.HELD, S.UNKNOWN)
    if status.code == 137 and status.reason == "killed":
        assert verdict.state is S.REQUEUED or verdict.state is S.HELD or verdict.state.is_failure


@given(lists, evidences)
def test_a_live_task_is_never_lost(facts: list[Fact], evidence: Evidence) -> None:
    status = status_of(facts)
    verdict = reconcile(status, evidence)
    if status.state is S.RUNNING:
        assert verdict.state is not S.LOST
        assert verdict.state is not S.PREPARED


@given(lists, evidences)
def test_the_same_again(facts: list[Fact], evidence: Evidence) -> None:
    status = status_of(facts)
    verdict = reconcile(status, evidence)
    assert verdict == reconcile(status_of(list(reversed(facts))), evidence)
    if verdict.close is None or status.attempt is None:
        return
    # What was put on record stands, whatever the scheduler says next.
    after = status_of([*facts, Fact("closed", status.attempt, -1, Closed(verdict.close), NOW)])
    assert is_settled(after)
    assert after.state is verdict.state
