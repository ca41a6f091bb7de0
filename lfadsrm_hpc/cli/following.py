"""`lfadsrm logs -f`: print what a run prints, through all its attempts, until the run is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import click

from lfadsrm_hpc.cli.common import say
from lfadsrm_hpc.cli.looking import Look, take_look, waits, warn
from lfadsrm_hpc.cli.state_tables import word
from lfadsrm_hpc.collection.roster import Entry, Roster
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.records import EXIT_BAD_DATA
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.plain_files import check_regular

POLL_S = 0.5  # between two looks at the log
FILES_S = 2.0  # between two looks at the run's other files
SCHEDULER_S = 60.0  # between two questions to the scheduler, at least
# A local queue starts a run again that failed or was killed; Python needs some seconds to begin.
ANOTHER_S = 15.0


class Life:
    """Tells whether a run is over: nobody works on it, and nobody is about to.

    Parameters
    ----------
    roster : Roster
    entry : Entry
        The run.
    clock : callable, optional
        Returns seconds.
    """

    def __init__(self, roster: Roster, entry: Entry, clock: Callable[[], float] = time.monotonic) -> None:
        self._roster, self._entry, self._clock = roster, entry, clock
        self._look: Look | None = None
        self._looked = self._asked = float("-inf")
        self._ended: float | None = None
        self._was_live = False
        self._said: set[str] = set()

    def status(self) -> RunStatus:
        """Return what the run is at, as the last look says it."""
        now = self._clock()
        if self._look is not None and now - self._looked < FILES_S:
            return self._look.statuses[self._entry.id]
        ask = self._look is None or now - self._asked >= SCHEDULER_S
        look = take_look(self._roster, [self._entry], ask=ask, before=self._look)
        status = look.statuses[self._entry.id]
        if not ask and not waits([status]) and self._looks_new(status):
            # By its files it has ended; its scheduler may be about to start it again.
            look, ask = take_look(self._roster, [self._entry]), True
        warn([text for text in look.warnings if text not in self._said])
        self._said.update(look.warnings)
        self._look, self._looked = look, now
        self._asked = now if ask else self._asked
        return look.statuses[self._entry.id]

    def _looks_new(self, status: RunStatus) -> bool:
        before = self._look.statuses[self._entry.id] if self._look is not None else None
        return before is None or before.state is not status.state or before.attempt != status.attempt

    def is_over(self) -> bool:
        """Return whether the run has ended for good, as far as anybody can know."""
        status = self.status()
        if waits([status]):
            self._was_live, self._ended = True, None
            return False
        if not self._was_live or not _may_go_on(status):
            return True
        if self._ended is None:
            self._ended = self._clock()
            say(f"# attempt {status.attempt} has ended: {word(status.state)}; is there another?")
        return self._clock() - self._ended >= ANOTHER_S


def _may_go_on(status: RunStatus) -> bool:
    """Return whether a local queue may start the run again."""
    return status.state.is_failure and status.state is not RunState.CANCELLED and status.code != EXIT_BAD_DATA


def follow(stream: TextIO | None, newest: Callable[[], Path | None], over: Callable[[], bool]) -> None:
    """Print what comes, from one log and then from the next.

    Parameters
    ----------
    stream : file or None
        The log that is shown, where it is to be read on; closed at the end. None: there is none yet.
    newest : callable
        Returns the log of the newest attempt that has printed something.
    over : callable
        Returns whether nothing more is to come.
    """
    try:
        while True:
            last = over()  # asked before the look at the log, so that no last line is lost
            log = newest()
            printed = _print_rest(stream)
            if log is not None and (stream is None or log != Path(stream.name)):
                printed = _print_rest(stream) or printed  # what was written while we looked
                stream = _next(stream, log)
                continue
            if last:
                return
            if not printed:
                time.sleep(POLL_S)
    finally:
        if stream is not None:
            stream.close()


def _print_rest(stream: TextIO | None) -> bool:
    rest = stream.read() if stream is not None else ""
    if rest:
        click.echo(rest, nl=False)
    return bool(rest)


def _next(stream: TextIO | None, log: Path) -> TextIO:
    if stream is not None:
        stream.close()
    check_regular(log)
    say(f"# {log}")
    return log.open(encoding="utf-8", errors="replace")
