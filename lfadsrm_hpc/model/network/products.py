"""Matrix products: in float32, or of factors rounded to bfloat16 where mixed precision is asked for.

Mixed precision rounds what is multiplied and what comes out of a product, no more: states, costs, sums over
bins, sums of gradients, the optimiser and everything on disk stay float32. bfloat16 has the range of float32,
so costs need no scaling (Kalamkar et al., arXiv 1905.12322). Posterior means are always sampled in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from lfadsrm_hpc.model.backend import Tensor, tf

_mixed = ContextVar("mixed", default=False)


@contextmanager
def mixed_precision(wanted: bool) -> Iterator[None]:
    """Make `product` round its factors to 16 bits, in what is traced inside this context."""
    before = _mixed.set(wanted)
    try:
        yield
    finally:
        _mixed.reset(before)


def product(a: Tensor, b: Tensor, *, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    """Return a b of matrices (..., n, k) and (..., k, m), of which either may be given transposed."""
    if not _mixed.get() or a.dtype != tf.float32:
        return tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    a, b = tf.cast(a, tf.bfloat16), tf.cast(b, tf.bfloat16)
    return tf.cast(tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b), tf.float32)
