"""Lists and values in words, as displays, messages and tables show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MOST_LISTED = 12


def listing(names: Sequence[str], most: int = _MOST_LISTED) -> str:
    """Return names as one readable text, cut after `most`.

    Examples
    --------
    >>> listing(["a", "b", "c"], most=2)
    'a, b, and 1 more'
    """
    if not names:
        return "none"
    shown = list(names[:most])
    return ", ".join([*shown, f"and {len(names) - most} more"] if len(names) > most else shown)


def counted(number: int, what: str) -> str:
    """Return a number of things.

    Examples
    --------
    >>> counted(1, "run"), counted(3, "run")
    ('1 run', '3 runs')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"


def lines(texts: Sequence[str], most: int = _MOST_LISTED) -> str:
    """Return texts one below the other, indented, cut after `most`."""
    shown = [*texts[:most], *([f"and {len(texts) - most} more"] if len(texts) > most else [])]
    return "\n".join(f"    {text}" for text in shown)


def value_text(value: Any) -> str:
    """Return a value as short text: 2 rather than 2.0, [1,3] of a tuple.

    Examples
    --------
    >>> [value_text(v) for v in (2.0, 0.95, 1e-7, None, "poisson", "", (1, 3))]
    ['2', '0.95', '1e-07', 'None', 'poisson', "''", '[1,3]']
    """
    if hasattr(value, "tolist"):
        value = value.tolist()  # of numpy
    if isinstance(value, list | tuple | dict):
        from lfadsrm_hpc.collection.hashing import canonical_json

        return canonical_json(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value) if value != "" else "''"
