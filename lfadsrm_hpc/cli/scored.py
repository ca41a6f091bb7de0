"""Runs with their metrics, for the commands that show them: read where they are stored, made where not."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lfadsrm_hpc.cli.cluster_options import parse_states
from lfadsrm_hpc.cli.common import find_place, say
from lfadsrm_hpc.cli.looking import select
from lfadsrm_hpc.collection.roster import Entry, Roster
from lfadsrm_hpc.errors import LfadsrmError, LfadsrmWarning, NotFoundError, ResultsError
from lfadsrm_hpc.manifest.reading import states_of, winning_exit
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.results.runs.metrics_file import RunMetrics, read_metrics

if TYPE_CHECKING:
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.manifest.fold import RunStatus


@dataclass(frozen=True)
class Scored:
    """The runs that a command is about.

    Attributes
    ----------
    roster : Roster
    entries : list of Entry
        Those that were selected.
    statuses : dict of str to RunStatus
        By run id, what their own files say.
    metrics : dict of str to RunMetrics
        Of the complete runs that have some.
    failures : dict of str to str
        Why a complete run has none.
    """

    roster: Roster
    entries: Sequence[Entry]
    statuses: dict[str, RunStatus]
    metrics: dict[str, RunMetrics]
    failures: dict[str, str]

    def labels(self) -> dict[str, str]:
        """Return what distinguishes the params of each run."""
        varying = self.roster.varying(self.entries)
        return {entry.id: self.roster.label(entry.params, varying) for entry in self.entries}


def scored_runs(
    where: Path | None,
    spec: Sequence[str],
    match: Sequence[str],
    state_words: Sequence[str],
    *,
    recompute: bool = False,
    stored: bool = False,
) -> Scored:
    """Select runs and get their metrics.

    Parameters
    ----------
    recompute : bool
        Make the metrics of all of them anew.
    stored : bool
        Make none.

    Raises
    ------
    NotFoundError
        No run fits.
    """
    states = parse_states(state_words)
    roster = Roster.open(find_place(where).collection)
    entries = select(roster, spec, match)
    statuses = states_of(roster.layout, [entry.id for entry in entries])
    if states:
        entries = [entry for entry in entries if statuses[entry.id].state in states]
        if not entries:
            raise NotFoundError("no run is in such a state", where=roster.path, hint="`lfadsrm status`")
    complete = [entry.id for entry in entries if statuses[entry.id].state is RunState.COMPLETED]
    found = {} if recompute else _stored(roster, complete)
    missing = [run_id for run_id in complete if run_id not in found]
    failures = dict.fromkeys(missing, "not computed yet")
    for run_id, result in _compute(roster, missing, recompute=recompute) if missing and not stored else ():
        if isinstance(result, str):
            failures[run_id] = result
        else:
            found[run_id] = result
            del failures[run_id]
    ordered = {entry.id: found[entry.id] for entry in entries if entry.id in found}
    return Scored(roster, entries, statuses, ordered, failures)


def _stored(roster: Roster, run_ids: Iterable[str]) -> dict[str, RunMetrics]:
    found = {}
    for run_id in run_ids:
        layout = roster.layout.run_by_id(run_id)
        winner = winning_exit(layout)
        metrics = read_metrics(layout.metrics_json, expect_token=winner[1]) if winner is not None else None
        if metrics is not None:
            found[run_id] = metrics
    return found


def _compute(
    roster: Roster, run_ids: Sequence[str], *, recompute: bool
) -> Iterator[tuple[str, RunMetrics | str]]:
    """Make the metrics of runs; yield each, or why it cannot be."""
    from lfadsrm_hpc.api import RunCollection

    collection: RunCollection = RunCollection.open(roster.path)
    by_id = {run.id: run for run in collection.runs}
    for number, run_id in enumerate(run_ids, start=1):
        say(f"metrics of {run_id} ({number} of {len(run_ids)})")
        with warnings.catch_warnings():
            warnings.simplefilter("always", LfadsrmWarning)
            try:
                yield run_id, by_id[run_id].metrics(recompute=recompute)
            except LfadsrmError as error:
                say(f"warning: {run_id} has no metrics: {error}")
                yield run_id, error.what


def need_some(found: Scored, what: str = "no run is complete") -> None:
    """Refuse to show nothing.

    Raises
    ------
    ResultsError
        No run is complete.
    """
    if not found.metrics and not found.failures:
        raise ResultsError(what, where=found.roster.path, hint="`lfadsrm status` tells what they are at")
