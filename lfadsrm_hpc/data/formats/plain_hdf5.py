"""Plain HDF5 files: datasets and attributes with names that are understood, at the root or in one group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import xarray as xr

from lfadsrm_hpc.data.form import SPIKE_DIMS
from lfadsrm_hpc.data.formats.fields import (
    KNOWN,
    bin_width,
    by_our_names,
    conditions_of,
    described,
    has_counts,
    number,
    sizes_of,
)
from lfadsrm_hpc.data.formats.plain import OPTIONS, Plain, read_source
from lfadsrm_hpc.data.formats.registry import Reader
from lfadsrm_hpc.errors import DataError, suggest


@dataclass(frozen=True)
class Hdf5Source:
    """An open file, as `lfadsrm_hpc.data.formats.plain.Source`; `group` is where names are looked for."""

    file: Any
    group: str | None = None

    @property
    def root(self) -> Any:
        """The group with the names: the one that is asked for, or the only one that holds counts.

        Raises
        ------
        DataError
            There is no such group.
        """
        if self.group is not None:
            return self._item(self.group, h5py.Group, "group")
        if has_counts(list(self.file)):
            return self.file
        groups = [g for g in self.file.values() if isinstance(g, h5py.Group) and has_counts(list(g))]
        return groups[0] if len(groups) == 1 else self.file

    def there(self) -> list[str]:
        return self._names(h5py.Dataset)

    def known(self) -> dict[str, Any]:
        return self.small_and_shapes()[0]

    def get(self, path: str) -> Any:
        return values_of(self._item(path, h5py.Dataset, "array"))

    def small_and_shapes(
        self, most_dims: int | None = None
    ) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
        """Return known arrays and attributes, and shapes; arrays of more than `most_dims` are not read."""
        root = self.root
        fields = {key: root.attrs[key] for key in root.attrs if key in KNOWN}
        shapes = {}
        for key, item in root.items():
            if key in KNOWN and isinstance(item, h5py.Dataset):
                shapes[key] = item.shape
                if most_dims is None or item.ndim <= most_dims:
                    fields[key] = values_of(item)
        return fields, shapes

    def _names(self, kind: type) -> list[str]:
        names: list[str] = []
        self.file.visititems(lambda name, it: names.append(name) if isinstance(it, kind) else None)
        return names

    def _item(self, path: str, kind: type, what: str) -> Any:
        item = self.file.get(path)
        if item is None and self.group is not None:
            item = self.root.get(path) if path != self.group else None
        if not isinstance(item, kind):
            names = self._names(kind)
            hint = suggest(path, names) or f"there is: {', '.join(names[:30]) or 'none'}"
            raise DataError(f"there is no {what} {path!r}", hint=hint)
        return item


def values_of(item: Any) -> Any:
    """Return the values of an HDF5 dataset, text as text."""
    return item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()]


def read(path: Path, bin_ms: float | None, *, group: str | None = None, **options: Any) -> xr.Dataset:
    """Read a plain HDF5 file; `group` is where names are looked for; other options: see `formats.plain`."""
    checked = Plain.of(options)
    with h5py.File(path, "r") as file:
        return read_source(Hdf5Source(file, group), checked, name=path.stem, bin_ms=bin_ms, dims=SPIKE_DIMS)


def info(path: Path, *, bin_ms: float | None = None, group: str | None = None) -> dict[str, Any] | None:
    """Return what describes a session without reading its spikes, or None."""
    with h5py.File(path, "r") as file:
        small, shapes = Hdf5Source(file, group).small_and_shapes(most_dims=1)
    said = bin_width(small) if "train_data" in shapes else number(by_our_names(small).get("bin_ms"))
    sizes, width = sizes_of(shapes, small), bin_ms if bin_ms is not None else said
    if sizes is None or width is None:
        return None
    return {"sizes": sizes, "condition": conditions_of(small), "attrs": described(small), "bin_ms": width}


READER = Reader(read, info, options=(*OPTIONS, "group"))
