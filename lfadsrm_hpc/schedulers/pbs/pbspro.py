"""PBS Pro and OpenPBS, through qsub, qstat, qdel and qalter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from lfadsrm_hpc.errors import CommandError
from lfadsrm_hpc.manifest.evidence import Seen
from lfadsrm_hpc.schedulers.batch import Found, Job, Report
from lfadsrm_hpc.schedulers.pbs.client import (
    JOB_ENDED,
    UNKNOWN_JOB,
    PbsClient,
    first_line,
    is_since,
    not_reached,
    task_id,
)
from lfadsrm_hpc.schedulers.pbs.parsing import (
    Answer,
    never_runs,
    number_of,
    parse_answer,
    tasks_of,
)

SINGLY = 8
"""Up to so many jobs are asked for one by one; a server may hold tens of thousands of other people's."""

SUBMISSION = "LFADSRM_SUBMISSION"
_NO_HISTORY = re.compile(r"job_history_enable", re.IGNORECASE)


@dataclass
class _Look:
    """What one look has found out so far."""

    tasks: dict[tuple[str, int], Seen] = field(default_factory=dict)
    ok: bool = True
    history: bool = False
    silent: bool = False
    warnings: list[str] = field(default_factory=list)

    def fail(self, what: str) -> None:
        self.ok = False
        if what not in self.warnings:
            self.warnings.append(what)


class PbsPro(PbsClient):
    """PBS Pro 14 or newer, and OpenPBS.

    Ended jobs are asked for together with living ones (`qstat -x`); a server without a history says so once,
    and is not asked for it again. That a job is absent is believed only when the server says that it does not
    know it: a list without it can be one that broke off.
    """

    name: ClassVar[str] = "pbspro"

    def __init__(self, *, history: str = "auto", timeout_s: float = 60.0) -> None:
        super().__init__(history=history, timeout_s=timeout_s)
        self._history = history != "none"

    # -- looking -----------------------------------------------------------------------------------------

    def look(self, jobs: Sequence[Job]) -> Report:
        now = _Look()
        left = list(jobs)
        if len(left) > SINGLY:
            left = self._look_at_all(left, now)
        for job in left:
            if now.silent:
                break  # each further call would wait as long
            self._look_at(job, now)
        history = True if now.history else None
        return Report(now.tasks, bool(jobs) and now.ok, history, tuple(now.warnings))

    def _look_at_all(self, jobs: Sequence[Job], now: _Look) -> list[Job]:
        """Ask once for everything; return the jobs that the answer does not tell of."""
        call = self._qstat(["-t"], now)
        if call is None:
            return []
        code, answer, _ = call
        if code != 0 or not answer.whole:
            return list(jobs)
        return [job for job in jobs if not self._take(answer, job, now)]

    def _look_at(self, job: Job, now: _Look) -> None:
        call = self._qstat(["-t", job.id], now)
        if call is None:
            return
        code, answer, error = call
        taken = self._take(answer, job, now)
        if taken and not answer.whole:
            now.fail(f"the answer about {job.id} breaks off")
        elif not taken and code not in (UNKNOWN_JOB, JOB_ENDED):
            what = error if code else "an answer that does not tell of it"
            now.fail(f"qstat about {job.id}: {what}")

    def _qstat(self, args: Sequence[str], now: _Look) -> tuple[int, Answer, str] | None:
        """Return exit code, answer and complaint of one qstat; None where there was no answer."""
        try:
            code, answer, error = self._full(args)
        except CommandError as failure:
            now.fail(failure.what)
            now.silent = True
            return None
        if code != 0 and not_reached(error):
            now.fail(f"qstat: {error}")
            now.silent = True
            return None
        now.history = self._history
        return code, answer, error

    def _full(self, args: Sequence[str]) -> tuple[int, Answer, str]:
        flags = ["-f", "-F", "json"]
        if self._history:
            said = self._call(["qstat", "-x", *flags, *args])
            if not _NO_HISTORY.search(said.stderr):
                return said.returncode, parse_answer(said.stdout), first_line(said)
            self._history = False
        said = self._call(["qstat", *flags, *args])
        return said.returncode, parse_answer(said.stdout), first_line(said)

    def _take(self, answer: Answer, job: Job, now: _Look) -> bool:
        """Take over what an answer says of a job; return whether it says anything."""
        number = number_of(job.id)
        tasks = tasks_of(answer, number, job.indices, history=self._history)
        if tasks is None:
            return False
        now.tasks.update({(job.id, index): seen for index, seen in tasks.items()})
        for record in answer.jobs:
            if record.number == number and record.state in ("Q", "H") and never_runs(record.attributes):
                now.warnings.append(f"job {job.id} cannot start: {record.attributes['comment'].strip()}")
                break
        return True

    # -- finding -----------------------------------------------------------------------------------------

    def find(self, names: Sequence[str], since: float) -> list[Found]:
        answer = self._all(lambda: self._full([]))
        return [
            Found(job.id, job.attributes["Job_Name"], job.variables.get(SUBMISSION, ""))
            for job in answer.jobs
            if not job.index and job.attributes.get("Job_Name") in names and is_since(job.attributes, since)
        ]

    # -- acting ------------------------------------------------------------------------------------------

    def _deletions(self, job: Job, indices: Sequence[int] | None) -> list[list[str]]:
        """One operand a call.

        Of several tasks of one array qdel of OpenPBS 23.06 makes one id of at most 255 characters and cuts
        off the rest, within a number as well: other tasks would be deleted, and some not. Its server can
        crash over several that have not begun.
        """
        if indices is None:
            return [[job.id]]
        return [[task_id(job, first, last)] for first, last in _in_a_row(indices)]

    def throttle(self, job: Job, most: int) -> None:
        if job.size:
            limit = most if most > 0 else job.size
            self._alter(
                job,
                ["-W", f"max_run_subjobs={limit}"],
                "max_run_subjobs needs PBS Pro 2020 or newer: cancel the waiting tasks, and submit them "
                "again with --max-parallel",
            )


def _in_a_row(indices: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and the last of indices that follow each other."""
    found: list[tuple[int, int]] = []
    for index in sorted(set(indices)):
        if found and found[-1][1] == index - 1:
            found[-1] = (found[-1][0], index)
        else:
            found.append((index, index))
    return found
