"""PBS Pro and OpenPBS for submitit: `submitit.AutoExecutor(folder, cluster="pbs")`.

Registered in submitit's entry-point group. Nothing is put back into the queue: PBS lets no job do that, and
gives no warning before the walltime. A function with a `checkpoint` method is checkpointed on TERM (at the
end of the walltime, and by qdel: some seconds before KILL) and on USR2; a rerun goes on with what it left.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from submitit.core import core, job_environment, utils
from submitit.slurm.slurm import SlurmExecutor

from lfadsrm_hpc.errors import UsageError, suggest
from lfadsrm_hpc.rendering import render
from lfadsrm_hpc.schedulers.batch import PLAIN, Accepted, BatchScheduler, Job
from lfadsrm_hpc.schedulers.units import parse_time
from lfadsrm_hpc.submitit_plugin.payload import working_time_s
from lfadsrm_hpc.submitit_plugin.pbs_script import directives, own_umask, variables
from lfadsrm_hpc.submitit_plugin.states import SchedulerWatcher

_ABSENT = "SUBMITIT_PBS_NOT_SET"
PARAMETERS: dict[str, object] = {
    "job_name": "submitit",
    "queue": None,
    "account": None,
    "walltime": None,
    "timeout_min": None,
    "nodes": 1,
    "tasks_per_node": 1,
    "cpus_per_task": 1,
    "gpus_per_node": 0,
    "mem_gb": None,
    "select": "",
    "directives": (),
    "array_parallelism": 0,
    "signal_delay_s": 120,
    "setup": (),
    "teardown": (),
    "variables": {},
    "stderr_to_stdout": False,
}
"""What `update_parameters` takes, with its defaults; see `PbsExecutor`."""


class _Parameters(set[str]):
    """All parameters; those that have the name of one of submitit's own for Slurm are not listed.

    Of a name without the prefix of an executor, as it once allowed them, submitit makes one of the last
    executor that lists it. `account` would become `pbs_account`, and be ignored on Slurm.
    """

    def __iter__(self) -> Iterator[str]:
        others = SlurmExecutor._valid_parameters()
        return (name for name in super().__iter__() if name not in others)


def make_scheduler() -> BatchScheduler:
    """Return the scheduler that PBS jobs are handed to and asked about."""
    from lfadsrm_hpc.schedulers.pbs.pbspro import PbsPro

    return PbsPro()


class PbsInfoWatcher(SchedulerWatcher):
    """Asks qstat for all jobs together.

    Attributes
    ----------
    whole : dict of str to str
        The ids of jobs, with their servers, by their numbers; of those that this process has submitted.
    """

    def __init__(self, delay_s: int = 60) -> None:
        super().__init__(delay_s)
        self.whole: dict[str, str] = {}

    def scheduler(self) -> BatchScheduler:
        return make_scheduler()

    def job_of(self, job_id: str) -> tuple[str, int]:
        number, _, index = job_id.partition("_")
        known = self.whole.get(number, f"{number}[]" if index else number)
        return known, int(index) if index else PLAIN


class PbsJob(core.Job[core.R]):
    """A job of PBS. Its id is the number, and in an array the index: 12, 12_3.

    Attributes
    ----------
    accepted : Accepted or None
        The answer of qsub; None for a job that was made from its id.
    """

    watcher = PbsInfoWatcher()
    accepted: Accepted | None = None

    def _register_in_watcher(self) -> None:
        if self.accepted is not None:
            self.watcher.whole[number_of(self.accepted.job)] = self.accepted.job
        super()._register_in_watcher()

    def cancel(self, check: bool = True) -> None:
        """Delete the job, waiting or running. One that has ended is no error.

        Parameters
        ----------
        check : bool
            Raise what the scheduler says against it.

        Raises
        ------
        SchedulerUnreachableError, SchedulerRefusedError
            Only with `check`.
        """
        job, index = self.watcher.job_of(self.job_id)
        size = 0 if index == PLAIN else index + 1
        try:
            make_scheduler().cancel(Job(job, "", size, 0.0), None if index == PLAIN else [index])
        except Exception:
            if check:
                raise


class PbsJobEnvironment(job_environment.JobEnvironment):
    """What a job of PBS knows of itself."""

    _env: ClassVar[dict[str, str]] = {
        "job_id": "PBS_JOBID",
        "array_job_id": "PBS_ARRAY_ID",
        "array_task_id": "PBS_ARRAY_INDEX",
        "num_tasks": _ABSENT,
        "num_nodes": _ABSENT,
        "node": _ABSENT,
        "global_rank": _ABSENT,
        "local_rank": _ABSENT,
    }

    @property
    def scheduler_job(self) -> str:
        """The id of the job, or of its array, as PBS writes it: "12.server", "12[].server"."""
        return self.array_job_id or self.raw_job_id

    @property
    def job_id(self) -> str:
        """The id by which submitit's files are named: 12, or 12_3 in an array."""
        number = number_of(self.scheduler_job)
        return number if self.array_task_id is None else f"{number}_{self.array_task_id}"

    @property
    def hostnames(self) -> Sequence[str]:
        """The hosts of the job, each once, in the order of PBS_NODEFILE."""
        try:
            lines = Path(os.environ["PBS_NODEFILE"]).read_text().split()
        except (KeyError, OSError):
            return [self.hostname]
        return list(dict.fromkeys(lines)) or [self.hostname]

    def _handle_signals(self, paths: utils.JobPaths, submission: utils.DelayedSubmission) -> None:
        handler = job_environment.SignalHandler(self, paths, submission)
        signal.signal(signal.SIGCONT, handler.bypass)
        signal.signal(signal.SIGTERM, handler.checkpoint_and_exit)
        signal.signal(self._usr_sig(), handler.checkpoint_and_exit)


