"""What a training tells while it goes on, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.training.objective import ramp_value, ramps_done
from lfadsrm_hpc.model.training.schedule import COLUMNS, LearningRate, epochs_since_best


@dataclass(frozen=True)
class Progress:
    """Where a training stands; costs are those of the last whole epoch, nan before it.

    Attributes
    ----------
    epoch, step : int
        Epochs and gradient steps done.
    max_epochs : int or None
        Of the hyperparameters.
    train_total, valid_total, train_recon, valid_recon, train_kl, valid_kl, l2 : float
        Means over trials of sums over bins and neurons. The KL costs carry kl_ic_weight and kl_co_weight, but
        not the ramps.
    kl_weight, l2_weight : float
        Where the ramps stand, 0 to 1.
    learning_rate : float
    rollbacks : int
        How often a cost that was not finite sent the training back.
    seconds_per_epoch : float
    eta_s : float or None
        Seconds to the end; None where no estimate is possible.
    """

    epoch: int
    step: int
    max_epochs: int | None
    train_total: float
    valid_total: float
    train_recon: float
    valid_recon: float
    train_kl: float
    valid_kl: float
    l2: float
    kl_weight: float
    l2_weight: float
    learning_rate: float
    rollbacks: int
    seconds_per_epoch: float
    eta_s: float | None


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes
    ----------
    reason : str
        "learning_rate", "max_epochs", "early_stopping", "stopped" (by `should_stop`; resumable), or
        "not_trained_on" (asked only for a copy of an unfinished training).
    epoch, step : int
        Epochs and gradient steps done.
    best_epoch : int or None
        Of the lowest validation cost since both ramps were full.
    costs : dict of str to float
        The last epoch's line of the fit log.
    rollbacks : int
        How often a cost that was not finite sent the training back to the start of an epoch.
    """

    reason: str
    epoch: int
    step: int
    best_epoch: int | None
    costs: dict[str, float]
    rollbacks: int


def fitlog_row(
    hp: Hyperparameters,
    epoch: int,
    step: int,
    rate: float,
    training: Mapping[str, float],
    valid: Mapping[str, float],
) -> list[float]:
    """Return the line of the fit log for an epoch that is done, in the order of `COLUMNS`.

    Parameters
    ----------
    epoch, step : how many are done.
    rate : the learning rate of the epoch.
    training, valid : costs by name, means over trials; see `objective.COSTS`.
    """

    def kl(cost: Mapping[str, float]) -> float:
        return hp.kl_ic_weight * cost["kl_ic"] + hp.kl_co_weight * cost["kl_co"]

    def score(cost: Mapping[str, float]) -> float:  # of sample validation, for each withheld element
        return cost["withheld"] / cost["withheld_count"] if cost["withheld_count"] else math.nan

    return [
        epoch,
        step,
        training["total"],
        valid["total"],
        training["recon"],
        valid["recon"],
        kl(training),
        kl(valid),
        valid["l2"],
        ramp_value(step, hp.kl_start_step, hp.kl_increase_steps),
        ramp_value(step, hp.l2_start_step, hp.l2_increase_steps),
        rate,
        score(training),
        score(valid),
    ]


def reason_to_end(
    hp: Hyperparameters, rate: LearningRate, epoch: int, rows: Sequence[Sequence[float]]
) -> str | None:
    """Return why training ends after so many epochs, with this fit log; None where it goes on."""
    if rate.below_stop:
        return "learning_rate"
    if hp.max_epochs is not None and epoch >= hp.max_epochs:
        return "max_epochs"
    if hp.early_stopping_patience is not None:
        after = [row[COLUMNS.index("valid_recon")] for row in rows if ramps_done(int(row[1]), hp)]
        if epochs_since_best(after) >= hp.early_stopping_patience:
            return "early_stopping"
    return None


def seconds_left(
    hp: Hyperparameters, rate: LearningRate, epoch: int, seconds_per_epoch: float
) -> float | None:
    """Return an estimate of the time that training still takes, None where there is none."""
    limits = [rate.epochs_left()]
    if hp.max_epochs is not None:
        limits.append(float(hp.max_epochs - epoch))
    seconds = min((v for v in limits if v is not None), default=math.nan) * seconds_per_epoch
    return None if math.isnan(seconds) else seconds
