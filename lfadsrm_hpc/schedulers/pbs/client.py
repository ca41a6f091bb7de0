"""What PBS Pro and Torque share: how their client programs are called, and what their errors mean."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from lfadsrm_hpc.command import Answer, ask
from lfadsrm_hpc.errors import (
    CommandError,
    SchedulerRefusedError,
    SchedulerUnreachableError,
    SubmissionUncertainError,
)
from lfadsrm_hpc.schedulers.batch import PLAIN, Accepted, BatchScheduler, Job
from lfadsrm_hpc.schedulers.pbs.ends import seconds_since_1970
from lfadsrm_hpc.schedulers.pbs.parsing import number_of

IDS_A_CALL = 100
_CLOCKS_APART_S = 3600.0
UNKNOWN_JOB, JOB_ENDED = 153, 35  # exit codes are PBS's error numbers, modulo 256

# What a job finds in its environment, and what would change the meaning of a client's arguments. What says
# where the server is (PBS_DEFAULT, PBS_SERVER, PBS_CONF_FILE, ...) stays.
_OF_A_JOB = re.compile(
    r"PBS_(O_.*|JOB.*|ARRAY.*|NODE.*|NUM_.*|NP|PPN|TASKNUM|VNODENUM|MOMPORT|COOKIE|ENVIRONMENT|QUEUE|WALLTIME"
    r"|VERSION|GPUFILE|MICFILE|DPREFIX|SHELL|ACCOUNT|QSTAT_.*)"
)
_ID_LINE = re.compile(r"(\d+(?:\[\])?\.[A-Za-z0-9][\w.-]*)[ \t]*\n")
_ANY_ID = re.compile(r"^\d+(\[\])?(\.\S*)?\s*$", re.MULTILINE)
_NOT_REACHED = re.compile(
    r"cannot connect to server|couldn't connect to|could not connect to|connection refused|no route to host"
    r"|unknown host|no default server|server shutting down|try again later|no free connections"
    r"|connection table full",
    re.IGNORECASE,
)
_HALF_WAY = re.compile(
    r"end of file|communication failure|protocol error|timed? ?out|reset by peer|broken pipe|premature end"
    r"|no reply|lost connection|system error|internal (server )?error|retry to submit",
    re.IGNORECASE,
)
_ENDED_ALREADY = re.compile(
    r"unknown job ?id|job has finished|finished array subjob|invalid for state of job|already in exit state"
    r"|state for job - complete",
    re.IGNORECASE,
)
_HINTS = {
    2: "it does not understand an option of the script: see `--dry-run`, and the site's `directives`",
    3: "the array is larger than the server allows: set `array_tasks` in the site's [limits]",
    159: "you may not do this here, or not from this machine",
    166: "a value is malformed or not allowed: look at the walltime and the resources of the script",
    170: "the queue does not exist: `qstat -Q` names those that do; choose one with --partition",
    173: "the queue takes no jobs now",
    174: "you may not use this queue",
    175: "the server does not know your user (root may submit nowhere)",
    187: "the site's description asks for a resource that the server does not know",
    188: "the queue does not allow that much: ask for less, or for another queue",
    198: "you have as many jobs as the site allows: wait until some have ended",
    38: "you have as many jobs as the site allows: wait until some have ended",
}


class Jobs(Protocol):
    """What qstat said of jobs, in any of its forms."""

    @property
    def whole(self) -> bool:
        """Whether all of it could be read."""

    @property
    def jobs(self) -> Sequence[object]:
        """The records that could be read."""


A = TypeVar("A", bound=Jobs)


class PbsClient(BatchScheduler):
    """The calls that PBS Pro and Torque have in common."""

    def submit(self, script: Path) -> Accepted:
        try:
            answer = self._call(["qsub", str(script.resolve())], cwd=script.resolve().parent)
        except CommandError as error:
            if isinstance(error.__cause__, OSError):
                raise _not_installed(error) from error
            raise SubmissionUncertainError(
                f"qsub gave no answer within {self.timeout_s:g} s: it may have taken the job",
                where=script,
            ) from error
        return read_submission(answer, script)

    def cancel(self, job: Job, indices: Sequence[int] | None = None) -> None:
        for operands in self._deletions(job, indices):
            answer = self._ask("qdel", operands, job.id)
            if answer.returncode != 0:
                _heed_errors("qdel", answer, job)

    def _deletions(self, job: Job, indices: Sequence[int] | None) -> list[list[str]]:
        """Return the operands of each call of qdel that deletes a job, or some tasks of an array."""
        targets = [job.id] if indices is None else [task_id(job, index) for index in indices]
        return [targets[start : start + IDS_A_CALL] for start in range(0, len(targets), IDS_A_CALL)]

    def version(self) -> str:
        answer = self._ask("qstat", ["-B", "-f"], "")
        match = re.search(r"pbs_version\s*[=:]\s*\"?([\w.+-]+)", answer.stdout)
        if answer.returncode != 0 or match is None:
            raise SchedulerUnreachableError(
                f"qstat -B does not tell of a PBS server: {first_line(answer)}",
                hint="is this machine a login node of the cluster?",
            )
        return f"{self.name} {match[1]}"

    def _alter(self, job: Job, options: Sequence[str], unsupported: str) -> None:
        """Change an array; an array that has ended is no error."""
        answer = self._ask("qalter", [*options, job.id], job.id)
        if answer.returncode == 0:
            return
        if not _NOT_REACHED.search(answer.stderr) and (
            answer.returncode in (2, 154)
            or re.search(r"illegal -\w value|undefined attr", answer.stderr, re.I)
        ):
            raise SchedulerRefusedError(
                f"this server cannot change how many tasks run at once: {first_line(answer)}",
                where=job.id,
                hint=unsupported,
            )
        _heed_errors("qalter", answer, job)

    def _all(self, ask_all: Callable[[], tuple[int, A, str]]) -> A:
        """Return what qstat says of all jobs; half of it would make jobs look absent, so that is refused."""
        again = "nothing was changed; ask again in a minute"
        try:
            code, answer, error = ask_all()
        except CommandError as failure:
            raise SchedulerUnreachableError(failure.what, hint=again) from failure
        if code != 0 or not answer.whole:
            what = error if code else "its answer cannot be read whole"
            raise SchedulerUnreachableError(f"qstat: {what}", hint=again)
        if not answer.jobs:
            self.version()  # a server that went away in between looks like one without jobs
        return answer

    # -- calls -------------------------------------------------------------------------------------------

    def _call(self, command: Sequence[str], *, cwd: Path | None = None) -> Answer:
        """Run a client program. Raises `CommandError` where it gives no answer."""
        return ask(command, timeout_s=self.timeout_s, env=client_environment(), cwd=cwd, check=False)

    def _ask(self, program: str, args: Sequence[str], where: str) -> Answer:
        """Run one whose silence means that the server cannot be reached."""
        try:
            answer = self._call([program, *args])
        except CommandError as error:
            if isinstance(error.__cause__, OSError):
                raise _not_installed(error) from error
            raise SchedulerUnreachableError(error.what, where=where or None) from error
        if answer.returncode != 0 and _NOT_REACHED.search(answer.stderr):
            raise SchedulerUnreachableError(f"{program}: {first_line(answer)}", where=where or None)
        return answer


def client_environment() -> dict[str, str]:
    """Return this process's environment without what belongs to the job that it may be in."""
    return {name: value for name, value in os.environ.items() if not _OF_A_JOB.fullmatch(name)}


