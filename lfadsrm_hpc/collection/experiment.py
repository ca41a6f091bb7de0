"""An experiment as a folder with an `experiment.toml`: datasets, run specs, params and sweeps.

A Python file serves for all that this form cannot say; both give the same collection.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lfadsrm_hpc.collection.experiment_datasets import located, matches, pointing
from lfadsrm_hpc.collection.experiment_errors import Said, naming
from lfadsrm_hpc.errors import ConfigError
from lfadsrm_hpc.trust import may_run_commands, require_file

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from lfadsrm_hpc.collection.collection import RunCollection
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.data.dataset import Dataset
    from lfadsrm_hpc.data.dataset_collection import DatasetCollection

_QUEUE_COMMANDS = ("environment", "task_command")  # of [queue]
SPECS_EXAMPLE = 'specs = [{ name = "two_days", datasets = ["day1", "day2"] }]'
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

    def naming(self) -> AbstractContextManager[None]:
        """Return a block in which errors about what this file says name the key that says it."""
        specs = {name: "specs" for name, _ in self.specs}
        return naming(
            Said(
                self.path,
                params={"params": self.params, "sweep": self.sweep},
                options={
                    "datasets.options": self.options,
                    "datasets.alignment_options": self.alignment_options,
                },
                specs=specs | ({self.stitched: "stitched"} if self.stitched is not None else {}),
            )
        )

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
        with located(self.where("datasets", "files")), self.naming():
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
            with located(self.where("datasets", "alignment_options")), self.naming():
                dataset.align_by(source, **options)

    def _large_enough(self, found: DatasetCollection) -> DatasetCollection:
        with self.naming():
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
                hint=f"singles = true, or {SPECS_EXAMPLE}; stitched needs two sessions",
            )
        return collection
