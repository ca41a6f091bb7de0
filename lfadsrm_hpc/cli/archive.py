"""`lfadsrm archive`: pack a collection, or some of its runs, into one verified file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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
from lfadsrm_hpc.cli.confirming import confirm, yes_option
from lfadsrm_hpc.cli.places import find_place
from lfadsrm_hpc.cli.terminal import may_change
from lfadsrm_hpc.errors import NotFoundError, UsageError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.rendering import shell_quote
from lfadsrm_hpc.schedulers.units import format_bytes

if TYPE_CHECKING:
    from lfadsrm_hpc.collection.archive import Archived


@click.command()
@where_argument
@selection_options
@click.option(
    "-o",
    "--out",
    "output",
    type=Written(path_type=Path),
    metavar="FILE",
    help="Ends in .tar or .tar.gz; <collection>.tar beside the collection unless given.",
)
@click.option(
    "--remove", is_flag=True, help="Delete the collection once its archive is verified; asks first."
)
@click.option(
    "--check",
    "checked",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Verify an archive, tell what it holds, and do nothing else.",
)
@yes_option
@json_option
def archive(
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    output: Path | None,
    remove: bool,
    checked: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Pack WHERE, or the runs that --spec and --match select with their inputs, into one tar file.

    It holds every file with its checksum, and is read back before it gets its name; the results are
    compressed already, so .tar.gz gains little. `tar -xf FILE` brings it back, anywhere: states, results and
    models are what they were. No run may work or wait meanwhile. With --remove the collection is deleted
    after that; stopped half-way, the same command goes on.

    \b
    Examples:
      lfadsrm archive my_experiment
      lfadsrm archive my_experiment -o /archive/reaching.tar --remove
      lfadsrm archive my_experiment --match factors_dim=8 -o best.tar
      lfadsrm archive --check best.tar

    \b
    Exit codes: 0 packed and verified; 2 usage, not confirmed, or runs are at work; 3 the archive is
    damaged, or files were changed meanwhile: nothing was removed; 130 interrupted, the same goes on.
    """
    if checked is not None:
        if where is not None or output is not None or remove or spec or match:
            raise UsageError("--check stands alone", hint="lfadsrm archive --check FILE")
        _check(checked, as_json=as_json)
        return
    if _settled(where):
        return
    collection = open_collection(where)
    runs = select_runs(collection, spec, match) if spec or match else None
    if remove:
        confirm(f"delete {collection.path} once its archive is verified?", yes=yes)
    with _progress() as step:
        done = collection.archive(output, runs, remove=remove, on_step=step)
    _tell(collection.path, done, as_json=as_json)


def _settled(where: Path | None) -> bool:
    """End a removal that was killed; return whether nothing is left of the collection."""
    from lfadsrm_hpc.collection.archive import settle_interrupted

    try:
        place = CollectionLayout(find_place(where, prepared=False).collection)
    except NotFoundError:
        if where is None:
            raise
        place = CollectionLayout(where)
    told = settle_interrupted(CollectionLayout(place.path.absolute()))
    if told is not None:
        say(told)
    return told is not None and not place.path.exists()


def _check(path: Path, *, as_json: bool) -> None:
    from lfadsrm_hpc.collection import archive_file

    content = archive_file.check(path, lambda size: None)
    states = Counter(content.runs.values())
    if as_json:
        print_json(
            {
                "archive": path,
                "collection": content.collection,
                "created": content.created,
                "runs": content.runs,
                "files": len(content.files),
                "size_bytes": content.size,
            }
        )
        return
    click.echo(
        f"{content.collection}, packed {content.created}: {len(content.files)} files, "
        f"{format_bytes(content.size)}; {len(content.runs)} runs: "
        + (", ".join(f"{count} {state.lower()}" for state, count in states.items()) or "none")
    )
    say("Every checksum is right.")


def _tell(place: Path, done: Archived, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "archive": done.path,
                "collection": place,
                "runs": done.content.runs,
                "files": len(done.content.files),
                "size_bytes": done.content.size,
                "made": done.made,
                "removed": done.removed,
            }
        )
        return
    click.echo(done.path)
    verb = "packed and verified" if done.made else "were in the archive already, which was verified"
    say(f"{len(done.content.files)} files, {format_bytes(done.content.size)}, {verb}.")
    if done.removed:
        say(f"{place} was deleted. To bring it back: tar -xf {shell_quote(done.path)}")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on a terminal."""
    if not may_change(sys.stderr):
        yield None
        return
    from rich.progress import Progress

    from lfadsrm_hpc.cli.common import console

    with Progress(console=console(stderr=True), transient=True) as shown:
        task = shown.add_task("archiving", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
