"""LFADS input files: written whole or not at all, and read.

The file has the keys of the original LFADS and of the Matlab run manager, and some of our own:

======================================= ========================================= =====================
key                                     shape, type                               meaning
======================================= ========================================= =====================
train_data, valid_data                  (trials, time, neurons) int64 or float64  counts a bin, or values
train_truth, valid_truth                (trials, time, neurons) float             optional: spikes/s
train_ext_input, valid_ext_input        (trials, time, inputs) float64            optional
train_inds, valid_inds                  (trials,) float64, from 1                 trials of the dataset
conversion_factor                       (1,) float64                              truth x this = counts a bin
alignment_matrix_cxf, alignment_bias_c  (neurons, factors), (neurons,) float64    optional: read-in
time_ms, neuron_names                   (time,) float64, (neurons,) text          ours
train_condition, valid_condition        (trials,) text or numbers                 ours, optional
extra/<name>/train, valid               (trials,), (.., time), (.., [time,] own)  further variables
alignment                               group, see `alignment.record`             ours, optional
======================================= ========================================= =====================

`train_inds` and `valid_inds` have the attribute `index_base` = 1; in memory they count from 0.
Attributes of the file: `format`, `dataset`, `bin_ms`, `fingerprint` of the data it was made from, and
`attributes` (JSON), in which `alignment` tells how the read-in was made and how well it reconstructs;
`extra_fingerprint` of the further variables.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lfadsrm_hpc.beside import appearing, flush
from lfadsrm_hpc.data.alignment import record as alignment_record
from lfadsrm_hpc.data.extra_file import fill_extra, read_extra
from lfadsrm_hpc.data.formats.foreign import check_file
from lfadsrm_hpc.data.hdf5_arrays import optional, store, store_vector, text
from lfadsrm_hpc.data.inputs.session import SPLITS, Array, SessionInputs
from lfadsrm_hpc.data.validation import trial_arrays
from lfadsrm_hpc.errors import DataError, LfadsrmError, NotFoundError
from lfadsrm_hpc.plain_files import parse_json

FORMAT = "lfadsrm-inputs-1"
# What h5py and numpy raise where a file is cut off or bytes of it are others.
_DAMAGE = (LookupError, OSError, ValueError, TypeError, AttributeError, RuntimeError)
_REPAIR = "an input of a collection is written anew: delete this file, then `lfadsrm prepare`"


def write_inputs(path: str | os.PathLike[str], inputs: SessionInputs) -> None:
    """Write an input file; it appears under its name complete, or not at all.

    Data that are whole numbers are stored as int64, else as float64.

    Parameters
    ----------
    path : path
    inputs : SessionInputs

    Raises
    ------
    OSError
        The disk is full, the folder cannot be written. Nothing is left behind.
    """
    target = Path(path)
    with appearing(target) as beside, h5py.File(beside, "x", locking=False) as file:
        _fill(file, inputs)
    flush(target.parent)


def _fill(file: h5py.File, inputs: SessionInputs) -> None:
    for key, part, values in trial_arrays(inputs):
        store(file, f"{part}_{key}", _storable(key, values))
    for part in SPLITS:
        stored = file.create_dataset(
            f"{part}_inds", data=np.asarray(getattr(inputs, f"{part}_inds"), dtype=np.float64) + 1.0
        )
        stored.attrs["index_base"] = 1
        condition = getattr(inputs, f"{part}_condition")
        if condition is not None:
            store_vector(file, f"{part}_condition", np.asarray(condition))
    file.create_dataset("conversion_factor", data=np.array([inputs.bin_ms / 1000.0]))
    file.create_dataset("time_ms", data=np.asarray(inputs.time_ms, dtype=np.float64))
    store_vector(file, "neuron_names", np.asarray(inputs.neuron_names))
    for key in ("alignment_matrix_cxf", "alignment_bias_c"):
        if getattr(inputs, key) is not None:
            file.create_dataset(key, data=np.asarray(getattr(inputs, key), dtype=np.float64))
    alignment_record.store(file, inputs.reconstruction)
    fill_extra(file, inputs.extra, inputs.extra_attrs)
    file.attrs["format"] = FORMAT
    file.attrs["dataset"] = inputs.dataset
    file.attrs["bin_ms"] = float(inputs.bin_ms)
    file.attrs["fingerprint"] = inputs.fingerprint
    file.attrs["attributes"] = json.dumps(inputs.attributes, sort_keys=True)


def _storable(key: str, values: Array) -> Array:
    if key == "data" and (values.dtype.kind in "biu" or np.array_equal(values, np.floor(values))):
        return values.astype(np.int64, copy=False)
    if key == "truth" and values.dtype == np.float32:
        return values  # half the file; only figures and scores read it
    return values.astype(np.float64, copy=False)


def read_inputs(path: str | os.PathLike[str]) -> SessionInputs:
    """Read an input file that `write_inputs` wrote.

    Parameters
    ----------
    path : path

    Raises
    ------
    NotFoundError
        There is no such file.
    DataError
        It is not such a file, or damaged.
    """
    with _reading(path) as file:
        return _session(file)


@contextlib.contextmanager
def open_inputs(path: str | os.PathLike[str]) -> Iterator[SessionInputs]:
    """Open an input file whose data, truth and external inputs stay on disk: slices are read when used.

    They are `h5py.Dataset` in place of arrays, and can be used inside the `with` alone.

    Raises
    ------
    NotFoundError, DataError
        As `read_inputs`.
    """
    with _open(path) as file:
        with _damage_named(path):
            session = _session(file, on_disk=True)
        yield session


def _session(file: h5py.File, *, on_disk: bool = False) -> SessionInputs:
    parts: dict[str, Any] = {}
    for part in SPLITS:
        for key in ("data", "truth", "ext_input"):
            stored = file[f"{part}_data"] if key == "data" else file.get(f"{part}_{key}")
            parts[f"{part}_{key}"] = stored if on_disk or stored is None else stored[...]
        inds = file[f"{part}_inds"]
        parts[f"{part}_inds"] = np.rint(inds[...]).astype(np.int64) - int(inds.attrs["index_base"])
        parts[f"{part}_condition"] = optional(file, f"{part}_condition")
    extra, extra_attrs = read_extra(file)
    return SessionInputs(
        dataset=str(file.attrs["dataset"]),
        time_ms=file["time_ms"][...],
        bin_ms=float(file.attrs["bin_ms"]),
        neuron_names=text(file["neuron_names"]),
        alignment_matrix_cxf=optional(file, "alignment_matrix_cxf"),
        alignment_bias_c=optional(file, "alignment_bias_c"),
        reconstruction=alignment_record.read(file),
        fingerprint=str(file.attrs["fingerprint"]),
        attributes=parse_json(file.attrs["attributes"]),
        extra=extra,
        extra_attrs=extra_attrs,
        **parts,
    )


def read_fingerprint(path: str | os.PathLike[str]) -> str:
    """Return the fingerprint of the data that an input file was made from, without reading the data.

    Raises
    ------
    NotFoundError, DataError
        As `read_inputs`.
    """
    with _reading(path) as file:
        return str(file.attrs["fingerprint"])


def read_extra_fingerprint(path: str | os.PathLike[str]) -> str:
    """Return the fingerprint of the further variables of an input file, without reading them; empty for none.

    Raises
    ------
    NotFoundError, DataError
        As `read_inputs`.
    """
    with _reading(path) as file:
        return str(file.attrs.get("extra_fingerprint", ""))


def read_attributes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the plain values that an input file holds, `alignment` among them, without reading the data.

    Raises
    ------
    NotFoundError, DataError
        As `read_inputs`.
    """
    with _reading(path) as file:
        return dict(parse_json(file.attrs["attributes"]))