class PbsExecutor(core.PicklingExecutor):
    """Runs pickled functions as jobs of PBS; several at once become an array (`qsub -J`).

    Parameters
    ----------
    folder : path
        For scripts, pickles and logs; on a file system that the compute nodes share.
    max_num_timeout : int
        Without meaning on PBS: nothing is put back into the queue.
    python : str, optional
        Words of shell that start Python; this Python unless given.

    Notes
    -----
    What `update_parameters` takes:

    timeout_min : float, or walltime : str
        The walltime ("4:00:00"); there is no default.
    queue, account : str
        `-q`, `-A`.
    cpus_per_task, gpus_per_node, mem_gb
        `ncpus`, `ngpus`, `mem` of the chunk that is asked for.
    select : str
        More of it, such as "gpu_type=a100".
    directives : sequence of str
        More options, such as "-l filesystems=home:eagle".
    array_parallelism : int
        So many of an array at once; 0: no limit.
    signal_delay_s : float
        So long before the end of its walltime a training run stops by itself.
    setup, teardown : sequence of str
        Lines of shell before and after Python.
    variables : dict of str to str
        Set in the job. PBS does not pass the submitting shell's own.
    stderr_to_stdout : bool
        One log for both.
    """

    job_class = PbsJob

    def __init__(
        self,
        folder: str | Path,
        max_num_timeout: int = 0,
        max_pickle_size_gb: float = 1.0,
        python: str | None = None,
    ) -> None:
        super().__init__(folder, max_num_timeout=max_num_timeout, max_pickle_size_gb=max_pickle_size_gb)
        self.python = shlex.quote(sys.executable) if python is None else python

    @classmethod
    def name(cls) -> str:
        """Return the word by which submitit knows it: `cluster="pbs"`."""
        return "pbs"

    @classmethod
    def affinity(cls) -> int:
        """Return 0 where there is a `qsub`: only who asks for it gets it, since Slurm can have one too."""
        return -1 if shutil.which("qsub") is None else 0

    @classmethod
    def _equivalence_dict(cls) -> core.EquivalenceDict:
        same = ("timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
        return {"name": "job_name", **{name: name for name in same}}  # type: ignore[typeddict-item]

    @classmethod
    def _valid_parameters(cls) -> set[str]:
        return _Parameters(PARAMETERS)

    def _internal_update_parameters(self, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in PARAMETERS:
                raise UsageError(
                    f"the PBS executor has no parameter {name!r}",
                    hint=suggest(name, list(PARAMETERS)) or f"there are: {', '.join(sorted(PARAMETERS))}",
                )
        given = dict(kwargs)
        if given.get("walltime") is not None:
            given["timeout_min"] = parse_time(given["walltime"]) / 60
        merged = {**self.parameters, **given}
        if (merged.get("nodes") or 1) != 1 or (merged.get("tasks_per_node") or 1) != 1:
            raise UsageError(
                "the PBS executor starts one process on one node",
                hint="leave nodes and tasks_per_node away; give it more cpus_per_task or gpus_per_node",
            )
        super()._internal_update_parameters(**given)

    def _internal_process_submissions(
        self, delayed_submissions: list[utils.DelayedSubmission]
    ) -> list[core.Job[Any]]:
        seconds = self._walltime_s()
        if len(delayed_submissions) == 1:  # PBS refuses arrays of one
            return super()._internal_process_submissions(delayed_submissions)
        folder = utils.JobPaths.get_first_id_independent_folder(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        pickles = []
        for delayed in delayed_submissions:
            pickles.append(folder / f"{uuid.uuid4().hex}.pkl")
            delayed.set_timeout(math.ceil(seconds / 60), self.max_num_timeout)
            delayed.dump(pickles[-1])
        self._throttle()
        accepted, script = self._hand_over(self._submitit_command_str, len(pickles))
        jobs: list[core.Job[Any]] = [self._job(accepted, index) for index in range(len(pickles))]
        for job, pickle in zip(jobs, pickles, strict=True):
            job.paths.move_temporary_file(pickle, "submitted_pickle")
        jobs[0].paths.move_temporary_file(script, "submission_file")
        return jobs

    def _submit_command(self, command: str) -> core.Job[Any]:
        accepted, script = self._hand_over(command, 0)
        job = self._job(accepted, None)
        job.paths.move_temporary_file(script, "submission_file")
        return job

    def _hand_over(self, command: str, size: int) -> tuple[Accepted, Path]:
        folder = utils.JobPaths.get_first_id_independent_folder(self.folder)
        (folder / "pbs_output").mkdir(parents=True, exist_ok=True)
        script = folder / f".submission_file_{uuid.uuid4().hex}.sh"
        script.write_text(self._script(command, size))
        return make_scheduler().submit(script), script

    def _job(self, accepted: Accepted, index: int | None) -> PbsJob[Any]:
        number = number_of(accepted.job)
        job: PbsJob[Any] = PbsJob(self.folder, number if index is None else f"{number}_{index}")
        job.accepted = accepted
        job._register_in_watcher()
        return job

    def _walltime_s(self) -> float:
        minutes = self.parameters.get("timeout_min")
        if not minutes or minutes <= 0:
            raise UsageError(
                "a job of PBS needs a time limit", hint="executor.update_parameters(timeout_min=240)"
            )
        return float(minutes) * 60

    def _script(self, command: str, size: int) -> str:
        """Return the text of a job's script; `size` 0: a plain job."""
        asked = {
            **PARAMETERS,
            **{name: value for name, value in self.parameters.items() if value is not None},
        }
        seconds = self._walltime_s()
        paths = utils.JobPaths(self.folder)
        out, err = str(paths.stdout), str(paths.stderr)
        return render(
            "submitit_pbs.sh.j2",
            {
                "directives": directives(asked, seconds, size, paths),
                "work_s": working_time_s(seconds, asked["signal_delay_s"]),
                "stdout": out,
                "stderr": out if asked["stderr_to_stdout"] else err,
                "folder": Path.cwd(),
                "umask": own_umask(),
                "variables": variables(asked["variables"]),
                "setup": list(asked["setup"]),
                "teardown": list(asked["teardown"]),
                "command": command,
            },
        )

    @property
    def _submitit_command_str(self) -> str:
        return f"{self.python} -u -m submitit.core._submit {shlex.quote(str(self.folder))}"

    def _num_tasks(self) -> int:
        return 1

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        return self._script(command, 0)

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        return ["qsub", str(submission_file_path)]

    @staticmethod
    def _get_job_id_from_submission_command(string: bytes | str) -> str:
        return number_of(string if isinstance(string, str) else string.decode(errors="replace"))


def number_of(job: str) -> str:
    """Return the number of a job: "12" of "12[].server".

    Raises
    ------
    UsageError
        There is none.
    """
    found = re.match(r"\s*(\d+)", job)
    if found is None:
        raise UsageError(
            f"{job!r} is not the id of a PBS job", hint="an id looks like 1234.server or 1234[5].server"
        )
    return found[1]
