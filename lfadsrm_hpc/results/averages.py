"""Averages over the trials of each condition, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.errors import DataError, NotFoundError, suggest

Array = npt.NDArray[Any]
Split = Literal["train", "valid", "each"]

SEM = "_sem"
N_TRIALS = "n_trials"
_USUAL = ("rates", "output_mean", "factors", "controller_outputs")
_BLOCK_BYTES = 8 << 20  # of 64-bit numbers


@overload
def condition_averages(
    means: xr.Dataset,
    variables: str | Sequence[str] | None = ...,
    *,
    by: str = ...,
    split: Split | None = ...,
) -> xr.Dataset: ...


@overload
def condition_averages(
    means: xr.DataTree,
    variables: str | Sequence[str] | None = ...,
    *,
    by: str = ...,
    split: Split | None = ...,
) -> xr.DataTree: ...


def condition_averages(
    means: xr.Dataset | xr.DataTree,
    variables: str | Sequence[str] | None = None,
    *,
    by: str = "condition",
    split: Split | None = None,
) -> xr.Dataset | xr.DataTree:
    """Return mean, standard error and number of trials for each condition.

    Trials are read in blocks, so that memory holds the averages and some blocks of 8 MB, however large the
    posterior means are. Sums are in 64 bits, about the running mean.

    Parameters
    ----------
    means : xr.Dataset or xr.DataTree
        Posterior means: of a run, a stack of runs, or a tree of them (then each is averaged).
    variables : str or sequence of str, optional
        What to average; rates (or `output_mean`), factors and inferred inputs unless given. Anything numeric
        with the dimension trial will do, also what was attached: "spikes", "truth", behaviour.
    by : str
        The label of trials that groups them.
    split : {"train", "valid", "each"}, optional
        Only trials of this split; "each": both apart, along a dimension `split`. All trials unless given.

    Returns
    -------
    xr.Dataset or xr.DataTree
        Dimensions `condition` (sorted; trials without a condition are in none of them) in place of trial,
        first but for those of a stack. For each variable its mean and `<name>_sem`, the standard deviation
        over trials (n - 1 degrees of freedom) divided by the root of n: NaN where there are fewer than two.
        `n_trials` (condition).

    Raises
    ------
    DataError
        There are no conditions, or no trial has one.
    NotFoundError
        There is no such variable.

    Examples
    --------
    >>> pm = xr.Dataset(
    ...     {"rates": (("trial", "time"), [[1.0], [3.0], [5.0]])}, {"condition": ("trial", ["a", "a", ""])}
    ... )
    >>> found = condition_averages(pm)
    >>> found.rates.values.tolist(), found.rates_sem.values.tolist(), found.n_trials.values.tolist()
    ([[2.0]], [[1.0]], [2])
    """
    if isinstance(means, xr.DataTree):
        leaves = {node.path: node.to_dataset() for node in means.subtree if "trial" in node.dims}
        found = {path: _of_leaf(path, one, variables, by, split) for path, one in leaves.items()}
        tree: xr.DataTree = xr.DataTree.from_dict(found)
        return tree
    labels, codes = _groups(means, by)
    chosen = _variables(means, variables)
    splits = ("train", "valid") if split == "each" else (split,)
    parts = [_averages(means, chosen, _within(means, codes, one), len(labels)) for one in splits]
    made = {
        name: (("split", *dims), np.stack([part[name][1] for part in parts]))
        if split == "each"
        else (dims, values)
        for name, (dims, values) in parts[0].items()
    }
    coords = {by: labels} | ({"split": list(splits)} if split == "each" else {})
    return _described(xr.Dataset(_named(made, by), coords), means, chosen, by)


def _of_leaf(
    path: str, means: xr.Dataset, variables: str | Sequence[str] | None, by: str, split: Split | None
) -> xr.Dataset:
    """Return the averages of one dataset of a tree; errors tell which it is."""
    try:
        return condition_averages(means, variables, by=by, split=split)
    except DataError as error:
        raise DataError(error.what, where=path, hint=error.hint) from None


# ---------------------------------------------------------------- groups of trials

_GROUP = "group"  # the new dimension, before it has its name
Parts = dict[str, tuple[tuple[str, ...], Array]]


def _groups(means: xr.Dataset, by: str) -> tuple[Array, Array]:
    """Return the labels of trials, sorted, and for each trial the number of its own; -1: it has none."""
    if by not in means.variables or means[by].dims != ("trial",):
        raise DataError(
            f"these trials have no {by!r}",
            hint="give the datasets conditions before they are prepared, or name another label, by=",
        )
    values = means[by].to_numpy()
    if values.dtype.kind == "f":
        known = ~np.isnan(values)
    elif values.dtype.kind in "OUT":
        known = np.array([one not in ("", None) and one == one for one in values], dtype=bool)
    else:
        known = np.ones(len(values), dtype=bool)
    if not known.any():
        raise DataError(
            f"no trial has a {by}", hint="attach conditions, or average by another coordinate: by=..."
        )
    labels, found = np.unique(values[known], return_inverse=True)
    if labels.dtype.kind == "f" and np.all(labels == np.floor(labels)):
        labels = labels.astype(np.int64)  # NaN, which made them floating-point numbers, is gone
    codes = np.full(len(values), -1)
    codes[known] = found
    return labels, codes


def _within(means: xr.Dataset, codes: Array, split: str | None) -> Array:
    """Return the groups of the trials of one split; others are in none."""
    if split is None:
        return codes
    if means["split"].dims != ("trial",):
        raise DataError(
            "these runs are not split alike", hint="average them one by one, or all trials together"
        )
    return np.where(means["split"].to_numpy() == split, codes, -1)


def _variables(means: xr.Dataset, given: str | Sequence[str] | None) -> list[str]:
    if given is None:
        chosen = [name for name in _USUAL if name in means.data_vars]
        return chosen or [str(name) for name, one in means.data_vars.items() if "trial" in one.dims]
    chosen = [given] if isinstance(given, str) else list(given)
    able = [str(name) for name, one in means.variables.items() if "trial" in one.dims and name != "trial"]
    for name in chosen:
        if name not in able:
            raise NotFoundError(
                f"there is no variable {name!r} with trials",
                hint=suggest(name, able) or f"there are: {', '.join(able)}; others can be attached",
            )
        if means[name].dtype.kind not in "biuf":
            raise DataError(
                f"{name} is not made of numbers, so it has no average",
                hint="name variables that are: variables=...",
            )
    return chosen


# ---------------------------------------------------------------- sums


def _averages(means: xr.Dataset, names: Sequence[str], codes: Array, n_groups: int) -> Parts:
    """Return mean and standard error of each variable, and the numbers of trials."""
    counts = np.bincount(codes[codes >= 0], minlength=n_groups)
    found: Parts = {}
    for name in names:
        variable = means[name].variable
        place = variable.dims.index("trial")
        outer, dims = variable.shape[:place], list(map(str, variable.dims))
        dims[place] = _GROUP
        shape = (*outer, n_groups, *variable.shape[place + 1 :])
        mean, squares = np.empty(shape), np.empty(shape)
        for cell in np.ndindex(*outer):
            mean[cell], squares[cell] = _moments(variable[cell] if cell else variable, codes, n_groups)
        number = counts.reshape(-1, *[1] * (mean.ndim - place - 1)).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            sem = np.where(number > 1, np.sqrt(squares / (number - 1) / number), np.nan)
        found[name] = tuple(dims), np.where(number > 0, mean, np.nan)
        found[name + SEM] = tuple(dims), sem
    found[N_TRIALS] = (_GROUP,), counts
    return found


def _moments(variable: xr.Variable, codes: Array, n_groups: int) -> tuple[Array, Array]:
    """Return the mean of each group and the sum of squares about it; the first axis is trials.

    Blocks are merged by their means (Chan, Golub and LeVeque 1983), so that nothing cancels.
    """
    shape = (n_groups, *variable.shape[1:])
    number, mean, squares = np.zeros(n_groups), np.zeros(shape), np.zeros(shape)
    for start, stop in _blocks(variable):
        here = codes[start:stop]
        if (here < 0).all():
            continue
        block = variable[start:stop].to_numpy().astype(np.float64, copy=False)
        for group in np.unique(here[here >= 0]):
            rows = block[here == group]
            own = rows.mean(axis=0)
            gap, total = own - mean[group], number[group] + len(rows)
            squares[group] += ((rows - own) ** 2).sum(axis=0)
            squares[group] += gap**2 * (number[group] * len(rows) / total)
            mean[group] += gap * (len(rows) / total)
            number[group] = total
    return mean, squares


def _blocks(variable: xr.Variable) -> Iterator[tuple[int, int]]:
    """Cut trials into blocks of bounded size that end where chunks end, if that is possible."""
    trials = variable.shape[0]
    fitting = max(1, _BLOCK_BYTES // max(1, 8 * math.prod(variable.shape[1:])))
    chunk = int(variable.encoding.get("preferred_chunks", {}).get("trial", 1))
    step = max(chunk, fitting // chunk * chunk) if chunk <= 4 * fitting else fitting
    for start in range(0, trials, step):
        yield start, min(start + step, trials)


# ---------------------------------------------------------------- words


def _named(found: Parts, by: str) -> Parts:
    return {
        name: (tuple(by if dim == _GROUP else dim for dim in dims), values)
        for name, (dims, values) in found.items()
    }


def _described(found: xr.Dataset, means: xr.Dataset, names: Sequence[str], by: str) -> xr.Dataset:
    """Add the labels of what is left of the dimensions, units and words."""
    kept = {name: one for name, one in means.coords.items() if set(one.dims) <= set(found.dims) - {by}}
    found = found.assign_coords({name: one for name, one in kept.items() if name not in found.coords})
    for name in names:
        units, what = means[name].attrs.get("units"), means[name].attrs.get("long_name", name)
        for key, words in ((name, "mean over trials"), (name + SEM, "standard error over trials")):
            found[key].attrs = {"long_name": f"{words}: {what}", **({"units": units} if units else {})}
    found[N_TRIALS].attrs = {"units": "1", "long_name": "number of trials"}
    found.attrs = {**means.attrs, "averaged_over": "trials of a condition"}
    return found
