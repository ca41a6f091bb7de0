"""Which runs are handed over, and what each asks for: new ones, and those whose earlier attempts ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lfadsrm_hpc.layout import CollectionLayout, RunLayout
from lfadsrm_hpc.manifest.facts import AttemptFacts
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.reading import read_facts
from lfadsrm_hpc.manifest.records import CAUSES, DEADLINE, EXIT_BAD_DATA, KILLED, LOST, NO_TRY, state_of
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.submission_reading import read_submission
from lfadsrm_hpc.schedulers.planning import Wish
from lfadsrm_hpc.schedulers.resources import Caps, Declined, Ended, JobRequest, RetryRules, escalate
from lfadsrm_hpc.schedulers.sites.loading import build_request
from lfadsrm_hpc.schedulers.sites.site import Site
from lfadsrm_hpc.schedulers.units import format_memory, format_time, parse_memory, parse_time

__all__ = [
    "BY_REASON",
    "NEW",
    "Asked",
    "Candidate",
    "Chooser",
    "caps_of",
    "carry_options",
    "history_of",
    "rules_of",
]

NEW = frozenset({RunState.PREPARED})
"""What `submit` takes unless it is told otherwise."""

BY_REASON = frozenset(
    {
        RunState.TIMEOUT,
        RunState.OUT_OF_MEMORY,
        RunState.NODE_FAIL,
        RunState.PREEMPTED,
        RunState.LOST,
    }
)
"""What `retry` takes unless it is told otherwise."""


@dataclass(frozen=True)
class Asked:
    """What a user says that a task needs, as texts; None: nothing is said.

    Attributes
    ----------
    walltime, memory : str or None
        "4:00:00", "16G".
    """

    partition: str | None = None
    walltime: str | None = None
    memory: str | None = None
    cpus: int | None = None
    gpus: int | None = None
    gpu_type: str | None = None

    @property
    def given(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Candidate:
    """A run that may be handed over.

    Attributes
    ----------
    title : str
        The run for people.
    gpu_memory_mb : int
    """

    run_id: str
    title: str = ""
    gpu_memory_mb: int = 2000


@dataclass
class Chooser:
    """Decides of runs whether, and with what request, they are handed over.

    Attributes
    ----------
    asked : Asked
        What the user says now; it holds for new runs and for those that are tried again.
    defaults : Asked
        What holds besides for runs that have no earlier request.
    rules : RetryRules
    states : set of RunState
        Which runs are wanted.
    """

    layout: CollectionLayout
    site: Site
    asked: Asked
    rules: RetryRules
    states: frozenset[RunState]
    defaults: Asked = field(default_factory=Asked)
    declined: dict[str, Declined] = field(default_factory=dict)
    _requests: dict[str, dict[tuple[str, int], JobRequest]] = field(default_factory=dict)
    _base: JobRequest | None = None
    _changed: dict[JobRequest, JobRequest] = field(default_factory=dict)

    def choose(self, candidates: Iterable[Candidate], statuses: Mapping[str, RunStatus]) -> list[Wish]:
        """Return what is to be handed over, in the order of the candidates.

        Runs in the wanted states that are not tried again are in `declined`, each with the reason.

        Raises
        ------
        ConfigError
            The request is not possible at the site, or lacks what it requires.
        """
        wishes = []
        for candidate in candidates:
            status = statuses[candidate.run_id]
            if status.state not in self.states:
                continue
            run = self.layout.run_by_id(candidate.run_id)
            attempts = read_facts(run, cancelled={}).attempts if status.attempt is not None else ()
            request = self._request(run, status, attempts)
            if isinstance(request, Declined):
                self.declined[candidate.run_id] = request
                continue
            newest = max((a.number for a in run.attempts()), default=0)
            wishes.append(
                Wish(
                    candidate.run_id,
                    request,
                    newest + 1,
                    candidate.title,
                    candidate.gpu_memory_mb,
                    "" if status.state in NEW else status.state.value,
                )
            )
        return wishes

    def _request(
        self, run: RunLayout, status: RunStatus, attempts: Sequence[AttemptFacts]
    ) -> JobRequest | Declined:
        history = history_of(run, status, attempts)
        last = self.last_request(run, attempts)
        request = self._new_request() if last is None else self._changed_request(last)
        return escalate(
            request,
            history,
            caps_of(self.site, request.partition),
            self.rules,
            asked=True,  # by the states, which name FAILED and CANCELLED only where the user does
            given=frozenset(self.asked.given),
        )

    def _new_request(self) -> JobRequest:
        if self._base is None:
            self._base = build_request(self.site, **{**self.defaults.given, **self.asked.given})
        return self._base

    def _changed_request(self, last: JobRequest) -> JobRequest:
        """Return a request with what the user says now in its place."""
        if not self.asked.given:
            return last
        if last not in self._changed:
            before = Asked(
                last.partition,
                format_time(last.walltime_s),
                None if last.memory_mb is None else format_memory(last.memory_mb),
                last.cpus,
                last.gpus,
                last.gpu_type or None,
            )
            if self.asked.partition not in (None, last.partition):
                before = Asked(walltime=before.walltime)  # another partition has other nodes
            self._changed[last] = build_request(self.site, **{**before.given, **self.asked.given})
        return self._changed[last]

    def last_request(self, run: RunLayout, attempts: Sequence[AttemptFacts]) -> JobRequest | None:
        """Return what the newest attempt that was handed to this site asked for.

        One that was never handed over counts not: asked for again and again, its request would grow.
        """
        for attempt in reversed(attempts):
            if attempt.newest is None and attempt.closed is not None and attempt.closed.reason in NO_TRY:
                continue
            ulid = attempt.reservation.submission if attempt.reservation is not None else ""
            request = self._requests_of(ulid).get((run.run_id, attempt.number)) if ulid else None
            if request is not None:
                return request
        return None

    def _requests_of(self, ulid: str) -> dict[tuple[str, int], JobRequest]:
        """Return, by run and attempt, what a submission to this site asked for."""
        if ulid not in self._requests:
            on_disk = read_submission(self.layout.submission(ulid), 0.0)
            self._requests[ulid] = {}
            if on_disk is not None and on_disk.plan.site == self.site.name:
                requests = {
                    chunk.number: JobRequest(**chunk.request)
                    for chunk in on_disk.plan.chunks
                    if chunk.request
                }
                self._requests[ulid] = {
                    (task.run_id, task.attempt): requests[task.chunk]
                    for task in on_disk.tasks
                    if task.chunk in requests
                }
        return self._requests[ulid]


def history_of(run: RunLayout, status: RunStatus, attempts: Sequence[AttemptFacts]) -> list[Ended]:
    """Return how the earlier attempts at a run ended, from its files; those that never ran are left out.

    Parameters
    ----------
    run : RunLayout
    status : RunStatus
        What the run is at now: the end of its newest attempt.
    attempts : sequence of AttemptFacts
    """
    steps = run.checkpoint_steps() if attempts else {}
    ended, best = [], 0
    for attempt in attempts:
        reached = max((step for (number, _), step in steps.items() if number == attempt.number), default=0)
        gained, best = reached > best, max(best, reached)
        if attempt.newest is None and (attempt.closed is None or attempt.closed.reason in NO_TRY):
            continue
        state, reason = _end_of(attempt)
        if attempt.number == status.attempt:
            state, reason = status.state, status.reason or reason
        end = attempt.newest.exit if attempt.newest is not None else None
        ended.append(
            Ended(
                state,
                bad_data=end is not None and end.code == EXIT_BAD_DATA,
                curable=reason != DEADLINE,
                gained=gained,
            )
        )
    return ended


def _end_of(attempt: AttemptFacts) -> tuple[RunState, str]:
    closed = attempt.closed.reason if attempt.closed is not None else ""
    exit_record = attempt.newest.exit if attempt.newest is not None else None
    if exit_record is None:
        return state_of(-1, closed or LOST), closed or LOST
    if exit_record.reason == KILLED and closed in CAUSES:
        return state_of(-1, closed), closed
    return exit_record.state, exit_record.reason


def caps_of(site: Site, partition: str) -> Caps:
    """Return the most that a task can get in a partition, as far as the site says."""
    has = site.partition(partition)
    return Caps(
        parse_time(has.max_walltime) if has.max_walltime else None,
        parse_memory(has.memory_per_node) if has.memory_per_node else None,
    )


def rules_of(site: Site, **given: int | None) -> RetryRules:
    """Return a site's rules for trying again, with what the user gives in their place."""
    rules = RetryRules(
        site.escalation.memory_factor,
        site.escalation.walltime_factor,
        site.retry.max_attempts,
        site.retry.max_infrastructure_attempts,
    )
    return replace(rules, **{name: value for name, value in given.items() if value is not None})


def carry_options(site: Site, earlier: Site) -> Site:
    """Return a site with the account and the like of an earlier submission, where nothing says them now."""
    names = ("account", "qos", "filesystems")
    kept = {name: getattr(site.options, name) or getattr(earlier.options, name) for name in names}
    return replace(site, options=replace(site.options, **kept))
