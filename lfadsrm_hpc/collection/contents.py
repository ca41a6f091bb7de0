"""What is in a run collection: run specs, run params, the runs that they make, and how those are found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lfadsrm_hpc.collection import words
from lfadsrm_hpc.collection.matching import matches
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.collection.stored import read_stored
from lfadsrm_hpc.errors import MismatchError, NotFoundError, UsageError, suggest
from lfadsrm_hpc.layout import CollectionLayout, check_name
from lfadsrm_hpc.legacy_layout import LegacyCollectionLayout

if TYPE_CHECKING:
    from lfadsrm_hpc.data.dataset_collection import DatasetCollection

C = TypeVar("C", bound="Contents[Any]")
R = TypeVar("R", bound=Run)


class Contents(Generic[R]):
    """Run specs x run params, added, found, and read from the directory of a collection.

    `lfadsrm_hpc.collection.collection.RunCollection` says what they are, and also prepares and deletes.
    """

    run_class: type[R] = Run  # type: ignore[assignment] # what subclasses for other runs set

    def __init__(
        self,
        root: str | Path,
        name: str,
        dataset_collection: DatasetCollection | None = None,
        comment: str = "",
    ) -> None:
        self.root = Path(root).absolute()  # so that a later change of the current folder does not matter
        self.name = check_name(name, "run collection")
        self.dataset_collection = dataset_collection
        self.comment = comment
        self._params: dict[str, RunParams] = {}
        self._specs: dict[str, RunSpec] = {}
        # pairs of a reopened collection that were never prepared, so are no runs of it
        self._absent: set[tuple[str, str]] = set()
        self._stored: dict[str, Any] = {}

    # ---------------------------------------------------------------- content

    @property
    def path(self) -> Path:
        """The folder of the collection, absolute: ``<root>/<name>``."""
        return self.root / self.name

    @property
    def layout(self) -> CollectionLayout:
        """Where everything of the collection is on disk."""
        return CollectionLayout(self.path)

    @property
    def params(self) -> list[RunParams]:
        """All run params, in the order in which they were added; a list of its own."""
        return list(self._params.values())

    @property
    def run_specs(self) -> list[RunSpec]:
        """All run specs, in the order in which they were added; a list of its own."""
        return list(self._specs.values())

    @property
    def runs(self) -> list[R]:
        """All runs: every run spec with every run params."""
        return list(self._runs())

    @property
    def n_runs(self) -> int:
        """How many runs there are."""
        return len(self._specs) * len(self._params) - len(self._absent)

    @property
    def dataset_info(self) -> list[dict[str, Any]]:
        """What `collection.json` says of each dataset; empty unless the collection was opened or prepared."""
        return list(self._stored.get("datasets", {}).get("items", []))

    def _runs(self) -> Iterator[R]:
        for spec in self._specs.values():
            for params_hash, params in self._params.items():
                if (spec.name, params_hash) not in self._absent:
                    yield self.run_class(self, spec, params)

    def add_params(self, params: RunParams | Iterable[RunParams]) -> None:
        """Add run params, one or many; those that are here already are not added twice.

        Params that differ from present ones only in what does not change the trained model (`name`,
        `gpu_memory_mb`, posterior sampling, ...) take their place.

        Parameters
        ----------
        params : RunParams or iterable of RunParams

        Raises
        ------
        MismatchError
            Two different params have one hash.
        UsageError
            Something else than run params.
        """
        for item in [params] if isinstance(params, RunParams) else list(params):
            if not isinstance(item, RunParams):
                raise UsageError(f"{item!r} is no RunParams", hint="add RunParams(...), or a list of them")
            present = self._params.get(item.param_hash)
            if present is not None and present.hashed_values() != item.hashed_values():
                raise MismatchError(
                    f"two different params have the hash {item.param_hash}",
                    where=present.diff_text(item),
                    hint="change any value a little",
                )
            self._params[item.param_hash] = item

    def add_run_spec(self, spec: RunSpec | Iterable[RunSpec]) -> None:
        """Add run specs, one or many; the same one again changes nothing.

        Parameters
        ----------
        spec : RunSpec or iterable of RunSpec

        Raises
        ------
        UsageError
            Another run spec with the same name is here.
        """
        for item in [spec] if isinstance(spec, RunSpec) else list(spec):
            if not isinstance(item, RunSpec):
                raise UsageError(f"{item!r} is no RunSpec", hint="add RunSpec(name, datasets, which)")
            present = self._specs.get(item.name)
            if present is not None and present != item:
                raise UsageError(
                    f"there is a run spec {item.name!r} with other datasets",
                    where=f"{', '.join(present.dataset_names)}; new: {', '.join(item.dataset_names)}",
                    hint="give the new one another name",
                )
            self._specs[item.name] = item

    add_run_specs = add_run_spec

    def clear_params(self) -> None:
        """Take all run params out of this object; nothing on disk changes."""
        self._params.clear()
        self._absent.clear()

    def clear_run_specs(self) -> None:
        """Take all run specs out of this object; nothing on disk changes."""
        self._specs.clear()
        self._absent.clear()

    def clear(self) -> None:
        """Take everything out of this object; nothing on disk changes."""
        self.clear_params()
        self.clear_run_specs()

    def filter(
        self: C,
        params: Callable[[RunParams], bool] | None = None,
        run_specs: Callable[[RunSpec], bool] | None = None,
    ) -> C:
        """Return the collection with only the params and run specs for which the functions are true.

        Both share one directory: nothing on disk changes.

        Parameters
        ----------
        params : callable (RunParams) -> bool, optional
            All are kept unless given.
        run_specs : callable (RunSpec) -> bool, optional
            All are kept unless given.
        """
        new = type(self)(self.root, self.name, self.dataset_collection, self.comment)
        new._params = {h: p for h, p in self._params.items() if params is None or params(p)}
        new._specs = {n: s for n, s in self._specs.items() if run_specs is None or run_specs(s)}
        new._absent = {(s, h) for s, h in self._absent if s in new._specs and h in new._params}
        new._stored = self._stored
        return new

    # ---------------------------------------------------------------- finding

    def params_index(self, params: RunParams) -> int:
        """Return the position of run params, from 0.

        Parameters
        ----------
        params : RunParams
            Of this collection.
        """
        try:
            return list(self._params).index(params.param_hash)
        except ValueError:
            raise NotFoundError(f"these params are not in collection {self.name!r}", where=params) from None

    def find_params(self, which: int | str | RunParams) -> RunParams:
        """Return run params by position (from 0), hash, name, or the first characters of one hash.

        Parameters
        ----------
        which : int, str or RunParams

        Raises
        ------
        NotFoundError
        """
        if isinstance(which, RunParams):
            which = which.param_hash
        if isinstance(which, str):
            text = which.removeprefix("param_")
            found = [p for h, p in self._params.items() if h == text]
            found = found or [p for p in self.params if which and p.name == which]
            found = found or [p for h, p in self._params.items() if text and h.startswith(text)]
            if len(found) == 1:
                return found[0]
            raise NotFoundError(
                f"{'no' if not found else 'more than one'} params have the hash or name {which!r}",
                where=f"collection {self.name!r}",
                hint=suggest(text, list(self._params)) or f"hashes: {words.listing(list(self._params))}",
            )
        if not -len(self._params) <= which < len(self._params):
            raise NotFoundError(
                f"there are no params {which}",
                where=f"collection {self.name!r}",
                hint=f"there are {len(self._params)}, counted from 0",
            )
        return self.params[which]

    def find_run_spec(self, which: str | RunSpec) -> RunSpec:
        """Return a run spec by name; NotFoundError suggests the nearest name.

        Parameters
        ----------
        which : str or RunSpec
        """
        name = which.name if isinstance(which, RunSpec) else which
        if name not in self._specs:
            names = list(self._specs)
            raise NotFoundError(
                f"there is no run spec {name!r}",
                where=f"collection {self.name!r}",
                hint=suggest(name, names) or f"there are: {words.listing(names)}",
            )
        return self._specs[name]

    def find_runs(
        self,
        spec: str | RunSpec | Iterable[str | RunSpec] | None = None,
        params: int | str | RunParams | Iterable[int | str | RunParams] | None = None,
        **match: Any,
    ) -> list[R]:
        """Return the runs that fit, in order.

        Parameters
        ----------
        spec : str or RunSpec, or several
            None: any.
        params : int, str or RunParams, or several
            Position (from 0), hash or name; None: any.
        **match
            Values that the params must have: `factors_dim=4`; a list means any of its values, a function is
            asked.

        Raises
        ------
        NotFoundError
            No such run spec or params.
        ParamsError
            No such hyperparameter.
        """
        specs = None if spec is None else {self.find_run_spec(s).name for s in _several(spec, RunSpec)}
        hashes = None
        if params is not None:
            hashes = {self.find_params(p).param_hash for p in _several(params, RunParams)}
        fitting = {h for h, p in self._params.items() if matches(p, match)}
        return [
            run
            for run in self._runs()
            if (specs is None or run.spec.name in specs)
            and (hashes is None or run.params.param_hash in hashes)
            and run.params.param_hash in fitting
        ]

    def find_run(
        self,
        spec: str | RunSpec | None = None,
        params: int | str | RunParams | None = None,
        **match: Any,
    ) -> R:
        """Return the one run that fits; see `find_runs`.

        Parameters
        ----------
        spec : str or RunSpec, optional
        params : int, str or RunParams, optional
            A position, hash or name.
        **match
            Values of hyperparameters, such as ``factors_dim=8``.

        Raises
        ------
        NotFoundError
            None fits, or several; they are listed.
        """
        found = self.find_runs(spec, params, **match)
        if len(found) == 1:
            return found[0]
        listed = found or self.runs
        raise NotFoundError(
            f"{len(found)} runs fit" if found else "no run fits",
            where=f"collection {self.name!r}",
            hint=("narrow it down:\n" if found else "there are:\n")
            + words.lines([f"{run.id} {run.params.diff_text()}".strip() for run in listed]),
        )

    def run_by_id(self, run_id: str) -> R:
        """Return the run with the id `param_<hash>/<run spec>`.

        Parameters
        ----------
        run_id : str

        Raises
        ------
        NotFoundError
        """
        params_hash, _, spec = run_id.removeprefix("param_").partition("/")
        if spec in self._specs and params_hash in self._params and (spec, params_hash) not in self._absent:
            return self.run_class(self, self._specs[spec], self._params[params_hash])
        ids = [run.id for run in self._runs()]
        raise NotFoundError(
            f"there is no run {run_id!r}",
            where=f"collection {self.name!r}",
            hint=suggest(run_id, ids) or f"there are: {words.listing(ids)}",
        )

    # ---------------------------------------------------------------- disk

    @classmethod
    def open(
        cls: type[C],
        path: str | Path,
        *,
        dataset_collection: DatasetCollection | None = None,
        params_class: type[RunParams] = RunParams,
    ) -> C:
        """Open a collection from its directory, without the script or the datasets that made it.

        Parameters
        ----------
        path : path
            `<root>/<name>`.
        dataset_collection : DatasetCollection, optional
            Needed only to prepare more runs.
        params_class : type
            A user's subclass of RunParams; without it its fields are kept as they were stored.

        Raises
        ------
        NotFoundError
            There is no collection.
        ConfigError
            `collection.json` is damaged or from a newer version.
        """
        layout = CollectionLayout(Path(path).absolute())
        stored = read_stored(layout)
        if stored is None:
            matlab = LegacyCollectionLayout(layout.path).runs()
            raise NotFoundError(
                "this collection is one of the Matlab run manager"
                if matlab
                else "there is no run collection",
                where=layout.path,
                hint="open it to read: LegacyCollection.open(path)"
                if matlab
                else "prepare_for_lfads() writes collection.json",
            )
        new = cls(layout.path.parent, layout.path.name, dataset_collection, comment=stored["comment"])
        new._stored = stored
        new.add_params([params_class.from_json(document) for document in stored["params"]])
        new.add_run_spec(
            [RunSpec.from_json(document, dataset_collection) for document in stored["run_specs"]]
        )
        listed = set(stored["runs"])
        new._absent = {(run.spec.name, run.params.param_hash) for run in new._runs() if run.id not in listed}
        return new


def _several(given: Any, *single: type) -> list[Any]:
    several = isinstance(given, Iterable) and not isinstance(given, (str, *single))
    return list(given) if several else [given]
