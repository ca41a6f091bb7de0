"""What commands say of runs that their experiment does not name any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lfadsrm_hpc.cli.common import say
from lfadsrm_hpc.collection.words import counted
from lfadsrm_hpc.errors import LfadsrmError
from lfadsrm_hpc.rendering import shell_quote

if TYPE_CHECKING:
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.cli.places import Place
    from lfadsrm_hpc.collection.experiment import Experiment
    from lfadsrm_hpc.manifest.states import RunState


def tell_of_unnamed(experiment: Experiment, collection: RunCollection) -> list[str]:
    """Say how many runs stay beside those that an experiment names, and how they go; return their ids."""
    from lfadsrm_hpc.collection.unnamed import unnamed_runs, was_tried

    runs = unnamed_runs(collection.layout, {run.id for run in collection.runs})
    untried = sum(not was_tried(run) for run in runs)
    if runs:
        text = (
            f"{counted(len(runs), 'run')} that the experiment does not name any more stay in the collection"
        )
        which = "them" if untried == len(runs) else f"the {untried} that nobody has tried"
        say(text + (f"; {_command(experiment)} deletes {which}" if untried else ""))
    return [run.run_id for run in runs]


def tell_of_chosen(place: Place, run_ids: Iterable[str], states: Collection[RunState] | None) -> None:
    """Say how many of the runs that are about to be handed over the experiment does not name any more.

    An experiment that cannot be read is not what these commands are about: then nothing is said. Sessions are
    not opened for it, so with `min_trials` those too small count as named.

    Parameters
    ----------
    states : collection of RunState or None
        Only runs in these states are handed over; None: those that were never handed over.
    """
    if place.experiment is None:
        return
    from lfadsrm_hpc.collection.unnamed import named_by
    from lfadsrm_hpc.layout import CollectionLayout
    from lfadsrm_hpc.manifest.reading import states_of
    from lfadsrm_hpc.manifest.states import RunState

    try:
        named = named_by(replace(place.experiment, min_trials=0))
    except LfadsrmError:
        return
    known = states_of(
        CollectionLayout(place.collection), [run_id for run_id in run_ids if run_id not in named]
    )
    others = [run_id for run_id, status in known.items() if status.state in (states or {RunState.PREPARED})]
    if others:
        say(
            f"{counted(len(others), 'run')} among these are not named by the experiment any more; "
            f"{_command(place.experiment)} deletes those that nobody has tried"
        )


def _command(experiment: Experiment) -> str:
    """Return the command that deletes them, as it is given in the current folder."""
    from lfadsrm_hpc.collection.experiment_file import EXPERIMENT_FILE

    path = experiment.path.parent if experiment.path.name == EXPERIMENT_FILE else experiment.path
    here = Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    where = "" if shown == Path() else f" {shell_quote(shown)}"
    return f"`lfadsrm clean{where} --unnamed`"
