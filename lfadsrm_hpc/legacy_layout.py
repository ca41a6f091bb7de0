"""Paths and names of a collection of the Matlab run manager. Ours are in `layout`.

    <root>/<collection>/
      summary.txt  launch_tensorboard.sh  run_lfadsqueue.py
      data_<HASH>/<run spec>/          lfads_<dataset>.h5  inputInfo_<dataset>.mat
                                       (in data_<HASH>/ itself before version 20171107)
      param_<HASH>/<run spec>/         (in <run spec>/ before version 3)
        lfads_train.sh  lfads.out  lfads.done
        lfadsInput/                    relative links to the files in data_<HASH>
        lfadsOutput/                   what LFADS writes: `OutputLayout`

HASH is six characters of base64, case sensitive: letters, digits, `-` and `_`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "valid")
SAMPLED, PUSHED = "posterior_sample_and_average", "posterior_push_mean"
KINDS = (SAMPLED, PUSHED, "posterior_sample")  # the last: before there was another one

_POSTERIOR = re.compile(
    rf"(?:model_runs_)?(?P<dataset>.+?)(?:\.h5)?_(?P<split>train|valid)_(?P<kind>{'|'.join(KINDS)})(?:\.h5)?"
)
_HYPERPARAMETERS = re.compile(r"hyperparameters-(\d+)\.txt")
_HYPERPARAMETERS_COPY = "hyperparameters.json"
_INPUT = re.compile(r"lfads_(.+)\.h5")
_IN_DATA = re.compile(r"(?:^|[/\\])(data_[^/\\]+(?:[/\\].+)?)$")
_MOST_OF_A_LINK = 1000  # bytes


def names_in(folder: Path) -> list[str]:
    """List a folder once, sorted; one that is not there, or may not be read, is empty."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - texts, not paths
    except OSError:
        return []


@dataclass(frozen=True)
class PosteriorFile:
    """The file of posterior means of one dataset, split and kind.

    Attributes
    ----------
    dataset : str
        Its name, without `.h5`.
    split : {"train", "valid"}
    kind : str
        One of `KINDS`.
    """

    path: Path
    dataset: str
    split: str
    kind: str


@dataclass(frozen=True)
class OutputLayout:
    """A folder that LFADS has written to (`lfads_save_dir`; the run manager's `lfadsOutput/`)."""

    path: Path

    @property
    def fitlog(self) -> Path:
        return self.path / "fitlog.csv"

    @property
    def model_params(self) -> Path:
        """The parameters of the trained model; copies of them are called `model_params.h5`, too."""
        other = self.path / "model_params.h5"
        return other if other.is_file() else self.path / "model_params"

    def posterior(self, dataset: str, split: str, kind: str) -> Path:
        return self.path / f"model_runs_{dataset}.h5_{split}_{kind}"

    def posterior_files(self) -> list[PosteriorFile]:
        """List the folder once: the files of posterior means, in order of datasets."""
        matches = ((name, _POSTERIOR.fullmatch(name)) for name in names_in(self.path))
        return [
            PosteriorFile(self.path / name, found["dataset"], found["split"], found["kind"])
            for name, found in matches
            if found is not None
        ]

    def hyperparameters(self, step: int) -> Path:
        return self.path / f"hyperparameters-{step}.txt"

    def hyperparameter_files(self) -> dict[int, Path]:
        """Return the files of hyperparameters by training step, the least first.

        That of the least step is what training began with; those of later ones are of sampling, whose
        `batch_size` is the number of samples.
        """
        found = {
            int(match[1]): self.path / match[0]
            for name in names_in(self.path)
            if (match := _HYPERPARAMETERS.fullmatch(name))
        }
        plain = self.path / _HYPERPARAMETERS_COPY
        return dict(sorted(found.items())) or ({0: plain} if plain.is_file() else {})

    @property
    def is_one(self) -> bool:
        """Whether LFADS has left something here."""
        return any(
            _HYPERPARAMETERS.fullmatch(name) or _POSTERIOR.fullmatch(name) or name == _HYPERPARAMETERS_COPY
            for name in names_in(self.path)
        )


