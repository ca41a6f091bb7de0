"""Ask before what is costly or cannot be undone; without a terminal refuse, never wait for an answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from lfadsrm_hpc.cli.common import say
from lfadsrm_hpc.errors import NotConfirmedError, UsageError

F = TypeVar("F", bound=Callable[..., Any])

LIMITS = {
    "RUNS": (1000.0, "runs that submit, retry or cancel take at once"),
    "GPU_HOURS": (1000.0, "GPU hours that a submission is expected to take"),
    "GB": (50.0, "gigabytes that prepare is going to write"),
}
"""Above what a command asks first; `LFADSRM_CONFIRM_<NAME>` sets another limit."""

yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask; for scripts, which cannot answer.")


def limit(name: str) -> float:
    """Return above what is asked: the environment's word, or the default.

    Raises
    ------
    UsageError
        The variable is no number.
    """
    variable = f"LFADSRM_CONFIRM_{name}"
    text = os.environ.get(variable, "").strip()
    if not text:
        return LIMITS[name][0]
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not value >= 0:
        raise UsageError(
            f"{variable} = {text!r} is no number of at least 0", hint=f"{LIMITS[name][1]}: a number, or `inf`"
        )
    return value


def confirm(question: str, *, yes: bool) -> None:
    """Go on if the user agrees.

    Raises
    ------
    NotConfirmedError
        The answer was no, or there is no terminal to ask at; nothing was done.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise NotConfirmedError(
            f"this needs a confirmation: {question}", hint="nothing was done; add --yes to go ahead"
        )
    if not click.confirm(question, default=False, err=True):
        raise NotConfirmedError("not confirmed", hint="nothing was done")


def confirm_above(name: str, amount: float, question: str, *, yes: bool) -> None:
    """Ask only where an amount is above its limit; see `LIMITS`.

    Raises
    ------
    NotConfirmedError, UsageError
    """
    most = limit(name)
    if amount > most and not yes:
        say(f"more than {most:g} {LIMITS[name][1]} (LFADSRM_CONFIRM_{name})")
        confirm(question, yes=yes)


def agree_to(what: str, *, yes: bool) -> Callable[[int, float], None]:
    """Return what asks about runs and GPU hours before they are handed over by the command `what`."""

    def agree(runs: int, gpu_hours: float) -> None:
        question = f"{what} {runs} runs ({gpu_hours:.0f} GPU hours at most)?"
        over = "RUNS" if runs > limit("RUNS") else "GPU_HOURS"
        confirm_above(over, runs if over == "RUNS" else gpu_hours, question, yes=yes)

    return agree
