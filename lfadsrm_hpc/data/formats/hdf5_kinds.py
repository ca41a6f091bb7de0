"""What kind of HDF5 file an `.h5` file is, from the names at its root."""

from __future__ import annotations

from pathlib import Path

import h5py

_NLB_KEYS = ("train_encod_data", "train_recon_data", "valid_encod_data", "test_encod_data")


def kind_of(path: Path) -> str:
    """Return the name of the format: netcdf, nwb, nlb, lfads, or hdf5 for all others.

    A file that cannot be opened is "hdf5": the reader of these says what is wrong with it.
    """
    try:
        with h5py.File(path, "r") as file:
            names = set(file)
            if "nwb_version" in file.attrs:
                return "nwb"
            if names & set(_NLB_KEYS):
                return "nlb"
            if "train_data" in names:
                return "lfads"
            return "netcdf" if "_NCProperties" in file.attrs else "hdf5"
    except (OSError, RuntimeError, ValueError, KeyError):
        return "hdf5"
