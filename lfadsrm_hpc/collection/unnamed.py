"""Runs that an experiment does not name any more: which these are, and deleting those that were never tried.

`prepare` takes no run away, so those of an earlier `experiment.toml` stay. When they are deleted, they leave
`collection.json` first, so that nobody starts them; then each is held, and its folder put aside in one step;
then the inputs that no run uses go, and the folders last, which tell what they used. Where it is stopped in
between, there are runs on disk that are not listed, and folders that were put aside: the same command finds
both, and `prepare` lists such runs again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.collection import stored as stored_file
from lfadsrm_hpc.collection.cleaning import Cleaned, Removable, measured
from lfadsrm_hpc.collection.leftovers import settle_interrupted, settle_removed_inputs
from lfadsrm_hpc.collection.outputs import made_by
from lfadsrm_hpc.collection.run import read_record
from lfadsrm_hpc.errors import ClaimLostError, ConfigError, NotFoundError
from lfadsrm_hpc.layout import CollectionLayout, RunLayout
from lfadsrm_hpc.manifest.facts import RunFacts
from lfadsrm_hpc.manifest.holding import held, is_hold
from lfadsrm_hpc.manifest.reading import collection_states, read_facts
from lfadsrm_hpc.manifest.states import RunState

if TYPE_CHECKING:
    from lfadsrm_hpc.collection.experiment import Experiment

RUN, INPUTS, LEFTOVERS = "run", "inputs", "leftovers"
_TRIED = "it was tried"
_QUEUED = "a run of the collection is at work, and this one may wait in the same local queue"


@dataclass
class Unnamed:
    """What may be deleted of the runs that an experiment does not name.

    Attributes
    ----------
    items : list of Removable
        Of kind "run", "inputs" or "leftovers".
    kept : dict of str to str
        By run id, why a run stays.
    """

    items: list[Removable] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)


def named_by(experiment: Experiment) -> set[str]:
    """Return the ids of the runs that an experiment names.

    Raises
    ------
    ConfigError, DataError
        See `Experiment.build`.
    """
    from lfadsrm_hpc.collection.collection import RunCollection
    from lfadsrm_hpc.collection.run import Run

    built: RunCollection[Run] = experiment.build(RunCollection)
    return {run.id for run in built.runs}


def unnamed_runs(layout: CollectionLayout, named: Collection[str]) -> list[RunLayout]:
    """Return the runs of a collection, listed or only on disk, that are not among `named`."""
    stored = stored_file.read_stored(layout)
    listed = [] if stored is None else stored["runs"]
    ids = dict.fromkeys([*listed, *(run.run_id for run in layout.runs_on_disk())])
    return [layout.run_by_id(run_id) for run_id in ids if run_id not in named]


def was_tried(run: RunLayout) -> bool:
    """Return whether anybody has tried a run, or was about to: it has attempts, or files that it made."""
    made = [path for path in made_by(run) if path != run.attempts_dir]
    return bool(made) or _has_attempts(read_facts(run)) or bool(run.collection.queue_state_files(run.run_id))


def _has_attempts(facts: RunFacts) -> bool:
    return any(not is_hold(attempt) for attempt in facts.attempts)


def removable(
    layout: CollectionLayout, named: Collection[str], among: Collection[str] | None = None
) -> Unnamed:
    """Return what may be deleted of the runs that an experiment does not name: those that were never tried.

    A run that was tried stays, and so does one from whose model another run starts that stays.

    Parameters
    ----------
    layout : CollectionLayout
    named : collection of str
        Ids of the runs that the experiment names.
    among : collection of str, optional
        Only these runs.
    """
    found = Unnamed()
    there = unnamed_runs(layout, named)
    chosen = {run.run_id: run for run in there if among is None or run.run_id in among}
    working = _somebody_works(layout)
    for run in chosen.values():
        if was_tried(run):
            found.kept[run.run_id] = _TRIED
        elif working and run.script.exists():  # written by a local queue, which keeps no record of who waits
            found.kept[run.run_id] = _QUEUED
    records = {run.run_id: read_record(run.params_json) for run in layout.runs_on_disk()}
    going = {run_id: run for run_id, run in chosen.items() if run_id not in found.kept}
    _keep_starts(layout, records, going, found)
    found.items = [measured(RUN, run_id, run.path) for run_id, run in going.items()]
    found.items += [measured(INPUTS, "", path) for path in _own_inputs(layout, records, going)]
    found.items += [measured(LEFTOVERS, "", path) for path in layout.runs_put_aside()]
    found.items += [measured(LEFTOVERS, "", path) for path, _ in layout.inputs_put_aside()]
    return found


def _somebody_works(layout: CollectionLayout) -> bool:
    states = collection_states(layout, layout.runs_on_disk())
    return any(status.state is RunState.RUNNING for status in states.values())


def _keep_starts(
    layout: CollectionLayout, records: Mapping[str, Any], going: dict[str, RunLayout], found: Unnamed
) -> None:
    """Take out of the runs that go those from whose models others start that stay."""
    waiting = [run_id for run_id in records if run_id not in going]
    while waiting:
        run_id = waiting.pop()
        start = records[run_id]["params"]["values"].get("start_from")
        source = layout.run_at(start).path if start else None
        for other in [one for one, run in going.items() if run.path == source]:
            del going[other]
            found.kept[other] = f"run {run_id} starts from its model"
            waiting += [other] if other in records else []


def _own_inputs(layout: CollectionLayout, records: Mapping[str, Any], going: Collection[str]) -> list[Path]:
    """Return the folders of inputs that only runs use that go, or that are being deleted already."""
    used: dict[bool, set[Path]] = {True: set(), False: set()}
    for run_id, record in records.items():
        used[run_id in going] |= _inputs_of(layout, record)
    for path in layout.runs_put_aside():
        with contextlib.suppress(NotFoundError, ConfigError):  # half of it is deleted
            used[True] |= _inputs_of(layout, read_record(RunLayout(path).params_json))
    return sorted(path for path in used[True] - used[False] if path.is_dir())


def _inputs_of(layout: CollectionLayout, record: Mapping[str, Any]) -> set[Path]:
    return {(layout.path / entry["file"]).parent for entry in record["inputs"]}


def remove(layout: CollectionLayout, items: Sequence[Removable]) -> Cleaned:
    """Delete what `removable` has offered and is still so."""
    done = Cleaned()
    runs = [item for item in items if item.kind == RUN]
    stored_file.unlist(layout, [item.run_id for item in runs])
    try:
        for item in runs:
            _put_aside(layout.run_by_id(item.run_id), done)
    finally:
        try:
            _delete_aside(layout, items)
        except BaseException:  # interrupted just here: what was put aside goes all the same
            _delete_aside(layout, items)
            raise
    _list_what_stayed(layout)
    done.removed = [item for item in items if not item.path.exists()]
    return done


def _put_aside(run: RunLayout, done: Cleaned) -> None:
    """Take a run away in one step, unless it was tried by now."""
    try:
        with held(run) as hold:
            others = [attempt for attempt in hold.facts.attempts if attempt.number != hold.attempt]
            if others or any(path != run.attempts_dir for path in made_by(run)):
                done.skipped[run.run_id] = _TRIED
            else:
                run.path.rename(run.collection.removed_run(run, os.urandom(8).hex()))
    except ClaimLostError as error:
        done.skipped[run.run_id] = error.what


def _delete_aside(layout: CollectionLayout, items: Sequence[Removable]) -> None:
    """Delete inputs that no run uses any more, and after them the runs, which tell what they used."""
    for item in items:
        if item.kind == INPUTS:
            settle_removed_inputs(layout, item.path)
    settle_interrupted(layout)
    for path in layout.runs_put_aside():
        shutil.rmtree(path, ignore_errors=True)
    for item in items:
        _remove_empty(item.path.parent)


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it holds something, or is gone
        folder.rmdir()


def _list_what_stayed(layout: CollectionLayout) -> None:
    """List again what is on disk after all, and write the texts that name all runs."""
    from lfadsrm_hpc.collection.collection import RunCollection
    from lfadsrm_hpc.collection.preparation import write_texts
    from lfadsrm_hpc.collection.run import Run

    stored = stored_file.read_stored(layout)
    if stored is not None:
        whole: RunCollection[Run] = RunCollection.open(layout.path)
        write_texts(whole, stored_file.publish(layout, stored))
