"""Training of what belongs to a new session alone, in numbered folders: it can be killed, and goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.data.inputs import SessionInputs
from lfadsrm_hpc.errors import DivergedError
from lfadsrm_hpc.layout import AdaptedLayout, numbered
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import checkpoints
from lfadsrm_hpc.model.training import loop as training
from lfadsrm_hpc.model.training.compiled import Kept
from lfadsrm_hpc.model.training.schedule import COLUMNS

Starts = Mapping[str, npt.NDArray[Any]]

TRY_STEPS = 125


class Stopped(Exception):
    """Training was asked to stop; a checkpoint is on disk."""


@dataclass(frozen=True)
class OwnTraining:
    """Training of a new session's read-in and read-out, in the folder of an adapted model.

    Attributes
    ----------
    layout : AdaptedLayout
    params : RunParams
    inputs : SessionInputs
        Of the new session.
    source : Path
        Checkpoints of the trained model.
    should_stop, on_progress, on_message : callable
        See `lfadsrm_hpc.model.training.loop.train`.
    """

    layout: AdaptedLayout
    params: RunParams
    inputs: SessionInputs
    source: Path
    should_stop: Callable[[], bool]
    on_progress: Callable[[training.Progress], None]
    on_message: Callable[[str], None]

    def is_finished(self) -> bool:
        return checkpoints.finished(numbered(self.layout.checkpoints)) is not None

    def is_begun(self) -> bool:
        return any(checkpoints.complete(path) for path in numbered(self.layout.checkpoints))

    def run(self, start: Starts) -> None:
        """Train to the end, from where an earlier process left off, else from `start`.

        Raises
        ------
        Stopped
        """
        self._below(self.layout.checkpoints, self.params, start)

    def best_start(self, guesses: Sequence[Starts]) -> Starts:
        """Train shortly from several guesses; return where the best of them has come to.

        A guessed read-in shows the encoders a mixture that they may or may not come to understand: most end
        far from what is possible, which the validation cost tells after a hundred steps.

        Raises
        ------
        Stopped
        """
        self.on_message(
            f"dataset {self.inputs.dataset!r} shares no condition with those that the model was trained on: "
            f"it starts at the best of {len(guesses)} guesses"
        )
        steps = math.ceil(len(self.inputs.train_data) / self.params.batch_size)
        epochs = min(math.ceil(TRY_STEPS / steps), self.params.max_epochs or TRY_STEPS)
        params = self.params.replace(max_epochs=epochs, early_stopping_patience=None, max_ckpt_to_keep=1)
        costs: dict[int, float] = {}
        folders: dict[int, Path] = {}
        kept = Kept()
        for number, guess in enumerate(guesses):
            try:
                folders[number] = self._below(self.layout.start(number), params, guess, kept)
            except DivergedError:
                continue
            rows = checkpoints.load(folders[number]).arrays["fitlog"]
            costs[number] = float(rows[:, COLUMNS.index("valid_recon")].min())
        if not costs:
            return guesses[0]
        own = checkpoints.apart(checkpoints.trained(folders[min(costs, key=costs.__getitem__)]))
        parts = {tuple(name.split("/")): value for name, value in own.items() if checkpoints.of_session(name)}
        return {f"{group}/{kind}": value for (group, _, kind), value in parts.items()}

    def _below(self, root: Path, params: RunParams, start: Starts, kept: Kept | None = None) -> Path:
        """Train in the next numbered folder of `root`; return the one that holds the finished training."""
        before = numbered(root)
        finished = checkpoints.finished(before)
        if finished is not None:
            return finished
        folder = root / f"{1 + max((int(path.name) for path in before), default=0):03d}"
        outcome = training.train(
            params,
            [Session.of_inputs(self.inputs, params)],
            folder,
            resume_from=next((path for path in before if checkpoints.complete(path)), None),
            start_from=self.source,
            session_starts={self.inputs.dataset: dict(start)},
            on_progress=self.on_progress,
            on_message=self.on_message,
            should_stop=self.should_stop,
            kept=kept,
        )
        if outcome.reason == "stopped":
            raise Stopped
        return folder
