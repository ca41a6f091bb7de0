"""`lfadsrm clean`: list what may be deleted, with sizes, and delete it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.common import (
    find_place,
    json_option,
    open_collection,
    print_json,
    say,
    select_runs,
    selection_options,
    where_argument,
)
from lfadsrm_hpc.cli.completing import complete_kinds
from lfadsrm_hpc.cli.confirming import confirm, yes_option
from lfadsrm_hpc.cli.plain_table import plain_table
from lfadsrm_hpc.schedulers.units import format_bytes

if TYPE_CHECKING:
    from lfadsrm_hpc.api import Run, RunCollection
    from lfadsrm_hpc.collection.cleaning import Cleaned, Removable

_MOST_RUNS = 20


@click.command()
@where_argument
@selection_options
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    shell_complete=complete_kinds,
    help="Only files of this kind; may be repeated. Needed for caches, last-checkpoint, posterior-means.",
)
@click.option(
    "--restart",
    is_flag=True,
    help="Delete all that the selected runs have made, so that they start from nothing: results, "
    "checkpoints, attempts, logs. Needs --spec or --match.",
)
@click.option(
    "--unnamed",
    is_flag=True,
    help="Delete runs that were never tried and that the experiment does not name any more, with the inputs "
    "that only they use.",
)
@click.option("--dry-run", is_flag=True, help="List what may be deleted; delete nothing.")
@yes_option
@json_option
def clean(
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    kinds: tuple[str, ...],
    restart: bool,
    unnamed: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Free space in WHERE: list by kind and run what complete runs do not need, ask, and delete it.

    A run that works, waits, is uncertain or did not come to its end keeps all its files; so does one that
    somebody starts meanwhile. The last checkpoint, which holds the best parameters, and the posterior means
    stay unless their kind is named.

    \b
    checkpoints      older checkpoints of the training that completed a run
    attempts         checkpoints of attempts that did not complete their run
    tensorboard      TensorBoard events; the costs stay in fitlog.csv
    glimpses         trials that peek showed while complete runs trained
    inputs           input files that no run uses
    leftovers        unfinished files, a day old, of commands that were killed
    caches           what status need not read again           only where named
    last-checkpoint  no infer, adapt, start_from afterwards    only where named
    posterior-means  the results                               only where named

    With --restart nothing is kept of the runs that --spec and --match select, complete or not, but what they
    were prepared from: inputs and params.json. Runs that work or wait are refused.

    With --unnamed whole runs go, and leave the collection: those of an earlier experiment.toml that nobody
    has tried. WHERE is the experiment. One that was tried stays, unless --restart has deleted what it made.

    \b
    Examples:
      lfadsrm clean --dry-run
      lfadsrm clean my_experiment --kind tensorboard --kind attempts
      lfadsrm clean my_experiment --match factors_dim=8 --kind posterior-means
      lfadsrm clean --yes --json
      lfadsrm clean --spec single_day3 --restart --yes && lfadsrm run --spec single_day3 --dry-run
      lfadsrm clean my_experiment --unnamed

    \b
    Exit codes: 0 deleted, or listed with --dry-run; 2 usage, or not confirmed; 4 nothing to delete.
    """
    from lfadsrm_hpc.errors import NothingEligibleError

    collection = open_collection(where)
    runs = select_runs(collection, spec, match) if spec or match else None
    if unnamed:
        found = _unnamed(where, collection, runs, alone=not (restart or kinds))
    elif restart:
        found = _outputs(collection, runs, kinds)
    else:
        found = collection.removable(runs, kinds=kinds or None)
    if not found:
        raise NothingEligibleError("there is nothing to delete", where=collection.path)
    if dry_run:
        if as_json:
            print_json({"collection": collection.path, "removed": False, **_json(found)})
        else:
            click.echo("\n".join(_lines(found)))
            say("Nothing was deleted.")
        return
    if not as_json:
        say("\n".join(_lines(found)))
    size = sum(item.size for item in found)
    confirm(f"delete {len(found)} files and folders, {format_bytes(size)}?", yes=yes)
    _tell(collection.path, _delete(collection, runs, found, restart, unnamed), as_json=as_json)


