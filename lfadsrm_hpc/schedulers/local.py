"""The local queue: a bash script that does the runs of a collection on this machine, by GPUs or by cores.

The script (template `run_queue.sh.j2`) works alone: it decides by the exit status of each task, and keeps
small `<run key>.<state>` files in `.lfadsrm/local/<host>/` of the collection, so that a second queue on the
same host knows what the first one left running. Attempts are taken by the `task` command that it starts.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lfadsrm_hpc.command import Process as QueueProcess
from lfadsrm_hpc.command import ask, launch
from lfadsrm_hpc.errors import CommandError, NotFoundError, NothingEligibleError, SchedulerError, UsageError
from lfadsrm_hpc.layout import CollectionLayout, run_key
from lfadsrm_hpc.manifest.publish import publish_replacing
from lfadsrm_hpc.rendering import render
from lfadsrm_hpc.schedulers.queue_tasks import QueueTask
from lfadsrm_hpc.schedulers.resources import check_count

_VARIABLE = re.compile(r"LFADSRM_[A-Z0-9_]+")
_DETACH_TIMEOUT_S = 60.0

EXIT_OK = 0
EXIT_SOME_FAILED = 5
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class LocalQueueOptions:
    """How a local queue works. Which runs it does, and in which order, is its list of tasks.

    Parameters
    ----------
    slots : int or None
        At most so many runs at once. None: as many as there are cores for (cores / `cpu_cap`).
    cpu_cap : int or None
        Threads a run. None: the cores shared among the runs that are done at once, at most 4 each.
    max_per_gpu : int or None
        At most so many runs on one GPU; None: as many as fit into its free memory.
    use_gpu : bool or None
        None: GPUs where nvidia-smi shows any. True: it is an error if there is none. False: cores only.
        A CUDA_VISIBLE_DEVICES that is set when the queue starts limits the choice; empty means no GPU.
    max_attempts : int
        So often a run may fail by itself before it is given up.
    max_restarts : int
        So often a run is started again after it was killed or stopped at a checkpoint.
    environment : tuple of str
        Lines of shell that come first in the scripts: activation, `module load`. Taken as they are; a line
        that fails stops the script.
    tensorboard : bool
        Start the collection's `launch_tensorboard.sh` with the queue, on `tensorboard_port` (6006), and stop
        it with the queue.
    survive_hangup : bool
        The script goes on in the background, in a session of its own, when its terminal ends.
        The same as `bash run_queue.sh --detach`.
    posterior_only : bool
        Sample posterior means from the checkpoints that are there; train nothing.
    poll_s : float
        Seconds between two looks at the queue's own runs.
    look_s : int
        Seconds between two looks at GPUs and at the runs of other queues while something waits for room.
    recheck_s : int
        Seconds until a run that another task owns (exit status 64) is tried again.
    keep_environment : tuple of str
        The `LFADSRM_*` variables of the caller that reach the runs; all others are taken away.
    task_command : tuple of str
        The program that does one run.

    Raises
    ------
    UsageError
        A value has the wrong type or range.
    """

    slots: int | None = None
    cpu_cap: int | None = None
    max_per_gpu: int | None = 4
    use_gpu: bool | None = None
    max_attempts: int = 1
    max_restarts: int = 10
    environment: tuple[str, ...] = ()
    tensorboard: bool = False
    tensorboard_port: int = 6006
    survive_hangup: bool = False
    posterior_only: bool = False
    poll_s: float = 0.5
    look_s: int = 2
    recheck_s: int = 60
    keep_environment: tuple[str, ...] = ()
    task_command: tuple[str, ...] = field(
        default_factory=lambda: (sys.executable, "-m", "lfadsrm_hpc", "task")
    )

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_choices()
        self._check_texts()

    def _check_numbers(self) -> None:
        for name in ("slots", "cpu_cap", "max_per_gpu"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        check_count("max_attempts", self.max_attempts)
        for name in ("max_restarts", "look_s", "recheck_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise UsageError(
                    f"{name} must be a whole number of at least 0, not {value!r}", hint="give 0, 1, 2, ..."
                )
        check_count("tensorboard_port", self.tensorboard_port)
        if self.tensorboard_port > 65535:
            raise UsageError(
                f"there is no port {self.tensorboard_port}",
                hint="ports go up to 65535",
            )
        if isinstance(self.poll_s, bool) or not isinstance(self.poll_s, int | float):
            raise UsageError(
                f"poll_s must be a number of seconds, not {self.poll_s!r}",
                hint="give a number from 0.01 to 60",
            )
        if not 0.01 <= self.poll_s <= 60:
            raise UsageError(
                f"poll_s must be between 0.01 and 60 seconds, not {self.poll_s!r}",
                hint="give a number from 0.01 to 60",
            )

    def _check_choices(self) -> None:
        for name in ("tensorboard", "survive_hangup", "posterior_only"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(
                    f"{name} must be true or false, not {getattr(self, name)!r}", hint="give True or False"
                )
        if self.use_gpu is not None and not isinstance(self.use_gpu, bool):
            raise UsageError(
                f"use_gpu must be true, false or left out, not {self.use_gpu!r}",
                hint="leave it out to use the GPUs that are there",
            )

    def _check_texts(self) -> None:
        for name in ("environment", "keep_environment", "task_command"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
                raise UsageError(
                    f"{name} must be a list of texts, not {value!r}",
                    hint="put texts into a list, also where there is one",
                )
        if not self.task_command:
            raise UsageError(
                "task_command names no program", hint="give the program and its arguments as a list"
            )
        for line in self.environment:
            if any(c in line for c in "\0\n\r"):
                raise UsageError(f"the environment line {line!r} is more than one line", hint="give a list")
        for name in self.keep_environment:
            if not _VARIABLE.fullmatch(name):
                raise UsageError(
                    f"keep_environment: {name!r} is not the name of an LFADSRM_ variable",
                    hint="name variables that begin with LFADSRM_",
                )


def render_queue_script(
    layout: CollectionLayout, tasks: Sequence[QueueTask], options: LocalQueueOptions, submission: str
) -> str:
    """Return the text of the queue script; see `write_queue_script`."""
    return queue_script_text(layout, tasks, options, submission, script=layout.queue_script)


def queue_script_text(
    layout: CollectionLayout,
    tasks: Sequence[QueueTask],
    options: LocalQueueOptions,
    submission: str,
    *,
    script: Path,
    packed: Mapping[str, object] | None = None,
) -> str:
    """Return the text of a queue script that will lie at `script`.

    Parameters
    ----------
    packed : dict, optional
        It is one task of a job: `index` of the task, and `attempts`, which are reserved for its runs.
    """
    _check_tasks(layout, tasks)
    return render(
        "run_queue.sh.j2",
        {
            "collection": layout.path,
            "collection_name": layout.name,
            "script": script,
            "packed": packed,
            "state_root": layout.queue_state_dir("any").parent,
            "outbox": layout.outbox,
            "tensorboard": layout.tensorboard_script,
            "submission": submission,
            "tasks": [
                {
                    "run_id": task.run_id,
                    "key": run_key(task.run_id),
                    "title": task.title,
                    "memory_mb": task.request.gpu_memory_mb,
                }
                for task in tasks
            ],
            "use_gpu": {None: "auto", True: "yes", False: "no"}[options.use_gpu],
            "poll": f"{options.poll_s:g}",
            "options": options,
        },
    )


def write_queue_script(
    layout: CollectionLayout, tasks: Sequence[QueueTask], options: LocalQueueOptions, submission: str
) -> Path:
    """Write `run_queue.sh` of a collection, and a `run.sh` for each of its runs.

    Parameters
    ----------
    layout : CollectionLayout
        The collection; its path is made absolute.
    tasks : sequence of QueueTask
        The runs, in the order in which they start.
    options : LocalQueueOptions
        How the queue works.
    submission : str
        ULID of the submission. Starting the same script again goes on with the same submission.

    Returns
    -------
    Path
        `<collection>/run_queue.sh`. A script that is being executed is replaced, never changed.

    Raises
    ------
    NothingEligibleError
        There are no tasks.
    UsageError
        A run is named twice, or an id is none.
    NotFoundError
        A run has not been prepared.
    TemplateError
        A name cannot be quoted for a shell.
    SchedulerError
        A line of the environment is not valid shell.
    """
    layout = CollectionLayout(layout.path.absolute())
    text = render_queue_script(layout, tasks, options, submission)
    for task in tasks:
        if not layout.run_by_id(task.run_id).params_json.is_file():
            raise NotFoundError(
                f"run {task.run_id!r} has not been prepared", where=layout.path, hint="prepare the collection"
            )
    _check_syntax(text, options)
    for number, task in enumerate(tasks, start=1):
        _write_run_script(layout, task, number, options, submission)
    _publish_script(layout.queue_script, text)
    return layout.queue_script


def _publish_script(path: Path, text: str) -> None:
    publish_replacing(path, text.encode(), script=True)


def _write_run_script(
    layout: CollectionLayout, task: QueueTask, number: int, options: LocalQueueOptions, submission: str
) -> None:
    run = layout.run_by_id(task.run_id)
    text = render(
        "run.sh.j2",
        {
            "collection": layout.path,
            "run_id": task.run_id,
            "title": task.title,
            "submission": submission,
            "number": number,
            "options": options,
        },
    )
    _publish_script(run.script, text)


def _check_tasks(layout: CollectionLayout, tasks: Sequence[QueueTask]) -> None:
    if not tasks:
        raise NothingEligibleError("no run is left for the queue", where=layout.path)
    seen: set[str] = set()
    for task in tasks:
        layout.run_by_id(task.run_id)  # raises where the id is none
        if task.run_id in seen:
            raise UsageError(
                f"run {task.run_id!r} stands twice in the list for the queue", hint="name each run once"
            )
        seen.add(task.run_id)


def _check_syntax(text: str, options: LocalQueueOptions) -> None:
    """Have bash read a script that holds the user's own lines, so that a slip shows now and not tonight."""
    if not options.environment:
        return
    answer = ask(["bash", "-n"], stdin=text, timeout_s=60, check=False)
    if answer.returncode != 0:
        raise SchedulerError(
            f"bash cannot read the script with these environment lines: {answer.stderr.strip()}",
            where="; ".join(options.environment),
            hint="correct the lines of the option 'environment'",
        )


