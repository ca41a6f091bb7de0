"""Which trials make up which batch of an epoch, and the data of all sessions as resident tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.model import sample_validation
from lfadsrm_hpc.model.backend import Tensor, of_session, tf
from lfadsrm_hpc.model.hyperparameters import COUNT_DISTS
from lfadsrm_hpc.model.network import likelihoods
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.lfads import Batch, Withheld
from lfadsrm_hpc.model.session import Session

SHUFFLE, JITTER = 1, 2  # uses of the seed


class Plan(NamedTuple):
    """The batches of one pass: rows (n, B) of the resident data, their weights (n, B), sessions (n,)."""

    trials: NDArray[np.int32]
    weights: NDArray[np.float32]
    sessions: NDArray[np.int32]


def generator(seed: int, use: int, *key: int) -> np.random.Generator:
    """Return the random numbers for one use of a seed, e.g. of one epoch."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, use, *key])))


def training_plan(counts: Sequence[int], size: int, seed: int, epoch: int) -> Plan:
    """Return the batches of one epoch.

    Each session is shuffled, its remainder filled up with random repeats, one session to a batch, and the
    order of batches shuffled; all keyed by (seed, epoch).
    """
    rng = generator(seed, SHUFFLE, epoch)
    rows, sessions, start = [], [], 0
    for session, count in enumerate(counts):
        order = rng.permutation(count)
        order = np.concatenate([order, rng.integers(0, count, -count % size)])
        rows.append(start + order.reshape(-1, size))
        sessions += [session] * len(rows[-1])
        start += count
    mixed = rng.permutation(len(sessions))
    trials = np.concatenate(rows)[mixed].astype(np.int32)
    weights = np.full(trials.shape, 1.0 / size, np.float32)
    return Plan(trials, weights, np.array(sessions, np.int32)[mixed])


