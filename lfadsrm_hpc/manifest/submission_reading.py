"""Submissions as they stand on disk: what was planned, and what became of each chunk."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lfadsrm_hpc.errors import LfadsrmWarning, ManifestError
from lfadsrm_hpc.layout import CollectionLayout, SubmissionLayout
from lfadsrm_hpc.manifest.evidence import ChunkState
from lfadsrm_hpc.manifest.facts import LATENCY_S
from lfadsrm_hpc.manifest.reading import read_record
from lfadsrm_hpc.manifest.submissions import HEADER, Plan, PlannedChunk, PlannedTask, Receipt, Sending
from lfadsrm_hpc.plain_files import read_bytes


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
    """A submission whose plan is complete.

    Attributes
    ----------
    damage : str
        What could not be read; "": nothing. Where it is the plan itself there are no tasks and no chunks.
    """

    layout: SubmissionLayout
    plan: Plan
    tasks: tuple[PlannedTask, ...]
    chunks: tuple[ChunkOnDisk, ...]
    damage: str = ""

    @property
    def is_copy(self) -> bool:
        """Its collection was copied from another, which is still there and whose runs its jobs do."""
        try:
            return self.plan.collection != "" and not self._where_planned.samefile(self.layout.plan)
        except OSError:
            return False

    @property
    def has_moved(self) -> bool:
        """Its collection stood elsewhere when it was planned: its scripts name a place that is no more."""
        try:
            return self.plan.collection != "" and not self._where_planned.exists()
        except OSError:  # it may be there, where we may not look
            return False

    @property
    def _where_planned(self) -> Path:
        return CollectionLayout(Path(self.plan.collection)).submission(self.layout.ulid).plan


def read_submission(layout: SubmissionLayout, now: float) -> SubmissionOnDisk | None:
    """Read one submission; None: its plan is not complete, so nothing of it was or will be sent.

    Parameters
    ----------
    now : float
        By the clock of the file system (`reading.look`), s.

    Warns
    -----
    LfadsrmWarning
        It is damaged: the tasks that cannot be read are missing from the answer.
    """
    damage = []
    try:
        plan, planned = read_record(Plan, layout.plan)
        if plan is None and (planned is None or not _was_sent(layout)):
            return None
        if plan is None or planned is None:
            return _damaged(layout, "plan.json cannot be read")
        tasks, bad = _read_tasks(layout)
        damage += [bad] if bad else []
        sendings = layout.sendings()
        chunks = tuple(
            _chunk(layout, chunk, sendings.get(chunk.number, 0), planned, now) for chunk in plan.chunks
        )
    except (ManifestError, OSError) as error:
        return _damaged(layout, str(error))
    named: dict[int, set[int]] = {}
    for task in tasks:
        named.setdefault(task.chunk, set()).add(task.index)
    lost = sum(named.get(chunk.number) != set(range(chunk.size or 1)) for chunk in plan.chunks)
    if lost and not damage:
        damage.append(f"{layout.tasks.name} does not name all tasks of {lost} jobs")
    _warn(layout, damage)
    return SubmissionOnDisk(layout, plan, tasks, chunks, "; ".join(damage))


def newest_plans(layout: CollectionLayout) -> Iterator[Plan]:
    """Yield the plans of a collection that can be read, newest first."""
    for submission in reversed(layout.submissions()):
        plan, _ = read_record(Plan, submission.plan)
        if plan is not None:
            yield plan


def _was_sent(layout: SubmissionLayout) -> bool:
    return bool(layout.sendings() or layout.receipts())


def _damaged(layout: SubmissionLayout, what: str) -> SubmissionOnDisk:
    _warn(layout, [what])
    return SubmissionOnDisk(layout, Plan(layout.ulid, "", ""), (), (), what)


def _warn(layout: SubmissionLayout, damage: Sequence[str]) -> None:
    if damage:
        warnings.warn(
            f"submission {layout.ulid} is damaged, and what its jobs do is not known in full: "
            f"{'; '.join(damage)} (in {layout.path})",
            LfadsrmWarning,
            stacklevel=3,
        )


def _read_tasks(layout: SubmissionLayout) -> tuple[tuple[PlannedTask, ...], str]:
    """Return the lines of `tasks.tsv` that can be read, and what is wrong with it ("": nothing)."""
    try:
        text = read_bytes(layout.tasks).decode("utf-8", errors="replace")
    except OSError as error:
        return (), f"{layout.tasks.name} cannot be read: {error.strerror}"
    lines = text.split("\n")
    whole = lines.pop() == "" and lines[:1] == [HEADER.rstrip("\n")]  # one without an end is cut off
    tasks = [task for line in lines if (task := _task(line)) is not None]
    if whole and len(tasks) == len(lines) - 1:
        return tuple(tasks), ""
    return tuple(tasks), f"{layout.tasks.name} is damaged: {len(tasks)} tasks can be read"


def _task(line: str) -> PlannedTask | None:
    fields = line.split("\t")
    if len(fields) != 4 or "/" not in fields[2] or "\ufffd" in fields[2]:
        return None
    chunk, index, run, attempt = fields
    if not all(number.isascii() and number.isdigit() for number in (chunk, index, attempt)):
        return None
    return PlannedTask(int(chunk), int(index), run, int(attempt))


def _chunk(
    layout: SubmissionLayout, chunk: PlannedChunk, number: int, planned: float, now: float
) -> ChunkOnDisk:
    """Return what is known of a chunk; `number` is that of its newest sending."""
    receipt, received = read_record(Receipt, layout.receipt(chunk.number))
    if receipt is not None and received is not None:
        return ChunkOnDisk(chunk, ChunkState.SENT, receipt, number, max(0.0, now - received))
    if number == 0:
        return ChunkOnDisk(chunk, ChunkState.UNSENT, None, 0, max(0.0, now - planned))
    sending, sent = read_record(Sending, layout.sending(chunk.number, number))
    age = max(0.0, now - (sent if sent is not None else planned))
    if layout.refusal(chunk.number, number).exists():
        state = ChunkState.UNSENT
    elif sending is not None and _is_at_work(sending.process.is_alive(), age):
        state = ChunkState.SENDING
    else:
        state = ChunkState.UNCERTAIN
    return ChunkOnDisk(chunk, state, None, number, age)


def _is_at_work(alive: bool | None, age_s: float) -> bool:
    # On another login node it cannot be seen; one call takes no longer than this.
    return age_s <= LATENCY_S if alive is None else alive
