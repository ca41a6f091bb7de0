"""Read the facts from disk: one run whole, or a collection quickly from the index and the outbox."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from lfadsrm_hpc.layout import AttemptLayout, CollectionLayout, OutboxName, RunLayout, run_key
from lfadsrm_hpc.manifest.disk import (
    ATTEMPTS,
    attempt_name,
    attempts_of,
    file_name,
    is_there,
    listed,
    only_reserved,
    read_record,
    read_run,
)
from lfadsrm_hpc.manifest.facts import Freshness, RunFacts
from lfadsrm_hpc.manifest.fold import RunStatus, fold
from lfadsrm_hpc.manifest.index import Index, brief_status, copy_for
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.publish import file_system_now
from lfadsrm_hpc.manifest.records import (
    BAD_DATA,
    EXIT_CHECKPOINTED,
    EXIT_DONE,
    FAILED,
    KILLED,
    Cancellation,
    Claim,
    Exit,
    reason_of,
    state_of,
)
from lfadsrm_hpc.manifest.states import RunState

__all__ = [
    "collection_states",
    "look",
    "owner",
    "read_cancellations",
    "read_claim",
    "read_facts",
    "read_record",
    "resume_source",
    "run_status",
    "states_of",
    "winning_exit",
]
_FEW = 500  # so many runs are read sooner than the outbox is listed


def read_facts(run: RunLayout, *, cancelled: Mapping[str, int] | None = None) -> RunFacts:
    """Read everything that the manifest knows of one run.

    Parameters
    ----------
    run : RunLayout
    cancelled : dict of str to int, optional
        What `read_cancellations` gave; read here if not given.
    """
    cancelled = read_cancellations(run.collection) if cancelled is None else cancelled
    return read_run(run.run_id, str(run.path), cancelled.get(run.run_id))


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
    with Index(layout, freshness.now) as index:
        looking = _Look(layout, freshness, index, read_cancellations(layout), whole=rescan)
        known = {run_id: None if rescan else looking.in_index(run_id) for run_id in run_ids}
        unknown = [run_id for run_id, status in known.items() if status is None]
        if len(unknown) > _FEW and not rescan:
            looking.list_outbox()
        known.update({run_id: looking.afresh(run_id) for run_id in unknown})
        index.publish()
    return {run_id: status for run_id, status in known.items() if status is not None}


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
        self.names: dict[str, list[str]] = {}
        self.many = False
        self.waiting: dict[tuple[str, Process | None], RunStatus] = {}

    def list_outbox(self) -> None:
        """List the outbox once, by run key: there are many runs to look at."""
        self.many = True
        for name in listed(str(self.layout.outbox)):
            self.names.setdefault(name.partition(".")[0], []).append(name)

    def in_index(self, run_id: str) -> RunStatus | None:
        """Return what the index knows; None: nothing, or no more."""
        return self.index.find(run_id, self.cancelled.get(run_id))

    def afresh(self, run_id: str) -> RunStatus:
        """Return what one run is at, from the outbox or its facts, and let the index learn it."""
        folder, covered = f"{self.root}/{run_id}", self.cancelled.get(run_id)
        numbers, marks = attempts_of(folder)
        if not numbers and covered is None:
            self.index.drop(run_id)
            return brief_status(run_id, RunState.PREPARED)
        status = None
        if self.many:
            status = self._by_name(run_id, folder, numbers, covered)
            if status is None and numbers == [1] and covered is None:
                status = self._waiting(run_id, folder)
        if status is not None:
            self.index.learn(status, marks, covered)
            return status
        facts = read_run(run_id, folder, covered, numbers)
        status = fold(facts, self.freshness)
        if numbers and _lasts(facts):
            self.index.learn(_brief(status), marks, covered)
        else:
            self.index.drop(run_id)
        return status if self.whole else _brief(status)

    def _by_name(
        self, run_id: str, folder: str, numbers: Sequence[int], covered: int | None
    ) -> RunStatus | None:
        names = self.names.get(run_key(run_id))
        name = _newest_name(names) if names else None
        if name is None or not numbers or numbers[-1] != name.attempt:
            return None
        return _by_name(run_id, folder, name, covered)

    def _waiting(self, run_id: str, folder: str) -> RunStatus | None:
        """Return the status of a run whose first attempt waits for a scheduler; None: it is another case.

        A submission reserves thousands of runs alike: one of them is folded, the others are what it is.
        """
        reservation = only_reserved(f"{folder}/{ATTEMPTS}/{attempt_name(1)}")
        if reservation is None or not reservation.is_ahead:
            return None
        alike = (reservation.submission, reservation.process)
        if alike not in self.waiting:
            self.waiting[alike] = fold(read_run(run_id, folder, None, [1]), self.freshness)
        found = self.waiting[alike]
        return copy_for(found, run_id) if found.state is RunState.SUBMITTED else None


def _by_name(run_id: str, folder: str, name: OutboxName, covered: int | None) -> RunStatus | None:
    """Return a status from a name in the outbox; None: it is old or strange, the facts must be read."""
    reason = reason_of(name.code)
    state = state_of(name.code, reason)
    if state.value != name.state or not state.is_final or _may_go_on(name.code, reason):
        return None
    attempt = f"{folder}/{ATTEMPTS}/{attempt_name(name.attempt)}"
    ended = is_there(f"{attempt}/{file_name('exit', name.incarnation)}")
    if not ended or is_there(f"{attempt}/{file_name('claim', name.incarnation + 1)}"):
        return None  # the record is gone, or the task was started again since
    cancelled = name.code != EXIT_DONE and covered is not None and covered >= name.attempt
    if cancelled and reason not in (FAILED, BAD_DATA):
        state = RunState.CANCELLED
    return brief_status(run_id, state, name.attempt, name.incarnation, name.code, reason, cancelled)


def _may_go_on(code: int, reason: str | None) -> bool:
    """Return whether a run that ended like this may be started again by its scheduler, or its end explained:
    then it matters whether its attempt was closed since.
    """
    return code == EXIT_CHECKPOINTED or reason == KILLED


def _brief(status: RunStatus) -> RunStatus:
    """Return no more than a name in the outbox tells, where it would tell; else the status as it is."""
    if status.code is None or _may_go_on(status.code, status.reason):
        return status
    return brief_status(
        status.run_id,
        status.state,
        status.attempt,
        status.incarnation,
        status.code,
        status.reason,
        status.cancelled,
    )


def _lasts(facts: RunFacts) -> bool:
    """Return whether a run stays what it is until a file is written: no process, no age decides about it."""
    if facts.completed is not None:
        return True
    for attempt in reversed(facts.attempts):
        if attempt.newest is not None:
            return attempt.newest.exit is not None or attempt.closed is not None
        if attempt.closed is None and attempt.reservation is not None and not attempt.is_ahead:
            return False
        # It waits for a scheduler, or counts as if it had never been: the attempt before matters too.
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


def _newest_name(texts: Iterable[str]) -> OutboxName | None:
    """Return the name that counts of one run's: that which completed it, else that of the newest attempt.

    None: two contradict each other (somebody deleted the run's files by hand and ran it again, or a scheduler
    said why a task was killed).
    """
    names = [name for name in map(OutboxName.parse, texts) if name is not None]
    if len({(name.attempt, name.incarnation) for name in names}) < len(names):
        return None
    return max(names, key=_rank, default=None)


def _rank(name: OutboxName) -> tuple[bool, int, int]:
    return name.state == RunState.COMPLETED.value and name.code == 0, name.attempt, name.incarnation
