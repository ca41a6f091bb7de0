"""Paths of one try at a run, of what a training leaves, and of models that are adapted from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lfadsrm_hpc.layout.names import CHECKPOINT, check_name, names_in

_ATTEMPT_FILE = re.compile(r"(claim|heartbeat|exit)\.r(\d+)(?:\.json)?")


@dataclass(frozen=True)
class AttemptLayout:
    """One try at a run: `attempts/<nnn>/`."""

    path: Path

    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def reserved(self) -> Path:
        return self.path / "reserved.json"

    @property
    def closed(self) -> Path:
        return self.path / "closed.json"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    def claim(self, incarnation: int) -> Path:
        return self.path / f"claim.r{incarnation}.json"

    def heartbeat(self, incarnation: int) -> Path:
        return self.path / f"heartbeat.r{incarnation}"

    def exit(self, incarnation: int) -> Path:
        return self.path / f"exit.r{incarnation}.json"

    def incarnations(self) -> dict[str, list[int]]:
        """List the folder once: which incarnations have a claim, a heartbeat and an exit record."""
        found: dict[str, list[int]] = {"claim": [], "heartbeat": [], "exit": []}
        if self.path.is_dir():
            for path in self.path.iterdir():
                match = _ATTEMPT_FILE.fullmatch(path.name)
                if match:
                    found[match[1]].append(int(match[2]))
        return {kind: sorted(numbers) for kind, numbers in found.items()}


@dataclass(frozen=True)
class TrainedLayout:
    """A folder with a model that was trained there, and what was inferred with it."""

    path: Path

    @property
    def model_params(self) -> Path:
        return self.path / "model_params.h5"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def inferred_dir(self) -> Path:
        """Posterior means of trials that the model was not trained with."""
        return self.path / "inferred"

    def inferred(self, name: str) -> Path:
        return self.inferred_dir / f"{check_name(name, 'dataset')}.nc"


@dataclass(frozen=True)
class AdaptedLayout(TrainedLayout):
    """A run's model, adapted to a new session: `adapted/<name>/`."""

    @property
    def record(self) -> Path:
        return self.path / "adapted.json"

    @property
    def inputs(self) -> Path:
        return self.path / "inputs.h5"

    @property
    def posterior_means(self) -> Path:
        return self.path / "posterior_means.nc"

    def start(self, number: int) -> Path:
        """Return the folder of the short training that tries one of several starts."""
        return self.path / "starts" / str(number)


def checkpoint_files(checkpoint_dir: Path) -> list[Path]:
    """Return the checkpoints in the folder of one incarnation, the earliest step first."""
    names = names_in(checkpoint_dir)
    steps = {name: int(match[1]) for name in names if (match := CHECKPOINT.fullmatch(name))}
    return [checkpoint_dir / name for name in sorted(steps, key=lambda name: (steps[name], name))]


def fitlog(checkpoint_dir: Path) -> Path:
    """Return the fit log that lies beside the checkpoints of one incarnation."""
    return checkpoint_dir / "fitlog.csv"


def glimpse(checkpoint_dir: Path, dataset: str) -> Path:
    """Return the file with some trials' rates that lies beside the checkpoints while they are made."""
    return glimpses(checkpoint_dir) / f"{dataset}.npz"


def glimpses(checkpoint_dir: Path) -> Path:
    """Return the folder of such files of one incarnation."""
    return checkpoint_dir / "glimpse"


def tensorboard_events(checkpoint_dir: Path) -> Path:
    """Return the folder of the TensorBoard events of one incarnation."""
    return checkpoint_dir / "tensorboard"
