"""Further variables of a session that go with a run: behaviour, latents, reaction times.

LFADS does not see them. They are kept in the input file of the run (`extra/<name>`), split like the counts
and averaged over wider bins, for who decodes or draws from a collection alone. Those of `CARRIED_TO_RESULTS`
reach the posterior means too.

They are not part of the data's fingerprint, since a fit does not depend on them: a corrected behaviour needs
no new fit. They have a fingerprint of their own, so that preparing can say when the file holds older ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import xarray as xr

Array = npt.NDArray[Any]
CARRIED_TO_RESULTS = ("window_start", "recording", "trial_id")
"""Variables (trial) that posterior means have as coordinates."""

_OTHERS = ("spikes", "truth", "external_input", "condition", "trial", "time", "given_split")


class Extra(NamedTuple):
    """A further variable, its training and its validation trials."""

    dims: tuple[str, ...]
    train: Array
    valid: Array


def collect(ds: xr.Dataset) -> tuple[dict[str, tuple[tuple[str, ...], Array]], dict[str, dict[str, Any]]]:
    """Return the further variables of a dataset, and what is said of them.

    Parameters
    ----------
    ds : xr.Dataset
        In the form of `lfadsrm_hpc.data.form`, binned as the model's bins are.

    Returns
    -------
    dict of name to (dims, values)
        Dims are (trial), (trial, time), (trial, own) or (trial, time, own); values numbers or text.
    dict of name to attributes
        `units` and others that JSON can hold; `labels`, the names along the own dimension.
    """
    found: dict[str, tuple[tuple[str, ...], Array]] = {}
    about: dict[str, dict[str, Any]] = {}
    for key, variable in ds.variables.items():
        name = str(key)
        dims = tuple(str(dim) for dim in variable.dims)
        if name in _OTHERS or "trial" not in dims or len(dims) > 3:
            continue
        order = ("trial", *(d for d in dims if d == "time"), *(d for d in dims if d not in ("trial", "time")))
        if len(order) == 3 and order[1] != "time":
            continue
        values = _storable(np.asarray(variable.transpose(*order).to_numpy()))
        if values is None:
            continue
        found[name] = (order, values)
        about[name] = {str(k): v for k, v in variable.attrs.items() if isinstance(v, str | int | float)}
        own = order[-1]
        if own in ds.coords and own not in ("trial", "time", "neuron", "input"):
            about[name]["labels"] = ds[own].to_numpy().tolist()
    return found, about


def left_out(ds: xr.Dataset) -> list[str]:
    """Return the names of variables by trial that cannot be kept with a run: neither numbers nor text, or of
    other dimensions.
    """
    kept = collect(ds)[0]
    by_trial = [str(name) for name, v in ds.variables.items() if "trial" in v.dims]
    return [name for name in by_trial if name not in kept and name not in _OTHERS]


def _storable(values: Array) -> Array | None:
    if values.dtype.kind in "biufU":
        return values
    if values.dtype.kind == "M":
        return np.datetime_as_string(values)
    if values.dtype.kind in "OT" and all(isinstance(v, str) for v in values.ravel().tolist()):
        return values.astype(str)
    return None


def digest(extra: Mapping[str, Extra], about: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a fingerprint of further variables; an empty text for none."""
    if not extra:
        return ""
    found = hashlib.sha256(b"lfadsrm_hpc extra 1")
    for name in sorted(extra):
        dims, *parts = extra[name]
        found.update(json.dumps([name, dims, about.get(name, {})], sort_keys=True, default=str).encode())
        for values in parts:
            found.update(json.dumps([list(values.shape), values.dtype.kind]).encode())
            if values.dtype.kind in "biuf":
                plain = values.astype("<f8" if values.dtype.kind == "f" else "<i8")
                found.update(np.ascontiguousarray(plain).tobytes())
            else:
                found.update(json.dumps(values.tolist()).encode())
    return found.hexdigest()


def storage_key(name: str) -> str:
    """Return a name that HDF5 takes for one link: it splits names at "/"."""
    return name.replace("%", "%25").replace("/", "%2F") if name != "." else "%2E"


def name_of(key: str) -> str:
    """Return the name that `storage_key` was given."""
    return key.replace("%2E", ".").replace("%2F", "/").replace("%25", "%")
