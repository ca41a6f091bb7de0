"""Deleting what runs have made, never what they were made from."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lfadsrm_hpc.collection import words
from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.layout import CollectionLayout, RunLayout
from lfadsrm_hpc.manifest.cancelling import forget
from lfadsrm_hpc.manifest.reading import collection_states

if TYPE_CHECKING:
    from lfadsrm_hpc.collection.run import Run


def delete(
    layout: CollectionLayout,
    runs: Sequence[Run],
    *,
    confirm: Callable[[str], bool] | None,
    yes: bool,
    is_live: Callable[[Run], bool] | None,
) -> list[Run]:
    """Do what `RunCollection.delete_outputs` says."""
    refuse_live(layout, runs, is_live)
    if not runs:
        return []
    if not yes:
        if confirm is None:
            raise UsageError(
                f"deleting the outputs of {len(runs)} runs was not confirmed",
                where=layout.path,
                hint="pass yes=True, or confirm= with a function that asks",
            )
        question = (
            f"Delete posterior means, checkpoints, attempts, and what was inferred or adapted with them, of "
            f"{len(runs)} runs in {layout.path} "
            f"({words.listing([run.id for run in runs])})?"
        )
        if not confirm(question):
            return []
    for run in runs:
        _delete_one(layout, run)
    return list(runs)


def refuse_live(
    layout: CollectionLayout, runs: Sequence[Run], is_live: Callable[[Run], bool] | None = None
) -> None:
    """Refuse runs that may be running, before anything of any of them is deleted.

    Raises
    ------
    UsageError
    """
    live = _live(layout, runs, is_live)
    if live:
        raise UsageError(
            f"{len(live)} of the runs may be running:\n{words.lines(live)}",
            where=layout.path,
            hint="stop them first; nothing was deleted",
        )


def made_by(run: RunLayout) -> list[Path]:
    """Return the files and folders of a run that `delete` would delete."""
    files = (run.model_params, run.metrics_json)
    folders = (run.posterior_dir, run.inferred_dir, run.adapted_dir, run.checkpoints, run.attempts_dir)
    killed = (run.deleted_attempts,)  # what a deletion that was killed has left
    return [path for path in (*files, *folders, *killed) if path.exists()]


def _live(layout: CollectionLayout, runs: Sequence[Run], is_live: Callable[[Run], bool] | None) -> list[str]:
    states = collection_states(layout, [run.layout for run in runs]) if runs else {}
    return [run.id for run in runs if states[run.id].state.is_live or (is_live is not None and is_live(run))]


def _delete_one(layout: CollectionLayout, run: Run) -> None:
    """Delete the attempts after what they made: a kill in between leaves a run that can be deleted again.

    Without its attempts a run would begin at attempt 1 and find the checkpoints of an earlier one there.
    """
    files = run.layout
    files.model_params.unlink(missing_ok=True)
    files.metrics_json.unlink(missing_ok=True)
    _remove(files.posterior_dir)
    _remove(files.inferred_dir)
    _remove(files.adapted_dir)
    _remove(files.checkpoints)
    forget(files)
    for name in layout.queue_state_files(run.id):
        name.unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
