"""A verdict on a run: good, suspect or bad, with its reasons and what to try. Pure functions of evidence.

Thresholds were set between good trainings and trainings broken on purpose (tests/benchmarks/quality.py;
docs/metrics.md has the numbers).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.collection.words import counted

if TYPE_CHECKING:
    from lfadsrm_hpc.results.scoring.evidence import DatasetEvidence, FitEvidence

GOOD, SUSPECT, BAD = "good", "suspect", "bad"
_RANK = {GOOD: 0, SUSPECT: 1, BAD: 2}

# Parameters are taken at the lowest validation cost after the ramps. Among fewer epochs than early stopping
# averages over, that is chance, and the penalties had no time to act.
FEW_EPOCHS = 10
# Standard deviation of rates over trials, relative to mean rates: 0.3 to 0.8 in good trainings, at most 0.03
# in collapsed ones.
FLAT_RATES = 0.05
# Divergence of the initial condition from its prior, all dimensions: 0.5 to 5 nats in good trainings, at most
# 0.03 in those with a KL penalty that is too strong.
SILENT_IC_NATS = 0.1
# Part of an inferred input's variance that the data decide: 0.04 to 0.15 where inputs were used, at most
# 0.0002 where the KL penalty had silenced them.
DEAD_INPUT = 0.01
# R2 of the differences between conditions: 0.57 to 1 in good trainings, at most 0.03 in collapsed ones.
NO_CONDITIONS, FEW_CONDITIONS = 0.1, 0.3
# What of the bits per spike is lost from training to validation trials: at most 0.1 in good trainings (chance
# makes it negative as often), 0.8 in an over-fitted one.
LOST_SUSPECT, LOST_BAD = 0.4, 0.7
# Bits per spike below which there is nothing that could be lost.
_SOME_BITS = 0.02
# Validation trials of a short session hold so few spikes that their bits differ from those of training trials
# by chance; what is within so many standard errors says nothing against a model.
_CHANCE = 2.0
# What the validation cost has risen again since its minimum, relative to all that it had fallen: at most 0.02
# in good trainings, 7 in an over-fitted one. The parameters are those of the minimum, so it spoils nothing.
RISEN = 0.2


@dataclass(frozen=True)
class Reason:
    """One thing that is not as it should be.

    Attributes
    ----------
    check : str
        "diverged", "ramps", "collapsed", "inputs", "conditions", "overfitted" or "prediction".
    verdict : {"suspect", "bad"}
    text : str
        One sentence: what it is, and what to try.
    """

    check: str
    verdict: str
    text: str


@dataclass(frozen=True)
class Quality:
    """The verdict on a run, and why.

    Attributes
    ----------
    verdict : {"good", "suspect", "bad"}
    reasons : tuple of Reason
        Empty where it is good.
    """

    verdict: str
    reasons: tuple[Reason, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as `metrics.json` holds it."""
        return {"verdict": self.verdict, "reasons": [vars(reason) for reason in self.reasons]}


def judge(fit: FitEvidence, datasets: Sequence[DatasetEvidence]) -> Quality:
    """Return the verdict on a run: the worst of its reasons; good where there is none.

    Parameters
    ----------
    fit : FitEvidence
        From the fit log.
    datasets : sequence of DatasetEvidence
        From the posterior means of each dataset.
    """
    reasons = [*_training(fit)]
    several = len(datasets) > 1
    for one in datasets:
        where = f"dataset {one.dataset}: " if several else ""
        reasons += [Reason(r.check, r.verdict, _capital(where + r.text)) for r in _dataset(one)]
    return Quality(worst(reason.verdict for reason in reasons), tuple(reasons))


def worst(verdicts: Iterable[str]) -> str:
    """Return the worst of some verdicts; good where there is none."""
    return max(verdicts, key=_RANK.__getitem__, default=GOOD)


