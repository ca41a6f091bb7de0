"""What runs of a collection will cost, from what is on disk: complete runs, else timings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.collection.work import Sizes, work_of
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.timings import read_timings
from lfadsrm_hpc.schedulers.costs import Cost, Measured, RunNeeds, estimate, least_epochs

if TYPE_CHECKING:
    from lfadsrm_hpc.api.run_loading import RunLoading
    from lfadsrm_hpc.collection.collection import RunCollection
    from lfadsrm_hpc.collection.run import Run
    from lfadsrm_hpc.manifest.fold import RunStatus
    from lfadsrm_hpc.schedulers.resources import JobRequest

_MOST_READ = 20  # complete runs whose records are read


def needs_of(collection: RunCollection[Any], runs: Iterable[Run]) -> dict[str, RunNeeds]:
    """Return, by run id, what is known of runs before they run."""
    items = {item["name"]: item for item in collection.dataset_info}
    found = {}
    for run in runs:
        params = run.effective_params
        work = work_of(params, [Sizes.of(items[name], params) for name in run.dataset_names])
        fewest = least_epochs(
            params.learning_rate_init,
            params.learning_rate_stop,
            params.learning_rate_decay_factor,
            params.learning_rate_n_to_compare,
            params.max_epochs,
        )
        if params.early_stopping_patience is not None:
            fewest = min(fewest, params.early_stopping_patience + 1)
        found[run.id] = RunNeeds(
            run.id, work.epoch, work.sampling, fewest, params.max_epochs, work.posterior_bytes
        )
    return found


def cost_of(
    collection: RunCollection[Any],
    requests: Mapping[str, JobRequest],
    *,
    states: Mapping[str, RunStatus],
    max_parallel: int = 0,
    tasks: Sequence[Sequence[str]] | None = None,
    slots: int | None = None,
) -> Cost:
    """Return what it will cost to do runs.

    Parameters
    ----------
    collection : RunCollection
    requests : dict of str to JobRequest
        What each run asks for, by run id.
    states : dict of str to RunStatus
        Of all runs of the collection that are known, by run id: complete ones tell how long runs take.
    max_parallel, tasks, slots
        See `schedulers.costs.estimate`.
    """
    runs = [collection.run_by_id(run_id) for run_id in requests]
    needs = needs_of(collection, runs)
    measured = list(_measured(collection, states))
    return estimate(
        list(needs.values()), requests, measured, max_parallel=max_parallel, tasks=tasks, slots=slots
    )


def _measured(collection: RunCollection[Any], states: Mapping[str, RunStatus]) -> Iterator[Measured]:
    complete = [i for i, status in states.items() if status.state is RunState.COMPLETED][-_MOST_READ:]
    yield from _complete([collection.run_by_id(run_id) for run_id in complete], collection)
    for timing in read_timings(collection.layout):
        runs = [run for run in collection.runs if run.id == timing.run_id]
        for run in runs:
            yield Measured(
                needs_of(collection, [run])[run.id],
                "timed",
                timing.device,
                seconds_per_epoch=timing.seconds_per_epoch,
                start_s=timing.start_s,
                sampling_s=timing.sampling_s,
                peak_memory_mb=timing.peak_memory_mb or None,
            )


def _complete(runs: Sequence[RunLoading], collection: RunCollection[Any]) -> Iterator[Measured]:
    needs = needs_of(collection, runs)
    for run in runs:
        # The time of the attempt that completed it: one that resumed took less than the whole.
        status = store.run_status(run.layout)
        if status.started is None or status.ended is None or (status.attempt, status.incarnation) != (1, 0):
            continue
        epochs = status.progress.get("epoch")
        yield Measured(
            needs[run.id],
            "complete",
            total_s=status.ended - status.started,
            epochs=int(epochs) if isinstance(epochs, int | float) and epochs else None,
            peak_memory_mb=status.peak_memory_mb,
            posterior_bytes=sum(p.stat().st_size for p in run.posterior_files().values() if p.exists())
            or None,
        )
