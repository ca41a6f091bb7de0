"""`lfadsrm cancel`: cancel runs, on record, and tell what was running."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lfadsrm_hpc.cli.cluster_options import parse_states, state_option
from lfadsrm_hpc.cli.common import (
    json_option,
    open_collection,
    print_json,
    say,
    select_runs,
    selection_options,
    where_argument,
)
from lfadsrm_hpc.cli.confirming import confirm_above, yes_option
from lfadsrm_hpc.errors import SchedulerUnreachableError, UsageError

if TYPE_CHECKING:
    from lfadsrm_hpc.schedulers.controlling import Cancelled


@click.command()
@where_argument
@selection_options
@state_option
@click.option("--all", "everything", is_flag=True, help="All runs that wait or are at work.")
@yes_option
@json_option
def cancel(
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    state_words: tuple[str, ...],
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Cancel runs of WHERE that wait in a queue or are at work.

    It is put on record first, then the scheduler is told. Runs at work write a checkpoint. A cancelled run is
    not started again unless you ask for it: `lfadsrm retry --state CANCELLED`. The ids of the runs go to
    standard output, and what was running is told.

    \b
    Examples:
      lfadsrm cancel --match factors_dim=8
      lfadsrm cancel my_experiment --spec single_day2 --state pending
      lfadsrm cancel --all

    \b
    Exit codes: 0 cancelled; 2 usage; 4 nothing to cancel; 6 on record, but the scheduler could not
    be told: give the same command again.
    """
    if not (everything or spec or match or state_words):
        raise UsageError(
            "it is not said which runs", hint="--spec, --match, --state; or --all for all of the collection"
        )
    collection = open_collection(where)
    states = parse_states(state_words) or None

    def agree(runs: int) -> None:
        confirm_above("RUNS", runs, f"cancel {runs} runs?", yes=yes)

    try:
        done = collection.cancel(select_runs(collection, spec, match), states=states, agree=agree)
    except SchedulerUnreachableError as error:
        if error.done is not None:
            _print(collection.path, error.done, as_json=as_json)
        raise
    _print(collection.path, done, as_json=as_json)


def _print(place: Path, done: Cancelled, *, as_json: bool) -> None:
    from lfadsrm_hpc.cli.status import progress_cells

    for warning in done.warnings:
        say(f"warning: {warning}")
    if as_json:
        print_json(
            {
                "collection": place,
                "runs": done.runs,
                "running": [status.to_dict() for status in done.running],
                "jobs": done.jobs,
                "warnings": done.warnings,
            }
        )
        return
    for run in done.runs:
        click.echo(run)
    for status in done.running:
        epoch = progress_cells(status)[0]
        say(f"was running: {status.run_id}" + (f" (epoch {epoch})" if epoch else ""))
    if done.runs:
        say(f"{len(done.runs)} cancelled, {len(done.running)} of them at work; they keep their checkpoints.")
    else:
        say(f"They were cancelled before; the scheduler was told again of {len(done.jobs)} jobs.")
