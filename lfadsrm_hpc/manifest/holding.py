"""Hold a run that is at rest, so that nobody takes it while its files are moved or deleted.

A hold is an attempt of its own: the next number, reserved and claimed as a task would do it, so that queues,
schedulers and other commands find the run taken. It never completes a run. It appears in one step, and
letting go takes it away in one step: the run is what it was before. A process that is killed leaves a claim
whose owner is gone: the next hold takes it away, and whoever takes the run for work closes it, as that of any
lost task.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lfadsrm_hpc.layout import AttemptLayout, RunLayout
from lfadsrm_hpc.manifest.facts import AttemptFacts, Freshness, RunFacts
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.publish import make_folder, publish_new
from lfadsrm_hpc.manifest.reading import look, read_claim, read_facts
from lfadsrm_hpc.manifest.records import Claim, Identity, Reservation, new_token, to_json
from lfadsrm_hpc.manifest.store import free_attempt, heartbeat, lost_race

_BEAT_S = 60.0
_HOLD = "hold"  # the task of its identity, by which a hold is told from work


class Hold:
    """A run that nobody else can take as long as this lasts.

    Attributes
    ----------
    run : RunLayout
    claim : Claim
        By which it is held.
    facts : RunFacts
        What was known of the run just after it was taken.
    """

    def __init__(self, run: RunLayout, facts: RunFacts, claim: Claim) -> None:
        self.run, self.facts, self.claim = run, facts, claim
        self._beaten = time.monotonic()

    @property
    def attempt(self) -> int:
        """The number of the attempt that holds the run."""
        return self.claim.attempt

    def beat(self) -> None:
        """Show other machines that the holder lives: call it between steps that may take long."""
        if time.monotonic() - self._beaten >= _BEAT_S:
            self._beaten = time.monotonic()
            heartbeat(self.run, self.claim)


def is_hold(attempt: AttemptFacts) -> bool:
    """Return whether an attempt only holds, or held, its run: nobody tried the run by it."""
    claim = attempt.newest.claim if attempt.newest is not None else None
    return claim is not None and claim.identity.task == _HOLD


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
    freshness = look(run.attempts_dir)
    facts = _without_dead_hold(run, read_facts(run), freshness)
    number = free_attempt(run, facts, freshness, None)
    claim = _put(run, number)
    hold = Hold(run, facts, claim)
    try:
        if run.attempt(number).closed.exists() or any(a.number > number for a in run.attempts()):
            lost_race(run)
        # What counts is what is so while nobody can change it.
        return Hold(run, read_facts(run), claim)
    except BaseException:  # interrupted, too: what was taken is given back
        let_go(hold)
        raise


def _put(run: RunLayout, number: int) -> Claim:
    """Put the attempt of a hold in place, whole, in one step: a folder with reservation and claim."""
    me = Process.current()
    claim = Claim(number, 0, Identity.local("", _HOLD), me, new_token(), time.time())
    aside = AttemptLayout(run.released_attempt(claim.token))
    try:
        make_folder(aside.path)
        publish_new(aside.reserved, to_json(Reservation("", time.time(), me)))
        publish_new(aside.claim(0), to_json(claim))
        try:
            aside.path.rename(run.attempt(number).path)  # fails if there is more than an empty folder
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            lost_race(run)
    except BaseException:
        _take_away(run, claim)
        raise
    return claim


def let_go(hold: Hold) -> None:
    """Take the attempt of a hold away, in one step."""
    try:
        _take_away(hold.run, hold.claim)
    except BaseException:  # interrupted just here: it goes all the same
        _take_away(hold.run, hold.claim)
        raise


def _take_away(run: RunLayout, claim: Claim) -> None:
    """Delete the attempt of a hold, wherever it is by now; doing it twice is as good as once."""
    aside = run.released_attempt(claim.token)
    there = read_claim(run.attempt(claim.attempt), 0)
    if there is not None and there.token == claim.token:
        with contextlib.suppress(FileNotFoundError):  # the run itself was deleted, or somebody else did it
            run.attempt(claim.attempt).path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _without_dead_hold(run: RunLayout, facts: RunFacts, freshness: Freshness) -> RunFacts:
    """Take the newest attempt away if it is the hold of a process that was killed."""
    newest = facts.newest
    held_by = newest.newest if newest is not None and newest.closed is None else None
    if newest is None or held_by is None or held_by.claim is None:
        return facts
    if held_by.claim.identity.task != _HOLD or held_by.liveness(freshness) is not False:
        return facts
    _take_away(run, held_by.claim)
    return read_facts(run)
