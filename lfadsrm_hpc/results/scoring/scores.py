"""Every metric of the posterior means of one dataset, in blocks of trials; nulls from the training trials.

Definitions stand in `metrics`, `r2`, `psth` and `decoding`, which do the same on arrays. Here sums over
trials are gathered first, so that a file of any size can be scored, and scores of several datasets pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError, UsageError, suggest
from lfadsrm_hpc.results.decoding import LEAST_PENALTY, PENALTIES, Decoded, Decoder, check_lag, trial_folds
from lfadsrm_hpc.results.metrics import Floats
from lfadsrm_hpc.results.psth import Explained
from lfadsrm_hpc.results.scoring.sums import Averages, Found, RateSpread, Score, SpikeSums, TruthSums
from lfadsrm_hpc.results.scoring.trial_blocks import SPLITS, TRAIN, VALID, Extra, TrialBlocks, check_split

if TYPE_CHECKING:
    import xarray as xr

    from lfadsrm_hpc.data.inputs import SessionInputs

NAMES = ("bits_per_spike", "co_bps", "fp_bps", "rate_r2", "psth_r2", "latent_r2", "decoding_r2")
# True latents of simulations, as `data.synthetic` names them.
_LATENTS, _LATENT_DIM = "lowd", "latent"
_NO_BEHAVIOUR = {("neuron",), ("input",)}  # own dimensions of what is neural, or an input


@dataclass(frozen=True)
class Scores:
    """What was found of one dataset.

    Attributes
    ----------
    dataset : str
    splits : dict
        "train" and "valid": name of a metric -> Score.
    undefined : dict of str to str
        Why a metric is not there.
    notes : list of str
        What a reader of the scores should know.
    neurons : dict of str to dict of arrays
        For each split, values for each neuron: "rate", the mean in the training trials, spikes/s;
        "bits_per_spike"; "rate_r2" (nan where near-silent).
    modulation : float or None
        How much rates differ over trials: see `RateSpread`.
    apart : Explained or None
        How well the rates of the validation trials tell conditions apart.
    valid_nats : float or None
        What the rates gain over the null in a validation trial.
    bits_error : float or None
        Standard error of `bits_per_spike` in validation trials, from the number of spikes.
    """

    dataset: str
    splits: Mapping[str, Mapping[str, Score]]
    undefined: Mapping[str, str]
    notes: Sequence[str]
    neurons: Mapping[str, Mapping[str, Floats]]
    modulation: float | None
    apart: Explained | None
    valid_nats: float | None
    bits_error: float | None = None

    def values(self, split: str = VALID) -> dict[str, float]:
        """Return the metrics of a split as numbers.

        Parameters
        ----------
        split : {"valid", "train"}
        """
        own = self.splits[split]
        return {name: own[name].value for name in NAMES if name in own}


def pooled(scores: Iterable[Scores], split: str = VALID) -> dict[str, float]:
    """Return the metrics of several datasets together, those that are defined for each of them.

    Bits are added up and divided by all spikes, squares added up before they are divided; latents and
    behaviour, whose units differ, are averaged over datasets.

    Parameters
    ----------
    scores : iterable of Scores
        One a dataset.
    split : {"valid", "train"}
    """
    every = [one.splits[split] for one in scores]
    common = [name for name in NAMES if every and all(name in one for one in every)]
    return {name: _pool([one[name] for one in every]) for name in common}


def _pool(scores: Sequence[Score]) -> float:
    return Score(sum(one.gain for one in scores), sum(one.scale for one in scores)).value


def score_dataset(
    means: xr.Dataset, inputs: SessionInputs, *, between: Callable[[], None] = lambda: None
) -> Scores:
    """Score the posterior means of one dataset.

    Parameters
    ----------
    means : xr.Dataset
        What `load_posterior_means` gives.
    inputs : SessionInputs
        What the run was trained on; from `open_inputs` its arrays stay on disk.
    between : callable
        Called before each block of trials; what it raises ends the scoring.

    Raises
    ------
    MismatchError
        The posterior means are of other data, or lack training trials.
    """
    trials, found = TrialBlocks(means, inputs, between), Found()
    spikes = SpikeSums(trials) if trials.counts else None
    truth = TruthSums(trials) if trials.counts and trials.has_truth else None
    averages, spread = Averages(trials), RateSpread(trials)
    for neurons in trials.neuron_groups(len(averages.names)):
        averages.begin(neurons.stop - neurons.start)
        spread.begin(neurons.stop - neurons.start)
        for block in trials.blocks(neurons):
            for sums in (spikes, truth, spread):
                if sums is not None:
                    sums.add(block, neurons)
            averages.add(block)
        averages.end()
        spread.end()
    for part in (spikes, truth, averages):
        if part is not None:
            part.finish(found)
    _explain_what_is_missing(trials, found)
    _score_regressions(trials, found)
    return Scores(
        dataset=inputs.dataset,
        splits=found.splits,
        undefined={name: why for name, why in found.undefined.items() if name not in found.splits[VALID]},
        notes=found.notes,
        neurons=found.neurons,
        modulation=spread.modulation,
        apart=averages.apart,
        valid_nats=None if spikes is None else spikes.valid_nats(),
        bits_error=None if spikes is None else spikes.bits_error(),
    )


def score(means: xr.Dataset, inputs: SessionInputs, metric: str, *, split: str = VALID) -> float:
    """Return one metric of the posterior means of one dataset.

    Parameters
    ----------
    means, inputs
        As for `score_dataset`.
    metric : {"bits_per_spike", "co_bps", "fp_bps", "rate_r2", "psth_r2", "latent_r2", "decoding_r2"}
    split : {"valid", "train"}
        The trials to score.

    Raises
    ------
    UsageError
        There is no such metric, or no such split.
    MismatchError
        The posterior means are of other data, or lack training trials.
    DataError
        It is not defined for these data; the message says why.
    """
    if metric not in NAMES:
        raise UsageError(
            f"there is no metric {metric!r}", hint=suggest(metric, NAMES) or f"there are: {', '.join(NAMES)}"
        )
    check_split(split)
    found = score_dataset(means, inputs)
    if metric not in found.splits[split]:
        raise DataError(
            f"{metric} is not defined here: {found.undefined.get(metric, 'there is nothing to score')}",
            where=f"dataset {inputs.dataset!r}",
        )
    return found.splits[split][metric].value


def _explain_what_is_missing(trials: TrialBlocks, found: Found) -> None:
    if not trials.has_truth:
        found.undefined["rate_r2"] = "the data hold no true rates"
    if trials.counts:
        return
    dist = trials.output_dist
    why = f"the outputs are {dist}, and bits per spike are a likelihood of counts"
    found.undefined |= dict.fromkeys(("bits_per_spike", "co_bps", "fp_bps"), why)
    if trials.has_truth:
        found.undefined["rate_r2"] = (
            f"true rates are in spikes/s, and {dist} outputs in the units of the data"
        )


# -- regressions -------------------------------------------------------------------------------------------


def decode_variable(
    means: xr.Dataset,
    inputs: SessionInputs,
    name: str,
    *,
    features: str = "rates",
    lag_ms: float = 0.0,
    split: str = VALID,
) -> Decoded:
    """Decode a variable that goes with the trials; see `decoding.decode`.

    Parameters
    ----------
    means : xr.Dataset
        Posterior means of one dataset.
    inputs : SessionInputs
        What the run was fitted to.
    name : str
        Of a variable over time that is stored with the inputs.
    features : str
        "rates" (of continuous data: the expected values) or another variable over time: "factors",
        "generator_states".
    lag_ms : float
        It is decoded from features so much earlier; whole bins.
    split : {"valid", "train"}
        Training trials are scored by regressions on other training trials.

    Raises
    ------
    UsageError
        There is no such split or variable to decode, or to decode from, or the lag is not in whole bins.
    DataError
        Too few values, or values that do not vary.
    """
    check_split(split)
    trials = TrialBlocks(means, inputs)
    known = {one.name: one for one in trials.extras()}
    if name not in known:
        raise UsageError(
            f"nothing called {name!r} over time is stored with dataset {inputs.dataset!r}",
            hint=suggest(name, list(known)) or (f"there is: {', '.join(known)}" if known else None),
        )
    source = trials.rate if features == "rates" else features
    if source not in means or means[source].dims[:2] != ("trial", "time"):
        raise UsageError(f"{features!r} is nothing to decode from", hint="rates, factors or generator_states")
    lag = round(lag_ms / trials.bin_ms)
    if abs(lag * trials.bin_ms - lag_ms) > 1e-6 * trials.bin_ms:
        raise UsageError(
            f"a lag of {lag_ms:g} ms is not whole bins of {trials.bin_ms:g} ms",
            hint="give a multiple of the width of the bins",
        )
    check_lag(lag, trials.bins)
    decoder = _filled(trials, known[name], source, PENALTIES, lag)
    return decoder.cross_validated() if split == TRAIN else decoder.scored()


def _score_regressions(trials: TrialBlocks, found: Found) -> None:
    latents = [one for one in trials.extras() if _is_latent(one)]
    behaviour = [one for one in trials.extras() if not _is_latent(one) and one.dims[2:] not in _NO_BEHAVIOUR]
    missing = "the data hold no true latents (`lowd`)"
    _score_variables(trials, found, "latent_r2", latents, "factors", LEAST_PENALTY, missing)
    missing = "no behaviour over time is stored with the trials"
    _score_variables(trials, found, "decoding_r2", behaviour, trials.rate, PENALTIES, missing)
    if len(behaviour) > 1:
        found.notes.append(f"decoding_r2 is the mean over {', '.join(one.name for one in behaviour)}")


def _is_latent(one: Extra) -> bool:
    return one.name == _LATENTS or one.dims[2:] == (_LATENT_DIM,)


def _score_variables(
    trials: TrialBlocks,
    found: Found,
    metric: str,
    variables: Sequence[Extra],
    source: str,
    penalties: Sequence[float],
    missing: str,
) -> None:
    if not variables:
        found.undefined[metric] = missing
        return
    r2: dict[str, list[float]] = {split: [] for split in SPLITS}
    for variable in variables:
        try:
            decoder = _filled(trials, variable, source, penalties, 0)
            r2[VALID].append(decoder.scored().r2)
            r2[TRAIN].append(decoder.cross_validated().r2)
        except DataError as error:
            found.undefined[metric] = f"{variable.name}: {error.what}"
            return
    for split, values in r2.items():
        found.splits[split][metric] = Score(float(np.mean(values)), 1.0)


def _filled(
    trials: TrialBlocks, target: Extra, source: str, penalties: Sequence[float], lag_bins: int
) -> Decoder:
    """Return a decoder that has seen all trials."""
    width = int(trials.means[source].shape[2])
    decoder = Decoder(width, target.width, penalties=penalties, lag_bins=lag_bins)
    fold: npt.NDArray[Any] = np.full(trials.trials, -1)
    fold[trials.is_train] = trial_folds(int(trials.is_train.sum()))
    for rows in trials.rows(width):
        x, y, own = trials.inferred(source, rows), trials.extra(target, rows), trials.is_train[rows]
        decoder.add_training(x[own], y[own], fold[rows][own])
        decoder.add_scored(x[~own], y[~own])
    return decoder
