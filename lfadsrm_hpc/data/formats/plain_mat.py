"""Matlab files as datasets; `lfadsrm_hpc.data.formats.matlab` opens them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from lfadsrm_hpc.data.formats import matlab
from lfadsrm_hpc.data.formats.fields import MATLAB_DIMS
from lfadsrm_hpc.data.formats.plain import OPTIONS, Plain, read_source
from lfadsrm_hpc.data.formats.registry import Reader


def read(path: Path, bin_ms: float | None, *, struct: str | None = None, **options: Any) -> xr.Dataset:
    """Read a Matlab file.

    Parameters
    ----------
    path : Path
    bin_ms : float or None
    struct : str, optional
        Where names are looked for, as in Matlab: "data", "data(3)", "S.session". An array of structs is taken
        as one struct a trial.
    **options
        See `formats.plain.Plain`; places are written as in Matlab: "R.spikes", "data(3).times{1}".

    Raises
    ------
    DataError, UsageError
    """
    checked = Plain.of(options)
    with matlab.opened(path) as file:
        source = matlab.Source(file, struct, automatic=not checked.fields)
        return read_source(source, checked, name=path.stem, bin_ms=bin_ms, dims=MATLAB_DIMS, first_index=1)


READER = Reader(read, options=(*OPTIONS, "struct"))
