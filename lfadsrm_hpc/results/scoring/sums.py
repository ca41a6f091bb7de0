"""Sums over trials, gathered block by block, and the scores that come of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lfadsrm_hpc.results.metrics import Floats, log_expected, nll_terms
from lfadsrm_hpc.results.psth import TOO_NOISY, ConditionSums, Explained, condition_index
from lfadsrm_hpc.results.r2 import NEAR_SILENT, r2_of_sums
from lfadsrm_hpc.results.scoring.trial_blocks import SPLITS, TRAIN, VALID, Block, TrialBlocks

_SEEN, _FORWARD = "seen", "forward"
_TRIALS_AND_BINS = (0, 1)


@dataclass(frozen=True)
class Score:
    """A score, gain / scale: several are pooled by adding both.

    Attributes
    ----------
    gain, scale : float
        Sums over what was scored: bits and spikes, squares and squares, ...
    """

    gain: float
    scale: float

    @property
    def value(self) -> float:
        return self.gain / self.scale


@dataclass
class Found:
    """What was found so far.

    Attributes
    ----------
    splits : dict
        "train" and "valid": name of a metric -> Score.
    undefined : dict of str to str
        Why a metric is not there.
    notes : list of str
    neurons : dict
        "train" and "valid": name -> a value for each neuron.
    """

    splits: dict[str, dict[str, Score]] = field(default_factory=lambda: {split: {} for split in SPLITS})
    undefined: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    neurons: dict[str, dict[str, Floats]] = field(default_factory=lambda: {split: {} for split in SPLITS})


class SpikeSums:
    """Spikes and the cost of the rates of each neuron: in the bins that the encoders saw, and in the rest."""

    def __init__(self, trials: TrialBlocks) -> None:
        self.trials = trials
        windows = [(split, window) for split in SPLITS for window in (_SEEN, _FORWARD)]
        self.spikes = {key: np.zeros(trials.neurons) for key in windows}
        self.cost = {key: np.zeros(trials.neurons) for key in windows}
        # over the spikes of validation trials in the bins seen: logarithms of expected counts, and squares
        self._logs = np.zeros((2, trials.neurons))
        self.count = {TRAIN: int(trials.is_train.sum()), VALID: int((~trials.is_train).sum())}
        bins = {_SEEN: trials.bins - trials.forward, _FORWARD: trials.forward}
        self.elements = {(split, window): self.count[split] * bins[window] for split, window in windows}

    def add(self, block: Block, neurons: slice) -> None:
        """Add the trials of a block."""
        seen = self.trials.bins - self.trials.forward
        terms = nll_terms(block.rates, block.data, self.trials.bin_ms)
        for split in SPLITS:
            own = block.of(split)
            for window, bins in ((_SEEN, slice(0, seen)), (_FORWARD, slice(seen, None))):
                self.spikes[split, window][neurons] += block.data[own][:, bins].sum(axis=_TRIALS_AND_BINS)
                self.cost[split, window][neurons] += terms[own][:, bins].sum(axis=_TRIALS_AND_BINS)
        scored = block.of(VALID)
        x, rates = block.data[scored, :seen], block.rates[scored, :seen]
        logs = log_expected(rates, self.trials.bin_ms)
        self._logs[:, neurons] += [(x * power).sum(axis=_TRIALS_AND_BINS) for power in (logs, logs**2)]

    def gain(self, split: str, window: str = _SEEN) -> Floats:
        """Return each neuron's log-likelihood above its mean in these bins of the training trials, nats."""
        key = split, window
        null = np.maximum(self.spikes[TRAIN, window], 0.5) / max(1, self.elements[TRAIN, window])
        cost_of_null = self.elements[key] * null - self.spikes[key] * np.log(null)
        result: Floats = cost_of_null - self.cost[key]
        return result

    def bits_error(self) -> float | None:
        """Return the standard error of the bits per spike of validation trials that Poisson spikes make.

        A bin gains x log(r / null) - (r - null), of variance r log(r / null)^2: estimated by its spikes.
        """
        own = ~self.trials.held_out
        spikes = self.spikes[VALID, _SEEN][own]
        if not spikes.sum():
            return None
        null = np.maximum(self.spikes[TRAIN, _SEEN][own], 0.5) / max(1, self.elements[TRAIN, _SEEN])
        log, square = self._logs[:, own]
        variance = square - 2 * np.log(null) * log + np.square(np.log(null)) * spikes
        return float(np.sqrt(max(0.0, variance.sum())) / (spikes.sum() * np.log(2)))

    def rate(self) -> Floats:
        """Return each neuron's mean rate in the training trials, spikes/s."""
        spikes = self.spikes[TRAIN, _SEEN] + self.spikes[TRAIN, _FORWARD]
        bins = self.elements[TRAIN, _SEEN] + self.elements[TRAIN, _FORWARD]
        result: Floats = spikes / max(1, bins) * (1000.0 / self.trials.bin_ms)
        return result

    def valid_nats(self) -> float:
        """Return what the rates gain over the null in a validation trial, nats."""
        return float(self.gain(VALID).sum()) / max(1, self.count[VALID])

    def finish(self, found: Found) -> None:
        """Work out bits per spike."""
        trials = self.trials
        if trials.output_dist != "poisson":
            found.notes.append(
                f"bits per spike take rates for those of a Poisson process; the model is {trials.output_dist}"
            )
        self._bits(found, "bits_per_spike", _SEEN, ~trials.held_out, "the encoders see no neuron")
        why = "no neuron is withheld from the encoders (held_out_neurons)"
        self._bits(found, "co_bps", _SEEN, trials.held_out, why)
        everyone = np.full(trials.neurons, trials.forward > 0)
        why = "no bin is withheld from the encoders (forward_prediction_bins)"
        self._bits(found, "fp_bps", _FORWARD, everyone, why)
        for split in SPLITS:
            spikes = self.spikes[split, _SEEN]
            bits = self.gain(split) / (np.maximum(spikes, 1.0) * np.log(2))
            found.neurons[split] |= {
                "rate": self.rate(),
                "bits_per_spike": np.where(spikes > 0, bits, np.nan),
            }

    def _bits(self, found: Found, name: str, window: str, neurons: np.ndarray, why: str) -> None:
        if not neurons.any():
            found.undefined[name] = why
            return
        for split in SPLITS:
            spikes = float(self.spikes[split, window][neurons].sum())
            if spikes:
                gain = float(self.gain(split, window)[neurons].sum())
                found.splits[split][name] = Score(gain, spikes * float(np.log(2)))
            else:
                found.undefined[name] = "there is no spike to score"


