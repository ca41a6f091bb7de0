"""Give an attempt up, on record; and put results into the outbox."""

from __future__ import annotations

import time
from dataclasses import replace

from lfadsrm_hpc.errors import ClaimLostError
from lfadsrm_hpc.layout import OutboxName, RunLayout, run_key
from lfadsrm_hpc.manifest.process import hostname
from lfadsrm_hpc.manifest.publish import publish_name, publish_new
from lfadsrm_hpc.manifest.reading import read_record
from lfadsrm_hpc.manifest.records import CAUSES, KILLED, Closed, Exit, to_json


def close(run: RunLayout, attempt: int, reason: str, *, submission: str = "", message: str = "") -> bool:
    """Give an attempt up for good; its task, should it live, ends with 64. False: it was closed before.

    Parameters
    ----------
    run : RunLayout
    attempt : int
    reason : str
        The word that stands on record from now on (`Verdict.close`).
    submission : str
        For which submission, where one asks for it.
    message : str
        For people: the words of the scheduler on which it rests.

    Raises
    ------
    ClaimLostError
        The attempt does not exist: the run's outputs were deleted.
    """
    if reason in CAUSES:
        _contradict_the_outbox(run, attempt, reason)
    record = Closed(reason, time.time(), hostname(), submission, message)
    try:
        return publish_new(run.attempt(attempt).closed, to_json(record))
    except FileNotFoundError as error:
        raise ClaimLostError("the files of this attempt were deleted", where=run.path) from error


def publish_result(run: RunLayout, attempt: int, incarnation: int, record: Exit) -> None:
    """Put the name that carries an incarnation's result into the outbox."""
    name = OutboxName(run_key(run.run_id), attempt, incarnation, record.state.value, record.code)
    publish_name(run.collection.outbox_file(name))


def _contradict_the_outbox(run: RunLayout, attempt: int, reason: str) -> None:
    """Add a name that says why a task was killed: of two that differ none is believed, the facts are read."""
    ended = run.attempt(attempt).incarnations()["exit"]
    record = read_record(Exit, run.attempt(attempt).exit(ended[-1]))[0] if ended else None
    if record is not None and record.reason == KILLED:
        for one in (record, replace(record, reason=reason)):
            publish_result(run, attempt, ended[-1], one)
