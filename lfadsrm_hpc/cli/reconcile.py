"""`lfadsrm reconcile`: clear up what is uncertain or lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lfadsrm_hpc.cli.common import json_option, open_collection, print_json, say, where_argument
from lfadsrm_hpc.errors import SchedulerUnreachableError, SubmissionUncertainError

if TYPE_CHECKING:
    from lfadsrm_hpc.schedulers.clearing import Cleared


@click.command()
@where_argument
@json_option
def reconcile(where: Path | None, as_json: bool) -> None:
    """Clear up what is uncertain or lost in WHERE, from the scheduler and the files.

    A job whose answer was lost is looked up by its name: it is adopted, or put on record as not taken, so
    that `lfadsrm submit` hands it over again. Runs whose jobs ended without a word are put on record as they
    ended (out of time, lost ...), so that `lfadsrm retry` takes them. It changes nothing where the scheduler
    gives no answer, can be given at any time, and `submit` and `retry` begin with it.

    \b
    Examples:
      lfadsrm reconcile
      lfadsrm reconcile my_experiment --json

    \b
    Exit codes: 0 all is clear; 2 there is no such collection; 6 a scheduler gave no answer; 9 a
    job is still uncertain: try again in a minute or two.
    """
    collection = open_collection(where)
    cleared = collection.reconcile()
    for warning in cleared.warnings:
        say(f"warning: {warning}")
    if as_json:
        tracked = cleared.tracked
        print_json(
            {
                "collection": collection.path,
                "adopted": cleared.adopted,
                "not_taken": cleared.not_taken,
                "uncertain": cleared.uncertain,
                "unsent": cleared.unsent,
                "closed": {run: tracked.statuses[run].state.value for run in cleared.closed},
                "unanswered": tracked.unanswered,
                "warnings": cleared.warnings,
            }
        )
    else:
        _print(cleared)
    if cleared.uncertain:
        raise SubmissionUncertainError(
            f"nobody knows yet whether the scheduler took {', '.join(cleared.uncertain)}",
            where=collection.path,
            hint="the same command again, in a minute or two",
        )
    if cleared.tracked.unanswered:
        raise SchedulerUnreachableError(
            f"no usable answer from {', '.join(cleared.tracked.unanswered)}",
            where=collection.path,
            hint="try again later; nothing was lost",
        )


def _print(cleared: Cleared) -> None:
    for job in cleared.adopted:
        click.echo(f"job {job}: found, and adopted")
    for name in cleared.not_taken:
        click.echo(f"job {name}: was never taken; `lfadsrm submit` hands it over")
    for name in cleared.unsent:
        if name not in cleared.not_taken:
            click.echo(f"job {name}: planned; `lfadsrm submit` hands it over")
    for run in cleared.closed:
        status = cleared.tracked.statuses[run]
        words = f" ({status.message})" if status.message else ""
        click.echo(f"{run}: {status.state.value.lower()}{words}")
    if not (cleared.adopted or cleared.not_taken or cleared.unsent or cleared.closed or cleared.uncertain):
        say("Nothing was to be cleared up.")
