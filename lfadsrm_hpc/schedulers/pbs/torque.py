"""Torque, through qsub, qstat, qdel and qalter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lfadsrm_hpc.errors import CommandError
from lfadsrm_hpc.manifest.evidence import Seen
from lfadsrm_hpc.schedulers.batch import Found, Job, Report
from lfadsrm_hpc.schedulers.pbs.client import UNKNOWN_JOB, PbsClient, first_line, is_since, not_reached
from lfadsrm_hpc.schedulers.pbs.parsing import number_of
from lfadsrm_hpc.schedulers.pbs.pbspro import SINGLY, SUBMISSION
from lfadsrm_hpc.schedulers.pbs.torque_parsing import (
    TorqueAnswer,
    TorqueRecord,
    parse_full,
    parse_table,
    parse_xml,
    tasks_of,
)

_USAGE = 2


class Torque(PbsClient):
    """Torque 2.5 or newer.

    It keeps ended jobs in its queue for a while (`keep_completed`, 300 s at first) and has no other history.
    Slurm's wrappers of the same names (Debian's slurm-wlm-torque) cannot stand in for it: they expand no
    arrays and tell no exit status.
    """

    name: ClassVar[str] = "torque"

    def __init__(self, *, history: str = "auto", timeout_s: float = 60.0) -> None:
        super().__init__(history=history, timeout_s=timeout_s)
        self._forms = [("-x", parse_xml), ("-f", parse_full), ("", parse_table)]

    def look(self, jobs: Sequence[Job]) -> Report:
        tasks: dict[tuple[str, int], Seen] = {}
        problems: list[str] = []

        def take(answer: TorqueAnswer, job: Job) -> bool:
            found = tasks_of(answer, number_of(job.id), job.indices)
            tasks.update({(job.id, index): seen for index, seen in (found or {}).items()})
            return found is not None

        left = list(jobs)
        try:
            if len(left) > SINGLY:
                code, answer, error = self._qstat([])
                if code == 0 and answer.whole:
                    left = [job for job in left if not take(answer, job)]
            for job in left:
                code, answer, error = self._qstat([job.id])
                if code != 0 and not_reached(error):
                    problems.append(f"qstat: {error}")
                    break
                if take(answer, job):
                    problems += [] if answer.whole else [f"the answer about {job.id} breaks off"]
                elif code != UNKNOWN_JOB:
                    what = error if code else "an answer that does not tell of it"
                    problems.append(f"qstat about {job.id}: {what}")
        except CommandError as failure:
            problems.append(failure.what)
        return Report(tasks, bool(jobs) and not problems, None, tuple(dict.fromkeys(problems)))

    def _qstat(self, names: Sequence[str]) -> tuple[int, TorqueAnswer, str]:
        """Return exit code, answer and complaint; goes over to a form that this version understands."""
        while True:
            flag, parse = self._forms[0]
            flags = ["-t", flag] if flag else ["-t"]
            said = self._call(["qstat", *flags, *names])
            if said.returncode == _USAGE and len(self._forms) > 1:
                del self._forms[0]
                continue
            return said.returncode, parse(said.stdout), first_line(said)

    def find(self, names: Sequence[str], since: float) -> list[Found]:
        answer = self._all(lambda: self._qstat([]))
        found = {}
        for job in answer.jobs:
            if job.name in names and is_since(job.attributes, since):
                found[job.number] = Found(_whole_id(job), job.name, job.variable(SUBMISSION))
        return list(found.values())

    def throttle(self, job: Job, most: int) -> None:
        if job.size:
            self._alter(
                job,
                ["-t", f"%{most if most > 0 else job.size}"],
                "this version of Torque has no slot limits: cancel the waiting tasks, and submit them again "
                "with --max-parallel",
            )


def _whole_id(job: TorqueRecord) -> str:
    """Return the id of the job that a record belongs to: "123[].server" for a task of an array."""
    if job.index is None:
        return job.id
    return f"{job.number}[]{job.id[job.id.index('.') :] if '.' in job.id else ''}"
