"""Posterior means of many runs of one dataset as one xr.Dataset, along the parameters in which they differ.

Nothing is read before it is used, and then only from the runs and the chunks that are asked for: the stack
of a hundred runs takes no more memory than what is selected from it. Where runs have different numbers of
factors (or generator units, inferred inputs, ...) the narrower ones are padded with NaN; where a run is
missing, all is NaN.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from lfadsrm_hpc.collection.words import listing, value_text
from lfadsrm_hpc.errors import ResultsError, UsageError
from lfadsrm_hpc.results.arrays.stored import as_slice, by_axes, count, is_index, lazy, put

Array = npt.NDArray[Any]
Cell = tuple[int, ...]

PADDED_DIMS = ("factor", "generator_unit", "controller_output", "ic")
RUN = "run"


@dataclass(frozen=True)
class Member:
    """One run of a stack.

    Attributes
    ----------
    run_id : str
    values : mapping
        Its params, by name.
    means : xr.Dataset
        Its posterior means, lazily.
    shaping : frozenset of str
        Which params change the data.
    """

    run_id: str
    values: Mapping[str, Any]
    means: xr.Dataset
    shaping: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Stacked:
    """A stack, and what is to be known of it.

    Attributes
    ----------
    means : xr.Dataset
    padded : dict of str to (int, int)
        By dimension, the least and the greatest width.
    missing : list of dict
        The combinations that no run has.
    """

    means: xr.Dataset
    padded: dict[str, tuple[int, int]]
    missing: list[dict[str, Any]]

    @property
    def remark(self) -> str:
        """What is not as in a full grid of equal runs, in words; empty where all is."""
        parts = [
            f"{dim} is padded with NaN to {most} (least {least})"
            for dim, (least, most) in self.padded.items()
        ]
        if self.missing:
            texts = [" ".join(f"{n}={value_text(v)}" for n, v in one.items()) for one in self.missing]
            parts.append(f"no complete run has {listing(texts, 5)}: NaN there")
        return "; ".join(parts)


def stack(members: Sequence[Member], along: Sequence[str]) -> Stacked:
    """Put runs of one dataset side by side, along params.

    Parameters
    ----------
    members : sequence of Member
        At least one.
    along : sequence of str
        Names of params; each becomes a dimension in front of the others, in this order.

    Returns
    -------
    Stacked
        `means` has the variables of all runs; a variable that a run lacks is NaN there. Coordinates: a
        dimension of each param (sorted where its values are numbers), `run` with ids ("" where there is
        none), and `n_<dim>` with the true width of each padded dimension. Attributes that all runs share are
        kept; `stack`, `padded`, `missing` and `also_differing` (other params that differ) are JSON.

    Raises
    ------
    ResultsError
        Two runs have the same values; or trials, bins or neurons of two runs are not the same.
    UsageError
        A param has the name of a dimension or variable.
    """
    axes = {name: _axis([one.values[name] for one in members]) for name in along}
    _check_names(along, members[0].means)
    cells = _cells(members, axes)
    _check_alike(list(cells.values()))
    shape = tuple(len(values) for values in axes.values())
    widths = {dim: _widths(cells, dim) for dim in PADDED_DIMS}
    sizes = {dim: max(found.values()) for dim, found in widths.items() if found}
    first = members[0].means
    data = {
        name: _variable(cells, name, tuple(along), shape, sizes)
        for name in dict.fromkeys(name for one in members for name in map(str, one.means.data_vars))
    }
    padded = {
        dim: (min(found.values()), max(found.values()))
        for dim, found in widths.items()
        if len(set(found.values())) > 1
    }
    coords: dict[str, Any] = {name: ((name,), _as_index(values)) for name, values in axes.items()}
    coords |= {str(name): one.variable for name, one in first.coords.items() if name != "split"}
    coords["split"] = _split(cells, tuple(along), shape)
    coords[RUN] = (tuple(along), _by_cell({cell: one.run_id for cell, one in cells.items()}, shape, ""))
    coords |= {f"n_{dim}": (tuple(along), _by_cell(widths[dim], shape, 0)) for dim in padded}
    missing = [
        {name: values[place] for (name, values), place in zip(axes.items(), cell, strict=True)}
        for cell in itertools.product(*map(range, shape))
        if cell not in cells
    ]
    means = xr.Dataset(data, coords, _common_attributes(members))
    means.attrs |= {
        "stack": json.dumps(list(along)),
        "padded": json.dumps(padded),
        "missing": json.dumps(missing, default=str),
        "also_differing": json.dumps(_differing(members, along)),
    }
    return Stacked(means, padded, missing)


# ---------------------------------------------------------------- where each run goes


def _axis(values: Sequence[Any]) -> list[Any]:
    """Return the different values: numbers in order, others as they come."""
    different: list[Any] = []
    for value in values:
        if not any(_same(value, one) for one in different):
            different.append(value)
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in different)
    return sorted(different) if numbers else different


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _as_index(values: Sequence[Any]) -> Array:
    """Return values as labels: numbers, truth values and texts as they are, all else as text."""
    kinds = {type(one) for one in values}
    if kinds <= {int, float} or kinds == {bool}:
        return np.asarray(values)
    return np.array([one if isinstance(one, str) else value_text(one) for one in values], dtype=object)


def _cells(members: Sequence[Member], axes: Mapping[str, list[Any]]) -> dict[Cell, Member]:
    cells: dict[Cell, Member] = {}
    for member in members:
        cell = tuple(
            next(place for place, one in enumerate(values) if _same(one, member.values[name]))
            for name, values in axes.items()
        )
        if cell in cells:
            raise _twice(cells[cell], member, list(axes))
        cells[cell] = member
    return cells


def _twice(one: Member, other: Member, along: Sequence[str]) -> ResultsError:
    shared = " ".join(f"{name}={value_text(one.values[name])}" for name in along)
    differ = _differing([one, other], along)
    told = ", ".join(
        f"{n} ({value_text(one.values.get(n))}, {value_text(other.values.get(n))})" for n in differ
    )
    hint = "give one of them"
    if differ:
        names = ", ".join(map(repr, [*along, differ[0]]))
        hint = f"stack=({names}), or select one value: {differ[0]}={one.values.get(differ[0])!r}"
    return ResultsError(
        f"two runs have {shared}: {one.run_id} and {other.run_id}; they differ in {told or 'nothing'}",
        hint=hint,
    )


def _differing(members: Sequence[Member], along: Sequence[str]) -> list[str]:
    """Return further params in which the runs differ, sorted; names of params are for people only."""
    names = {name for one in members for name in one.values} - {*along, "name"}
    first = members[0].values
    return sorted(n for n in names if any(not _same(one.values.get(n), first.get(n)) for one in members))


# ---------------------------------------------------------------- what must be alike


def _check_names(along: Sequence[str], means: xr.Dataset) -> None:
    for name in along:
        if name in means.variables or name in means.dims or name in (*PADDED_DIMS, RUN):
            raise UsageError(
                f"the param {name!r} cannot be a dimension: posterior means have something of this name",
                hint="load the runs one by one, or as a tree",
            )


def _check_alike(members: Sequence[Member]) -> None:
    """Refuse runs whose trials, bins or neurons are not the same."""
    first = members[0]
    for other in members[1:]:
        for name in ("trial", "time", "neuron", "neuron_name"):
            if not np.array_equal(first.means[name].to_numpy(), other.means[name].to_numpy()):
                differ = _differing([first, other], ())
                differ = [n for n in differ if n in first.shaping] or differ
                raise ResultsError(
                    f"runs {first.run_id} and {other.run_id} cannot be stacked: they have not the same "
                    f"{'neurons' if name.startswith('neuron') else 'bins' if name == 'time' else 'trials'}",
                    hint=f"they differ in {listing(differ)}: select one value of what makes the difference",
                )


def _common_attributes(members: Sequence[Member]) -> dict[str, Any]:
    first = members[0].means.attrs
    return {
        name: value
        for name, value in first.items()
        if all(
            name in one.means.attrs and np.array_equal(one.means.attrs[name], value) for one in members[1:]
        )
    }


def _split(cells: Mapping[Cell, Member], along: tuple[str, ...], shape: Cell) -> Any:
    """Return the split of each trial; for each run where they are not split alike."""
    splits = {cell: one.means["split"].to_numpy() for cell, one in cells.items()}
    first = next(iter(splits.values()))
    if all(np.array_equal(one, first) for one in splits.values()):
        return ("trial",), first
    out = np.full((*shape, len(first)), "", dtype=object)
    for cell, one in splits.items():
        out[cell] = one
    return (*along, "trial"), out


def _by_cell(found: Mapping[Cell, Any], shape: Cell, blank: Any) -> Array:
    out = np.full(shape, blank, dtype=object if isinstance(blank, str) else int)
    for cell, value in found.items():
        out[cell] = value
    return out


def _widths(cells: Mapping[Cell, Member], dim: str) -> dict[Cell, int]:
    """Return the width of a dimension for each run; nothing where no run has it."""
    found = {cell: int(one.means.sizes.get(dim, 0)) for cell, one in cells.items()}
    return found if any(found.values()) else {}


# ---------------------------------------------------------------- variables


def _variable(
    cells: Mapping[Cell, Member], name: str, along: tuple[str, ...], shape: Cell, sizes: Mapping[str, int]
) -> xr.Variable:
    """Return one variable of all runs, lazily."""
    found = {cell: one.means[name].variable for cell, one in cells.items() if name in one.means.variables}
    one = next(iter(found.values()))
    dims = tuple(map(str, one.dims))
    widest = tuple(sizes.get(dim, size) for dim, size in zip(dims, one.shape, strict=True))
    gaps = len(found) < int(np.prod(shape)) or any(part.shape != widest for part in found.values())
    dtype = np.result_type(*(part.dtype for part in found.values()), *([np.float32] if gaps else []))
    array = _StackedArray(found, shape, widest, dtype)
    preferred = {**dict.fromkeys(along, 1), **one.encoding.get("preferred_chunks", {})}
    return xr.Variable(
        (*along, *dims), lazy(array), one.attrs, {"preferred_chunks": preferred}, fastpath=True
    )


class _StackedArray(BackendArray):
    """The variables of many runs, each in its cell; read one after the other, as far as they are selected."""

    def __init__(
        self, parts: Mapping[Cell, xr.Variable], shape: Cell, widest: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.parts, self.outer, self.widest = dict(parts), shape, widest
        self.shape = (*shape, *widest)
        self.dtype = dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return by_axes(key, self.shape, self._read)

    def _read(self, key: tuple[Any, ...]) -> Array:
        whole = [np.array([one]) if is_index(one) else one for one in key]
        outer, inner = whole[: len(self.outer)], whole[len(self.outer) :]
        shape = [count(one, size) for one, size in zip(whole, self.shape, strict=True)]
        out = np.empty(shape, self.dtype)
        rows = [np.arange(size)[one] for one, size in zip(outer, self.outer, strict=True)]
        for places in itertools.product(*(range(len(one)) for one in rows)):
            cell = tuple(int(row[place]) for row, place in zip(rows, places, strict=True))
            self._fill(out[places], cell, inner)
        return out[tuple(0 if is_index(one) else slice(None) for one in key)]

    def _fill(self, out: Array, cell: Cell, inner: Sequence[Any]) -> None:
        part = self.parts.get(cell)
        if part is None or part.shape != self.widest:
            out[...] = np.nan
        if part is None:
            return
        source, target = [], []
        for one, size, width in zip(inner, self.widest, part.shape, strict=True):
            places = np.arange(size)[one]
            there = np.flatnonzero(places < width)
            source.append(one if len(there) == len(places) else as_slice(places[there]))
            target.append(slice(None) if len(there) == len(places) else there)
        block = part[tuple(source)].to_numpy()
        if block.size:
            put(out, target, block)
