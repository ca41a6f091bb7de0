"""An experiment as a folder with an `experiment.toml`: datasets, run specs, params and sweeps.

A Python file serves for all that this form cannot say; both give the same collection.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lfadsrm_hpc.collection.experiment_datasets import (
    located,
    matches,
    pointing,
    reader_options,
    refuse_unknown,
    sessions,
)
from lfadsrm_hpc.collection.experiment_template import template as template
from lfadsrm_hpc.errors import ConfigError, NotFoundError
from lfadsrm_hpc.layout import check_name
from lfadsrm_hpc.plain_files import read_bytes
from lfadsrm_hpc.trust import may_run_commands, require_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from lfadsrm_hpc.collection.collection import RunCollection
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.data.dataset import Dataset
    from lfadsrm_hpc.data.dataset_collection import DatasetCollection

EXPERIMENT_FILE = "experiment.toml"

_CLUSTER_TEXTS = ("site", "walltime", "partition", "memory", "gpu_type", "account")
_CLUSTER_COUNTS = ("cpus", "gpus", "max_parallel")
# The keys of each table; in those with none they are names that other rooms know.
_TABLES: dict[str, tuple[str, ...]] = {
    "collection": ("name", "root", "comment"),
    "datasets": (
        *("path", "files", "min_trials", "options", "sessions", "alignment", "alignment_options"),
        "silence",
    ),
    "params": (),
    "sweep": (),
    "run_specs": ("singles", "stitched", "specs"),
    "queue": (),
    "cluster": (*_CLUSTER_TEXTS, *_CLUSTER_COUNTS, "set"),
}
_KINDS = {str: "a text", bool: "true or false", int: "a whole number"}
_QUEUE_COMMANDS = ("environment", "task_command")  # of [queue]
_SPECS_EXAMPLE = 'specs = [{ name = "two_days", datasets = ["day1", "day2"] }]'
C = TypeVar("C", bound="RunCollection[Any]")


@dataclass(frozen=True)
class Experiment:
    """The content of an `experiment.toml`, checked.

    Attributes
    ----------
    path : Path
        The file; relative paths in it start at its folder.
    name, comment : str
        Of the run collection.
    root : Path
        The folder that holds the run collection.
    datasets : Path
        The folder of the recording sessions.
    files : tuple of str
        Names (with or without suffix) or patterns in that folder.
    min_trials : int
        Sessions with fewer trials are left out.
    options : dict
        Of the readers of all files; their names are checked when the datasets are found.
    sessions : tuple of (name, file, options)
        Sessions with a name or options of their own. One that has the name of a file takes its place.
    alignment : Path or None
        A folder with other data to align the sessions by: for each a file of its name.
    alignment_options : dict
        How these are read, besides `options`; without such a folder: how the sessions' own files are read to
        align them.
    silence : tuple of str
        Names of warnings about sessions that are not wanted.
    params, sweep : dict
        Hyperparameters, and the values to sweep over as a full grid. Their names and values are checked by
        `build`.
    singles : bool
        Whether each session is a run spec of its own.
    stitched : str or None
        Name of the run spec of all sessions together.
    specs : tuple of (name, datasets)
        Further run specs.
    queue : dict
        Options of the local queue, checked by `lfadsrm_hpc.schedulers.sites.loading.queue_options`.
    cluster : dict
        What is asked of a cluster: site, walltime, partition, memory, gpu_type and account (texts), cpus,
        gpus and max_parallel (numbers), set (texts).
    """

    path: Path
    name: str
    root: Path
    datasets: Path
    files: tuple[str, ...] = ("*",)
    min_trials: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    sessions: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    alignment: Path | None = None
    alignment_options: dict[str, Any] = field(default_factory=dict)
    silence: tuple[str, ...] = ()
    comment: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    sweep: dict[str, list[Any]] = field(default_factory=dict)
    singles: bool = True
    stitched: str | None = None
    specs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    queue: dict[str, Any] = field(default_factory=dict)
    cluster: dict[str, Any] = field(default_factory=dict)

    @property
    def collection_path(self) -> Path:
        return self.root / self.name

    @property
    def commands(self) -> bytes:
        """What in the file ends up as commands: of [queue] and of [cluster]; empty where nothing does.

        The user trusts this and not the whole file: other hyperparameters need not be trusted again.
        """
        found: dict[str, Any] = {name: self.queue[name] for name in _QUEUE_COMMANDS if name in self.queue}
        if settings := [text for text in self.cluster.get("set", ()) if may_run_commands(text)]:
            found["set"] = settings
        return json.dumps(found, sort_keys=True, default=str).encode() if found else b""

    def require_trust(self) -> None:
        """Refuse an experiment whose commands the user has not trusted.

        Raises
        ------
        UntrustedError
        """
        if self.commands:
            found = json.loads(self.commands)
            parts = [f"{name} of [queue]" for name in _QUEUE_COMMANDS if name in found]
            keys = [text.partition("=")[0].strip() for text in found.get("set", ())]
            parts += [f"set of [cluster] ({', '.join(keys)})"] if keys else []
            require_file(self.path, self.commands, " and ".join(parts))

    def where(self, table: str, key: str = "") -> str:
        """Return file, table and key as messages name them."""
        return f"{self.path}, [{table}] {key}".rstrip()

    def pointing(self) -> AbstractContextManager[None]:
        """Return a block in which errors that name this file get the line that they are about."""
        return pointing(self.path)

    def dataset_collection(self) -> DatasetCollection:
        """Find the recording sessions, without the small ones.

        Raises
        ------
        ConfigError
            A folder is missing, a name or pattern matches nothing that can be read, two files would be one
            dataset, every session is too small, or one has no file to be aligned by.
        DataError
            A session cannot be read (only where `min_trials` asks for their sizes).
        """
        from lfadsrm_hpc.data.dataset import Dataset
        from lfadsrm_hpc.data.dataset_collection import DatasetCollection

        found = DatasetCollection(self.datasets)
        with located(self.where("datasets", "files")):
            for relative in self.dataset_files():
                Dataset(found, relative, **self.options)
        for name, relative, own in self.sessions:
            where = self.where("datasets.sessions", name)
            (file,) = matches(self.datasets, relative, where=where, one=True)
            with located(where):
                Dataset(found, file, name=name, **(self.options | own))
        chosen = self._large_enough(found) if self.min_trials else found
        for dataset in chosen:
            self._align(dataset)
        return chosen

    def _align(self, dataset: Dataset) -> None:
        """Say by which other data a session is to be aligned, where there are some."""
        source: Path | None = None
        if self.alignment is not None:
            where = self.where("datasets", "alignment")
            if not self.alignment.is_dir():
                raise ConfigError(
                    f"there is no folder {str(self.alignment)!r}",
                    where=where,
                    hint="put a file of the same name there for each session, or leave `alignment` out",
                )
            (file,) = matches(self.alignment, dataset.name, where=where, one=True)
            source = self.alignment / file
        options = self.alignment_options if source is None else self.options | self.alignment_options
        if source is not None or options:
            with located(self.where("datasets", "alignment_options")):
                dataset.align_by(source, **options)

    def _large_enough(self, found: DatasetCollection) -> DatasetCollection:
        found.load_info()
        chosen = found.filter_min_trials(self.min_trials)
        if not len(chosen):
            most = max(dataset.load_info()["n_trials"] for dataset in found)
            raise ConfigError(
                f"no session has {self.min_trials} trials; the largest has {most}",
                where=self.where("datasets", "min_trials"),
                hint="lower min_trials, or leave it out",
            )
        return chosen

    def dataset_files(self) -> list[str]:
        """Return the files of the recording sessions, small ones too, relative to their folder; not
        `sessions`.

        Raises
        ------
        ConfigError
        """
        if not self.datasets.is_dir():
            raise ConfigError(
                f"there is no folder {str(self.datasets)!r}",
                where=self.where("datasets", "path"),
                hint="put one file a recording session there, or name the right folder",
            )
        where = self.where("datasets", "files")
        found = [file for entry in self.files for file in matches(self.datasets, entry, where=where)]
        return list(dict.fromkeys(found))

    def dataset_names(self) -> list[str]:
        """Return the names of the recording sessions, small ones too.

        Raises
        ------
        ConfigError
        """
        from lfadsrm_hpc.data.formats.registry import name_of

        names = [name_of(self.datasets / file) for file in self.dataset_files()]
        names += [name for name, _, _ in self.sessions]
        return list(dict.fromkeys(names))

    def all_params(self) -> list[RunParams]:
        """Return the run params: one, or the full grid of the sweep.

        Raises
        ------
        ConfigError
            An unknown name (the nearest right one is suggested), or a value that cannot be.
        """
        from lfadsrm_hpc.collection.params import RunParams
        from lfadsrm_hpc.collection.sweep import grid
        from lfadsrm_hpc.model.hyperparameters import plain_names, specs

        names = specs(RunParams)
        with located(self.where("params")):
            given = plain_names(self.params, names)
            params = RunParams(**given)
        with located(self.where("sweep")):
            swept = plain_names(self.sweep, names)
            for name in swept:
                if name in given:
                    raise ConfigError(
                        f"{name} has a value in [params] and values here", hint="name it in one of them"
                    )
            return grid(params, **swept) if swept else [params]

    def build(self, cls: type[C]) -> C:
        """Build the run collection, an instance of `cls`, without writing anything.

        Raises
        ------
        ConfigError
            The file names something that cannot be; the message says where.
        DataError
            A session cannot be read (only where `min_trials` asks for their sizes).
        """
        with self.pointing():
            return self._build(cls)

    def _build(self, cls: type[C]) -> C:
        from lfadsrm_hpc.collection.run_spec import RunSpec

        params = self.all_params()
        datasets = self.dataset_collection()
        collection = cls(self.root, self.name, datasets, comment=self.comment)
        collection.add_params(params)
        if len(collection.params) < len(params):
            raise ConfigError(
                f"{len(params)} combinations give only {len(collection.params)} different models",
                where=self.where("sweep"),
                hint="sweep over what changes the model; drop values that are there twice",
            )
        if self.singles:
            for dataset in datasets:
                collection.add_run_spec(RunSpec(dataset.single_run_name, datasets, [dataset.name]))
        if self.stitched is not None and len(datasets) > 1:
            with located(self.where("run_specs", "stitched")):
                collection.add_run_spec(RunSpec(self.stitched, datasets, [d.name for d in datasets]))
        with located(self.where("run_specs", "specs")):
            for name, members in self.specs:
                collection.add_run_spec(RunSpec(name, datasets, list(members)))
        if not collection.run_specs:
            raise ConfigError(
                "there is nothing to run: no run spec is asked for",
                where=self.where("run_specs"),
                hint=f"singles = true, or {_SPECS_EXAMPLE}; stitched needs two sessions",
            )
        return collection


def read_experiment(path: Path | str) -> Experiment:
    """Read and check an `experiment.toml`, given itself or its folder.

    Raises
    ------
    NotFoundError
        There is no such file.
    ConfigError
        It is not TOML, or a table, key or type is wrong; for an unknown name the nearest
        right one is suggested.
    """
    file = Path(path)
    if file.is_dir():
        file = file / EXPERIMENT_FILE
    with pointing(file):
        return _checked(_parse(file), file)


def parse_experiment(text: str, file: Path) -> Experiment:
    """Return the experiment that a file of this text would describe."""
    return _checked(tomllib.loads(text), file)


def _checked(content: dict[str, Any], file: Path) -> Experiment:
    refuse_unknown(content, list(_TABLES), file, "table")
    for table, keys in _TABLES.items():
        value = content.setdefault(table, {})
        if not isinstance(value, dict):
            raise ConfigError(f"{table} must be a table", where=file, hint=f"[{table}] on a line of its own")
        if keys:
            refuse_unknown(value, keys, f"{file}, [{table}]", "key")
    here = file.absolute().parent
    take = _Taker(file, content)
    return Experiment(
        path=file,
        name=take.name("collection", "name", here.name),
        root=take.folder("collection", "root", here, "runs"),
        comment=take("collection", "comment", str, ""),
        datasets=take.folder("datasets", "path", here, "datasets"),
        files=_files(take, content["datasets"]),
        min_trials=take.count("datasets", "min_trials", 0),
        options=reader_options(content["datasets"].get("options", {}), where=f"{file}, [datasets.options]"),
        sessions=sessions(content["datasets"].get("sessions", []), where=f"{file}, [[datasets.sessions]]"),
        alignment=take.folder("datasets", "alignment", here) if "alignment" in content["datasets"] else None,
        alignment_options=reader_options(
            content["datasets"].get("alignment_options", {}), where=f"{file}, [datasets.alignment_options]"
        ),
        silence=_silence(take, content["datasets"]),
        params=dict(content["params"]),
        sweep=take.lists("sweep"),
        singles=take("run_specs", "singles", bool, True),
        stitched=take.name("run_specs", "stitched", None),
        specs=_specs(file, content["run_specs"].get("specs", [])),
        queue=dict(content["queue"]),
        cluster=_cluster(take, content["cluster"]),
    )


def _cluster(take: _Taker, content: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in content:
        if key == "set":
            found[key] = tuple(take.texts("cluster", key, []))
        elif key in _CLUSTER_COUNTS:
            found[key] = take.count("cluster", key, 0)
        else:
            found[key] = take("cluster", key, str, "")
    return found


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_bytes(file).decode("utf-8-sig"))
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no {file.name} here", where=file.absolute().parent, hint="`lfadsrm init` writes one"
        ) from None
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror}", where=file) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid TOML: {error}", where=file) from None
    except RecursionError:
        raise ConfigError("not valid TOML: it nests too deeply", where=file) from None


def _files(take: _Taker, content: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the entries of `files`; where only `sessions` are named, there are none."""
    if "files" not in content and "sessions" in content:
        return ()
    return tuple(take.texts("datasets", "files", ["*"]))


