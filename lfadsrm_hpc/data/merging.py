"""What was inferred in windows, merged back into recordings.

Merging takes weights that rise over the bins that a window shares with the one before, and fall over those
that it shares with the next, and that sum to one in every bin. Where windows agree, the result is what they
say, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.data.chopping import RECORDING, START, Array
from lfadsrm_hpc.errors import DataError, UsageError


def merge_windows(pm: xr.Dataset, names: Sequence[str] | None = None) -> dict[str, xr.Dataset]:
    """Merge what was inferred in windows back into recordings.

    Parameters
    ----------
    pm : xr.Dataset
        Posterior means of a chopped dataset, as they are loaded, or the dataset itself. Windows may be
        missing and in any order.
    names : sequence of str, optional
        Which variables; all over trial and time where left out.

    Returns
    -------
    dict of str to xr.Dataset
        By name of the recording: every variable without `trial`, over the time of the recording in ms from
        its first window to its last. Bins that no window covers are NaN. `split` (time) says of which part of
        the split the windows of a bin are, where `pm` has it, and is empty in gaps.

    Raises
    ------
    DataError
        It was not chopped, or windows do not start on bins: the overlap must be a whole number of the model's
        bins.
    UsageError
        A variable that is not there.
    """
    missing = [key for key in (START, RECORDING) if key not in pm.variables]
    if missing:
        raise DataError(
            f"these are no windows of a recording: there is no {missing[0]!r}", hint="chop it first"
        )
    numeric = {str(name): v for name, v in pm.data_vars.items() if v.dtype.kind in "biuf"}
    over_time = [name for name, v in numeric.items() if v.dims[:2] == ("trial", "time")]
    wrong = [name for name in names or () if name not in over_time]
    if wrong:
        raise UsageError(
            f"{wrong[0]!r} cannot be merged", hint=f"over trial and time there is: {', '.join(over_time)}"
        )
    labels = pm[RECORDING].to_numpy().astype(str)
    return {
        label: _merged(pm, np.flatnonzero(labels == label), names or over_time)
        for label in dict.fromkeys(labels)
    }


def _merged(pm: xr.Dataset, rows: npt.NDArray[np.int64], names: Sequence[str]) -> xr.Dataset:
    bin_ms = float(np.asarray(pm.attrs["bin_ms"]))
    starts = pm[START].to_numpy().astype(float)[rows]
    rows, starts = rows[np.argsort(starts, kind="stable")], np.sort(starts)
    places = (starts - starts[0]) / bin_ms
    firsts = np.rint(places).astype(np.int64)
    if (
        not np.isfinite(places).all()
        or (np.abs(places - firsts) > 1e-3).any()
        or (np.diff(firsts) == 0).any()
    ):
        raise DataError(
            f"windows do not start on bins of {bin_ms:g} ms, or two start at one time",
            hint="chop with a window and an overlap that are whole numbers of the model's bins",
        )
    length = pm.sizes["time"]
    n_bins = int(firsts[-1]) + length
    weights = blending_weights(firsts, length)
    variables = {}
    for name in names:
        variable = pm[name]
        values = _blend(variable.isel(trial=rows).to_numpy(), firsts, weights, n_bins)
        variables[name] = (variable.dims[1:], values, variable.attrs)
    coords = {key: coord for key, coord in pm.coords.items() if not {"trial", "time"} & set(coord.dims)}
    time = starts[0] + float(pm["time"][0]) + bin_ms * np.arange(n_bins)
    merged: xr.Dataset = xr.Dataset(
        variables, coords={**coords, "time": ("time", time, {"units": "ms"})}, attrs=pm.attrs
    )
    if "split" not in pm.variables:
        return merged
    split = np.full(n_bins, "", dtype="U5")
    for first, kind in zip(firsts, pm["split"].to_numpy()[rows], strict=True):
        split[first : first + length] = str(kind)
    labelled: xr.Dataset = merged.assign_coords(split=("time", split))
    return labelled


def blending_weights(firsts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.float64]:
    """Return the weight of each bin of each window; in each bin that is covered they sum to one.

    A weight rises in even steps over the bins that a window shares with the one before, and falls over those
    that it shares with the next; where there is none, at the ends and beside gaps, it stays.

    Parameters
    ----------
    firsts : (W,) int
        First bin of each window, increasing.
    length : int
        Bins of a window.

    Returns
    -------
    (W, length) float64

    Examples
    --------
    >>> blending_weights(np.array([0, 2]), 4).round(3).tolist()
    [[1.0, 1.0, 0.667, 0.333], [0.333, 0.667, 1.0, 1.0]]
    """
    shared = np.concatenate([[0], np.maximum(length - np.diff(firsts), 0), [0]])
    bins = np.arange(length)
    rise = np.minimum(1.0, (bins + 1) / (shared[:-1, None] + 1))
    fall = np.minimum(1.0, (length - bins) / (shared[1:, None] + 1))
    raw = np.minimum(rise, fall)
    total = np.zeros(int(firsts[-1]) + length)
    for first, one in zip(firsts, raw, strict=True):
        total[first : first + length] += one
    return np.stack([one / total[first : first + length] for first, one in zip(firsts, raw, strict=True)])


def _blend(
    values: Array, firsts: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], n_bins: int
) -> Array:
    """Return the weighted mean of windows in each bin of the recording.

    As a running mean, m + (w / sum of w) (x - m): where windows agree nothing is added, so nothing is
    rounded.
    """
    is_float = values.dtype.kind == "f"
    out = np.full((n_bins, *values.shape[2:]), np.nan)
    done = np.zeros(n_bins)
    for one, first, weight in zip(values, firsts, weights, strict=True):
        here = slice(first, first + len(weight))
        done[here] += weight
        second = done[here] > weight  # another window was here before
        share = (weight / done[here]).reshape(-1, *[1] * (values.ndim - 2))
        blended = out[here] + share * (one - out[here])
        out[here] = np.where(second.reshape(share.shape), blended, one)
    covered = done > 0
    if is_float:
        return out.astype(values.dtype, copy=False)
    whole = bool(covered.all()) and bool((out == np.rint(out)).all())
    return out.astype(values.dtype) if whole else out
