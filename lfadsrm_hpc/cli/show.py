"""`lfadsrm show`: a collection, its datasets, the hyperparameters, or one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lfadsrm_hpc.cli.common import (
    console,
    find_one_run,
    json_option,
    open_collection,
    print_json,
    where_argument,
)

if TYPE_CHECKING:
    from lfadsrm_hpc.api import RunCollection


@click.command()
@where_argument
@click.option("--datasets", "what", flag_value="datasets", help="The recording sessions.")
@click.option("--params", "what", flag_value="params", help="Every hyperparameter: default, unit, meaning.")
@click.option("--run", "run_text", metavar="RUN", help="One run: its params, files and state.")
@json_option
def show(where: Path | None, what: str | None, run_text: str | None, as_json: bool) -> None:
    """Show WHERE: a run collection, an experiment, or what is found from here upwards.

    \b
    Examples:
      lfadsrm show                       params, run specs, counts
      lfadsrm show my_experiment --datasets
      lfadsrm show --run single_day1
      lfadsrm show --params | less       all hyperparameters; needs no collection
    """
    if what == "params":
        _params(as_json)
        return
    collection = open_collection(where)
    if run_text is not None:
        _run(collection, run_text, as_json)
    elif what == "datasets":
        _datasets(collection, as_json)
    elif as_json:
        print_json(
            {
                "collection": str(collection.path),
                "comment": collection.comment,
                "run_specs": [spec.to_json() for spec in collection.run_specs],
                "params": [{"hash": p.param_hash, "differences": p.differences()} for p in collection.params],
                "runs": [run.id for run in collection.runs],
            }
        )
    else:
        click.echo(repr(collection))


def _params(as_json: bool) -> None:
    from lfadsrm_hpc.collection.params import RunParams

    params = RunParams()
    if as_json:
        print_json({"params": params.values()})
    else:
        click.echo(params.describe(docs=True))


def _run(collection: RunCollection, text: str, as_json: bool) -> None:
    run = find_one_run(collection, text)
    state = run.status()
    files = {name: str(path) for name, path in run.posterior_files().items() if path.is_file()}
    if as_json:
        print_json(
            {**state.to_dict(), "path": str(run.path), "posterior_means": files, "record": run.record()}
        )
        return
    click.echo(f"{run.id}: {state.state.value.lower()}" + (f" ({state.reason})" if state.reason else ""))
    click.echo(f"  path: {run.path}")
    if state.message:
        click.echo(f"  message: {state.message}")
    for name in run.dataset_names:
        click.echo(f"  dataset {name}: {files.get(name, 'no posterior means yet')}")
    click.echo(run.params.describe())


def _datasets(collection: RunCollection, as_json: bool) -> None:
    items = collection.dataset_info
    if as_json:
        print_json({"collection": str(collection.path), "datasets": items})
        return
    from rich.table import Table

    columns = list(dict.fromkeys(key for item in items for key, v in item.items() if not isinstance(v, dict)))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for item in items:
        table.add_row(*("" if item.get(c) is None else str(item[c]) for c in columns))
    console().print(table)
