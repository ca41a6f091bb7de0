"""Read the facts from disk: one run whole, or a collection quickly from the names in its outbox."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from lfadsrm_hpc.errors import ManifestError
from lfadsrm_hpc.layout import AttemptLayout, CollectionLayout, OutboxName, RunLayout, run_key
from lfadsrm_hpc.manifest.fold import Fact, Freshness, RunFacts, RunStatus, fold, gather
from lfadsrm_hpc.manifest.publish import file_system_now
from lfadsrm_hpc.manifest.records import (
    BAD_DATA,
    DONE,
    FAILED,
    Cancellation,
    Claim,
    Closed,
    Exit,
    Heartbeat,
    Reservation,
    from_json,
    reason_of,
)
from lfadsrm_hpc.manifest.states import RunState

T = TypeVar("T")


def read_facts(run: RunLayout, *, cancelled: Mapping[str, int] | None = None) -> RunFacts:
    """Read everything that the manifest knows of one run.

    Parameters
    ----------
    run : RunLayout
    cancelled : dict of str to int, optional
        What `read_cancellations` gave; read here if not given.
    """
    cancelled = read_cancellations(run.collection) if cancelled is None else cancelled
    return gather(run.run_id, _facts(run, cancelled.get(run.run_id)))


def run_status(run: RunLayout) -> RunStatus:
    """Return what one run is at, from the facts themselves."""
    return fold(read_facts(run), look(run.path))


def look(folder: Path) -> Freshness:
    """Return the time by the clock of the file system of a folder.

    Where nothing can be written (somebody else's collection) the machine's own clock has to do.
    """
    now = file_system_now(folder)
    return Freshness(time.time() if now is None else now)


def collection_states(
    layout: CollectionLayout, runs: Iterable[RunLayout], *, rescan: bool = False
) -> dict[str, RunStatus]:
    """Return what many runs are at, by run id.

    The outbox is listed once. A run that has ended is known by its name there, if nobody took the run again
    since: three look-ups, no file is opened. Only the others are read.

    Parameters
    ----------
    layout : CollectionLayout
    runs : iterable of RunLayout
    rescan : bool
        Read the facts themselves; the names in the outbox are not believed.
    """
    cancelled = read_cancellations(layout)
    freshness = look(layout.state_dir if layout.state_dir.is_dir() else layout.path)
    newest = {} if rescan else _newest_names(layout.outbox_names())
    states = {}
    for run in runs:
        name = newest.get(run_key(run.run_id))
        status = _by_name(run, name, cancelled.get(run.run_id)) if name else None
        states[run.run_id] = status or fold(read_facts(run, cancelled=cancelled), freshness)
    return states


def winning_exit(run: RunLayout) -> tuple[Exit, str] | None:
    """Return the exit record that completed a run and its claim's token; None: the run is not complete.

    Final files carry the token of the incarnation that wrote them: loaders compare it with this one.
    """
    winner = read_facts(run, cancelled={}).winner
    if winner is None or winner[1].exit is None or winner[1].claim is None:
        return None
    return winner[1].exit, winner[1].claim.token


def owner(run: RunLayout) -> Claim | None:
    """Return the newest claim under which a process works on the run, or may do; None: nobody does.

    That includes a process that lost the run but still lives: it writes until it notices.
    """
    facts, freshness = read_facts(run, cancelled={}), look(run.path)
    for attempt in reversed(facts.attempts):
        for incarnation in reversed(attempt.incarnations):
            live = incarnation.liveness(freshness)
            if live or (live is None and attempt is facts.newest and attempt.closed is None):
                return incarnation.claim
    return None


def read_claim(attempt: AttemptLayout, incarnation: int) -> Claim | None:
    """Return one claim; None: there is none, or it is empty or unreadable."""
    return read_record(Claim, attempt.claim(incarnation))[0]


def resume_source(run: RunLayout, claim: Claim, *, complete: Callable[[Path], bool]) -> Path | None:
    """Return the folder of the checkpoints that an incarnation should go on from; None: start afresh.

    It is that of the highest claimed (attempt, incarnation) before this one with a complete checkpoint.

    Parameters
    ----------
    run : RunLayout
    claim : Claim
        Of the incarnation that asks.
    complete : callable
        Whether a folder holds a complete checkpoint (the model knows).
    """
    for attempt, incarnation, folder in run.checkpoint_dirs():
        if (attempt, incarnation) >= (claim.attempt, claim.incarnation):
            continue
        if run.attempt(attempt).claim(incarnation).exists() and complete(folder):
            return folder
    return None


def read_cancellations(layout: CollectionLayout) -> dict[str, int]:
    """Return, by run id, the newest attempt that a cancellation covers (0: the run was never tried).

    The newest word on a run counts; one that reads -1 lifts those before it.
    """
    covered: dict[str, int] = {}
    for path in layout.cancellations():
        record, _ = read_record(Cancellation, path)
        if record is not None:
            covered.update({run: up_to for run, up_to in record.runs.items() if isinstance(up_to, int)})
    return {run: up_to for run, up_to in covered.items() if up_to >= 0}


def _newest_names(names: Iterable[OutboxName]) -> dict[str, OutboxName | None]:
    """Return by run key the name that counts: one that completed its run, else that of the newest attempt.

    None: two names contradict each other (somebody deleted the run's files by hand and ran it again).
    """
    newest: dict[str, OutboxName | None] = {}
    seen: dict[tuple[str, int, int], OutboxName] = {}
    for name in names:
        if seen.setdefault((name.key, name.attempt, name.incarnation), name) != name:
            newest[name.key] = None
        elif name.key not in newest:
            newest[name.key] = name
        else:
            best = newest[name.key]
            newest[name.key] = best if best is None else max(best, name, key=_rank)
    return newest


def _rank(name: OutboxName) -> tuple[bool, int, int]:
    return name.state == RunState.COMPLETED.value and name.code == 0, name.attempt, name.incarnation


def _by_name(run: RunLayout, name: OutboxName, cancelled_up_to: int | None) -> RunStatus | None:
    """Return a status from the outbox alone; None: the name is old or strange, the facts must be read."""
    state = next((state for state in RunState if state.value == name.state), RunState.UNKNOWN)
    reason = reason_of(name.code)
    if not _is_newest(run, name) or not state.is_final:
        return None
    if (cancelled_up_to or 0) >= name.attempt and reason not in (DONE, FAILED, BAD_DATA):
        state = RunState.CANCELLED
    return RunStatus(
        run.run_id, state, name.attempt, name.incarnation, code=name.code, reason=_reason(state, reason)
    )


def _is_newest(run: RunLayout, name: OutboxName) -> bool:
    """Return whether the record is still there, and nobody took the run again since it was written."""
    attempt = run.attempt(name.attempt)
    return (
        attempt.exit(name.incarnation).exists()
        and not attempt.claim(name.incarnation + 1).exists()
        and not run.attempt(name.attempt + 1).path.exists()
    )


def _reason(state: RunState, reason: str) -> str:
    # A code 75 says no more than "checkpointed"; the state in the name may say why.
    return state.value.lower() if state is RunState.TIMEOUT else reason


def _facts(run: RunLayout, cancelled_up_to: int | None) -> Iterator[Fact]:
    if cancelled_up_to is not None:
        yield Fact("cancelled", cancelled_up_to)
    for attempt in run.attempts():
        yield from _attempt_facts(attempt)


def _attempt_facts(attempt: AttemptLayout) -> Iterator[Fact]:
    number = attempt.number
    yield Fact("attempt", number)
    reservation, modified = read_record(Reservation, attempt.reserved)
    if modified is not None:
        process = reservation.process if reservation else None
        yield Fact("reserved", number, -1, reservation, modified, process.is_alive() if process else None)
    for k in attempt.incarnations()["claim"]:
        claim, modified = read_record(Claim, attempt.claim(k))
        if modified is not None:
            yield Fact("claim", number, k, claim, modified, claim.process.is_alive() if claim else None)
    # Only now the exit records: a process that was gone above wrote its own before, so it is seen here. In
    # the other order a run that ends between the two looks would be taken for lost.
    files = attempt.incarnations()
    for k in files["exit"]:
        ended, modified = read_record(Exit, attempt.exit(k))
        if modified is not None:
            yield Fact("exit", number, k, ended, modified)
    for k in files["heartbeat"]:
        beat, modified = read_record(Heartbeat, attempt.heartbeat(k))
        if modified is not None:
            yield Fact("heartbeat", number, k, beat, modified)
    closed, modified = read_record(Closed, attempt.closed)
    if modified is not None:
        yield Fact("closed", number, -1, closed, modified)


def read_record(kind: type[T], path: Path) -> tuple[T | None, float | None]:
    """Return a record (None: empty or unreadable) and when it was written (None: there is no such file)."""
    for _ in range(3):
        try:
            with path.open("rb") as file:
                return from_json(kind, file.read()), os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None, None
        except ManifestError:
            break
        except OSError as caught:
            error = caught  # NFS: the file was replaced while it was read (ESTALE); look again
    else:
        raise ManifestError(
            f"a file of the manifest cannot be read: {error.strerror}",
            where=path,
            hint="check its permissions; a claim that cannot be read cannot be judged",
        ) from error
    try:
        return None, path.stat().st_mtime
    except OSError:
        return None, None
