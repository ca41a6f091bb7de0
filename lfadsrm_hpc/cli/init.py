"""`lfadsrm init`: a folder with a commented experiment.toml."""

from __future__ import annotations

from pathlib import Path

import click

from lfadsrm_hpc.cli.common import json_option, print_json, say
from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.layout import check_name
from lfadsrm_hpc.rendering import shell_quote


@click.command()
@click.argument("folder", required=False, default=".", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", metavar="NAME", help="Name of the run collection; the folder's name unless given.")
@json_option
def init(folder: Path, name: str | None, as_json: bool) -> None:
    """Write a commented experiment.toml and an empty datasets folder into FOLDER.

    An experiment.toml that is already there is never changed.

    \b
    Examples:
      lfadsrm init                          here
      lfadsrm init reaching --name reach1   into the folder reaching

    \b
    Exit codes: 0 written; 2 there is an experiment.toml already, or the name cannot be one.
    """
    from lfadsrm_hpc.collection.experiment import EXPERIMENT_FILE, template

    name = check_name(name if name is not None else folder.resolve().name or "experiment", "run collection")
    path = folder / EXPERIMENT_FILE
    (folder / "datasets").mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(template(name))
    except FileExistsError:
        raise UsageError(
            "there is an experiment.toml already", where=path, hint="edit it, or name another folder"
        ) from None
    if as_json:
        print_json({"experiment": path, "datasets": folder / "datasets", "name": name})
    else:
        click.echo(path)
    say(
        f"Next: put your sessions into {folder / 'datasets'}, edit {path}, "
        f"then: lfadsrm prepare {shell_quote(folder)}"
    )