class TruthSums:
    """True rates, and the errors of the inferred ones, of each neuron."""

    def __init__(self, trials: TrialBlocks) -> None:
        self.trials = trials
        self.sums = {split: np.zeros((4, trials.neurons)) for split in SPLITS}  # n, t, t^2, error^2

    def add(self, block: Block, neurons: slice) -> None:
        """Add the trials of a block."""
        truth = self.trials.recorded("truth", block.rows, neurons)
        for split in SPLITS:
            own = block.of(split)
            t = truth[own]
            self.sums[split][:, neurons] += [
                np.full(t.shape[2], float(t.shape[0] * t.shape[1])),
                t.sum(axis=_TRIALS_AND_BINS),
                np.square(t).sum(axis=_TRIALS_AND_BINS),
                np.square(t - block.rates[own]).sum(axis=_TRIALS_AND_BINS),
            ]

    def finish(self, found: Found) -> None:
        """Work out R2 of rates."""
        null = self.sums[TRAIN][1] / self.sums[TRAIN][0]
        for split in SPLITS:
            n, total, squares, error = self.sums[split]
            spread = np.maximum(squares - 2 * null * total + n * null**2, 0.0)
            if not spread.sum() > 0:
                found.undefined["rate_r2"] = "the true rates do not vary"
                continue
            found.splits[split]["rate_r2"] = Score(float((spread - error).sum()), float(spread.sum()))
            found.neurons[split]["rate_r2"] = r2_of_sums(error, spread, null, NEAR_SILENT)
        silent = int((null < NEAR_SILENT).sum())
        found.notes.append(
            "rate_r2 sums squares over neurons before it divides, so near-silent neurons hardly count; of "
            f"single neurons, {silent} of {null.size} fire less than {NEAR_SILENT:g} spikes/s and get none"
        )


