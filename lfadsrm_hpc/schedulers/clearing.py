"""Clear up what is uncertain or lost: jobs whose answers were lost, attempts whose ends nobody recorded."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lfadsrm_hpc.errors import LfadsrmError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.evidence import ChunkState
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.reading import read_claim
from lfadsrm_hpc.manifest.submission_reading import ChunkOnDisk, SubmissionOnDisk
from lfadsrm_hpc.manifest.submissions import Receipt, record_receipt, record_refusal
from lfadsrm_hpc.schedulers.batch import Found
from lfadsrm_hpc.schedulers.handed import call_limit_of, latency_of, scheduler_of, server_of
from lfadsrm_hpc.schedulers.sending import give_up_unsent, unfinished
from lfadsrm_hpc.schedulers.tracking import Tracked, track

Open = tuple[SubmissionOnDisk, ChunkOnDisk]


@dataclass(frozen=True)
class Cleared:
    """What was cleared up, and what could not be.

    Attributes
    ----------
    tracked : Tracked
        What the runs are at afterwards.
    adopted : tuple of str
        Jobs that were found by their names, or by the claims of their tasks.
    not_taken : tuple of str
        Names of jobs that the scheduler certainly did not take; submitting goes on with them.
    uncertain : tuple of str
        Names of jobs of which that cannot be told yet.
    unsent : tuple of str
        Names of jobs that are planned and not handed over yet, those of `not_taken` among them.
    closed : tuple of str
        Runs whose newest attempt was put on record as ended.
    warnings : tuple of str
    """

    tracked: Tracked
    adopted: tuple[str, ...] = ()
    not_taken: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()
    unsent: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def clear_up(layout: CollectionLayout, statuses: Mapping[str, RunStatus]) -> Cleared:
    """Adopt jobs whose answers were lost, and put on record what has ended without a word.

    Parameters
    ----------
    layout : CollectionLayout
    statuses : dict of str to RunStatus
        Of all runs of the collection, from their files.
    """
    open_chunks = [(one, chunk) for one in unfinished(layout) for chunk in one.chunks]
    doubtful = [(one, chunk) for one, chunk in open_chunks if _is_doubtful(one, chunk)]
    adopted, not_taken, uncertain, warnings = _settle(layout, doubtful)
    unsent = [chunk.chunk.name for _, chunk in open_chunks if chunk.state is ChunkState.UNSENT] + not_taken
    moved = {one.plan.ulid: one for one, _ in open_chunks if one.has_moved}
    if moved:
        freed = _give_up_what_moved(layout, moved.values(), warnings)
        statuses = {run: freed.get(run, status) for run, status in statuses.items()}
        lost = {chunk.chunk.name for one, chunk in open_chunks if one.plan.ulid in moved}
        unsent = [name for name in unsent if name not in lost]
    tracked = track(layout, statuses)
    return Cleared(
        tracked,
        tuple(adopted),
        tuple(not_taken),
        tuple(uncertain),
        tuple(unsent),
        tracked.closed,
        (*warnings, *tracked.warnings),
    )


def _give_up_what_moved(
    layout: CollectionLayout, submissions: Iterable[SubmissionOnDisk], warnings: list[str]
) -> dict[str, RunStatus]:
    """Give up what is not sent of plans whose scripts name a place where the collection no longer is.

    Such a job would find nothing there, and Slurm kills without a word one that cannot write its output.
    Returns what the runs are at now.
    """
    freed: dict[str, RunStatus] = {}
    for one in submissions:
        runs = give_up_unsent(layout, one)
        freed |= {run: store.run_status(layout.run_by_id(run)) for run in runs}
        if runs:
            warnings.append(
                f"the collection was moved from {one.plan.collection}: what was planned there and not handed "
                f"over yet is given up ({len(runs)} runs), and can be submitted anew"
            )
    return freed


def _patience_s(on_disk: SubmissionOnDisk) -> float:
    """Return after what time a call of the scheduler is over, and its effects can be seen."""
    return call_limit_of(on_disk.plan) + latency_of(on_disk.plan)


def _is_doubtful(on_disk: SubmissionOnDisk, chunk: ChunkOnDisk) -> bool:
    # The process that hands it over may live on (a notebook) though its call has failed long ago.
    over = chunk.state is ChunkState.SENDING and chunk.age_s > _patience_s(on_disk)
    return chunk.state is ChunkState.UNCERTAIN or over


def _settle(
    layout: CollectionLayout, doubtful: Sequence[Open]
) -> tuple[list[str], list[str], list[str], list[str]]:
    """Look all doubtful chunks up, one question a scheduler."""
    adopted, not_taken, uncertain = [], [], []
    found, warnings = _find(doubtful)
    for on_disk, chunk in doubtful:
        name, number = chunk.chunk.name, chunk.chunk.number
        answer = found.get(server_of(on_disk.plan))
        ours = [one for one in answer or () if one.name == name and _is_ours(one, on_disk)]
        job = ours[0].job if ours else _claimed_by(layout, on_disk, chunk)
        if job:
            cluster = ours[0].cluster if ours else ""
            receipt = Receipt(job, time.time(), cluster=cluster, adopted=True)
            record_receipt(on_disk.layout, number, receipt)
            adopted.append(job)
            if len(ours) > 1:
                others = ", ".join(one.job for one in ours[1:])
                warnings.append(f"the scheduler has {name} more than once; cancel {others}: it does nothing")
        elif answer is not None and chunk.age_s > _patience_s(on_disk):
            record_refusal(on_disk.layout, number, chunk.sendings, "the scheduler does not know it")
            not_taken.append(name)
        else:
            uncertain.append(name)
    return adopted, not_taken, uncertain, warnings


def _find(doubtful: Sequence[Open]) -> tuple[dict[tuple[str, str], list[Found]], list[str]]:
    """Return, by scheduler, the jobs that bear the names; a scheduler that gave no answer is left out."""
    asked: dict[tuple[str, str], list[Open]] = {}
    for on_disk, chunk in doubtful:
        asked.setdefault(server_of(on_disk.plan), []).append((on_disk, chunk))
    found, warnings = {}, []
    for server, members in asked.items():
        names = [chunk.chunk.name for _, chunk in members]
        since = min(on_disk.plan.created for on_disk, _ in members)
        try:
            found[server] = scheduler_of(members[0][0].plan).find(names, since)
        except LfadsrmError as error:
            warnings.append(f"{server[1]}: {error.what}")
    return found, warnings


def _is_ours(found: Found, on_disk: SubmissionOnDisk) -> bool:
    return found.submission in ("", on_disk.plan.ulid)


def _claimed_by(layout: CollectionLayout, on_disk: SubmissionOnDisk, chunk: ChunkOnDisk) -> str:
    """Return the job under which some task of a chunk has started; "": none has."""
    for task in on_disk.tasks:
        if task.chunk != chunk.chunk.number:
            continue
        attempt = layout.run_by_id(task.run_id).attempt(task.attempt)
        for k in attempt.incarnations()["claim"]:
            claim = read_claim(attempt, k)
            if claim is not None and claim.identity.submission == on_disk.plan.ulid:
                return claim.identity.job
    return ""
