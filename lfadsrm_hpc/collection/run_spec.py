"""A run spec: a name and the datasets that are fitted together."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex

from lfadsrm_hpc.errors import ConfigError, NotFoundError, UsageError
from lfadsrm_hpc.layout import check_name

if TYPE_CHECKING:
    from lfadsrm_hpc.data.dataset import Dataset
    from lfadsrm_hpc.data.dataset_collection import DatasetCollection

Which = SupportsIndex | str


class RunSpec:
    """A name and the datasets that are fitted together: one (single) or several (stitched).

    Parameters
    ----------
    name : str
        Becomes a folder name.
    dataset_collection : DatasetCollection or None
        Where the datasets are looked up; None when the spec is read from disk and only names are known.
    which : int, str or Dataset, or a list of them
        Positions (from 0), names or datasets, in the order in which they are stitched; or a mask, True or
        False for each dataset of the collection.
    comment : str

    Attributes
    ----------
    dataset_names : tuple of str

    Raises
    ------
    UsageError, NotFoundError
        The name cannot be a folder, or a dataset is missing, unknown or named twice.
    """

    def __init__(
        self,
        name: str,
        dataset_collection: DatasetCollection | None,
        which: Which | Dataset | Iterable[Which | Dataset],
        comment: str = "",
    ) -> None:
        self.name = check_name(name, "run spec")
        self.comment = comment
        self._collection = dataset_collection
        given: list[Any] = (
            [which] if isinstance(which, str) or not isinstance(which, Iterable) else list(which)
        )
        if any(_is_truth_value(item) for item in given):
            given = self._masked(given)
        self.dataset_names = tuple(self._name_of(item) for item in given)
        if not self.dataset_names:
            raise UsageError("no datasets are named", where=f"run spec {name!r}", hint="name at least one")
        twice = sorted({n for n in self.dataset_names if self.dataset_names.count(n) > 1})
        if twice:
            raise UsageError(f"dataset {twice[0]!r} is named twice", where=f"run spec {name!r}")

    def _masked(self, mask: list[Any]) -> list[int]:
        n = None if self._collection is None else len(self._collection)
        if not all(_is_truth_value(item) for item in mask) or len(mask) != n:
            raise UsageError(
                f"a mask of {len(mask)} values for {n or 'unknown'} datasets",
                where=f"run spec {self.name!r}",
                hint="give True or False for each dataset, or positions (from 0), or names",
            )
        return [i for i, wanted in enumerate(mask) if wanted]

    def _name_of(self, item: Any) -> str:
        item = getattr(item, "name", item)
        if self._collection is None:
            if not isinstance(item, str):
                raise UsageError(
                    f"a run spec without a dataset collection needs names, not {item!r}",
                    where=f"run spec {self.name!r}",
                )
            return check_name(item, "dataset")
        if isinstance(item, str):
            return self._collection.find(item).name
        try:
            return self._collection[operator.index(item)].name
        except (IndexError, TypeError):
            raise NotFoundError(
                f"there is no dataset {item!r}",
                where=f"run spec {self.name!r}",
                hint=f"the collection has {len(self._collection)}, counted from 0; or use names",
            ) from None

    @property
    def n_datasets(self) -> int:
        """How many datasets are fitted together."""
        return len(self.dataset_names)

    @property
    def is_stitched(self) -> bool:
        """Whether there are several datasets."""
        return self.n_datasets > 1

    @property
    def datasets(self) -> list[Dataset]:
        """The datasets, in order.

        Raises
        ------
        UsageError
            The spec was read from disk and no dataset collection is at hand.
        """
        return self.datasets_in(self._collection)

    def datasets_in(self, collection: DatasetCollection | None) -> list[Dataset]:
        """Return the datasets as another collection has them.

        Parameters
        ----------
        collection : DatasetCollection or None
            None: that of the spec itself.
        """
        source = collection if collection is not None else self._collection
        if source is None:
            raise UsageError(
                f"run spec {self.name!r} knows its datasets by name only",
                hint="open the run collection with dataset_collection=",
            )
        return [source.find(name) for name in self.dataset_names]

    def to_json(self) -> dict[str, Any]:
        """Return the spec as JSON: names alone."""
        return {"name": self.name, "comment": self.comment, "datasets": list(self.dataset_names)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any], collection: DatasetCollection | None = None) -> RunSpec:
        """Return the spec of a stored document.

        Parameters
        ----------
        document : mapping
            As `to_json` returned it.
        collection : DatasetCollection, optional
            That has the datasets.

        Raises
        ------
        ConfigError
        """
        try:
            spec = cls(document["name"], None, document["datasets"], comment=document.get("comment", ""))
        except (KeyError, TypeError) as error:
            raise ConfigError(f"a stored run spec cannot be read: {error}", where=dict(document)) from None
        spec._collection = collection
        return spec

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunSpec) and (self.name, self.dataset_names) == (
            other.name,
            other.dataset_names,
        )

    def __hash__(self) -> int:
        return hash((self.name, self.dataset_names))

    def __repr__(self) -> str:
        n = self.n_datasets
        return f'RunSpec "{self.name}" ({n} dataset{"" if n == 1 else "s"}: {", ".join(self.dataset_names)})'

    def _repr_html_(self) -> str:
        from lfadsrm_hpc import markup

        rows = list(enumerate(self.dataset_names[: markup.MOST_ROWS]))
        return markup.block(
            markup.title(type(self).__name__, self.name, f"{self.n_datasets} datasets"),
            markup.table(("", "dataset"), rows, numbers=(0,), count=self.n_datasets),
        )


def _is_truth_value(item: Any) -> bool:
    """Return whether it is True or False, numpy's included: as a position it would mean dataset 1 or 0."""
    return isinstance(item, bool) or getattr(getattr(item, "dtype", None), "kind", "") == "b"
