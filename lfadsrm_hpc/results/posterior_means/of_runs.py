"""From runs of a collection to their posterior means: one, a tree, or stacks."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import xarray as xr

from lfadsrm_hpc.collection.hashing import canonical_json
from lfadsrm_hpc.collection.labels import varying
from lfadsrm_hpc.collection.matching import plain_list
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.collection.words import listing
from lfadsrm_hpc.errors import LfadsrmWarning, NotFoundError, ResultsError, UsageError, suggest
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.deleted import BY, deleted_of
from lfadsrm_hpc.results.attaching import attach, is_there
from lfadsrm_hpc.results.posterior_means.loaders import of_split, open_posterior_means
from lfadsrm_hpc.results.posterior_means.stacking import Member, stack

R = TypeVar("R", bound=Run)
Names = str | Iterable[str]
Chunks = Mapping[str, int] | str | None


class Loadable(Protocol):
    """A complete run, of whatever origin."""

    @property
    def id(self) -> str: ...

    @property
    def spec_name(self) -> str: ...

    @property
    def dataset_names(self) -> tuple[str, ...]: ...

    @property
    def values(self) -> Mapping[str, Any]:
        """Its params, by name."""

    @property
    def shaping(self) -> frozenset[str]:
        """Which of them change the data."""

    def open(self, dataset: str, *, cache: bool) -> xr.Dataset:
        """Open the posterior means of a dataset, lazily."""

    def attach(self, means: xr.Dataset, dataset: str, names: Sequence[str], *, strict: bool) -> xr.Dataset:
        """Return posterior means with more beside them: see `attaching.attach`."""


@dataclass(frozen=True)
class Own:
    """A run of this package.

    Attributes
    ----------
    run : Run
    token : str
        Of the claim that completed it.
    """

    run: Run
    token: str

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def spec_name(self) -> str:
        return self.run.spec.name

    @property
    def dataset_names(self) -> tuple[str, ...]:
        return self.run.dataset_names

    @property
    def values(self) -> dict[str, Any]:
        return self.run.params.values()

    @property
    def shaping(self) -> frozenset[str]:
        params = self.run.params
        return frozenset(name for name in params.values() if params.affects(name) == "data")

    def open(self, dataset: str, *, cache: bool) -> xr.Dataset:
        path = self.run.layout.posterior_means(dataset)
        deleted = deleted_of(self.run.layout, [dataset]) if not path.is_file() else None
        if deleted is not None:
            raise ResultsError(
                f"the posterior means of run {self.run.id}, dataset {dataset!r}, were {BY}",
                where=path,
                hint=deleted.remedy,
            )
        return open_posterior_means(path, expect_token=self.token, cache=cache)

    def attach(self, means: xr.Dataset, dataset: str, names: Sequence[str], *, strict: bool) -> xr.Dataset:
        return attach(means, self.run.input_files()[dataset], names, strict=strict)


@dataclass(frozen=True)
class Wanted:
    """What is to be loaded of each run.

    Attributes
    ----------
    datasets : tuple of str
        None named: all.
    attached : tuple of str
        See `attaching.attach`.
    split : str or None
        Only trials of this split.
    chunks : mapping, "auto" or None
        For dask.
    """

    datasets: tuple[str, ...] = ()
    attached: tuple[str, ...] = ()
    split: str | None = None
    chunks: Chunks = None

    @classmethod
    def of(cls, dataset: Names | None, attached: Names, split: str | None, chunks: Chunks) -> Wanted:
        """Take arguments as users give them."""
        return cls(several(dataset), several(attached), split, chunks)


def several(names: Names | None) -> tuple[str, ...]:
    """Return names as a tuple, one or many."""
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def completed(runs: Iterable[R]) -> tuple[list[Own], list[R]]:
    """Return the runs that are complete, and the others."""
    done: list[Own] = []
    others = []
    for run in runs:
        found = store.read_facts(run.layout, cancelled={}).completed
        if found is None or found[1].claim is None:
            others.append(run)
        else:
            done.append(Own(run, found[1].claim.token))
    return done, others


def open_one(
    run: Loadable, dataset: str, wanted: Wanted, *, strict: bool = True, cache: bool = True
) -> xr.Dataset:
    """Open the posterior means of one dataset of a run, with what is wanted beside them.

    Parameters
    ----------
    run : Loadable
    dataset : str
    wanted : Wanted
    strict : bool
        Refuse to attach what the dataset does not have; otherwise it is left out.
    cache : bool
        Keep in memory what is read whole.
    """
    return _finished(run.open(dataset, cache=cache), run, dataset, wanted, strict=strict)


def open_tree_of(runs: Sequence[Loadable], wanted: Wanted, about: Mapping[str, Any]) -> xr.DataTree:
    """Open the posterior means of many runs as a tree of params, run specs and datasets.

    Parameters
    ----------
    runs : sequence of Loadable
    wanted : Wanted
    about : mapping
        Attributes of the tree.
    """
    nodes = {"/": xr.Dataset(attrs=dict(about))}
    swept = varying(run.values for run in runs)
    there: set[str] = set()
    for run in runs:
        params = run.values
        for dataset in _datasets(run, wanted):
            nodes[run.id.partition("/")[0]] = xr.Dataset(attrs={n: _attribute(params.get(n)) for n in swept})
            means = _finished(run.open(dataset, cache=False), run, dataset, wanted, strict=False)
            there.update(map(str, means.variables))
            nodes[f"{run.id}/{dataset}"] = means
    _refuse_absent(runs, wanted, there, found=any("/" in name for name in nodes if name != "/"))
    tree: xr.DataTree = xr.DataTree.from_dict(nodes)
    return tree


def open_stacks(runs: Sequence[Loadable], along: Names, wanted: Wanted) -> xr.Dataset | xr.DataTree:
    """Open the posterior means of many runs as one Dataset for each run spec and dataset.

    Returns
    -------
    xr.Dataset or xr.DataTree
        The Dataset itself where there is only one, else a tree of run specs and datasets.

    Warns
    -----
    LfadsrmWarning
        Something is padded, or a combination is missing.
    """
    names = _names_of_params(several(along), runs)
    groups: dict[tuple[str, str], list[Loadable]] = {}
    for run in runs:
        for dataset in _datasets(run, wanted):
            groups.setdefault((run.spec_name, dataset), []).append(run)
    there: set[str] = set()
    nodes = {}
    remarks: dict[tuple[str, str], list[str]] = {}
    for (spec, dataset), members in groups.items():
        parts = _members(dataset, members)
        stacked = stack(parts, names)
        origin = parts[0].means.attrs.get("fingerprint")
        means = _beside_stack(stacked.means, origin, members[0], dataset, names, wanted)
        there.update(map(str, means.variables))
        nodes[f"{spec}/{dataset}"] = means
        if stacked.remark:
            remarks.setdefault((spec, stacked.remark), []).append(dataset)
    _refuse_absent(runs, wanted, there, found=bool(nodes))
    for (spec, remark), datasets in remarks.items():
        warnings.warn(f"{spec} ({listing(datasets, 3)}): {remark}", LfadsrmWarning, stacklevel=3)
    return next(iter(nodes.values())) if len(nodes) == 1 else xr.DataTree.from_dict(nodes)


def _members(dataset: str, runs: Sequence[Loadable]) -> list[Member]:
    return [Member(run.id, run.values, run.open(dataset, cache=False), run.shaping) for run in runs]


def _beside_stack(
    means: xr.Dataset, fingerprint: Any, run: Loadable, dataset: str, names: Sequence[str], wanted: Wanted
) -> xr.Dataset:
    """Return a stack with what is wanted beside it: once, since all its runs were fitted to the same data.

    Parameters
    ----------
    fingerprint : str or None
        Of the inputs of `run`, its first. Those of stitched runs differ with the number of factors, but only
        in their alignment matrices.
    """
    chunks = wanted.chunks
    if isinstance(chunks, Mapping):  # one run a chunk, unless it is said otherwise
        chunks = {**dict.fromkeys(names, 1), **chunks}
    own = means.assign_attrs({} if fingerprint is None else {"fingerprint": fingerprint})
    found = _finished(own, run, dataset, replace(wanted, chunks=chunks), strict=False)
    found.attrs = means.attrs
    return found


def _finished(
    means: xr.Dataset, run: Loadable, dataset: str, wanted: Wanted, *, strict: bool = True
) -> xr.Dataset:
    """Return posterior means with what is wanted beside them, of the trials that are wanted."""
    if wanted.attached:
        means = run.attach(means, dataset, wanted.attached, strict=strict)
    if wanted.split is not None:
        means = of_split(means, wanted.split)
    if wanted.chunks is None:
        return means
    try:
        chunked: xr.Dataset = means.chunk(wanted.chunks)
    except ImportError:
        raise UsageError(
            "chunks= needs dask, which is not installed",
            hint="pip install 'dask[array]'; or leave chunks out: everything is read only when it is used",
        ) from None
    return chunked


def _datasets(run: Loadable, wanted: Wanted) -> list[str]:
    return [name for name in run.dataset_names if not wanted.datasets or name in wanted.datasets]


def _names_of_params(along: Sequence[str], runs: Sequence[Loadable]) -> list[str]:
    names = plain_list(along, runs[0].values)
    if not names or len(names) < len(along):
        raise UsageError(
            "stack= names a param twice" if names else "stack= names no param",
            hint='write stack=("factors_dim", "seed")',
        )
    return names


def _refuse_absent(runs: Sequence[Loadable], wanted: Wanted, there: set[str], *, found: bool) -> None:
    """Refuse datasets that no run has, and variables that no dataset has."""
    names = sorted({name for run in runs for name in run.dataset_names})
    for name in wanted.datasets:
        if name not in names or not found:
            raise NotFoundError(
                f"no run that was selected has the dataset {name!r}",
                hint=suggest(name, names) or f"there are: {listing(names)}",
            )
    for name in wanted.attached:
        if not is_there(name, there):
            raise NotFoundError(
                f"none of these datasets has {name!r}",
                hint="`lfadsrm_hpc.results.attaching.available(input file)` lists what one has",
            )


def _attribute(value: Any) -> Any:
    """Return a value as netCDF can keep it."""
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, int | float | str) else canonical_json(value)
