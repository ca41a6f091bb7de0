"""What runs have used: hours by the clock, of GPUs and of cores, memory, and what of it led nowhere.

All of it comes from the records of the runs themselves (claims, heartbeats, exit records), and from the plans
of submissions for what a task was given. Time counts from a claim to its exit record, or to the last
heartbeat where there is none; waiting in a queue is not in it.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lfadsrm_hpc.errors import LfadsrmWarning
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest.facts import AttemptFacts, Freshness, IncarnationFacts, RunFacts
from lfadsrm_hpc.manifest.records import CAUSES, KILLED, LOCAL, LOST, Exit, state_of
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.submission_reading import SubmissionOnDisk, read_submission
from lfadsrm_hpc.manifest.submissions import PlannedChunk
from lfadsrm_hpc.results.runs.table import device, span

COMPLETED, WENT_ON, FAILED = "completed the run", "stopped, to go on later", "failed"
GONE, CANCELLED, AT_WORK, SILENT = "lost", "cancelled", "at work", "silent, its end not known"
OUTCOMES = (COMPLETED, AT_WORK, SILENT, WENT_ON, FAILED, GONE, CANCELLED)
WASTED = frozenset({FAILED, GONE, CANCELLED})
LOCAL_QUEUE = "local queue"
_OUTCOME = {
    RunState.COMPLETED: COMPLETED,
    RunState.PREEMPTED: WENT_ON,
    RunState.TIMEOUT: WENT_ON,
    RunState.CANCELLED: CANCELLED,
    RunState.NODE_FAIL: GONE,
    RunState.LOST: GONE,
}
_THREADS = re.compile(r"cpu, (\d+) threads")


@dataclass(frozen=True)
class Work:
    """What one start of a run's process has used.

    Attributes
    ----------
    place : str
        Site and partition, or "local queue".
    outcome : str
        Of `OUTCOMES`.
    seconds : float or None
        None: not on record, and so the other two.
    gpu_seconds, core_seconds : float or None
    memory_mb : float or None
    """

    run_id: str
    host: str
    place: str
    outcome: str
    seconds: float | None = None
    gpu_seconds: float | None = None
    core_seconds: float | None = None
    memory_mb: float | None = None


@dataclass
class Used:
    """What several of them have used together; hours.

    Attributes
    ----------
    starts : int
        Starts of a process.
    unknown : int
        Of these, how many do not tell how long they took.
    without_cores : int
        Of these, how many tell for how long, but not on how many cores.
    """

    name: str
    runs: set[str] = field(default_factory=set)
    starts: int = 0
    unknown: int = 0
    without_cores: int = 0
    hours: float = 0.0
    gpu_hours: float = 0.0
    core_hours: float = 0.0
    memory_mb: float | None = None

    def add(self, work: Work) -> None:
        self.runs.add(work.run_id)
        self.starts += 1
        if work.seconds is None:
            self.unknown += 1
        self.without_cores += work.seconds is not None and work.core_seconds is None
        self.hours += (work.seconds or 0.0) / 3600
        self.gpu_hours += (work.gpu_seconds or 0.0) / 3600
        self.core_hours += (work.core_seconds or 0.0) / 3600
        if work.memory_mb is not None:
            self.memory_mb = max(work.memory_mb, self.memory_mb or 0.0)


@dataclass(frozen=True)
class Resources:
    """What all of them have used, in total and by host, place and outcome; the most first.

    Attributes
    ----------
    notes : tuple of str
        What should be said of these numbers.
    """

    total: Used
    hosts: Sequence[Used]
    places: Sequence[Used]
    outcomes: Sequence[Used]
    notes: tuple[str, ...] = ()

    @property
    def wasted_hours(self) -> float:
        return sum(one.hours for one in self.outcomes if one.name in WASTED)


def resources_of(layout: CollectionLayout, facts: Iterable[RunFacts], freshness: Freshness) -> Resources:
    """Add up what runs have used."""
    plans = _Plans(layout, freshness)
    works = [work for one in facts for work in _works(one, freshness, plans)]
    total = Used("all")
    for work in works:
        total.add(work)
    outcomes = _grouped(works, "outcome")
    outcomes.sort(key=lambda one: OUTCOMES.index(one.name))
    return Resources(total, _grouped(works, "host"), _grouped(works, "place"), outcomes, _notes(total, plans))


def _notes(total: Used, plans: _Plans) -> tuple[str, ...]:
    notes = []
    if total.unknown:
        notes.append(f"{total.unknown:,} of {total.starts:,} starts left no word of how long they took.")
    if total.without_cores:
        notes.append(
            f"{total.without_cores:,} of {total.starts:,} starts do not tell on how many cores they were: "
            "their core hours are missing."
        )
    if total.gpu_hours:
        notes.append("A GPU that several runs shared counts once for each of them.")
    return (*notes, *plans.notes)


def _grouped(works: Iterable[Work], key: str) -> list[Used]:
    found: dict[str, Used] = {}
    for work in works:
        name = getattr(work, key)
        found.setdefault(name, Used(name)).add(work)
    return sorted(found.values(), key=lambda one: (-one.hours, one.name))


# ---------------------------------------------------------------- one start


def _works(facts: RunFacts, freshness: Freshness, plans: _Plans) -> Iterator[Work]:
    for attempt in facts.attempts:
        for one in attempt.incarnations:
            newest = attempt is facts.newest and one is attempt.newest
            outcome = _outcome(attempt, one, freshness, newest=newest)
            yield _work(facts.run_id, attempt, one, outcome, plans)


def _work(run_id: str, attempt: AttemptFacts, one: IncarnationFacts, outcome: str, plans: _Plans) -> Work:
    seconds, computed = span(one), device(one)
    submission = one.claim.identity.submission if one.claim is not None else ""
    on_cluster = one.claim is not None and one.claim.identity.cluster != LOCAL
    place, task = plans.of(submission, run_id, attempt.number) if on_cluster else (LOCAL_QUEUE, None)
    gpus: float | None = (0 if computed.startswith("cpu") else 1) if computed else None
    threads = _THREADS.match(computed)
    cores = float(threads[1]) if threads else None
    if task is not None:  # what the task was given, whether it used it or not
        gpus, cores = _count(task.request.get("gpus"), gpus), _count(task.request.get("cpus"), cores)
    memory = one.exit.peak_memory_mb if one.exit is not None else None
    return Work(
        run_id,
        one.claim.process.host if one.claim is not None else "unknown",
        place,
        outcome,
        seconds,
        None if seconds is None or gpus is None else gpus * seconds,
        None if seconds is None or cores is None else cores * seconds,
        memory or None,
    )


def _count(given: object, otherwise: float | None) -> float | None:
    return float(given) if isinstance(given, int | float) else otherwise


def _outcome(attempt: AttemptFacts, one: IncarnationFacts, freshness: Freshness, *, newest: bool) -> str:
    if one.completes:
        return COMPLETED
    closed = attempt.closed
    if one.exit is not None:
        return _OUTCOME.get(_ended(one.exit, None if closed is None else closed.reason), FAILED)
    if newest and closed is None and (alive := one.liveness(freshness)) is not False:
        return AT_WORK if alive else SILENT  # of the latter a scheduler may know more
    state = state_of(-1, closed.reason if closed is not None and one is attempt.newest else LOST)
    return _OUTCOME.get(state, FAILED)


def _ended(record: Exit, closed: str | None) -> RunState:
    """Return what an end stands for; of one that was killed a scheduler may have told why."""
    if record.reason == KILLED and closed in CAUSES:
        return state_of(-1, closed)
    return RunState.FAILED if record.state is RunState.COMPLETED else record.state


# ---------------------------------------------------------------- what tasks were given

Tasks = Mapping[tuple[str, int], PlannedChunk]


class _Plans:
    """The submissions of a collection, each read when a run of it is met."""

    def __init__(self, layout: CollectionLayout, freshness: Freshness) -> None:
        self.layout, self.freshness = layout, freshness
        self.notes: list[str] = []
        self._there = {one.ulid for one in layout.submissions()}
        self._read: dict[str, tuple[str, Tasks, frozenset[tuple[str, int]]]] = {}

    def of(self, ulid: str, run_id: str, attempt: int) -> tuple[str, PlannedChunk | None]:
        """Return where a run's attempt went, and its job if the run had a task of it to itself.

        Of runs that were packed into one task it is not known which part each had.
        """
        if ulid not in self._read:
            self._read[ulid] = self._submission(ulid)
        site, tasks, packed = self._read[ulid]
        chunk = tasks.get((run_id, attempt))
        if chunk is None:
            return site, None
        place = f"{site} · {chunk.request.get('partition') or 'default partition'}"
        return place, None if (run_id, attempt) in packed else chunk

    def _submission(self, ulid: str) -> tuple[str, Tasks, frozenset[tuple[str, int]]]:
        found: SubmissionOnDisk | None = None
        if ulid in self._there:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", LfadsrmWarning)
                found = read_submission(self.layout.submission(ulid), self.freshness.now)
            self.notes += [str(one.message) for one in said]
        if found is None:
            return "a cluster", {}, frozenset()
        chunks = {one.chunk.number: one.chunk for one in found.chunks}
        together = Counter((task.chunk, task.index) for task in found.tasks)
        tasks = {(one.run_id, one.attempt): chunks[one.chunk] for one in found.tasks if one.chunk in chunks}
        packed = {(one.run_id, one.attempt) for one in found.tasks if together[one.chunk, one.index] > 1}
        return found.plan.site or found.plan.cluster or "a cluster", tasks, frozenset(packed)
