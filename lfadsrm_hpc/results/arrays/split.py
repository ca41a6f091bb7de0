"""Trials that lie in several arrays, such as training and validation trials, as one array in their own order.

Read when they are used, and then only the trials that are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from xarray.backends import BackendArray
from xarray.core import indexing

from lfadsrm_hpc.results.arrays.stored import Source, by_axes, is_index

Array = npt.NDArray[Any]

SPLITS = ("train", "valid")


@dataclass(frozen=True)
class Piece:
    """An array that holds some of the trials.

    Attributes
    ----------
    source : Source
    name : str
        Of the array in its file.
    """

    source: Source
    name: str


@dataclass(frozen=True)
class Places:
    """Where each trial lies.

    Attributes
    ----------
    piece : (E,) int
        In which of several arrays.
    row : (E,) int
        In which of its rows.
    """

    piece: Array
    row: Array

    @classmethod
    def of(cls, trials: Array, inds: Mapping[str, Array]) -> Places:
        """Look trials up in the lists of those that training and validation arrays have, in that order.

        Raises
        ------
        KeyError
            The first trial that is in neither.
        """
        where = {
            int(trial): (place, row)
            for place, split in enumerate(SPLITS)
            for row, trial in enumerate(inds[split])
        }
        found = np.array([where[int(trial)] for trial in trials]).reshape(-1, 2)
        return cls(found[:, 0], found[:, 1])


class InOrder(BackendArray):
    """The trials of several arrays in one order, for xarray.

    Parameters
    ----------
    pieces : sequence of Piece
        In the order that `places.piece` counts.
    places : Places
    shape : tuple of int
        Of a trial.
    dtype : numpy dtype
    scale : float
        What numbers are multiplied with, in 64 bits.
    columns : slice, optional
        Which places of the last axis; all unless given.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        places: Places,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        *,
        scale: float = 1.0,
        columns: slice | None = None,
    ) -> None:
        self.pieces, self.places, self.scale = tuple(pieces), places, scale
        stored = np.dtype(dtype)
        self.dtype = np.dtype(object) if stored.kind in "OS" else stored
        self.columns = columns
        if columns is not None:
            shape = (*shape[:-1], columns.stop - columns.start)
        self.shape = (len(places.row), *shape)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return by_axes(key, self.shape, self._read)

    def _read(self, key: tuple[Any, ...]) -> Array:
        if self.columns is not None:
            key = (*key[:-1], _moved(key[-1], self.columns.start, self.shape[-1]))
        if is_index(key[0]):
            piece = self.pieces[self.places.piece[key[0]]]
            return self._scaled(piece.source.read(piece.name, (int(self.places.row[key[0]]), *key[1:])))
        which, rows = self.places.piece[key[0]], self.places.row[key[0]]
        blocks = []
        for place, piece in enumerate(self.pieces):
            mine = np.flatnonzero(which == place)
            if mine.size:
                blocks.append((mine, piece.source.read(piece.name, (rows[mine], *key[1:]))))
        shape = blocks[0][1].shape[1:] if blocks else self._shape_of(key[1:])
        out = np.empty((len(rows), *shape), self.dtype)
        for mine, block in blocks:
            out[mine] = self._scaled(block)
        return out

    def _scaled(self, block: Array) -> Array:
        if self.scale == 1.0:
            return block
        return np.asarray(block * np.float64(self.scale)).astype(self.dtype)

    def _shape_of(self, key: Sequence[Any]) -> tuple[int, ...]:
        sizes = zip(key, self.shape[1:], strict=True)
        return tuple(len(np.arange(size)[one]) for one, size in sizes if not is_index(one))


def _moved(one: Any, start: int, size: int) -> Any:
    """Return what selects places of an axis that begins at `start` of a longer one."""
    if isinstance(one, slice):
        first, stop, step = one.indices(size)
        return slice(first + start, stop + start, step)
    return int(one) + start if is_index(one) else one + start
