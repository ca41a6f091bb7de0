"""Other data than its own by which a `Dataset` can be aligned with others."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union

from lfadsrm_hpc.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

    from lfadsrm_hpc.data.owner import Owner

D = TypeVar("D", bound="DatasetAligning")
Source: TypeAlias = Union[str, "os.PathLike[str]", "xr.Dataset", "Callable[[], xr.Dataset]"]


class DatasetAligning:
    """What names and loads the data that alignment matrices are computed from."""

    name: str
    collection: Owner
    options: dict[str, Any]
    _reader: Callable[..., xr.Dataset] | None
    _aligned_by: xr.Dataset | Callable[[], xr.Dataset] | None = None
    _aligned_file: Path | None = None
    _aligned_with: Mapping[str, Any] = {}
    _fingerprint: tuple[Any, str] | None

    @property
    def path(self) -> Path | None:
        raise NotImplementedError

    def align_by(
        self: D,
        source: Source | None = None,
        *,
        reader: Callable[..., xr.Dataset] | None = None,
        **options: Any,
    ) -> D:
        """Compute alignment matrices from other data of the same neurons, such as another window of time.

        Conditions must be shared with other datasets, and the bins must go into those of the runs. Trials may
        be others, and of another length than the dataset's own, but as long as those that other datasets are
        aligned by.

        Parameters
        ----------
        source : path, xr.Dataset, or callable () -> xr.Dataset; optional
            A file (absolute, or relative to the folder of the collection), data in the in-memory form, or a
            function that returns them. The dataset's own file, where options are given alone; nothing at all:
            the dataset itself again.
        reader : callable (path, **options) -> xr.Dataset, optional
            For a file; by its suffix where left out.
        **options
            Of the reader, as for `Dataset`. For the dataset's own file they take the place of those that it
            is read with.

        Returns
        -------
        Dataset
            This one.

        Raises
        ------
        UsageError
            Options for data in memory, or unknown ones.

        Examples
        --------
        >>> from lfadsrm_hpc import Dataset, DatasetCollection
        >>> from lfadsrm_hpc.data.readers import from_arrays
        >>> counts = np.ones((3, 8, 2))
        >>> ds = Dataset.from_arrays(DatasetCollection("recordings"), "day1", counts, bin_ms=5)
        >>> ds.align_by(from_arrays(counts[:, :4], bin_ms=5)).name  # by their first 20 ms
        'day1'
        """
        self._aligned_by, self._aligned_file, self._fingerprint = None, None, None
        self._aligned_with = {}
        if source is None and options:
            if self.path is None:
                raise UsageError(
                    f"dataset {self.name!r} has no file that could be read with other options",
                    hint="give a file, data in memory, or a function",
                )
            self._align_by_file(self.path, reader or self._reader, self.options | options)
        elif isinstance(source, str | os.PathLike):
            self._align_by_file(self.collection.path / Path(source), reader, options)
        elif options or reader is not None:
            raise UsageError(
                "options and readers are for files, and the data for alignment come from memory",
                where=f"dataset {self.name!r}",
            )
        else:
            self._aligned_by = source
        return self

    def _align_by_file(
        self, path: Path, reader: Callable[..., xr.Dataset] | None, options: Mapping[str, Any]
    ) -> None:
        given = {key: value for key, value in options.items() if value is not None}
        self._aligned_file = path
        self._aligned_with = {"options": plain_options(given)} if given else {}
        self._aligned_with |= {"reader": full_name(reader)} if reader is not None else {}
        if reader is None:
            from lfadsrm_hpc.data import readers

            readers.check_reading(path, given)
            reader = readers.read
        self._aligned_by = functools.partial(reader, path, **given)

    def alignment_data(self) -> xr.Dataset | None:
        """Return other data of the same neurons to compute alignment matrices from; None: the dataset itself.

        What `align_by` says; or override this. Use `load_alignment_data` to get them checked.
        """
        source = self._aligned_by
        return source() if callable(source) else source

    def load_alignment_data(self) -> xr.Dataset | None:
        """Return the data of `alignment_data`, checked.

        Raises
        ------
        NotFoundError
            The file is not there.
        DataError
            The data cannot be used.
        """
        from lfadsrm_hpc.data.form import check

        other = self.alignment_data()
        return None if other is None else check(other, name=f"{self.name} (alignment data)")

    def _alignment_source(self) -> dict[str, Any]:
        """Return where the data for alignment come from: nothing where the dataset is its own."""
        if self._aligned_by is None:
            return {}
        if self._aligned_file is None:
            return {"aligned_by": {"path": None}}
        path, folder = self._aligned_file, self.collection.path
        shown = path.relative_to(folder) if path.is_relative_to(folder) else path
        return {"aligned_by": {"path": shown.as_posix(), **self._aligned_with}}

    def _alignment_stamp(self) -> list[tuple[str, int, int]]:
        """Return names, sizes and times of the files that the data for alignment come from."""
        file = self._aligned_file
        try:
            files = [] if file is None else sorted(file.iterdir()) if file.is_dir() else [file]
            return [(each.name, (stat := each.stat()).st_size, stat.st_mtime_ns) for each in files]
        except OSError:
            return []


def full_name(thing: Any) -> str:
    """Return the name by which a class or function can be imported, if it can."""
    name = getattr(thing, "__qualname__", None) or "<unnamed>"
    return f"{getattr(thing, '__module__', None) or '<unknown>'}.{name}"


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as JSON can keep them."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(options), default=str))
    return plain
