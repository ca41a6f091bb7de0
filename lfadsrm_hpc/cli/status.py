"""`lfadsrm status`: the state of every run, from a few small files and one question to the scheduler."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.cluster_options import parse_states, state_option
from lfadsrm_hpc.cli.common import (
    SCHEMA_VERSION,
    find_place,
    json_option,
    selection_options,
    where_argument,
)
from lfadsrm_hpc.cli.looking import Look, select, take_look, warn, with_messages, worth_showing
from lfadsrm_hpc.cli.matlab_collections import find_matlab_collection, states_of_matlab_collection
from lfadsrm_hpc.cli.state_tables import (
    cells,
    clock,
    counted,
    counts_text,
    duration,
    print_messages,
    print_states,
    progress_cells,
    remark,
    table,
    text_table,
)
from lfadsrm_hpc.cli.terminal import may_colour, terminal_width
from lfadsrm_hpc.collection.roster import Entry, Roster
from lfadsrm_hpc.errors import SomeRunsFailedError, UsageError
from lfadsrm_hpc.manifest.states import RunState

if TYPE_CHECKING:
    from lfadsrm_hpc.manifest.fold import RunStatus

__all__ = [
    "clock",
    "counts_text",
    "duration",
    "print_states",
    "progress_cells",
    "remark",
    "status",
    "table",
]

_MOST_ROWS = 100  # where there are more runs, those worth a row are chosen


@click.command()
@where_argument
@selection_options
@state_option
@json_option
@click.option("--all", "show_all", is_flag=True, help="A row for every run, however many there are.")
@click.option("--rescan", is_flag=True, help="Read every fact again; believe no cache.")
@click.option("--watch", is_flag=True, help="Look again and again, until nothing is left to wait for.")
@click.option("--fail", is_flag=True, help="Exit 5 if a run has failed.")
def status(
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    state_words: tuple[str, ...],
    as_json: bool,
    show_all: bool,
    rescan: bool,
    watch: bool,
    fail: bool,
) -> None:
    """Tell the state of every run of WHERE: a run collection, an experiment, or what is found from here
    upwards.

    It reads a few small files and, if a run is with a scheduler, asks that once for all of them. It starts
    nothing. The states are explained in docs/manifest.md.

    --watch reads the files every few seconds and asks the scheduler at most once a minute. At the end it runs
    the command that the site names for it (notify.command).

    \b
    Examples:
      lfadsrm status
      lfadsrm status my_experiment --match factors_dim=8
      lfadsrm status --state failed --state timeout
      lfadsrm status --json | jq '.counts'
      lfadsrm status --watch
      lfadsrm status --fail && echo "nothing has failed"

    \b
    Exit codes: 0 told; 2 there is nothing here; 5 with --fail: some runs have failed.
    """
    matlab = None if spec or match or state_words or watch else find_matlab_collection(where)
    if matlab is not None:
        states_of_matlab_collection(matlab, as_json=as_json)
        return
    if watch and as_json:
        raise UsageError("--watch and --json do not go together", hint="call `lfadsrm status --json` again")
    gc.disable()  # ten thousand runs are many objects, and all of them stay until the end
    states = parse_states(state_words)
    roster = Roster.open(find_place(where).collection)
    entries = select(roster, spec, match)
    if watch:
        from lfadsrm_hpc.cli.watching import watch_runs

        gc.enable()
        look = watch_runs(roster, entries, lambda found: shown_text(roster, found, states))
    else:
        look = take_look(roster, entries, rescan=rescan)
        warn(look.warnings)
    chosen = chosen_entries(look, states)
    counts = {state: len(members) for state, members in look.grouped(chosen).items()}
    failed = sum(count for state, count in counts.items() if state.is_failure)
    if as_json:
        print_all_json(roster, chosen, with_messages(roster, look, chosen), counts)
    else:
        print_look(roster, chosen, look, counts, show_all=show_all)
    gc.freeze()  # nor is there anything to be found among them at the end
    if fail and failed:
        raise SomeRunsFailedError(
            f"{failed} of {len(chosen)} runs have failed", where=roster.path, hint="lfadsrm why RUN"
        )


def chosen_entries(look: Look, states: frozenset[RunState]) -> Sequence[Entry]:
    """Return the runs in one of the states; all of them where none is named."""
    if not states:
        return look.entries
    return [entry for entry in look.entries if look.statuses[entry.id].state in states]


def print_look(
    roster: Roster,
    entries: Sequence[Entry],
    look: Look,
    counts: Mapping[RunState, int],
    *,
    show_all: bool,
) -> None:
    """Print a table of the runs, or of those worth a row; why runs failed; how many are in which state."""
    many = len(entries) > _MOST_ROWS and not show_all
    shown = worth_showing(entries, look, _MOST_ROWS) if many else entries
    look = with_messages(roster, look, shown)
    if shown:
        click.echo(look_table(roster, shown, look, terminal_width()))
        print_messages(look.of(shown))
    if many:
        rest = Counter(counts)
        rest.subtract(look.statuses[entry.id].state for entry in shown)
        click.echo(
            f"{len(entries) - len(shown)} of {len(entries)} runs are not shown ({counted(rest)}): "
            "--all, or --state"
        )
    click.echo(f"{roster.path}: {counted(counts) or 'no runs'}")


def look_table(roster: Roster, entries: Sequence[Entry], look: Look, width: int | None) -> str:
    """Return the table of some runs as text."""
    varying = roster.varying(look.entries)
    states = look.of(entries)
    rows = [
        cells(entry.spec, roster.label(entry.params, varying), state, look.jobs.get(entry.id, ""))
        for entry, state in zip(entries, states, strict=True)
    ]
    return text_table(rows, states, width=width, coloured=may_colour())


def shown_text(roster: Roster, look: Look, states: frozenset[RunState], most: int = 20) -> str:
    """Return what `--watch` shows on a terminal."""
    entries = chosen_entries(look, states)
    shown = worth_showing(entries, look, most) if len(entries) > most else entries
    text = look_table(roster, shown, look, terminal_width()) if shown else ""
    return f"{text}\n{clock()}  {counts_text(look.of(entries))}".lstrip()


# ---------------------------------------------------------------- JSON


def print_all_json(
    roster: Roster, entries: Sequence[Entry], look: Look, counts: Mapping[RunState, int]
) -> None:
    """Print one JSON object, a line a run: with indentation ten thousand runs would take a second."""
    head = {
        "schema_version": SCHEMA_VERSION,
        "collection": str(roster.path),
        "counts": {state.value: count for state, count in counts.items()},
    }
    lines = []
    differences: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry.params not in differences:
            differences[entry.params] = roster.differences(entry.params)
        row = {
            **_plain_status(look.statuses[entry.id]),
            "spec": entry.spec,
            "params": differences[entry.params],
            "job": look.jobs.get(entry.id),
        }
        lines.append(_json_line(row))
    text = json.dumps(head, indent=2)[:-2]
    click.echo(f'{text},\n  "runs": [\n    ' + ",\n    ".join(lines) + "\n  ]\n}")


def _plain_status(status: RunStatus) -> dict[str, Any]:
    return {
        name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        for name, value in vars(status).items()
    }


def _json_line(row: dict[str, Any]) -> str:
    try:
        return json.dumps(row, allow_nan=False)
    except (TypeError, ValueError):  # a number that is not finite
        return json.dumps(_finite(row), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value - value != 0 else value