def _silence(take: _Taker, content: Mapping[str, Any]) -> tuple[str, ...]:
    if "silence" not in content:
        return ()
    from lfadsrm_hpc.data.notes import check_names

    with located(f"{take.file}, [datasets] silence"):
        return check_names(take.texts("datasets", "silence", []))


def _specs(file: Path, value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = []
    for entry in value if isinstance(value, list) else [None]:
        if (
            not isinstance(entry, dict)
            or set(entry) != {"name", "datasets"}
            or not isinstance(entry["name"], str)
            or not _is_texts(entry["datasets"])
        ):
            raise ConfigError(
                "specs must be a list of tables with name and datasets",
                where=f"{file}, [run_specs] specs",
                hint=_SPECS_EXAMPLE,
            )
        found.append((entry["name"], tuple(entry["datasets"])))
    return tuple(found)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


@dataclass(frozen=True)
class _Taker:
    """Takes one value of the file and checks its type."""

    file: Path
    content: Mapping[str, Mapping[str, Any]]

    def __call__(self, table: str, key: str, kind: type, default: Any) -> Any:
        if key not in self.content[table]:
            return default
        value = self.content[table][key]
        if type(value) is not kind:
            raise self.error(f"{key} = {value!r} must be {_KINDS[kind]}", table)
        return value

    def error(self, what: str, table: str, hint: str | None = None) -> ConfigError:
        return ConfigError(what, where=f"{self.file}, [{table}]", hint=hint)

    def name(self, table: str, key: str, default: str | None) -> Any:
        value = self(table, key, str, default)
        if value is not None:
            with located(f"{self.file}, [{table}] {key}"):
                check_name(value, "run spec" if table == "run_specs" else "run collection")
        return value

    def folder(self, table: str, key: str, here: Path, default: str = "") -> Path:
        try:
            return here / Path(self(table, key, str, default)).expanduser()
        except RuntimeError as error:
            raise self.error(f"{key}: {error}", table) from None

    def count(self, table: str, key: str, default: int) -> int:
        value: int = self(table, key, int, default)
        if value < 0:
            raise self.error(f"{key} = {value} must be at least 0", table)
        return value

    def texts(self, table: str, key: str, default: list[str]) -> list[str]:
        value = self.content[table].get(key, default)
        if isinstance(value, str):
            return [value]
        if not _is_texts(value) or not value:
            raise self.error(f"{key} must be a list of texts", table, f'{key} = ["*"]')
        return list(value)

    def lists(self, table: str) -> dict[str, list[Any]]:
        found = dict(self.content[table])
        for name, values in found.items():
            if not isinstance(values, list) or not values:
                raise self.error(f"{name} must be a list of values", table, f"{name} = [1, 2]")
        return found
