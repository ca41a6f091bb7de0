"""`lfadsrm check-runs`: is what was learned worth anything? A verdict a run, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.cluster_options import state_option
from lfadsrm_hpc.cli.common import json_option, print_json, say, selection_options, where_argument
from lfadsrm_hpc.errors import SomeRunsFailedError
from lfadsrm_hpc.manifest.reading import states_of

if TYPE_CHECKING:
    from lfadsrm_hpc.cli.scored import Scored
    from lfadsrm_hpc.manifest.fold import RunStatus

_VERDICTS = ("good", "suspect", "bad")
_COLOURS = {"good": "green", "suspect": "yellow", "bad": "red"}


@click.command()
@where_argument
@selection_options
@state_option
@click.option("--recompute", is_flag=True, help="Judge all of them anew.")
@click.option("--stored", is_flag=True, help="Only what is stored; compute nothing.")
@click.option("--fail", is_flag=True, help="Exit 5 if a run is bad.")
@json_option
def check_runs(
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    state_words: tuple[str, ...],
    recompute: bool,
    stored: bool,
    fail: bool,
    as_json: bool,
) -> None:
    """Judge the runs of WHERE that have ended: good, suspect or bad, with reasons and what to try.

    Did the model learn what tells conditions apart, are inputs dead, has the posterior collapsed, is
    it over-fitted, did training end before its ramps, did it diverge? Runs that failed are bad.
    docs/metrics.md explains the checks.

    \b
    Examples:
      lfadsrm check-runs
      lfadsrm check-runs my_experiment --spec single_day1
      lfadsrm check-runs --fail && echo "no run is bad"
      lfadsrm check-runs --json | jq '.counts'

    \b
    Exit codes: 0 told; 1 no run has ended; 2 usage; 5 some runs cannot be judged, or with --fail:
    some runs are bad.
    """
    from lfadsrm_hpc.cli.scored import need_some, scored_runs

    found = scored_runs(where, spec, match, state_words, recompute=recompute, stored=stored)
    judged = dict(_judged(found))
    if not judged:
        need_some(found, "no run has ended, so there is nothing to judge")
    counts = Counter(quality["verdict"] for quality in judged.values())
    rest = len(found.entries) - len(judged) - len(found.failures)
    if as_json:
        print_json(_content(found, judged, counts))
    else:
        _print(found, judged)
        told = [f"{counts[verdict]} {verdict}" for verdict in _VERDICTS if counts[verdict]]
        told += [f"{rest} not ended"] if rest else []
        click.echo(f"{found.roster.path}: {', '.join(told) or 'nothing to judge'}")
    if found.failures and not stored:
        raise SomeRunsFailedError(
            f"{len(found.failures)} complete runs cannot be judged",
            where=found.roster.path,
            hint="the warnings above say why",
        )
    if fail and counts["bad"]:
        raise SomeRunsFailedError(f"{counts['bad']} of {len(judged)} runs are bad", where=found.roster.path)


def _judged(found: Scored) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the verdict on each run that has ended, in order."""
    failed = [entry.id for entry in found.entries if found.statuses[entry.id].state.is_failure]
    # names in the outbox do not say why a run failed
    told = states_of(found.roster.layout, failed, rescan=True) if failed else {}
    for entry in found.entries:
        if entry.id in found.metrics:
            yield entry.id, dict(found.metrics[entry.id].quality)
        elif entry.id in told:
            yield entry.id, {"verdict": "bad", "reasons": [_failed(told[entry.id])]}


def _failed(status: RunStatus) -> dict[str, str]:
    word = status.state.value.lower().replace("_", " ")
    message = (status.message or "").splitlines()
    text = f"The run ended as {word}{': ' + message[0] if message else ''}; see `lfadsrm logs`."
    check = "diverged" if message and "not finite" in message[0] else "failed"
    return {"check": check, "verdict": "bad", "text": text}


def _content(found: Scored, judged: dict[str, dict[str, Any]], counts: Counter[str]) -> dict[str, Any]:
    specs = {entry.id: entry for entry in found.entries}
    runs = [
        {
            "run_id": run_id,
            "spec": specs[run_id].spec,
            "params": found.roster.differences(specs[run_id].params),
            "state": found.statuses[run_id].state.value,
            **quality,
        }
        for run_id, quality in judged.items()
    ]
    return {
        "collection": str(found.roster.path),
        "counts": {verdict: counts[verdict] for verdict in _VERDICTS},
        "runs": runs,
        "missing": found.failures,
    }


def _print(found: Scored, judged: dict[str, dict[str, Any]]) -> None:
    labels = found.labels()
    specs = {entry.id: entry.spec for entry in found.entries}
    width = max((len(verdict) for verdict in _VERDICTS), default=0)
    for run_id, quality in judged.items():
        verdict = quality["verdict"]
        shown = click.style(verdict.ljust(width), fg=_COLOURS.get(verdict))
        click.echo(f"{shown}  {specs[run_id]}  {labels[run_id]}  ({run_id})")
        for reason in quality["reasons"]:
            click.echo(f"{'':{width}}  - {reason['text']}")
    for run_id, why in found.failures.items():
        say(f"{run_id}: not judged: {why}")
