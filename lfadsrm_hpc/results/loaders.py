"""Open posterior means lazily: one file as an xr.Dataset, many as one xr.DataTree.

Opening reads the indices of trial, time and neuron; all else is read from disk when it is used, and only the
chunks that are asked for. No dask is needed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.results.posterior_format import FORMAT, FORMAT_VERSION

# A run that is complete is passed over by a plain `lfadsrm run`.
_AGAIN = "make them again from the trained model: `lfadsrm run --posterior-only`"


def open_posterior_means(path: str | os.PathLike[str], *, expect_token: str | None = None) -> xr.Dataset:
    """Open the posterior means of one dataset of one run, lazily.

    Parameters
    ----------
    path : path
        `posterior_means/<dataset>.nc`.
    expect_token : str, optional
        Token of the claim whose exit record says success; a file of any other claim is refused.

    Returns
    -------
    xr.Dataset
        dims trial, time, neuron, factor, generator_unit, controller_output, ic; see
        `lfadsrm_hpc.results.posterior_format.VARIABLES`. `time` in ms, `rates` in spikes/s. `rates_std` and
        other `<name>_std` are standard deviations over posterior samples (n - 1 degrees of freedom); files of
        format 1, of push-mean and of a single sample have none.
        `neuron` and `trial` are integer indices, so `pm.rates.sel(neuron=0)` reads one neuron alone.

    Raises
    ------
    ResultsError
        The file is missing, incomplete, damaged, of another program, or of another attempt.
    """
    path = Path(path).absolute()
    if not path.exists():
        raise ResultsError(
            "there are no posterior means here",
            where=path,
            hint=f"see `lfadsrm status`; if the run is complete, {_AGAIN}",
        )
    try:
        means = xr.open_dataset(path, engine="netcdf4", decode_times=False, chunks=None)
    except PermissionError as error:
        raise ResultsError(
            "the posterior means cannot be read",
            where=path,
            hint="ask the owner of the file for the right to",
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise ResultsError(
            f"the posterior means are incomplete or damaged ({error})",
            where=path,
            hint=f"copy it again if it is a copy; else {_AGAIN}",
        ) from error
    try:
        _check(means, path, expect_token)
    except ResultsError:
        means.close()
        raise
    return means


def open_tree(
    files: Mapping[str, str | os.PathLike[str]], *, expect_tokens: Mapping[str, str] | None = None
) -> xr.DataTree:
    """Open the posterior means of many runs as one tree, lazily.

    Parameters
    ----------
    files : mapping
        `"param_<hash>/<run spec>/<dataset>"` -> path of its netCDF file. Every part becomes one level.
    expect_tokens : mapping, optional
        The claim token that each file should carry, under the same keys.

    Returns
    -------
    xr.DataTree
        `tree["param_<hash>/<run spec>/<dataset>"].ds` is what `open_posterior_means` gives.

    Raises
    ------
    ResultsError
        A file cannot be opened; the ones opened before are closed.
    """
    tokens = expect_tokens or {}
    opened: dict[str, xr.Dataset] = {}
    try:
        for key, path in files.items():
            opened[key] = open_posterior_means(path, expect_token=tokens.get(key))
        tree: xr.DataTree = xr.DataTree.from_dict(opened)
        return tree
    except BaseException:
        for means in opened.values():
            means.close()
        raise


def _check(means: xr.Dataset, path: Path, expect_token: str | None) -> None:
    """Raise unless the file is complete, ours, and of the attempt that counts."""
    if means.attrs.get("format") != FORMAT:
        raise ResultsError("this is no file of posterior means of lfadsrm_hpc", where=path)
    version = int(np.asarray(means.attrs.get("format_version", 0)))
    if version > FORMAT_VERSION:
        raise ResultsError(
            f"the file has format version {version}, this release reads up to {FORMAT_VERSION}",
            where=path,
            hint="install a newer lfadsrm_hpc",
        )
    if int(np.asarray(means.attrs.get("complete", 0))) != 1:
        raise ResultsError(
            "the posterior means are incomplete: the program that wrote them did not finish",
            where=path,
            hint=_AGAIN,
        )
    token = means.attrs.get("claim_token")
    if expect_token is not None and token != expect_token:
        raise ResultsError(
            f"the posterior means were written by another attempt (claim {token}) than the one that "
            f"completed the run (claim {expect_token})",
            where=path,
            hint=_AGAIN,
        )
