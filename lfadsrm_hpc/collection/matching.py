"""Whether run params have the values that somebody asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lfadsrm_hpc.collection.hashing import canonical
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.model.hyperparameters import plain_names


def matches(params: RunParams, wanted: Mapping[str, Any]) -> bool:
    """Return whether params have the wanted values.

    A list, tuple, set or range means any of its values; a function is asked.

    Raises
    ------
    ParamsError
        There is no such hyperparameter.
    """
    return values_match(params.values(), wanted)


def plain_list(names: Iterable[str], values: Mapping[str, Any]) -> list[str]:
    """Return names of hyperparameters as they are in the values of params, `gen_dim` for `c_gen_dim`.

    Raises
    ------
    ParamsError
        There is no such hyperparameter, or it is named twice as both.
    """
    return list(plain_names(dict.fromkeys(names), values))


def values_match(values: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether the values of run params are as wanted; see `matches`."""
    return all(_fits(values[name], want) for name, want in plain_names(wanted, values).items())


def _fits(value: Any, want: Any) -> bool:
    if callable(want):
        return bool(want(value))
    if isinstance(want, (list, tuple, set, frozenset, range)) and not (
        isinstance(want, tuple) and isinstance(value, tuple)
    ):
        return any(canonical(value) == canonical(item) for item in want)
    return bool(canonical(value) == canonical(want))
