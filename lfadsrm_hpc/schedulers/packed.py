"""Several runs in one task of a job: the local queue, told which attempts are its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest.submissions import PlannedTask
from lfadsrm_hpc.schedulers.local import LocalQueueOptions, queue_script_text
from lfadsrm_hpc.schedulers.queue_tasks import QueueTask
from lfadsrm_hpc.schedulers.resources import GPU_MEMORY_MB, JobRequest, Request
from lfadsrm_hpc.schedulers.sites.site import Site

_OF_THE_JOB = ("LFADSRM_CLUSTER", "LFADSRM_JOB", "LFADSRM_DEADLINE", "LFADSRM_CORES")
_OF_THE_SITE = ("max_per_gpu", "max_restarts", "cpu_cap", "poll_s", "look_s")
_MAX_RESTARTS = 1  # what was killed for want of memory would be killed again; `lfadsrm retry` asks for more


def render_packed_queue(
    layout: CollectionLayout,
    submission: str,
    script: Path,
    tasks: Sequence[PlannedTask],
    site: Site,
    request: JobRequest,
    *,
    titles: Mapping[str, str],
    gpu_memory_mb: Mapping[str, int],
    task_command: Sequence[str],
    posterior_only: bool = False,
) -> str:
    """Return the queue script of one packed task.

    Parameters
    ----------
    layout : CollectionLayout
    submission : str
        ULID.
    script : Path
        Where the script will lie.
    tasks : sequence of PlannedTask
        The runs of the task: all with the same chunk and index.
    site : Site
    request : JobRequest
        What the whole task asks for.
    titles, gpu_memory_mb
        See `scripts.render_chunk`.
    task_command : sequence of str
    posterior_only : bool

    Raises
    ------
    UsageError
        An option of the site's [queue] has the wrong type or range.
    """
    queued = [
        QueueTask(
            task.run_id,
            Request(gpu_memory_mb.get(task.run_id, GPU_MEMORY_MB)),
            titles.get(task.run_id, "").removeprefix(task.run_id).strip(),
        )
        for task in tasks
    ]
    return queue_script_text(
        layout,
        queued,
        _options(site, request, task_command, posterior_only),
        submission,
        script=script,
        packed={"index": tasks[0].index, "attempts": [task.attempt for task in tasks]},
    )


def _options(
    site: Site, request: JobRequest, task_command: Sequence[str], posterior_only: bool
) -> LocalQueueOptions:
    said: dict[str, Any] = {name: site.queue[name] for name in _OF_THE_SITE if name in site.queue}
    own = [name for name in site.environment.variables if name.startswith("LFADSRM_")]
    return LocalQueueOptions(
        **{"max_restarts": _MAX_RESTARTS, **said},
        slots=site.packing.slots,
        use_gpu=request.gpus > 0,
        max_attempts=1,
        keep_environment=(*_OF_THE_JOB, *site.environment.keep, *own),
        posterior_only=posterior_only,
        task_command=tuple(task_command),
    )
