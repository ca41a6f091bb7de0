"""Deleting what runs have made, never what they were made from."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lfadsrm_hpc.collection import summary
from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.layout import CollectionLayout, run_key

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
    live = [run.id for run in runs if is_live is not None and is_live(run)]
    if live:
        raise UsageError(
            f"{len(live)} of the runs may be running: {summary.listing(live)}",
            where=layout.path,
            hint="stop them first; nothing was deleted",
        )
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
            f"Delete posterior means, checkpoints and attempts of {len(runs)} runs in {layout.path} "
            f"({summary.listing([run.id for run in runs])})?"
        )
        if not confirm(question):
            return []
    for run in runs:
        _delete_one(layout, run)
    # the index is a cache of results; without it they are read again from the files that are left
    for path in layout.state_dir.glob("index-*.json"):
        path.unlink(missing_ok=True)
    return list(runs)


def _delete_one(layout: CollectionLayout, run: Run) -> None:
    """Delete in such an order that a crash in between leaves a run that can be deleted again."""
    files = run.layout
    key = run_key(run.id)
    for name in [*layout.outbox.glob(f"{key}.*"), *layout.state_dir.glob(f"local/*/{key}.*")]:
        name.unlink(missing_ok=True)
    files.model_params.unlink(missing_ok=True)
    _remove(files.posterior_dir)
    _remove(files.checkpoints)
    # last: as long as the attempts are there, the next one gets a number of its own
    _remove(files.attempts_dir)


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
