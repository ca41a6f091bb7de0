"""`lfadsrm prepare`: from experiment.toml to a run collection with its inputs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.cluster_options import check_cluster
from lfadsrm_hpc.cli.common import json_option, print_json, say
from lfadsrm_hpc.cli.confirming import confirm_above, yes_option
from lfadsrm_hpc.cli.places import find_experiment
from lfadsrm_hpc.cli.terminal import may_change
from lfadsrm_hpc.cli.unnamed_runs import tell_of_unnamed
from lfadsrm_hpc.collection.alignment_table import alignment_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.experiment import Experiment
    from lfadsrm_hpc.collection.preparation import Progress

_MOST_LINES = 6


@click.command()
@click.argument(
    "experiment", required=False, default=None, type=click.Path(path_type=Path), metavar="[EXPERIMENT]"
)
@click.option(
    "--silence",
    multiple=True,
    metavar="NAME",
    help="Do not give warnings of this name, as they tell it at their end; may be repeated.",
)
@yes_option
@json_option
def prepare(experiment: Path | None, silence: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Build the run collection of EXPERIMENT (a folder or its experiment.toml; without it, the nearest from
    here upwards) and write its inputs.

    Safe to repeat, also while runs are training: inputs that are there are kept, and so are runs that were
    prepared before, even if the experiment no longer names them (`lfadsrm clean --unnamed` deletes those).
    Prints the path of the collection.

    \b
    Examples:
      lfadsrm prepare                 the experiment in this folder
      lfadsrm prepare my_experiment --json
      lfadsrm prepare my_experiment --silence drifting_rates
      lfadsrm prepare my_experiment/co_dim.toml     another experiment on the same datasets

    \b
    Exit codes: 0 prepared; 2 there is no experiment, or it was not confirmed; 3 data, params or
    the file are invalid, or not what earlier runs were prepared with.
    """
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.experiment_file import read_experiment
    from lfadsrm_hpc.schedulers.sites.loading import queue_options

    place = find_experiment(experiment)
    described = read_experiment(place)
    with described.pointing():
        queue_options(described.queue, where=described.where("queue"))  # a slip shows now, not at `run`
    check_cluster(described)
    collection = described.build(RunCollection)
    coming = _coming_gb(collection)
    confirm_above("GB", coming, f"write about {coming:.0f} GB of inputs to {collection.path}?", yes=yes)
    with _progress() as progress, described.pointing(), described.naming():
        report = collection.prepare_for_lfads(progress, warn=False, silence=(*described.silence, *silence))
    for warning in report.warnings:
        say(f"warning: {warning}")
    left_out = _left_out(described, collection)
    if left_out:
        say(f"left out, with fewer than {described.min_trials} trials: {', '.join(left_out)}")
    if as_json:
        print_json(
            {
                "collection": str(collection.path),
                "runs": [run.id for run in collection.runs],
                "runs_written": report.written,
                "runs_kept": report.kept,
                "runs_unnamed": tell_of_unnamed(described, collection),
                "inputs_written": report.inputs_written,
                "inputs_kept": report.inputs_kept,
                "left_out": left_out,
                "warnings": report.warnings,
                "notes": [note.to_json() for note in report.notes],
                "alignment": report.alignment,
            }
        )
        return
    for line in _alignment(report.alignment):
        say(line)
    say(f"{len(collection.run_specs)} run specs x {len(collection.params)} params: {report}")
    tell_of_unnamed(described, collection)
    click.echo(collection.path)
    say(f"Next: {_next(place, described)}")


def _next(place: Path, experiment: Experiment) -> str:
    """Return the command that follows: the cluster's where runs go to one from here."""
    from lfadsrm_hpc.rendering import shell_quote
    from lfadsrm_hpc.schedulers.next_steps import first_walltime
    from lfadsrm_hpc.schedulers.sites.loading import cluster_here, project_of

    project = project_of(experiment.collection_path)
    loaded, warning = cluster_here(experiment.cluster.get("site"), project=project)
    if warning:
        say(f"warning: {warning}")
    if loaded is None:
        return f"lfadsrm run {shell_quote(place)}"
    walltime = () if "walltime" in experiment.cluster else first_walltime(loaded.site)
    plan = " ".join(["lfadsrm plan", shell_quote(place), *walltime])
    return f"{plan} (`submit` in place of `plan` hands the runs over)"


def _coming_gb(collection: RunCollection) -> float:
    """Return about how much will be written, GB: a new input is about as large as its recording."""
    files = {path: name for run in collection.runs for name, path in run.input_files().items()}
    sizes = {
        dataset.name: sum(part.stat().st_size for part in _parts(dataset.path))
        for dataset in collection.dataset_collection or ()
    }
    return sum(sizes[name] for path, name in files.items() if not path.exists()) / 1e9


def _parts(path: Path | None) -> Iterator[Path]:
    """Yield the files of a recording, which may be a folder; none where it is not a file at all."""
    if path is not None and path.is_file():
        yield path
    elif path is not None and path.is_dir():
        yield from (part for part in path.rglob("*") if part.is_file())


def _alignment(rows: list[dict[str, Any]]) -> list[str]:
    """Return how well stitched run specs are aligned, in a few lines."""
    lines = alignment_lines(rows)
    if lines:
        lines[0] += " (in brackets: of conditions left out)"
    rest = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], *([f"and {rest} more: lfadsrm show --run"] if rest > 0 else [])]


def _left_out(experiment: Experiment, collection: RunCollection) -> list[str]:
    """Return the names of the sessions that `min_trials` leaves out."""
    if not experiment.min_trials or collection.dataset_collection is None:
        return []
    kept = collection.dataset_collection.names
    return [name for name in experiment.dataset_names() if name not in kept]


def _progress() -> AbstractContextManager[Progress | None]:
    """Show a bar while it takes long, on a terminal only."""
    from contextlib import contextmanager, nullcontext

    if not may_change(sys.stderr):
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
