"""Further variables of a session in the input files of runs: `extra/<name>/{train,valid}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import h5py

from lfadsrm_hpc.data.extra import Extra, digest, name_of, storage_key
from lfadsrm_hpc.data.hdf5_arrays import optional, store, store_vector

_SPLITS = ("train", "valid")


def fill_extra(file: h5py.File, extra: Mapping[str, Extra], about: Mapping[str, Mapping[str, Any]]) -> None:
    """Write further variables and their fingerprint."""
    for name, (dims, *parts) in extra.items():
        group = file.create_group(f"extra/{storage_key(name)}")
        group.attrs["dims"] = json.dumps(dims)
        group.attrs["about"] = json.dumps(about.get(name, {}))
        for part, values in zip(_SPLITS, parts, strict=True):
            if values.ndim > 1 and values.dtype.kind in "biuf":
                store(group, part, values)
            else:
                store_vector(group, part, values)
    file.attrs["extra_fingerprint"] = digest(extra, about)


def read_extra(file: h5py.File) -> tuple[dict[str, Extra], dict[str, dict[str, Any]]]:
    """Return further variables, and what is said of them.

    Raises
    ------
    ValueError
        One lacks a part.
    """
    found: dict[str, Extra] = {}
    about: dict[str, dict[str, Any]] = {}
    for key, group in file.get("extra", {}).items():
        name = name_of(key)
        train, valid = (optional(group, part) for part in _SPLITS)
        if train is None or valid is None:
            raise ValueError(f"extra/{key} lacks a part")
        found[name] = Extra(tuple(json.loads(group.attrs["dims"])), train, valid)
        about[name] = json.loads(group.attrs["about"])
    return found, about
