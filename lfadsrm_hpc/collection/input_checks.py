"""Whether the sessions of a run can be fitted together, and what is odd about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lfadsrm_hpc.collection.input_files import Session
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.errors import DataError, ParamsError

if TYPE_CHECKING:
    from lfadsrm_hpc.data.inputs import SessionInputs


def check(sessions: Sequence[Session], runs: Sequence[Run]) -> Iterator[str]:
    """Check sessions for each kind of use that runs make of them, with their largest batch; give warnings.

    Raises
    ------
    DataError, ParamsError
    """
    _check_lengths(sessions)
    uses: dict[tuple[str, int], int] = {}
    for run in runs:
        use = (run.params.output_dist, run.params.ext_input_dim)
        uses[use] = max(uses.get(use, 0), run.params.batch_size)
        for session in sessions:
            _check_sizes(run, session.inputs)
            yield from _not_withheld(run, session.inputs)
    for (output_dist, ext_input_dim), batch_size in uses.items():
        for session in sessions:
            yield from session.warnings(output_dist, ext_input_dim, batch_size)


def _not_withheld(run: Run, one: SessionInputs) -> Iterator[str]:
    """Say which neurons and bins a dataset wants withheld from the encoders, and the run does not."""
    from lfadsrm_hpc.data.evaluation import unused

    found = unused(one.attributes, run.params)
    if found is not None:
        yield f"dataset {one.dataset!r}: {found}"


def _check_lengths(sessions: Sequence[Session]) -> None:
    """Refuse sessions whose trials differ in length: one model has one number of bins."""
    first, *others = [session.inputs for session in sessions]
    for other in others:
        if len(other.time_ms) != len(first.time_ms):
            raise DataError(
                f"trials have {len(other.time_ms)} bins, those of dataset {first.dataset!r} have "
                f"{len(first.time_ms)}",
                where=f"dataset {other.dataset!r}",
                hint="cut all sessions of a run spec to the same window",
            )


def _check_sizes(run: Run, one: SessionInputs) -> None:
    _, n_bins, n_neurons = one.train_data.shape
    where = f"run {run.id}, dataset {one.dataset!r}"
    held, ahead = run.params.held_out_neurons, run.params.forward_prediction_bins
    if isinstance(held, tuple) and (held[-1] >= n_neurons or len(held) >= n_neurons):
        raise ParamsError(
            f"held_out_neurons names neuron {held[-1]} and {len(held)} in all; the dataset has {n_neurons}",
            where=where,
            hint=f"indices go from 0 to {n_neurons - 1}, and at least one neuron must stay",
        )
    if isinstance(held, float) and max(1, round(held * n_neurons)) >= n_neurons:
        raise ParamsError(
            f"held_out_neurons = {held:g} would leave none of the {n_neurons} neurons to the encoders",
            where=where,
            hint="make it smaller, or leave it at None for this dataset",
        )
    if ahead >= n_bins:
        raise ParamsError(
            f"forward_prediction_bins = {ahead} leaves none of the {n_bins} bins to the encoders",
            where=where,
            hint="make it smaller, or spike_bin_ms",
        )
