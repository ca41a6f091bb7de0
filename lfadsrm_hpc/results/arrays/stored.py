"""Arrays in HDF5 files (netCDF-4 among them), read where they are used.

A source is a file as it was when it was first looked at. It is open only while it is read: thousands of
sources take no file descriptors, and nobody else who opens the same file meets us there (HDF5 refuses a file
that is open already in another manner). Where the file under the path has been replaced meanwhile, reading
fails instead of mixing two files.

xarray's own backends take several times as long to open one of ours: they build every variable with all its
attributes, and the netCDF library reads the whole structure of the file first.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt
from xarray.backends import BackendArray
from xarray.core import indexing

from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.plain_files import check_regular

Array = npt.NDArray[Any]
Key = tuple[Any, ...]  # for each axis an integer, a slice that goes forward, or an array of integers

_MOST_KEPT = 4
_MOST_KEPT_BYTES = 16 << 20


class Stamp(NamedTuple):
    """What tells a file from another one under the same path."""

    inode: int
    modified_ns: int
    size: int


@dataclass(frozen=True)
class Source:
    """A file as it was when it was first looked at.

    Attributes
    ----------
    path : str
    stamp : Stamp
    """

    path: str
    stamp: Stamp

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Source:
        """Return the file under a path as it is now.

        Raises
        ------
        OSError
            It is not there, or may not be read.
        """
        check_regular(os.fspath(path))
        with Path(path).open("rb") as file:
            return cls(os.fspath(path), _stamp(file.fileno()))

    @contextmanager
    def opened(self) -> Iterator[h5py.File]:
        """Open the file for as long as the context lasts.

        Raises
        ------
        ResultsError
            It was replaced or removed meanwhile.
        OSError
            It is damaged.
        """
        try:
            file = _open(self.path)
        except FileNotFoundError as error:
            raise ResultsError(
                "the file is gone since it was opened", where=self.path, hint="load the results again"
            ) from error
        with file:
            if _stamp(file.id.get_vfd_handle()) != self.stamp:
                raise ResultsError(
                    "the file was replaced since it was opened: its results were made anew",
                    where=self.path,
                    hint="load them again",
                )
            yield file

    def read(self, name: str, key: Key) -> Array:
        """Return a part of an array, each axis indexed by itself.

        Raises
        ------
        ResultsError
            The file was replaced or removed meanwhile, or is damaged.
        """
        known = _kept.find(self, name, key)
        if known is not None:
            return known
        try:
            with self.opened() as file:
                stored = stored_here(file, name)
                trials = _trials_beside(stored, key)
                if trials is None:
                    part = _part(stored, key)
                    return _as_texts(part) if part.dtype.kind in "OS" else part
                block = _part(stored, (trials, *key[1:]))
        except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ResultsError(
                f"{name} cannot be read ({error})", where=self.path, hint="copy the file again"
            ) from error
        _kept.add(self, name, key, trials.start, block)
        return np.array(block[key[0] - trials.start])


def stored_here(file: h5py.File, name: str) -> h5py.Dataset:
    """Return an array of a file, if its values are in that file.

    HDF5 would open whatever other file is named in their place: a named pipe, a device, a private file.

    Raises
    ------
    ResultsError
        They are elsewhere, or there is no such array.
    """
    link = file.get(name, getlink=True)
    stored = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(stored, h5py.Dataset) or stored.is_virtual or stored.external:
        raise ResultsError(f"{name} is no array of this file", where=file.filename)
    return stored


def _open(path: str) -> h5py.File:
    # No lock: a file under its final name never changes, and locks fail on many cluster file systems. Where
    # somebody in this process has it open already, both must agree about that.
    for locking in (False, None, True, "best-effort"):
        try:
            return h5py.File(path, "r", locking=locking)
        except FileNotFoundError:
            raise
        except OSError as error:
            if "lock" not in str(error):
                raise
            refused = error
    raise refused


def _stamp(descriptor: int) -> Stamp:
    found = os.fstat(descriptor)
    return Stamp(found.st_ino, found.st_mtime_ns, found.st_size)


class StoredArray(BackendArray):
    """One array of a source, for xarray: nothing is read before it is indexed.

    Parameters
    ----------
    source : Source
    name : str
    shape : sequence of int
    dtype : numpy dtype
    """

    def __init__(self, source: Source, name: str, shape: Sequence[int], dtype: npt.DTypeLike) -> None:
        self.source, self.name = source, name
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return by_axes(key, self.shape, lambda one: self.source.read(self.name, one))


def by_axes(key: indexing.ExplicitIndexer, shape: tuple[int, ...], read: Any) -> Any:
    """Answer an index of xarray's with a function that takes an integer, slice or array for each axis."""
    return indexing.explicit_indexing_adapter(key, shape, indexing.IndexingSupport.OUTER, read)


def lazy(array: BackendArray, *, cache: bool = False) -> Any:
    """Return what a variable of xarray holds in place of an array that is read when it is used.

    Parameters
    ----------
    cache : bool
        Keep what was read whole.
    """
    kinds: Any = indexing  # its annotations are for what it makes itself
    data = kinds.CopyOnWriteArray(kinds.LazilyIndexedArray(array))
    return kinds.MemoryCachedArray(data) if cache else data


# ---------------------------------------------------------------- parts of arrays


