"""numpy's .npz files; Python objects in them are not loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lfadsrm_hpc.data.form import SPIKE_DIMS
from lfadsrm_hpc.data.formats.fields import KNOWN
from lfadsrm_hpc.data.formats.plain import OPTIONS, Plain, read_source
from lfadsrm_hpc.data.formats.registry import Reader
from lfadsrm_hpc.errors import DataError, suggest


@dataclass(frozen=True)
class _Npz:
    file: Any

    def there(self) -> list[str]:
        return list(self.file.files)

    def known(self) -> dict[str, Any]:
        return {key: self._array(key) for key in self.file.files if key in KNOWN}

    def get(self, path: str) -> Any:
        if path not in self.file.files:
            names = list(self.file.files)
            raise DataError(
                f"there is no array {path!r}", hint=suggest(path, names) or f"there is: {', '.join(names)}"
            )
        return self._array(path)

    def _array(self, name: str) -> Any:
        try:
            return self.file[name]
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise DataError(
                f"`{name}` holds Python objects, which are not read",
                hint=f"save it as numbers or as texts: {name}=np.array({name}.tolist())",
            ) from None


def read(path: Path, bin_ms: float | None, **options: Any) -> xr.Dataset:
    """Read an .npz file; options are those of `lfadsrm_hpc.data.formats.plain.Plain`."""
    checked = Plain.of(options)
    with np.load(path, allow_pickle=False) as file:
        return read_source(_Npz(file), checked, name=path.stem, bin_ms=bin_ms, dims=SPIKE_DIMS)


READER = Reader(read, options=OPTIONS)