def start_queue(script: Path, *, log: Path | None = None) -> QueueProcess:
    """Start a queue script and return its process; wait for it with `wait_for_queue`.

    Parameters
    ----------
    script : Path
        What `write_queue_script` returned.
    log : Path, optional
        Where its reports go, anew; standard error unless given.

    Raises
    ------
    CommandError
        bash cannot be started.
    """
    command = ["bash", str(script), "--foreground"]
    if log is None:
        return launch(command)
    with log.open("wb") as file:
        return launch(command, stdout=file, stderr=file)


def detach_queue(script: Path) -> int:
    """Start a queue script in the background, in a session of its own, and return its process id.

    It goes on when this process and its terminal end; TERM stops it, and its runs checkpoint.

    Raises
    ------
    CommandError
        The queue could not be put into the background; the text says why.
    """
    command = ["bash", str(script), "--detach"]
    answer = ask(command, timeout_s=_DETACH_TIMEOUT_S)
    pid = answer.stdout.strip()
    if not pid.isdigit():
        raise CommandError("the queue gave no process id", command=command, stdout=answer.stdout)
    return int(pid)


def wait_for_queue(queue: QueueProcess) -> int:
    """Wait for a queue and return its exit status.

    0 all done, 3 cannot start, 5 some runs failed, 130 interrupted: see `EXIT_OK` and its neighbours.
    Ctrl-C is passed on, and the wait goes on: the queue ends when its runs have checkpointed.
    """
    while True:
        try:
            return queue.wait()
        except KeyboardInterrupt:
            # In a terminal the queue has had the signal as well; in a notebook it has not.
            if queue.poll() is None:
                queue.send_signal(signal.SIGTERM)