@dataclass(frozen=True)
class LegacyRunLayout:
    """A run of the Matlab run manager: `param_<HASH>/<run spec>/`."""

    path: Path

    @property
    def output(self) -> OutputLayout:
        return OutputLayout(self.path / "lfadsOutput")

    @property
    def input_dir(self) -> Path:
        return self.path / "lfadsInput"

    @property
    def train_script(self) -> Path:
        return self.path / "lfads_train.sh"

    @property
    def done(self) -> Path:
        """An empty file that says that training and sampling ended."""
        return self.path / "lfads.done"

    def input_link(self, dataset: str) -> Path:
        return self.input_dir / f"lfads_{dataset}.h5"

    def info_link(self, dataset: str) -> Path:
        return self.input_dir / f"inputInfo_{dataset}.mat"

    def input_datasets(self) -> list[str]:
        """Return the datasets that the run is linked to, whether the links lead somewhere or not."""
        return [match[1] for name in names_in(self.input_dir) if (match := _INPUT.fullmatch(name))]

    @property
    def is_one(self) -> bool:
        """Whether the run manager has made this folder."""
        names = names_in(self.path)
        return any(name in names for name in ("lfadsInput", "lfadsOutput", "lfads_train.sh"))


@dataclass(frozen=True)
class LegacyCollectionLayout:
    """A run collection of the Matlab run manager: `<root>/<collection>/`."""

    path: Path

    @property
    def summary(self) -> Path:
        return self.path / "summary.txt"

    @property
    def exported(self) -> Path:
        """What we say of a collection that we have written: the Matlab run manager has no such file."""
        return self.path / "lfadsrm_export.json"

    def data_dir(self, data_hash: str, spec: str) -> Path:
        return self.path / f"data_{data_hash}" / spec

    def run(self, param_hash: str, spec: str) -> LegacyRunLayout:
        return LegacyRunLayout(self.path / f"param_{param_hash}" / spec)

    def runs(self) -> list[LegacyRunLayout]:
        """Return the runs that are here, of any version of the run manager, in order of their paths."""
        found = []
        for name in names_in(self.path):
            folder = self.path / name
            if name.startswith("data_") or not folder.is_dir():
                continue
            below = [folder / one for one in names_in(folder)] if name.startswith("param_") else [folder]
            found += [run for run in map(LegacyRunLayout, below) if run.path.is_dir() and run.is_one]
        return found

    def files_of_data(self, name: str, spec: str) -> Iterator[Path]:
        """Yield the files of a name in the `data_` folders: of the run spec, else those that all share."""
        folders = [self.path / one for one in names_in(self.path) if one.startswith("data_")]
        for below in (Path(spec), Path()):
            found = [path for folder in folders if (path := folder / below / name).is_file()]
            yield from found
            if found:
                return


def resolve_link(link: Path, collection: Path) -> Path | None:
    """Return the file that a link of a run leads to, also in a copy in which it is broken.

    Copies lose links: they point to where the collection was, or have become small files that hold the
    path as text (archives, git on Windows). The part from `data_<HASH>` on is looked for in the collection.

    Returns
    -------
    Path or None
        None: there is none, neither here nor there.
    """
    target = _text_of_link(link)
    if target is None:
        return link if link.is_file() else None
    if link.is_symlink() and link.is_file():
        return link
    match = _IN_DATA.search(target)
    parts = re.split(r"[/\\]", match[1]) if match else []
    # before version 3 a collection was a folder for each params, and data lay beside them
    found = (folder.joinpath(*parts) for folder in (collection, collection.parent))
    return next((path for path in found if parts and path.is_file()), None)


def _text_of_link(link: Path) -> str | None:
    """Return where a link points to, or a small file that stands for one; None for a file of its own."""
    try:
        if link.is_symlink():
            return os.fspath(link.readlink())
        if not link.is_file() or link.stat().st_size > _MOST_OF_A_LINK:
            return None
        text = link.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if _IN_DATA.search(text) and "\n" not in text else None
