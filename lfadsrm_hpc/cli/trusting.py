"""`lfadsrm site trust`, and the question that a terminal is asked instead."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from lfadsrm_hpc.cli.common import json_option, print_json, say
from lfadsrm_hpc.errors import ConfigError, LfadsrmError, NotFoundError, UntrustedError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.plain_files import read_bytes
from lfadsrm_hpc.trust import COMMAND, file_key, forget, is_own, is_trusted, remember


@dataclass(frozen=True)
class Piece:
    """Something that would run commands as the user.

    Attributes
    ----------
    what : str
        With an article.
    where : Path
    key : str
        By which it is remembered.
    content : bytes
    """

    what: str
    where: Path
    key: str
    content: bytes

    @property
    def trusted(self) -> bool:
        return is_own(self.where) or is_trusted(self.key, self.content)


@click.command(context_settings={"max_content_width": 100})
@click.argument("where", required=False, default=None, type=click.Path(path_type=Path), metavar="[WHERE]")
@click.option("--list", "only_list", is_flag=True, help="Only tell what is trusted.")
@click.option("--revoke", is_flag=True, help="Trust it no longer.")
@json_option
def trust(where: Path | None, only_list: bool, revoke: bool, as_json: bool) -> None:
    """Trust what in WHERE (an experiment's folder, or a run collection) would run commands as you.

    That is templates/, site_configs/, what [queue] and [cluster] of an experiment.toml say of commands, and
    submissions that somebody else has planned. Read it first. What is changed later has to be trusted again.
    The answer is kept in your own settings, and LFADSRM_TRUSTED names folders (separated by ":") in which
    everything is trusted without one.

    \b
    Examples:
      lfadsrm site trust                 what is in this folder
      lfadsrm site trust my_experiment --list
      lfadsrm site trust my_experiment --revoke

    \b
    Exit codes: 0 done; 2 no such folder; 3 the answer cannot be kept; 4 there is nothing to trust.
    """
    found = list(pieces(where if where is not None else Path.cwd()))
    if not only_list:
        for one in found:
            (_forget if revoke else _remember)(one)
    if as_json:
        print_json({"pieces": [{"what": p.what, "where": str(p.where), "trusted": p.trusted} for p in found]})
    for one in [] if as_json else found:
        click.echo(f"{'trusted' if one.trusted else 'not trusted'}: {one.where} ({one.what})")
    if not found:
        say("there is nothing here that would run commands")
        raise SystemExit(4)


def _remember(piece: Piece) -> bool:
    return remember(piece.key, piece.content, piece.what)


def _forget(piece: Piece) -> bool:
    return forget(piece.key, piece.content)


def ask_trust(error: UntrustedError) -> bool:
    """Ask whether what an error is about is to be trusted; return whether the command may be tried again.

    Nobody is asked where there is no terminal.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    place = Path(str(error.place))
    untrusted = [piece for piece in pieces(place) if not piece.trusted]
    if not untrusted:
        return False
    say(f"{error.what}:")
    for one in untrusted:
        say(f"  {one.where} ({one.what})")
    say(f"Read them before you say yes. `{COMMAND} --revoke` takes it back.")
    if not click.confirm("Trust them as they are now?", default=False, err=True):
        return False
    new = [_remember(one) for one in untrusted]
    return any(new)


def pieces(where: Path) -> Iterator[Piece]:
    """Yield what in a project's folder or a run collection would run commands, trusted or not.

    Parameters
    ----------
    where : Path
        The folder, a file in it, or a run collection or a submission in it.

    Raises
    ------
    NotFoundError
        There is no such folder.
    """
    from lfadsrm_hpc.schedulers.sites.loading import project_of

    where = where.absolute()
    if not where.exists():
        raise NotFoundError("there is no such folder", where=where)
    collection = next((one for one in (where, *where.parents) if _is_collection(one)), None)
    project = where if where.is_dir() and collection is None and _is_project(where) else project_of(where)
    yield from _files(project)
    collections = [] if collection is None else [collection]
    for file in sorted(project.glob("*.toml")):
        with contextlib.suppress(LfadsrmError):  # another TOML file, or one with errors: it is not used
            found, folder = _experiment(file)
            collections += [folder] if folder not in collections else []
            yield from found
    for folder in collections:
        yield from _submissions(folder)


def _is_collection(folder: Path) -> bool:
    return CollectionLayout(folder).collection_json.is_file()


def _is_project(folder: Path) -> bool:
    names = ("experiment.toml", "site_configs", "templates")
    return any((folder / name).exists() for name in names) or any(folder.glob("*.toml"))


def _files(project: Path) -> Iterator[Piece]:
    for what, folder, pattern in (
        ("a template", "templates", "**/*"),
        ("a site file", "site_configs", "*.toml"),
    ):
        for path in sorted((project / folder).glob(pattern)):
            if path.is_file():
                try:
                    yield Piece(what, path, file_key(path), read_bytes(path))
                except OSError as error:
                    raise ConfigError(f"the file cannot be read: {error.strerror}", where=path) from None


def _experiment(file: Path) -> tuple[list[Piece], Path]:
    """Return the commands of an experiment, if there are some, and where its collection is."""
    from lfadsrm_hpc.collection.experiment_file import read_experiment

    experiment = read_experiment(file)
    found = [Piece("commands in it", file, file_key(file), experiment.commands)]
    return (found if experiment.commands else []), experiment.collection_path


def _submissions(collection: Path) -> Iterator[Piece]:
    from lfadsrm_hpc.manifest.sealed import trust_content, trust_key

    for layout in CollectionLayout(collection).submissions():
        if layout.plan.is_file():
            yield Piece("a submission", layout.path, trust_key(layout), trust_content(layout))
