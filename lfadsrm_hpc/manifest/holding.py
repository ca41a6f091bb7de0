"""Hold a run that is at rest, so that nobody takes it while its files are moved or deleted.

A hold is an attempt of its own: the next number is reserved and claimed, as a task would do it, so queues,
schedulers and other commands find the run taken. It never completes a run. Letting go takes the attempt away
in one step, and the run is what it was before. A process that is killed leaves a claim whose owner is gone;
whoever takes the run next closes it, as that of any task that vanished.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lfadsrm_hpc.errors import ClaimLostError
from lfadsrm_hpc.layout import RunLayout
from lfadsrm_hpc.manifest.closing import close
from lfadsrm_hpc.manifest.facts import RunFacts
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.publish import publish_new
from lfadsrm_hpc.manifest.reading import look, read_facts
from lfadsrm_hpc.manifest.records import SUPERSEDED, Claim, Identity, Reservation, new_token, to_json
from lfadsrm_hpc.manifest.store import free_attempt, heartbeat, lost_race, put_reservation

_BEAT_S = 60.0


class Hold:
    """A run that nobody else can take as long as this lasts.

    Attributes
    ----------
    run : RunLayout
    facts : RunFacts
        What was known of the run just after it was taken.
    """

    def __init__(self, run: RunLayout, facts: RunFacts, claim: Claim) -> None:
        self.run, self.facts, self._claim = run, facts, claim
        self._beaten = time.monotonic()

    @property
    def attempt(self) -> int:
        """The number of the attempt that holds the run."""
        return self._claim.attempt

    def beat(self) -> None:
        """Show other machines that the holder lives: call it between steps that may take long."""
        if time.monotonic() - self._beaten >= _BEAT_S:
            self._beaten = time.monotonic()
            heartbeat(self.run, self._claim)


@contextmanager
def held(run: RunLayout) -> Iterator[Hold]:
    """Hold a run while the block lasts.

    Raises
    ------
    ClaimLostError
        Somebody works on it, it waits for a scheduler, or another was faster.
    """
    hold = take_hold(run)
    try:
        yield hold
    finally:
        let_go(hold)


def take_hold(run: RunLayout) -> Hold:
    """Take a run to hold it; `let_go` gives it back.

    Raises
    ------
    ClaimLostError
        See `held`.
    """
    run.attempts_dir.mkdir(parents=True, exist_ok=True)
    facts = read_facts(run)
    number = free_attempt(run, facts, look(run.attempts_dir), None)
    me = Process.current()
    claim = Claim(number, 0, Identity.local("", "hold"), me, new_token(), time.time())
    if not put_reservation(run, number, Reservation("", time.time(), me)):
        lost_race(run)
    try:
        if not publish_new(run.attempt(number).claim(0), to_json(claim)):
            lost_race(run)
        if run.attempt(number).closed.exists() or any(a.number > number for a in run.attempts()):
            close(run, number, SUPERSEDED)
            lost_race(run)
        return Hold(run, read_facts(run), claim)  # what counts is what is so while nobody can change it
    except ClaimLostError:
        raise
    except BaseException:  # interrupted: what was taken is given back
        let_go(Hold(run, facts, claim))
        raise


def let_go(hold: Hold) -> None:
    """Take the attempt of a hold away, in one step."""
    attempt = hold.run.attempt(hold.attempt)
    aside = hold.run.released_attempt(os.urandom(8).hex())
    try:
        attempt.path.rename(aside)
    except FileNotFoundError:  # the run itself was deleted
        return
    shutil.rmtree(aside, ignore_errors=True)
