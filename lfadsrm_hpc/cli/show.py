"""`lfadsrm show`: a collection, its datasets, the hyperparameters, or one run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.common import (
    Place,
    find_one_run,
    find_place,
    json_option,
    match_option,
    open_collection,
    print_json,
    print_rich_table,
    where_argument,
    where_of,
)
from lfadsrm_hpc.cli.completing import complete_runs
from lfadsrm_hpc.cli.matlab_collections import find_matlab_collection, show_matlab_collection
from lfadsrm_hpc.cli.state_tables import word
from lfadsrm_hpc.collection.alignment_table import alignment_rows, quality
from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.manifest.deleted import BY, deleted_of

if TYPE_CHECKING:
    from lfadsrm_hpc.api import Run, RunCollection
    from lfadsrm_hpc.collection.experiment import Experiment
    from lfadsrm_hpc.schedulers.attempts import Attempt

_MOST_FACTORS = 8
_COLUMNS = ("name", "subject", "date", "trials", "neurons", "bins", "bin_ms", "external_inputs")


@click.command()
@where_argument
@click.option("--datasets", is_flag=True, help="The recording sessions.")
@click.option("--params", is_flag=True, help="Every hyperparameter: default, unit, range, meaning.")
@click.option(
    "--run",
    "run_text",
    metavar="RUN",
    shell_complete=complete_runs,
    help="One run: its params, files and state.",
)
@match_option
@json_option
def show(
    where: Path | None,
    datasets: bool,
    params: bool,
    run_text: str | None,
    match: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show WHERE: a run collection, an experiment, or what is found from here upwards.

    It may also be a collection that the Matlab run manager made: its runs are listed.

    \b
    Examples:
      lfadsrm show                       params, run specs, counts
      lfadsrm show my_experiment --datasets      also before it is prepared
      lfadsrm show --run single_day1 --match factors_dim=8
      lfadsrm show --params | less       all hyperparameters; needs no collection

    \b
    Exit codes: 0 shown; 2 there is no such collection or run; 3 the experiment or the collection is
    invalid.
    """
    if datasets + params + (run_text is not None) > 1:
        raise UsageError("--datasets, --params and --run do not go together", hint="give one of them")
    if match and run_text is None:
        raise UsageError("--match is for --run", hint="`lfadsrm status --match ...` lists runs")
    if params:
        _params(as_json)
        return
    if datasets:
        _datasets(find_place(where, prepared=False), as_json)
        return
    matlab = find_matlab_collection(where) if run_text is None else None
    if matlab is not None:
        show_matlab_collection(matlab, as_json=as_json)
        return
    collection = open_collection(where_of(run_text or "", where))
    if run_text is not None:
        _run(find_one_run(collection, run_text, match), as_json)
    elif as_json:
        print_json(_content(collection))
    else:
        click.echo(repr(collection))


def _content(collection: RunCollection) -> dict[str, Any]:
    return {
        "collection": str(collection.path),
        "comment": collection.comment,
        "run_specs": [spec.to_json() for spec in collection.run_specs],
        "params": [{"hash": p.param_hash, "differences": p.differences()} for p in collection.params],
        "runs": [run.id for run in collection.runs],
    }


def _params(as_json: bool) -> None:
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.model.hyperparameters import specs

    params = RunParams()
    if not as_json:
        click.echo(params.describe(docs=True))
        return
    described = {
        name: {
            "default": getattr(params, name),
            "kind": spec.kind,
            "unit": spec.unit,
            "range": spec.range_text(),
            "group": spec.group,
            "doc": spec.doc,
        }
        for name, spec in specs(RunParams).items()
    }
    print_json({"params": described})


