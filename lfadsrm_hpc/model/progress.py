"""What a training tells while it goes on, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where a training stands; costs are those of the last whole epoch, nan before it.

    Costs are means over trials of sums over bins and neurons; the KL costs carry kl_ic_weight and
    kl_co_weight but not the ramps. `rollbacks` counts how often a cost that was not finite sent the training
    back. `eta_s` is None where no estimate is possible.
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

    reason : "learning_rate", "max_epochs", "early_stopping", "stopped" (by `should_stop`; resumable), or
    "not_trained_on" (asked only for a copy of an unfinished training).
    best_epoch : of the lowest validation cost since both ramps were full, or None.
    costs : the last epoch's line of the fit log.
    rollbacks : how often a cost that was not finite sent the training back to the start of an epoch.
    """

    reason: str
    epoch: int
    step: int
    best_epoch: int | None
    costs: dict[str, float]
    rollbacks: int