def read_reconstruction(path: str | os.PathLike[str]) -> alignment_record.Reconstruction | None:
    """Return how an input file's read-in reconstructs the components, without reading the data.

    None where it has no read-in that was regressed.

    Raises
    ------
    NotFoundError, DataError
        As `read_inputs`.
    """
    with _reading(path) as file:
        return alignment_record.read(file)


def read_head(path: str | os.PathLike[str]) -> tuple[Array, int]:
    """Return the names of the neurons and the number of bins, without reading the data.

    Raises
    ------
    NotFoundError, DataError
        As `read_inputs`.
    """
    with _reading(path) as file:
        return text(file["neuron_names"]), len(file["time_ms"])


def read_times(path: str | os.PathLike[str]) -> Array:
    """Return the start of each bin in ms, (T,), without reading the data.

    Raises
    ------
    NotFoundError, DataError
        As `read_inputs`.
    """
    with _reading(path) as file:
        return np.asarray(file["time_ms"][()])


@contextlib.contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    with _open(path) as file, _damage_named(path):
        yield file


@contextlib.contextmanager
def _damage_named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say which file it is when its parts are missing, or not what they should be."""
    try:
        yield
    except LfadsrmError:
        raise
    except _DAMAGE as error:
        raise DataError(
            f"a part of the input file cannot be read: {error}", where=path, hint=_REPAIR
        ) from error


def _open(path: str | os.PathLike[str]) -> h5py.File:
    if not Path(path).is_file():
        raise NotFoundError(
            "there is no such input file", where=path, hint="prepare the collection: lfadsrm prepare"
        )
    try:
        check_file(Path(path))
        # no lock: the file never changes, and locks fail on many cluster file systems
        file = h5py.File(path, "r", locking=False)
        is_ours = file.attrs.get("format") == FORMAT
    except LfadsrmError:
        raise
    except _DAMAGE as error:
        raise DataError(f"the input file cannot be read: {error}", where=path, hint=_REPAIR) from error
    if not is_ours:
        file.close()
        raise DataError(
            f"not an input file of this version (format {FORMAT})",
            where=path,
            hint="read files of other programs with lfadsrm_hpc.data.readers",
        )
    return file
