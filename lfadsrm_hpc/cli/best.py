"""`lfadsrm best`: the best run of each run spec, how it differs, and what to write about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.common import (
    Written,
    json_option,
    open_collection,
    print_json,
    say,
    select_runs,
    selection_options,
    where_argument,
)
from lfadsrm_hpc.cli.matlab_collections import best_of_matlab_collection, find_matlab_collection
from lfadsrm_hpc.cli.terminal import terminal_width, wrapped
from lfadsrm_hpc.collection.labels import params_label, varying_names
from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.manifest.publish import publish_new

if TYPE_CHECKING:
    from lfadsrm_hpc.api import Run
    from lfadsrm_hpc.results.runs.best import Best, BestRun

_MOST_IN_FULL = 3  # run specs


@click.command()
@where_argument
@selection_options
@click.option(
    "--metric",
    metavar="NAME",
    help="The score: co_bps, bits_per_spike, rate_r2, ... (higher is better) or lowest_valid_cost (lower is "
    "better). Without it co_bps where there is one, else lowest_valid_cost.",
)
@click.option("--top", metavar="N", type=click.IntRange(min=1), default=5, show_default=True,
              help="How many runs of each run spec to list.")  # fmt: skip
@click.option("--include-bad", is_flag=True, help="Let runs compete that quality control calls bad.")
@click.option(
    "--script",
    metavar="FILE",
    type=Written(path_type=Path),
    help="Write a Python script there that reproduces the best run; one run spec must be selected.",
)
@json_option
def best(
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    metric: str | None,
    top: int,
    include_bad: bool,
    script: Path | None,
    as_json: bool,
) -> None:
    """Name the best complete run of each run spec of WHERE: a run collection, an experiment, or what is found
    from here upwards.

    Runs of different run specs are not compared, since their data differ. Besides the run it tells in what
    its hyperparameters differ from the defaults, which runs did not compete and why, and a paragraph for a
    methods section.

    \b
    Examples:
      lfadsrm best
      lfadsrm best my_experiment --metric co_bps --top 10
      lfadsrm best --spec single_day1 --match seed=0
      lfadsrm best --spec all --script reproduce.py     then: python reproduce.py --train
      lfadsrm best --json | jq -r '.best[].run_id'

    \b
    Exit codes: 0 told; 1 no run is complete, or none has the score; 2 there is no such collection,
    run spec, hyperparameter or score.
    """
    matlab = None if match or script else find_matlab_collection(where)
    if matlab is not None:
        best_of_matlab_collection(matlab, spec, metric, top, as_json=as_json)
        return
    collection = open_collection(where)
    found = collection.best(metric, runs=select_runs(collection, spec, match), include_bad=include_bad)
    if script is not None:
        _write_script(found, script)
    if as_json:
        content = {name: _plain(one, top) for name, one in found.items()}
        print_json({"collection": str(collection.path), "best": content})
        return
    if len(found) > _MOST_IN_FULL:
        click.echo(_overview(found))
    else:
        click.echo("\n\n".join(_text(name, one, top) for name, one in found.items()))


def _write_script(found: Best[Run], path: Path) -> None:
    if len(found) != 1:
        raise UsageError(
            f"a script reproduces one run, and there are {len(found)} run specs: {', '.join(found)}",
            hint=f"--spec {next(iter(found))}",
        )
    text = found.only.script
    if not publish_new(path, text.encode(), script=True):
        raise UsageError("there is such a file already", where=path, hint="name another one, or delete it")
    say(f"{path} reproduces {found.only.run.id}")


def _overview(found: Best[Run]) -> str:
    """Return a line for each of many run specs."""
    width = terminal_width()
    every = list(found.values())
    varying = varying_names(run.params for run in every[0].run.collection.runs)
    rows = [("run spec", "params", "score", "", "of", "notes", "")]
    for spec, one in found.items():
        label = params_label(one.run.params, varying) if varying else ""
        count, notes = str(len(one.ranking)), str(len(one.notes) or "")
        score = f"{one.value:.6g}"
        rows.append((spec, one.run.params.param_hash, score, one.metric, count, notes, label))
    return _columns(rows, (2, 4, 5), width) + "\n--spec NAME: notes, differences from the defaults, methods"


def _text(spec: str, one: BestRun[Run], top: int) -> str:
    width = terminal_width()
    shown = one.ranking.iloc[:top]
    varying = varying_names(run.params for run in one.run.collection.runs)
    rows = [("", "params", one.metric, "epochs", "verdict", "")]
    for place, (run_id, row) in enumerate(shown.iterrows(), start=1):
        run = one.run.collection.run_by_id(str(run_id))
        label = params_label(run.params, varying) if varying else ""
        epochs = "" if row["epochs"] != row["epochs"] else str(row["epochs"])
        verdict = row["verdict"] if isinstance(row["verdict"], str) else ""
        rows.append((str(place), run.params.param_hash, f"{row[one.metric]:.6g}", epochs, verdict, label))
    rest = len(one.ranking) - len(shown)
    parts = [
        click.style(f"{spec}: best of {len(one.ranking)} by {one.metric}", bold=True),
        _columns(rows, (0, 2, 3), width) + (f"\n  and {rest} more (--top)" if rest else ""),
        f"run: {one.run.id}",
        _wrapped(f"differs from the defaults in: {one.run.params.diff_text() or 'nothing'}", width),
        *(_wrapped(f"note: {note}", width) for note in one.notes),
        "methods:",
        _wrapped(one.methods, width, indent=""),
    ]
    return "\n".join(parts)


def _columns(rows: Sequence[tuple[str, ...]], numbers: Sequence[int], width: int | None) -> str:
    """Return rows as lines, numbers to the right; the last column is cut where the terminal ends, others are
    not: they name runs."""
    used = [n for n in range(len(rows[0])) if n < 3 or any(row[n] for row in rows[1:])]
    widths = {n: max(len(row[n]) for row in rows) for n in used}
    lines = []
    for row in rows:
        cells = [row[n].rjust(widths[n]) if n in numbers else row[n].ljust(widths[n]) for n in used]
        line = "  ".join(["", *cells]).rstrip()
        whole = len("  ".join(["", *cells[:-1]])) + 3
        lines.append(line if width is None or len(line) <= width else line[: max(whole, width) - 1] + "…")
    return "\n".join(lines)


def _wrapped(text: str, width: int | None, indent: str = "  ") -> str:
    """Break lines for a terminal; a file or a pipe gets one line, so that it can be pasted."""
    if width is None:
        return text
    return "\n".join(wrapped(text, width, then=indent))


def _plain(one: BestRun[Run], top: int) -> dict[str, Any]:
    ranking = [
        {"run_id": str(run_id), one.metric: float(row[one.metric])}
        for run_id, row in one.ranking.iloc[:top].iterrows()
    ]
    return {
        "run_id": one.run.id,
        "metric": one.metric,
        "value": one.value,
        "differences": one.differences,
        "ranking": ranking,
        "competed": len(one.ranking),
        "notes": list(one.notes),
        "methods": one.methods,
    }
