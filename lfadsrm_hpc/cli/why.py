"""`lfadsrm why`: what a run is at, on what evidence, its last words, and the next command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.cluster_options import check_cluster
from lfadsrm_hpc.cli.common import (
    collection_option,
    find_place,
    json_option,
    match_option,
    print_json,
    run_argument,
    say,
    where_of,
)
from lfadsrm_hpc.cli.looking import find_one_entry
from lfadsrm_hpc.cli.state_tables import duration, progress_cells, remark, word
from lfadsrm_hpc.cli.terminal import terminal_width, wrapped
from lfadsrm_hpc.collection.roster import Roster
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.explaining import LINES, explain

if TYPE_CHECKING:
    from lfadsrm_hpc.cli.common import Place
    from lfadsrm_hpc.manifest.fold import RunStatus
    from lfadsrm_hpc.schedulers.explaining import Explanation

_WIDEST = 100
_NARROWEST = 40


@click.command()
@run_argument
@collection_option
@match_option
@click.option(
    "-n", "--lines", default=LINES, show_default=True, type=click.IntRange(0), help="The last of its log."
)
@json_option
def why(run: str, where: Path | None, match: tuple[str, ...], lines: int, as_json: bool) -> None:
    """Tell why RUN is at what it is at: its state, which files and what word of the scheduler say so, the
    last lines of its log, and the exact next command.

    RUN is an id, a run spec, a part of an id that no other run has, or the folder of a run. The scheduler is
    asked only where the files of the run do not settle it. Nothing is started; an end that only the scheduler
    knows of is put on record, as `lfadsrm status` does.

    \b
    Examples:
      lfadsrm why single_day1
      lfadsrm why single_day1 --match factors_dim=8 -n 30
      lfadsrm why param_ab12cd34ef56/single_day1 -C my_experiment
      lfadsrm why single_day1 --json | jq -r .next.shell

    \b
    Exit codes: 0 told; 2 there is no such run; 3 experiment.toml is invalid.
    """
    where = where_of(run, where)
    place = find_place(where)
    roster = Roster.open(place.collection)
    entry = find_one_entry(roster, run, match)
    named = () if where is None else (str(where),)
    found = explain(roster, entry, where=named, lines=lines, **_cluster(place))
    for warning in found.warnings:
        say(f"warning: {warning}")
    if as_json:
        print_json({"collection": roster.path, **found.to_dict()})
        return
    click.echo(_text(found, min(max(terminal_width() or _WIDEST, _NARROWEST), _WIDEST)))


def _cluster(place: Place) -> dict[str, Any]:
    """Return where the experiment says that its runs go, and for how long; checked, as commands repeat it."""
    if place.experiment is None:
        return {}
    check_cluster(place.experiment)
    table = place.experiment.cluster
    return {"site": table.get("site"), "walltime": table.get("walltime", "")}


def _text(found: Explanation, width: int) -> str:
    status = found.status
    lines = wrapped(_paragraph(found), width)
    if found.lines and found.log is not None:
        lines += ["", click.style(f"last lines of {found.log}:", dim=True)]
        lines += [f"  {line}" for line in found.lines]
    elif status.attempt is not None:
        lines += ["", click.style("it has printed nothing yet", dim=True)]
    lines += ["", f"next: {click.style(found.command, bold=True)}"]
    return "\n".join([*lines, *wrapped(found.step.why, width, first="  ", then="  ")])


def _paragraph(found: Explanation) -> str:
    status = found.status
    label = "" if found.label in status.run_id else f" ({found.label})"
    parts = [f"{status.run_id}{label} is {word(status.state)}{_because(status)}."]
    if status.attempt is not None:
        parts.append(_attempt(found))
    parts.append("Evidence: " + "; ".join(f"{one.source}: {one.says}" for one in found.evidence) + ".")
    if status.message and status.state.is_failure:
        parts.append("It says: " + " ".join(status.message.split()).rstrip(".") + ".")
    return " ".join(parts)


def _because(status: RunStatus) -> str:
    if status.state is RunState.RUNNING:
        left, quiet = progress_cells(status)[-1], remark(status)
        phase = f", {left}" if left and status.progress.get("phase") != "training" else ""
        phase = f", {left} left" if left and not phase else phase
        return phase + (f", {quiet}" if quiet else "")
    told = remark(status)
    return f": {told}" if told else ""


def _attempt(found: Explanation) -> str:
    status = found.status
    parts = [f"It is attempt {status.attempt}"]
    parts += [f"started {status.incarnation + 1} times"] if status.incarnation else []
    parts += [f"job {found.job}"] if found.job else []
    parts += [f"on {status.host}"] if status.host else []
    if status.started and status.ended and status.state is not RunState.COMPLETED:
        parts.append(f"which took {duration(status.ended - status.started)}")
    epoch, train, valid, _ = progress_cells(status)
    parts += [f"epoch {epoch}"] if epoch else []
    parts += [f"cost {train} (validation {valid})"] if train else []
    return ", ".join(parts) + "."
