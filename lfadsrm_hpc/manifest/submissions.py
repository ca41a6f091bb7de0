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
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lfadsrm_hpc.errors import ManifestError
from lfadsrm_hpc.layout import CollectionLayout, SubmissionLayout
from lfadsrm_hpc.manifest.evidence import ChunkState
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.publish import make_folder, publish_new
from lfadsrm_hpc.manifest.reading import read_record
from lfadsrm_hpc.manifest.records import to_json

_HEADER = "chunk\tindex\trun\tattempt\n"


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


@dataclass(frozen=True)
class ChunkOnDisk:
    """What is known of one chunk.

    Attributes
    ----------
    sendings : int
        The number of the newest sending; 0: none.
    age_s : float
        Of the receipt, else of the newest sending, else of the plan, by the clock of the file system, s.
    """

    chunk: PlannedChunk
    state: ChunkState
    receipt: Receipt | None
    sendings: int
    age_s: float


@dataclass(frozen=True)
class SubmissionOnDisk:
    """A submission whose plan is complete."""

    layout: SubmissionLayout
    plan: Plan
    tasks: tuple[PlannedTask, ...]
    chunks: tuple[ChunkOnDisk, ...]


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
        There is a plan already.
    """
    make_folder(layout.path)
    layout.output_dir.mkdir(exist_ok=True)
    lines = (f"{task.chunk}\t{task.index}\t{task.run_id}\t{task.attempt}\n" for task in tasks)
    publish_new(layout.tasks, (_HEADER + "".join(lines)).encode())
    for name, text in scripts.items():
        path = layout.path / name
        path.parent.mkdir(exist_ok=True)
        publish_new(path, text.encode())
        path.chmod(0o755)
    if not publish_new(layout.plan, to_json(plan)):
        raise ManifestError("there is a plan already", where=layout.plan)


def begin_sending(layout: SubmissionLayout, chunk: int, number: int) -> bool:
    """Take the right to call the scheduler with a chunk for the n-th time (from 1); False: another has it."""
    return publish_new(layout.sending(chunk, number), to_json(Sending(Process.current(), time.time())))


def record_refusal(layout: SubmissionLayout, chunk: int, number: int, reason: str) -> None:
    """Put on record that a sending was certainly not accepted."""
    publish_new(layout.refusal(chunk, number), to_json(Refusal(reason, time.time())))


def record_receipt(layout: SubmissionLayout, chunk: int, receipt: Receipt) -> bool:
    """Put on record that the scheduler has a chunk; False: there was a receipt, which stands."""
    return publish_new(layout.receipt(chunk), to_json(receipt))


def read_submission(layout: SubmissionLayout, now: float) -> SubmissionOnDisk | None:
    """Read one submission; None: its plan is not complete.

    Parameters
    ----------
    now : float
        By the clock of the file system (`reading.look`), s.
    """
    plan, planned = read_record(Plan, layout.plan)
    if plan is None or planned is None:
        return None
    return SubmissionOnDisk(
        layout, plan, read_tasks(layout), tuple(_chunk(layout, c, planned, now) for c in plan.chunks)
    )


def read_submissions(layout: CollectionLayout, now: float) -> list[SubmissionOnDisk]:
    """Read the submissions whose plans are complete, oldest first."""
    found = (read_submission(submission, now) for submission in layout.submissions())
    return [submission for submission in found if submission is not None]


def read_tasks(layout: SubmissionLayout) -> tuple[PlannedTask, ...]:
    """Read `tasks.tsv`.

    Raises
    ------
    ManifestError
        It is damaged.
    """
    try:
        lines = layout.tasks.read_text().splitlines()[1:]
        rows = (line.split("\t") for line in lines)
        return tuple(PlannedTask(int(c), int(i), run, int(a)) for c, i, run, a in rows)
    except (OSError, ValueError) as error:
        raise ManifestError(f"the table of tasks cannot be read: {error}", where=layout.tasks) from error


def _chunk(layout: SubmissionLayout, chunk: PlannedChunk, planned: float, now: float) -> ChunkOnDisk:
    receipt, received = read_record(Receipt, layout.receipt(chunk.number))
    number = layout.sendings().get(chunk.number, 0)
    if received is not None:
        return ChunkOnDisk(chunk, ChunkState.SENT, receipt, number, max(0.0, now - received))
    if number == 0:
        return ChunkOnDisk(chunk, ChunkState.UNSENT, None, 0, max(0.0, now - planned))
    sending, sent = read_record(Sending, layout.sending(chunk.number, number))
    age = max(0.0, now - (sent if sent is not None else planned))
    if layout.refusal(chunk.number, number).exists():
        state = ChunkState.UNSENT
    elif sending is not None and sending.process.is_alive():
        state = ChunkState.SENDING
    else:
        state = ChunkState.UNCERTAIN
    return ChunkOnDisk(chunk, state, None, number, age)
