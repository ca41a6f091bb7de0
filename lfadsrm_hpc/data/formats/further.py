"""Further variables of a session that users name (behaviour, reaction times, ...): their dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.data.formats.trial_columns import TAKEN
from lfadsrm_hpc.errors import DataError, UsageError

Array = npt.NDArray[Any]


def with_further(
    ds: xr.Dataset, values: Mapping[str, Any], order: Sequence[str], *, where: object
) -> xr.Dataset:
    """Add variables (trial), (trial, own) or (trial, time, own) to a dataset.

    Parameters
    ----------
    ds : xr.Dataset
    values : mapping
        Name -> an array with trials first, or in `order` with its own dimension in the place of neurons; or a
        list with an array, a number or a text a trial.
    order : sequence of str
        The order of trial, time and neuron in the file; without trial for one recording.
    where : object

    Raises
    ------
    DataError
        It does not go by trials.
    UsageError
        A name that has another meaning.
    """
    found = {}
    for name, value in values.items():
        if name in TAKEN:
            raise UsageError(f"extra names {name!r}, which has a meaning of its own", hint="use another name")
        found[name] = _variable(name, value, ds.sizes["trial"], ds.sizes["time"], tuple(order), where)
    out: xr.Dataset = ds.assign(found)
    return out


def _variable(
    name: str, value: Any, n_trials: int, n_bins: int, order: tuple[str, ...], where: object
) -> xr.DataArray:
    inner = tuple(dim for dim in order if dim != "trial")
    array = np.asarray(value) if not _is_ragged(value) else np.array([], dtype=object)
    if array.dtype.kind not in "biufUS":
        raise DataError(
            f"{name} is neither numbers nor text, or has another shape in one trial than in another",
            where=where,
        )
    if array.dtype.kind == "S":
        array = np.char.decode(array)
    if "trial" not in order:  # one long recording
        array = array[None]
    listed = isinstance(value, list) or array.ndim != 3 or "trial" not in order
    array = array if listed else np.moveaxis(array, order.index("trial"), 0)
    if array.ndim == 0 or array.shape[0] != n_trials:
        array = array.reshape(-1) if array.size == n_trials else array
    if array.ndim == 0 or array.shape[0] != n_trials:
        raise DataError(f"{name} has the shape {array.shape}; there are {n_trials} trials", where=where)
    own = f"{name}_item"
    if array.ndim == 3 and n_bins in array.shape[1:]:
        place = 1 + inner.index("time")
        # positions are kept either way; the order of the file decides where both would do
        time = place if array.shape[place] == n_bins else 3 - place
        return xr.DataArray(np.moveaxis(array, time, 1), dims=("trial", "time", own))
    array = array.reshape(n_trials, -1)
    if array.shape[1] == 1:
        return xr.DataArray(array[:, 0], dims="trial")
    if array.shape[1] == n_bins:
        return xr.DataArray(array[:, :, None], dims=("trial", "time", own))
    return xr.DataArray(array, dims=("trial", own))


def _is_ragged(value: Any) -> bool:
    return isinstance(value, list) and len({np.shape(item) for item in value}) > 1
