"""`lfadsrm status`: the state of every run, from a few directory listings."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.common import (
    console,
    json_option,
    open_collection,
    print_json,
    select_runs,
    selection_options,
    where_argument,
)
from lfadsrm_hpc.collection.summary import params_label, varying_names
from lfadsrm_hpc.errors import SomeRunsFailedError
from lfadsrm_hpc.manifest.states import RunState

if TYPE_CHECKING:
    from rich.table import Table

    from lfadsrm_hpc.api import Run
    from lfadsrm_hpc.manifest.fold import RunStatus

_MOST_MESSAGES = 50
_COLUMNS = ("run spec", "params", "state", "try", "epoch", "train", "valid", "left", "")
_COLOURS = {
    RunState.COMPLETED: "green",
    RunState.RUNNING: "cyan",
    RunState.PREEMPTED: "yellow",
    RunState.PREPARED: "dim",
}


@click.command()
@where_argument
@selection_options
@json_option
@click.option("--rescan", is_flag=True, help="Read every fact again; believe no cache.")
@click.option("--fail", is_flag=True, help="Exit 5 if a run has failed.")
def status(
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    as_json: bool,
    rescan: bool,
    fail: bool,
) -> None:
    """Tell the state of every run of WHERE: a run collection, an experiment, or what is found from here
    upwards.

    It reads a few small files and starts nothing. The states are explained in docs/manifest.md.

    \b
    Examples:
      lfadsrm status
      lfadsrm status my_experiment --match factors_dim=8
      lfadsrm status --json | jq '.counts'
      lfadsrm status --fail && echo "nothing has failed"

    \b
    Exit codes: 0 told; 2 there is nothing here; 5 with --fail: some runs have failed.
    """
    collection = open_collection(where)
    runs = select_runs(collection, spec, match)
    states = collection.status(runs, rescan=rescan)
    if not rescan:
        states = with_messages(runs, states)
    counts = Counter(state.state.value for state in states)
    if as_json:
        print_json(
            {
                "collection": str(collection.path),
                "counts": dict(counts),
                "runs": [
                    {**state.to_dict(), "spec": run.spec.name, "params": run.params.differences()}
                    for run, state in zip(runs, states, strict=True)
                ],
            }
        )
    else:
        print_states(runs, states)
        click.echo(f"{collection.path}: {counts_text(states)}")
    failed = sum(state.state.is_failure for state in states)
    if fail and failed:
        raise SomeRunsFailedError(
            f"{failed} of {len(runs)} runs have failed", where=collection.path, hint="lfadsrm logs RUN"
        )


def with_messages(runs: Sequence[Run], states: Sequence[RunStatus]) -> list[RunStatus]:
    """Read why runs have failed, of the first so many: the names in the outbox do not say it."""
    failed = [number for number, state in enumerate(states) if state.state.is_failure][:_MOST_MESSAGES]
    return [
        run.status() if n in failed else state
        for n, (run, state) in enumerate(zip(runs, states, strict=True))
    ]


def counts_text(states: Sequence[RunStatus]) -> str:
    """Return how many runs are in which state, as words."""
    counts = Counter(state.state for state in states)
    order = [state for state in RunState if counts[state]]  # as a run goes through them
    return ", ".join(f"{counts[state]} {state.value.lower()}" for state in order) or "no runs"


def table(runs: Sequence[Run], states: Sequence[RunStatus]) -> Table:
    """Return the states as a table, a line a run; columns that would be empty are left out."""
    from rich.table import Table
    from rich.text import Text

    varying = varying_names(run.params for run in runs)
    rows = [
        (
            run.spec.name,
            params_label(run.params, varying),
            state.state.value.lower(),
            str(state.attempt or ""),
            *progress_cells(state),
            remark(state),
        )
        for run, state in zip(runs, states, strict=True)
    ]
    used = [column for column in range(len(_COLUMNS)) if column < 3 or any(row[column] for row in rows)]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in used:
        number = _COLUMNS[column] in ("try", "epoch", "train", "valid", "left")
        shown.add_column(_COLUMNS[column], justify="right" if number else "left", no_wrap=True)
    for row, state in zip(rows, states, strict=True):
        texts = [Text(cell) for cell in row]  # names may hold what rich would take for markup
        texts[2].stylize(_COLOURS.get(state.state, "red" if state.state.is_failure else ""))
        shown.add_row(*(texts[column] for column in used))
    return shown


def print_states(runs: Sequence[Run], states: Sequence[RunStatus]) -> None:
    """Print the table, and below it the first line of what each failed run says."""
    console().print(table(runs, states))
    for state in states:
        if state.state.is_failure and state.message:
            click.echo(f"{state.run_id}: {state.message.splitlines()[0]}")


def progress_cells(state: RunStatus) -> tuple[str, str, str, str]:
    """Return epoch, training cost, validation cost and time left as texts."""
    progress = state.progress
    epoch = _number(progress.get("epoch"), "d")
    if epoch and progress.get("max_epochs"):
        epoch += f"/{progress['max_epochs']}"
    left = ""
    if state.state is RunState.RUNNING:
        phase = progress.get("phase", "")
        left = duration(progress.get("eta_s")) if phase == "training" else str(phase)
    return (
        epoch,
        _number(progress.get("train_total"), ".1f"),
        _number(progress.get("valid_total"), ".1f"),
        left,
    )


def remark(state: RunStatus) -> str:
    """Return what is worth a word: that a run has been silent, how long it took, that it was killed."""
    age = state.heartbeat_age_s
    if state.state is RunState.RUNNING and age is not None and age > 90:
        return f"silent for {duration(age)}"
    if state.state is RunState.COMPLETED and state.started and state.ended:
        return f"took {duration(state.ended - state.started)}"
    reason = (state.reason or "").replace("_", " ")
    return reason if state.state.is_failure and reason != state.state.value.lower() else ""


def duration(seconds: Any) -> str:
    """Return a time span for people: 45s, 3m20s, 2h05m, 3d4h."""
    if not isinstance(seconds, int | float) or seconds != seconds or seconds < 0:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def _number(value: Any, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) and value == value else ""


def clock() -> str:
    """Return the time of day."""
    return time.strftime("%H:%M:%S")
