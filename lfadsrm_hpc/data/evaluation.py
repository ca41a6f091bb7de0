"""Neurons and bins that a dataset wants withheld from the encoders (co-smoothing, forward prediction).

A dataset says it by the coordinate `held_out` (neuron), bool, and the attribute `forward_ms`, the length of
the last bins. What withholds them are the run params `held_out_neurons` and `forward_prediction_bins`;
`evaluation_params` gives their values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

HELD_OUT, FORWARD = "held_out_neurons", "forward_ms"


def state(ds: xr.Dataset, held_out: npt.NDArray[np.bool_], forward_bins: int) -> xr.Dataset:
    """Return a dataset that says which neurons and last bins are withheld; without either it says nothing."""
    if held_out.any():
        ds = ds.assign_coords(held_out=("neuron", held_out))
    if forward_bins:
        ds = ds.assign_attrs({FORWARD: forward_bins * float(ds.attrs["bin_ms"])})
    return ds


def statement_of(ds: xr.Dataset) -> dict[str, Any]:
    """Return what a dataset says as plain values, `held_out_neurons` and `forward_ms`; empty for nothing."""
    found: dict[str, Any] = {}
    if "held_out" in ds.variables and ds["held_out"].dims == ("neuron",) and bool(ds["held_out"].any()):
        found[HELD_OUT] = np.flatnonzero(ds["held_out"].to_numpy()).tolist()
    if float(ds.attrs.get(FORWARD, 0.0)) > 0:
        found[FORWARD] = float(ds.attrs[FORWARD])
    return found


def evaluation_params(dataset: xr.Dataset | dict[str, Any], spike_bin_ms: float) -> dict[str, Any]:
    """Return the run params that withhold what a dataset wants withheld.

    Parameters
    ----------
    dataset : xr.Dataset or dict
        The latter is what `statement_of` returns.
    spike_bin_ms : float
        Width of the model's bins.

    Returns
    -------
    dict
        `held_out_neurons` (0-based indices) and `forward_prediction_bins`, each where there is something to
        withhold: `RunParams(spike_bin_ms=5, **evaluation_params(ds, 5))`.

    Raises
    ------
    DataError
        The withheld time is no whole number of the model's bins.

    Examples
    --------
    >>> evaluation_params({"held_out_neurons": [3, 4], "forward_ms": 200.0}, 20)
    {'held_out_neurons': (3, 4), 'forward_prediction_bins': 10}
    """
    said = dataset if isinstance(dataset, dict) else statement_of(dataset)
    params: dict[str, Any] = {}
    if said.get(HELD_OUT):
        params["held_out_neurons"] = tuple(int(i) for i in said[HELD_OUT])
    forward = float(said.get(FORWARD, 0.0))
    if forward > 0:
        bins = round(forward / spike_bin_ms)
        if bins < 1 or abs(bins * spike_bin_ms - forward) > 1e-6 * forward:
            raise DataError(
                f"the last {forward:g} ms are withheld, which is no whole number of bins of "
                f"{spike_bin_ms:g} ms",
                hint="choose spike_bin_ms so that it goes into them",
            )
        params["forward_prediction_bins"] = bins
    return params


def unused(said: dict[str, Any], params: Any) -> str | None:
    """Return what is to be said where run params do not withhold what a dataset wants withheld; None if they
    do.

    Parameters
    ----------
    said : mapping
        What `statement_of` returns.
    params : RunParams
        With spike_bin_ms, held_out_neurons and forward_prediction_bins.
    """
    try:
        wanted = evaluation_params(said, params.spike_bin_ms)
    except DataError as error:
        return f"{error.what}: {error.hint}"
    usual = {"held_out_neurons": None, "forward_prediction_bins": 0}
    missing = {key: value for key, value in wanted.items() if getattr(params, key) == usual[key]}
    if not missing:
        return None
    values = ", ".join(f"{key}={list(v) if isinstance(v, tuple) else v}" for key, v in missing.items())
    return (
        f"the file wants neurons or bins withheld from the encoders, and the run params do not: set {values}"
    )


def held_out_text(held_out: npt.NDArray[np.bool_], forward_bins: int) -> str:
    """Return how much is withheld, in words."""
    parts = [f"{int(held_out.sum())} held-out neurons"] if held_out.any() else []
    parts += [f"the last {forward_bins} bins"] if forward_bins else []
    return " and of ".join(parts)