def _part(stored: h5py.Dataset, key: Key) -> Array:
    """Read what a key selects; of arrays of indices, chunk by chunk, each once."""
    lists = [axis for axis, one in enumerate(key) if isinstance(one, np.ndarray)]
    if not lists:
        return np.asarray(stored[key])
    whole = tuple(slice(int(one), int(one) + 1) if is_index(one) else one for one in key)
    out = np.empty([count(one, size) for one, size in zip(whole, stored.shape, strict=True)], stored.dtype)
    groups = [_by_chunks(key[axis], stored.chunks[axis] if stored.chunks else 1 << 62) for axis in lists]
    for group in itertools.product(*groups):
        source: list[Any] = list(whole)
        target: list[Any] = [slice(None)] * len(key)
        for axis, (places, first, wanted) in zip(lists, group, strict=True):
            source[axis] = slice(first, first + int(wanted.max()) + 1)
            target[axis] = places
        block = stored[tuple(source)]
        for axis, (_, _, wanted) in zip(lists, group, strict=True):
            block = np.take(block, wanted, axis=axis)
        put(out, target, block)
    return out[tuple(0 if is_index(one) else slice(None) for one in key)]


def _as_texts(values: Array) -> Array:
    texts = np.empty(values.shape, object)
    texts.ravel()[...] = [one.decode() if isinstance(one, bytes) else str(one) for one in values.ravel()]
    return texts


def _by_chunks(wanted: Array, chunk: int) -> list[tuple[Array, int, Array]]:
    """Return, for each chunk that indices fall into: their places in the array of indices, the first index to
    read, and the indices counted from it.
    """
    found = []
    chunks = wanted // chunk
    for one in np.unique(chunks):
        places = np.flatnonzero(chunks == one)
        first = int(wanted[places].min())
        found.append((places, first, wanted[places] - first))
    return found


def put(out: Array, target: Sequence[Any], block: Array) -> None:
    """Write a block to the places of `out` that each axis names: slices, or arrays of indices."""
    near: list[Any] = [as_slice(one) if isinstance(one, np.ndarray) else one for one in target]
    if sum(isinstance(one, np.ndarray) for one in near) < 2:
        out[tuple(near)] = block
        return
    whole = [
        one if isinstance(one, np.ndarray) else np.arange(size)[one]
        for one, size in zip(near, out.shape, strict=True)
    ]
    out[np.ix_(*whole)] = block


def as_slice(places: Array) -> Any:
    """Return increasing indices as a slice where they follow on each other."""
    if not places.size:
        return slice(0, 0)
    first, last = int(places[0]), int(places[-1])
    near = last - first + 1 == len(places) and bool((np.diff(places) == 1).all())
    return slice(first, last + 1) if near else places


def count(one: Any, size: int) -> int:
    """Return how many places of an axis of this size a slice or an array selects."""
    return len(one) if isinstance(one, np.ndarray) else len(range(size)[one])


def is_index(one: Any) -> bool:
    """Return whether it selects a single place, so that the axis is dropped."""
    return isinstance(one, int | np.integer)


# ---------------------------------------------------------------- one trial after the other


def _trials_beside(stored: h5py.Dataset, key: Key) -> slice | None:
    """Return the trials that lie in the same chunks as the one that is asked for; None: nothing is gained."""
    if not _is_one_trial(key) or not stored.chunks or stored.chunks[0] == 1:
        return None
    step = stored.chunks[0]
    rest = zip(key[1:], stored.shape[1:], strict=True)
    numbers = np.prod([1 if is_index(one) else count(one, size) for one, size in rest])
    if step * int(numbers) * stored.dtype.itemsize > _MOST_KEPT_BYTES:
        return None
    first = int(key[0]) // step * step
    return slice(first, min(first + step, stored.shape[0]))


def _is_one_trial(key: Key) -> bool:
    return len(key) > 1 and is_index(key[0])


class _Kept:
    """What was read last along with one trial: a loop over trials then unpacks each chunk once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.blocks: OrderedDict[tuple[Any, ...], tuple[int, Array]] = OrderedDict()

    def find(self, source: Source, name: str, key: Key) -> Array | None:
        """Return a part that was read along with another one."""
        if not _is_one_trial(key):
            return None
        with self.lock:
            first, block = self.blocks.get((source, name, _plain(key[1:])), (0, None))
        if block is None or not first <= key[0] < first + len(block):
            return None
        return np.array(block[key[0] - first])

    def add(self, source: Source, name: str, key: Key, first: int, block: Array) -> None:
        with self.lock:
            self.blocks[source, name, _plain(key[1:])] = first, block
            self.blocks.move_to_end((source, name, _plain(key[1:])))
            while len(self.blocks) > _MOST_KEPT:
                self.blocks.popitem(last=False)


_kept = _Kept()


def _plain(key: Key) -> tuple[Any, ...]:
    """Return a key that can be compared and hashed."""
    return tuple(
        (one.start, one.stop, one.step)
        if isinstance(one, slice)
        else one.tobytes()
        if isinstance(one, np.ndarray)
        else int(one)
        for one in key
    )


def _start_anew() -> None:
    """Forget what was kept, in a forked process: a thread that it does not have may hold the lock."""
    global _kept
    _kept = _Kept()


os.register_at_fork(after_in_child=_start_anew)
