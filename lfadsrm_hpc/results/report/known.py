"""What is known of the runs of a report page, each file read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.collection.labels import params_label, varying_names
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.facts import Freshness, RunFacts
from lfadsrm_hpc.manifest.fold import RunStatus, fold
from lfadsrm_hpc.manifest.reading import look
from lfadsrm_hpc.results.runs.metrics_file import RunMetrics
from lfadsrm_hpc.results.runs.table import runs_table, scores_of

if TYPE_CHECKING:
    import pandas as pd

    from lfadsrm_hpc.collection.collection import RunCollection


@dataclass(frozen=True)
class Known:
    """What is known of the runs of a page.

    `labels` name the params of each run, `names` the run spec too where there are several.
    """

    runs: Sequence[Run]
    facts: Mapping[str, RunFacts]
    states: Mapping[str, RunStatus]
    scores: Mapping[str, RunMetrics]
    table: pd.DataFrame
    freshness: Freshness
    labels: Mapping[str, str]
    names: Mapping[str, str]


def gather(collection: RunCollection[Any], runs: Sequence[Run], states: Mapping[str, RunStatus]) -> Known:
    """Read what the page needs of each run, each file once."""
    layout = collection.layout
    cancelled = store.read_cancellations(layout)
    freshness = look(layout.state_dir if layout.state_dir.is_dir() else layout.path)
    facts = {run.id: store.read_facts(run.layout, cancelled=cancelled) for run in runs}
    found = {run.id: _state(facts[run.id], freshness, states.get(run.id)) for run in runs}
    scores = {run.id: scores_of(run.layout, facts[run.id]) for run in runs}
    table = runs_table(runs, states=found, facts=facts)
    labels = _labels(runs)
    known = {run_id: one for run_id, one in scores.items() if one is not None}
    return Known(runs, facts, found, known, table, freshness, labels, _names(runs, labels))


def _labels(runs: Sequence[Run]) -> dict[str, str]:
    """Return what distinguishes the params of each run."""
    params = {run.params.param_hash: run.params for run in runs}
    varying = varying_names(params.values())
    labels = {key: params_label(one, varying) for key, one in params.items()}
    return {run.id: labels[run.params.param_hash] for run in runs}


def _names(runs: Sequence[Run], labels: Mapping[str, str]) -> dict[str, str]:
    if len({run.spec.name for run in runs}) < 2:
        return dict(labels)
    return {run.id: f"{run.spec.name} {labels[run.id]}" for run in runs}


def _state(facts: RunFacts, freshness: Freshness, told: RunStatus | None) -> RunStatus:
    """Return what a run is at; files tell more, but a scheduler may know better."""
    found = fold(facts, freshness)
    return found if told is None or told.state is found.state else told
