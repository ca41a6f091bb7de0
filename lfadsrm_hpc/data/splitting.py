"""Which trials train and which validate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lfadsrm_hpc.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt
    import xarray as xr


SPLIT_KINDS = ("stratified", "random", "periodic")  # besides "given", which needs no choice


def split(
    n_trials: int,
    *,
    train_to_test_ratio: int,
    seed: int,
    condition: Sequence[Any] | npt.NDArray[Any] | None = None,
    groups: Sequence[Any] | npt.NDArray[Any] | None = None,
    kind: str = "stratified",
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Choose the trials that train and those that validate.

    Parameters
    ----------
    n_trials : int
        At least 2.
    train_to_test_ratio : int
        r, at least 1: about `n_trials / (r + 1)` trials validate, see `kind`.
    seed : int
        Not negative. The same seed gives the same split with every version of numpy (raw PCG64 numbers are
        used). `"periodic"` does not use it.
    condition : array of length n_trials, optional
        Strings or numbers; NaN, None and "" make a group of their own. Only `"stratified"` uses it.
    groups : array of length n_trials, optional
        Trials that share something, such as windows of a recording that overlap: all of a group train, or all
        validate. Groups take the place of trials in all that `kind` says. A group has a condition if its
        trials have one.
    kind : {"stratified", "random", "periodic"}
        `"stratified"` and `"random"`: `m = round(n_trials / (r + 1))` trials validate, at least 1 and at most
        n_trials - 1, and each trial has the same chance m / n_trials to be one of them. With `"stratified"`,
        of the n_c trials of a condition either the floor or the ceiling of `n_c m / n_trials` validate.
        `"periodic"`: the trials 0, r + 1, 2 (r + 1), ... validate, as in the Matlab run manager. It aliases
        with conditions that come in cycles.

    Returns
    -------
    train_inds, valid_inds : int64 arrays
        Sorted, 0-based, none empty.

    Raises
    ------
    DataError
        Fewer than two trials, or as many conditions as trials are not given.
    UsageError
        A ratio, seed or kind that has no meaning.

    Notes
    -----
    Stratified: trials are laid in a row, condition after condition, conditions and trials within them in
    random order; every (n/m)-th of the row is taken from a random start (systematic sampling, in whole
    numbers, so that exactly m are taken).
    """
    _check_split(n_trials, train_to_test_ratio, seed, kind)
    if groups is not None:
        return _split_groups(n_trials, np.asarray(groups), condition, train_to_test_ratio, seed, kind)
    if kind == "periodic":
        valid = np.arange(n_trials) % (train_to_test_ratio + 1) == 0
    else:
        codes = np.zeros(n_trials, dtype=np.int64)
        if kind == "stratified" and condition is not None:
            codes = _condition_codes(condition, n_trials)
        n_valid = min(max(round(n_trials / (train_to_test_ratio + 1)), 1), n_trials - 1)
        valid = _systematic_sample(codes, n_valid, seed)
    return np.flatnonzero(~valid), np.flatnonzero(valid)


def _split_groups(
    n_trials: int, groups: npt.NDArray[Any], condition: Any, ratio: int, seed: int, kind: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    if groups.shape != (n_trials,):
        raise DataError(
            f"groups have shape {groups.shape}, but there are {n_trials} trials",
            hint="give one group a trial",
        )
    names, first, member = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))  # groups in the order of their first trials
    member = rank[member.ravel()]
    if len(names) < 2:
        raise DataError(
            "all trials belong to one group, and a group cannot be split into training and validation",
            hint="a recording needs at least two blocks of windows: make windows or blocks shorter",
        )
    of_group = None
    if condition is not None:
        codes = _condition_codes(condition, n_trials)
        found = [np.unique(codes[member == group]) for group in range(len(names))]
        of_group = np.array([c[0] if c.size == 1 else -1 for c in found])
    _, valid = split(len(names), train_to_test_ratio=ratio, seed=seed, condition=of_group, kind=kind)
    validates = np.isin(member, valid)
    return np.flatnonzero(~validates), np.flatnonzero(validates)


def given_split(ds: xr.Dataset, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the training and the validation trials that a dataset says itself.

    Raises
    ------
    DataError
        It says nothing, or leaves one of them empty.
    """
    where = f"dataset {name!r}"
    if "given_split" not in ds.variables:
        raise DataError(
            "split='given', and the dataset does not say which trials validate",
            where=where,
            hint="use another split, or give it a variable given_split (trial) with 'train' and 'valid'",
        )
    kinds = ds["given_split"].to_numpy().astype(str)
    strange = sorted(set(kinds.tolist()) - {"train", "valid"})
    if strange or len(set(kinds.tolist())) < 2:
        raise DataError(
            f"given_split holds {strange[0]!r}"
            if strange
            else f"given_split is {str(kinds[0])!r} for every trial",
            where=where,
            hint="both of 'train' and 'valid' must be there, and nothing else",
        )
    return np.flatnonzero(kinds == "train"), np.flatnonzero(kinds == "valid")


def _check_split(n_trials: int, ratio: int, seed: int, kind: str) -> None:
    if kind not in SPLIT_KINDS:
        raise UsageError(f"{kind!r} is not a kind of split", hint=f"use one of {', '.join(SPLIT_KINDS)}")
    if int(ratio) != ratio or ratio < 1:
        raise UsageError(f"train_to_test_ratio is {ratio!r}", hint="use a whole number of 1 or more")
    if seed < 0:
        raise UsageError(f"the seed of the split is {seed!r}", hint="use a whole number of 0 or more")
    if n_trials < 2:
        raise DataError(
            f"{n_trials} trial(s) cannot be split: one must train and one must validate",
            hint="give at least 2 trials",
        )


def _condition_codes(condition: Sequence[Any] | npt.NDArray[Any], n_trials: int) -> npt.NDArray[np.int64]:
    """Return a whole number for each trial, the same for trials of the same condition."""
    values = np.asarray(condition)
    if values.shape != (n_trials,):
        raise DataError(
            f"conditions have shape {values.shape}, but there are {n_trials} trials",
            hint="give one condition a trial",
        )
    if values.dtype == object:
        values = values.astype(str)
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _systematic_sample(codes: npt.NDArray[np.int64], n_valid: int, seed: int) -> npt.NDArray[np.bool_]:
    n_trials = codes.size
    source = np.random.PCG64(seed)
    trial_keys = source.random_raw(n_trials)
    condition_keys = source.random_raw(int(codes.max()) + 1)
    start = int(source.random_raw()) % n_trials
    row = np.lexsort((trial_keys, condition_keys[codes]))
    passed = (start + np.arange(n_trials + 1, dtype=np.int64) * n_valid) // n_trials
    valid = np.zeros(n_trials, dtype=bool)
    valid[row] = np.diff(passed) > 0
    return valid
