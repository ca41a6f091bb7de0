"""`lfadsrm logs`: what a run has printed."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

import click

from lfadsrm_hpc.cli.common import find_one_run, open_collection, say
from lfadsrm_hpc.errors import NotFoundError
from lfadsrm_hpc.layout import AttemptLayout


@click.command()
@click.argument("run")
@click.option(
    "-C",
    "--collection",
    "where",
    envvar="LFADSRM_COLLECTION",
    type=click.Path(path_type=Path),
    help="The run collection or its experiment; otherwise the one found from here upwards.",
)
@click.option("-n", "--lines", default=40, show_default=True, type=click.IntRange(0), help="0: all of it.")
@click.option("--attempt", type=click.IntRange(1), help="The log of this attempt, not of the newest.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing as the log grows; end with Ctrl-C.")
def logs(run: str, where: Path | None, lines: int, attempt: int | None, follow: bool) -> None:
    """Print the log of RUN: its id, or a part of it that no other run has.

    \b
    Examples:
      lfadsrm logs single_day1
      lfadsrm logs param_ab12cd34ef56/single_day1 -n 0 | less
      lfadsrm logs single_day1 -f
    """
    found = find_one_run(open_collection(where), run)
    path = _log(found.layout.attempts(), attempt, found.id)
    say(f"# {path}")
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in deque(stream, maxlen=lines) if lines else stream:
            click.echo(line, nl=False)
        while follow:
            rest = stream.read()
            if rest:
                click.echo(rest, nl=False)
            else:
                time.sleep(0.5)


def _log(attempts: list[AttemptLayout], number: int | None, run_id: str) -> Path:
    with_log = [a for a in attempts if a.log.is_file() and number in (None, a.number)]
    if not with_log:
        what = "has printed nothing yet" if number is None else f"has no log of attempt {number}"
        raise NotFoundError(f"run {run_id} {what}", hint="`lfadsrm status` tells its state")
    return with_log[-1].log
