"""What several commands share: finding the collection, selecting runs, printing JSON and tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lfadsrm_hpc.cli.completing import complete_conditions, complete_runs, complete_specs
from lfadsrm_hpc.cli.guarding import console_on
from lfadsrm_hpc.cli.places import Place as Place
from lfadsrm_hpc.cli.places import find_place as find_place
from lfadsrm_hpc.cli.places import is_place as is_place
from lfadsrm_hpc.cli.terminal import may_colour
from lfadsrm_hpc.collection.labels import params_label, varying_names
from lfadsrm_hpc.errors import NotFoundError, ParamsError, UsageError
from lfadsrm_hpc.layout import RunLayout

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lfadsrm_hpc.api import Run, RunCollection

SCHEMA_VERSION = 1
_MOST_LISTED = 20
F = TypeVar("F", bound=Callable[..., Any])

where_argument = click.argument(
    "where",
    required=False,
    default=None,
    envvar="LFADSRM_COLLECTION",
    type=click.Path(path_type=Path),
    metavar="[WHERE]",
)
collection_option = click.option(
    "-C",
    "--collection",
    "where",
    envvar="LFADSRM_COLLECTION",
    type=click.Path(path_type=Path),
    metavar="WHERE",
    help="The run collection or its experiment; otherwise the one found from here upwards.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, envvar="LFADSRM_JSON", help="Print one JSON object to standard output."
)


run_argument = click.argument("run", shell_complete=complete_runs)
match_option = click.option(
    "--match",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=complete_conditions,
    help="Only runs with this hyperparameter value; may be repeated (all must hold).",
)


class Written(click.Path):
    """The path of what a command writes: a slip in it is refused, and makes no folders."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; refuse one whose folder is not there."""
        path: Any = super().convert(value, param, ctx)
        folder = Path(path).absolute().parent
        try:
            there = folder.is_dir()
        except OSError:  # writing tells
            there = True
        if not there:
            raise UsageError(f"there is no folder {folder}", hint="make it, or name another one")
        return path


def selection_options(command: F) -> F:
    """Add the options by which `run` and `status` select runs."""
    return click.option(
        "--spec",
        multiple=True,
        metavar="NAME",
        shell_complete=complete_specs,
        help="Only runs of this run spec; may be repeated.",
    )(match_option(command))


def open_collection(where: Path | None) -> RunCollection:
    """Open the run collection that `where` means; see `find_place`."""
    from lfadsrm_hpc.api import RunCollection

    return RunCollection.open(find_place(where).collection)


def select_runs(collection: RunCollection, spec: Sequence[str], match: Sequence[str]) -> list[Run]:
    """Return the runs that `--spec` and `--match` select.

    Raises
    ------
    UsageError
        A condition is not NAME=VALUE, names what is no hyperparameter, or the same one as another condition.
    NotFoundError
        Nothing fits.
    """
    wanted: dict[str, Any] = {}
    for condition in match:
        name, equals, value = condition.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UsageError(f"--match {condition!r} is not NAME=VALUE", hint="--match factors_dim=8")
        if name in wanted:
            raise UsageError(
                f"--match names {name} twice, and no run has two values of it",
                hint="name it once",
            )
        wanted[name] = _value(value.strip())
    runs = _find_runs(collection, spec, wanted)
    if not runs:
        chosen = " ".join([*(f"--spec {name}" for name in spec), *(f"--match {one}" for one in match)])
        raise NotFoundError(
            f"no run fits {chosen}" if chosen else "the collection has no runs",
            where=collection.path,
            hint="`lfadsrm status` lists the runs",
        )
    return runs


def _find_runs(collection: RunCollection, spec: Sequence[str], wanted: Mapping[str, Any]) -> list[Run]:
    # Hyperparameters and arguments of find_runs share one name space: "spec=..." must be the former.
    from lfadsrm_hpc.collection.matching import matches

    runs = collection.find_runs(list(spec) or None)
    try:
        return [run for run in runs if matches(run.params, wanted)]
    except ParamsError as error:
        raise UsageError(f"--match: {error.what}", hint=error.hint) from None


def _value(text: str) -> Any:
    """Read a value as JSON would, and True and None too; a bare word is a text, a list a tuple."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return tuple(value) if isinstance(value, list) else value


def where_of(run: str, where: Path | None) -> Path | None:
    """Return WHERE of a command about one RUN, which may be the folder of a run and so say both."""
    folder = _run_folder(run) if where is None else None
    return where if folder is None else folder.collection.path


def _run_folder(text: str) -> RunLayout | None:
    try:
        folder = RunLayout(Path(text).resolve())
        is_one = bool(text) and folder.params_json.is_file() and folder.collection.collection_json.is_file()
    except (OSError, RuntimeError):  # too long a name, links in a circle
        return None
    return folder if is_one else None


def find_one_run(collection: RunCollection, text: str, match: Sequence[str] = ()) -> Run:
    """Return the run that `text` means: its id, its run spec, a part of its id that only one run has, or its
    folder.

    Raises
    ------
    NotFoundError
        None or several.
    UsageError
        See `select_runs`.
    """
    runs = select_runs(collection, (), match)
    varying = varying_names(run.params for run in runs)
    names = [(run.id, run.spec.name) for run in runs]
    return runs[pick_one(collection.path, names, text, lambda n: params_label(runs[n].params, varying))]


def pick_one(where: Path, runs: Sequence[tuple[str, str]], text: str, label: Callable[[int], str]) -> int:
    """Return which of some runs, given as (id, run spec), `text` means; see `find_one_run`.

    Parameters
    ----------
    where : Path
        The collection, for messages.
    label : callable
        Returns what distinguishes the params of a run, by its number.
    """
    numbers = range(len(runs))
    folder = _run_folder(text)
    if folder is not None and folder.collection.path == where.resolve():
        text = folder.run_id
    for fits in (
        [n for n in numbers if runs[n][0] == text],
        [n for n in numbers if runs[n][1] == text],
        [n for n in numbers if text in runs[n][0]],
    ):
        if len(fits) == 1:
            return fits[0]
        if fits:
            break
    shown = [f"{runs[n][0]}  {label(n)}" for n in fits or numbers]
    if len(shown) > _MOST_LISTED:
        shown[_MOST_LISTED:] = [f"and {len(shown) - _MOST_LISTED} more"]
    what = f"{len(fits)} runs fit {text!r}" if fits else f"no run fits {text!r}"
    raise NotFoundError(what, where=where, hint="\n    ".join(["name one of, or add --match", *shown]))


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object with its schema version; what is not finite becomes null."""
    click.echo(json.dumps(_plain({"schema_version": SCHEMA_VERSION, **content}), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def say(text: str) -> None:
    """Tell the user something on standard error."""
    click.echo(text, err=True)


def console(*, stderr: bool = False) -> Console:
    """Return a rich console; wide when its output is not a terminal, so that no table is cut."""
    stream = sys.stderr if stderr else sys.stdout
    return console_on(
        stream,
        highlight=False,
        emoji=False,
        width=None if stream.isatty() else 200,
        color_system="auto" if may_colour(stream) else None,
    )


def print_rich_table(shown: Table) -> None:
    """Print a table; on a narrow terminal its lines go on below rather than lose what they say."""
    out = console()
    for column in shown.columns:
        words = [word for cell in (column.header, *column.cells) for word in str(cell).split()]
        column.min_width = max(map(len, words), default=0)
    least = sum((column.min_width or 0) + 1 for column in shown.columns)
    out.print(shown, width=max(out.width, least), crop=False)
