"""Random numbers without state: a hash of (seed, stream, step, position).

The same numbers come out whatever a training is sliced into, on any device, with and without XLA. They are
made here because the generators that XLA brings for CPUs take 0.3 microseconds a number, longer than all of
the arithmetic of a training step together; this hash, fused into what uses it, costs next to nothing. It is a
good mixer (two rounds of a 32-bit finaliser found by search for low bias, C. Wellons, "Prospecting for hash
functions", 2018; public domain), not a cryptographic one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lfadsrm_hpc.model.backend import Tensor, tf

_GOLDEN, _SILVER = 0x9E3779B9, 0x6A09E667  # odd: products with them hit every word once
_WORD = 0xFFFFFFFF


def mix(x: Tensor) -> Tensor:
    """Return the hash of each word, uint32."""
    shift, xor = tf.bitwise.right_shift, tf.bitwise.bitwise_xor
    x = xor(x, shift(x, _u32(16))) * _u32(0x7FEB352D)
    x = xor(x, shift(x, _u32(15))) * _u32(0x846CA68B)
    return xor(x, shift(x, _u32(16)))


def _u32(value: int) -> Tensor:
    return tf.constant(value & _WORD, tf.uint32)


def _mix_int(x: int) -> int:
    x &= _WORD
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _WORD
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _WORD
    return x ^ (x >> 16)


@dataclass(frozen=True)
class Noise:
    """The random numbers of one training step or one validation batch.

    Parameters
    ----------
    seed : int
        Of the run, up to 63 bits.
    step : Tensor
        Scalar integer; numbers of different steps are independent.
    """

    seed: int
    step: Tensor

    def bits(self, stream: int, shape: Sequence[int]) -> Tensor:
        """Return uniform 32-bit words, uint32, of a static shape; `stream` tells one use from another."""
        seed = _mix_int(_mix_int(self.seed + stream * _GOLDEN) + (self.seed >> 32))
        index = tf.cast(tf.range(math.prod(shape)), tf.uint32) * _u32(_GOLDEN)
        step = mix(tf.cast(self.step, tf.uint32) + _u32(_mix_int(seed + 1)))
        return tf.reshape(mix(mix(index + _u32(seed)) + step), shape)

    def kept(self, stream: int, shape: Sequence[int], probability: float) -> Tensor:
        """Return booleans that are true with the given probability."""
        return self.bits(stream, shape) < _u32(min(round(probability * 2**32), _WORD))

    def uniform(self, stream: int, shape: Sequence[int], dtype: Tensor) -> Tensor:
        """Return numbers strictly between 0 and 1 (24 bits)."""
        words = tf.cast(tf.bitwise.right_shift(self.bits(stream, shape), _u32(8)), dtype)
        return (words + 0.5) * (2.0**-24)

    def normal(self, stream: int, shape: Sequence[int], dtype: Tensor) -> Tensor:
        """Return standard normal numbers (Box and Muller 1958), of at most 5.9 in magnitude.

        Uses the streams `stream` and `-stream`.
        """
        radius = tf.sqrt(-2.0 * tf.math.log(self.uniform(stream, shape, dtype)))
        return radius * tf.cos((2.0 * math.pi) * self.uniform(-stream, shape, dtype))

    def dropout(self, stream: int, x: Tensor, keep: float) -> Tensor:
        """Return x with each element kept with probability `keep` and then divided by it, else 0."""
        if keep >= 1.0:
            return x
        return tf.where(self.kept(stream, x.shape, keep), x * (1.0 / keep), tf.zeros([], x.dtype))


@dataclass(frozen=True)
class KeyedNoise:
    """The random numbers of rows that have a key each, e.g. of posterior samples of trials.

    A number depends on its row's key, its stream and its position alone: not on which rows are beside it.

    Parameters
    ----------
    keys : (rows, 2) uint32
        Two words, so that two of a million rows are never alike.
    """

    keys: Tensor

    @classmethod
    def of(cls, keys: Tensor, samples: Tensor) -> KeyedNoise:
        """Return the noise of samples of trials: rows trial by trial, B*S of them.

        Parameters
        ----------
        keys : (B, 2) uint32, of the trials.
        samples : (S,) int32, which samples.
        """
        steps = tf.cast(samples, tf.uint32)[:, None] * tf.constant([_GOLDEN, _SILVER], tf.uint32)
        return cls(tf.reshape(mix(keys[:, None] + steps), [-1, 2]))

    def normal(self, stream: int, position: Tensor, width: int, dtype: Tensor) -> Tensor:
        """Return standard normal numbers (rows, width), those at `position`: a bin, for one."""
        first = tf.cast(position, tf.uint32) * _u32(width)
        at = tf.cast(tf.range(width), tf.uint32) + first
        words = at[:, None] * tf.constant([_GOLDEN, _SILVER], tf.uint32)
        start = tf.constant([_mix_int(stream + 1), _mix_int(stream + _GOLDEN)], tf.uint32)
        words = mix(self.keys[:, None] + mix(words + start))  # (rows, width, 2)
        numbers = (tf.cast(tf.bitwise.right_shift(words, _u32(8)), dtype) + 0.5) * (2.0**-24)
        return tf.sqrt(-2.0 * tf.math.log(numbers[..., 0])) * tf.cos((2.0 * math.pi) * numbers[..., 1])
