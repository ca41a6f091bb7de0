"""Which trials make up which batch of an epoch, and the data of all sessions as resident tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.model import likelihoods
from lfadsrm_hpc.model.architecture import Architecture
from lfadsrm_hpc.model.backend import Tensor, of_session, tf
from lfadsrm_hpc.model.lfads import Batch
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
    if arch.hp.output_dist == "poisson" and all(np.issubdtype(p.dtype, np.integer) for p in parts):
        dtype = np.uint8 if max(int(p.max()) for p in parts) < 256 else np.int32
    pad = [arch.width - p.shape[2] for p in parts]
    return np.concatenate(
        [np.pad(p.astype(dtype), ((0, 0), (0, 0), (0, w))) for p, w in zip(parts, pad, strict=True)]
    )


def resident(
    arch: Architecture, parts: Sequence[NDArray[Any]], exts: Sequence[NDArray[Any] | None]
) -> dict[str, Tensor]:
    """Return what a compiled function gathers batches from: data, constant and, if there is any, ext."""
    dist = arch.hp.output_dist
    constant = np.concatenate([likelihoods.constant(dist, p) for p in parts])
    tensors = {"data": tf.constant(stack(arch, parts)), "constant": tf.constant(constant, tf.float32)}
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

    return Batch(
        x=pick("data"),
        session=session,
        constant=tf.gather(data["constant"], trials),
        observed=None if masks.observed is None else of_session(masks.observed, session),
        mask=None if masks.exists is None else of_session(masks.exists, session),
        ext=pick("ext") if arch.hp.ext_input_dim else None,
    )


def jitter(data: NDArray[Any], width: int, rng: np.random.Generator) -> NDArray[Any]:
    """Return counts (E, T, D) with each spike moved by up to `width` bins, each way alike, kept in its trial.

    Spikes that would leave the trial are reflected at its ends.
    """
    trial, time, neuron = np.nonzero(data)
    each = data[trial, time, neuron]
    trial, time, neuron = (np.repeat(v, each) for v in (trial, time, neuron))
    bins = data.shape[1]
    time = time + rng.integers(-width, width + 1, len(time))
    period = 2 * bins
    time = time % period
    time = np.where(time >= bins, period - 1 - time, time)
    moved = np.zeros(data.shape, np.int64)
    np.add.at(moved, (trial, time, neuron), 1)
    return moved
