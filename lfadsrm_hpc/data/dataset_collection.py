"""The sessions of an experiment. Light to import; data are loaded when asked for."""

from __future__ import annotations

import fnmatch
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.errors import LfadsrmError, NotFoundError, UsageError, suggest

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd


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
