"""States as people see them: cells, tables, counts; plain text, since ten thousand rows must be quick."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.terminal import may_colour, terminal_width
from lfadsrm_hpc.collection.labels import params_label, varying_names
from lfadsrm_hpc.manifest.states import RunState

if TYPE_CHECKING:
    from rich.table import Table

    from lfadsrm_hpc.api import Run
    from lfadsrm_hpc.manifest.fold import RunStatus

_COLUMNS = ("run spec", "params", "state", "try", "job", "epoch", "train", "valid", "left", "")
_NUMBERS = frozenset({"try", "epoch", "train", "valid", "left"})
_PARAMS, _STATE = _COLUMNS.index("params"), _COLUMNS.index("state")
_COLOURS = {
    RunState.COMPLETED: "green",
    RunState.RUNNING: "cyan",
    RunState.PREEMPTED: "yellow",
    RunState.TIMEOUT: "yellow",
    RunState.HELD: "yellow",
    RunState.UNCERTAIN: "magenta",
    RunState.UNKNOWN: "magenta",
}
_WAITING = frozenset(
    {
        RunState.SUBMITTED,
        RunState.PENDING,
        RunState.HELD,
        RunState.REQUEUED,
        RunState.UNCERTAIN,
        RunState.UNKNOWN,
    }
)
_NARROWEST = 12  # characters of the params that a narrow terminal shows at least

Cells = tuple[str, ...]


def cells(spec: str, params: str, state: RunStatus, job: str = "") -> Cells:
    """Return one row, a text for each column."""
    attempt = str(state.attempt or "")
    return (spec, params, word(state.state), attempt, job, *progress_cells(state), remark(state))


def word(state: RunState) -> str:
    """Return a state as people read it: out of memory."""
    return state.value.lower().replace("_", " ")


def text_table(
    rows: Sequence[Cells],
    states: Sequence[RunStatus],
    *,
    width: int | None = None,
    coloured: bool = False,
) -> str:
    """Return states as lines of text, a line a run; columns that would be empty are left out.

    Parameters
    ----------
    rows : sequence of tuple
        As `cells` gives them.
    states : sequence of RunStatus
        Of the same runs.
    width : int, optional
        Of the terminal: lines are cut to it, the params first; what tells which run it is stays whole.
    coloured : bool
        Give states their colours.
    """
    used = [n for n in range(len(_COLUMNS)) if n <= _STATE or any(row[n] for row in rows)]
    table = [[_printable(row[n]) for n in used] for row in (_COLUMNS, *rows)]
    widths = [max(map(_width, column)) for column in zip(*table, strict=True)]
    if width is not None:
        excess = sum(widths) + 2 * (len(widths) - 1) - width
        widths[_PARAMS] = max(min(widths[_PARAMS], _NARROWEST), widths[_PARAMS] - max(0, excess))
    lines = []
    for number, texts in enumerate(table):
        shown = []
        for column, (n, text) in enumerate(zip(used, texts, strict=True)):
            text = _cut(text, widths[column])
            blanks = " " * (widths[column] - _width(text))
            shown.append(blanks + text if _COLUMNS[n] in _NUMBERS else text + blanks)
        line = "  ".join(shown).rstrip()
        place = sum(widths[:_STATE]) + 2 * _STATE
        if width is not None:
            line = _cut(line, max(width, place + widths[_STATE] + 2))
        lines.append(_coloured(line, place, number, widths[_STATE], states) if coloured else line)
    return "\n".join(lines)


def _coloured(line: str, place: int, number: int, width: int, states: Sequence[RunStatus]) -> str:
    if number == 0:
        return click.style(line, bold=True)
    if not line.isascii():  # places in the text are no places on the screen
        return line
    state = states[number - 1].state
    colour = _COLOURS.get(state, "red" if state.is_failure else None)
    middle = click.style(line[place : place + width], fg=colour, dim=state is RunState.PREPARED or None)
    return line[:place] + middle + line[place + width :]


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) != 0 for c in text)


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while _width(text) > width - 1:
        text = text[:-1]
    return text + "…"


def table(runs: Sequence[Run], states: Sequence[RunStatus]) -> Table:
    """Return the states as a table that a live display can show."""
    from rich.table import Table
    from rich.text import Text

    varying = varying_names(run.params for run in runs)
    rows = [
        cells(run.spec.name, params_label(run.params, varying), state)
        for run, state in zip(runs, states, strict=True)
    ]
    used = [n for n in range(len(_COLUMNS)) if n <= _STATE or any(row[n] for row in rows)]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for n in used:
        shown.add_column(_COLUMNS[n], justify="right" if _COLUMNS[n] in _NUMBERS else "left", no_wrap=True)
    for row, state in zip(rows, states, strict=True):
        texts = [Text(cell) for cell in row]  # names may hold what rich would take for markup
        texts[_STATE].stylize(_COLOURS.get(state.state, "red" if state.state.is_failure else ""))
        shown.add_row(*(texts[n] for n in used))
    return shown


def print_states(runs: Sequence[Run], states: Sequence[RunStatus]) -> None:
    """Print the table, and below it the first line of what each failed run says."""
    varying = varying_names(run.params for run in runs)
    rows = [
        cells(run.spec.name, params_label(run.params, varying), state)
        for run, state in zip(runs, states, strict=True)
    ]
    click.echo(text_table(rows, states, width=terminal_width(), coloured=may_colour()))
    print_messages(states)


def print_messages(states: Sequence[RunStatus]) -> None:
    """Print the first line of what each failed run says."""
    for state in states:
        if state.state.is_failure and state.message:
            click.echo(f"{state.run_id}: {state.message.splitlines()[0]}")


def counts_text(states: Sequence[RunStatus]) -> str:
    """Return how many runs are in which state, as words."""
    return counted(Counter(state.state for state in states)) or "no runs"


def counted(counts: Mapping[RunState, int]) -> str:
    """Return numbers of states as words, in the order in which a run goes through them."""
    return ", ".join(f"{counts[state]} {word(state)}" for state in RunState if counts.get(state))


def progress_cells(state: RunStatus) -> tuple[str, str, str, str]:
    """Return epoch, training cost, validation cost and time left as texts."""
    progress = state.progress
    if not progress:
        return "", "", "", ""
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
    """Return what is worth a word: why it waits, that it is silent, how long it took, that it was killed."""
    age = state.heartbeat_age_s
    if state.state is RunState.RUNNING and age is not None and age > 90:
        return f"silent for {duration(age)}"
    if state.state is RunState.COMPLETED and state.started and state.ended:
        return f"took {duration(state.ended - state.started)}"
    if state.state in _WAITING:
        return state.reason or ""
    reason = (state.reason or "").replace("_", " ")
    return reason if state.state.is_failure and reason != word(state.state) else ""


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
