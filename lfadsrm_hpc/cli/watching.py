"""`lfadsrm status --watch`: look again and again, politely, until nothing is left to wait for."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence

import click

from lfadsrm_hpc.cli.common import say
from lfadsrm_hpc.cli.looking import Look, take_look, waits, warn
from lfadsrm_hpc.cli.state_tables import clock, counts_text
from lfadsrm_hpc.cli.terminal import clear_screen, may_change
from lfadsrm_hpc.collection.roster import Entry, Roster
from lfadsrm_hpc.errors import CommandError

FILES_S = 5.0  # between two looks at the files
SCHEDULER_S = 60.0  # between two questions to the scheduler, at least
NOTIFY_S = 60.0  # time limit of the site's command
_SHARE = 20  # a look may take one part in so many of the time


def watch_runs(roster: Roster, entries: Sequence[Entry], text: Callable[[Look], str]) -> Look:
    """Look until nothing is left to wait for, and return the last look.

    On a terminal the screen is drawn anew each time; elsewhere a line is printed when counts have changed.
    The scheduler is asked at most once a minute. When runs were waited for and are over, the sites' commands
    are run (`notify.command`), which find `LFADSRM_MESSAGE` in their environment.

    Parameters
    ----------
    text : callable
        Returns what a terminal shows.
    """
    show = _screen(text) if may_change() else _lines()
    said: set[str] = set()
    look, asked, waited = None, -SCHEDULER_S, False
    notify: dict[str, None] = {}
    while True:
        began = time.monotonic()
        ask = began - asked >= SCHEDULER_S
        look = take_look(roster, entries, ask=ask, before=look)
        asked = began if look.queried else asked
        notify.update(dict.fromkeys(look.notify))
        warn([text for text in look.warnings if _gist(text) not in said])
        said.update(map(_gist, look.warnings))
        going_on = waits(look.statuses.values())
        if not going_on and (ask or not notify):
            break
        waited = True
        show(look)
        spent = time.monotonic() - began
        # What is over by the files may not be over for the scheduler, which has the last word.
        left = asked + SCHEDULER_S - began - spent
        time.sleep(max(FILES_S, _SHARE * spent) if going_on else max(0.0, left))
    if waited:
        message = f"{roster.layout.name}: {counts_text(list(look.statuses.values()))}"
        for command in notify:
            run_notify(command, message)
    return look


def _gist(warning: str) -> str:
    """Return a warning without its numbers: "silent for 7 minutes" need not be said again after 8."""
    return re.sub(r"\b\d+\b", "", warning)


def _screen(text: Callable[[Look], str]) -> Callable[[Look], None]:
    def show(look: Look) -> None:
        clear_screen()
        click.echo(text(look))

    return show


def _lines() -> Callable[[Look], None]:
    printed = ""

    def show(look: Look) -> None:
        nonlocal printed
        counts = counts_text(list(look.statuses.values()))
        if counts != printed:
            say(f"{clock()}  {counts}")
        printed = counts

    return show


def run_notify(command: str, message: str) -> None:
    """Run the command by which a site wants its users told; that it fails is a warning."""
    from lfadsrm_hpc.command import ask

    try:
        ask(
            ["/bin/sh", "-c", command],
            timeout_s=NOTIFY_S,
            env={**os.environ, "LFADSRM_MESSAGE": message},
        )
    except CommandError as error:
        say(f"warning: the site's notify command: {error.what}")
