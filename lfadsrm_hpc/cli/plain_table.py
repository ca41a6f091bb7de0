"""Plain tables of text: quick for thousands of rows, and whole where the output is no terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import click


def plain_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[str] = ()
) -> str:
    """Return rows as lines of text; columns without any text are left out.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequence of str
    numbers : collection of str
        Columns that are aligned to the right.
    """
    used = [n for n in range(len(header)) if any(row[n] for row in rows)]
    table = [[row[n] for n in used] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for texts in table:
        cells = [
            text.rjust(width) if header[n] in numbers else text.ljust(width)
            for n, text, width in zip(used, texts, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[str]) -> None:
    """Print such a table on standard output."""
    click.echo(plain_table(header, rows, numbers=numbers))
