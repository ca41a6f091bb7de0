"""`lfadsrm logs`: what a run has printed."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import click

from lfadsrm_hpc.cli.common import (
    collection_option,
    find_place,
    json_option,
    match_option,
    print_json,
    run_argument,
    say,
    where_of,
)
from lfadsrm_hpc.cli.looking import find_one_entry
from lfadsrm_hpc.collection.roster import Entry, Roster
from lfadsrm_hpc.errors import NotFoundError, UsageError
from lfadsrm_hpc.layout import RunLayout
from lfadsrm_hpc.plain_files import check_regular
from lfadsrm_hpc.schedulers.attempts import attempts_of


@click.command()
@run_argument
@collection_option
@match_option
@click.option("-n", "--lines", default=40, show_default=True, type=click.IntRange(0), help="0: all of it.")
@click.option("--attempt", type=click.IntRange(1), help="The log of this attempt, not of the newest.")
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Go on printing, also what later attempts print, until the run is over; with --attempt, until that "
    "attempt is.",
)
@json_option
def logs(
    run: str,
    where: Path | None,
    match: tuple[str, ...],
    lines: int,
    attempt: int | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Print the log of RUN: its id, its run spec, a part of its id that no other run has, or its folder.

    The name of the file goes to standard error. With --follow it waits for the first line of a run that is
    in a queue, and Ctrl-C ends it; the run goes on.

    \b
    Examples:
      lfadsrm logs single_day1
      lfadsrm logs param_ab12cd34ef56/single_day1 -n 0 | less
      lfadsrm logs single_day1 --match factors_dim=8 -f
      lfadsrm logs single_day1 --attempt 1       an earlier try
      lfadsrm logs single_day1 --json | jq -r '.lines[-1]'

    \b
    Exit codes: 0 printed, or with --follow: the run is over; 2 there is no such run, or it has
    printed nothing; 130 interrupted.
    """
    if follow and as_json:
        raise UsageError("--follow and --json do not go together", hint="leave one of them out")
    roster = Roster.open(find_place(where_of(run, where)).collection)
    entry = find_one_entry(roster, run, match)
    found = roster.layout.run_by_id(entry.id)
    number, log = _log(found, attempt)
    if follow:
        _follow(roster, entry, attempt, log, lines)
    elif log is None:
        raise _nothing(found, attempt)
    else:
        with _opened(log) as stream:
            shown = _last(stream, lines)
            if as_json:
                texts = [line.rstrip("\n") for line in shown]
                print_json({"run_id": entry.id, "attempt": number, "log": log, "lines": texts})
                return
            say(f"# {log}")
            _print(shown)


def _opened(log: Path) -> TextIO:
    check_regular(log)
    return log.open(encoding="utf-8", errors="replace")


def _last(stream: TextIO, lines: int) -> Iterable[str]:
    return deque(stream, maxlen=lines) if lines else stream


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line, nl=False)


def _log(run: RunLayout, number: int | None) -> tuple[int | None, Path | None]:
    """Return what an attempt printed (None: the newest that did), or the run before it had an attempt.

    A batch script that dies before it knows its run prints to the submission's own folder.
    """
    attempts = attempts_of(run)
    printed = {attempt.number: attempt.printed for attempt in attempts}
    if number is not None:
        return number, printed.get(number)
    # A task that dies before it has an attempt (python is missing, ...) prints to the queue's own log of it.
    early = [path for path in run.collection.queue_state_files(run.run_id) if path.suffix == ".log"]
    newest = [(one, path) for one, path in reversed(printed.items()) if path is not None]
    for one, path in [*newest, *((None, path) for path in early if path.stat().st_size)]:
        if newest and one != attempts[-1].number:
            say(f"# attempt {attempts[-1].number} has printed nothing yet")
        return one, path
    return None, None


def _nothing(run: RunLayout, number: int | None) -> NotFoundError:
    if number is None:
        what, hint = "has printed nothing yet", "`lfadsrm status` tells its state"
        return NotFoundError(f"run {run.run_id} {what}", hint=hint)
    there = [str(attempt.number) for attempt in attempts_of(run) if attempt.printed is not None]
    hints = f"there are logs of: {', '.join(there)}" if there else None
    return NotFoundError(f"run {run.run_id} has no log of attempt {number}", hint=hints)


def _follow(roster: Roster, entry: Entry, number: int | None, log: Path | None, lines: int) -> None:
    """Print the end of the log, and go on."""
    from lfadsrm_hpc.cli.following import Life, follow

    run = roster.layout.run_by_id(entry.id)
    over = Life(roster, entry).is_over if number is None else lambda: _has_ended(run, number)
    if log is None and (number is not None or over()):
        raise _nothing(run, number)
    stream = None
    if log is not None:
        say(f"# {log}")
        stream = _opened(log)
        _print(_last(stream, lines))
    else:
        say(f"# {entry.id} has printed nothing yet; waiting for it")
    sys.stdout.flush()
    follow(stream, lambda: log if number is not None else _newest(run), over)


def _has_ended(run: RunLayout, number: int) -> bool:
    """Return whether nobody works on this attempt."""
    from lfadsrm_hpc.manifest import store

    owner = store.owner(run)
    return owner is None or owner.attempt != number


def _newest(run: RunLayout) -> Path | None:
    """Return the log of the newest attempt that has printed something."""
    return next((each.printed for each in reversed(attempts_of(run)) if each.printed is not None), None)
