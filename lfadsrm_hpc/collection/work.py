"""How much a run has to compute and to store, from its params and the sizes of its datasets alone.

Multiply-adds of the matrix products, which are nearly all of the time (docs/benchmarks.md). They carry a time
that was measured with one run over to another; nothing else is read off them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lfadsrm_hpc.collection.params import RunParams

_BACKWARD = 3  # forward, and twice that backward
_BYTES = 4
_STD_SHARE = 0.5  # standard deviations are stored to 11 bits, which halves them on disk


@dataclass(frozen=True)
class Sizes:
    """One dataset as a run sees it.

    Attributes
    ----------
    trials, bins, neurons : int
        Bins as wide as `spike_bin_ms`.
    """

    trials: int
    bins: int
    neurons: int

    @classmethod
    def of(cls, item: Mapping[str, Any], params: RunParams) -> Sizes:
        """Return the sizes of a dataset from its entry in `collection.json`."""
        bins = int(item["bins"] * item["bin_ms"] / params.spike_bin_ms + 1e-9)
        return cls(int(item["trials"]), max(1, bins), int(item["neurons"]))


@dataclass(frozen=True)
class Work:
    """What one run takes.

    Attributes
    ----------
    epoch : float
        Multiply-adds of one epoch: training trials forward and backward, validation trials forward.
    sampling : float
        Multiply-adds of sampling the posterior means of all trials.
    posterior_bytes : float
        Size of the posterior means before compression, about.
    steps_per_epoch : int
    """

    epoch: float
    sampling: float
    posterior_bytes: float
    steps_per_epoch: int


def work_of(params: RunParams, datasets: Sequence[Sizes]) -> Work:
    """Return what a run with these params on these datasets takes.

    Parameters
    ----------
    params : RunParams
    datasets : sequence of Sizes
        In the order of the run spec; several are stitched.
    """
    stitched = len(datasets) > 1
    epoch = sampling = size = 0.0
    steps = 0
    for data in datasets:
        encoding, decoding = _products(params, data, stitched)
        valid = data.trials // (params.train_to_test_ratio + 1)
        train = data.trials - valid
        epoch += (_BACKWARD * train + valid) * (encoding + decoding)
        pushed = params.posterior_mean_kind == "posterior_push_mean"
        samples = 1 if pushed else params.num_samples_posterior
        sampling += data.trials * (encoding + samples * decoding)
        size += data.trials * _posterior_bytes(params, data)
        steps += -(-train // params.batch_size)
    return Work(epoch, sampling, size, steps)


def _products(params: RunParams, data: Sizes, stitched: bool) -> tuple[float, float]:
    """Return multiply-adds of one trial: of the encoders, and of all that each sample repeats."""
    bins, neurons = data.bins, data.neurons
    width = params.factors_dim if stitched else neurons
    encoding = 2 * _gru(params.ic_enc_dim, width, bins)
    if stitched:
        encoding += bins * neurons * params.factors_dim
    inputs = params.co_dim + params.ext_input_dim
    decoding = _gru(params.gen_dim, inputs, bins)
    decoding += bins * params.gen_dim * params.factors_dim + bins * params.factors_dim * neurons
    if params.co_dim:
        encoding += 2 * _gru(params.ci_enc_dim, width, bins)
        decoding += _gru(params.con_dim, 2 * params.ci_enc_dim + params.factors_dim, bins)
        decoding += bins * params.con_dim * 2 * params.co_dim
    return float(encoding), float(decoding)


def _gru(units: int, inputs: int, bins: int) -> int:
    return 3 * units * (units + inputs) * bins


def _posterior_bytes(params: RunParams, data: Sizes) -> float:
    averaged = data.neurons + params.factors_dim + params.gen_dim + params.co_dim
    stds = _STD_SHARE * averaged if params.posterior_std else 0.0
    once = data.neurons + params.ext_input_dim  # the counts themselves, external inputs
    return _BYTES * (data.bins * (averaged + stds + once) + 4 * params.ic_dim + params.gen_dim)
