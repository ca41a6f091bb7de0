"""`lfadsrm plan`: what would be submitted to a cluster, and what it will cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lfadsrm_hpc.cli.cluster_options import (
    attempts_options,
    chosen_states,
    order_of,
    request_options,
    state_options,
)
from lfadsrm_hpc.cli.cluster_tables import plan_json, print_plan
from lfadsrm_hpc.cli.common import (
    find_place,
    json_option,
    print_json,
    select_runs,
    selection_options,
    where_argument,
)
from lfadsrm_hpc.cli.unnamed_runs import tell_of_chosen


@click.command()
@where_argument
@selection_options
@state_options
@request_options
@attempts_options
@click.option("--retry", is_flag=True, help="What `lfadsrm retry` would submit.")
@click.option("--scripts", is_flag=True, help="Show the runs and the scripts too.")
@json_option
def plan(
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    retry: bool,
    scripts: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Show what `lfadsrm submit` would hand over to a cluster, and what it will cost: jobs, walltime, GPU
    hours, memory, disk. Nothing is written, nothing is submitted.

    At most: every run takes its whole walltime. Expected: from runs of this collection that are complete,
    else from some steps that `lfadsrm time` has timed.

    \b
    Examples:
      lfadsrm plan --site perlmutter --account m1234 --walltime 4:00:00
      lfadsrm plan my_experiment --match factors_dim=8 --scripts
      lfadsrm plan --retry
      lfadsrm plan --walltime 4:00:00 --json

    \b
    Exit codes: 0 shown; 2 usage; 3 not possible at the site, or no walltime; 4 nothing to do;
    6 the scheduler does not answer.
    """
    from lfadsrm_hpc.api import RunCollection

    place = find_place(where)
    collection = RunCollection.open(place.collection)
    runs, states = select_runs(collection, spec, match), chosen_states(options)
    if not retry:
        tell_of_chosen(place, [run.id for run in runs], states)
    planned = collection.plan(runs, states=states, retry=retry, **order_of(place, options))
    if as_json:
        print_json({"collection": collection.path, **plan_json(planned, scripts=scripts)})
    else:
        print_plan(planned, scripts=scripts)
