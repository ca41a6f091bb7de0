"""The attempts of one run: how each ended, which job did it, and where what it printed is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lfadsrm_hpc.layout import RunLayout
from lfadsrm_hpc.manifest.fold import RunStatus, history
from lfadsrm_hpc.manifest.reading import look, read_facts
from lfadsrm_hpc.manifest.submission_reading import SubmissionOnDisk, read_submission
from lfadsrm_hpc.manifest.submissions import PlannedTask


@dataclass(frozen=True)
class Attempt:
    """One try at a run.

    Attributes
    ----------
    number : int
    status : RunStatus or None
        How it ended, or what it is at; None: it counts as if it had never been.
    submission : str
        ULID; "": none.
    job : str
        The task of the scheduler, as people name it; "": none is known.
    log : Path
        What it printed; perhaps not there.
    outputs : tuple of Path
        What its batch script printed before it knew its run, and other files of the submission about it.
    """

    number: int
    status: RunStatus | None
    submission: str
    job: str
    log: Path
    outputs: tuple[Path, ...] = ()

    @property
    def printed(self) -> Path | None:
        """The file to read; None: it has printed nothing."""
        if self.log.is_file():
            return self.log
        return next((path for path in self.outputs if path.stat().st_size), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them."""
        status = self.status
        return {
            "attempt": self.number,
            "state": status.state.value if status else None,
            "reason": status.reason if status else None,
            "message": status.message if status else "",
            "code": status.code if status else None,
            "incarnation": status.incarnation if status else None,
            "host": status.host if status else None,
            "started": status.started if status else None,
            "ended": status.ended if status else None,
            "submission": self.submission or None,
            "job": self.job or None,
            "log": str(self.log) if self.log.is_file() else None,
            "outputs": [str(path) for path in self.outputs],
        }


def job_text(job: str, size: int, index: int) -> str:
    """Return a task as its scheduler's users name it: "4711_3" (Slurm), "4711[3].server" (PBS), "4711".

    Parameters
    ----------
    job : str
        The scheduler's id.
    size : int
        Of the array; 0: a plain job.
    index : int
        Of the task.
    """
    if not size:
        return job
    before, brackets, after = job.partition("[]")
    return f"{before}[{index}]{after}" if brackets else f"{job}_{index}"


def attempts_of(run: RunLayout) -> list[Attempt]:
    """Return the attempts of a run, first first."""
    facts, freshness = read_facts(run), look(run.path)
    told = {status.attempt: status for status in history(facts, freshness)}
    read: dict[str, SubmissionOnDisk | None] = {}
    found = []
    for attempt in facts.attempts:
        ulid = attempt.reservation.submission if attempt.reservation else ""
        job: str = ""
        outputs: tuple[Path, ...] = ()
        if ulid and attempt.is_ahead:
            if ulid not in read:
                read[ulid] = read_submission(run.collection.submission(ulid), freshness.now)
            job, outputs = _as_handed(read[ulid], run.run_id, attempt.number)
        log = run.attempt(attempt.number).log
        found.append(Attempt(attempt.number, told.get(attempt.number), ulid, job, log, outputs))
    return found


def _as_handed(submission: SubmissionOnDisk | None, run_id: str, number: int) -> tuple[str, tuple[Path, ...]]:
    """Return the job that an attempt was handed over as, and what that job's script has printed."""
    if submission is None:
        return "", ()
    task = next((t for t in submission.tasks if (t.run_id, t.attempt) == (run_id, number)), None)
    chunk = next((c for c in submission.chunks if task and c.chunk.number == task.chunk), None)
    if task is None or chunk is None or chunk.receipt is None:
        return "", ()
    outputs = _outputs(submission.layout.output_dir, task, chunk.receipt.job, array=chunk.chunk.size > 0)
    return job_text(chunk.receipt.job, chunk.chunk.size, task.index), tuple(outputs)


def _outputs(folder: Path, task: PlannedTask, job: str, *, array: bool) -> Iterator[Path]:
    """Yield the files of a task among all that scripts have printed.

    Slurm writes `<job>_<index>.txt` and `<job>.txt`, as the scripts ask; PBS gives names of its own,
    `123[4].server.OU`, `<name>.o123.4`, `<name>.o123-4`. Packed runs share `<chunk>-<index>.log`.
    """
    digits = re.match(r"\d+", job)
    number = re.escape(digits[0] if digits else job)
    index = rf"(?:_|\[|\.|-){task.index}(?!\d)" if array else ""
    ours = re.compile(rf"(?:.*[^\d])?{number}(?!\d){index}.*")
    packed = f"{task.chunk}-{task.index}.log"
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    yield from (path for path in paths if path.name != packed and ours.fullmatch(path.name))
    yield from (path for path in paths if path.name == packed)
