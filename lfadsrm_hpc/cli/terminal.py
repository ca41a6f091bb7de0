"""What the terminal can show: colours, lines that change, and how wide it is.

Colours are for terminals alone, and NO_COLOR (https://no-color.org) takes them away; FORCE_COLOR brings them
into pipes. TERM=dumb stands for a terminal that shows neither colours nor lines that change.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import TextIO

from lfadsrm_hpc.cli.guarding import trusted, visible

_PLAIN = ("dumb", "unknown")


def may_colour(stream: TextIO | None = None) -> bool:
    """Return whether a stream, standard output unless given, gets colours."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return may_change(stream)


def may_change(stream: TextIO | None = None) -> bool:
    """Return whether lines of a stream, standard output unless given, can be drawn anew."""
    return (stream or sys.stdout).isatty() and os.environ.get("TERM") not in _PLAIN


def clear_screen() -> None:
    """Let what is printed next begin at the top of an empty terminal; only where lines `may_change`."""
    stream = trusted(sys.stdout)
    stream.write("\x1b[H\x1b[J")  # click would take it for a colour, and NO_COLOR is about those alone
    stream.flush()


def change_line(text: str) -> None:
    """Replace the last line on standard error; only where lines `may_change`."""
    stream = trusted(sys.stderr)
    stream.write(f"\r\x1b[K{visible(text)}")
    stream.flush()


def wrapped(text: str, width: int, *, first: str = "", then: str = "") -> list[str]:
    """Return a text as lines of a width; a path or a command is never broken, so that it can be copied.

    Parameters
    ----------
    text : str
    width : int
        In columns, with the indent.
    first, then : str, optional
        What the first and the later lines begin with.
    """
    return textwrap.wrap(
        " ".join(text.split()),
        width,
        initial_indent=first,
        subsequent_indent=then,
        break_on_hyphens=False,
        break_long_words=False,
    )


def terminal_width() -> int | None:
    """Return the width of the terminal that standard output is; None: it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
