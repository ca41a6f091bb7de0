"""Many run params from one: grids, lists side by side, random draws, and values that depend on others.

All functions are pure: they return new lists and draw only from the seed that they are given.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from lfadsrm_hpc.errors import ParamsError

P = TypeVar("P", bound="Replaceable")


class Replaceable(Protocol):
    """What a sweep needs of run params."""

    def replace(self: P, **changes: Any) -> P:
        """Return a copy with some values changed."""


def grid(base: P, **values: Iterable[Any]) -> list[P]:
    """Return one copy of `base` for every combination of values; the first name varies slowest.

    Parameters
    ----------
    base : RunParams
    **values
        A list of values for each name.

    Raises
    ------
    ParamsError
        An unknown name (the nearest right one is suggested), an empty list, or a value out of range.

    Examples
    --------
    >>> from lfadsrm_hpc.collection.params import RunParams
    >>> [(p.gen_dim, p.co_dim) for p in grid(RunParams(), gen_dim=[32, 64], co_dim=[0, 2])]
    [(32, 0), (32, 2), (64, 0), (64, 2)]
    """
    lists = _lists(values)
    return [base.replace(**dict(zip(lists, row, strict=True))) for row in itertools.product(*lists.values())]


def zip_(base: P, **values: Iterable[Any]) -> list[P]:
    """Return one copy of `base` for the first values, one for the second ones, and so on.

    Parameters
    ----------
    base : RunParams
    **values
        Lists of one length.

    Raises
    ------
    ParamsError
        As for `grid`, or the lists differ in length.
    """
    lists = _lists(values)
    lengths = {name: len(items) for name, items in lists.items()}
    if len(set(lengths.values())) > 1:
        raise ParamsError(
            "lists that are swept side by side must have one length: "
            + ", ".join(f"{name} has {n}" for name, n in lengths.items()),
            hint="make them equally long, or use a grid",
        )
    return [base.replace(**dict(zip(lists, row, strict=True))) for row in zip(*lists.values(), strict=True)]


@dataclass(frozen=True)
class Uniform:
    """Draws evenly between two bounds, or evenly in the logarithm.

    Attributes
    ----------
    low, high : float
        The bounds.
    log : bool
        Evenly in the logarithm.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ParamsError(f"cannot draw between {self.low} and {self.high}", hint="give low <= high")
        if self.log and self.low <= 0:
            raise ParamsError(f"cannot draw on a log scale from {self.low}", hint="give low > 0")

    def draw(self, rng: random.Random) -> float:
        """Return one value."""
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        return min(max(value, self.low), self.high)  # exp(log(x)) may miss x by one bit


@dataclass(frozen=True)
class Choice:
    """Draws one of some values.

    Attributes
    ----------
    values : tuple
        All are as likely.
    """

    values: tuple[Any, ...]

    def draw(self, rng: random.Random) -> Any:
        """Return one value."""
        return rng.choice(self.values)


def uniform(low: float, high: float) -> Uniform:
    """Return a draw that is even between `low` and `high`.

    Parameters
    ----------
    low, high : float
        The bounds.
    """
    return Uniform(low, high)


def log(low: float, high: float) -> Uniform:
    """Return a draw that is even in the logarithm between `low` and `high`.

    Parameters
    ----------
    low, high : float
        The bounds, above 0.
    """
    return Uniform(low, high, log=True)


def choice(*values: Any) -> Choice:
    """Return a draw of one of `values`.

    Parameters
    ----------
    *values
        All are as likely.
    """
    if not values:
        raise ParamsError("choice needs at least one value", hint="write choice(32, 64)")
    return Choice(values)


def random_(base: P, n: int, *, seed: int, **draws: Uniform | Choice | Sequence[Any]) -> list[P]:
    """Return `n` copies of `base` with values drawn at random; the same seed gives the same copies.

    Each name has random numbers of its own, so that adding a name does not change the others' values.

    Parameters
    ----------
    base : RunParams
    n : int
    seed : int
    **draws
        `log(low, high)`, `uniform(low, high)` or `choice(...)`, or a list, which is a choice. Fields that
        hold whole numbers get rounded values.

    Raises
    ------
    ParamsError

    Examples
    --------
    >>> from lfadsrm_hpc.collection.params import RunParams
    >>> len(random_(RunParams(), 3, seed=1, keep_prob=uniform(0.5, 1), l2_gen_scale=log(1, 1e4)))
    3
    """
    if n < 1:
        raise ParamsError(f"cannot draw {n} params", hint="give n of at least 1")
    columns = {}
    for name, how in draws.items():
        if not isinstance(how, (Uniform, Choice)):
            how = Choice(tuple(_lists({name: how})[name]))
        whole = isinstance(how, Uniform) and isinstance(_value(base, name), int)
        rng = random.Random(f"{seed}/{name.removeprefix('c_')}")
        drawn = [how.draw(rng) for _ in range(n)]
        columns[name] = [round(value) for value in drawn] if whole else drawn
    return [base.replace(**{name: column[i] for name, column in columns.items()}) for i in range(n)]


def conditional(
    params: Iterable[P], when: Callable[[P], bool] | Mapping[str, Any], **values: Iterable[Any]
) -> list[P]:
    """Sweep further only where a condition holds; the other params are kept once, as they are.

    Parameters
    ----------
    params : iterable of RunParams
    when : callable or mapping
        What params it is for: a function of the params, or the values that they must have.
    **values
        As for `grid`.

    Raises
    ------
    ParamsError

    Examples
    --------
    >>> from lfadsrm_hpc.collection.params import RunParams
    >>> swept = conditional(grid(RunParams(), co_dim=[0, 2]), lambda p: p.co_dim > 0, con_dim=[32, 64])
    >>> [(p.co_dim, p.con_dim) for p in swept]
    [(0, 128), (2, 32), (2, 64)]
    """
    lists = _lists(values)
    found: list[P] = []
    for p in params:
        holds = p == p.replace(**when) if isinstance(when, Mapping) else when(p)
        found += grid(p, **lists) if holds else [p]
    return found


def from_arguments(base: P, pairs: Sequence[Any], values: Mapping[str, Any], mode: str) -> list[P]:
    """Do what `RunParams.generate_sweep` says."""
    if len(pairs) % 2 or not all(isinstance(name, str) for name in pairs[::2]):
        raise ParamsError(
            "a sweep takes names and lists in turn", hint='write generate_sweep("gen_dim", [32, 64])'
        )
    named = dict(zip(pairs[::2], pairs[1::2], strict=True))
    twice = set(named) & set(values)
    if twice or len(named) < len(pairs) // 2:
        raise ParamsError(
            f"a sweep names {sorted(twice or set(named))[0]!r} twice",
            hint="name each hyperparameter once, with all its values",
        )
    if mode not in ("grid", "zip"):
        raise ParamsError(f"there is no sweep mode {mode!r}", hint="use 'grid' or 'zip'")
    return (grid if mode == "grid" else zip_)(base, **named | dict(values))


def _value(base: Replaceable, name: str) -> Any:
    return getattr(base, name if hasattr(base, name) else name.removeprefix("c_"), None)


def _lists(values: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
    if not values:
        raise ParamsError("a sweep needs at least one name with its values", hint="write gen_dim=[32, 64]")
    lists = {}
    for name, items in values.items():
        if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
            raise ParamsError(
                f"the values of {name} must be a list", where=repr(items), hint=f"write {name}=[...]"
            )
        lists[name] = list(items)
        if not lists[name]:
            raise ParamsError(f"the list of values of {name} is empty", hint="give at least one value")
    return lists
