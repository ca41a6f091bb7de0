"""What is worth knowing of a session before days of training: see docs/early_warnings.md for each warning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.data.drift import condition_codes, gone, trend
from lfadsrm_hpc.data.notes import Note, joined

if TYPE_CHECKING:
    from lfadsrm_hpc.data.inputs.session import SessionInputs

Array = npt.NDArray[Any]

POPULATION_CHANGE = 0.3
NEURON_CHANGE = 0.5
PROBABILITY = 1e-3
NEURONS_THAT_DRIFT = 0.1  # so many of them are a drift of the session
FEWEST_SPIKES = 10
NARROW = 0.01
MOST_A_BIN = 30.0
WIDE_MS = 100.0
UNEQUAL = 4.0
_SPREADS = 6.0
_TYPICAL = 20.0  # spikes of a trial, below which chance makes trials unequal


def session_warnings(inputs: SessionInputs) -> Iterator[Note]:
    """Give what may mislead a fit of counts; nothing of it is an error.

    Parameters
    ----------
    inputs : SessionInputs
        Checked: counts, finite, not negative.
    """
    spikes, condition = in_order(inputs)
    yield from _rare(inputs)
    vanished = gone(spikes, condition)
    if vanished:
        yield _vanishing(inputs, vanished)
    yield from _drifting(inputs, spikes, condition, {one.neuron for one in vanished})
    yield from _unequal(inputs, spikes, condition)
    yield from _bins(inputs)


def in_order(inputs: SessionInputs) -> tuple[Array, Array | None]:
    """Return the spikes of each trial, (E + V, D), and conditions, as the session went."""
    order = np.argsort(np.concatenate([inputs.train_inds, inputs.valid_inds]), kind="stable")
    parts = [
        np.asarray(data).sum(axis=1, dtype=np.float64) for data in (inputs.train_data, inputs.valid_data)
    ]
    condition = None
    if inputs.train_condition is not None and inputs.valid_condition is not None:
        both = [np.asarray(one, dtype=object) for one in (inputs.train_condition, inputs.valid_condition)]
        condition = np.concatenate(both)[order]
    return np.concatenate(parts)[order], condition


def _rare(inputs: SessionInputs) -> Iterator[Note]:
    spikes = inputs.train_data.sum(axis=(0, 1), dtype=np.float64)
    rare = np.flatnonzero((spikes > 0) & (spikes < FEWEST_SPIKES))
    if len(rare):
        named = [f"{inputs.neuron_names[i]} ({spikes[i]:.0f})" for i in rare]
        yield Note(
            "rare_neurons",
            inputs.dataset,
            f"{len(rare)} of {len(spikes)} neurons have fewer than {FEWEST_SPIKES} spikes in all training "
            f"trials: {joined(named)}; nothing can be learned of them, leave them out",
            neurons=inputs.neuron_names[rare],
            numbers={"neurons": len(rare)},
        )


def _vanishing(inputs: SessionInputs, vanished: Sequence[Any]) -> Note:
    texts = [
        f"{inputs.neuron_names[one.neuron]} {'before' if one.appears else 'from'} trial {one.trial} "
        f"({one.spikes:.0f} spikes where {one.expected:.0f} are expected)"
        for one in vanished
    ]
    return Note(
        "vanishing_neurons",
        inputs.dataset,
        f"{len(vanished)} of {len(inputs.neuron_names)} neurons are silent in a part of the session: "
        f"{joined(texts)}; leave them out, or those trials",
        neurons=[inputs.neuron_names[one.neuron] for one in vanished],
        numbers={"neurons": len(vanished), "first_trial": min(one.trial for one in vanished)},
    )


def _drifting(
    inputs: SessionInputs, spikes: Array, condition: Array | None, vanished: set[int]
) -> Iterator[Note]:
    kept = [i for i in range(spikes.shape[1]) if i not in vanished and spikes[:, i].sum() >= FEWEST_SPIKES]
    if not kept:
        return
    found = trend(np.column_stack([spikes[:, kept].sum(axis=1), spikes[:, kept]]), condition)
    if found is None:
        return
    seconds = len(inputs.time_ms) * inputs.bin_ms / 1000
    # Of so many neurons one in a thousand sessions has one by chance, of each that is named.
    certain = found.p[1:] < PROBABILITY / len(kept)
    steep = np.flatnonzero(certain & (np.abs(found.change[1:]) >= NEURON_CHANGE))
    whole = found.p[0] < PROBABILITY and abs(found.change[0]) >= POPULATION_CHANGE
    if not whole and len(steep) < max(1.0, NEURONS_THAT_DRIFT * len(kept)):
        return
    steep = steep[np.argsort(-np.abs(found.change[1:][steep]), kind="stable")]
    rates = [(found.first[i] / seconds, found.last[i] / seconds) for i in (0, *(steep + 1))]
    texts = []
    if whole:
        first, last = (rate / len(kept) for rate in rates[0])
        part = f" ({last / first - 1:+.0%})" if first else ""
        texts.append(f"the mean rate from {first:.2g} to {last:.2g} spikes/s{part}")
    if len(steep):
        named = [
            f"{inputs.neuron_names[kept[i]]} ({a:.2g} to {b:.2g})"
            for i, (a, b) in zip(steep, rates[1:], strict=True)
        ]
        texts.append(f"{len(steep)} of {len(spikes.T)} neurons strongly: {joined(named)}")
    yield Note(
        "drifting_rates",
        inputs.dataset,
        f"rates drift from the first third of the trials to the last: {'; '.join(texts)}; LFADS would "
        "explain it by initial states. Leave those neurons or trials out, or make two sessions of it",
        neurons=inputs.neuron_names[[kept[i] for i in steep]],
        numbers={"population_change": float(found.change[0]), "neurons": len(steep)},
    )


def _unequal(inputs: SessionInputs, spikes: Array, condition: Array | None) -> Iterator[Note]:
    totals = spikes.sum(axis=1)
    codes = condition_codes(condition, len(totals))
    middle = np.ones(len(totals))
    for code in range(int(codes.max()) + 1):
        members = codes == code
        middle[members] = np.median(totals[members if members.sum() >= 5 else slice(None)])
    apart = np.log((totals + 1) / (middle + 1))
    spread = 1.4826 * float(np.median(np.abs(apart)))
    strange = (np.abs(apart) > max(np.log(UNEQUAL), _SPREADS * spread)) & (
        np.maximum(middle, totals) >= _TYPICAL
    )
    trials = np.flatnonzero(strange)
    if len(trials):
        texts = [f"{i} ({totals[i]:.0f} spikes, {middle[i]:.0f} usual)" for i in trials]
        yield Note(
            "unequal_trials",
            inputs.dataset,
            f"{len(trials)} of {len(totals)} trials have less than a quarter of the usual spikes, or more "
            f"than four times as many: {joined(texts)} (from 0); look for artefacts and gaps, and leave them "
            "out",
            numbers={"trials": len(trials)},
        )


def _bins(inputs: SessionInputs) -> Iterator[Note]:
    means = inputs.train_data.mean(axis=(0, 1), dtype=np.float64)
    typical, width = float(means.mean()), inputs.bin_ms
    if 0 < typical < NARROW:
        wider = width * 0.05 / typical
        yield Note(
            "narrow_bins",
            inputs.dataset,
            f"bins of {width:g} ms hold {typical:.2g} spikes a neuron on average, so nearly all are empty: "
            f"training is slow and its gradients are noise; bins of {wider:.0f} ms would hold 0.05",
            numbers={"spikes_a_bin": typical, "bin_ms": width},
        )
    busiest = int(means.argmax())
    if means[busiest] > MOST_A_BIN or width >= WIDE_MS:
        yield Note(
            "wide_bins",
            inputs.dataset,
            f"bins of {width:g} ms hold up to {means[busiest]:.2g} spikes of a neuron "
            f"({inputs.neuron_names[busiest]}) on average: dynamics faster than two bins are averaged away; "
            "take narrower ones (spike_bin_ms)",
            neurons=[inputs.neuron_names[busiest]],
            numbers={"spikes_a_bin": float(means[busiest]), "bin_ms": width},
        )


def few_shared(sessions: Sequence[SessionInputs], factors_dim: int) -> Iterator[Note]:
    """Give the sessions whose alignment is not determined by the conditions that they share with others."""
    from lfadsrm_hpc.data.alignment.conditions import condition_trials

    labels = [
        set(condition_trials(one.train_condition)) if one.train_condition is not None else set()
        for one in sessions
    ]
    for number, (one, own) in enumerate(zip(sessions, labels, strict=True)):
        others = set().union(*(each for k, each in enumerate(labels) if k != number))
        shared, bins = len(own & others), len(one.time_ms)
        if own and (shared < 2 or shared * bins <= factors_dim):
            yield Note(
                "few_shared_conditions",
                one.dataset,
                f"it shares {shared} of its {len(own)} conditions with other sessions; {shared} x {bins} "
                f"bins are to determine its read-in of {factors_dim} factors. Name conditions alike in all "
                "sessions, take fewer factors, or align by other data (docs/stitching.md)",
                numbers={"shared": shared, "own": len(own), "bins": bins, "factors_dim": factors_dim},
            )
