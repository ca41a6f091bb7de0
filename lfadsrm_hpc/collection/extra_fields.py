"""Fields of a user's subclass of the run params, where that class is not at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ExtraField:
    """A field of a user's subclass whose class was not at hand when the params were read from disk.

    Attributes
    ----------
    name : str
    value, default : object
        As stored; `default` is that of the class when the params were stored.
    affects : {"model", "data", "nothing"}
        See `FieldSpec`.
    """

    name: str
    value: Any
    default: Any
    affects: str = "model"


def frozen(value: Any) -> Any:
    """Return a value of JSON as a field holds it: tuples in place of lists."""
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value
