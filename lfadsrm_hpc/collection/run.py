"""A run: one run spec with one set of run params, and where its files are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.errors import ConfigError, MismatchError, NotFoundError, suggest
from lfadsrm_hpc.layout import CollectionLayout, RunLayout
from lfadsrm_hpc.plain_files import read_json


class Home(Protocol):
    """A run collection, seen from one of its runs."""

    @property
    def path(self) -> Path:
        """The folder of the collection."""

    @property
    def layout(self) -> CollectionLayout:
        """All paths below it."""

    @property
    def name(self) -> str:
        """The name of the folder."""

    def run_by_id(self, run_id: str) -> Run:
        """Return the run with this id."""

    def params_index(self, params: RunParams) -> int:
        """Return the position of run params, from 0."""


class Run:
    """One run spec with one set of run params.

    Attributes
    ----------
    collection : RunCollection
    spec : RunSpec
    params : RunParams
        As the user gave them; the model trains with `effective_params`.
    id : str
        `param_<hash>/<run spec>`.
    """

    def __init__(self, collection: Home, spec: RunSpec, params: RunParams) -> None:
        self.collection = collection
        self.spec = spec
        self.params = params
        self.id = f"param_{params.param_hash}/{spec.name}"

    @property
    def name(self) -> str:
        """The name of the run spec."""
        return self.spec.name

    @property
    def layout(self) -> RunLayout:
        """Where everything of the run is on disk."""
        return self.collection.layout.run(self.params.param_hash, self.spec.name)

    @property
    def path(self) -> Path:
        """The folder of the run: ``<collection>/param_<hash>/<run spec>``."""
        return self.layout.path

    @property
    def params_index(self) -> int:
        """Position of the params in the collection, from 0."""
        return self.collection.params_index(self.params)

    @property
    def dataset_names(self) -> tuple[str, ...]:
        """The names of the datasets that it fits, in order."""
        return self.spec.dataset_names

    @property
    def n_datasets(self) -> int:
        """How many datasets it fits together."""
        return self.spec.n_datasets

    @property
    def data_hash(self) -> str:
        """12 characters: which folder its inputs are in, ``data_<hash>``."""
        return self.params.data_hash(self.n_datasets)

    @property
    def effective_params(self) -> RunParams:
        """The params that the model trains with: ramps scaled by the number of datasets."""
        return self.params.effective(self.n_datasets)

    def input_files(self) -> dict[str, Path]:
        """Return the LFADS input file of each dataset, in the order of the spec."""
        layout = self.collection.layout
        return {n: layout.input_file(self.data_hash, self.spec.name, n) for n in self.dataset_names}

    @property
    def is_prepared(self) -> bool:
        """Whether its `params.json` is there."""
        return self.layout.params_json.exists()

    def record(self) -> dict[str, Any]:
        """Return the content of `params.json`: params, datasets, data hash, fingerprints, input files.

        Raises
        ------
        NotFoundError
            The run is not prepared.
        ConfigError
            The file is damaged.
        """
        return read_record(self.layout.params_json)

    def check_inputs(self) -> None:
        """Refuse a run whose files no longer belong together.

        Compares `params.json` with the run spec and params at hand, and the input files with the
        fingerprints that it records.

        Raises
        ------
        MismatchError
            The message names the dataset and what changed.
        NotFoundError
            The run is not prepared, or an input file is missing.
        """
        check_inputs([self])

    def identity(self) -> dict[str, Any]:
        """Return what `params.json` must hold for it to be this run's: all that its hashes stand for."""
        return {
            "run_id": self.id,
            "hashed_values": self.params.hashed_values(),
            "spec": {"name": self.spec.name, "datasets": list(self.dataset_names)},
            "data_hash": self.data_hash,
            "hashed_data_values": self.params.hashed_data_values(self.n_datasets),
        }

    def __repr__(self) -> str:
        return f'{type(self).__name__} "{self.id}" {self.params.diff_text()}'.rstrip()


def read_record(path: Path) -> dict[str, Any]:
    """Read a `params.json`."""
    try:
        record = read_json(path)
    except FileNotFoundError:
        raise NotFoundError(
            "the run is not prepared", where=path, hint="call prepare_for_lfads(), or `lfadsrm prepare`"
        ) from None
    except ValueError as error:
        raise ConfigError(f"the file is damaged: {error}", where=path) from None
    missing = {"run_id", "params", "spec", "data_hash", "inputs"} - set(
        record if isinstance(record, dict) else ()
    )
    if missing:
        raise ConfigError(f"the file lacks {sorted(missing)}", where=path)
    return dict(record)


def check_same_run(record: dict[str, Any], identity: dict[str, Any], path: Path) -> None:
    """Refuse a `params.json` that stands for another run than `identity`.

    Raises
    ------
    MismatchError
        Other datasets under the same run spec, or other params with the same hash.
    """
    before, now = record["spec"]["datasets"], identity["spec"]["datasets"]
    if before != now:
        raise MismatchError(
            f"run spec {identity['spec']['name']!r} was prepared with the datasets {', '.join(before)}, "
            f"and now names {', '.join(now)}",
            where=path,
            hint="give the changed run spec another name",
        )
    for key, what in (("hashed_values", "params"), ("hashed_data_values", "data params")):
        old, new = record.get(key, {}), identity[key]
        differing = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
        if differing:
            name = differing[0]
            raise MismatchError(
                f"two different {what} have one hash: {name} is {_shown(old, name)} on disk and "
                f"{_shown(new, name)} here",
                where=path,
                hint="change any value a little, or use another collection",
            )
    if record["data_hash"] != identity["data_hash"]:
        raise MismatchError(
            f"the data hash was {record['data_hash']} and is now {identity['data_hash']}",
            where=path,
            hint="the run was prepared by a version that hashes otherwise; use another collection",
        )


def check_inputs(runs: Iterable[Run]) -> None:
    """Refuse runs whose files no longer belong together, as `Run.check_inputs`; each input is read once.

    Raises
    ------
    MismatchError, NotFoundError, ConfigError
    """
    from lfadsrm_hpc.data.inputs import read_fingerprint

    fingerprints: dict[Path, str] = {}
    for run in runs:
        record = run.record()
        check_same_run(record, run.identity(), run.layout.params_json)
        for entry in record["inputs"]:
            path = run.collection.path / entry["file"]
            if path not in fingerprints:
                fingerprints[path] = read_fingerprint(path)
            if fingerprints[path] != entry["inputs_fingerprint"]:
                raise MismatchError(
                    f"dataset {entry['dataset']!r}: the input file is not the one that run {run.id} was "
                    "prepared with",
                    where=f"{path}: {fingerprints[path][:16]}..., prepared with "
                    f"{entry['inputs_fingerprint'][:16]}...",
                    hint="put the old file back, or delete it and prepare again: it is written anew, "
                    "where the recording is what it was",
                )


def _shown(values: dict[str, Any], name: str) -> str:
    return repr(values[name]) if name in values else "at its default"


def one_dataset(run_id: str, names: Sequence[str], name: str | None) -> str:
    """Return which of a run's datasets is meant: the only one, where none is named.

    Raises
    ------
    NotFoundError
        No such dataset, or none was named and there are several; the message lists them.
    """
    if name is None and len(names) == 1:
        return names[0]
    listed = ", ".join(names)
    if name is None:
        raise NotFoundError(
            f"run {run_id} has {len(names)} datasets: {listed}", hint=f"name one: dataset={names[0]!r}"
        )
    if name not in names:
        raise NotFoundError(
            f"run {run_id} has no dataset {name!r}, it has {listed}", hint=suggest(name, names)
        )
    return name
