"""What the commands for clusters print: plans, costs, what was handed over and what was left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.common import print_json, say
from lfadsrm_hpc.cli.plain_table import print_table
from lfadsrm_hpc.collection.words import counted
from lfadsrm_hpc.errors import SchedulerError

if TYPE_CHECKING:
    from lfadsrm_hpc.api.orders import Planned, Submitted
    from lfadsrm_hpc.schedulers.costs import Cost
    from lfadsrm_hpc.schedulers.resources import Declined, JobRequest

_COLUMNS = ("job", "runs", "tasks", "at once", "partition", "walltime", "cpus", "gpus", "memory", "for")
_NUMBERS = frozenset(_COLUMNS) - {"job", "partition", "for"}


def print_plan(planned: Planned, *, scripts: bool = False) -> None:
    """Print jobs, costs and limits; with `scripts` the runs and the scripts too."""
    for warning in planned.warnings:
        say(f"warning: {warning}")
    site = planned.site
    if planned.unsent:
        click.echo(f"{len(planned.unsent)} jobs of earlier submissions go first: {_some(planned.unsent)}")
    if planned.local_runs:
        click.echo(f"site {site.name}: {len(planned.local_runs)} runs for the local queue, in the background")
    if planned.draft is not None:
        chunks = planned.draft.plan.chunks
        click.echo(
            f"site {site.name} ({site.scheduler}): {counted(len(planned.wishes), 'run')} in "
            f"{counted(len(chunks), 'job')}"
        )
        print_table(_COLUMNS, list(_rows(planned)), numbers=_NUMBERS)
        for limit in planned.draft.arrangement.binding:
            click.echo(f"limit: {limit}")
    if planned.cost is not None:
        for line in cost_lines(planned.cost):
            click.echo(line)
    print_declined(planned.declined)
    if scripts:
        _print_scripts(planned)


def _rows(planned: Planned) -> Iterator[tuple[str, ...]]:
    from lfadsrm_hpc.schedulers.resources import JobRequest
    from lfadsrm_hpc.schedulers.units import format_memory, format_time

    assert planned.draft is not None
    reasons = {wish.run_id: wish.reason for wish in planned.wishes}
    members: dict[int, list[str]] = {}
    for task in planned.draft.arrangement.tasks:
        members.setdefault(task.chunk, []).append(task.run_id)
    for chunk in planned.draft.plan.chunks:
        request: JobRequest = JobRequest(**chunk.request)
        runs = members[chunk.number]
        why = Counter(reasons[run].lower().replace("_", " ") for run in runs if reasons[run])
        yield (
            chunk.name,
            str(len(runs)),
            str(chunk.size or 1),
            str(chunk.max_parallel or ""),
            request.partition,
            format_time(request.walltime_s),
            str(request.cpus),
            (f"{request.gpus} {request.gpu_type}".strip() if request.gpus else ""),
            "" if request.memory_mb is None else format_memory(request.memory_mb),
            ", ".join(f"{count} {word}" for word, count in why.items()),
        )


def cost_lines(cost: Cost) -> Iterator[str]:
    """Yield what it will cost, a line each: at most, as expected, memory, disk."""
    from lfadsrm_hpc.schedulers.units import format_bytes

    yield f"at most:  {_hours(cost.gpu_hours_at_most, cost.core_hours_at_most, cost.elapsed_at_most_s)}"
    if cost.gpu_hours is not None and cost.core_hours is not None and cost.elapsed_s is not None:
        yield f"expected: {_hours(cost.gpu_hours, cost.core_hours, cost.elapsed_s)} (from {cost.basis})"
    elif (
        cost.gpu_hours_at_least is not None
        and cost.core_hours_at_least is not None
        and cost.elapsed_at_least_s is not None
    ):
        least = _hours(cost.gpu_hours_at_least, cost.core_hours_at_least, cost.elapsed_at_least_s)
        yield f"at least: {least} (from {cost.basis}; without max_epochs nobody knows when training ends)"
    else:
        yield "expected: not known; `lfadsrm time` measures some steps"
    if cost.too_long:
        suggestion = f"; {_time(cost.walltime_s)} would hold them" if cost.walltime_s else ""
        yield (
            f"walltime: {counted(len(cost.too_long), 'run')} will need more than one: they checkpoint, and "
            f"`lfadsrm retry` goes on{suggestion}"
        )
    if cost.peak_memory_mb:
        fits = {True: ", which fits", False: ", MORE than is asked for", None: ""}[cost.memory_fits]
        times = f"{cost.at_once} times " if cost.at_once > 1 else ""
        yield f"memory:   {times}{cost.peak_memory_mb:.0f} MiB at its peak{fits}"
    yield f"disk:     {format_bytes(cost.disk_bytes)} of posterior means ({cost.disk_basis})"


def _hours(gpu_hours: float, core_hours: float, elapsed_s: float) -> str:
    gpus = f"{gpu_hours:.1f} GPU hours, " if gpu_hours else ""
    return f"{gpus}{core_hours:.1f} core hours, {_time(elapsed_s)} from the first start to the last end"


def _time(seconds: float | None) -> str:
    from lfadsrm_hpc.schedulers.units import format_time

    return format_time(seconds or 0)


def _print_scripts(planned: Planned) -> None:
    if planned.draft is None:
        for run in planned.local_runs:
            click.echo(run)
        return
    titles = {wish.run_id: wish.title for wish in planned.wishes}
    names = {chunk.number: chunk.name for chunk in planned.draft.plan.chunks}
    rows = [
        (names[task.chunk], str(task.index), task.run_id, str(task.attempt), titles[task.run_id])
        for task in planned.draft.arrangement.tasks
    ]
    click.echo()
    print_table(("job", "index", "run", "attempt", "params"), rows, numbers=("index", "attempt"))
    for name, text in planned.draft.scripts.items():
        click.echo(f"\n--- {name} ---\n{text}")


def print_declined(declined: Mapping[str, Declined]) -> None:
    """Say, by reason, which runs are not tried again."""
    reasons: dict[str, list[str]] = {}
    for run, why in declined.items():
        reasons.setdefault(str(why), []).append(run)
    for reason, runs in reasons.items():
        say(f"not tried again: {counted(len(runs), 'run')}: {reason}: {_some(runs)}")


def hand_over(call: Callable[[], Submitted], *, as_json: bool) -> None:
    """Submit, and print what was handed over, also where not all of it could be."""
    try:
        submitted = call()
    except SchedulerError as error:
        if error.done is not None:
            print_submitted(error.done, as_json=as_json)
        raise
    print_submitted(submitted, as_json=as_json)


def print_submitted(submitted: Submitted, *, as_json: bool) -> None:
    """Print the ids of the jobs, a line each; and how to go on."""
    if as_json:
        print_json(
            {
                "site": submitted.site,
                "jobs": [asdict(job) for job in submitted.jobs],
                "script": submitted.script,
                "pid": submitted.pid,
                "runs": submitted.runs,
                "declined": {run: str(why) for run, why in submitted.declined.items()},
                "warnings": submitted.warnings,
            }
        )
        return
    print_declined(submitted.declined)
    for job in submitted.jobs:
        click.echo(job.job)
    count = counted(len(submitted.runs), "run")
    if submitted.pid is not None:
        click.echo(str(submitted.pid))
        say(f"The local queue works on {count} in the background (process {submitted.pid}).")
    else:
        say(f"{count} handed over to {submitted.site}. `lfadsrm status` tells how they go.")


def plan_json(planned: Planned, *, scripts: bool = False) -> dict[str, Any]:
    """Return a plan as `--json` prints it."""
    draft, content = planned.draft, {}
    places: dict[str, Any] = {}
    if draft is not None:
        places = {task.run_id: task for task in draft.arrangement.tasks}
        content = {
            "jobs": [asdict(chunk) for chunk in draft.plan.chunks],
            "limits": draft.arrangement.binding,
        }
    runs = [
        {
            "run_id": wish.run_id,
            "attempt": wish.attempt,
            "job": places[wish.run_id].chunk,
            "index": places[wish.run_id].index,
            "reason": wish.reason,
            "request": asdict(wish.request),
        }
        for wish in planned.wishes
    ] or [{"run_id": run} for run in planned.local_runs]
    return {
        "site": planned.site.name,
        "scheduler": planned.site.scheduler,
        **content,
        "runs": runs,
        "declined": {run: str(why) for run, why in planned.declined.items()},
        "unsent": planned.unsent,
        "cost": None if planned.cost is None else asdict(planned.cost),
        "warnings": planned.warnings,
        **({"scripts": dict(draft.scripts)} if scripts and draft is not None else {}),
    }


def _some(names: Any, most: int = 5) -> str:
    listed = list(names)
    more = f", and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
