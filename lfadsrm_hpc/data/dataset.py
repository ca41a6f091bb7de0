"""A recording session. Light to import; data are loaded when asked for."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.data.aligning import DatasetAligning, full_name, plain_options
from lfadsrm_hpc.data.formats.registry import name_of
from lfadsrm_hpc.data.making import DatasetMaking
from lfadsrm_hpc.errors import DataError, NotFoundError
from lfadsrm_hpc.layout import check_name

if TYPE_CHECKING:
    import xarray as xr

    from lfadsrm_hpc.data.owner import Owner


class Dataset(DatasetMaking, DatasetAligning):
    """One recording session.

    Made from a file in the folder of its collection, or by `from_arrays`, `from_spike_times`, `from_xarray`,
    `from_file`; or derive a class and override `read` (and `alignment_data`). `align_by` names other data to
    align it by.

    Parameters
    ----------
    collection : DatasetCollection
        The dataset adds itself to it.
    path_relative : str or path
        The file, relative to the folder of the collection.
    name : str, optional
        The name of the file without its suffix, or of the folder, where left out.
    **options
        Of the reader of the file (docs/readers.md lists them for each format): a bin width, the event that
        trials are aligned to, which neurons, ...

    Raises
    ------
    UsageError
        The reader has no such option. The name cannot be a file name, or another dataset of the collection
        has it. A dataset made again from the same file takes the place of the earlier one.

    Examples
    --------
    >>> from lfadsrm_hpc import Dataset, DatasetCollection
    >>> from lfadsrm_hpc.data.readers import from_arrays, save_dataset
    >>> _ = save_dataset(from_arrays([[[0, 1], [1, 0]]] * 3, bin_ms=5), "recordings/day1.h5")
    >>> dc = DatasetCollection("recordings")
    >>> ds = Dataset(dc, "day1.h5")
    >>> ds.load().spikes.sum("time").shape
    (3, 2)
    """

    def __init__(
        self,
        collection: Owner,
        path_relative: str | os.PathLike[str],
        *,
        name: str | None = None,
        **options: Any,
    ) -> None:
        self._reader = None
        path = Path(path_relative)
        self._init(collection, path, name_of(collection.path / path) if name is None else name, options)

    def _init(
        self,
        collection: Owner,
        path_relative: Path | None,
        name: str,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = check_name(name, "dataset")
        self.path_relative = path_relative
        self.collection = collection
        self.options = {key: value for key, value in (options or {}).items() if value is not None}
        self._reader = getattr(self, "_reader", None)
        self._held: xr.Dataset | None = None
        self._loaded: tuple[Any, weakref.ref[xr.Dataset]] | None = None
        self._info: tuple[Any, dict[str, Any]] | None = None
        self._fingerprint: tuple[Any, str] | None = None
        if self.options and self._reader is None and self.path is not None:
            from lfadsrm_hpc.data.readers import check_reading

            check_reading(self.path, self.options)
        collection.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_loaded": None}  # a weak reference cannot be pickled

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} from {self.path or 'memory'}>"

    def _repr_html_(self) -> str:
        from lfadsrm_hpc import markup

        about = {"from": self.path or "memory", **self._known_info()}
        return markup.block(markup.title(type(self).__name__, self.name), markup.pairs(about))

    def _known_info(self) -> dict[str, Any]:
        """Return what is known without reading a file."""
        info = {} if self._info is None else self._info[1]
        words = {"trials": "n_trials", "neurons": "n_neurons", "bins": "n_bins", "bin, ms": "bin_ms"}
        return {word: info.get(key) for word, key in words.items()}

    @property
    def single_run_name(self) -> str:
        """The name of the run spec that fits this dataset alone: `single_<name>`."""
        return f"single_{self.name}"

    @property
    def path(self) -> Path | None:
        """The file, or None for data in memory."""
        return None if self.path_relative is None else self.collection.path / self.path_relative

    def read(self) -> xr.Dataset:
        """Read the session; override this to read files of your own kind (`self.path` says which).

        Returns
        -------
        xr.Dataset
            With `spikes (trial, time, neuron)` and what else `lfadsrm_hpc.data.form` lists;
            `lfadsrm_hpc.data.readers.from_arrays` makes one. It is checked by `load`.
        """
        if self._held is not None:
            content: xr.Dataset = self._held.copy()
            return content
        path = self._path()
        if self._reader is not None:
            if not path.exists():
                raise NotFoundError(f"the file of dataset {self.name!r} is not there", where=path)
            return self._reader(path, **self.options)
        from lfadsrm_hpc.data import readers

        return readers.read(path, **self.options)

    def load(self) -> xr.Dataset:
        """Return the data in memory, read and checked.

        What was read from a file is shared by all who ask while somebody holds it (so copy it before changing
        it), and read again when the file has changed.

        Raises
        ------
        NotFoundError
            The file is not there.
        DataError
            The data cannot be used.
        """
        stamp = self._stamp()
        if self._loaded is not None and self._loaded[0] == stamp:
            content = self._loaded[1]()
            if content is not None:
                return content
        from lfadsrm_hpc.data.form import check

        content = check(self.read(), name=self.name)
        if self._held is None:
            self._loaded = (stamp, weakref.ref(content))
        return content

    def load_info(self) -> dict[str, Any]:
        """Return what describes the session, from the head of the file where that is enough.

        Returns
        -------
        dict
            subject, date, save_tags, n_trials, n_neurons, n_bins, bin_ms, n_conditions, comment.
        """
        stamp = self._stamp()
        if self._info is None or self._info[0] != stamp:
            from lfadsrm_hpc.data import readers

            by_suffix = type(self).read is Dataset.read and self._reader is None and self._held is None
            if by_suffix:
                info = readers.read_info(self._path(), **self.options)
            else:
                info = readers.info_of(self.load())
            self._info = (stamp, info)
        return dict(self._info[1])

    def fingerprint(self) -> str:
        """Return 64 hexadecimal characters that change when the content changes.

        SHA-256 over the bin width, spikes, time, condition, truth and external input, and the same of
        `alignment_data`; not over names, attributes, further variables or the format of the file.
        """
        stamp = (self._stamp(), self._alignment_stamp())
        if self._fingerprint is None or self._fingerprint[0] != stamp:
            from lfadsrm_hpc.data.form import fingerprint

            other = self.load_alignment_data()
            self._fingerprint = (stamp, fingerprint(self.load(), *([] if other is None else [other])))
        return self._fingerprint[1]

    def evaluation_params(self, spike_bin_ms: float) -> dict[str, Any]:
        """Return run params that withhold from the encoders the neurons and last bins that the dataset names.

        Parameters
        ----------
        spike_bin_ms : float
            Width of the model's bins.

        Returns
        -------
        dict
            `held_out_neurons` and `forward_prediction_bins`, for `RunParams(spike_bin_ms=..., **params)`;
            empty where the dataset names nothing.

        Raises
        ------
        DataError
            What is withheld is no whole number of bins; or the data cannot be used.
        """
        from lfadsrm_hpc.data.evaluation import evaluation_params

        return evaluation_params(self.load(), spike_bin_ms)

    def source(self) -> dict[str, Any]:
        """Return where the data come from: kind, class, path in the collection, size, mtime_ns.

        Also, where they are: options, the `reader` of one's own, and `aligned_by`, what `align_by` was told.
        """
        own = {"class": full_name(type(self)), **self._alignment_source()}
        if self.path_relative is None:
            return {"kind": "arrays", **own, "path": None, "size": None, "mtime_ns": None}
        size, mtime_ns = self._stamp() or (None, None)
        path = self.path_relative.as_posix()
        found = {"kind": "file", **own, "path": path, "size": size, "mtime_ns": mtime_ns}
        found |= {"options": plain_options(self.options)} if self.options else {}
        return found | ({"reader": full_name(self._reader)} if self._reader is not None else {})

    def _path(self) -> Path:
        path = self.path
        if path is None:
            raise DataError(
                f"dataset {self.name!r} has neither data nor a file",
                hint="override read() in its class, or make it from a file or arrays",
            )
        return path

    def _stamp(self) -> tuple[int, int] | None:
        """Return size and time of the file, and of what is read beside it; None without file."""
        if self.path is None:
            return None
        try:
            files = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
            stats = [file.stat() for file in files]
        except OSError:
            return None
        beside = [self.options.get("trial_table"), self.options.get("input_info")]
        folder = self.path if self.path.is_dir() else self.path.parent
        for name in beside:
            with contextlib.suppress(OSError, TypeError):
                stats.append((folder / name).stat())  # type: ignore[operator]
        return sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)
