"""What WHERE means on the command line: a run collection, an experiment, or the nearest of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lfadsrm_hpc.errors import NotFoundError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.legacy_layout import LegacyCollectionLayout
from lfadsrm_hpc.rendering import shell_quote

if TYPE_CHECKING:
    from lfadsrm_hpc.collection.experiment import Experiment


@dataclass(frozen=True)
class Place:
    """What WHERE means.

    Attributes
    ----------
    collection : Path
        The folder of the run collection.
    experiment : Experiment or None
        None where WHERE is the collection itself.
    """

    collection: Path
    experiment: Experiment | None = None

    @property
    def is_prepared(self) -> bool:
        return CollectionLayout(self.collection).collection_json.is_file()


def find_place(where: Path | None, *, prepared: bool = True) -> Place:
    """Return the run collection that `where` means.

    It may be the collection, an experiment's folder or its TOML file; without it, the nearest of these from
    the current folder upwards. With `prepared` the collection must be there.

    Raises
    ------
    NotFoundError
        There is none, or the experiment is not prepared.
    ConfigError
        The experiment's file is invalid.
    """
    from lfadsrm_hpc.collection.experiment_file import EXPERIMENT_FILE, read_experiment

    for start in [where] if where is not None else [Path.cwd(), *Path.cwd().parents]:
        if CollectionLayout(start).collection_json.is_file():
            return Place(start)
        file = start if start.suffix == ".toml" and not start.is_dir() else start / EXPERIMENT_FILE
        if file.is_file():
            experiment = read_experiment(file)
            place = Place(experiment.collection_path, experiment)
            if prepared and not place.is_prepared:
                raise NotFoundError(
                    "this experiment has no run collection yet",
                    where=place.collection,
                    hint=f"lfadsrm prepare {shell_quote(start)}",
                )
            return place
    if LegacyCollectionLayout(where or Path.cwd()).runs():
        raise NotFoundError(
            "this collection is one of the Matlab run manager",
            where=where or Path.cwd(),
            hint="`lfadsrm show`, `status` and `best` tell of its runs, `export` makes one file of it; in "
            "Python: LegacyCollection.open(path)",
        )
    raise NotFoundError(
        "there is no run collection and no experiment.toml here",
        where=where or Path.cwd(),
        hint="name one, or begin with `lfadsrm init` or `lfadsrm demo`",
    )


def nearest_experiment() -> Path:
    """Return the nearest folder with an experiment.toml, from here upwards; the current one, if none has."""
    from lfadsrm_hpc.collection.experiment_file import EXPERIMENT_FILE

    here = Path.cwd()
    found = (folder for folder in (here, *here.parents) if (folder / EXPERIMENT_FILE).is_file())
    nearest = next(found, here)
    return Path() if nearest == here else nearest


def is_place(path: Path) -> bool:
    """Return whether a path is a run collection, or an experiment's folder or TOML file."""
    from lfadsrm_hpc.collection.experiment_file import EXPERIMENT_FILE

    if path.is_file():
        return path.suffix == ".toml"
    return CollectionLayout(path).collection_json.is_file() or (path / EXPERIMENT_FILE).is_file()
