"""`lfadsrm peek`: learning curve and rates of one run in the terminal, while it trains too."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.common import (
    collection_option,
    find_place,
    json_option,
    match_option,
    print_json,
    run_argument,
    where_of,
)
from lfadsrm_hpc.cli.looking import find_one_entry
from lfadsrm_hpc.cli.state_tables import progress_cells, word
from lfadsrm_hpc.cli.terminal import clear_screen, may_change, may_colour
from lfadsrm_hpc.collection.roster import Roster
from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.manifest.reading import run_status

if TYPE_CHECKING:
    from lfadsrm_hpc.layout import RunLayout
    from lfadsrm_hpc.manifest.fold import RunStatus
    from lfadsrm_hpc.results.peek.reading import Peek
    from lfadsrm_hpc.results.peek.text import Style

_COLOURS = ("cyan", "yellow")  # training and what is inferred; validation and what was recorded
_NEEDED_GLYPHS = "⣿▁╵"
_WITHOUT_GLYPHS = ("dumb", "linux")  # terminals whose fonts lack them, whatever the encoding says
_CURVE_LINES, _OTHER_LINES = 10, 10
_FEWEST, _MOST = 3, 8  # neurons, as the height of the terminal allows


@click.command()
@run_argument
@collection_option
@match_option
@click.option("--dataset", metavar="NAME", help="Of a stitched run; otherwise the first that can be shown.")
@click.option("--trial", type=click.IntRange(0), metavar="N", help="Its number in the dataset, from 0.")
@click.option("--neuron", multiple=True, metavar="NAME", help="By name, or number from 0; may be repeated.")
@click.option(
    "--every", type=click.FloatRange(0.2), metavar="SECONDS", help="Look again, until it has ended."
)
@click.option("--ascii", "only_ascii", is_flag=True, help="Draw with plain characters.")
@json_option
def peek(
    run: str,
    where: Path | None,
    match: tuple[str, ...],
    dataset: str | None,
    trial: int | None,
    neuron: tuple[str, ...],
    every: float | None,
    only_ascii: bool,
    as_json: bool,
) -> None:
    """Draw the learning curve of RUN, and one trial's rates beside its spikes, into the terminal.

    RUN is an id, a run spec, a part of an id that no other run has, or the folder of a run. A complete run
    shows any trial of its posterior means; one that trains shows some validation trials as its newest
    checkpoint has them (the means of the posterior pushed through the decoder). Only a few small files are
    read: it is quick over ssh.

    \b
    Examples:
      lfadsrm peek single_day1
      lfadsrm peek single_day1 --every 10            until it has ended, or Ctrl-C
      lfadsrm peek all --match factors_dim=8 --dataset day2 --neuron 3 --neuron 7
      lfadsrm peek single_day1 --trial 42 --json | jq '.curve.valid[-1]'

    \b
    Exit codes: 0 shown; 1 a file is damaged; 2 there is no such run, dataset, trial or neuron;
    130 interrupted.
    """
    if every is not None and as_json:
        raise UsageError("--every and --json do not go together", hint="call `lfadsrm peek --json` again")
    roster = Roster.open(find_place(where_of(run, where)).collection)
    entry = find_one_entry(roster, run, match)
    layout = roster.layout.run_by_id(entry.id)
    label = roster.label(entry.params, roster.varying(roster.entries))
    while True:
        status, found = _look(layout, dataset, trial)
        if as_json:
            print_json(_content(status, found, neuron))
            return
        text = _text(status, found, label, neuron, only_ascii)
        if every is not None and may_change():
            clear_screen()
        click.echo(text)
        if every is None or status.state.is_final:
            return
        if not may_change():
            click.echo("")
        time.sleep(every)


def _look(run: RunLayout, dataset: str | None, trial: int | None) -> tuple[RunStatus, Peek]:
    from lfadsrm_hpc.results.peek.reading import peek as look_at

    status = run_status(run)  # first, so that what is called complete has its results
    return status, look_at(run, dataset=dataset, trial=trial)


def _text(status: RunStatus, found: Peek, label: str, neuron: tuple[str, ...], only_ascii: bool) -> str:
    from lfadsrm_hpc.results.peek.text import text_of

    size = shutil.get_terminal_size((80, 40))
    style = _style(size.columns, only_ascii)
    chosen = found.trial.find_neurons(neuron) if found.trial is not None and neuron else None
    room = (size.lines - _CURVE_LINES - _OTHER_LINES) // 2
    body = text_of(found, style, neurons=chosen, most=min(max(_FEWEST, room), _MOST))
    return f"{_head(status, label, style.columns)}\n{body}"


def _head(status: RunStatus, label: str, width: int) -> str:
    """Return which run it is and what it is at, on as many lines as it takes."""
    left = progress_cells(status)[-1]
    at = word(status.state) + (
        f", {left} left" if left and status.progress.get("phase") == "training" else ""
    )
    name = status.run_id if label in status.run_id else f"{status.run_id}  {label}"
    line = f"{name}  {at}"
    return line if len(line) <= width else f"{name}\n{at}"


def _style(width: int, only_ascii: bool) -> Style:
    from lfadsrm_hpc.results.peek.text import Style, plainly

    term = os.environ.get("TERM", "")
    return Style(
        width,
        _CURVE_LINES,
        not only_ascii and term not in _WITHOUT_GLYPHS and _can_show(_NEEDED_GLYPHS),
        _coloured if may_colour() else plainly,
    )


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _coloured(text: str, owner: int | None) -> str:
    return click.style(text, dim=True) if owner is None else click.style(text, fg=_COLOURS[owner])


def _content(status: RunStatus, found: Peek, neuron: tuple[str, ...]) -> dict[str, Any]:
    curve, look = found.curve, found.trial
    shown = None
    if look is not None:
        chosen = look.find_neurons(neuron) if neuron else list(range(len(look.neurons)))
        shown = {
            "dataset": look.dataset,
            "trial": look.trial,
            "split": look.split,
            "epoch": look.epoch,
            "bin_ms": look.bin_ms,
            "neurons": [look.neurons[k] for k in chosen],
            "rates": look.rates[:, chosen].astype(float).round(6).T.tolist(),
            "data": None if look.data is None else look.data[:, chosen].T.tolist(),
            "other_trials": look.others,
        }
    return {
        "run_id": status.run_id,
        "state": status.state.value,
        "progress": dict(status.progress),
        "max_epochs": found.max_epochs,
        "curve": None
        if curve is None
        else {
            "epoch": curve.epoch.tolist(),
            "train": curve.train.tolist(),
            "valid": curve.valid.tolist(),
            "lowest_valid_epoch": curve.lowest_valid_epoch,
            "lowest_valid_cost": curve.lowest_valid_cost,
        },
        "trial": shown,
        "absent": found.absent or None,
    }
