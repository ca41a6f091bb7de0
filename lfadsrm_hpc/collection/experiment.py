"""An experiment as a folder with an `experiment.toml`: datasets, run specs, params and sweeps.

A Python file serves for all that this form cannot say; both give the same collection.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lfadsrm_hpc.errors import ConfigError, LfadsrmError, suggest

if TYPE_CHECKING:
    from lfadsrm_hpc.collection.collection import RunCollection
    from lfadsrm_hpc.data.dataset import DatasetCollection

EXPERIMENT_FILE = "experiment.toml"

_TABLES: dict[str, tuple[str, ...]] = {
    "collection": ("name", "root", "comment"),
    "datasets": ("path", "files", "min_trials"),
    "params": (),
    "sweep": (),
    "run_specs": ("singles", "stitched", "specs"),
    "queue": (),
}

TEMPLATE = """\
# An experiment of lfadsrm_hpc. `lfadsrm prepare` builds the run collection from it, `lfadsrm run` trains it.

[collection]
name = "{name}"              # the folder <root>/<name> holds everything that is made
root = "runs"
# comment = "what this is about"

[datasets]
path = "datasets"            # one file a recording session: .h5, .nc, .npz or .mat
files = ["*"]                # names or patterns, in this order
# min_trials = 50            # leave smaller sessions out

[params]                     # hyperparameters; what is not named keeps its default (`lfadsrm show --params`)
spike_bin_ms = 10
co_dim = 0                   # inferred inputs; 0: none
batch_size = 64
gen_dim = 64
ic_enc_dim = 64
learning_rate_stop = 1e-3

[sweep]                      # every combination of these
factors_dim = [4, 8]

[run_specs]
singles = true               # each session alone ...
stitched = "all"             # ... and all of them together, under this name; leave out for none
# specs = [{{ name = "two_days", datasets = ["day1", "day2"] }}]

[queue]                      # the local queue (`lfadsrm run`)
# slots = 2                  # runs at a time without a GPU
"""

C = TypeVar("C", bound="RunCollection")


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
        Names or patterns in that folder.
    min_trials : int
        Sessions with fewer trials are left out.
    params, sweep : dict
        Hyperparameters, and the values to sweep over as a full grid.
    singles : bool
        Whether each session is a run spec of its own.
    stitched : str or None
        Name of the run spec of all sessions together.
    specs : tuple of (name, datasets)
        Further run specs.
    queue : dict
        Options of the local queue.
    """

    path: Path
    name: str
    root: Path
    datasets: Path
    files: tuple[str, ...] = ("*",)
    min_trials: int = 0
    comment: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    sweep: dict[str, list[Any]] = field(default_factory=dict)
    singles: bool = True
    stitched: str | None = None
    specs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    queue: dict[str, Any] = field(default_factory=dict)

    @property
    def collection_path(self) -> Path:
        return self.root / self.name

    def dataset_collection(self) -> DatasetCollection:
        """Find the recording sessions.

        Raises
        ------
        ConfigError
            The folder is missing, or a name or pattern matches nothing.
        """
        from lfadsrm_hpc.data.dataset import Dataset, DatasetCollection

        if not self.datasets.is_dir():
            raise ConfigError(
                f"there is no folder {str(self.datasets)!r}",
                where=f"{self.path}, [datasets] path",
                hint="put one file a recording session there, or name the right folder",
            )
        collection = DatasetCollection(self.datasets)
        for relative in self._files():
            Dataset(collection, relative)
        if self.min_trials:
            collection.load_info()
            collection = collection.filter_min_trials(self.min_trials)
        return collection

    def _files(self) -> list[str]:
        from lfadsrm_hpc.data.readers import readable_suffixes

        found: list[str] = []
        for pattern in self.files:
            matches = sorted(
                path.relative_to(self.datasets).as_posix()
                for path in self.datasets.glob(pattern)
                if path.is_file() and path.suffix.lower() in readable_suffixes()
            )
            if not matches:
                raise ConfigError(
                    f"nothing in {str(self.datasets)!r} matches {pattern!r}",
                    where=f"{self.path}, [datasets] files",
                    hint=f"files that can be read end in {', '.join(readable_suffixes())}",
                )
            found += [match for match in matches if match not in found]
        return found

    def build(self, cls: type[C]) -> C:
        """Build the run collection, an instance of `cls`, without writing anything.

        Raises
        ------
        ConfigError, ParamsError
            The file names something that cannot be; the message says where.
        """
        from lfadsrm_hpc.collection.params import RunParams
        from lfadsrm_hpc.collection.run_spec import RunSpec

        datasets = self.dataset_collection()
        collection = cls(self.root, self.name, datasets, comment=self.comment)
        try:
            params = RunParams(**self.params)
            collection.add_params(params.generate_sweep(**self.sweep) if self.sweep else [params])
        except LfadsrmError as error:
            raise _at(error, f"{self.path}, [params] or [sweep]") from None
        try:
            if self.singles:
                for dataset in datasets:
                    collection.add_run_spec(RunSpec(dataset.single_run_name, datasets, [dataset.name]))
            if self.stitched is not None and len(datasets) > 1:
                collection.add_run_spec(RunSpec(self.stitched, datasets, [d.name for d in datasets]))
            for name, members in self.specs:
                collection.add_run_spec(RunSpec(name, datasets, list(members)))
        except LfadsrmError as error:
            raise _at(error, f"{self.path}, [run_specs]") from None
        return collection


