"""Samples from the prior of a model as one xr.Dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.results.posterior_means.format import VARIABLES

_NAMES = {
    "rates": "firing rate",
    "output_mean": "expected value",
    "output_var": "variance of the values",
    "factors": "latent factors",
    "generator_states": "states of the generator network",
    "generator_ics": "initial states of the generator network",
    "controller_outputs": "inferred inputs to the generator",
}


def prior_dataset(
    arrays: Mapping[str, npt.NDArray[Any]],
    *,
    time_ms: npt.ArrayLike,
    bin_ms: float,
    neuron_names: Sequence[str] | npt.NDArray[Any],
    attributes: Mapping[str, object],
) -> xr.Dataset:
    """Return samples from a prior with their dimensions and units.

    Parameters
    ----------
    arrays : mapping
        Samples first, as `lfadsrm_hpc.model.sampling.prior_samples` names them; rates in counts per bin.
    time_ms : (T,) start of each bin; bin_ms : its width.
    neuron_names : (D,)
    attributes : mapping
        What the Dataset says of its origin.

    Returns
    -------
    xr.Dataset
        dims sample, time (ms), neuron (and `neuron_name`), factor, generator_unit, controller_output; rates
        are in spikes/s.

    Examples
    --------
    >>> ds = prior_dataset({"rates": np.full((3, 2, 1), 0.1)}, time_ms=[0, 10], bin_ms=10.0,
    ...                    neuron_names=["a"], attributes={})
    >>> float(ds.rates.max()), ds.rates.dims
    (10.0, ('sample', 'time', 'neuron'))
    """
    variables = {}
    for name, values in arrays.items():
        about = VARIABLES[name]
        dims = ("sample", *about.dims[1:])
        values = values * (1000.0 / bin_ms) if name == "rates" else values
        notes = {"units": about.units, "long_name": f"{_NAMES[name]}, drawn from the prior"}
        variables[name] = (dims, np.asarray(values, np.float32), notes)
    names = np.array([str(name) for name in neuron_names], dtype=object)
    coords = {
        "sample": np.arange(len(next(iter(arrays.values())))),
        "time": ("time", np.asarray(time_ms, float), {"units": "ms", "long_name": "start of the bin"}),
        "neuron": np.arange(len(names)),
        "neuron_name": ("neuron", names),
    }
    return xr.Dataset(variables, coords, {"bin_ms": bin_ms, **attributes})
