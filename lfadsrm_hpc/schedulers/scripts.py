"""The scripts of a submission: one a job of the scheduler, and one a packed task for the runs that it shares.

A job's script comes from `site/<name of the site>.sh.j2` or `<scheduler>.sh.j2`, found first in the project's
templates, then the user's, then the packaged ones; it is ordinary bash. In it a task looks up its run in
`tasks.tsv` by chunk and index.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lfadsrm_hpc.command import ask
from lfadsrm_hpc.errors import ConfigError, UsageError
from lfadsrm_hpc.layout import CollectionLayout, SubmissionLayout
from lfadsrm_hpc.manifest.records import LOCAL
from lfadsrm_hpc.manifest.submissions import Plan, PlannedChunk, PlannedTask
from lfadsrm_hpc.rendering import choose_template, render
from lfadsrm_hpc.schedulers.packed import render_packed_queue
from lfadsrm_hpc.schedulers.resources import JobRequest
from lfadsrm_hpc.schedulers.sites.site import Site
from lfadsrm_hpc.schedulers.units import format_time, parse_time

_SUBMIT = {"slurm": "sbatch", "pbspro": "qsub", "torque": "qsub"}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LEAST_LATENCY_S = 5
_MOST_WARNING_S = 65535  # Slurm takes no more
_BASH_TIMEOUT_S = 60.0


def render_chunk(
    layout: CollectionLayout,
    submission: SubmissionLayout,
    plan: Plan,
    chunk: PlannedChunk,
    tasks: Sequence[PlannedTask],
    site: Site,
    request: JobRequest,
    *,
    titles: Mapping[str, str],
    gpu_memory_mb: Mapping[str, int],
    task_command: Sequence[str] | None = None,
    search: Sequence[Path] = (),
    posterior_only: bool = False,
) -> dict[str, str]:
    """Return the scripts of one job of a scheduler.

    Parameters
    ----------
    layout, submission
        Absolute paths, as the job's machines see them.
    plan : Plan
    chunk : PlannedChunk
    tasks : sequence of PlannedTask
        Those of the chunk.
    site : Site
    request : JobRequest
        What each task asks for.
    titles : dict of str to str
        Run id to the run for people.
    gpu_memory_mb : dict of str to int
        Run id to the GPU memory that a run needs of a GPU that it shares, MiB.
    task_command : sequence of str, optional
        The program that does one run. Without it: this Python by its full path, or, where the site has a line
        of activation, the `python` that it puts on the path.
    search : sequence of Path
        Folders with templates, before the packaged ones.
    posterior_only : bool
        Sample posterior means again; train nothing.

    Returns
    -------
    dict of str to str
        Paths relative to the submission's folder (`script-0.sh`, `queues/0-3.sh`), and texts.

    Raises
    ------
    TemplateError
        A template is malformed, or a name or path cannot stand where it would have to.
    ConfigError
        What the site says makes no script: no bash, no name of a cluster, lines that bash cannot read.
    """
    _check_plan(plan, site, chunk, tasks)
    packed = site.packing.runs > 1
    command = tuple(task_command) if task_command else _command(site)
    title = titles.get(tasks[0].run_id, tasks[0].run_id)
    values = {
        "collection": layout.path,
        "submission": submission,
        "outbox": layout.outbox,
        "cluster": _cluster(plan),
        "plan": plan,
        "chunk": chunk,
        "site": site,
        "request": request,
        "packed": packed,
        "posterior_only": posterior_only,
        "heading": _heading(layout.name, len(tasks), title, packed=packed),
        "partition": site.partition_option(request.partition),
        "gpu_option": site.gpu_option(request.gpus, request.gpu_type),
        "memory_mb": request.memory_mb if site.request.memory_directive else None,
        "walltime": format_time(request.walltime_s),
        "warning_s": warning_s(site, request),
        "directives": (*site.partition(request.partition).directives, *site.request.directives),
        "shell": _shell(site),
        "shell_program": _shell_program(site),
        "submit_command": f"{_SUBMIT[site.scheduler]} script-{chunk.number}.sh",
        "latency_s": max(_LEAST_LATENCY_S, math.ceil(site.filesystem.latency_s)),
        "task_command": command,
    }
    template = choose_template((f"site/{site.name}.sh.j2", f"{site.scheduler}.sh.j2"), search)
    text = render(template, values, search=search)
    _check_syntax(text, template)
    scripts = {submission.script(chunk.number).relative_to(submission.path).as_posix(): text}
    if packed:
        scripts |= _queues(
            layout,
            submission,
            tasks,
            site,
            request,
            titles=titles,
            gpu_memory_mb=gpu_memory_mb,
            command=command,
            posterior_only=posterior_only,
        )
    return scripts


def warning_s(site: Site, request: JobRequest) -> int:
    """Return how long before the end of its walltime a task checkpoints, s; at most half of its time.

    It begins so long before that, or, where the scheduler's signal comes first, up to a minute earlier.
    """
    wished = parse_time(site.stopping.warning, where="stopping.warning")
    return max(1, min(wished, request.walltime_s // 2, _MOST_WARNING_S))


def _queues(
    layout: CollectionLayout,
    submission: SubmissionLayout,
    tasks: Sequence[PlannedTask],
    site: Site,
    request: JobRequest,
    *,
    titles: Mapping[str, str],
    gpu_memory_mb: Mapping[str, int],
    command: Sequence[str],
    posterior_only: bool,
) -> dict[str, str]:
    by_index: dict[int, list[PlannedTask]] = {}
    for task in tasks:
        by_index.setdefault(task.index, []).append(task)
    scripts = {}
    for index, runs in by_index.items():
        path = submission.queue_script(runs[0].chunk, index)
        scripts[path.relative_to(submission.path).as_posix()] = render_packed_queue(
            layout,
            submission.ulid,
            path,
            runs,
            site,
            request,
            titles=titles,
            gpu_memory_mb=gpu_memory_mb,
            task_command=command,
            posterior_only=posterior_only,
        )
    return scripts


def _check_plan(plan: Plan, site: Site, chunk: PlannedChunk, tasks: Sequence[PlannedTask]) -> None:
    if site.scheduler not in _SUBMIT:
        raise ConfigError(
            f"the site {site.name!r} has no batch scheduler", hint="`lfadsrm run` trains on this machine"
        )
    if not tasks or any(task.chunk != chunk.number for task in tasks):
        raise UsageError(
            f"these are not the tasks of chunk {chunk.number} of submission {plan.ulid}",
            hint="this is a mistake of the program: please report it with the plan",
        )
    for name in site.environment.variables:
        if not _VARIABLE.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be the name of a variable", where="environment.variables")


def _cluster(plan: Plan) -> str:
    name = plan.cluster or plan.site
    if not name or name == LOCAL:
        raise ConfigError(f"the name of a cluster cannot be {name!r}", hint="give its site another name")
    return name


def _shell(site: Site) -> str:
    shell = site.environment.shell
    if not shell.startswith("/") or not shell.isprintable() or "bash" not in shell:
        raise ConfigError(
            f"the script of a job needs bash, and environment.shell is {shell!r}",
            where=f"site {site.name!r}",
            hint='shell = "/bin/bash"; what another shell needs can stand in setup',
        )
    return shell


def _shell_program(site: Site) -> str:
    """Return the path that `#PBS -S` takes: one word."""
    program = site.environment.shell.split()[0]
    return program if "bash" in Path(program).name else "/bin/bash"


def _command(site: Site) -> tuple[str, ...]:
    python = "python" if site.environment.activation else sys.executable
    return (python, "-m", "lfadsrm_hpc", "task")


def _heading(collection: str, n_runs: int, title: str, *, packed: bool) -> str:
    if n_runs == 1:
        return f"One run of the collection {collection}: {title}"
    share = "several runs a task" if packed else "one run a task"
    return f"{n_runs} runs of the collection {collection}, {share}; the first is {title}"


def _check_syntax(text: str, template: str) -> None:
    """Have bash read the script, which holds lines of the site, so that a slip shows now and not tonight."""
    answer = ask(["bash", "-n"], stdin=text, timeout_s=_BASH_TIMEOUT_S, check=False)
    if answer.returncode != 0:
        raise ConfigError(
            f"bash cannot read the script of a job: {answer.stderr.strip()}",
            where=template,
            hint="correct the lines of the site's [environment], or the template",
        )