def _delete(
    collection: RunCollection,
    runs: Sequence[Run] | None,
    found: Sequence[Removable],
    restart: bool,
    unnamed: bool,
) -> Cleaned:
    from lfadsrm_hpc.collection.cleaning import Cleaned
    from lfadsrm_hpc.collection.unnamed import remove

    if unnamed:
        return remove(collection.layout, found)
    if restart:
        collection.delete_outputs(runs, yes=True)
        return Cleaned(removed=list(found))
    return collection.clean(found)


def _unnamed(
    where: Path | None, collection: RunCollection, runs: Sequence[Run] | None, *, alone: bool
) -> Sequence[Removable]:
    """Return what may go of the runs that the experiment does not name; say which of them stay."""
    from lfadsrm_hpc.collection.unnamed import named_by, removable
    from lfadsrm_hpc.errors import UsageError

    if not alone:
        raise UsageError("--unnamed deletes whole runs", hint="leave --restart and --kind out")
    experiment = find_place(where).experiment
    if experiment is None:
        raise UsageError(
            "--unnamed needs the experiment, which says the runs that are wanted",
            where=collection.path,
            hint="name its folder, or its TOML file, as WHERE: lfadsrm clean my_experiment --unnamed",
        )
    among = None if runs is None else {run.id for run in runs}
    found = removable(collection.layout, named_by(experiment), among)
    stay: dict[str, list[str]] = {}
    for run_id, why in found.kept.items():
        stay.setdefault(why, []).append(run_id)
    for why, ids in stay.items():
        say(f"stays: {ids[0]}" + (f" and {len(ids) - 1} more" if ids[1:] else "") + f": {why}")
    return found.items


def _outputs(
    collection: RunCollection, runs: Sequence[Run] | None, kinds: Sequence[str]
) -> Sequence[Removable]:
    """Return all that chosen runs have made; refuse where it is not said which, or one may be running."""
    from lfadsrm_hpc.collection.cleaning import outputs_of
    from lfadsrm_hpc.collection.outputs import refuse_live
    from lfadsrm_hpc.errors import UsageError

    if runs is None or kinds:
        raise UsageError(
            "--restart deletes all that some runs have made", hint="give --spec or --match, and no --kind"
        )
    refuse_live(collection.layout, runs)
    return outputs_of([run.layout for run in runs])


def _tell(place: Path, done: Cleaned, *, as_json: bool) -> None:
    for run_id, why in done.skipped.items():
        say(f"left alone: {run_id}: {why}")
    if as_json:
        print_json({"collection": place, "removed": True, **_json(done.removed), "skipped": done.skipped})
        return
    click.echo(f"{format_bytes(done.size)} freed")


def _json(items: Sequence[Removable]) -> dict[str, Any]:
    listed = [
        {"kind": i.kind, "run_id": i.run_id or None, "path": i.path, "files": i.files, "size_bytes": i.size}
        for i in items
    ]
    return {"size_bytes": sum(item.size for item in items), "items": listed}


def _lines(items: Sequence[Removable]) -> list[str]:
    """Return two tables: what each kind and each run holds, the largest runs first."""
    by_kind = _sums(items, [item.kind for item in items])
    by_run = _sums(items, [item.run_id for item in items])
    by_run.pop("", None)
    rows = [(kind, str(files), format_bytes(size)) for kind, (files, size) in by_kind.items()]
    rows.append(("all", str(sum(i.files for i in items)), format_bytes(sum(i.size for i in items))))
    lines = [plain_table(("kind", "files", "size"), rows, numbers=("files", "size"))]
    largest = sorted(by_run.items(), key=lambda entry: -entry[1][1])
    if largest:
        shown = [(run_id, str(files), format_bytes(size)) for run_id, (files, size) in largest[:_MOST_RUNS]]
        lines += ["", plain_table(("run", "files", "size"), shown, numbers=("files", "size"))]
    if len(largest) > _MOST_RUNS:
        lines.append(f"and {len(largest) - _MOST_RUNS} more runs (--json lists all)")
    return lines


def _sums(items: Sequence[Removable], keys: Sequence[str]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for item, key in zip(items, keys, strict=True):
        files, size = found.get(key, (0, 0))
        found[key] = files + item.files, size + item.size
    return found
