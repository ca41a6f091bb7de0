"""From a sampler's blocks to a file of posterior means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.data.extra import CARRIED_TO_RESULTS
from lfadsrm_hpc.results.posterior_means.writing import PosteriorMeansWriter

if TYPE_CHECKING:
    import xarray as xr

    from lfadsrm_hpc.data.inputs import SessionInputs

Array = npt.NDArray[Any]


class Block(Protocol):
    """Results of trials start..stop-1, by name."""

    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...
    @property
    def arrays(self) -> Mapping[str, Array]: ...


class Sampler(Protocol):
    """What `lfadsrm_hpc.model.sampling.posterior.Sampler` is, as far as a file needs it."""

    @property
    def sizes(self) -> Mapping[str, int]: ...
    @property
    def with_std(self) -> bool: ...
    def blocks(self, data: Array, ext: Array | None, *, trial_ids: Array | None) -> Iterator[Block]: ...


@dataclass(frozen=True)
class Trials:
    """Trials of one dataset in their original order, and what describes them.

    Attributes
    ----------
    dataset : str
    index : (E,) int
        Which trials of the dataset these are, from 0.
    split : list of str
        "train" or "valid" for each trial, or "new".
    counts : (E, T, D)
    ext_input : (E, T, I) or None
    condition : (E,) or None
    labels : dict of name to (E,)
        What else goes with each trial into the results (`lfadsrm_hpc.data.extra.CARRIED_TO_RESULTS`).
    time_ms : (T,); bin_ms : float; neuron_names : (D,)
    """

    dataset: str
    index: npt.NDArray[np.int64]
    split: list[str]
    counts: Array
    ext_input: Array | None
    condition: Array | None
    time_ms: Array
    bin_ms: float
    neuron_names: Array
    labels: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, session: SessionInputs, *, new: bool = False) -> Trials:
        """Return training and validation trials together, in order; with `new` they are neither."""
        joined = np.concatenate([session.train_inds, session.valid_inds])
        order = np.argsort(joined, kind="stable")
        n_train = len(session.train_inds)

        def merge(train: Any, valid: Any) -> Any:
            return None if train is None else np.concatenate([train, valid])[order]

        split = ["train" if place < n_train else "valid" for place in order]
        return cls(
            dataset=session.dataset,
            index=joined[order],
            split=["new"] * len(joined) if new else split,
            counts=merge(session.train_data, session.valid_data),
            ext_input=merge(session.train_ext_input, session.valid_ext_input),
            condition=merge(session.train_condition, session.valid_condition),
            time_ms=session.time_ms,
            bin_ms=session.bin_ms,
            neuron_names=session.neuron_names,
            labels={
                name: merge(session.extra[name].train, session.extra[name].valid)
                for name in CARRIED_TO_RESULTS
                if name in session.extra and session.extra[name].dims == ("trial",)
            },
        )


def write_means(
    path: Path,
    sampler: Sampler,
    trials: Trials,
    *,
    output_dist: str,
    attributes: Mapping[str, object],
    on_block: Callable[[int, int], None] = lambda done, total: None,
    describe: Callable[[Callable[[], xr.Dataset]], Mapping[str, object]] | None = None,
) -> Path:
    """Sample trials and write their posterior means; see `PosteriorMeansWriter`.

    Parameters
    ----------
    path : Path
        It appears there when it is complete.
    sampler : Sampler
        Of the session that the trials belong to.
    trials : Trials
    output_dist : str
        Hyperparameter of the model.
    attributes : mapping
        What the file says of its origin.
    on_block : callable
        Called with trials done and all trials after each block; an exception of its leaves no file.
    describe : callable, optional
        Called before the file appears, with a function that opens what was written, lazily; what it returns
        are further attributes.
    """
    with PosteriorMeansWriter(
        path,
        dataset=trials.dataset,
        time_ms=trials.time_ms,
        bin_ms=trials.bin_ms,
        trial=trials.index,
        split=trials.split,
        condition=trials.condition,
        labels=trials.labels,
        neuron_names=trials.neuron_names,
        output_dist=output_dist,
        sizes=sampler.sizes,
        with_std=sampler.with_std,
        attributes=attributes,
    ) as writer:
        for block in sampler.blocks(trials.counts, trials.ext_input, trial_ids=trials.index):
            writer.write_block(block.start, block.arrays)
            on_block(block.stop, len(trials.index))
        if describe is not None:
            writer.set_attributes(describe(writer.so_far))
    return path
