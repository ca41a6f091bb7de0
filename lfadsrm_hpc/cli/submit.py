"""`lfadsrm submit`: hand runs to the scheduler of a cluster."""

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
from lfadsrm_hpc.cli.cluster_tables import hand_over, plan_json, print_plan
from lfadsrm_hpc.cli.common import (
    find_place,
    json_option,
    print_json,
    say,
    select_runs,
    selection_options,
    where_argument,
)
from lfadsrm_hpc.cli.confirming import agree_to, yes_option
from lfadsrm_hpc.cli.unnamed_runs import tell_of_chosen


@click.command()
@where_argument
@selection_options
@state_options
@request_options
@attempts_options
@click.option("--dry-run", is_flag=True, help="Show jobs, runs and scripts; submit nothing.")
@yes_option
@json_option
def submit(
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Hand the new runs of WHERE to the scheduler of a cluster; with --failed, --timeout, --lost or --state,
    those instead. The [cluster] table of an experiment.toml holds where WHERE is the experiment, under the
    options given here.

    It can be given again at any time, and by several people at once: a run that another submission has is
    left out, and nothing is submitted or trained twice. What an interrupted submission left is handed over
    first. The ids of the jobs go to standard output. On a site without a scheduler the local queue is
    started in the background. Above 1000 runs or 1000 GPU hours it asks first (docs/cleaning.md).

    \b
    Examples:
      lfadsrm submit --walltime 4:00:00
      lfadsrm submit my_experiment --site generic-slurm --account my_lab --max-parallel 16
      lfadsrm submit --match factors_dim=8 --gpus 1 --walltime 90m --dry-run
      lfadsrm submit --failed --memory 32G

    \b
    Exit codes: 0 handed over; 2 usage; 3 refused, or not possible at the site; 4 nothing to do;
    6 the scheduler cannot be reached, nothing changed; 7 partly submitted, the same command goes on;
    9 uncertain, run `lfadsrm reconcile`; 130 interrupted, the same command goes on.
    """
    from lfadsrm_hpc.api import RunCollection

    place = find_place(where)
    collection = RunCollection.open(place.collection)
    runs = select_runs(collection, spec, match)
    order = {"states": chosen_states(options), **order_of(place, options)}
    tell_of_chosen(place, [run.id for run in runs], order["states"])
    if dry_run:
        planned = collection.plan(runs, **order)
        if as_json:
            print_json({"collection": collection.path, **plan_json(planned, scripts=True)})
        else:
            print_plan(planned, scripts=True)
            say("Nothing was submitted.")
        return
    hand_over(
        lambda: collection.submit(runs, on_message=say, agree=agree_to("submit", yes=yes), **order),
        as_json=as_json,
    )
