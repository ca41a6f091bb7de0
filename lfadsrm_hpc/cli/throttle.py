"""`lfadsrm throttle`: change how many tasks work at once."""

from __future__ import annotations

from pathlib import Path

import click

from lfadsrm_hpc.cli.common import (
    json_option,
    open_collection,
    print_json,
    say,
    select_runs,
    selection_options,
    where_argument,
)
from lfadsrm_hpc.cli.completing import complete_submissions


@click.command()
@click.argument("most", type=click.IntRange(0), metavar="N")
@where_argument
@selection_options
@click.option(
    "--submission",
    default="",
    metavar="ULID",
    shell_complete=complete_submissions,
    help="Only this submission, or what begins so.",
)
@json_option
def throttle(
    most: int,
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    submission: str,
    as_json: bool,
) -> None:
    """Let at most N tasks of the arrays of WHERE run at once, all arrays together; 0: no limit. Tasks that
    are at work go on.

    \b
    Examples:
      lfadsrm throttle 8
      lfadsrm throttle 0 my_experiment

    \b
    Exit codes: 0 done; 2 usage; 4 no array waits or is at work; 6 the scheduler cannot be reached.
    """
    collection = open_collection(where)
    done = collection.throttle(most, select_runs(collection, spec, match), submission=submission)
    for warning in done.warnings:
        say(f"warning: {warning}")
    if as_json:
        print_json({"collection": collection.path, "jobs": done.jobs, "warnings": done.warnings})
        return
    for job, share in done.jobs.items():
        click.echo(f"{job}\t{share or 'no limit'}")
