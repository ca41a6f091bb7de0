"""A look at a run as lines of text: its learning curve, and one trial's rates beside its spikes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lfadsrm_hpc.results.peek import figures
from lfadsrm_hpc.results.peek.reading import Curve, Peek, TrialLook

NARROWEST, WIDEST = 40, 200
_SETTLED_FROM = 20  # epochs before the first ones are left out of the axis
_FIRST_SHARE = 0.05  # of the epochs, which may cost so much that the rest would be a flat line
_NAMES = ("train", "valid")

Paint = Callable[[str, int | None], str]


def plainly(text: str, owner: int | None) -> str:
    """Return a text without colour."""
    return text


@dataclass(frozen=True)
class Style:
    """How a look is drawn.

    Attributes
    ----------
    width : int
        In characters; taken as 40 to 200.
    height : int
        Lines of the learning curve.
    unicode : bool
        The terminal shows braille and block characters.
    paint : callable
        Colours a text that belongs to the training (0) or validation (1) curve; None: a remark.
    """

    width: int = 80
    height: int = 10
    unicode: bool = True
    paint: Paint = plainly

    @property
    def columns(self) -> int:
        return min(max(self.width, NARROWEST), WIDEST)


def text_of(peek: Peek, style: Style, *, neurons: Sequence[int] | None = None, most: int = 6) -> str:
    """Return a look at a run as text.

    Parameters
    ----------
    peek : Peek
    style : Style
    neurons : sequence of int, optional
        Indices; the liveliest `most` unless given.
    """
    lines = []
    if peek.curve is None:
        lines.append("no learning curve yet: the first epoch is not done")
    else:
        lines += _curve_lines(peek.curve, peek.max_epochs, style)
    lines.append("")
    if peek.trial is None:
        lines += _wrapped(peek.absent, style)
    else:
        chosen = peek.trial.liveliest(most) if neurons is None else list(neurons)
        lines += _trial_lines(peek.trial, chosen, style)
    return "\n".join(line.rstrip() for line in lines)


# -- the learning curve ----------------------------------------------------------------------------------


def _curve_lines(curve: Curve, max_epochs: int | None, style: Style) -> list[str]:
    series = (curve.train, curve.valid)
    count = len(curve.epoch)
    skipped = int(_FIRST_SHARE * count) if count >= _SETTLED_FROM else 0
    found = figures.limits(series, skipped)
    if found is None:
        return [f"{count} epochs, none of finite cost"]
    low, high = found
    labels = [_number(high), _number(low)]
    margin = max(map(len, labels)) + 1
    drawn = figures.curves(
        curve.epoch,
        series,
        width=style.columns - margin - 1,
        height=style.height,
        low=low,
        high=high,
        unicode=style.unicode,
    )
    bar = "│" if style.unicode else "|"
    lines = _legend(curve, max_epochs, style)
    for number, row in enumerate(drawn):
        label = labels[0] if number == 0 else labels[1] if number == len(drawn) - 1 else ""
        lines.append(f"{label:>{margin - 1}} {bar}" + _painted(row, style))
    lines.append(_axis(f"epoch {curve.epoch[0]}", f"{curve.epoch[-1]}", margin, style))
    return lines


def _legend(curve: Curve, max_epochs: int | None, style: Style) -> list[str]:
    """Return the last costs, each beside the way its curve is drawn, and the lowest."""
    marks = ("⣀⣀", "⡀ ") if style.unicode else ("..", "o ")
    last = [_number(float(values[-1])) for values in (curve.train, curve.valid)]
    parts = [
        style.paint(f"{mark} {name} {cost}", number)
        for number, (mark, name, cost) in enumerate(zip(marks, _NAMES, last, strict=True))
    ]
    total = f" of {max_epochs}" if max_epochs else ""
    head = f"cost at epoch {curve.epoch[-1]}{total}"
    lowest = ""
    if curve.lowest_valid_cost is not None:
        lowest = f"lowest valid {_number(curve.lowest_valid_cost)} at epoch {curve.lowest_valid_epoch}"
    plain = sum(map(len, [head, *marks, *_NAMES, *last])) + len(lowest) + 12
    if plain <= style.columns:
        return ["  ".join([head, *parts, *([lowest] if lowest else [])])]
    return [head, "  ".join(parts), *([lowest] if lowest else [])]


def _axis(left: str, right: str, margin: int, style: Style) -> str:
    width = style.columns - margin - 1
    return " " * (margin + 1) + left + right.rjust(max(1, width - len(left)))


def _painted(row: figures.Row, style: Style) -> str:
    """Return a row of cells; neighbours of one curve are coloured together."""
    text, run, owner = "", "", None
    for cell in row:
        if cell.owner != owner and run:
            text, run = text + (run if owner is None else style.paint(run, owner)), ""
        owner, run = cell.owner, run + cell.text
    return text + (run if owner is None else style.paint(run, owner))


# -- one trial -------------------------------------------------------------------------------------------


def _trial_lines(look: TrialLook, neurons: Sequence[int], style: Style) -> list[str]:
    names = [_cut(look.neurons[k], 12) for k in neurons]
    margin = max(map(len, [*names, ""])) + 1
    unit = "/s" if look.is_counts else ""
    room = style.columns - margin - 8  # behind each strip stands its highest rate
    rates, size = figures.grouped(look.rates[:, list(neurons)], room, total=False)
    data = None
    if look.data is not None:
        data, _ = figures.grouped(look.data[:, list(neurons)], room, total=look.is_counts)
    wide = max(1, room // len(rates))  # characters of a bin, where there is room
    lines = _wrapped(_heading(look, len(neurons), size / wide), style)
    for column, name in enumerate(names):
        own = rates[:, column]
        low, high = _span(own, None if data is None or look.is_counts else data[:, column])
        lines.append(
            f"{name:>{margin - 1}} "
            + style.paint(_strip(own, low, high, wide, style), 0)
            + f" {_number(high, most=99999.5)}{unit}"
        )
        if data is not None:
            beside = (
                figures.spikes(data[:, column], wide=wide, unicode=style.unicode)
                if look.is_counts
                else _strip(data[:, column], low, high, wide, style)
            )
            lines.append(" " * margin + style.paint(beside, 1))
    end = f"{len(look.rates) * look.bin_ms:g} ms"
    lines.append(" " * margin + "0" + end.rjust(len(rates) * wide - 1))
    return lines


def _strip(values: figures.Array, low: float, high: float, wide: int, style: Style) -> str:
    return figures.strip(np.repeat(values, wide), low=low, high=high, unicode=style.unicode)


def _heading(look: TrialLook, shown: int, bins: float) -> str:
    split = {"train": "training", "valid": "validation"}.get(look.split, look.split)
    when = "posterior means" if look.epoch is None else f"at epoch {look.epoch}"
    below = ("spikes below" if look.is_counts else "data below") if look.data is not None else "no data here"
    what = "rates" if look.is_counts else "means"
    cell = f"{bins * look.bin_ms:.3g} ms a character"
    return (
        f"{look.dataset}, {split} trial {look.trial}: {what} ({when}), {below}; "
        f"{shown} of {len(look.neurons)} neurons, {cell}"
    )


def _span(rates: figures.Array, data: figures.Array | None) -> tuple[float, float]:
    """Return what the strips of one neuron go from and to: rates from 0, other data as they are."""
    if data is None:
        return 0.0, float(np.nanmax(rates, initial=0.0))
    both = np.concatenate([rates, data])
    return float(np.nanmin(both)), float(np.nanmax(both))


def _wrapped(text: str, style: Style) -> list[str]:
    import textwrap

    return [style.paint(line, None) for line in textwrap.wrap(text, style.columns)]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "~"


def _number(value: float, most: float = 1e7) -> str:
    """Return a number of three digits or more, with an exponent from `most` on."""
    if not np.isfinite(value):
        return str(value)
    digits = max(0, 3 - len(str(int(abs(value)))))
    return f"{value:.{digits}f}" if abs(value) < most else f"{value:.0e}"
