"""`lfadsrm logs`: what a run has printed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import click

from lfadsrm_hpc.cli.common import collection_option, find_one_run, match_option, open_collection, say
from lfadsrm_hpc.errors import NotFoundError
from lfadsrm_hpc.layout import RunLayout
from lfadsrm_hpc.plain_files import check_regular
from lfadsrm_hpc.schedulers.attempts import attempts_of

_POLL_S = 0.5


@click.command()
@click.argument("run")
@collection_option
@match_option
@click.option("-n", "--lines", default=40, show_default=True, type=click.IntRange(0), help="0: all of it.")
@click.option("--attempt", type=click.IntRange(1), help="The log of this attempt, not of the newest.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the attempt ends, or Ctrl-C.")
def logs(
    run: str, where: Path | None, match: tuple[str, ...], lines: int, attempt: int | None, follow: bool
) -> None:
    """Print the log of RUN: its id, its run spec, or a part of its id that no other run has.

    \b
    Examples:
      lfadsrm logs single_day1
      lfadsrm logs param_ab12cd34ef56/single_day1 -n 0 | less
      lfadsrm logs single_day1 --match factors_dim=8 -f
      lfadsrm logs single_day1 --attempt 1       an earlier try
    """
    found = find_one_run(open_collection(where), run, match)
    chosen = _log(found.layout, attempt)
    say(f"# {chosen}")
    check_regular(chosen)
    with chosen.open(encoding="utf-8", errors="replace") as stream:
        for line in deque(stream, maxlen=lines) if lines else stream:
            click.echo(line, nl=False)
        if follow:
            _follow(stream, lambda: _works_on(found.layout, chosen))


def _log(run: RunLayout, number: int | None) -> Path:
    """Return what an attempt printed (None: the newest that did), or the run before it had an attempt.

    A batch script that dies before it knows its run prints to the submission's own folder.
    """
    attempts = attempts_of(run)
    printed = {attempt.number: attempt.printed for attempt in attempts}
    there = [one for one, path in printed.items() if path is not None]
    if number is not None:
        path = printed.get(number)
        if path is not None:
            return path
        hint = f"there are logs of: {', '.join(map(str, there))}" if there else None
        raise NotFoundError(f"run {run.run_id} has no log of attempt {number}", hint=hint)
    # A task that dies before it has an attempt (python is missing, ...) prints to the queue's own log of it.
    early = [path for path in run.collection.queue_state_files(run.run_id) if path.suffix == ".log"]
    newest = [path for path in reversed(printed.values()) if path is not None]
    for path in [*newest, *(path for path in early if path.stat().st_size)]:
        if attempts and path != attempts[-1].printed and there:
            say(f"# attempt {attempts[-1].number} has printed nothing yet")
        return path
    raise NotFoundError(f"run {run.run_id} has printed nothing yet", hint="`lfadsrm status` tells its state")


def _works_on(run: RunLayout, log: Path) -> bool:
    """Return whether somebody may still print to this log."""
    from lfadsrm_hpc.manifest import store

    owner = store.owner(run)
    return owner is not None and run.attempt(owner.attempt).log == log


def _follow(stream: TextIO, goes_on: Callable[[], bool]) -> None:
    live = True
    while live:
        live = goes_on()  # asked before the last look, so that no last line is lost
        rest = stream.read()
        if rest:
            click.echo(rest, nl=False)
        elif live:
            time.sleep(_POLL_S)
