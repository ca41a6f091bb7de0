"""The ways in which a `Dataset` is made: from arrays, spike times, xarray objects and files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lfadsrm_hpc.data.formats.registry import name_of

if TYPE_CHECKING:
    import numpy.typing as npt
    import xarray as xr

    from lfadsrm_hpc.data.owner import Owner

D = TypeVar("D", bound="DatasetMaking")


class DatasetMaking:
    """What makes datasets; see `lfadsrm_hpc.data.dataset.Dataset`."""

    _reader: Callable[..., xr.Dataset] | None
    _held: xr.Dataset | None

    def _init(
        self,
        collection: Owner,
        path_relative: Path | None,
        name: str,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        raise NotImplementedError

    @classmethod
    def from_arrays(
        cls: type[D],
        collection: Owner,
        name: str,
        spikes: npt.ArrayLike | Sequence[npt.ArrayLike],
        *,
        bin_ms: float,
        **others: Any,
    ) -> D:
        """Make a dataset from arrays in memory.

        Parameters
        ----------
        collection : DatasetCollection
        name : str
        spikes : array (trial, time, neuron), or sequence of arrays (time, neuron)
            Counts a bin.
        bin_ms : float
            Width of a bin in ms.
        **others
            time, condition, truth, external_input, neuron_names, dims, and attributes: see
            `lfadsrm_hpc.data.readers.from_arrays`.

        Raises
        ------
        DataError
            Wrong shapes, trials of unequal length, NaN.
        """
        from lfadsrm_hpc.data.readers import from_arrays

        return cls._from_memory(collection, name, from_arrays(spikes, bin_ms=bin_ms, name=name, **others))

    @classmethod
    def from_spike_times(
        cls: type[D],
        collection: Owner,
        name: str,
        spike_times: Sequence[Sequence[npt.ArrayLike]],
        *,
        start_ms: float,
        stop_ms: float,
        bin_ms: float,
        **others: Any,
    ) -> D:
        """Make a dataset from spike times, [trial][neuron] -> times in ms.

        Spikes outside the window are left out. `others` are as in `from_arrays`; see
        `lfadsrm_hpc.data.readers.from_spike_times`.

        Parameters
        ----------
        collection : DatasetCollection
        name : str
        spike_times : sequence of sequences of array_like
            In ms of the trial's own time.
        start_ms, stop_ms : float
            The window that all trials share.
        bin_ms : float
            Width of a bin; it goes into the window a whole number of times.
        **others
            Condition, truth and so on.
        """
        from lfadsrm_hpc.data.readers import from_spike_times

        window = {"start_ms": start_ms, "stop_ms": stop_ms, "bin_ms": bin_ms}
        return cls._from_memory(
            collection, name, from_spike_times(spike_times, **window, name=name, **others)
        )

    @classmethod
    def from_xarray(
        cls: type[D],
        collection: Owner,
        name: str,
        data: xr.Dataset | xr.DataArray,
        *,
        bin_ms: float | None = None,
        rename: Mapping[str, str] | None = None,
    ) -> D:
        """Make a dataset from an xarray object in memory.

        Parameters
        ----------
        collection : DatasetCollection
        name : str
        data : xr.Dataset or xr.DataArray
            A DataArray is taken as the spikes.
        bin_ms : float, optional
            Width of a bin in ms, where the object does not say it.
        rename : mapping, optional
            Its names -> those of the in-memory form, such as `{"unit": "neuron"}`.

        Raises
        ------
        DataError, UsageError
            As `lfadsrm_hpc.data.readers.from_xarray`.
        """
        from lfadsrm_hpc.data.readers import from_xarray

        return cls._from_memory(collection, name, from_xarray(data, name=name, bin_ms=bin_ms, rename=rename))

    @classmethod
    def from_file(
        cls: type[D],
        collection: Owner,
        path: str | os.PathLike[str],
        reader: Callable[..., xr.Dataset] | None = None,
        *,
        name: str | None = None,
        **options: Any,
    ) -> D:
        """Make a dataset from a file, with options for its reader or with a reader of one's own.

        Parameters
        ----------
        collection : DatasetCollection
        path : path
            Absolute, or relative to the folder of the collection. It may be a folder, of phy for instance.
        reader : callable (path, **options) -> xr.Dataset, optional
            By suffix and content where left out.
        name : str, optional
        **options
            Of the reader: docs/readers.md lists them for each format.

        Raises
        ------
        UsageError
            The format has no such option; the nearest right one is suggested.

        Examples
        --------
        >>> from lfadsrm_hpc import Dataset, DatasetCollection
        >>> from lfadsrm_hpc.data.readers import from_arrays
        >>> def read_text(path, *, bin_ms):
        ...     return from_arrays(np.loadtxt(path)[:, :, None], bin_ms=bin_ms)
        >>> np.savetxt("day1.txt", np.ones((3, 8)))
        >>> ds = Dataset.from_file(DatasetCollection("."), "day1.txt", read_text, bin_ms=5)
        >>> ds.load().spikes.shape
        (3, 8, 1)
        """
        dataset = cls.__new__(cls)
        dataset._reader = reader
        own = name_of(collection.path / path) if name is None else name
        dataset._init(collection, Path(path), own, options)
        return dataset

    @classmethod
    def _from_memory(cls: type[D], collection: Owner, name: str, content: xr.Dataset) -> D:
        dataset = cls.__new__(cls)
        dataset._init(collection, None, name)
        dataset._held = content
        return dataset
