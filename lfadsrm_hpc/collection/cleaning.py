"""Free space: what of a collection may be deleted, by kind, and deleting it.

Only what a complete run does not need any more is offered: a run that works, waits, is uncertain or has not
come to its end keeps every file. Each run is held (`lfadsrm_hpc.manifest.holding`) and looked at anew before
anything of it goes, so one that is started meanwhile loses nothing, and files go one by one: whenever it is
stopped, the same command goes on. docs/cleaning.md tells it to users.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lfadsrm_hpc.collection.leftovers import (
    settle_interrupted,
    settle_removed_inputs,
    stale_files,
    unused_inputs,
)
from lfadsrm_hpc.collection.outputs import made_by
from lfadsrm_hpc.errors import ClaimLostError, UsageError, suggest
from lfadsrm_hpc.layout import CollectionLayout, RunLayout, checkpoint_files, glimpses, tensorboard_events
from lfadsrm_hpc.manifest.facts import RunFacts
from lfadsrm_hpc.manifest.holding import held
from lfadsrm_hpc.manifest.reading import collection_states, read_facts
from lfadsrm_hpc.manifest.states import RunState

KINDS = {
    "checkpoints": "older checkpoints of the training that completed a run",
    "attempts": "checkpoints of attempts that did not complete their run, where another did",
    "tensorboard": "TensorBoard events of complete runs; the costs stay in fitlog.csv",
    "glimpses": "trials that `lfadsrm peek` showed while complete runs trained; it shows results now",
    "inputs": "input files that no run uses",
    "leftovers": "unfinished files that killed commands left, a day old or older",
    "caches": "what `lfadsrm status` need not read again; it is made again when needed",
    "last-checkpoint": "the last checkpoint of complete runs: no infer, adapt or start_from afterwards",
    "posterior-means": "the posterior means of complete runs: the results themselves",
}
"""What may be deleted, and what each is."""

ON_REQUEST = ("caches", "last-checkpoint", "posterior-means")
"""Kinds that are deleted only where they are named."""

_OF_RUNS = ("checkpoints", "attempts", "tensorboard", "glimpses", "last-checkpoint", "posterior-means")


@dataclass(frozen=True)
class Removable:
    """One file or folder that may be deleted.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    run_id : str
        Of which run; "": of none.
    path : Path
    files, size : int
        How many files it is, and their bytes.
    """

    kind: str
    run_id: str
    path: Path
    files: int
    size: int


@dataclass
class Cleaned:
    """What `clean` did.

    Attributes
    ----------
    removed : list of Removable
    skipped : dict of str to str
        By run id, why its files stayed although they were chosen.
    """

    removed: list[Removable] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that were freed."""
        return sum(item.size for item in self.removed)


def chosen_kinds(kinds: Iterable[str] | None) -> tuple[str, ...]:
    """Return the kinds that are meant: those named, or all but the ones that must be asked for.

    Raises
    ------
    UsageError
        There is no such kind.
    """
    if kinds is None:
        return tuple(kind for kind in KINDS if kind not in ON_REQUEST)
    named = list(kinds)
    for kind in named:
        if kind not in KINDS:
            hint = suggest(kind, list(KINDS)) or f"there are: {', '.join(KINDS)}"
            raise UsageError(f"there is no kind {kind!r} of files", hint=hint)
    return tuple(kind for kind in KINDS if kind in named)


def removable(
    layout: CollectionLayout, runs: Sequence[RunLayout], kinds: Collection[str], *, whole: bool
) -> list[Removable]:
    """Return what may be deleted now.

    Parameters
    ----------
    layout : CollectionLayout
    runs : sequence of RunLayout
        Of which runs.
    kinds : collection of str
    whole : bool
        Whether that is the whole collection: what belongs to no run is offered too.
    """
    states = {run_id: status.state for run_id, status in collection_states(layout, runs).items()}
    found: list[Removable] = []
    if any(kind in _OF_RUNS for kind in kinds):
        complete = [run for run in runs if states[run.run_id] is RunState.COMPLETED]
        for run in complete:
            found += [item for item in _of_run(run, read_facts(run)) if item.kind in kinds]
    if whole and "inputs" in kinds:
        found += [measured("inputs", "", path) for path in unused_inputs(layout)]
    if "leftovers" in kinds:
        resting = [run for run in runs if not states[run.run_id].is_live]
        found += [measured("leftovers", run, path) for run, path in stale_files(layout, resting, whole=whole)]
    if whole and "caches" in kinds:
        caches = [*map(layout.index, layout.index_numbers()), *layout.rosters()]
        found += [measured("caches", "", path) for path in caches]
    return found


