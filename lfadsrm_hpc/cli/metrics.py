"""`lfadsrm metrics`: how good runs are, as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.cluster_options import state_option
from lfadsrm_hpc.cli.common import json_option, print_json, say, selection_options, where_argument
from lfadsrm_hpc.cli.plain_table import print_table
from lfadsrm_hpc.errors import SomeRunsFailedError

if TYPE_CHECKING:
    from lfadsrm_hpc.cli.scored import Scored
    from lfadsrm_hpc.results.runs.metrics_file import RunMetrics

# In the order of `results.scoring.scores.NAMES`, which is not imported: it needs numpy.
_NAMES = ("bits_per_spike", "co_bps", "fp_bps", "rate_r2", "psth_r2", "latent_r2", "decoding_r2")

_MOST_NOTES = 5


@click.command()
@where_argument
@selection_options
@state_option
@click.option("--train", is_flag=True, help="Scores of the training trials, not of the validation trials.")
@click.option("--datasets", is_flag=True, help="A row for each dataset of a run.")
@click.option("--recompute", is_flag=True, help="Make all of them anew.")
@click.option("--stored", is_flag=True, help="Only what is stored; compute nothing.")
@json_option
def metrics(
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    state_words: tuple[str, ...],
    train: bool,
    datasets: bool,
    recompute: bool,
    stored: bool,
    as_json: bool,
) -> None:
    """Tell how good the complete runs of WHERE are: bits per spike, co-smoothing, R2, and the verdict.

    A run writes its metrics at its end; they are made here where they are missing. Higher is better. What is
    not defined for a run (co-smoothing without held-out neurons, say) is left out; --json says why.
    docs/metrics.md has the definitions.

    \b
    Examples:
      lfadsrm metrics
      lfadsrm metrics my_experiment --match factors_dim=8 --datasets
      lfadsrm metrics --recompute
      lfadsrm metrics --json | jq '.runs[] | [.run_id, .metrics.co_bps]'

    \b
    Exit codes: 0 told; 1 no run is complete; 2 usage; 5 the metrics of some runs cannot be made.
    """
    from lfadsrm_hpc.cli.scored import need_some, scored_runs

    found = scored_runs(where, spec, match, state_words, recompute=recompute, stored=stored)
    need_some(found)
    if as_json:
        print_json(_content(found))
    else:
        _print(found, train=train, datasets=datasets)
    if found.failures and not stored:
        raise SomeRunsFailedError(
            f"{len(found.failures)} of {len(found.failures) + len(found.metrics)} runs have no metrics",
            where=found.roster.path,
            hint="the warnings above say why",
        )


def _content(found: Scored) -> dict[str, Any]:
    specs = {entry.id: entry for entry in found.entries}
    runs = [
        {
            "run_id": run_id,
            "spec": specs[run_id].spec,
            "params": found.roster.differences(specs[run_id].params),
            **{key: value for key, value in asdict(one).items() if key != "schema_version"},
        }
        for run_id, one in found.metrics.items()
    ]
    return {"collection": str(found.roster.path), "runs": runs, "missing": found.failures}


def _print(found: Scored, *, train: bool, datasets: bool) -> None:
    key = "train_metrics" if train else "metrics"
    labels = found.labels()
    specs = {entry.id: entry.spec for entry in found.entries}
    rows, notes = [], {}
    for run_id, one in found.metrics.items():
        for dataset, values in _rows(one, key, datasets=datasets):
            numbers = [f"{values[name]:.4f}" if name in values else "" for name in _NAMES]
            rows.append([specs[run_id], labels[run_id], dataset, one.verdict, *numbers])
        for dataset, each in one.datasets.items():
            notes.update(dict.fromkeys(f"{dataset}: {note}" for note in each.get("notes", ())))
    if rows:
        print_table(("run spec", "params", "dataset", "quality", *_NAMES), rows, numbers=_NAMES)
    for note in list(notes)[:_MOST_NOTES]:
        say(f"note: {note}")
    if len(notes) > _MOST_NOTES:
        say(f"note: and {len(notes) - _MOST_NOTES} more: --json")
    for run_id, why in found.failures.items():
        say(f"{run_id}: no metrics: {why}")


def _rows(one: RunMetrics, key: str, *, datasets: bool) -> Iterator[tuple[str, Mapping[str, float]]]:
    if not datasets:
        yield "", getattr(one, key)
        return
    for name, each in one.datasets.items():
        yield name, each[key]
