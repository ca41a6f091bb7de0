"""Read the facts from disk: one run whole, or a collection quickly from the index and the outbox."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

from lfadsrm_hpc.errors import ManifestError
from lfadsrm_hpc.layout import AttemptLayout, CollectionLayout, OutboxName, RunLayout, run_key
from lfadsrm_hpc.manifest.fold import Fact, Freshness, RunFacts, RunStatus, fold, gather
from lfadsrm_hpc.manifest.index import ATTEMPTS, Index, attempt_name, marks_of
from lfadsrm_hpc.manifest.publish import file_system_now
from lfadsrm_hpc.manifest.records import (
    BAD_DATA,
    DONE,
    EXIT_CHECKPOINTED,
    EXIT_DONE,
    FAILED,
    KILLED,
    Cancellation,
    Claim,
    Closed,
    Exit,
    Heartbeat,
    Reservation,
    from_json,
    reason_of,
    state_of,
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
    return _read(run.run_id, str(run.path), cancelled.get(run.run_id))


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
    """Return what many runs are at, by run id; see `states_of`."""
    return states_of(layout, [run.run_id for run in runs], rescan=rescan)


def states_of(
    layout: CollectionLayout, run_ids: Iterable[str], *, rescan: bool = False
) -> dict[str, RunStatus]:
    """Return what many runs are at, by run id.

    Facts are read only of runs that may have changed. A run that is in the index (`manifest.index`) costs a
    look at two folders. One that has ended is known by its name in the outbox, which is listed once, if
    nobody took the run again since: a few look-ups, no file is opened. Neither tells more of a run that has
    ended than its state, attempt, code and reason. Index and outbox are caches: without them the facts are
    read, and say the same.

    Parameters
    ----------
    layout : CollectionLayout
    run_ids : iterable of str
        `param_<hash>/<run spec>`.
    rescan : bool
        Read the facts themselves, whole; neither index nor outbox is believed.
    """
    freshness = look(layout.state_dir if layout.state_dir.is_dir() else layout.path)
    index = Index(layout, freshness.now, read=not rescan)
    looking = _Look(layout, freshness, index, read_cancellations(layout), whole=rescan)
    states = {run_id: looking.at(run_id) for run_id in run_ids}
    index.publish()
    return states


class _Look:
    """One look at many runs."""

    def __init__(
        self,
        layout: CollectionLayout,
        freshness: Freshness,
        index: Index,
        cancelled: Mapping[str, int],
        *,
        whole: bool,
    ) -> None:
        self.layout, self.root, self.freshness = layout, str(layout.path), freshness
        self.index, self.cancelled, self.whole = index, cancelled, whole
        self._names: dict[str, OutboxName | None] | None = None

    @property
    def names(self) -> Mapping[str, OutboxName | None]:
        if self._names is None:  # with an index, perhaps never
            self._names = _newest_names(self.layout.outbox_names())
        return self._names

    def at(self, run_id: str) -> RunStatus:
        """Return what one run is at."""
        folder, covered = f"{self.root}/{run_id}", self.cancelled.get(run_id)
        known = None if self.whole else self.index.find(run_id, folder, covered)
        if known is not None:
            return known
        numbers = _attempt_numbers(folder)
        if not numbers and covered is None:
            self.index.drop(run_id)
            return RunStatus(run_id, RunState.PREPARED)
        marks = marks_of(folder, numbers)  # before the facts
        status = None
        if numbers and not self.whole:
            status = self._by_name(run_id, folder, numbers, covered)
        if status is None:
            facts = _read(run_id, folder, covered, numbers)
            status = fold(facts, self.freshness)
            if not numbers or not _lasts(facts):
                self.index.drop(run_id)
                return status
        brief = _brief(status)
        self.index.learn(brief, marks, covered)
        return status if self.whole else brief

    def _by_name(
        self, run_id: str, folder: str, numbers: Sequence[int], covered: int | None
    ) -> RunStatus | None:
        """Return a status from the outbox alone; None: the name is old or strange, the facts must be read."""
        name = self.names.get(run_key(run_id))
        if name is None or numbers[-1] != name.attempt:
            return None
        reason = reason_of(name.code)
        state = state_of(name.code, reason)
        if state.value != name.state or not state.is_final or _may_go_on(name.code, reason):
            return None
        attempt = f"{folder}/{ATTEMPTS}/{attempt_name(name.attempt)}"
        if not os.path.exists(f"{attempt}/{_file_name('exit', name.incarnation)}") or os.path.exists(  # noqa: PTH110
            f"{attempt}/{_file_name('claim', name.incarnation + 1)}"
        ):
            return None  # it is not there any more, or somebody took the run again since
        done = name.code == EXIT_DONE
        cancelled = not done and covered is not None and covered >= name.attempt
        if cancelled and reason not in (FAILED, BAD_DATA):
            state = RunState.CANCELLED
        return RunStatus(
            run_id,
            state,
            name.attempt,
            name.incarnation,
            code=name.code,
            reason=DONE if done else reason,
            cancelled=cancelled,
        )


def _may_go_on(code: int, reason: str | None) -> bool:
    """Return whether a run that ended like this may be started again by its scheduler, or its end explained:
    then it matters whether its attempt was closed since.
    """
    return code == EXIT_CHECKPOINTED or reason == KILLED


def _brief(status: RunStatus) -> RunStatus:
    """Return no more than a name in the outbox tells, where it would tell; else the status as it is."""
    if status.code is None or _may_go_on(status.code, status.reason):
        return status
    return RunStatus(
        status.run_id,
        status.state,
        status.attempt,
        status.incarnation,
        code=status.code,
        reason=status.reason,
        cancelled=status.cancelled,
    )


def _lasts(facts: RunFacts) -> bool:
    """Return whether a run stays what it is until a file is written: no process, no age decides about it."""
    if facts.completed is not None:
        return True
    for attempt in reversed(facts.attempts):
        if attempt.newest is not None:
            return attempt.newest.exit is not None or attempt.closed is not None
        if attempt.closed is None and attempt.reservation is not None:
            return attempt.reservation.is_ahead
    return True


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

    None: two names contradict each other (somebody deleted the run's files by hand and ran it again, or a
    scheduler said why a task was killed).
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


# ---------------------------------------------------------------- facts

_ANY = AttemptLayout(Path("attempt"))  # names come from the layout, as texts: thousands of paths are slow


@cache
def _file_name(kind: str, incarnation: int) -> str:
    path: Path = getattr(_ANY, kind)(incarnation)
    return path.name


@cache
def _known_names() -> dict[str, tuple[str, int]]:
    kinds = ("claim", "heartbeat", "exit")
    return {_file_name(kind, k): (kind, k) for kind in kinds for k in range(100)}


def _listed(folder: str) -> list[str]:
    """List a folder; one that is not there is empty."""
    try:
        return os.listdir(folder)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []


def _attempt_numbers(run_folder: str) -> list[int]:
    names = _listed(f"{run_folder}/{ATTEMPTS}")
    if len(names) == 1 and names[0] == attempt_name(1):  # nearly all
        return [1]
    return [attempt.number for attempt in RunLayout(Path(run_folder)).attempts()] if names else []


def _read(
    run_id: str, folder: str, cancelled_up_to: int | None, numbers: Sequence[int] | None = None
) -> RunFacts:
    numbers = _attempt_numbers(folder) if numbers is None else numbers
    return gather(run_id, _facts(folder, cancelled_up_to, numbers))


def _facts(folder: str, cancelled_up_to: int | None, numbers: Sequence[int]) -> Iterator[Fact]:
    if cancelled_up_to is not None:
        yield Fact("cancelled", cancelled_up_to)
    for number in numbers:
        yield from _attempt_facts(f"{folder}/{ATTEMPTS}/{attempt_name(number)}", number)


def _attempt_facts(folder: str, number: int) -> Iterator[Fact]:
    yield Fact("attempt", number)
    names = _listed(folder)
    reservation, modified = read_record(Reservation, f"{folder}/{_ANY.reserved.name}")
    if modified is not None:
        process = reservation.process if reservation and not reservation.is_ahead else None
        yield Fact("reserved", number, -1, reservation, modified, process.is_alive() if process else None)
    files = _by_kind(folder, names)
    claimed = files["claim"]
    for k in claimed:
        claim, modified = read_record(Claim, f"{folder}/{_file_name('claim', k)}")
        if modified is not None:
            yield Fact("claim", number, k, claim, modified, claim.process.is_alive() if claim else None)
    # Only now the exit records: a process that was gone above wrote its own before, so it is seen here. In
    # the other order a run that ends between the two looks would be taken for lost.
    if set(claimed) - set(files["exit"]):
        names = _listed(folder)
        files = _by_kind(folder, names)
    for k in files["exit"]:
        ended, modified = read_record(Exit, f"{folder}/{_file_name('exit', k)}")
        if modified is not None:
            yield Fact("exit", number, k, ended, modified)
    for k in files["heartbeat"]:
        beat, modified = read_record(Heartbeat, f"{folder}/{_file_name('heartbeat', k)}")
        if modified is not None:
            yield Fact("heartbeat", number, k, beat, modified)
    closed, modified = read_record(Closed, f"{folder}/{_ANY.closed.name}")
    if modified is not None:
        yield Fact("closed", number, -1, closed, modified)


def _by_kind(folder: str, names: Sequence[str]) -> dict[str, list[int]]:
    """Return which incarnations have a claim, a heartbeat and an exit record, sorted."""
    known = _known_names()
    found: dict[str, list[int]] = {"claim": [], "heartbeat": [], "exit": []}
    for name in names:
        if name in known:
            kind, k = known[name]
            found[kind].append(k)
    if any(numbers and max(numbers) >= 99 for numbers in found.values()):  # there may be more
        return AttemptLayout(Path(folder)).incarnations()
    return {kind: sorted(numbers) for kind, numbers in found.items()}


def read_record(kind: type[T], path: Path | str) -> tuple[T | None, float | None]:
    """Return a record (None: empty or unreadable) and when it was written (None: there is no such file).

    Raises
    ------
    ManifestError
        The file cannot be read.
    """
    for _ in range(3):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                modified, data = os.fstat(handle).st_mtime, _whole(handle)
            finally:
                os.close(handle)
            break
        except FileNotFoundError:
            return None, None
        except OSError as caught:
            error = caught  # NFS: the file was replaced while it was read (ESTALE); look again
    else:
        raise ManifestError(
            f"a file of the manifest cannot be read: {error.strerror}",
            where=path,
            hint="check its permissions; a claim that cannot be read cannot be judged",
        ) from error
    try:
        return from_json(kind, data), modified
    except ManifestError:
        return None, modified


def _whole(handle: int) -> bytes:
    data = os.read(handle, 65536)
    piece = data
    while piece and len(data) % 65536 == 0:
        piece = os.read(handle, 65536)
        data += piece
    return data
