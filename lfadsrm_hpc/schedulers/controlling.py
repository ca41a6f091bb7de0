"""Stop runs that were handed over, or change how many of them work at once."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from lfadsrm_hpc.errors import (
    ClaimLostError,
    NothingEligibleError,
    SchedulerError,
    SchedulerUnreachableError,
)
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.fold import LATENCY_S, STALE_S, RunStatus
from lfadsrm_hpc.manifest.reading import look
from lfadsrm_hpc.manifest.records import CANCELLED, LOCAL
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.submissions import PlannedTask
from lfadsrm_hpc.schedulers.batch import Job
from lfadsrm_hpc.schedulers.handed import Handed, ask_all, find_handed, scheduler_of
from lfadsrm_hpc.schedulers.planning import share_out


@dataclass(frozen=True)
class Cancelled:
    """What a cancellation did.

    Attributes
    ----------
    runs : tuple of str
        Those that it covers.
    running : tuple of RunStatus
        Those that were at work: they checkpoint, and can be resumed when asked.
    jobs : tuple of str
        Jobs of which the scheduler was told.
    warnings : tuple of str
    """

    runs: tuple[str, ...]
    running: tuple[RunStatus, ...]
    jobs: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def can_be_cancelled(status: RunStatus) -> bool:
    """Return whether there may be something to stop; runs that were cancelled before may still have a job."""
    return status.state.is_live or status.state in (RunState.UNKNOWN, RunState.CANCELLED)


def cancel(layout: CollectionLayout, statuses: Iterable[RunStatus]) -> Cancelled:
    """Cancel runs: on record first, then at the scheduler.

    Parameters
    ----------
    layout : CollectionLayout
    statuses : iterable of RunStatus
        Of the runs that are meant; those with nothing to stop are left alone. A job is cancelled as a whole
        where all its runs are among them.

    Raises
    ------
    NothingEligibleError
        There is nothing to stop.
    SchedulerUnreachableError
        The cancellation is on record, but a scheduler could not be told: cancel again. Its `done` is what
        would have been returned.
    """
    meant = {status.run_id: status for status in statuses}
    chosen = {run: status for run, status in meant.items() if can_be_cancelled(status)}
    live = [status for status in chosen.values() if status.state is not RunState.CANCELLED]
    handed = _still_there(find_handed(layout, chosen, look(layout.path).now), chosen)
    if live:
        store.cancel(layout, [layout.run_by_id(status.run_id) for status in live])
    closed = [status for status in chosen.values() if _close_what_is_not_at_work(layout, status)]
    if not (live or handed or closed):
        raise NothingEligibleError(
            "none of these runs is waiting or at work", where=layout.path, hint="`lfadsrm status` shows them"
        )
    told, unreachable, warnings = _tell(layout, meant, handed)
    warnings += _stop_local(live)
    running = tuple(status for status in live if status.state is RunState.RUNNING)
    done = Cancelled(tuple(status.run_id for status in live), running, tuple(told), tuple(warnings))
    if unreachable:
        error = SchedulerUnreachableError(
            f"the cancellation is on record, but the scheduler could not be told: {unreachable[0]}",
            where=layout.path,
            hint="the same command again tells it",
        )
        error.done = done
        raise error
    return done


def _still_there(handed: Mapping[str, Handed], chosen: Mapping[str, RunStatus]) -> dict[str, Handed]:
    """Leave runs out that were cancelled before, or of which nobody knows, where the scheduler no longer has
    their jobs.

    Ids of jobs are used again where a cluster is set up anew: by now it may be quite another job.
    """
    doubtful = (RunState.CANCELLED, RunState.UNKNOWN)
    before = {run: one for run, one in handed.items() if chosen[run].state in doubtful}
    answers = ask_all(before.values())
    gone = set()
    for run, one in before.items():
        evidence = answers.evidence(one, chosen[run])
        waits = evidence.seen is not None and evidence.seen.live and not evidence.seen.state.is_final
        old = chosen[run].state is RunState.CANCELLED or evidence.age_s > evidence.latency_s
        if evidence.job and evidence.live_ok and not waits and old:
            gone.add(run)
    return {run: one for run, one in handed.items() if run not in gone}


def _close_what_is_not_at_work(layout: CollectionLayout, status: RunStatus) -> bool:
    """Close an attempt that nothing has claimed, or whose task is silent and vouched for by nobody.

    The latter would wait for the word of a scheduler for ever, where its cluster is gone or the submission's
    files are. Should the task live, it notices and ends.
    """
    if status.attempt is None:
        return False
    run = layout.run_by_id(status.run_id)
    attempt = run.attempt(status.attempt)
    if attempt.path.is_dir() and (not attempt.incarnations()["claim"] or _is_silent(status)):
        with contextlib.suppress(ClaimLostError):
            return store.close(run, status.attempt, CANCELLED)
    return False


def _is_silent(status: RunStatus) -> bool:
    """Return whether a task without an end shows no sign of life, and no scheduler says that it is there."""
    silent = status.silent_s is not None and status.silent_s > STALE_S + LATENCY_S
    vouched = status.state not in (RunState.UNKNOWN, RunState.CANCELLED)
    return status.incarnation is not None and status.code is None and silent and not vouched


def _tell(
    layout: CollectionLayout, meant: Mapping[str, RunStatus], handed: Mapping[str, Handed]
) -> tuple[list[str], list[str], list[str]]:
    """Cancel jobs, or the tasks of them that do nothing but what is cancelled."""
    told, unreachable, warnings = [], [], []
    for one in _by_job(handed).values():
        job, submission, chunk = one.job, one.submission, one.chunk
        if submission is None or chunk is None:
            continue
        members = [task for task in submission.tasks if task.chunk == chunk.chunk.number]
        ends = _elements(members, meant)
        # Attempts that share an allocation with runs that go on: they notice it within a minute.
        _close_members(layout, members, meant, {index for index, whole in ends.items() if not whole})
        if job is None:
            warnings.append(f"{chunk.chunk.name} has no receipt; should it start, its tasks do nothing")
            continue
        every = all(ends.values()) and len(ends) == (chunk.chunk.size or 1)
        indices = sorted(index for index in _not_ended(members, meant) if ends[index])
        if not indices:
            continue
        if submission.is_copy:
            warnings.append(f"job {job.id} is left alone: it works for {submission.plan.collection}")
            continue
        try:
            scheduler_of(submission.plan).cancel(job, None if every else indices)
        except SchedulerUnreachableError as error:
            unreachable.append(error.what)
        except SchedulerError as error:  # another user's job, as a rule: whoever works on it can be told here
            warnings.append(
                f"job {job.id}: {error.what}; its tasks stop within a minute or two by themselves"
            )
            _close_members(layout, members, meant, set(indices))
        else:
            told.append(job.id)
    return told, unreachable, warnings


def _by_job(handed: Mapping[str, Handed]) -> dict[tuple[str, int, str], Handed]:
    chunks = ((one, one.chunk) for one in handed.values())
    return {(one.ulid, chunk.chunk.number, one.holder): one for one, chunk in chunks if chunk is not None}


def _elements(members: Iterable[PlannedTask], meant: Mapping[str, RunStatus]) -> dict[int, bool]:
    """Return, by index, whether all runs of a task are meant: then the task can be cancelled."""
    found: dict[int, bool] = {}
    for task in members:
        found[task.index] = found.get(task.index, True) and task.run_id in meant
    return found


def _not_ended(members: Iterable[PlannedTask], meant: Mapping[str, RunStatus]) -> set[int]:
    """Return the tasks in which something may still have to be stopped.

    A scheduler may forget what it knows of ended ones when it is told to cancel them (PBS Pro does).
    """
    found = set()
    for task in members:
        status = meant.get(task.run_id)
        if status is not None and (status.attempt != task.attempt or can_be_cancelled(status)):
            found.add(task.index)
    return found


def _close_members(
    layout: CollectionLayout,
    members: Iterable[PlannedTask],
    meant: Mapping[str, RunStatus],
    indices: Container[int],
) -> None:
    """Close the attempts of runs that are meant, in tasks that are not cancelled at the scheduler."""
    for task in members:
        status = meant.get(task.run_id)
        if status is None or status.attempt != task.attempt or task.index not in indices:
            continue
        if can_be_cancelled(status):
            with contextlib.suppress(ClaimLostError):
                store.close(layout.run_by_id(task.run_id), task.attempt, CANCELLED)


def _stop_local(live: Iterable[RunStatus]) -> list[str]:
    """Send TERM to runs of local queues on this machine, so that they checkpoint."""
    warnings = []
    for status in live:
        claim = status.claim
        if status.state is not RunState.RUNNING or claim is None or claim.identity.cluster != LOCAL:
            continue
        if claim.process.is_alive():
            with contextlib.suppress(OSError):
                os.kill(claim.process.pid, signal.SIGTERM)
        else:
            warnings.append(f"{status.run_id} runs on {claim.process.host}: stop process {claim.process.pid}")
    return warnings


@dataclass(frozen=True)
class Throttled:
    """Jobs, and how many of their tasks may run at once now; 0: no limit.

    Attributes
    ----------
    jobs : mapping of str to int
        By id of the job.
    warnings : tuple of str
        What could not be changed, and why.
    """

    jobs: Mapping[str, int]
    warnings: tuple[str, ...] = ()


def _live_arrays(
    statuses: Mapping[str, RunStatus], handed: Mapping[str, Handed], submission: str
) -> dict[str, tuple[Handed, Job, set[int]]]:
    """Return the arrays that have live runs, by id: how one of these was handed over, and their indices."""
    live: dict[str, tuple[Handed, Job, set[int]]] = {}
    for run_id, one in handed.items():
        job = one.job
        if job is None or not job.size or not one.ulid.startswith(submission):
            continue
        if statuses[run_id].state.is_live:
            live.setdefault(job.id, (one, job, set()))[2].add(one.index)
    return live


def throttle(
    statuses: Mapping[str, RunStatus], handed: Mapping[str, Handed], most: int, *, submission: str = ""
) -> Throttled:
    """Let at most so many tasks of live arrays run at once, all together; 0: no limit.

    Parameters
    ----------
    statuses : dict of str to RunStatus
        As `tracking.track` gives them.
    handed : dict of str to Handed
        From there too.
    most : int
    submission : str
        ULID, or its beginning: only that submission.

    Raises
    ------
    NothingEligibleError
        No array is waiting or at work, or they work for the collection that this one was copied from.
    SchedulerUnreachableError
        Some may have been changed, some not: do it again.
    SchedulerRefusedError
        None of them was changed.
    """
    live = _live_arrays(statuses, handed, submission)
    ours = {job: entry for job, entry in live.items() if not _is_copy(entry[0])}
    if not ours:
        others = [one.submission.plan.collection for one, _, _ in live.values() if one.submission]
        raise NothingEligibleError(
            f"the arrays of these runs work for {others[0]}" if others else "no array is waiting or at work",
            hint="`lfadsrm status` shows the runs",
        )
    shares = share_out(most, [len(indices) for _, _, indices in ours.values()])
    done: dict[str, int] = {}
    refused: list[tuple[str, SchedulerError]] = []
    for (one, job, _), share in zip(ours.values(), shares, strict=True):
        if one.submission is None:
            continue
        try:
            scheduler_of(one.submission.plan).throttle(job, share)
        except SchedulerUnreachableError:
            raise
        except SchedulerError as error:
            refused.append((job.id, error))
        else:
            done[job.id] = share
    if refused and not done:
        raise refused[0][1]
    warnings = [f"job {job}: {error.what}" for job, error in refused]
    if most and sum(shares) > most:
        warnings.append(f"{len(shares)} jobs cannot share {most}: each has one task at a time")
    return Throttled(done, tuple(warnings))


def _is_copy(one: Handed) -> bool:
    return one.submission is not None and one.submission.is_copy
