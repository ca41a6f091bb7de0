"""Sample validation: a fixed part of the data, single elements, that is never trained on and scored apart.

Keshtkaran & Pandarinath, NeurIPS 2019; Keshtkaran et al., Nature Methods 2022
(doi 10.1038/s41592-022-01675-0).

Which elements these are is a function of the run's seed, the session's name, training or validation, the row
of the trial, the bin and the neuron alone: the same in every epoch and after a resumption, whether a session
is fitted alone or stitched. It is computed where it is needed, by a hash, so that no mask stays in memory: in
the compiled functions from one word a trial, and with the same bits by numpy.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.model.backend import Tensor, tf
from lfadsrm_hpc.model.network.noise import mix

Words = NDArray[np.uint32]

_GOLDEN = 0x9E3779B9
_ELEMENTS = 2**22  # hashed at a time, so that temporary arrays stay small


def trial_keys(seed: int, session: str, split: str, trials: int) -> Words:
    """Return one word for each trial of one session.

    Parameters
    ----------
    seed : int
        Of the run.
    session : str
        Name.
    split : {"train", "valid"}
    trials : int
        E.

    Returns
    -------
    (E,) uint32 array
    """
    first, second = np.frombuffer(hashlib.sha256(f"{seed}/{split}/{session}".encode()).digest()[:8], "<u4")
    rows = np.arange(trials, dtype=np.uint32) * np.uint32(_GOLDEN)
    return _mix(_mix(rows + first) + second)


def withheld(keys: Words, bins: int, neurons: int, rate: float) -> NDArray[np.bool_]:
    """Return which elements of trials with these keys are withheld, (E, T, D)."""
    mask = np.empty((len(keys), bins, neurons), bool)
    element = _element(np.arange(bins, dtype=np.uint32)[:, None], np.arange(neurons, dtype=np.uint32))
    some = max(1, _ELEMENTS // element.size)
    for start in range(0, len(keys), some):
        mask[start : start + some] = _mix(element + keys[start : start + some, None, None]) < _limit(rate)
    return mask


def withheld_in_graph(keys: Tensor, bins: int, neurons: int, rate: float) -> Tensor:
    """Return the same as `withheld` as a tensor, time-major, (T, B, D), from keys (B,) int32 (their bits)."""
    element = _element(np.arange(bins, dtype=np.uint32)[:, None], np.arange(neurons, dtype=np.uint32))
    words = tf.constant(element)[:, None, :] + tf.bitcast(keys, tf.uint32)[None, :, None]
    return mix(words) < tf.constant(_limit(rate), tf.uint32)


def _element(time: Words, neuron: Words) -> Words:
    golden = np.uint32(_GOLDEN)
    return _mix(_mix((time + np.uint32(1)) * golden) + neuron * golden)


def _limit(rate: float) -> int:
    return min(round(rate * 2**32), 2**32 - 1)


def _mix(x: Words) -> Words:
    """Return what `noise.mix` returns, by numpy."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return np.asarray(x ^ (x >> np.uint32(16)))
