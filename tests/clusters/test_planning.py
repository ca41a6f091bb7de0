"""Runs cut into jobs within the limits of a site, and requests that grow when runs are tried again."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.planning import Arrangement, Wish, arrange, share_out
from lfadsrm_hpc.schedulers.resources import Caps, Declined, Ended, JobRequest, RetryRules, escalate
from lfadsrm_hpc.schedulers.sites.site import Limits

ULID = "01J00000000000000000000000"
SMALL, LARGE = JobRequest(3600, memory_mb=4000), JobRequest(3600, memory_mb=8000)


def wishes(count: int, request: JobRequest = SMALL, *, begin: int = 0) -> list[Wish]:
    return [Wish(f"param_0/r{n}", request, attempt=n % 3 + 1) for n in range(begin, begin + count)]


def shape(arrangement: Arrangement) -> list[int]:
    return [chunk.size for chunk in arrangement.chunks]


@pytest.mark.parametrize(
    ("runs", "limits", "pack", "sizes"),
    [
        (1, Limits(), 1, [0]),
        (2, Limits(), 1, [2]),
        (1001, Limits(), 1, [1001]),
        (1002, Limits(), 1, [501, 501]),
        (2500, Limits(), 1, [833, 833, 834]),
        (5, Limits(largest_array_index=0), 1, [0] * 5),
        (9, Limits(largest_array_index=3), 1, [3, 3, 3]),
        (9, Limits(largest_array_index=None), 1, [9]),
        (9, Limits(array_tasks=4), 1, [3, 3, 3]),
        (9, Limits(largest_array_index=3, array_tasks=2), 1, [0, 2, 2, 2, 2]),
        (8, Limits(jobs=8), 1, [8]),
        (9, Limits(jobs=8), 1, [0, 2, 2, 2, 2]),
        (9, Limits(jobs=1), 1, [0] * 9),
        (9, Limits(), 4, [3]),
        (4, Limits(), 4, [0]),
        (9, Limits(largest_array_index=1), 4, [0, 2]),
        (3, Limits(), 4, [0]),
    ],
)
def test_jobs_within_the_limits(runs: int, limits: Limits, pack: int, sizes: list[int]) -> None:
    made = arrange(ULID, wishes(runs), limits, pack=pack)
    assert sorted(shape(made)) == sorted(sizes)
    assert bool(made.binding) == (len(sizes) > 1)
    check(made, runs, pack)


def check(made: Arrangement, runs: int, pack: int) -> None:
    assert [task.run_id for task in made.tasks] == [f"param_0/r{n}" for n in range(runs)]
    for chunk in made.chunks:
        members = [task for task in made.tasks if task.chunk == chunk.number]
        held = Counter(task.index for task in members)
        assert sorted(held) == list(range(chunk.size or 1)), "indices count from 0 without gaps"
        assert max(held.values()) <= pack
        assert all(a.index <= b.index for a, b in pairwise(members))
    assert [task.attempt for task in made.tasks] == [n % 3 + 1 for n in range(runs)]
    assert len({chunk.name for chunk in made.chunks}) == len(made.chunks)
    assert max(len(chunk.name) for chunk in made.chunks) <= 15


def test_runs_that_ask_for_the_same_share_arrays() -> None:
    mixed = [*wishes(3), *wishes(2, LARGE, begin=3), *wishes(2, begin=5)]
    made = arrange(ULID, mixed, Limits())
    assert [(chunk.size, chunk.request["memory_mb"]) for chunk in made.chunks] == [(5, 4000), (2, 8000)]
    assert {task.run_id[-1] for task in made.tasks if task.chunk == 1} == {"3", "4"}


@pytest.mark.parametrize(
    ("most", "runs", "limits", "throttles"),
    [
        (0, 10, Limits(), [0]),
        (4, 10, Limits(), [4]),
        (10, 10, Limits(), [0]),
        (4, 10, Limits(largest_array_index=4), [2, 2]),
        (5, 12, Limits(largest_array_index=3), [2, 2, 1]),
        (2, 12, Limits(largest_array_index=3), [1, 1, 1]),
    ],
)
def test_a_throttle_is_shared(most: int, runs: int, limits: Limits, throttles: list[int]) -> None:
    made = arrange(ULID, wishes(runs), limits, max_parallel=most)
    assert sorted((chunk.max_parallel for chunk in made.chunks), reverse=True) == throttles
    told = any("cannot share" in text for text in made.binding)
    assert told == (len(throttles) > most > 0)


@pytest.mark.parametrize("most", [1, 2, 3, 7, 50, 251])
def test_shares_add_up(most: int) -> None:
    for sizes in ([1], [100, 100, 50], [1, 1, 99], [7] * 12):
        shares = share_out(most, sizes)
        assert min(shares) >= 1
        assert sum(shares) == max(most, len(sizes))


# -- requests that grow --------------------------------------------------------------------------------

TIME, MEMORY, FAILED = Ended(RunState.TIMEOUT), Ended(RunState.OUT_OF_MEMORY), Ended(RunState.FAILED)
GAINED = Ended(RunState.TIMEOUT, gained=True)
NODE, LOST, PREEMPTED = Ended(RunState.NODE_FAIL), Ended(RunState.LOST), Ended(RunState.PREEMPTED)
CAPS = Caps(4 * 3600, 16000)


@pytest.mark.parametrize(
    ("history", "walltime", "memory"),
    [
        ([], 3600, 4000),
        ([MEMORY], 3600, 6000),
        ([TIME], 5400, 4000),
        ([GAINED], 3600, 4000),
        ([GAINED] * 40, 3600, 4000),
        ([GAINED, TIME], 5400, 4000),
        ([NODE], 3600, 4000),
        ([LOST] * 9, 3600, 4000),
        ([PREEMPTED, MEMORY, PREEMPTED], 3600, 4000),
        ([MEMORY, MEMORY], 3600, 6000),
        ([Ended(RunState.CANCELLED)], 3600, 4000),
        ([FAILED], 3600, 4000),
        ([FAILED, FAILED, NODE], 3600, 4000),
        ([FAILED, FAILED, FAILED, NODE], 3600, 4000),  # the newest end is the reason
    ],
)
def test_what_is_asked_for_next(history: list[Ended], walltime: int, memory: int) -> None:
    request = JobRequest(3600, "gpu", gpus=1, cpus=4, memory_mb=4000)
    asked = escalate(request, history, CAPS, RetryRules(), asked=True)
    assert asked == JobRequest(walltime, "gpu", gpus=1, cpus=4, memory_mb=memory)


@pytest.mark.parametrize(
    ("history", "request_", "why"),
    [
        ([Ended(RunState.FAILED, bad_data=True)], SMALL, "data cannot be used"),
        ([FAILED] * 3, SMALL, "3 attempts have failed"),
        ([MEMORY, TIME, FAILED], SMALL, "3 attempts have failed"),
        ([TIME, TIME, TIME], SMALL, "3 attempts have failed"),
        ([LOST, NODE, PREEMPTED, LOST, LOST] * 2, SMALL, "ended 10 attempts"),
        ([MEMORY], JobRequest(3600, memory_mb=16000), "16000 MiB, the most"),
        ([MEMORY], JobRequest(3600), "memory that the cluster gives unasked"),
        ([TIME], JobRequest(4 * 3600), "the most of its partition"),
        ([Ended(RunState.TIMEOUT, curable=False)], SMALL, "deadline"),
    ],
)
def test_when_to_stop_trying(history: list[Ended], request_: JobRequest, why: str) -> None:
    declined = escalate(request_, history, CAPS, RetryRules(), asked=True)
    assert isinstance(declined, Declined)
    assert why in str(declined)


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.CANCELLED])
def test_failed_and_cancelled_runs_are_tried_when_asked_only(state: RunState) -> None:
    history = [Ended(state)]
    assert isinstance(escalate(SMALL, history, CAPS, RetryRules()), Declined)
    assert escalate(SMALL, history, CAPS, RetryRules(), asked=True) == SMALL


def test_requests_grow_up_to_the_caps_and_never_over() -> None:
    request, history, seen = JobRequest(3600, memory_mb=4000), [MEMORY], []
    rules = RetryRules(max_attempts=100)
    while isinstance(grown := escalate(request, history, CAPS, rules), JobRequest):
        seen.append(grown.memory_mb)
        request, history = grown, [*history, MEMORY]
    assert seen == [6000, 9000, 13500, 16000]


def test_what_the_user_gives_is_not_changed() -> None:
    kept = escalate(SMALL, [MEMORY], CAPS, RetryRules(), given=frozenset({"memory"}))
    assert kept == SMALL
    kept = escalate(SMALL, [TIME], CAPS, RetryRules(), given=frozenset({"walltime"}))
    assert kept == SMALL


def test_where_memory_comes_with_cores_more_of_these_is_tried() -> None:
    more = JobRequest(3600, cpus=8)
    assert escalate(more, [MEMORY], CAPS, RetryRules(), given=frozenset({"cpus"})) == more
    grown = escalate(SMALL, [MEMORY], CAPS, RetryRules(), given=frozenset({"cpus"}))
    assert isinstance(grown, JobRequest)
    assert grown.memory_mb == 6000


def test_without_known_caps_there_is_no_end_but_that_of_attempts() -> None:
    grown = escalate(JobRequest(100 * 3600, memory_mb=10**6), [MEMORY], Caps(), RetryRules())
    assert isinstance(grown, JobRequest)
    assert grown.memory_mb == 1_500_000
