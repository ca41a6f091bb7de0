"""Wider bins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lfadsrm_hpc.errors import DataError

if TYPE_CHECKING:
    import xarray as xr


def rebin(ds: xr.Dataset, bin_ms: float, *, truncate: bool = False) -> xr.Dataset:
    """Widen the time bins of a dataset.

    Spikes are summed; every other numeric variable over time (truth in spikes/s, external inputs, ...) is
    averaged; `time` and other coordinates along it keep the value of the first bin that goes into a new one.

    Parameters
    ----------
    ds : xr.Dataset
        In the form of `lfadsrm_hpc.data.form`: `spikes (trial, time, neuron)` and the attribute `bin_ms`.
    bin_ms : float
        The new bin width in ms, a whole multiple of the present one.
    truncate : bool
        Drop the bins at the end that do not fill a new bin. Without it they are an error.

    Returns
    -------
    xr.Dataset
        With `bin_ms` as the new attribute; the given dataset is not changed.

    Raises
    ------
    DataError
        Where the new width is not a whole multiple of the old, or bins are left over. The message says which
        widths fit.
    """
    import xarray as xr

    name = str(ds.attrs.get("name", "dataset"))
    factor = _rebin_factor(ds, name, bin_ms, truncate)
    n_bins = ds.sizes["time"] // factor
    cut = ds.isel(time=slice(0, n_bins * factor))
    coords = {
        str(key): coord.isel(time=slice(None, None, factor)) if "time" in coord.dims else coord
        for key, coord in cut.coords.items()
    }
    data = {str(key): _pool(str(key), variable, factor) for key, variable in cut.data_vars.items()}
    return xr.Dataset(data, coords=coords, attrs={**ds.attrs, "bin_ms": float(bin_ms)})


def _pool(key: str, variable: xr.DataArray, factor: int) -> Any:
    """Sum (spikes) or average (all else) groups of `factor` bins."""
    if "time" not in variable.dims:
        return variable
    axis = variable.dims.index("time")
    values = variable.to_numpy()
    shape = values.shape
    groups = values.reshape(*shape[:axis], shape[axis] // factor, factor, *shape[axis + 1 :])
    if key == "spikes":
        return variable.dims, groups.sum(axis=axis + 1), variable.attrs
    if not np.issubdtype(values.dtype, np.number) and values.dtype != bool:
        return variable.dims, groups.take(0, axis=axis + 1), variable.attrs
    return variable.dims, groups.mean(axis=axis + 1), variable.attrs


def _rebin_factor(ds: xr.Dataset, name: str, bin_ms: float, truncate: bool) -> int:
    """Return how many present bins make a new one, or say which widths fit."""
    old = ds.attrs.get("bin_ms")
    if old is None:
        raise DataError(
            f"dataset {name!r} does not say how wide its bins are", hint="set its attribute 'bin_ms'"
        )
    n_bins = ds.sizes["time"]
    ratio = float(bin_ms) / float(old)
    factor = round(ratio) if np.isfinite(ratio) else 0
    if factor < 1 or abs(ratio - factor) > 1e-6 * factor:
        raise DataError(
            f"bins of {float(old):g} ms cannot be combined to bins of {bin_ms:g} ms",
            where=f"dataset {name!r}",
            hint=f"use one of {_fitting_widths(n_bins, float(old))}",
        )
    if factor > n_bins or (n_bins % factor and not truncate):
        raise DataError(
            f"{n_bins} bins of {float(old):g} ms are not a whole number of bins of {bin_ms:g} ms: "
            f"{n_bins % factor} left over",
            where=f"dataset {name!r}",
            hint=f"use one of {_fitting_widths(n_bins, float(old))}, or cut the trials (truncate=True)",
        )
    return factor


def _fitting_widths(n_bins: int, old: float, most: int = 12) -> str:
    """Name the widths into which all bins go, narrowest first."""
    widths = [f"{k * old:g}" for k in range(1, n_bins + 1) if n_bins % k == 0]
    return ", ".join(widths[:most]) + (", ..." if len(widths) > most else "") + " ms"
