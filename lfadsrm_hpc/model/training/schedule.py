"""The learning-rate rule, early stopping, when to save, and the fit log: pure functions of what was."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lfadsrm_hpc.model.hyperparameters import Hyperparameters

COLUMNS = (
    "epoch",
    "step",
    "train_total",
    "valid_total",
    "train_recon",
    "valid_recon",
    "train_kl",
    "valid_kl",
    "l2",
    "kl_weight",
    "l2_weight",
    "learning_rate",
    "train_sv_recon",
    "valid_sv_recon",
)
SMOOTHED = 10  # epochs over which early stopping averages
CHECKPOINT_SECONDS = 30.0
SAVING_SHARE = 0.02  # of the time


@dataclass
class LearningRate:
    """The rate, lowered when an epoch's training cost exceeds all of the last n.

    After a decay, infinity stands for that epoch's cost, so that the next n epochs cannot lower it again.

    Parameters
    ----------
    hp : Hyperparameters
    first : float
        The rate of the first epoch.
    """

    hp: Hyperparameters
    first: float
    value: float = field(init=False)
    costs: list[float] = field(default_factory=list)
    decays: int = 0

    def __post_init__(self) -> None:
        self.value = self.first

    def update(self, cost: float) -> None:
        """Take in the training cost of one more epoch."""
        count = self.hp.learning_rate_n_to_compare
        if len(self.costs) > count and cost > max(self.costs[-count:]):
            self.value *= self.hp.learning_rate_decay_factor
            self.decays += 1
            self.costs.append(math.inf)
        else:
            self.costs.append(cost)

    @property
    def below_stop(self) -> bool:
        return self.value < self.hp.learning_rate_stop

    def epochs_left(self) -> float | None:
        """Return an estimate of the epochs until the stop, from the decays so far; None before the first."""
        factor, stop = self.hp.learning_rate_decay_factor, self.hp.learning_rate_stop
        if not self.decays or factor >= 1 or stop <= 0:
            return None
        left = math.log(stop / self.value) / math.log(factor)
        return max(left, 0.0) * len(self.costs) / self.decays


def epochs_since_best(smoothed_over: Sequence[float]) -> int:
    """Return how many epochs ago the cost, averaged over the last 10 epochs, was lowest."""
    means = [
        sum(smoothed_over[max(0, i + 1 - SMOOTHED) : i + 1]) / min(i + 1, SMOOTHED)
        for i in range(len(smoothed_over))
    ]
    return len(means) - 1 - means.index(min(means)) if means else 0


@dataclass
class Pace:
    """When to save: every 30 s, and at a new best where saving takes little of the time.

    A save may take 2 % of the time since the one before. New best parameters that came sooner go with a later
    save, within 30 s.

    Parameters
    ----------
    saved : float
        Time of the last save, or of the start.
    takes : float
        How long the last save took, s; 0 before the first.
    best : int or None
        Epoch of the best parameters that it held.
    """

    saved: float
    takes: float = 0.0
    best: int | None = None

    def due(self, now: float, best: int | None) -> bool:
        """Return whether to save now, when `best` is the epoch of the best parameters."""
        since = now - self.saved
        return since > CHECKPOINT_SECONDS or (best != self.best and since >= self.takes / SAVING_SHARE)


class FitLog:
    """fitlog.csv: a header and one line an epoch, without wall times, so that equal runs write equal files.

    The file begins as a copy of the rows that a resumed training brings, and grows by whole lines.
    """

    def __init__(self, path: Path, rows: Sequence[Sequence[float]]) -> None:
        self.path, self.rows = path, [list(row) for row in rows]
        self.cut(len(self.rows))

    @staticmethod
    def _line(row: Sequence[float]) -> str:
        return ",".join([str(int(v)) for v in row[:2]] + [f"{v:.9g}" for v in row[2:]]) + "\n"

    def cut(self, epochs: int) -> None:
        """Keep the lines of the first epochs."""
        self.rows = self.rows[:epochs]
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        beside.write_text(",".join(COLUMNS) + "\n" + "".join(self._line(row) for row in self.rows))
        beside.replace(self.path)

    def append(self, row: Sequence[float]) -> None:
        self.rows.append(list(row))
        with self.path.open("a") as file:
            file.write(self._line(row))
