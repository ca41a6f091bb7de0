"""`lfadsrm tensorboard`: TensorBoard on a selection of runs, each under a name that people can read."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from lfadsrm_hpc.cli.cluster_options import parse_states, state_option
from lfadsrm_hpc.cli.common import (
    find_place,
    json_option,
    print_json,
    say,
    selection_options,
    where_argument,
)
from lfadsrm_hpc.cli.looking import select
from lfadsrm_hpc.collection.roster import Entry, Roster
from lfadsrm_hpc.command import end, launch
from lfadsrm_hpc.errors import CommandError, ConfigError, NotFoundError, UsageError
from lfadsrm_hpc.manifest.reading import states_of
from lfadsrm_hpc.rendering import shell_quote

_LONGEST = 180  # bytes of a name; file systems take 255


@click.command()
@where_argument
@selection_options
@state_option
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Where it listens; otherwise 6006, or the next that is free. 0: any that is free.",
)
@click.option(
    "--host", metavar="NAME", help="By which address it is reached; otherwise only from this machine."
)
@click.option("--dry-run", is_flag=True, help="Print the commands, start nothing.")
@json_option
def tensorboard(
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    state_words: tuple[str, ...],
    port: int | None,
    host: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Start TensorBoard on runs of WHERE: a run collection, an experiment, or what is found from here
    upwards.

    Runs are named by their run spec and the hyperparameters that differ among them; each attempt at a run is
    a folder below. What is trained while TensorBoard runs appears by itself. Ctrl-C ends it.

    \b
    Examples:
      lfadsrm tensorboard
      lfadsrm tensorboard my_experiment --match factors_dim=8 --port 6007
      lfadsrm tensorboard --state running
      lfadsrm tensorboard --dry-run

    \b
    Exit codes: 0 ended with Ctrl-C; 1 TensorBoard ended by itself; 2 there is no such collection,
    run spec or hyperparameter, or no run is in such a state; 3 TensorBoard is not installed.
    """
    if as_json and not dry_run:
        raise UsageError(
            "--json tells what --dry-run tells, and TensorBoard prints no JSON", hint="add --dry-run"
        )
    states = parse_states(state_words)
    roster = Roster.open(find_place(where).collection)
    entries = select(roster, spec, match)
    if states:
        statuses = states_of(roster.layout, [entry.id for entry in entries])
        entries = [entry for entry in entries if statuses[entry.id].state in states]
        if not entries:
            raise NotFoundError("no run is in such a state", where=roster.path, hint="`lfadsrm status`")
    folders = {
        name: roster.layout.run_by_id(entry.id).checkpoints.absolute()
        for name, entry in run_names(roster, entries).items()
    }
    options = [*(["--port", str(port)] if port is not None else []), *(["--host", host] if host else [])]
    if dry_run:
        _tell(folders, options, as_json)
    else:
        _serve(folders, [*_program(), *options], port)


def run_names(roster: Roster, entries: Sequence[Entry]) -> dict[str, Entry]:
    """Return names that people can read and file systems take, one for each run.

    Examples: "factors_dim=8 seed=0"; "single_day1 factors_dim=8 seed=0" where there are several run specs.
    """
    varying = roster.varying(entries)
    several = len({entry.spec for entry in entries}) > 1
    found: dict[str, Entry] = {}
    for entry in entries:
        words = [entry.spec] if several or not varying else []
        words += [roster.label(entry.params, varying)] if varying else []
        name = "".join(c if c.isprintable() and c != "/" else "_" for c in " ".join(words)).lstrip(".-")
        if len(name.encode()) > _LONGEST or name in found or not name:
            short = name.encode()[: _LONGEST - len(entry.params) - 1].decode(errors="ignore")
            name = f"{short} {entry.params}".strip()
        if name in found:  # both were cut where they differ
            name = f"{len(found)} {name}"
        found[name] = entry
    return found


def _program() -> list[str]:
    """Return how TensorBoard is started here.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    if importlib.util.find_spec("tensorboard") is not None:
        return [sys.executable, "-m", "tensorboard.main"]
    if (found := shutil.which("tensorboard")) is not None:
        return [found]
    raise ConfigError(
        "TensorBoard is not installed here", where=sys.executable, hint="pip install tensorboard"
    )


def _tell(folders: Mapping[str, Path], options: Sequence[str], as_json: bool) -> None:
    if as_json:
        runs = {name: str(folder) for name, folder in folders.items()}
        print_json({"command": [*_program(), "--logdir", "LINKS", *options], "runs": runs})
        return
    click.echo("links=$(mktemp -d)")
    for name, folder in folders.items():
        click.echo(f'ln -s -- {shell_quote(folder)} "$links"/{shell_quote(name)}')
    words = " ".join(shell_quote(word) for word in _program())
    click.echo(" ".join([f'{words} --logdir "$links"', *map(shell_quote, options)]))


def _serve(folders: Mapping[str, Path], command: Sequence[str], port: int | None) -> None:
    """Run TensorBoard on a folder of links until somebody stops it."""
    with tempfile.TemporaryDirectory(prefix="lfadsrm-tensorboard-") as scratch, _stoppable():
        for name, folder in folders.items():
            (Path(scratch) / name).symlink_to(folder)
        begun = sum(folder.is_dir() for folder in folders.values())
        say(f"TensorBoard on {len(folders):,} runs, of which {begun:,} have begun; Ctrl-C ends it.")
        shown = port or 6006
        say(f"from another machine: ssh -N -L {shown}:localhost:{shown} {socket.gethostname()}")
        process = launch([*command, "--logdir", scratch])
        try:
            code = process.wait()
        except KeyboardInterrupt:
            return
        finally:
            end(process)
    if code:
        raise CommandError(
            f"TensorBoard ended by itself with status {code}",
            command=command,
            returncode=code,
            hint="what it said stands above; if a port is in use, choose another with --port",
        )


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let TERM and HUP end this program as Ctrl-C does, so that nothing is left behind."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
