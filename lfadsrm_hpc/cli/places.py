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
    the current folder upwards. An experiment that is a script means its one collection in `runs`. With
    `prepared` the collection must be there.

    Raises
    ------
    NotFoundError
        There is none, or the experiment is not prepared, or is a script with several collections.
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
        if (made := script_collection(start)) is not None:
            return Place(made)
    _refuse_unprepared(where or Path.cwd())
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


def script_collection(folder: Path) -> Path | None:
    """Return the run collection of a folder whose experiment is a script; None: it is none, or not prepared.

    Raises
    ------
    NotFoundError
        There are several.
    """
    from lfadsrm_hpc.collection.experiment_file import ROOT

    if not _is_script_alone(folder):
        return None
    root = folder / ROOT
    inside = sorted(root.iterdir()) if root.is_dir() else []
    found = [path for path in inside if CollectionLayout(path).collection_json.is_file()]
    if len(found) > 1:
        raise NotFoundError(
            f"there are {len(found)} run collections here",
            where=root,
            hint="\n    ".join(["name one of", *(shell_quote(path) for path in found)]),
        )
    return found[0] if found else None


def _is_script_alone(folder: Path) -> bool:
    from lfadsrm_hpc.collection.experiment_file import EXPERIMENT_FILE, SCRIPT_FILE

    return (folder / SCRIPT_FILE).is_file() and not (folder / EXPERIMENT_FILE).is_file()


def _refuse_unprepared(folder: Path) -> None:
    from lfadsrm_hpc.collection.experiment_file import ROOT, SCRIPT_FILE

    if _is_script_alone(folder):
        raise NotFoundError(
            f"this experiment has no run collection in its folder {ROOT!r}",
            where=folder,
            hint=f"prepare it: python {shell_quote(folder / SCRIPT_FILE)}; where it is elsewhere, name it",
        )


def find_experiment(given: Path | None) -> Path:
    """Return which experiment to prepare: what is given, else the nearest folder with an experiment.toml.

    From here upwards; the current folder, if none has one.

    Raises
    ------
    NotFoundError
        It is a script, which prepares its collection itself.
    """
    from lfadsrm_hpc.collection.experiment_file import EXPERIMENT_FILE, SCRIPT_FILE

    here = Path.cwd()
    folders = [given] if given is not None else [here, *here.parents]
    found = (one for one in folders if (one / EXPERIMENT_FILE).is_file() or _is_prepared_script(one))
    nearest = next(found, folders[0])
    if _is_script_alone(nearest):
        raise NotFoundError(
            "this experiment is a script, and no experiment.toml",
            where=nearest,
            hint=f"it prepares its runs itself: python {shell_quote(nearest / SCRIPT_FILE)}",
        )
    return Path() if nearest == here and given is None else nearest


def _is_prepared_script(folder: Path) -> bool:
    try:
        return script_collection(folder) is not None
    except NotFoundError:  # several
        return True


def is_place(path: Path) -> bool:
    """Return whether a path is a run collection, or an experiment's folder or TOML file."""
    from lfadsrm_hpc.collection.experiment_file import EXPERIMENT_FILE

    if path.is_file():
        return path.suffix == ".toml"
    if CollectionLayout(path).collection_json.is_file() or (path / EXPERIMENT_FILE).is_file():
        return True
    return _is_prepared_script(path)
