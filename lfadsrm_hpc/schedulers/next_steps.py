"""What a user does next about a run, as one command: pure.

Which runs may be tried again, and with what, is decided by `resources.escalate` alone: options are given to
it one after the other, as a user would, until it takes the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from lfadsrm_hpc.manifest.deleted import Deleted
from lfadsrm_hpc.manifest.evidence import Seen
from lfadsrm_hpc.manifest.facts import STALE_S
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.reconcile import Remedy
from lfadsrm_hpc.manifest.records import BAD_DATA
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.resources import Caps, Declined, Ended, JobRequest, RetryRules, escalate
from lfadsrm_hpc.schedulers.retrying import BY_REASON, caps_of, rules_of
from lfadsrm_hpc.schedulers.sites.site import Site
from lfadsrm_hpc.schedulers.units import format_memory, format_time

PROGRAM = "lfadsrm"
_FIRST_WALLTIME_S = 4 * 3600  # to see what it costs, where nobody has said one yet
_FIRST_MEMORY_MB = 16 * 1024  # where nobody knows how much it had
_MORE = 1.5
_PEEK_EVERY_S = 10

# Slurm's reasons for which a job will not start however long it waits (squeue(1), job reason codes).
_NEVER = frozenset(
    {
        "AssocMaxWallDurationPerJobLimit", "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount",
        "InvalidQOS", "PartitionNodeLimit", "PartitionTimeLimit", "QOSMaxWallDurationPerJobLimit",
    }
)  # fmt: skip
_PBS_NEVER = "can never run"
_ADMIN_HOLD = "JobHeldAdmin"
_SUSPENDED = frozenset({"SUSPENDED", "STOPPED", "S", "U"})
_PBS = ("pbspro", "torque")


@dataclass(frozen=True)
class Step:
    """What to do next.

    Attributes
    ----------
    command : tuple of str
        The words of the command, its program first.
    why : str
        What it does, or when it helps.
    """

    command: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Names:
    """How commands name a run and its collection.

    Attributes
    ----------
    run : str
        Its id.
    where : tuple of str
        The WHERE of commands; empty: what is found from the current folder upwards.
    selection : tuple of str
        Options that select this run alone among those of the collection.
    """

    run: str
    where: tuple[str, ...] = ()
    selection: tuple[str, ...] = ()


@dataclass(frozen=True)
class Situation:
    """What is known of a run when the next step is chosen.

    Attributes
    ----------
    status : RunStatus
        Files and scheduler together.
    names : Names
    on_cluster : bool
        Its newest attempt was meant for a scheduler; of a run that was never tried, it would be.
    remedy : Remedy or None
        Of the verdict.
    seen : Seen or None
        What the scheduler says of its task.
    job, scheduler : str
        The task as people name it, and the kind of its scheduler.
    request : JobRequest or None
        What the newest attempt asked for.
    history : sequence of Ended
        How its attempts ended, first first.
    site : Site or None
        Where it was handed over; of a run that was never tried: where it would be.
    walltime, site_name : str
        Of a run that was never tried: what runs of its collection asked for last, or its experiment asks for,
        and where they went. "": not known.
    waits_for : Names or None
        The run from whose trained model it starts, which is not complete.
    undescribed : bool
        Of a run that was never tried: there is a scheduler here, but no site says how it is to be used.
    deleted : Deleted or None
        What it no longer has, although it is complete.
    """

    status: RunStatus
    names: Names
    on_cluster: bool = False
    remedy: Remedy | None = None
    seen: Seen | None = None
    job: str = ""
    scheduler: str = ""
    request: JobRequest | None = None
    history: Sequence[Ended] = ()
    site: Site | None = None
    walltime: str = ""
    site_name: str = ""
    waits_for: Names | None = None
    undescribed: bool = False
    deleted: Deleted | None = None


def next_step(situation: Situation) -> Step:
    """Return the one thing to do next."""
    return _STEPS[situation.status.state](situation)


def _command(s: Situation, name: str, *options: str, selected: bool = True) -> tuple[str, ...]:
    chosen = s.names.selection if selected else ()
    return (PROGRAM, name, *s.names.where, *chosen, *options)


def _of_run(names: Names, name: str, *options: str) -> tuple[str, ...]:
    """Return a command that takes RUN, and the collection as an option."""
    where = ("-C", *names.where) if names.where else ()
    return (PROGRAM, name, names.run, *where, *options)


def _wait(s: Situation, why: str) -> Step:
    return Step(_command(s, "status", "--watch"), why)


# -- before the end --------------------------------------------------------------------------------------


def _prepared(s: Situation) -> Step:
    if s.waits_for is not None:
        return Step(
            _of_run(s.waits_for, "why"),
            f"it starts from the trained model of {s.waits_for.run}, which is not complete",
        )
    if not s.on_cluster:
        other = "; for the cluster, describe it first: `lfadsrm site init NAME`" if s.undescribed else ""
        return Step(_command(s, "run"), f"trains it on this machine{other}")
    if s.walltime:
        options = (*_site_option(s), "--walltime", s.walltime)
        return Step(_command(s, "submit", *options), "hands it to the scheduler")
    options = (*_site_option(s), *first_walltime(s.site))
    return Step(
        _command(s, "plan", *options),
        "shows its job and what it may cost; `submit` in place of `plan` hands it over "
        "(on this machine itself: `lfadsrm run`)",
    )


def _site_option(s: Situation) -> tuple[str, ...]:
    return ("--site", s.site_name) if s.site_name else ()


def first_walltime(site: Site | None) -> tuple[str, ...]:
    """Return the option without which `plan` has no walltime, before anybody has said one."""
    if site is not None and site.request.walltime:
        return ()
    most = caps_of(site, site.request.partition).walltime_s if site is not None else None
    return ("--walltime", format_time(min(_FIRST_WALLTIME_S, most or _FIRST_WALLTIME_S)))


def _submitted(s: Situation) -> Step:
    if s.remedy is Remedy.SUBMIT:
        return Step(_command(s, "submit", selected=False), "goes on with the submission that was interrupted")
    return _wait(s, "its job was handed over a moment ago, or is about to be: wait")


def _pending(s: Situation) -> Step:
    reason = s.status.reason or ""
    if reason in _NEVER or reason.lower().startswith(_PBS_NEVER):
        return Step(
            _command(s, "cancel"),
            "its job cannot start as it was asked for; then `lfadsrm retry --state CANCELLED` with another "
            "request (--walltime, --partition, --memory, --account)",
        )
    return _wait(s, "it waits for its turn, and starts by itself")


def _held(s: Situation) -> Step:
    word = s.seen.word if s.seen is not None else ""
    if word in _SUSPENDED or not s.job:
        return _wait(s, "it was suspended by the scheduler or an operator, who will let it go on")
    if (s.status.reason or "") == _ADMIN_HOLD:
        return _wait(s, f"an operator holds job {s.job}: ask the operators of the cluster")
    release = ("qrls",) if s.scheduler in _PBS else ("scontrol", "release")
    return Step((*release, s.job), "lets the job that somebody holds go on")


def _running(s: Situation) -> Step:
    if s.status.cancelled:
        return Step(
            _command(s, "cancel"),
            "it was cancelled, but its job is still there: this tells the scheduler again",
        )
    silent = s.status.heartbeat_age_s
    if silent is not None and silent > STALE_S:
        return Step(
            _of_run(s.names, "logs", "-f"),
            "it has shown no sign of life for minutes: see whether it prints; `lfadsrm cancel` stops it",
        )
    return Step(_of_run(s.names, "peek", "--every", str(_PEEK_EVERY_S)), "shows how it learns")


def _requeued(s: Situation) -> Step:
    return _wait(s, "the scheduler starts it again by itself, and it goes on from its checkpoint")


# -- what is not known -----------------------------------------------------------------------------------


def _uncertain(s: Situation) -> Step:
    return Step(_command(s, "reconcile", selected=False), "asks the scheduler whether it took the job")


def _unknown(s: Situation) -> Step:
    if s.remedy is Remedy.RECONCILE:
        return _uncertain(s)
    if s.remedy is Remedy.CANCEL:
        return Step(
            _command(s, "cancel"), "nobody can find its job any more: this gives it up, then retry it"
        )
    if s.remedy is Remedy.ANSWER:
        return Step(
            _command(s, "doctor", selected=False), "tells whether the scheduler answers here, and what to do"
        )
    return Step(_command(s, "status"), "what is known does not fit together yet: look again in a minute")


# -- after the end ---------------------------------------------------------------------------------------


def _completed(s: Situation) -> Step:
    if s.deleted is not None and s.deleted.means:
        if s.deleted.model:
            return Step(
                _command(s, "clean", "--restart"),
                "its results and its last checkpoint were deleted. If they are wanted again: this deletes "
                "what is left, after a question, so that `lfadsrm run` trains it anew",
            )
        return Step(
            _command(s, "run", "--posterior-only"), "makes its posterior means again: they were deleted"
        )
    return Step(_command(s, "check-runs"), "judges what it has learned")


def _ended(s: Situation) -> Step:
    if s.status.reason == BAD_DATA:
        return Step(
            _command(s, "clean", "--restart"),
            "first repair what the message names, since the same data fail again: delete a damaged input "
            "file, then `lfadsrm prepare`; a changed recording needs another file name or collection. Then "
            "this deletes what the run has made, after a question, so that it starts anew",
        )
    if not s.on_cluster:
        return _locally(s)
    options = _states_option(s.status.state)
    if s.request is None or s.site is None:
        return Step(_command(s, "retry", *options), "submits it again")
    accepted = next(_accepted(s, s.request, s.site), None)
    if accepted is None:
        return Step(
            _of_run(s.names, "logs", "-n", "0"), f"it is not tried again: {_declined(s, s.request, s.site)}"
        )
    return Step(_command(s, "retry", *options, *accepted.options), accepted.why)


def _locally(s: Situation) -> Step:
    if s.status.state is RunState.CANCELLED:
        return Step(
            _command(s, "run", "--cancelled"), "starts it again, from its last checkpoint if there is one"
        )
    return Step(_command(s, "run"), "tries it again, from its last checkpoint if there is one")


def _states_option(state: RunState) -> tuple[str, ...]:
    """Return what `retry` must be told to take a run in this state; it takes some unasked."""
    if state in BY_REASON:
        return ()
    return ("--failed",) if state is RunState.FAILED else ("--state", state.value)


class _Accepted(NamedTuple):
    """Options of `retry` with which a run is taken."""

    options: tuple[str, ...]
    why: str


class _Wish(NamedTuple):
    """A request, with what the user gives, the caps of its partition, and the options that say so."""

    request: JobRequest
    caps: Caps
    given: frozenset[str] = frozenset()
    options: tuple[str, ...] = ()


def _accepted(s: Situation, request: JobRequest, site: Site) -> Iterator[_Accepted]:
    """Yield options with which `retry` takes a run, those that say least first."""
    for rules, allowed in _rules(s, site):
        for wish in _wishes(s, request, site):
            found = escalate(wish.request, s.history, wish.caps, rules, asked=True, given=wish.given)
            if isinstance(found, JobRequest):
                yield _Accepted((*allowed, *wish.options), _what_it_does(s, request, found))


def _declined(s: Situation, request: JobRequest, site: Site) -> str:
    found = escalate(request, s.history, caps_of(site, request.partition), rules_of(site), asked=True)
    return str(found) if isinstance(found, Declined) else ""


def _rules(s: Situation, site: Site) -> Iterator[tuple[RetryRules, tuple[str, ...]]]:
    """Yield the rules of the site, then those with one more attempt."""
    rules, more = rules_of(site), len(s.history) + 1
    yield rules, ()
    yield replace(rules, max_attempts=more), ("--max-attempts", str(more))
    changed = replace(rules, max_infrastructure_attempts=more)
    yield changed, ("--max-infrastructure-attempts", str(more))


def _wishes(s: Situation, request: JobRequest, site: Site) -> Iterator[_Wish]:
    caps = caps_of(site, request.partition)
    yield _Wish(request, caps)
    for name in site.partitions:
        other = caps_of(site, name)
        if _is_larger(s.status.state, other, request):
            moved = replace(request, partition=name)
            yield _Wish(moved, other, frozenset({"partition"}), ("--partition", name))
    if s.status.state is RunState.OUT_OF_MEMORY and request.memory_mb is None:
        known = s.status.peak_memory_mb
        memory = _FIRST_MEMORY_MB if known is None else math.ceil(_MORE * known / 1024) * 1024
        asked = replace(request, memory_mb=memory)
        yield _Wish(asked, caps, frozenset({"memory"}), ("--memory", format_memory(memory)))
    walltime = format_time(request.walltime_s)
    yield _Wish(request, caps, frozenset({"walltime"}), ("--walltime", walltime))


def _is_larger(state: RunState, caps: Caps, request: JobRequest) -> bool:
    """Return whether a partition is known to give more of what was lacking."""
    if state is RunState.OUT_OF_MEMORY:
        return (
            caps.memory_mb is not None
            and request.memory_mb is not None
            and caps.memory_mb > request.memory_mb
        )
    return state is RunState.TIMEOUT and caps.walltime_s is not None and caps.walltime_s > request.walltime_s


def _what_it_does(s: Situation, before: JobRequest, now: JobRequest) -> str:
    changes = []
    if now.memory_mb is not None and now.memory_mb != before.memory_mb:
        changes.append(f"with {format_memory(now.memory_mb)} of memory")
    if now.walltime_s != before.walltime_s:
        changes.append(f"with {format_time(now.walltime_s)} of walltime")
    if now.partition != before.partition:
        changes.append(f"in partition {now.partition}")
    resumed = ", from its last checkpoint" if any(ended.gained for ended in s.history) else ""
    return (
        f"submits it again{''.join(f' {change}' for change in changes) or ' with the same request'}{resumed}"
    )


_STEPS: dict[RunState, Callable[[Situation], Step]] = {
    RunState.PREPARED: _prepared,
    RunState.SUBMITTED: _submitted,
    RunState.PENDING: _pending,
    RunState.HELD: _held,
    RunState.RUNNING: _running,
    RunState.REQUEUED: _requeued,
    RunState.COMPLETED: _completed,
    RunState.UNCERTAIN: _uncertain,
    RunState.UNKNOWN: _unknown,
    **{state: _ended for state in RunState if state.is_failure},
}