def validation_plan(counts: Sequence[int], size: int) -> Plan:
    """Return batches that hold every trial once; repeats that fill a last batch weigh nothing."""
    rows, weights, sessions, start = [], [], [], 0
    for session, count in enumerate(counts):
        order = np.arange(-(-count // size) * size)
        rows.append(start + (order % count).reshape(-1, size))
        weights.append((order < count).reshape(-1, size))
        sessions += [session] * len(rows[-1])
        start += count
    weight = np.concatenate(weights).astype(np.float32) / float(sum(counts))
    return Plan(np.concatenate(rows).astype(np.int32), weight, np.array(sessions, np.int32))


def stack(arch: Architecture, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the trials of all sessions, (N, T, width), padded with zeros; counts as bytes if they fit."""
    dtype: Any = np.float32
    if arch.hp.output_dist in COUNT_DISTS and all(np.issubdtype(p.dtype, np.integer) for p in parts):
        dtype = np.uint8 if max(int(p.max()) for p in parts) < 256 else np.int32
    pad = [arch.width - p.shape[2] for p in parts]
    return np.concatenate(
        [np.pad(p.astype(dtype), ((0, 0), (0, 0), (0, w))) for p, w in zip(parts, pad, strict=True)]
    )


def withheld_elements(arch: Architecture, name: str, data: NDArray[Any], split: str) -> NDArray[Any] | None:
    """Return which elements of a session's trials are withheld, (E, T, D); None without sample validation."""
    rate = arch.hp.sample_validation_rate
    if not rate:
        return None
    keys = sample_validation.trial_keys(arch.hp.seed, name, split, len(data))
    return sample_validation.withheld(keys, data.shape[1], data.shape[2], rate)


def resident(
    arch: Architecture,
    parts: Sequence[NDArray[Any]],
    exts: Sequence[NDArray[Any] | None],
    split: str = "train",
) -> dict[str, Tensor]:
    """Return what a compiled function gathers batches from, trials first.

    data, constant and, if there are any, ext; with sample validation the constant of what is not withheld,
    scaled as its cost is, that of what is, how many elements that are, and each trial's key.
    """
    dist, rate = arch.hp.output_dist, arch.hp.sample_validation_rate
    found: dict[str, list[NDArray[Any]]] = {"constant": []}
    if rate:
        found.update(withheld_constant=[], withheld_count=[], key=[])
    for name, part in zip(arch.names, parts, strict=True):
        mask = withheld_elements(arch, name, part, split)
        if mask is None:
            found["constant"].append(likelihoods.constant(dist, part))
            continue
        found["constant"].append(likelihoods.constant(dist, part, ~mask) / (1.0 - rate))
        found["withheld_constant"].append(likelihoods.constant(dist, part, mask))
        found["withheld_count"].append(mask.sum((1, 2)))
        keys = sample_validation.trial_keys(arch.hp.seed, name, split, len(part))
        found["key"].append(keys.view(np.int32))
    tensors = {"data": tf.constant(stack(arch, parts))}
    for name, arrays in found.items():
        tensors[name] = tf.constant(np.concatenate(arrays), tf.int32 if name == "key" else tf.float32)
    if arch.hp.ext_input_dim:
        tensors["ext"] = tf.constant(np.concatenate([np.asarray(e) for e in exts]), tf.float32)
    return tensors


class Masks(NamedTuple):
    """(S, width) each or None: neurons that the encoders see, neurons that exist."""

    observed: Tensor | None
    exists: Tensor | None

    @classmethod
    def of(cls, arch: Architecture, sessions: Sequence[Session]) -> Masks:
        exists = arch.neuron_mask
        observed = None
        if any(session.held_out is not None and np.any(session.held_out) for session in sessions):
            observed = np.zeros((len(sessions), arch.width), np.float32)
            for row, session in zip(observed, sessions, strict=True):
                held = np.zeros(session.neurons, bool) if session.held_out is None else session.held_out
                row[: session.neurons] = ~np.asarray(held, bool)
        return cls(*(None if m is None else tf.constant(m, tf.float32) for m in (observed, exists)))


def gather(
    arch: Architecture, data: dict[str, Tensor], masks: Masks, trials: Tensor, session: Tensor
) -> Batch:
    """Return a batch from the resident tensors, time-major."""

    def pick(name: str) -> Tensor:
        rows = tf.transpose(tf.gather(data[name], trials), [1, 0, 2])
        return tf.cast(rows, tf.float32)

    withheld = None
    if arch.hp.sample_validation_rate:
        key, constant, count = (
            tf.gather(data[name], trials) for name in ("key", "withheld_constant", "withheld_count")
        )
        mask = sample_validation.withheld_in_graph(key, arch.bins, arch.width, arch.hp.sample_validation_rate)
        withheld = Withheld(mask, constant, count)
    return Batch(
        x=pick("data"),
        session=session,
        constant=tf.gather(data["constant"], trials),
        observed=None if masks.observed is None else of_session(masks.observed, session),
        mask=None if masks.exists is None else of_session(masks.exists, session),
        ext=pick("ext") if arch.hp.ext_input_dim else None,
        withheld=withheld,
    )


def jittered(arch: Architecture, index: int, session: Session, epoch: int) -> NDArray[Any]:
    """Return the training counts of one session with the spikes moved as in one epoch.

    Spikes of withheld elements stay, and none comes to them, so that what they hold never reaches the
    training; likewise none passes between the bins that the encoders see and those of forward prediction.
    """
    hp, data = arch.hp, session.train
    rng = generator(hp.seed, JITTER, epoch, index)
    mask = withheld_elements(arch, session.name, data, "train")
    seen = arch.bins - hp.forward_prediction_bins
    spans = [slice(0, seen), slice(seen, arch.bins)] if seen < arch.bins else [slice(0, seen)]
    moved = [
        jitter(data[:, span], hp.temporal_spike_jitter_width, rng, None if mask is None else mask[:, span])
        for span in spans
    ]
    return np.concatenate(moved, axis=1)


def jitter(
    data: NDArray[Any], width: int, rng: np.random.Generator, fixed: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return counts (E, T, D) with each spike moved by up to `width` bins, each way alike, kept in its trial.

    Spikes that would leave the trial are reflected at its ends; spikes that would come to a fixed element
    stay where they were, and so do those of fixed elements. The chance to come from one bin to another is
    that of the way back, so that a flat profile of counts remains flat in expectation.

    Parameters
    ----------
    fixed : (E, T, D) bool array, optional
    """
    stays = np.zeros(data.shape, np.int64) if fixed is None else np.where(fixed, data, 0).astype(np.int64)
    free = data if fixed is None else np.where(fixed, 0, data)
    trial, start, neuron = np.nonzero(free)
    each = free[trial, start, neuron].astype(np.int64)
    trial, start, neuron = (np.repeat(v, each) for v in (trial, start, neuron))
    period = 2 * data.shape[1]
    time = (start + rng.integers(-width, width + 1, len(start))) % period
    time = np.where(time >= data.shape[1], period - 1 - time, time)
    if fixed is not None:
        time = np.where(fixed[trial, time, neuron], start, time)
    places = np.ravel_multi_index((trial, time, neuron), data.shape)
    return stays + np.bincount(places, minlength=data.size).reshape(data.shape)