class Averages:
    """Condition averages, of one group of neurons after the other."""

    def __init__(self, trials: TrialBlocks) -> None:
        self.trials = trials
        self.names, (self.index,) = condition_index(trials.condition)
        self._now: ConditionSums | None = None
        self._psth: dict[str, list[Explained]] = {split: [] for split in SPLITS}
        self._apart: list[Explained] = []

    def begin(self, neurons: int) -> None:
        """Begin with a group of so many neurons."""
        if self.names:
            self._now = ConditionSums(len(self.names), self.trials.bins, neurons, bin_ms=self.trials.bin_ms)

    def add(self, block: Block) -> None:
        """Add the trials of a block."""
        if self._now is None:
            return
        condition = self.index[block.rows]
        unit = 1000.0 / self.trials.bin_ms if self.trials.counts else 1.0
        self._now.add_data(block.data[block.is_train] * unit, condition[block.is_train])
        for split in SPLITS:
            own = block.of(split)
            self._now.add_rates(split, block.rates[own], condition[own])

    def end(self) -> None:
        """End a group of neurons."""
        if self._now is None:
            return
        for split in SPLITS:
            explained = self._now.explained(split)
            self._psth[split] += [] if explained is None else [explained]
        apart = self._now.explained(VALID, "time_course")
        self._apart += [] if apart is None else [apart]
        self._now = None

    @property
    def apart(self) -> Explained | None:
        """How well the rates of the validation trials tell conditions apart."""
        return together(self._apart)

    def finish(self, found: Found) -> None:
        """Work out R2 of condition averages."""
        if not self.names:
            found.undefined["psth_r2"] = "the trials have no conditions"
            return
        for split in SPLITS:
            explained = together(self._psth[split])
            if explained is None:
                found.undefined["psth_r2"] = "no condition has two training trials and one to score"
            elif not explained.is_sure:
                found.undefined["psth_r2"] = TOO_NOISY
            else:
                signal, error = float(explained.signal.sum()), float(explained.error.sum())
                found.splits[split]["psth_r2"] = Score(signal - error, signal)


def together(parts: list[Explained]) -> Explained | None:
    """Return what groups of neurons, explained one by one, come to."""
    if not parts:
        return None
    return Explained(
        error=np.concatenate([one.error for one in parts]),
        signal=np.concatenate([one.signal for one in parts]),
        noise=np.sum([one.noise for one in parts], axis=0),
        variance=sum(one.variance for one in parts),
    )


class RateSpread:
    """How much rates differ over trials, at the same bin of the same neuron, summed over bins and neurons.

    Attributes
    ----------
    between : float
        Variance of posterior means over trials, less what sampling adds.
    within : float
        Posterior variance, the mean over trials; 0 where it is not known.
    square : float
        Squared mean rates. Of Gaussian data, whose zero means nothing: the variance of the data about the
        mean of each output.
    """

    def __init__(self, trials: TrialBlocks) -> None:
        self.trials = trials
        self.has_zero = trials.output_dist != "gaussian"
        self.samples = max(1, int(np.asarray(trials.means.attrs.get("num_samples", 1)).item()))
        self.between = self.within = self.square = 0.0

    def begin(self, neurons: int) -> None:
        """Begin with a group of so many neurons."""
        self._sums = np.zeros((2, self.trials.bins, neurons))
        self._data: list[Floats] = []  # of each block: number, mean and squares about it, by output
        self._variance = 0.0

    def add(self, block: Block, neurons: slice) -> None:
        """Add the trials of a block."""
        self._sums[0] += block.rates.sum(axis=0)
        self._sums[1] += np.square(block.rates).sum(axis=0)
        if not self.has_zero:
            mean = block.data.mean(axis=_TRIALS_AND_BINS)
            squares = np.square(block.data - mean).sum(axis=_TRIALS_AND_BINS)
            number = np.full(mean.shape, float(block.data.shape[0] * block.data.shape[1]))
            self._data.append(np.array([number, mean, squares]))
        std = self.trials.std(block.rows, neurons)
        self._variance += 0.0 if std is None else float(np.square(std).sum())

    def end(self) -> None:
        """End a group of neurons."""
        mean, square = self._sums / self.trials.trials
        within = self._variance / self.trials.trials
        spread = np.maximum(square - np.square(mean), 0.0)
        # of the mean of S posterior samples, 1/S of the posterior variance is noise
        self.between += max(float(spread.sum()) - within / self.samples, 0.0)
        self.within += within
        self.square += float(np.square(mean).sum()) if self.has_zero else self._variance_of_data()

    def _variance_of_data(self) -> float:
        """Return the variance of the data about the mean of each output, summed over bins and outputs."""
        number, mean, squares = np.stack(self._data, axis=1)
        total = number.sum(axis=0)
        centre = (number * mean).sum(axis=0) / total
        squares = squares.sum(axis=0) + (number * np.square(mean - centre)).sum(axis=0)
        return self.trials.bins * float((squares / total).sum())

    @property
    def modulation(self) -> float | None:
        """Standard deviation over trials, relative to the root of `square` a bin and neuron."""
        return float(np.sqrt(self.between / self.square)) if self.square > 0 else None
