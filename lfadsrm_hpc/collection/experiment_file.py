"""Read an `experiment.toml` and check it: its tables, keys and types, with the place of what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lfadsrm_hpc.collection.experiment import SPECS_EXAMPLE, Experiment
from lfadsrm_hpc.collection.experiment_datasets import (
    located,
    pointing,
    reader_options,
    refuse_unknown,
    sessions,
)
from lfadsrm_hpc.errors import ConfigError, NotFoundError
from lfadsrm_hpc.layout import check_name
from lfadsrm_hpc.plain_files import read_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXPERIMENT_FILE = "experiment.toml"
SCRIPT_FILE = "experiment.py"
ROOT = "runs"  # where nothing else is said

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
        root=take.folder("collection", "root", here, ROOT),
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
        kind = "" if file.suffix == ".toml" else "folder "
        raise NotFoundError(
            f"there is no {kind}{file.name} here",
            where=file.absolute().parent,
            hint="`lfadsrm init` writes one",
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
                hint=SPECS_EXAMPLE,
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