def _at(error: LfadsrmError, where: str) -> LfadsrmError:
    return ConfigError(error.what, where=error.where or where, hint=error.hint)


def read_experiment(path: Path | str) -> Experiment:
    """Read and check an `experiment.toml`, given itself or its folder.

    Raises
    ------
    ConfigError
        The file is missing or not TOML, or a table, key or type is wrong; unknown names get the nearest right one.
    """
    file = Path(path)
    if file.is_dir():
        file = file / EXPERIMENT_FILE
    content = _parse(file)
    _refuse_unknown(content, list(_TABLES), f"{file}")
    for table, keys in _TABLES.items():
        value = content.setdefault(table, {})
        if not isinstance(value, dict):
            raise ConfigError(f"[{table}] must be a table", where=file)
        if keys:
            _refuse_unknown(value, keys, f"{file}, [{table}]")
    here = file.resolve().parent
    take = _Taker(file, content)
    sweep = content["sweep"]
    for name, values in sweep.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"{name} must be a list of values", where=f"{file}, [sweep]", hint=f"{name} = [1, 2]"
            )
    return Experiment(
        path=file,
        name=take("collection", "name", str, here.name),
        root=here / take("collection", "root", str, "runs"),
        comment=take("collection", "comment", str, ""),
        datasets=here / take("datasets", "path", str, "datasets"),
        files=tuple(take.texts("datasets", "files", ["*"])),
        min_trials=take("datasets", "min_trials", int, 0),
        params=dict(content["params"]),
        sweep=dict(sweep),
        singles=take("run_specs", "singles", bool, True),
        stitched=take("run_specs", "stitched", str, None),
        specs=_specs(file, content["run_specs"].get("specs", [])),
        queue=dict(content["queue"]),
    )


def _parse(file: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {file.name} here", where=file.parent, hint="`lfadsrm init` writes one"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid TOML: {error}", where=file) from None


def _refuse_unknown(content: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for name in content:
        if name not in known:
            hint = suggest(name, known) or f"known here: {', '.join(known)}"
            raise ConfigError(f"unknown key {name!r}", where=where, hint=hint)


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
                hint='specs = [{ name = "two_days", datasets = ["day1", "day2"] }]',
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
        value = self.content[table].get(key, default)
        if value is not default and type(value) is not kind:
            raise ConfigError(
                f"{key} = {value!r} must be of type {kind.__name__}", where=f"{self.file}, [{table}]"
            )
        return value

    def texts(self, table: str, key: str, default: list[str]) -> list[str]:
        value = self.content[table].get(key, default)
        if isinstance(value, str):
            return [value]
        if not _is_texts(value):
            raise ConfigError(f"{key} must be a list of texts", where=f"{self.file}, [{table}]")
        return list(value)
