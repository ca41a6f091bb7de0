"""What an input file keeps of how its read-in was made: arrays, and numbers for its attributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import h5py

Array = npt.NDArray[Any]

GROUP = "alignment"
MOST_COMPONENTS = 12  # what a figure can show; all would make files of long trials much larger
_ARRAYS = ("time_ms", "components", "projection", "r2_by_factor", "r2_by_neuron")


@dataclass(frozen=True)
class Reconstruction:
    """The leading global components, and what the read-in of one session makes of its own averages.

    C conditions, T bins, K components, at most `MOST_COMPONENTS`.

    Attributes
    ----------
    conditions : (C,) str
        Those that the session was regressed on.
    time_ms : (T,)
        Start of each bin; of other data for alignment, where they were used.
    components, projection : (C, T, K) float32
    r2_by_factor : (F,)
        Of all factors; see `lfadsrm_hpc.data.alignment.matrices.Alignment`.
    r2_by_neuron : (D,)
    """

    conditions: Array
    time_ms: Array
    components: Array
    projection: Array
    r2_by_factor: Array
    r2_by_neuron: Array


def store(file: h5py.File, reconstruction: Reconstruction | None) -> None:
    """Put the arrays into an open input file, in the place of those that are there."""
    import h5py

    if GROUP in file:
        del file[GROUP]
    if reconstruction is None:
        return
    group = file.create_group(GROUP)
    names = np.asarray(reconstruction.conditions).astype(str).astype(object)
    group.create_dataset("conditions", data=names, dtype=h5py.string_dtype())
    for key in _ARRAYS:
        values = getattr(reconstruction, key)
        packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if values.ndim > 1 else {}
        group.create_dataset(key, data=values, **packed)


def read(file: h5py.File) -> Reconstruction | None:
    """Return the arrays of an open input file; None where it has none."""
    if GROUP not in file:
        return None
    group = file[GROUP]
    names = np.asarray(group["conditions"].asstr()[...], dtype=str)
    return Reconstruction(names, **{key: group[key][...] for key in _ARRAYS})