def read_submission(answer: Answer, script: Path) -> Accepted:
    """Return what qsub accepted.

    Raises
    ------
    SchedulerRefusedError, SchedulerUnreachableError, SubmissionUncertainError
    """
    output = "\n".join(filter(None, [answer.stdout.strip(), answer.stderr.strip()]))
    ids = _ID_LINE.findall(answer.stdout)
    if answer.returncode == 0 and ids and len({number_of(job) for job in ids}) == 1:
        return Accepted(ids[-1], output=output)
    what = first_line(answer)
    if answer.returncode > 0 and not _ANY_ID.search(answer.stdout):
        if _NOT_REACHED.search(answer.stderr):
            raise SchedulerUnreachableError(f"qsub: {what}", where=script)
        if _is_refusal(answer):
            raise SchedulerRefusedError(
                f"qsub refused the job: {what}", where=script, hint=_HINTS.get(answer.returncode)
            )
    told = f"ended with status {answer.returncode} and said: {what or 'nothing'}"
    raise SubmissionUncertainError(f"qsub {told}: it may have taken the job", where=script)


def _is_refusal(answer: Answer) -> bool:
    """Return whether the program itself says no; killed programs and broken connections do not."""
    if _HALF_WAY.search(answer.stderr):
        return False
    said = re.search(r"^(qsub|usage):", answer.stderr.lstrip(), re.IGNORECASE | re.MULTILINE)
    return said is not None or answer.returncode in _HINTS


def _heed_errors(program: str, answer: Answer, job: Job) -> None:
    """Raise what a failed call means, unless all that it says is that there is nothing left to act on."""
    lines = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
    if lines and all(_ENDED_ALREADY.search(line) for line in lines):
        return
    if not lines and answer.returncode in (UNKNOWN_JOB, JOB_ENDED):
        return
    bad = next((line for line in lines if not _ENDED_ALREADY.search(line)), f"status {answer.returncode}")
    if answer.returncode < 0 or _HALF_WAY.search(bad):
        raise SchedulerUnreachableError(f"{program} {bad}", where=job.id)
    raise SchedulerRefusedError(
        f"{program} refused: {bad.removeprefix(f'{program}: ')}",
        where=job.id,
        hint=_HINTS.get(answer.returncode) if answer.returncode == 159 else None,
    )


def _not_installed(error: CommandError) -> SchedulerUnreachableError:
    return SchedulerUnreachableError(
        error.what, hint="run this on a login node, or put the folder of the PBS programs on PATH"
    )


def not_reached(said: str) -> bool:
    """Return whether a complaint says that the server was not reached."""
    return _NOT_REACHED.search(said) is not None


def task_id(job: Job, first: int, last: int | None = None) -> str:
    """Return the id of a task: "123[4].server" for an array, the job's own for a plain job.

    With `last` that of several tasks in a row, as PBS Pro reads it: "123[4-7].server".
    """
    if first == PLAIN or not job.size:
        return job.id
    number = number_of(job.id)
    which = f"{first}" if last is None or last == first else f"{first}-{last}"
    return f"{number}[{which}]{job.id[len(number) :].removeprefix('[]')}"


def first_line(answer: Answer) -> str:
    """Return the line that says what is wrong: the last one of the program's own, else the last there is."""
    lines = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
    own = [line for line in lines if re.match(r"q\w+:", line)]
    line = (own or lines or [f"status {answer.returncode}"])[-1]
    return re.sub(r"^q\w+: *", "", line)[:500]


def is_since(attributes: Mapping[str, str], since: float) -> bool:
    """Return whether a job was created after a time, as far as it tells."""
    created = seconds_since_1970(attributes.get("ctime", ""))
    return created is None or created >= since - _CLOCKS_APART_S