def _training(fit: FitEvidence) -> Iterator[Reason]:
    if fit.not_finite:
        yield Reason(
            "diverged",
            BAD,
            f"Costs were not finite in {counted(fit.not_finite, 'epoch')}: lower learning_rate_init, or look "
            "for extreme values in the data.",
        )
    elif fit.went_back:
        yield Reason(
            "diverged",
            SUSPECT,
            f"Training went back {_times(fit.went_back)} because a cost was not finite, and went on with a "
            "lower learning rate: lower learning_rate_init.",
        )
    if fit.lowest_epoch is None:
        yield Reason(
            "ramps",
            BAD,
            f"Training ended at step {fit.step}, before the KL and L2 penalties had their full weight at "
            f"step {fit.ramp_steps}, so these are not parameters of a finished fit: raise max_epochs, or "
            "shorten kl_increase_steps and l2_increase_steps.",
        )
    elif fit.after_ramps < FEW_EPOCHS:
        yield Reason(
            "ramps",
            SUSPECT,
            f"Only {counted(fit.after_ramps, 'epoch')} came after the KL and L2 ramps were complete (step "
            f"{fit.ramp_steps}): train longer, or shorten kl_increase_steps and l2_increase_steps.",
        )
    if fit.lowest_epoch is not None and fit.rise > RISEN:
        yield Reason(
            "overfitted",
            SUSPECT,
            f"The validation cost has risen since epoch {fit.lowest_epoch} by {fit.rise:.0%} of what it had "
            "fallen; the results are those of that epoch, so more epochs are wasted: set "
            "early_stopping_patience, lower keep_prob, raise l2_gen_scale or coordinated_dropout_rate.",
        )


def _dataset(one: DatasetEvidence) -> Iterator[Reason]:
    if one.bits is not None and one.bits <= 0:
        yield Reason(
            "prediction",
            SUSPECT if _may_be_chance(one) else BAD,
            f"rates predict the spikes of validation trials no better than each neuron's mean rate "
            f"({one.bits:.3f} bits/spike): see the other reasons; without any, the data may hold no more.",
        )
    collapsed = one.modulation is not None and one.modulation < FLAT_RATES
    if collapsed:
        yield Reason("collapsed", BAD, _flat(one))
    elif one.ic_nats is not None and one.ic_nats < SILENT_IC_NATS:
        yield Reason(
            "collapsed",
            SUSPECT,
            f"the posterior over initial conditions is its prior ({one.ic_nats:.2f} nats), so trials differ "
            "by inputs alone: lower kl_ic_weight, or lengthen kl_increase_steps.",
        )
    if one.inputs and all(share < DEAD_INPUT for share in one.inputs):
        yield Reason(
            "inputs",
            SUSPECT,
            f"none of the {len(one.inputs)} inferred inputs carries anything: if you expect inputs, lower "
            "kl_co_weight or lengthen kl_increase_steps, else set co_dim = 0, which is the same for less.",
        )
    if one.apart_r2 is not None and one.apart_r2 < FEW_CONDITIONS:
        verdict = BAD if one.apart_r2 < NO_CONDITIONS else SUSPECT
        yield Reason(
            "conditions",
            verdict,
            f"rates have {max(one.apart_r2, 0):.0%} of the differences between conditions that the data "
            "have: train longer, lower kl_ic_weight or l2_gen_scale, or raise factors_dim and gen_dim.",
        )
    yield from _lost(one)


def _may_be_chance(one: DatasetEvidence) -> bool:
    """Return whether so few spikes may have fewer bits than those of training trials by chance alone."""
    if one.bits is None or one.train_bits is None or one.bits_error is None:
        return False
    return one.train_bits >= _SOME_BITS and one.train_bits - one.bits <= _CHANCE * one.bits_error


def _flat(one: DatasetEvidence) -> str:
    text = (
        f"rates are almost the same in every trial (they vary by {one.modulation:.1%} of {one.modulation_of})"
    )
    if one.ic_nats is not None and one.ic_nats < SILENT_IC_NATS:
        text += f", since the posterior has collapsed to its prior ({one.ic_nats:.2f} nats)"
    weights = "kl_ic_weight and kl_co_weight" if one.inputs else "kl_ic_weight"
    return f"{text}: lower {weights}, lengthen kl_increase_steps, or hide less of the data from the encoders."


def _lost(one: DatasetEvidence) -> Iterator[Reason]:
    """Tell of bits per spike that training trials have and validation trials have not."""
    if one.bits is None or one.train_bits is None or one.train_bits < _SOME_BITS or _may_be_chance(one):
        return
    lost = (one.train_bits - one.bits) / one.train_bits
    if lost > LOST_SUSPECT:
        yield Reason(
            "overfitted",
            BAD if lost > LOST_BAD else SUSPECT,
            f"rates explain {one.train_bits:.3f} bits/spike of the training trials and {one.bits:.3f} of the "
            "validation trials: lower keep_prob, raise coordinated_dropout_rate or l2_gen_scale, take fewer "
            "units, or more trials.",
        )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
