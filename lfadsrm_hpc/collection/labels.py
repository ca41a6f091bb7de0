"""Run params named by what distinguishes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.collection.words import value_text

if TYPE_CHECKING:
    from lfadsrm_hpc.collection.params import RunParams


def varying_names(params: Iterable[RunParams]) -> list[str]:
    """Return the hyperparameters that differ among run params, sorted."""
    return varying(one.values() for one in params)


def varying(params: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names under which values differ, or that some lack, sorted.

    Examples
    --------
    >>> varying([{"seed": 0, "gen_dim": 8}, {"seed": 1, "gen_dim": 8}])
    ['seed']
    """
    found: set[str] = set()
    first: Mapping[str, Any] | None = None
    for values in params:
        first = values if first is None else first
        found |= {name for name, value in values.items() if name not in first or first[name] != value}
        found |= first.keys() - values.keys()
    return sorted(found)


def params_label(params: RunParams, varying: Sequence[str]) -> str:
    """Name run params by what distinguishes them, "factors_dim=4", or by their hash."""
    values = params.values()
    label = " ".join(f"{name}={value_text(values[name])}" for name in varying if name in values)
    return label or params.param_hash