def _run(run: Run, as_json: bool) -> None:
    from lfadsrm_hpc.schedulers.attempts import attempts_of

    state = run.status()
    attempts = attempts_of(run.layout)
    files = {name: str(path) for name, path in run.posterior_files().items() if path.is_file()}
    aligned = alignment_rows(run) if run.is_prepared else []
    if as_json:
        print_json(
            {
                **state.to_dict(),
                "path": str(run.path),
                "posterior_means": files,
                "alignment": aligned,
                "attempts": [attempt.to_dict() for attempt in attempts],
                "record": run.record(),
            }
        )
        return
    click.echo(f"{run.id}: {word(state.state)}" + (f" ({state.reason})" if state.reason else ""))
    click.echo(f"  path: {run.path}")
    if state.message:
        click.echo(f"  message: {state.message}")
    for attempt in attempts:
        click.echo(f"  attempt {attempt.number}: {_attempt_text(attempt)}")
    deleted = deleted_of(run.layout, run.dataset_names)
    absent = (
        "no posterior means yet" if deleted is None else f"its posterior means were {BY}; {deleted.remedy}"
    )
    for name in run.dataset_names:
        click.echo(f"  dataset {name}: {files.get(name, absent)}")
    for row in aligned:
        click.echo(f"  alignment {row['dataset']}: {_alignment_text(row)}")
    click.echo(run.params.describe())


def _alignment_text(row: dict[str, Any]) -> str:
    """Return how well one dataset is aligned, all in all and by factor."""
    if row["made_by"] != "conditions":
        return f"none; {row['note']}"
    factors = [f"{value:.2f}" for value in row["r2_by_factor"] if value is not None]
    shown = " ".join(factors[:_MOST_FACTORS]) + (" ..." if len(factors) > _MOST_FACTORS else "")
    return (
        f"R2 {quality(row)}, by factor {shown}; {row['conditions']} of {row['all_conditions']} conditions"
        + (", other data" if row["other_data"] else "")
    )


def _attempt_text(attempt: Attempt) -> str:
    """Return how an attempt ended, where and when, which job it was, and where its log is."""
    status = attempt.status
    if status is None:
        parts = ["given up before it began"]
    else:
        why = (status.reason or "").replace("_", " ")
        parts = [word(status.state) + (f" ({why})" if why not in ("", "done", word(status.state)) else "")]
        parts += [f"started {status.incarnation + 1} times"] if status.incarnation else []
        parts += [f"on {status.host}"] if status.host else []
        parts += [f"from {_moment(status.started)}"] if status.started else []
        parts += [f"to {_moment(status.ended)}"] if status.ended else []
    parts += [f"job {attempt.job}"] if attempt.job else []
    parts += [f"submission {attempt.submission}"] if attempt.submission and attempt.job else []
    printed = attempt.printed
    return ", ".join(parts) + (f"\n    {printed}" if printed is not None else "")


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _datasets(place: Place, as_json: bool) -> None:
    from lfadsrm_hpc.api import RunCollection

    if place.is_prepared:
        items = RunCollection.open(place.collection).dataset_info
    else:
        items = [] if place.experiment is None else _look_at_files(place.experiment)
    if as_json:
        print_json({"collection": str(place.collection), "datasets": items})
        return
    from rich.table import Table
    from rich.text import Text

    columns = [name for name in _COLUMNS if any(item.get(name) not in (None, "", 0) for item in items)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        numbers = all(isinstance(item.get(column), int | float | None) for item in items)
        table.add_column(column.replace("_", " "), justify="right" if numbers else "left", overflow="fold")
    for item in items:
        table.add_row(*(Text(_cell(item.get(column))) for column in columns))
    print_rich_table(table)


def _look_at_files(experiment: Experiment) -> list[dict[str, Any]]:
    """Return what the files of an experiment say of themselves, before it is prepared."""
    with experiment.pointing(), experiment.naming():
        datasets = experiment.dataset_collection()
        datasets.load_info()
    items = []
    for dataset in datasets:
        info = dataset.load_info()
        items.append(
            {
                "name": dataset.name,
                "source": dataset.source(),
                "trials": info["n_trials"],
                "bins": info["n_bins"],
                "neurons": info["n_neurons"],
                **{key: info[key] for key in ("bin_ms", "subject", "date")},
            }
        )
    return items


def _cell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)
