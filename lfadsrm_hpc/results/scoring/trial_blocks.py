"""The trials of one dataset, recorded and inferred side by side, read in blocks to keep memory small."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import MismatchError, UsageError
from lfadsrm_hpc.results.metrics import Floats
from lfadsrm_hpc.results.posterior_means.format import COUNT_DISTS, STD

if TYPE_CHECKING:
    import xarray as xr

    from lfadsrm_hpc.data.inputs import SessionInputs

TRAIN, VALID = "train", "valid"
SPLITS = (TRAIN, VALID)
BLOCK = 2**21  # values of one variable in memory at a time, about (16 MB)
_DIMS = 3


def check_split(split: str) -> None:
    """Refuse what is no split of trials.

    Raises
    ------
    UsageError
    """
    if split not in SPLITS:
        raise UsageError(f"there is no split {split!r} to score", hint="split='valid', or split='train'")


def forward_bins(means: xr.Dataset) -> int:
    """Return how many of the last bins the encoders of a run did not see.

    Raises
    ------
    UsageError
        The posterior means are of a stack of runs, which does not tell.
    """
    if "stack" in means.attrs:
        raise UsageError(
            "these posterior means are of a stack of runs, and scores are of one",
            hint="run.load_posterior_means() loads one; rc.runs_table() has the scores of all",
        )
    params = json.loads(str(means.attrs.get("params", "{}"))).get("values", {})
    return int(params.get("forward_prediction_bins", 0))


@dataclass(frozen=True)
class Extra:
    """A variable that goes with the trials and that LFADS does not see: behaviour, true latents.

    Attributes
    ----------
    dims : tuple of str
    parts : dict
        "train" and "valid": arrays, trials first.
    """

    name: str
    dims: tuple[str, ...]
    parts: Mapping[str, Any]

    @property
    def width(self) -> int:
        """Values a bin."""
        shape = self.parts[TRAIN].shape
        return int(shape[2]) if len(shape) == _DIMS else 1


@dataclass(frozen=True)
class Block:
    """Some trials in their original order.

    Attributes
    ----------
    rows : slice
        Their places in the posterior means.
    is_train : (n,) bool
    data : (n, T, d)
        Counts per bin, or values of a continuous signal.
    rates : (n, T, d)
        Spikes/s, or expected values in the units of the data.
    """

    rows: slice
    is_train: npt.NDArray[np.bool_]
    data: Floats
    rates: Floats

    def of(self, split: str) -> npt.NDArray[np.bool_]:
        """Return which trials are of a split."""
        return self.is_train if split == TRAIN else ~self.is_train


class TrialBlocks:
    """What was recorded in, and inferred of, the trials of one dataset.

    Parameters
    ----------
    means : xr.Dataset
        Posterior means, lazily opened or in memory.
    inputs : SessionInputs
        What the run was trained on; its arrays may lie on disk (`open_inputs`).
    between : callable
        Called before each block is read; what it raises ends the reading.

    Attributes
    ----------
    output_dist : str
    counts : bool
        Whether the data are counts.
    rate : str
        Name of the variable that predicts the data: "rates" or "output_mean".
    held_out : (D,) bool
        Neurons that the encoders did not see.
    forward : int
        Last bins that they did not see.

    Raises
    ------
    MismatchError
        The posterior means are of other data, or lack training trials.
    """

    def __init__(
        self, means: xr.Dataset, inputs: SessionInputs, between: Callable[[], None] = lambda: None
    ) -> None:
        self.means, self.inputs, self._between = means, inputs, between
        self.forward = forward_bins(means)
        self.output_dist = str(means.attrs.get("output_dist", "poisson"))
        self.counts = self.output_dist in COUNT_DISTS
        self.rate = "rates" if "rates" in means else "output_mean"
        self.bin_ms, self.dataset = float(inputs.bin_ms), inputs.dataset
        self._check()
        self.bins, self.neurons = means[self.rate].shape[1:]
        self.is_train, self._row = self._places()
        self.held_out = np.zeros(self.neurons, dtype=bool)
        self.held_out[json.loads(str(means.attrs.get("held_out_neurons", "[]")))] = True

    def _check(self) -> None:
        where = f"dataset {self.inputs.dataset!r}"
        found, wanted = self.means.attrs.get("fingerprint"), self.inputs.fingerprint
        if found is not None and wanted and found != wanted:
            raise MismatchError("the posterior means are of other data than the inputs", where=where)
        shape = (len(self.inputs.time_ms), len(self.inputs.neuron_names))
        if self.means[self.rate].shape[1:] != shape:
            raise MismatchError(
                f"the posterior means have {self.means[self.rate].shape[1:]} bins and neurons, the inputs "
                f"{shape}",
                where=where,
            )

    def _places(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Return for each trial of the posterior means its part of the inputs, and its row there."""
        train, valid = np.asarray(self.inputs.train_inds), np.asarray(self.inputs.valid_inds)
        place = {int(trial): (True, row) for row, trial in enumerate(train)}
        place.update({int(trial): (False, row) for row, trial in enumerate(valid)})
        trials = self.means["trial"].to_numpy().tolist()
        missing = [trial for trial in trials if trial not in place]
        if missing:
            raise MismatchError(
                f"the inputs have no trial {missing[0]}, of which there are posterior means",
                where=f"dataset {self.inputs.dataset!r}",
            )
        lacking = len(train) - len({int(trial) for trial in train} & set(trials))
        if lacking:
            raise MismatchError(
                f"the posterior means lack {lacking} of {len(train)} training trials, with which all scores "
                "are compared",
                where=f"dataset {self.inputs.dataset!r}",
                hint="give those of all trials; split= says which of them are scored",
            )
        found = [place[trial] for trial in trials]
        return np.array([one for one, _ in found], dtype=bool), np.array([row for _, row in found], np.int64)

    # -- labels

    @property
    def trials(self) -> int:
        return len(self.is_train)

    @property
    def condition(self) -> npt.NDArray[Any] | None:
        """Condition of each trial of the posterior means."""
        if self.inputs.train_condition is None or self.inputs.valid_condition is None:
            return None
        parts = np.asarray(self.inputs.train_condition), np.asarray(self.inputs.valid_condition)
        both = zip(self.is_train, self._row, strict=True)
        return np.array([parts[0][row] if train else parts[1][row] for train, row in both])

    @property
    def has_truth(self) -> bool:
        return self.inputs.train_truth is not None and self.inputs.valid_truth is not None

    def extras(self) -> list[Extra]:
        """Return the further variables over time, (trial, time) or (trial, time, any), that are numbers."""
        found = []
        for name, (dims, *parts) in getattr(self.inputs, "extra", {}).items():
            both = dict(zip(SPLITS, parts, strict=True))
            kinds = {one.dtype.kind for one in both.values()}
            if tuple(dims[:2]) == ("trial", "time") and 2 <= len(dims) <= _DIMS and kinds <= set("iufb"):
                found.append(Extra(str(name), tuple(dims), both))
        return found

    # -- reading

    def block_trials(self, neurons: int) -> int:
        """Return how many trials of so many neurons to read at once: whole chunks, where there is room."""
        room = max(1, BLOCK // max(1, self.bins * neurons))
        chunk = self._chunks()[0]
        return room // chunk * chunk if room >= chunk else min(chunk, 2 * room)

    def neuron_groups(self, conditions: int) -> list[slice]:
        """Return groups of neurons, such that blocks and sums over trials by condition stay small."""
        trials, _, width = self._chunks()
        most = min(4 * BLOCK // (self.bins * trials), 8 * BLOCK // (self.bins * max(1, 4 * conditions)))
        most = max(width, most // width * width)
        return [slice(start, min(start + most, self.neurons)) for start in range(0, self.neurons, most)]

    def _chunks(self) -> tuple[int, int, int]:
        chunks = self.means[self.rate].encoding.get("chunksizes") or (1, self.bins, 1)
        return int(chunks[0]), int(chunks[1]), int(chunks[2])

    def blocks(self, neurons: slice = slice(None)) -> Iterator[Block]:
        """Yield all trials, a few at a time."""
        width = len(range(*neurons.indices(self.neurons)))
        for rows in self._rows(self.block_trials(width)):
            data = self.recorded("data", rows, neurons)
            yield Block(rows, self.is_train[rows], data, self.inferred(self.rate, rows, neurons))

    def rows(self, width: int) -> Iterator[slice]:
        """Yield slices of all trials, such that variables of so many values a bin fit into a block."""
        yield from self._rows(self.block_trials(width))

    def _rows(self, step: int) -> Iterator[slice]:
        for start in range(0, self.trials, step):
            self._between()
            yield slice(start, min(start + step, self.trials))

    def inferred(self, name: str, rows: slice, neurons: slice = slice(None)) -> Floats:
        """Return a variable of the posterior means in some trials."""
        part = self.means[name].isel(trial=rows)
        if "neuron" in part.dims:
            part = part.isel(neuron=neurons)
        values: Floats = part.to_numpy().astype(np.float64)
        return values

    def std(self, rows: slice, neurons: slice) -> Floats | None:
        """Return the standard deviations of rates, where there are any."""
        name = self.rate + STD
        return self.inferred(name, rows, neurons) if name in self.means else None

    def recorded(self, key: str, rows: slice, last: slice = slice(None)) -> Floats:
        """Return "data" or "truth" of the inputs in some trials."""
        return self._gathered({part: getattr(self.inputs, f"{part}_{key}") for part in SPLITS}, rows, last)

    def extra(self, one: Extra, rows: slice) -> Floats:
        """Return a further variable in some trials, (n, T, width)."""
        values = self._gathered(one.parts, rows, None)
        return values if values.ndim == _DIMS else values[..., None]

    def _gathered(self, parts: Mapping[str, Any], rows: slice, last: slice | None) -> Floats:
        is_train, row = self.is_train[rows], self._row[rows]
        found: Floats | None = None
        for part, mine in ((TRAIN, is_train), (VALID, ~is_train)):
            if not mine.any():
                continue
            low, high = int(row[mine].min()), int(row[mine].max()) + 1
            stored = parts[part]
            values = stored[low:high] if last is None else stored[low:high, :, last]
            if found is None:
                found = np.empty((len(row), *values.shape[1:]))
            found[mine] = np.asarray(values)[row[mine] - low]
        assert found is not None, "a block has trials"
        return found
