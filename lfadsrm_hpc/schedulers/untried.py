"""What a run that was never tried needs next: where it goes from this machine, and what it waits for."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from lfadsrm_hpc.layout import CollectionLayout, RunLayout
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.reading import run_status
from lfadsrm_hpc.manifest.records import LOCAL
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.submission_reading import newest_plans
from lfadsrm_hpc.plain_files import read_json
from lfadsrm_hpc.schedulers.next_steps import Names, Situation
from lfadsrm_hpc.schedulers.sites.detection import has_scheduler
from lfadsrm_hpc.schedulers.sites.loading import SITE_VARIABLE, cluster_here, project_of
from lfadsrm_hpc.schedulers.units import format_time


@dataclass(frozen=True)
class Wanted:
    """What an experiment says of runs that are to be handed over; nothing: None, ""."""

    site: str | None = None
    walltime: str = ""


def never_tried(
    run: RunLayout, status: RunStatus, names: Names, wanted: Wanted
) -> tuple[Situation, tuple[str, ...]]:
    """Return what is known of a run without an attempt: where it goes from here; and warnings."""
    layout = run.collection
    last = next((plan for plan in newest_plans(layout) if plan.scheduler != LOCAL), None)
    named = wanted.site or os.environ.get(SITE_VARIABLE)
    before = last.site if last is not None and not named else ""
    loaded, warning = cluster_here(named or before or None, project=project_of(layout.path))
    walltime = wanted.walltime
    if loaded is not None and last is not None and last.site == loaded.site.name and not walltime:
        requests = [chunk.request for chunk in last.chunks if chunk.request.get("walltime_s")]
        walltime = format_time(requests[-1]["walltime_s"]) if requests else ""
    situation = Situation(
        status,
        names,
        on_cluster=loaded is not None,
        site=loaded.site if loaded is not None else None,
        walltime=walltime,
        site_name=before,
        waits_for=_waits_for(layout, run),
        undescribed=not named and not warning and has_scheduler(),
    )
    return situation, (warning,) if warning else ()


def _waits_for(layout: CollectionLayout, run: RunLayout) -> Names | None:
    """Return the run from whose trained model this one starts, where that is not complete."""
    start = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        start = read_json(run.params_json)["params"]["values"].get("start_from")
    if not start:
        return None
    source = layout.run_at(start)
    if not source.path.is_dir() or run_status(source).state is RunState.COMPLETED:
        return None
    return Names(source.run_id, (str(source.collection.path),))
