"""Cancel runs, on record; and forget what is known of a run whose outputs are deleted."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping

from lfadsrm_hpc.errors import ClaimLostError
from lfadsrm_hpc.layout import CollectionLayout, RunLayout, run_key
from lfadsrm_hpc.manifest.closing import close
from lfadsrm_hpc.manifest.process import hostname
from lfadsrm_hpc.manifest.publish import publish_new
from lfadsrm_hpc.manifest.reading import look, owner, read_cancellations, read_facts
from lfadsrm_hpc.manifest.records import CANCELLED, Cancellation, new_ulid, to_json, ulid_time


def cancel(layout: CollectionLayout, runs: Iterable[RunLayout]) -> Cancellation:
    """Put on record that runs are cancelled, before anything is stopped; they are not started again unasked.

    It covers the attempts that exist now: a later one was asked for. Attempts that wait for a scheduler are
    closed: their jobs, should they still start, find nothing to do.
    """
    runs = list(runs)
    newest = {run.run_id: max((a.number for a in run.attempts()), default=0) for run in runs}
    record = _publish(layout, newest)
    for run in runs:
        waiting = read_facts(run, cancelled={}).newest
        # A later one than the record covers was asked for since.
        if waiting is not None and waiting.waits and waiting.number <= newest[run.run_id]:
            close(run, waiting.number, CANCELLED)
    return record


def lift(layout: CollectionLayout, runs: Iterable[RunLayout]) -> None:
    """Let cancelled runs be started again: somebody has asked for them.

    What was closed stays closed: a job that still waits for one of them finds nothing to do.
    """
    covered = read_cancellations(layout)
    lifted = {run.run_id: -1 for run in runs if run.run_id in covered}
    if lifted:
        _publish(layout, lifted)


def forget(run: RunLayout) -> None:
    """Delete what the manifest knows of a run: part of deleting its outputs.

    The names in the outbox go first: a kill in between leaves facts without a name, never a name without
    facts. These go in one step: by half of them, a claim without its end, somebody would seem to be at work.
    A job that was handed over for one of these attempts and starts later finds its attempt gone, or reserved
    for another submission, and ends.

    Raises
    ------
    ClaimLostError
        Somebody works on the run, or it was handed to a scheduler and may start.
    """
    _refuse_live(run)
    key = run_key(run.run_id)
    for name in run.collection.outbox_names():
        if name.key == key:
            run.collection.outbox_file(name).unlink(missing_ok=True)
    shutil.rmtree(run.deleted_attempts, ignore_errors=True)  # what a deletion before left, when it was killed
    if run.attempts_dir.is_dir():
        try:
            run.attempts_dir.rename(run.deleted_attempts)
            shutil.rmtree(run.deleted_attempts)
        finally:  # interrupted, it ends nevertheless
            shutil.rmtree(run.deleted_attempts, ignore_errors=True)
    # Attempts count from 1 again: a cancellation of the old ones must not cover the new ones.
    if run.run_id in read_cancellations(run.collection):
        _publish(run.collection, {run.run_id: -1})


def _refuse_live(run: RunLayout) -> None:
    holder = owner(run)
    if holder is not None:
        raise ClaimLostError(f"the run is being worked on: {holder}", where=run.path, hint="stop it first")
    facts = read_facts(run)
    newest = facts.newest
    if newest is None or newest.newest is not None or newest.reservation is None:
        return
    if newest.waits and not facts.is_cancelled:
        raise ClaimLostError(
            f"the run is reserved for submission {newest.reservation.submission or '(none)'}, and may start",
            where=run.path,
            hint="cancel it first: `lfadsrm cancel`",
        )
    if not newest.waits and newest.reserver_is_live(look(run.path)):
        raise ClaimLostError("the run is about to be started", where=run.path, hint="look again in a minute")


def _publish(layout: CollectionLayout, attempts: Mapping[str, int]) -> Cancellation:
    layout.state_dir.mkdir(parents=True, exist_ok=True)
    # The newest word counts, and names sort by time: be later than the last even if a clock was ahead.
    before = [path.stem.removeprefix("cancel-") for path in layout.cancellations()][-1:]
    now = max([time.time(), *(ulid_time(ulid) + 0.001 for ulid in before)])
    record = Cancellation(new_ulid(now), attempts, time.time(), hostname())
    publish_new(layout.cancellation(record.ulid), to_json(record))
    return record
