"""One look at the runs of a collection: files, joined with one question to the scheduler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from lfadsrm_hpc.cli.common import pick_one, say, select_runs
from lfadsrm_hpc.collection.roster import Entry, Roster
from lfadsrm_hpc.errors import UntrustedError
from lfadsrm_hpc.manifest.reading import states_of
from lfadsrm_hpc.manifest.reconcile import is_settled
from lfadsrm_hpc.manifest.states import RunState

if TYPE_CHECKING:
    from lfadsrm_hpc.manifest.fold import RunStatus
    from lfadsrm_hpc.schedulers.batch import Job
    from lfadsrm_hpc.schedulers.handed import Handed

_MOST_READ = 50  # failed runs whose messages are read
_MOST_WARNINGS = 20


@dataclass(frozen=True)
class Look:
    """What runs are at.

    Attributes
    ----------
    entries : list of Entry
        The runs that were selected.
    files : dict of str to RunStatus
        By run id, what their own files say.
    statuses : dict of str to RunStatus
        The same, with what the scheduler says.
    jobs : dict of str to str
        By run id, the task of the scheduler that has the run, as people name it: "4711_3".
    notify : tuple of str
        Commands of the sites that have runs of these, to be run when nothing is left to wait for.
    warnings : tuple of str
    queried : bool
        A scheduler was asked.
    """

    entries: Sequence[Entry]
    files: Mapping[str, RunStatus]
    statuses: Mapping[str, RunStatus]
    jobs: Mapping[str, str]
    notify: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    queried: bool = False

    def of(self, entries: Sequence[Entry]) -> list[RunStatus]:
        """Return the states of runs, in their order."""
        return [self.statuses[entry.id] for entry in entries]

    def grouped(self, entries: Sequence[Entry]) -> dict[RunState, list[Entry]]:
        """Return runs by state."""
        groups: dict[int, list[Entry]] = {id(state): [] for state in RunState}
        for entry in entries:
            groups[id(self.statuses[entry.id].state)].append(entry)  # an Enum is slow to hash
        return {state: groups[id(state)] for state in RunState if groups[id(state)]}


class _Params:
    """Enough of run params for `--match`."""

    def __init__(self, roster: Roster, param_hash: str) -> None:
        self.roster, self.param_hash = roster, param_hash

    def values(self) -> dict[str, Any]:
        return self.roster.values(self.param_hash)


class _AnyRun:
    """Stands for all runs with some params."""

    def __init__(self, params: _Params) -> None:
        self.params = params


class _Selection:
    """Enough of a run collection for `select_runs`, which asks once for all runs with the same params."""

    def __init__(self, roster: Roster) -> None:
        self.roster, self.path = roster, roster.path
        self.entries: list[Entry] = []

    def find_runs(self, spec: Sequence[str] | None) -> list[_AnyRun]:
        self.entries = self.roster.select(spec or ())
        hashes = dict.fromkeys(entry.params for entry in self.entries)
        return [_AnyRun(_Params(self.roster, one)) for one in hashes]


def select(roster: Roster, spec: Sequence[str], match: Sequence[str]) -> list[Entry]:
    """Select runs as `select_runs` does, without building their params; see there for the errors."""
    if not match and roster.select(spec):
        return roster.select(spec)
    selection = _Selection(roster)
    fitting: Any = select_runs(cast(Any, selection), spec, match)
    hashes = {one.params.param_hash for one in fitting}
    return [entry for entry in selection.entries if entry.params in hashes]


def find_one_entry(roster: Roster, text: str, match: Sequence[str] = ()) -> Entry:
    """Return the run that `text` means, as `find_one_run` does, without building params; see there."""
    entries = select(roster, (), match)
    varying = roster.varying(entries)
    names = [(entry.id, entry.spec) for entry in entries]
    return entries[pick_one(roster.path, names, text, lambda n: roster.label(entries[n].params, varying))]


def take_look(
    roster: Roster,
    entries: Sequence[Entry],
    *,
    rescan: bool = False,
    ask: bool = True,
    before: Look | None = None,
) -> Look:
    """Tell what runs are at.

    Parameters
    ----------
    rescan : bool
        Read all facts, believe no cache.
    ask : bool
        Ask the scheduler, if a run needs it. Otherwise what it said `before` holds for runs whose files say
        what they said then.
    before : Look, optional
        The look before this.
    """
    files = states_of(roster.layout, [entry.id for entry in entries], rescan=rescan)
    if not ask and before is not None:
        return _as_before(entries, files, before)
    over = (RunState.COMPLETED, RunState.PREPARED)
    open_ = {run: s for run, s in files.items() if s.state not in over and not is_settled(s)}
    if not open_:
        return Look(entries, files, files, {})
    from lfadsrm_hpc.schedulers.tracking import track

    tracked = track(roster.layout, open_)
    notify, untrusted = _commands(tracked.handed_runs.values())
    return Look(
        entries,
        files,
        {**files, **tracked.statuses},
        _jobs(tracked.handed_runs),
        notify,
        (*tracked.warnings, *untrusted),
        tracked.queried,
    )


def _commands(handed: Iterable[Handed]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the commands of the sites, as plans keep them, and warnings of those that are not run."""
    from lfadsrm_hpc.manifest.sealed import require_trust

    commands: dict[str, None] = {}
    warnings = []
    for one in {one.ulid: one for one in handed}.values():
        command = one.site.notify.command if one.site is not None else ""
        if not command or one.submission is None:
            continue
        try:
            require_trust(one.submission.layout)
            commands[command] = None
        except UntrustedError as error:
            warnings.append(f"notify.command is not run: {error}")
    return tuple(commands), tuple(warnings)


