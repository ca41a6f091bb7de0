"""`lfadsrm prepare`: from experiment.toml to a run collection with its inputs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lfadsrm_hpc.cli.common import json_option, print_json, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from lfadsrm_hpc.collection.preparation import Progress


@click.command()
@click.argument("experiment", required=False, default=".", type=click.Path(path_type=Path))
@json_option
def prepare(experiment: Path, as_json: bool) -> None:
    """Build the run collection of EXPERIMENT (a folder or its experiment.toml) and write its inputs.

    Safe to repeat, also while runs are training: inputs that are there are kept, runs that were prepared before
    stay as they are. Prints the path of the collection.

    \b
    Examples:
      lfadsrm prepare                 the experiment in this folder
      lfadsrm prepare reaching --json
    """
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.experiment import read_experiment
    from lfadsrm_hpc.schedulers.sites import queue_options

    described = read_experiment(experiment)
    queue_options(described.queue, where=f"{described.path}, [queue]")  # a slip shows now, not at `run`
    collection = described.build(RunCollection)
    with _progress() as progress:
        report = collection.prepare_for_lfads(progress, warn=False)
    for warning in report.warnings:
        say(f"warning: {warning}")
    if as_json:
        print_json(
            {
                "collection": str(collection.path),
                "runs": [run.id for run in collection.runs],
                "written": [str(path) for path in report.written],
                "kept": [str(path) for path in report.kept],
                "warnings": [str(warning) for warning in report.warnings],
            }
        )
        return
    say(
        f"{collection.n_runs} runs ({len(collection.run_specs)} run specs x {len(collection.params)} params); "
        f"{len(report.written)} input files written, {len(report.kept)} kept"
    )
    click.echo(collection.path)
    say(f"Next: lfadsrm run {experiment}")


def _progress() -> AbstractContextManager[Progress | None]:
    """Show a bar while it takes long, on a terminal only."""
    from contextlib import contextmanager, nullcontext

    if not sys.stderr.isatty():
        return nullcontext(None)

    @contextmanager
    def bar() -> Iterator[Progress]:
        from rich.progress import Progress as Bar

        from lfadsrm_hpc.cli.common import console

        with Bar(console=console(stderr=True), transient=True) as shown:
            task = shown.add_task("preparing", total=None)

            def update(done: int, total: int, text: str) -> None:
                shown.update(task, completed=done, total=total, description=text)

            yield update

    return bar()
