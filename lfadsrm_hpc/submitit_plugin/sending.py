"""Hand runs of a collection to a submitit executor.

On Slurm and PBS attempts are reserved, and the plan, the sendings and the receipts are put on record as for
any other submission, so that `lfadsrm status` can ask the scheduler; only the scripts are submitit's. The
plan holds ordinary scripts as well: what was planned and not sent is sent by `lfadsrm submit`. On this
machine (executors local and debug) nothing is reserved: a job takes its run when it starts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from submitit.core.core import Executor, Job
from submitit.core.utils import JobPaths

from lfadsrm_hpc.collection.labels import params_label, varying_names
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.errors import ConfigError, NothingEligibleError, UsageError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import BAD_DATA, new_ulid
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.known import make_scheduler
from lfadsrm_hpc.schedulers.planning import Wish
from lfadsrm_hpc.schedulers.resources import JobRequest
from lfadsrm_hpc.schedulers.sites import loading as sites
from lfadsrm_hpc.schedulers.sites.site import Packing, Site
from lfadsrm_hpc.schedulers.submission import Drafting, Sender, publish
from lfadsrm_hpc.schedulers.tracking import track
from lfadsrm_hpc.schedulers.units import parse_memory
from lfadsrm_hpc.submitit_plugin.handing import Handing, deaf, dressed, own_environment, walltime_s
from lfadsrm_hpc.submitit_plugin.payload import TrainRun

_SCHEDULERS = {"slurm": "slurm", "pbs": "pbspro"}
_LOCAL = ("local", "debug")
_UNASKED = frozenset(
    {
        RunState.PREPARED,
        RunState.TIMEOUT,
        RunState.OUT_OF_MEMORY,
        RunState.NODE_FAIL,
        RunState.PREEMPTED,
        RunState.LOST,
    }
)
"""What is submitted unless runs are named: runs that are new, or that something other than they ended."""

Tell = Callable[[str], None]


class Collection(Protocol):
    """What is needed of a run collection."""

    @property
    def layout(self) -> CollectionLayout: ...
    @property
    def runs(self) -> Sequence[Run]: ...
    @property
    def params(self) -> Sequence[Any]: ...


def submit_with(
    collection: Collection,
    executor: Executor,
    runs: Iterable[Run] | None = None,
    *,
    site: str | None = None,
    max_parallel: int = 0,
    tell: Tell | None = None,
) -> dict[str, Job[Any]]:
    """Submit runs through a submitit executor; their jobs claim, train and record as any other.

    Parameters
    ----------
    collection : RunCollection
    executor : submitit executor
        Local, debug, Slurm, this package's PBS, or an AutoExecutor for one of them. Its folder must lie
        outside the collection, and its time limit must be set (`update_parameters(timeout_min=...)`).
    runs : iterable of Run, optional
        All that are new or were ended by something else (time, node, preemption) unless given.
    site : str, optional
        Name of the site on whose record the submission stands; on a cluster that is not described the
        generic one of its scheduler.
    max_parallel : int
        So many tasks of an array at once; 0: what the executor says.
    tell : callable, optional
        Is told what happens.

    Returns
    -------
    dict of str to submitit.Job
        By run id, the runs that were submitted. One that is complete, or that another task has, is left out.
        `job.result()` waits and returns the run's `RunStatus`, or raises what became of it.

    Raises
    ------
    NothingEligibleError
        No run is left to be done.
    UsageError
        The executor cannot be used like this; the message says what to change.
    SchedulerRefusedError, SchedulerUnreachableError, PartlySubmittedError, SubmissionUncertainError
        See `schedulers.submission.Sender.send`.
    """
    tell = tell or (lambda text: None)
    inner: Executor = getattr(executor, "_executor", executor)
    _check_executor(collection.layout, executor, inner)
    chosen = _eligible(collection, runs, tell)
    for run in chosen:
        run.check_inputs()
    if inner.name() not in _SCHEDULERS:
        return _submit_here(collection.layout, executor, inner, chosen)
    described = _site(collection.layout, site, inner)
    handing = Handing(collection.layout, executor, inner, make_scheduler(described))
    request = _request(inner)
    varying = varying_names(list(collection.params))
    wishes = [
        Wish(
            run.id,
            request,
            attempt=_next_attempt(run),
            title=params_label(run.params, varying),
            gpu_memory_mb=run.params.gpu_memory_mb,
        )
        for run in chosen
    ]
    loaded = Drafting(collection.layout, described, max_parallel=max_parallel)
    submission = publish(loaded, wishes, tell)
    handing.read(submission)
    Sender(collection.layout, tell).send(submission, handing)
    handing.check_complete()
    return handing.jobs


def _check_executor(layout: CollectionLayout, executor: Executor, inner: Executor) -> None:
    if executor._delayed_batch is not None or inner._delayed_batch is not None:
        raise UsageError(
            "submit_with makes its own array", hint="call it outside of `with executor.batch():`"
        )
    folder = JobPaths.get_first_id_independent_folder(executor.folder).resolve()
    collection = layout.path.resolve()
    if folder == collection or collection in folder.parents:
        raise UsageError(
            "the folder of the executor lies in the run collection",
            where=executor.folder,
            hint="make the executor with a folder elsewhere: submitit fills it with pickles and logs",
        )
    names = ("nodes", "ntasks_per_node", "tasks_per_node")
    if any((inner.parameters.get(name) or 1) != 1 for name in names):
        raise UsageError("a run is one task on one node", hint="leave nodes and tasks_per_node away")
    timed = inner.name() == "debug" or any(inner.parameters.get(name) for name in ("time", "timeout_min"))
    if inner.name() in (*_SCHEDULERS, *_LOCAL) and not timed:
        raise UsageError(
            "the executor has no time limit, and submitit's own is a few minutes",
            hint="executor.update_parameters(timeout_min=...)",
        )


def _eligible(collection: Collection, runs: Iterable[Run] | None, tell: Tell) -> list[Run]:
    """Return the runs that are to be done, of those that were asked for."""
    asked = list(collection.runs if runs is None else runs)
    states = store.collection_states(collection.layout, [run.layout for run in asked])
    statuses = track(collection.layout, states).statuses
    chosen = []
    for run in asked:
        status = statuses[run.id]
        free = not status.state.is_live and status.state not in (RunState.COMPLETED, RunState.UNKNOWN)
        wanted = runs is not None or status.state in _UNASKED
        if free and wanted and status.reason != BAD_DATA:
            chosen.append(run)
        elif runs is not None:
            tell(f"left out: {run.id} is {status.state}")
    if not chosen:
        raise NothingEligibleError(
            "no run is left to be submitted",
            where=collection.layout.path,
            hint="`lfadsrm status` shows them; failed and cancelled ones are submitted where they are named",
        )
    return chosen


def _next_attempt(run: Run) -> int:
    attempts = run.layout.attempts()
    return attempts[-1].number + 1 if attempts else 1


# -- this machine --------------------------------------------------------------------------------------


def _submit_here(
    layout: CollectionLayout, executor: Executor, inner: Executor, runs: Sequence[Run]
) -> dict[str, Job[Any]]:
    """Start all at once, which is what these executors do; on this machine each gets its own GPUs."""
    ulid = new_ulid()
    payloads = {run.id: TrainRun(layout.path.absolute(), run.id, submission=ulid) for run in runs}
    shares: Sequence[Mapping[str, Any]] = [{}] * len(runs)
    if inner.name() == "local":
        shares = _shares(inner.parameters, len(runs))
    jobs = {}
    for (run_id, payload), share in zip(payloads.items(), shares, strict=True):
        extra = {**share, "python": deaf(inner)} if inner.name() == "local" else share
        with own_environment(), dressed(inner, **extra):
            jobs[run_id] = executor.submit(payload)
    return jobs


def _shares(parameters: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    """Return what to change for each of several jobs that all start at once on this machine.

    Raises
    ------
    UsageError
        They would share GPUs, or cores.
    """
    each = int(parameters.get("gpus_per_node") or 0)
    hint = "give fewer runs, or let the local queue do them one after the other: `lfadsrm run`"
    if each == 0:
        threads = os.environ.get("LFADSRM_THREADS", "")
        most = max(1, (os.cpu_count() or 1) // (int(threads) if threads.isdigit() and int(threads) else 4))
        if count > most:
            raise UsageError(f"submitit would start {count} runs at once on these cores", hint=hint)
        return [{}] * count
    visible = list(parameters.get("visible_gpus") or range(each))
    if count * each > len(visible):
        raise UsageError(
            f"submitit would start {count} runs at once on {len(visible)} GPUs ({each} a run)",
            hint=f"update_parameters(visible_gpus=[0, 1, ...]) names more; or {hint}",
        )
    return [{"visible_gpus": visible[n * each : (n + 1) * each]} for n in range(count)]


# -- a cluster -----------------------------------------------------------------------------------------


def _site(layout: CollectionLayout, name: str | None, inner: Executor) -> Site:
    """Return the site that stands on record; one run a task, since a job of submitit has one payload."""
    given = inner.parameters
    project, scheduler = sites.project_of(layout.path), _SCHEDULERS[inner.name()]
    try:
        found = sites.choose_site(name, project=project).site
    except ConfigError:
        if name is not None:
            raise
        found = None
    if found is None or (found.scheduler != scheduler and name is None):
        found = sites.load_site(f"generic-{scheduler}", project=project).site
    if found.scheduler != scheduler:
        raise UsageError(
            f"site {found.name!r} has {found.scheduler}, and the executor is for {scheduler}",
            hint="take the executor of the site's scheduler, or name another site",
        )
    account, qos = given.get("account"), given.get("qos")
    options = replace(
        found.options, account=str(account or found.options.account), qos=str(qos or found.options.qos)
    )
    return replace(found, options=options, packing=Packing())


def _request(inner: Executor) -> JobRequest:
    """Return what the executor's parameters ask for, as this package puts it on record."""
    given = inner.parameters
    memory = given.get("mem_gb")
    memory_mb = math.ceil(memory * 1024) if memory else None
    if memory_mb is None and given.get("mem"):
        memory_mb = parse_memory(str(given["mem"]))
    gpus = given.get("gpus_per_node") or given.get("gpus_per_task") or 0
    return JobRequest(
        walltime_s=walltime_s(given),
        partition=str(given.get("partition") or given.get("queue") or ""),
        gpus=int(gpus) if str(gpus).isdigit() else 1,
        cpus=int(given.get("cpus_per_task") or 1),
        memory_mb=memory_mb,
    )
