"""`lfadsrm retry`: submit runs again that did not end well."""

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


@click.command()
@where_argument
@selection_options
@state_options
@request_options
@attempts_options
@click.option("--dry-run", is_flag=True, help="Show jobs, runs and scripts; submit nothing.")
@yes_option
@json_option
def retry(
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Submit runs of WHERE again that did not end well, each with what its end asks for.

    \b
    out of memory                    more memory
    out of time                      from the checkpoint; more time if nothing was gained
    node failed, preempted, lost     the same again
    failed, cancelled                only with --failed, --state CANCELLED
    its data cannot be used          never

    Requests grow up to what the partition allows, then the run is not tried again, and you are told why.
    Site, account and requests are those of the last submission unless given.

    \b
    Examples:
      lfadsrm retry
      lfadsrm retry --dry-run
      lfadsrm retry --failed --max-attempts 5
      lfadsrm retry --state OUT_OF_MEMORY --memory 64G

    \b
    Exit codes: those of `lfadsrm submit`.
    """
    from lfadsrm_hpc.api import RunCollection

    place = find_place(where)
    collection = RunCollection.open(place.collection)
    runs = select_runs(collection, spec, match)
    order = {"states": chosen_states(options), **order_of(place, options)}
    if dry_run:
        planned = collection.plan(runs, retry=True, **order)
        if as_json:
            print_json({"collection": collection.path, **plan_json(planned, scripts=True)})
        else:
            print_plan(planned, scripts=True)
            say("Nothing was submitted.")
        return
    hand_over(
        lambda: collection.retry(runs, on_message=say, agree=agree_to("retry", yes=yes), **order),
        as_json=as_json,
    )
