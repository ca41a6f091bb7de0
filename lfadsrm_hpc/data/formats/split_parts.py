"""Training and validation parts of a file -> one dataset, trials in the order of their indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError

Array = npt.NDArray[Any]
PARTS = ("train", "valid")


def merge(
    parts: Mapping[str, Mapping[str, Any]], keys: Sequence[str], *, where: object
) -> tuple[dict[str, Array], Array]:
    """Merge the parts.

    Parameters
    ----------
    parts : mapping
        "train" and "valid", or one of them, to arrays by kind: `data`, perhaps `inds` and others, trials
        first.
    keys : sequence of str
        The kinds that matter.
    where : object

    Returns
    -------
    arrays, part of each trial
        In the order of the `inds`, whatever they count from; without them training trials come first.

    Raises
    ------
    DataError
        The parts do not go together.
    """
    merged: dict[str, Array] = {}
    for key in keys:
        there = {name: np.asarray(part[key]) for name, part in parts.items() if key in part}
        if not there:
            continue
        names = " and ".join(f"{name}_{key}" for name in parts)
        shapes = [values.shape for values in there.values()]
        if len(there) < len(parts) or any(np.shape(v)[1:] != shapes[0][1:] for v in there.values()):
            raise DataError(
                f"{names} do not go together: shapes {shapes}",
                where=where,
                hint="both must be there, and differ in the number of trials only",
            )
        counts = {name: values.shape[0] for name, values in there.items() if values.ndim}
        wrong = [
            name for name, n in counts.items() if key != "inds" and n != len(np.asarray(parts[name]["data"]))
        ]
        if wrong:
            raise DataError(
                f"{wrong[0]}_{key} and {wrong[0]}_data have unequal numbers of trials", where=where
            )
        merged[key] = np.concatenate(list(there.values()))
    labels = np.repeat(list(parts), [len(part["data"]) for part in parts.values()])
    n_trials = len(merged["data"])
    inds = np.asarray(merged.pop("inds", np.arange(n_trials)), dtype=float).ravel()
    if not np.isfinite(inds).all() or len(np.unique(inds)) != n_trials or inds.size != n_trials:
        names = " and ".join(f"{name}_inds" for name in parts)
        raise DataError(
            f"{names} name {np.unique(inds[np.isfinite(inds)]).size} trials, the data have {n_trials}",
            where=where,
        )
    order = np.argsort(inds)
    return {key: values[order] for key, values in merged.items()}, labels[order]


def along(merged: Mapping[str, Array], n_bins: int) -> dict[str, tuple[tuple[str, ...], Array]]:
    """Return dims and values of the behaviour and the latents that go along with the counts.

    Behaviour often ends with the bins that encoders see; what is not known after them is NaN.
    """
    found: dict[str, tuple[tuple[str, ...], Array]] = {}
    for key, channel in (("behavior", "behavior_channel"), ("lowd", "latent")):
        values = merged.get(key)
        if values is None:
            continue
        if values.ndim == 3 and values.shape[1] <= n_bins:
            known = np.full((len(values), n_bins, values.shape[2]), np.nan)
            known[:, : values.shape[1]] = values
            found[key] = (("trial", "time", channel), known)
        elif values.ndim == 1:
            found[key] = (("trial",), values)
        else:
            found[key] = (("trial", f"{key}_item"), values.reshape(len(values), -1))
    return found