def outputs_of(runs: Sequence[RunLayout]) -> list[Removable]:
    """Return all that runs have made, which nothing but `delete_outputs` deletes, with sizes."""
    return [measured("outputs", run.run_id, path) for run in runs for path in made_by(run)]


def clean(
    layout: CollectionLayout,
    items: Sequence[Removable],
    on_step: Callable[[int, int], None] | None = None,
) -> Cleaned:
    """Delete what `removable` has offered and is still so.

    Parameters
    ----------
    layout : CollectionLayout
    items : sequence of Removable
    on_step : callable, optional
        Is told how many of the items were dealt with, and how many there are.
    """
    done = Cleaned()
    settle_interrupted(layout)
    for name in dict.fromkeys(item.run_id for item in items if item.kind in _OF_RUNS):
        mine = [item for item in items if item.run_id == name and item.kind in _OF_RUNS]
        _clean_run(layout.run_by_id(name), mine, done)
        if on_step is not None:
            on_step(len(done.removed), len(items))
    for item in items:
        if item.kind == "inputs":
            gone = settle_removed_inputs(layout, item.path)
        elif item.kind not in _OF_RUNS:
            gone = _delete(item.path)
        else:
            continue
        done.removed += [item] if gone else []
    return done


def _clean_run(run: RunLayout, items: Sequence[Removable], done: Cleaned) -> None:
    try:
        with held(run) as hold:
            still = {item.path for item in _of_run(run, hold.facts)}
            for item in items:
                if item.path in still and _delete(item.path):
                    done.removed.append(item)
                hold.beat()
    except ClaimLostError as error:
        done.skipped[run.run_id] = error.what


def _of_run(run: RunLayout, facts: RunFacts) -> Iterator[Removable]:
    """Yield what a run can do without; nothing unless it is complete."""
    if facts.completed is None:
        return
    winner = facts.completed[0].number, facts.completed[1].number
    # A folder above belongs to somebody who is, or was, at work after the run was complete: leave it alone.
    folders = [
        path for attempt, incarnation, path in run.checkpoint_dirs() if (attempt, incarnation) <= winner
    ]
    results = sorted(run.posterior_dir.glob("*.nc"))
    kept = next((path for folder in folders if (path := _newest_whole(folder)) is not None), None)
    for folder in folders:
        for path in checkpoint_files(folder):
            if kept is None:
                break  # no checkpoint can be read: it is not for this command to judge them
            if path != kept:
                kind = "checkpoints" if path.parent == kept.parent else "attempts"
                yield measured(kind, run.run_id, path)
            elif run.model_params.is_file():  # otherwise it is the only copy of the parameters
                yield measured("last-checkpoint", run.run_id, path)
        if tensorboard_events(folder).is_dir():
            yield measured("tensorboard", run.run_id, tensorboard_events(folder))
        if results and glimpses(folder).is_dir():  # otherwise there is nothing else to show
            yield measured("glimpses", run.run_id, glimpses(folder))
    for path in results:
        yield measured("posterior-means", run.run_id, path)


def _newest_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint of a folder that can be read: it holds the best parameters too."""
    files = (path for path in reversed(checkpoint_files(folder)) if path.is_file())
    return next((path for path in files if zipfile.is_zipfile(path)), None)


def measured(kind: str, run_id: str, path: Path) -> Removable:
    """Return a file or folder with the number of its files and their bytes."""
    files, size = _measure(path)
    return Removable(kind, run_id, path, files, size)


def _measure(path: Path) -> tuple[int, int]:
    """Return the number of files in a folder, or 1, and their bytes; what vanishes does not count."""
    if path.is_symlink() or not path.is_dir():
        with contextlib.suppress(FileNotFoundError):
            return 1, path.lstat().st_size
        return 0, 0
    sizes = []
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                sizes.append((Path(folder) / name).lstat().st_size)
    return len(sizes), sum(sizes)


def _delete(path: Path) -> bool:
    """Delete a file or folder; return whether it was there."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return False
    return True
