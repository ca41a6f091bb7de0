"""The files of a submission: the plan ahead, a sending before each call of the scheduler, receipts after.

=================================================== =====================================================
killed                                              what is on disk, and what follows
=================================================== =====================================================
while attempts are reserved                         reservations without a plan: given up after the latency
before `plan.json`                                  the same; nothing was or will be submitted
after `plan.json`, before a chunk's sending         the chunk is unsent: submitting again goes on
after the sending, before or after the scheduler    uncertain: looked up by the job's name, adopted if
took it                                             found; sent again only when it is certainly not there
after the receipt                                   submitted
=================================================== =====================================================

Where there are no hard links a file is created and then filled: a kill in between leaves it empty. An empty
plan is none; an empty sending is one of which nobody knows what came; an empty receipt is none, and replaced.
A submission that is damaged otherwise (a disk, an editor) gives a warning and keeps what can be read: it
never hides the others, and nothing of it is ever taken for "not submitted".
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lfadsrm_hpc.errors import ManifestError
from lfadsrm_hpc.layout import SubmissionLayout
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.publish import make_folder, publish_new, publish_replacing
from lfadsrm_hpc.manifest.reading import read_record
from lfadsrm_hpc.manifest.records import to_json
from lfadsrm_hpc.manifest.sealed import remember_planned

HEADER = "chunk\tindex\trun\tattempt\n"


@dataclass(frozen=True)
class PlannedChunk:
    """One job of a submission.

    Attributes
    ----------
    number : int
        From 0.
    name : str
        The job's name, by which it can be found again.
    size : int
        Array tasks, with indices 0 to size - 1; 0: a plain job, whose runs have the index 0 in the table.
    request : dict
        What each task asks for (`schedulers.resources.JobRequest`).
    max_parallel : int
        So many tasks at once; 0: no limit.
    """

    number: int
    name: str
    size: int
    request: Mapping[str, Any] = field(default_factory=dict)
    max_parallel: int = 0


@dataclass(frozen=True)
class PlannedTask:
    """One run of a submission: a line of `tasks.tsv`. Packed runs share chunk and index."""

    chunk: int
    index: int
    run_id: str
    attempt: int


@dataclass(frozen=True)
class Plan:
    """`plan.json`: what is to be submitted, complete on disk before the scheduler hears of it.

    Attributes
    ----------
    settings : dict
        The whole site description as it was, all layers merged, as plain values.
    chunks : tuple of PlannedChunk
    process : Process or None
        Who planned it.
    collection : str
        Absolute path of the collection, which stands in the scripts; "": not told.
    """

    ulid: str
    scheduler: str
    site: str
    cluster: str = ""
    created: float = 0.0
    user: str = ""
    version: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    chunks: tuple[PlannedChunk, ...] = ()
    process: Process | None = None
    collection: str = ""


@dataclass(frozen=True)
class Sending:
    """`sending-<chunk>.<n>.json`: this process is about to call the scheduler with the chunk."""

    process: Process
    sent: float


@dataclass(frozen=True)
class Refusal:
    """`refusal-<chunk>.<n>.json`: that sending was certainly not accepted; why."""

    reason: str
    refused: float = 0.0


@dataclass(frozen=True)
class Receipt:
    """`receipt-<chunk>.json`: the scheduler has the chunk.

    Attributes
    ----------
    job : str
        The scheduler's id.
    output : str
        What the client program printed.
    adopted : bool
        Nobody saw the answer; the job was found by its name afterwards.
    """

    job: str
    received: float = 0.0
    cluster: str = ""
    output: str = ""
    adopted: bool = False


def write_plan(
    layout: SubmissionLayout,
    plan: Plan,
    tasks: Sequence[PlannedTask],
    scripts: Mapping[str, str],
) -> None:
    """Publish a plan: its table and scripts first, `plan.json` last.

    Parameters
    ----------
    layout : SubmissionLayout
    plan : Plan
    tasks : sequence of PlannedTask
    scripts : dict of str to str
        Paths relative to the submission's folder, and texts.

    Raises
    ------
    ManifestError
        There is a plan already, or a run's name cannot stand in a table.
    """
    make_folder(layout.path)
    layout.output_dir.mkdir(exist_ok=True)
    for task in tasks:
        if len(task.run_id.splitlines()) != 1 or "\t" in task.run_id:
            raise ManifestError(f"{task.run_id!r} cannot stand in a table", where=layout.tasks)
    lines = (f"{task.chunk}\t{task.index}\t{task.run_id}\t{task.attempt}\n" for task in tasks)
    _publish_part(layout.tasks, HEADER + "".join(lines))
    for name, text in scripts.items():
        path = layout.path / name
        path.parent.mkdir(exist_ok=True)
        _publish_part(path, text, script=True)
    text = to_json(plan).decode()
    remember_planned(layout, text.encode())
    _publish_part(layout.plan, text)


def _publish_part(path: Path, text: str, *, script: bool = False) -> None:
    if not publish_new(path, text.encode(), script=script):
        raise ManifestError("there is a plan already", where=path)


def begin_sending(layout: SubmissionLayout, chunk: int, number: int) -> bool:
    """Take the right to call the scheduler with a chunk for the n-th time (from 1).

    Returns
    -------
    bool
        False: another process has it, the sending before was not refused, or the chunk was sent meanwhile.
    """
    if number > 1 and not layout.refusal(chunk, number - 1).exists():
        return False
    if _has_receipt(layout, chunk):
        return False
    if not publish_new(layout.sending(chunk, number), to_json(Sending(Process.current(), time.time()))):
        return False
    # A job whose answer was lost may have been found between the look above and this sending.
    if _has_receipt(layout, chunk):
        record_refusal(layout, chunk, number, "it was sent before")
        return False
    return True


def _has_receipt(layout: SubmissionLayout, chunk: int) -> bool:
    return read_record(Receipt, layout.receipt(chunk))[0] is not None


def is_sent(layout: SubmissionLayout) -> bool:
    """Return whether the scheduler has all chunks of a plan; a receipt that was left half-written is none."""
    numbers = layout.receipts()
    if not numbers or len(numbers) < layout.script_count():
        return False
    try:
        return all(_has_receipt(layout, number) for number in numbers)
    except ManifestError:
        return False  # who reads the submission tells what is wrong with it


def record_refusal(layout: SubmissionLayout, chunk: int, number: int, reason: str) -> None:
    """Put on record that a sending was certainly not accepted."""
    publish_new(layout.refusal(chunk, number), to_json(Refusal(reason, time.time())))


def record_receipt(layout: SubmissionLayout, chunk: int, receipt: Receipt) -> bool:
    """Put on record that the scheduler has a chunk; False: there was a receipt, which stands."""
    place, data = layout.receipt(chunk), to_json(receipt)
    if publish_new(place, data):
        return True
    if _has_receipt(layout, chunk):
        return False
    publish_replacing(place, data)  # its writer was killed before it was filled
    return True
