"""`lfadsrm report`: one self-contained HTML page about a run collection."""

from __future__ import annotations

from pathlib import Path

import click

from lfadsrm_hpc.cli.common import (
    Written,
    find_one_run,
    json_option,
    open_collection,
    print_json,
    say,
    select_runs,
    selection_options,
    where_argument,
    where_of,
)
from lfadsrm_hpc.cli.completing import complete_runs
from lfadsrm_hpc.rendering import shell_quote


@click.command()
@where_argument
@selection_options
@click.option(
    "-o",
    "--out",
    "output",
    metavar="FILE",
    type=Written(path_type=Path, dir_okay=False),
    help="Where the page goes; otherwise report.html in the folder of the collection.",
)
@click.option(
    "--run",
    "named",
    multiple=True,
    metavar="RUN",
    shell_complete=complete_runs,
    help="Show rates, factors and learning curves of this run (its id, a part of it, or its folder); may be "
    "repeated. Without it, of the best run of each run spec.",
)
@click.option("--metric", metavar="NAME", help="By which score runs are compared; see `lfadsrm best --help`.")
@click.option("--ask/--no-ask", default=True, show_default=True,
              help="Ask the scheduler for the states of runs that are with it.")  # fmt: skip
@json_option
def report(
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    output: Path | None,
    named: tuple[str, ...],
    metric: str | None,
    ask: bool,
    as_json: bool,
) -> None:
    """Write one HTML page about WHERE: a run collection, an experiment, or what is found from here upwards.

    It shows states, a table of the runs that sorts and filters, learning curves, rates and factors of the
    best runs, quality verdicts with their reasons, and what was used of time, GPUs and memory. The page needs
    no other file and no network: mail it, or open it on a phone. An earlier page is replaced.

    \b
    Examples:
      lfadsrm report
      lfadsrm report my_experiment --out sweep.html
      lfadsrm report --spec single_day1 --match seed=0 --metric co_bps
      lfadsrm report --run single_day1 --run all --no-ask
      lfadsrm report --json | jq -r .report

    \b
    Exit codes: 0 written; 1 the page cannot be written, or a run named with --run is not complete;
    2 there is no such collection, run, hyperparameter or score.
    """
    collection = open_collection(where_of(named[0], where) if named else where)
    runs = select_runs(collection, spec, match)
    chosen = [find_one_run(collection, text) for text in named] or None
    made = collection.report(
        output,
        runs,
        shown=chosen,
        metric=metric,
        ask=ask,
        made_by=_command(where, spec, match, named, metric),
    )
    for note in made.notes:
        say(f"note: {note}")
    if as_json:
        print_json(
            {
                "report": str(made.path.absolute()),
                "bytes": made.size,
                "runs": made.n_runs,
                "shown": made.shown,
                "notes": made.notes,
            }
        )
    else:
        say(f"{made.n_runs:,} runs, {made.size / 1e6:.1f} MB; open it in any browser:")
        click.echo(made.path)


def _command(
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    named: tuple[str, ...],
    metric: str | None,
) -> str:
    """Return the command that makes such a page, for the page itself."""
    words = ["lfadsrm", "report", *([str(where)] if where is not None else [])]
    for option, values in (("--spec", spec), ("--match", match), ("--run", named)):
        words += [word for value in values for word in (option, value)]
    return " ".join(shell_quote(word) for word in [*words, *(["--metric", metric] if metric else [])])
