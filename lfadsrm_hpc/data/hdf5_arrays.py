"""Arrays and texts in HDF5 files: compressed by trials, read back as they were."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def store(file: h5py.Group, name: str, values: Array) -> None:
    """Store an array, trials first: compressed, in chunks of whole trials."""
    trials = max(1, min(len(values), 2**18 // max(1, values[:1].size)))
    file.create_dataset(
        name,
        data=values,
        chunks=(trials, *values.shape[1:]) if values.size else None,
        compression="gzip" if values.size else None,
        compression_opts=1 if values.size else None,
        shuffle=bool(values.size),
    )


def store_vector(file: h5py.Group, name: str, values: Array) -> None:
    """Store numbers as they are, all else as text."""
    if values.dtype.kind in "biuf":
        file.create_dataset(name, data=values)
    else:
        file.create_dataset(name, data=values.astype(str).astype(object), dtype=h5py.string_dtype())


def optional(file: h5py.Group, name: str) -> Array | None:
    """Return an array or texts; None where there is none of this name."""
    if name not in file:
        return None
    stored = file[name]
    return text(stored) if h5py.check_string_dtype(stored.dtype) else stored[...]


def text(stored: h5py.Dataset) -> Array:
    """Return stored texts."""
    return np.asarray(stored.asstr()[...], dtype=str)
