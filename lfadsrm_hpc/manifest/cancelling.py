"""Cancel runs, on record; and forget what is known of a run whose outputs are deleted."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping

from lfadsrm_hpc.errors import ClaimLostError
from lfadsrm_hpc.layout import CollectionLayout, RunLayout, run_key
from lfadsrm_hpc.manifest.process import hostname
from lfadsrm_hpc.manifest.publish import publish_new
from lfadsrm_hpc.manifest.reading import owner, read_cancellations
from lfadsrm_hpc.manifest.records import Cancellation, new_ulid, to_json, ulid_time


def cancel(layout: CollectionLayout, runs: Iterable[RunLayout]) -> Cancellation:
    """Put on record that runs are cancelled, before anything is stopped; they are not started again unasked.

    It covers the attempts that exist now: a later one was asked for.
    """
    newest = {run.run_id: max((a.number for a in run.attempts()), default=0) for run in runs}
    return _publish(layout, newest)


def forget(run: RunLayout) -> None:
    """Delete what the manifest knows of a run: part of deleting its outputs.

    The names in the outbox go first: a kill in between leaves facts without a name, never a name without
    facts.

    Raises
    ------
    ClaimLostError
        Somebody works on the run.
    """
    holder = owner(run)
    if holder is not None:
        raise ClaimLostError(f"the run is being worked on: {holder}", where=run.path, hint="stop it first")
    key = run_key(run.run_id)
    for name in run.collection.outbox_names():
        if name.key == key:
            run.collection.outbox_file(name).unlink(missing_ok=True)
    if run.attempts_dir.is_dir():
        shutil.rmtree(run.attempts_dir)
    # Attempts count from 1 again: a cancellation of the old ones must not cover the new ones.
    if run.run_id in read_cancellations(run.collection):
        _publish(run.collection, {run.run_id: -1})


def _publish(layout: CollectionLayout, attempts: Mapping[str, int]) -> Cancellation:
    layout.state_dir.mkdir(parents=True, exist_ok=True)
    # The newest word counts, and names sort by time: be later than the last even if a clock was ahead.
    before = [path.stem.removeprefix("cancel-") for path in layout.cancellations()][-1:]
    now = max([time.time(), *(ulid_time(ulid) + 0.001 for ulid in before)])
    record = Cancellation(new_ulid(now), attempts, time.time(), hostname())
    publish_new(layout.cancellation(record.ulid), to_json(record))
    return record
