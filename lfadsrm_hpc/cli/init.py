"""`lfadsrm init`: a folder with a commented experiment.toml, or with a script."""

from __future__ import annotations

from pathlib import Path

import click

from lfadsrm_hpc.cli.common import json_option, print_json, say
from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.layout import check_name
from lfadsrm_hpc.manifest.publish import publish_new
from lfadsrm_hpc.rendering import shell_quote


@click.command()
@click.argument("folder", required=False, default=".", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", metavar="NAME", help="Name of the run collection; the folder's name unless given.")
@click.option(
    "--python",
    "as_script",
    is_flag=True,
    help="Write experiment.py, a script that makes the same collection as the experiment.toml that is there, "
    "or as a new one would.",
)
@json_option
def init(folder: Path, name: str | None, as_script: bool, as_json: bool) -> None:
    """Write a commented experiment.toml and an empty datasets folder into FOLDER.

    A file that is already there is never changed. An experiment that a TOML file cannot describe is a Python
    script: --python writes one to begin with.

    \b
    Examples:
      lfadsrm init                          here
      lfadsrm init reaching --name reach1   into the folder reaching
      lfadsrm init reaching --python        its experiment.toml as a script

    \b
    Exit codes: 0 written; 2 there is such a file already, or the name cannot be one;
    3 experiment.toml is invalid.
    """
    from lfadsrm_hpc.collection.experiment_file import EXPERIMENT_FILE, SCRIPT_FILE

    path = folder / (SCRIPT_FILE if as_script else EXPERIMENT_FILE)
    given = as_script and (folder / EXPERIMENT_FILE).exists()
    if given and name is not None:
        raise UsageError("--name cannot be given: experiment.toml names the collection", where=folder)
    name, text = _script(folder, name) if as_script else _toml(folder, name)
    (folder / "datasets").mkdir(parents=True, exist_ok=True)
    if not publish_new(path, text.encode()):
        raise UsageError(
            f"there is an {path.name} already", where=path, hint="edit it, or name another folder"
        )
    if as_json:
        print_json({"experiment": path, "datasets": folder / "datasets", "name": name})
    else:
        click.echo(path)
    then = f"python {shell_quote(path)}" if as_script else f"lfadsrm prepare {shell_quote(folder)}"
    say(f"Next: put your sessions into {folder / 'datasets'}, edit {path}, then: {then}")


def _toml(folder: Path, name: str | None) -> tuple[str, str]:
    """Return the name of the collection, and the text of a new experiment.toml."""
    from lfadsrm_hpc.collection.experiment_template import template

    name = name if name is not None else folder.resolve().name or "experiment"
    return check_name(name, "run collection"), template(name)


def _script(folder: Path, name: str | None) -> tuple[str, str]:
    """Return the name of the collection, and the script of the experiment that is there or of a new one."""
    from lfadsrm_hpc.collection.experiment_file import EXPERIMENT_FILE, parse_experiment, read_experiment
    from lfadsrm_hpc.collection.experiment_script import script_of

    file = folder / EXPERIMENT_FILE
    found = file.exists()
    experiment = read_experiment(file) if found else parse_experiment(_toml(folder, name)[1], file)
    return experiment.name, script_of(experiment, found=found)
