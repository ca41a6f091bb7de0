"""How the sessions of a stitched run were aligned, as arrays with names."""

from __future__ import annotations

import os

import numpy as np
import xarray as xr

from lfadsrm_hpc.data.inputs import read_attributes, read_head, read_reconstruction
from lfadsrm_hpc.errors import ResultsError


def open_alignment(path: str | os.PathLike[str]) -> xr.Dataset:
    """Return how well the read-in of one input file reconstructs the components that all sessions share.

    Parameters
    ----------
    path : path
        An input file of a stitched run.

    Returns
    -------
    xr.Dataset
        `components` and `projection` (condition, time, component): the leading global components, and what
        the read-in makes of the session's averages; `r2_by_factor` (factor), NaN where there is no component;
        `r2_by_neuron` (neuron): how much of the variance of a neuron's averages the components explain.
        `time` in ms. Attributes: r2, r2_left_out, made_by, and the choices that it was made by.

    Raises
    ------
    ResultsError
        The session was not aligned by conditions; the message says how it starts.
    NotFoundError, DataError
        The file is not there, or cannot be read.
    """
    found = read_reconstruction(path)
    about = read_attributes(path).get("alignment", {})
    if found is None:
        raise ResultsError(
            f"this session was not aligned by conditions: {about.get('note') or 'no alignment was used'}",
            where=path,
        )
    names, _ = read_head(path)
    dims = ("condition", "time", "component")
    count = found.components.shape[2]
    return xr.Dataset(
        {
            "components": (dims, found.components),
            "projection": (dims, found.projection),
            "r2_by_factor": ("factor", found.r2_by_factor),
            "r2_by_neuron": ("neuron", found.r2_by_neuron),
        },
        coords={
            "condition": found.conditions,
            "time": ("time", found.time_ms, {"units": "ms"}),
            "component": np.arange(count),
            "neuron_name": ("neuron", names),
        },
        attrs={k: np.nan if value is None else value for k, value in about.items() if k != "r2_by_factor"},
    )
