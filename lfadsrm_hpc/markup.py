"""Small tables of HTML, as notebooks show them beside objects; every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

MOST_ROWS = 20
_LEFT = ' style="text-align:left"'
_RIGHT = ' style="text-align:right"'


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Iterable[int] = (),
    count: int | None = None,
    more: str = "",
) -> str:
    """Return a table; None is an empty cell.

    Parameters
    ----------
    numbers : iterable of int
        Columns that stand to the right.
    count : int, optional
        Rows that there would be in all: those that are missing are counted below.
    more : str
        How one sees them.

    Examples
    --------
    >>> table(["a"], [["<b>"]]).count("&lt;b&gt;")
    1
    """
    right = set(numbers)
    lines = ["<table>", "<thead><tr>"]
    lines += [f"<th{_RIGHT if k in right else _LEFT}>{escape(text)}</th>" for k, text in enumerate(head)]
    lines += ["</tr></thead>", "<tbody>"]
    shown = 0
    for row in rows:
        cells = ("" if cell is None else escape(str(cell)) for cell in row)
        row_cells = (f"<td{_RIGHT if k in right else _LEFT}>{cell}</td>" for k, cell in enumerate(cells))
        lines.append(f"<tr>{''.join(row_cells)}</tr>")
        shown += 1
    lines.append("</tbody></table>")
    if count is not None and count > shown:
        hint = f" ({more})" if more else ""
        lines.append(paragraph(f"and {count - shown:,} more{hint}"))
    return "\n".join(lines)


def pairs(values: Mapping[str, object]) -> str:
    """Return names and values, one below the other; what is None or "" is left out."""
    rows = "".join(
        f"<tr><th{_LEFT}>{escape(name)}</th><td{_LEFT}>{escape(str(value))}</td></tr>"
        for name, value in values.items()
        if value is not None and value != ""
    )
    return f"<table><tbody>{rows}</tbody></table>" if rows else ""


def title(kind: str, name: str, about: str = "") -> str:
    """Return the line over a display: what it is, its name, and a word about it."""
    rest = f" <span>{escape(about)}</span>" if about else ""
    return f"<div><code>{escape(kind)}</code> <b>{escape(name)}</b>{rest}</div>"


def paragraph(text: str) -> str:
    """Return a line of text."""
    return f"<div>{escape(text)}</div>"


def block(*parts: str) -> str:
    """Return parts as one element."""
    return "<div>\n" + "\n".join(part for part in parts if part) + "\n</div>"
