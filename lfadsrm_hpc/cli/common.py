"""What several commands share: finding the collection, selecting runs, printing JSON and tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lfadsrm_hpc.errors import NotFoundError, UsageError
from lfadsrm_hpc.layout import CollectionLayout

if TYPE_CHECKING:
    from rich.console import Console

    from lfadsrm_hpc.api import Run, RunCollection

SCHEMA_VERSION = 1
F = TypeVar("F", bound=Callable[..., Any])

where_argument = click.argument(
    "where",
    required=False,
    default=None,
    envvar="LFADSRM_COLLECTION",
    type=click.Path(path_type=Path),
    metavar="[WHERE]",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, envvar="LFADSRM_JSON", help="Print one JSON object to standard output."
)


def selection_options(command: F) -> F:
    """Add the options by which `run`, `status` and others select runs."""
    command = click.option(
        "--match",
        multiple=True,
        metavar="NAME=VALUE",
        help="Only runs with this hyperparameter value; may be repeated (all must hold).",
    )(command)
    return click.option(
        "--spec", multiple=True, metavar="NAME", help="Only runs of this run spec; may be repeated."
    )(command)


def find_collection(where: Path | None) -> Path:
    """Return the folder of the run collection that `where` means.

    It may be the collection, an experiment's folder or its `experiment.toml`; without it, the nearest of
    these from the current folder upwards.

    Raises
    ------
    NotFoundError
        There is none.
    """
    from lfadsrm_hpc.collection.experiment import EXPERIMENT_FILE, read_experiment

    starts = [where] if where is not None else [Path.cwd(), *Path.cwd().parents]
    for start in starts:
        if CollectionLayout(start).collection_json.is_file():
            return start
        experiment = start / EXPERIMENT_FILE if start.is_dir() else start
        if experiment.is_file() and experiment.suffix == ".toml":
            path = read_experiment(experiment).collection_path
            if not CollectionLayout(path).collection_json.is_file():
                raise NotFoundError(
                    "this experiment has no run collection yet",
                    where=path,
                    hint=f"lfadsrm prepare {start}",
                )
            return path
    raise NotFoundError(
        "there is no run collection and no experiment.toml here",
        where=where or Path.cwd(),
        hint="name one, or begin with `lfadsrm init` or `lfadsrm demo`",
    )


def open_collection(where: Path | None) -> RunCollection:
    """Open the run collection that `where` means."""
    from lfadsrm_hpc.api import RunCollection

    return RunCollection.open(find_collection(where))


def select_runs(collection: RunCollection, spec: Sequence[str], match: Sequence[str]) -> list[Run]:
    """Return the runs that `--spec` and `--match` select.

    Raises
    ------
    UsageError
        A condition is not NAME=VALUE, or nothing fits.
    """
    wanted: dict[str, Any] = {}
    for condition in match:
        name, equals, value = condition.partition("=")
        if not equals:
            raise UsageError(f"--match {condition!r} is not NAME=VALUE", hint="--match factors_dim=8")
        wanted[name.strip()] = _value(value.strip())
    runs: list[Run] = []
    names: list[str | None] = [*spec] or [None]
    for name in names:
        runs += collection.find_runs(name, **wanted)
    if not runs:
        raise NotFoundError(
            "no run fits the selection", where=collection.path, hint="`lfadsrm status` lists the runs"
        )
    return runs


def _value(text: str) -> Any:
    """Read a value as TOML or JSON would; a bare word is a text."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text


def find_one_run(collection: RunCollection, text: str) -> Run:
    """Return the run that `text` means: its id, or a part of it that only one run has.

    Raises
    ------
    NotFoundError
        None or several.
    """
    runs = list(collection.runs)
    exact = [run for run in runs if run.id == text]
    found = exact or [run for run in runs if text in run.id]
    if len(found) == 1:
        return found[0]
    listed = "\n    ".join(run.id for run in (found or runs)[:20])
    what = f"{len(found)} runs fit {text!r}" if found else f"no run fits {text!r}"
    raise NotFoundError(what, where=collection.path, hint=f"name one of\n    {listed}")


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object with its schema version; what is not finite becomes null."""
    click.echo(json.dumps(_finite({"schema_version": SCHEMA_VERSION, **content}), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def say(text: str) -> None:
    """Tell the user something on standard error."""
    click.echo(text, err=True)


def console(*, stderr: bool = False) -> Console:
    """Return a rich console; wide when its output is not a terminal, so that no table is cut."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else 160)