def _jobs(handed: Mapping[str, Handed]) -> dict[str, str]:
    from lfadsrm_hpc.schedulers.attempts import job_text

    jobs: dict[tuple[str, int, str], Job | None] = {}
    found = {}
    for run, one in handed.items():
        key = (one.ulid, one.chunk.chunk.number if one.chunk is not None else -1, one.holder)
        job = jobs[key] if key in jobs else jobs.setdefault(key, one.job)
        if job is not None:
            found[run] = job_text(job.id, job.size, one.index)
    return found


def _as_before(entries: Sequence[Entry], files: Mapping[str, RunStatus], before: Look) -> Look:
    merged = dict(files)
    for run, status in files.items():
        old, told = before.files.get(run), before.statuses.get(run)
        if old is not None and told is not None and told is not old and _same(old, status):
            merged[run] = replace(status, state=told.state, reason=told.reason, message=told.message)
    return replace(before, entries=entries, files=files, statuses=merged, warnings=(), queried=False)


def _same(one: RunStatus, other: RunStatus) -> bool:
    return (one.state, one.attempt, one.incarnation, one.code, one.closed) == (
        other.state,
        other.attempt,
        other.incarnation,
        other.code,
        other.closed,
    )


def with_messages(roster: Roster, look: Look, entries: Sequence[Entry]) -> Look:
    """Read why runs have failed, of the first so many: names in the outbox do not say it."""
    silent = [
        entry.id
        for entry in entries
        if look.statuses[entry.id].state.is_failure and not look.statuses[entry.id].message
    ][:_MOST_READ]
    if not silent:
        return look
    read = states_of(roster.layout, silent, rescan=True)
    better = {run: status for run, status in read.items() if status.state is look.statuses[run].state}
    return replace(look, statuses={**look.statuses, **better})


def worth_showing(entries: Sequence[Entry], look: Look, most: int) -> list[Entry]:
    """Return the runs to show where there are too many: some of those that need care, run, or wait.

    Each kind gets a share, and more where others do not need theirs; runs stay in their order.
    """
    groups: list[list[Entry]] = [[], [], [], []]
    for state, members in look.grouped(entries).items():
        kind = _kind(state)
        if kind < len(groups):
            groups[kind] += members
    chosen: set[str] = set()
    for rank, members in enumerate(sorted(groups, key=len)):
        share = (most - len(chosen)) // (len(groups) - rank)
        chosen.update(entry.id for entry in members[:share])
    return [entry for entry in entries if entry.id in chosen]


def _kind(state: RunState) -> int:
    if state in (RunState.UNCERTAIN, RunState.UNKNOWN, RunState.HELD):
        return 0
    if state.is_failure:
        return 1
    if state in (RunState.RUNNING, RunState.REQUEUED):
        return 2
    return 3 if state.is_live else 4


def warn(warnings: Sequence[str]) -> None:
    """Print warnings on standard error, the first so many."""
    for text in warnings[:_MOST_WARNINGS]:
        say(f"warning: {text}")
    if len(warnings) > _MOST_WARNINGS:
        say(f"warning: and {len(warnings) - _MOST_WARNINGS} more")


def waits(states: Iterable[RunStatus]) -> bool:
    """Return whether something is left that may change without the user: UNCERTAIN needs `reconcile`."""
    return any(
        s.state is RunState.UNKNOWN or (s.state.is_live and s.state is not RunState.UNCERTAIN) for s in states
    )
