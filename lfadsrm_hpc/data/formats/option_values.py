"""Values of readers' options, as they come from Python or from TOML: checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lfadsrm_hpc.errors import UsageError, suggest


def number(name: str, value: Any) -> float:
    """Return a finite number.

    Raises
    ------
    UsageError
        It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        try:  # numpy's own numbers
            value = value.item()
        except (AttributeError, ValueError):
            raise UsageError(f"{name} is {value!r}, not a number", hint="give one number") from None
        return number(name, value)
    return float(value)


def positive(name: str, value: Any) -> float:
    """Return a number above 0.

    Raises
    ------
    UsageError
    """
    found = number(name, value)
    if found <= 0:
        raise UsageError(f"{name} is {found:g}", hint="it must be more than 0")
    return found


def flag(name: str, value: Any) -> bool:
    """Return True or False.

    Raises
    ------
    UsageError
    """
    if not isinstance(value, bool):
        raise UsageError(f"{name} is {value!r}", hint="it must be true or false")
    return value


def text(name: str, value: Any) -> str:
    """Return a text that is not empty.

    Raises
    ------
    UsageError
    """
    if not isinstance(value, str) or not value:
        raise UsageError(f"{name} is {value!r}, not a text", hint="give one text")
    return value


def texts(name: str, value: Any) -> tuple[str, ...]:
    """Return texts; one text stands for itself, None for none.

    Raises
    ------
    UsageError
    """
    if value is None:
        return ()
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, Sequence) or not all(isinstance(item, str) and item for item in items):
        raise UsageError(f"{name} is {value!r}", hint="it must be a text, or a list of texts")
    return tuple(items)


def table(name: str, value: Any) -> dict[str, Any]:
    """Return a table of named values; None is an empty one.

    Raises
    ------
    UsageError
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{name} is {value!r}", hint=f"it must be a table, such as {name} = {{ a = 1 }}")
    return dict(value)


def text_table(name: str, value: Any, known: Sequence[str] | None = None) -> dict[str, str]:
    """Return a table of texts, whose names are all among `known`.

    Raises
    ------
    UsageError
    """
    found = table(name, value)
    for key, item in found.items():
        if known is not None and key not in known:
            raise UsageError(
                f"{name} names {key!r}", hint=suggest(key, known) or f"it can name {', '.join(known)}"
            )
        text(f"{key} in {name}", item)
    return found


def choice(name: str, value: Any, known: Sequence[str]) -> str:
    """Return a text that is one of `known`.

    Raises
    ------
    UsageError
    """
    if value not in known:
        raise UsageError(
            f"{name} is {value!r}", hint=suggest(value, known) or f"it can be {', '.join(known)}"
        )
    return str(value)


def bins_between(start_ms: float, stop_ms: float, bin_ms: float) -> int:
    """Return how many bins a window has.

    Raises
    ------
    UsageError
        It is empty, or no whole number of bins.
    """
    ratio = (stop_ms - start_ms) / bin_ms
    found = round(ratio) if math.isfinite(ratio) else 0
    if found < 1 or abs(ratio - found) > 1e-6 * found:
        raise UsageError(
            f"the window from {start_ms:g} to {stop_ms:g} ms is not a whole number of bins of {bin_ms:g} ms",
            hint="change before_ms, after_ms or bin_ms",
        )
    return found
