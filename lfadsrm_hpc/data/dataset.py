"""A recording session, and the sessions of an experiment. Light to import; data are loaded when asked for."""

from __future__ import annotations

import contextlib
import fnmatch
import math
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from lfadsrm_hpc.data.aligning import DatasetAligning, full_name, plain_options
from lfadsrm_hpc.data.formats.registry import name_of
from lfadsrm_hpc.data.making import DatasetMaking
from lfadsrm_hpc.errors import DataError, LfadsrmError, NotFoundError, UsageError, suggest
from lfadsrm_hpc.layout import check_name

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    import xarray as xr


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
    >>> dc = DatasetCollection("recordings")  # doctest: +SKIP
    >>> ds = Dataset(dc, "dataset001.h5")  # doctest: +SKIP
    >>> other = Dataset(dc, "day2.nwb", align_to="go_cue_time", after_ms=600, bin_ms=5)  # doctest: +SKIP
    >>> ds.load().spikes.sum("time")  # doctest: +SKIP
    """

    def __init__(
        self,
        collection: DatasetCollection,
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
        collection: DatasetCollection,
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


class DatasetCollection(Sequence[Dataset]):
    """The datasets of an experiment, in order.

    Parameters
    ----------
    path : str or path
        The folder that file names are relative to. It need not exist for data in memory.
    name : str, optional
        The name of the folder, where left out.

    Examples
    --------
    >>> dc = DatasetCollection("recordings")
    >>> ds = Dataset.from_arrays(dc, "day1", [[[0, 1], [1, 0]]] * 3, bin_ms=5)
    >>> dc["day1"].single_run_name, len(dc), dc.largest_batch_size(2)
    ('single_day1', 1, 1)
    """

    def __init__(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        self.path = Path(path).absolute()  # so that a later change of the current folder does not matter
        self.name = (self.path.name or self.path.resolve().name) if name is None else name
        self._datasets: list[Dataset] = []

    def __len__(self) -> int:
        return len(self._datasets)

    def __iter__(self) -> Iterator[Dataset]:
        return iter(self._datasets)

    @overload
    def __getitem__(self, key: int | str) -> Dataset: ...
    @overload
    def __getitem__(self, key: slice) -> list[Dataset]: ...
    def __getitem__(self, key: int | str | slice) -> Dataset | list[Dataset]:
        return self.find(key) if isinstance(key, str) else self._datasets[key]

    def __contains__(self, key: object) -> bool:
        return any(key is dataset or key == dataset.name for dataset in self)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} {self.name!r}: {len(self)} datasets in {self.path}"]
        lines += [f"  [{index:2d}] {dataset.name}" for index, dataset in enumerate(self)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from lfadsrm_hpc import markup

        shown = self._datasets[: markup.MOST_ROWS]
        known = [dataset._known_info() for dataset in shown]
        words = [word for word in (known[0] if known else ()) if any(one[word] is not None for one in known)]
        rows = [
            (index, dataset.name, dataset.path_relative or "memory", *(one[word] for word in words))
            for index, (dataset, one) in enumerate(zip(shown, known, strict=True))
        ]
        numbers = (0, *range(3, 3 + len(words)))
        return markup.block(
            markup.title(type(self).__name__, self.name, f"{len(self)} datasets in {self.path}"),
            markup.table(
                ("", "dataset", "file", *words),
                rows,
                numbers=numbers,
                count=len(self),
                more="dc.info_table()",
            )
            if rows
            else "",
        )

    @property
    def names(self) -> list[str]:
        """The names of the datasets, in order."""
        return [dataset.name for dataset in self]

    def add(self, dataset: Dataset) -> None:
        """Add a dataset; `Dataset` does so itself when it is made.

        Parameters
        ----------
        dataset : Dataset

        Raises
        ------
        UsageError
            Another one has its name. One from the same file is replaced.
        """
        for index, other in enumerate(self._datasets):
            if other.name != dataset.name:
                continue
            if other is not dataset and (other.path is None or other.path != dataset.path):
                raise UsageError(
                    f"there is a dataset {dataset.name!r} already, {other!r}",
                    where=f"dataset collection {self.name!r}",
                    hint="give one of them another name (name=...)",
                )
            self._datasets[index] = dataset
            return
        self._datasets.append(dataset)

    def add_all(self, pattern: str = "*", **options: Any) -> list[Dataset]:
        """Add every file of the folder that can be read and is not there yet, in the order of their names.

        Parameters
        ----------
        pattern : str
            Such as "session*.mat" or "*/day*.nc".
        **options
            Of their reader, the same for each.

        Raises
        ------
        NotFoundError
            The folder is not there, or holds no such file.
        UsageError
            A reader has no such option.
        """
        from lfadsrm_hpc.data.formats.registry import can_read, readable_suffixes

        files = sorted(p for p in self.path.glob(pattern) if not p.name.startswith("."))
        files = [file for file in files if can_read(file, by_name=file.suffix.lower() in pattern.lower())]
        if not files:
            raise NotFoundError(
                f"no file {pattern!r} can be read here",
                where=self.path.absolute(),
                hint=f"files that can be read end in {', '.join(readable_suffixes())}",
            )
        there = {dataset.path for dataset in self}
        return [Dataset(self, file.relative_to(self.path), **options) for file in files if file not in there]

    def find(self, name: str) -> Dataset:
        """Return the dataset of this name.

        Parameters
        ----------
        name : str

        Raises
        ------
        NotFoundError
            There is none; the message lists those that are.
        """
        for dataset in self:
            if dataset.name == name:
                return dataset
        hints = [suggest(name, self.names), f"there are: {', '.join(self.names) or 'none'}"]
        raise NotFoundError(
            f"there is no dataset {name!r}",
            where=f"dataset collection {self.name!r}",
            hint="; ".join(hint for hint in hints if hint),
        )

    def find_all(self, pattern: str) -> list[Dataset]:
        """Return the datasets whose names match a pattern with * and ?, in order.

        Parameters
        ----------
        pattern : str
        """
        return [dataset for dataset in self if fnmatch.fnmatchcase(dataset.name, pattern)]

    def filter(self, mask: Sequence[bool] | npt.ArrayLike | Callable[[Dataset], bool]) -> DatasetCollection:
        """Return a collection of some of the datasets; this one stays as it is.

        Parameters
        ----------
        mask : sequence of bool, one a dataset, or callable (dataset) -> bool

        Raises
        ------
        UsageError
            The mask has another length or other values than True and False.
        """
        keep = [mask(ds) for ds in self] if callable(mask) else list(mask)  # type: ignore[arg-type]
        if len(keep) != len(self) or any(value not in (True, False) for value in keep):
            raise UsageError(
                f"a mask of {len(keep)} values for {len(self)} datasets",
                hint="give True or False for each dataset",
            )
        chosen = type(self)(self.path, self.name)
        chosen._datasets = [dataset for dataset, kept in zip(self, keep, strict=True) if kept]
        return chosen

    def filter_min_trials(self, n_trials: int) -> DatasetCollection:
        """Return a collection of the datasets with at least so many trials.

        Parameters
        ----------
        n_trials : int
        """
        return self.filter(lambda dataset: bool(dataset.load_info()["n_trials"] >= n_trials))

    def filter_min_trials_for_batch_size(
        self, batch_size: int, train_to_test_ratio: int = 4
    ) -> DatasetCollection:
        """Return a collection of the datasets whose validation trials alone fill a batch.

        That takes `batch_size * (train_to_test_ratio + 1)` trials, the rule of the Matlab run manager.

        Parameters
        ----------
        batch_size : int
            In trials.
        train_to_test_ratio : int
            Training trials to one validation trial.
        """
        return self.filter_min_trials(math.ceil(batch_size * (train_to_test_ratio + 1)))

    def largest_batch_size(self, train_to_test_ratio: int = 4) -> int:
        """Return the largest batch that the validation trials of every dataset fill.

        Parameters
        ----------
        train_to_test_ratio : int
            Training trials to one validation trial.

        Raises
        ------
        UsageError
            The collection is empty.
        """
        if not len(self):
            raise UsageError("there are no datasets", where=f"dataset collection {self.name!r}")
        return int(min(ds.load_info()["n_trials"] // (train_to_test_ratio + 1) for ds in self))

    def load_info(self) -> None:
        """Load what describes each dataset.

        Raises
        ------
        DataError, NotFoundError
            Of the first dataset that cannot be read; the message names it.
        """
        for dataset in self:
            try:
                dataset.load_info()
            except LfadsrmError as error:
                if dataset.name not in str(error):
                    error.where = f"dataset {dataset.name!r}, {error.where}"
                raise

    def info_table(self) -> pd.DataFrame:
        """Return a table of the datasets.

        Returns
        -------
        pandas.DataFrame
            One row a dataset, numbered as in `dc[i]`: name, subject, date, save_tags (text), trials, neurons,
            bins, bin_ms, conditions, comment.
        """
        import pandas as pd

        self.load_info()
        counts = {"trials": "n_trials", "neurons": "n_neurons", "bins": "n_bins", "bin_ms": "bin_ms"}
        counts["conditions"] = "n_conditions"
        columns = ["name", "subject", "date", "save_tags", *counts, "comment"]
        rows = []
        for dataset in self:
            info = dataset.load_info()
            tags = info["save_tags"] if isinstance(info["save_tags"], (list, tuple)) else [info["save_tags"]]
            row = {key: info[key] for key in ("subject", "date", "comment")}
            row |= {"name": dataset.name, "save_tags": ", ".join(map(str, tags))}
            rows.append(row | {column: info[key] for column, key in counts.items()})
        table: pd.DataFrame = pd.DataFrame(rows, columns=columns)
        return table
