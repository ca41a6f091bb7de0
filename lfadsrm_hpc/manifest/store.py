"""Write the facts: reserve, claim, beat, end. (Closing, cancelling and forgetting: the modules beside.)

On the local queue everything goes through `take_local`. What a kill leaves behind, and what the next
`take_local` makes of it:

=============================================== =========================================================
killed                                          the next one
=============================================== =========================================================
before or while a file is written beside        sees nothing: hidden names are never read
after mkdir, before `reserved.json`             takes that attempt over: its claim decides
after `reserved.json`, before the claim         takes it over, since the reserver is gone
after the claim, before or after a heartbeat    closes the attempt as lost, takes the next
after closing a lost attempt                    takes the next
after the exit record, before the outbox name   believes the record; writes the name if the run is complete
=============================================== =========================================================

For a scheduler, `reserve` takes an attempt ahead and the job claims it (`claim`), perhaps days later. Such an
attempt is free again only when it has ended or was closed; who may close it is told in `reconcile`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from lfadsrm_hpc.errors import ClaimLostError, DataError, RunCancelledError
from lfadsrm_hpc.layout import RunLayout
from lfadsrm_hpc.manifest.cancelling import cancel, forget, lift
from lfadsrm_hpc.manifest.closing import close, publish_result
from lfadsrm_hpc.manifest.fold import LATENCY_S, AttemptFacts, Freshness, RunFacts
from lfadsrm_hpc.manifest.process import Process, peak_memory_mb
from lfadsrm_hpc.manifest.publish import make_folder, publish_new, publish_replacing
from lfadsrm_hpc.manifest.reading import (
    collection_states,
    look,
    owner,
    read_cancellations,
    read_claim,
    read_facts,
    read_record,
    resume_source,
    run_status,
    winning_exit,
)
from lfadsrm_hpc.manifest.records import (
    EXIT_BAD_DATA,
    EXIT_DONE,
    LOST,
    SUPERSEDED,
    Claim,
    Exit,
    Heartbeat,
    Identity,
    Reservation,
    new_token,
    to_json,
)

__all__ = [
    "AlreadyComplete",
    "cancel",
    "claim",
    "close",
    "collection_states",
    "forget",
    "heartbeat",
    "is_superseded",
    "lift",
    "owner",
    "publish_exit",
    "read_cancellations",
    "read_facts",
    "reserve",
    "resume_source",
    "run_status",
    "take_local",
    "winning_exit",
]


@dataclass(frozen=True)
class AlreadyComplete:
    """There is nothing to do: the run was completed before, under the claim with this token."""

    exit: Exit
    token: str


def take_local(
    run: RunLayout, identity: Identity, *, again: bool = False, redo: bool = False
) -> Claim | AlreadyComplete:
    """Take a run for the process that calls, if nobody has it and it is not complete.

    An attempt whose owner is dead (its process is gone, or, on another machine or before a reboot, its
    heartbeat is stale) is closed as lost, and the next one taken. An attempt that ended (failed,
    checkpointed, killed) is followed by the next one. Of two that try at once one wins.

    Parameters
    ----------
    run : RunLayout
    identity : Identity
        `Identity.local(submission, task)`.
    again : bool
        Take the run even though it was cancelled, or its newest attempt found its data unusable.
    redo : bool
        Take the run even though it is complete, to make its final files anew.

    Raises
    ------
    ClaimLostError
        Somebody else has the run, or was faster: exit code 64.
    RunCancelledError
        The run was cancelled (a ClaimLostError: exit code 64).
    DataError
        The newest attempt found the data unusable: exit code 65.
    """
    facts = read_facts(run)
    freshness = look(_attempts_dir(run))
    done = None if redo else _completed(run, facts)
    if done is not None:
        return done
    if not again:
        _refuse_unasked(run, facts)
    number = free_attempt(run, facts, freshness, identity.submission)
    if _reserve(run, number, Reservation(identity.submission, time.time(), Process.current())):
        return _claim(run, number, identity, requeued=False, redo=redo)
    # Reserved before: by a process that died, or ahead for this very submission. Its claim is still free.
    if number == facts.newest_number:
        return _claim(run, number, identity, requeued=False, redo=redo)
    lost_race(run)


def reserve(run: RunLayout, submission: str) -> int:
    """Take the next attempt of a run ahead, for a submission that is being planned; return its number.

    Raises
    ------
    ClaimLostError
        The run is complete, or has an attempt that neither ended nor was closed, or another was faster.
    """
    facts = read_facts(run)
    if facts.completed is not None:
        raise ClaimLostError(
            "the run is complete already", where=run.path, hint="delete its outputs to run it again"
        )
    number = free_attempt(run, facts, look(_attempts_dir(run)), None)
    if not _reserve(run, number, Reservation(submission, time.time(), Process.current(), ahead=True)):
        lost_race(run)
    return number


def claim(run: RunLayout, attempt: int, identity: Identity, *, redo: bool = False) -> Claim:
    """Claim a reserved attempt for the process that calls; a requeue of the same job is its next incarnation.

    Raises
    ------
    ClaimLostError
        Another job holds the attempt, it was closed or deleted, a higher one exists, it was reserved for
        another submission, or the run is complete.
    RunCancelledError
        The attempt was cancelled (a ClaimLostError: exit code 64).
    """
    if read_cancellations(run.collection).get(run.run_id, -1) >= attempt:
        raise RunCancelledError("the run was cancelled", where=run.path, hint="ask for it again explicitly")
    reservation, _ = read_record(Reservation, run.attempt(attempt).reserved)
    # Outputs may have been deleted since: the number is then another submission's, or nobody's.
    if reservation is not None and reservation.submission != identity.submission:
        raise ClaimLostError(
            f"this attempt is reserved for submission {reservation.submission or '(none)'}",
            where=run.attempt(attempt).path,
            hint="nothing: the run was asked for again meanwhile",
        )
    return _claim(run, attempt, identity, requeued=True, redo=redo)


def heartbeat(run: RunLayout, claim: Claim, **progress: Any) -> None:
    """Show that the training loop works: call it between slices of work, at least once a minute.

    Parameters
    ----------
    run : RunLayout
    claim : Claim
    **progress
        Numbers and short texts (epoch, step, costs, eta_s in s ...); numpy scalars are welcome.

    Raises
    ------
    ClaimLostError
        The attempt's folder is gone: somebody deleted the run's outputs.
    OSError
        The file cannot be written, as on a full disk; training can go on without it for some minutes.
    """
    place = run.attempt(claim.attempt).heartbeat(claim.incarnation)
    try:
        publish_replacing(place, to_json(Heartbeat(claim.token, time.time(), progress)))
    except FileNotFoundError as error:
        raise ClaimLostError(
            "the files of this attempt were deleted", where=place.parent, hint="run it again"
        ) from error


def publish_exit(run: RunLayout, claim: Claim, exit_record: Exit) -> bool:
    """Record how an incarnation ended, then put its result into the outbox. The last thing a task does.

    Host, times, peak memory and the token are filled in where the record leaves them open.

    Returns
    -------
    bool
        False: there was a record already, which stands.

    Raises
    ------
    ClaimLostError
        The record says done, but somebody else took the run in the meantime; or the attempt's files were
        deleted. Nothing was written.
    """
    if exit_record.code == EXIT_DONE and is_superseded(run, claim):
        raise ClaimLostError(
            "the run was taken over by another attempt before this one ended",
            where=run.attempt(claim.attempt).path,
            hint="nothing: the other attempt goes on",
        )
    if not _is_on_record(run, claim):
        raise ClaimLostError("the files of this attempt were deleted", where=run.path, hint="run it again")
    record = replace(
        exit_record,
        host=exit_record.host or claim.process.host,
        started=claim.claimed if exit_record.started is None else exit_record.started,
        ended=time.time() if exit_record.ended is None else exit_record.ended,
        peak_memory_mb=peak_memory_mb() if exit_record.peak_memory_mb is None else exit_record.peak_memory_mb,
        token=claim.token,
    )
    first = publish_new(run.attempt(claim.attempt).exit(claim.incarnation), to_json(record))
    if first:
        publish_result(run, claim.attempt, claim.incarnation, record)
    return first


def is_superseded(run: RunLayout, claim: Claim) -> bool:
    """Return whether an incarnation has lost its run and should stop.

    Ask once a minute, and before final files are put in place. Its attempt was closed, there is a higher
    attempt or incarnation, another one completed the run, or its files were deleted.
    """
    attempt = run.attempt(claim.attempt)
    if attempt.closed.exists() or any(other.number > claim.attempt for other in run.attempts()):
        return True
    if attempt.claim(claim.incarnation + 1).exists() or not _is_on_record(run, claim):
        return True
    done = read_facts(run, cancelled={}).completed
    return done is not None and done[1].claim is not None and done[1].claim.token != claim.token


def _attempts_dir(run: RunLayout) -> Path:
    run.attempts_dir.mkdir(parents=True, exist_ok=True)
    return run.attempts_dir


def _completed(run: RunLayout, facts: RunFacts) -> AlreadyComplete | None:
    if facts.completed is None:
        return None
    attempt, incarnation = facts.completed
    if incarnation.exit is None or incarnation.claim is None:
        return None
    # Whoever completed it may have been killed before the name was in the outbox.
    publish_result(run, attempt.number, incarnation.number, incarnation.exit)
    return AlreadyComplete(incarnation.exit, incarnation.claim.token)


def _is_on_record(run: RunLayout, claim: Claim) -> bool:
    held = read_claim(run.attempt(claim.attempt), claim.incarnation)
    return held is not None and held.token == claim.token


def _refuse_unasked(run: RunLayout, facts: RunFacts) -> None:
    if facts.is_cancelled:
        raise RunCancelledError("the run was cancelled", where=run.path, hint="ask for it again explicitly")
    newest = next((a.newest for a in reversed(facts.attempts) if a.newest is not None), None)
    if newest is not None and newest.exit is not None and newest.exit.code == EXIT_BAD_DATA:
        raise DataError(
            f"the data of this run were found unusable before: {newest.exit.message or 'see its log'}",
            where=run.path,
            hint="delete a damaged input file and prepare again (a changed recording needs another file name "
            "or collection); then `lfadsrm clean --restart` for this run, and run it again",
        )


def free_attempt(run: RunLayout, facts: RunFacts, freshness: Freshness, submission: str | None) -> int:
    """Return the attempt to take: the newest if it was reserved but is free, else the next.

    One whose owner is dead is closed on the way. `submission`: whose reservations may be used.
    """
    newest = facts.newest
    if newest is None:
        return 1
    if newest.newest is None:
        return _unclaimed(run, facts, newest, freshness, submission)
    if newest.closed is None and newest.newest.exit is None:
        if newest.newest.liveness(freshness) is not False:
            holder = newest.newest.claim or "a claim that is being written"
            raise ClaimLostError(f"another task has this run: {holder}", where=run.path, hint="wait for it")
        close(run, newest.number, LOST, submission=submission or "")
        if facts.completed is None and read_facts(run, cancelled={}).completed is not None:
            raise ClaimLostError("the run was completed a moment ago", where=run.path, hint="look again")
    return newest.number + 1


def _unclaimed(
    run: RunLayout, facts: RunFacts, newest: AttemptFacts, freshness: Freshness, submission: str | None
) -> int:
    if newest.closed is not None:
        return newest.number + 1
    given_up = facts.is_cancelled and newest.is_ahead  # its job, should it still come, may not claim it
    if newest.reserver_is_live(freshness) and newest.reservation is not None and not given_up:
        ours = newest.is_ahead and newest.reservation.submission == submission
        if not ours:
            raise ClaimLostError(
                f"the run is reserved for submission {newest.reservation.submission or '(none)'}",
                where=run.attempt(newest.number).path,
                hint="wait for it, or cancel that submission",
            )
    if submission is None and newest.reservation is None and newest.reserved_at is not None:
        if freshness.now - newest.reserved_at <= freshness.latency_s:
            raise ClaimLostError("somebody is reserving this run", where=run.path, hint="wait for it")
        close(run, newest.number, SUPERSEDED)  # killed before the file was filled
        return newest.number + 1
    if facts.is_cancelled or (submission is None and newest.reservation is not None):
        # Its number is covered by a cancellation, or its reservation is another's: leave it behind.
        close(run, newest.number, SUPERSEDED)
        return newest.number + 1
    return newest.number


def _reserve(run: RunLayout, number: int, reservation: Reservation) -> bool:
    """Make the attempt's folder and put the reservation into it; return whether both are ours.

    A folder without a reservation was left by somebody who was killed in between: it is taken over.
    """
    attempt = run.attempt(number)
    make_folder(attempt.path)
    try:
        return publish_new(attempt.reserved, to_json(reservation))
    except FileNotFoundError:  # somebody who only held the run has let it go just now
        lost_race(run)


def _claim(run: RunLayout, number: int, identity: Identity, *, requeued: bool, redo: bool) -> Claim:
    attempt = run.attempt(number)
    if not redo and read_facts(run, cancelled={}).completed is not None:
        raise ClaimLostError("the run is complete already", where=run.path, hint="nothing is left to do")
    while True:
        if attempt.closed.exists() or any(other.number > number for other in run.attempts()):
            raise ClaimLostError(
                "this attempt was given up", where=attempt.path, hint="a newer attempt has the run"
            )
        taken = attempt.incarnations()["claim"]
        if taken and not (requeued and _is_requeue(run, number, taken, identity)):
            lost_race(run)
        k = taken[-1] + 1 if taken else 0
        mine = Claim(number, k, identity, Process.current(), new_token(), time.time(), redo)
        try:
            if publish_new(attempt.claim(k), to_json(mine)):
                break
        except FileNotFoundError as error:
            raise ClaimLostError(
                "the files of this attempt were deleted", where=attempt.path, hint="run it again"
            ) from error
    # Between the look and the claim the attempt may have been closed, or one thought dead completed the run.
    if is_superseded(run, mine):
        if not attempt.claim(k + 1).exists():  # else the attempt goes on, by a later start of this job
            close(run, number, SUPERSEDED, submission=identity.submission)
        lost_race(run)
    return mine


def _is_requeue(run: RunLayout, number: int, taken: list[int], identity: Identity) -> bool:
    """Return whether the attempt belongs to this very job, started again."""
    attempt = run.attempt(number)
    for k in reversed(taken):
        holder = read_claim(attempt, k)
        if holder is not None:
            return holder.identity.is_same_task(identity)
        if look(attempt.path).now - attempt.claim(k).stat().st_mtime <= LATENCY_S:
            return False  # somebody is writing it
    return True  # nothing but void files


def lost_race(run: RunLayout) -> NoReturn:
    """Raise `ClaimLostError`: somebody else was faster."""
    raise ClaimLostError(
        "another task took this run first", where=run.path, hint="nothing: the other one has it"
    )
