"""What figures are drawn from: posterior means of one or several sessions, spikes, names of runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lfadsrm_hpc.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.collection.run import Run
    from lfadsrm_hpc.collection.run_spec import RunSpec


class Drawn(Protocol):
    """What drawing needs of a run."""

    id: str

    @property
    def spec(self) -> RunSpec: ...

    @property
    def params(self) -> RunParams: ...

    @property
    def dataset_names(self) -> tuple[str, ...]: ...

    def input_files(self) -> dict[str, Path]: ...

    def load_posterior_means(
        self, dataset: str | None = None, *, attach: str | Iterable[str] = ()
    ) -> xr.Dataset: ...

    def load_model_params(self) -> xr.Dataset: ...

    def load_fit_log(self) -> pd.DataFrame: ...


def run_labels(runs: Sequence[Run]) -> dict[str, str]:
    """Name runs, by their ids, by run spec and what differs; by the id itself where that is not enough."""
    from lfadsrm_hpc.collection.labels import params_label, varying_names

    varying = varying_names(run.params for run in runs)
    several = len({run.spec.name for run in runs}) > 1
    labels = {}
    for run in runs:
        spec = [run.spec.name] if several or not varying else []
        labels[run.id] = ", ".join([*spec, *([params_label(run.params, varying)] if varying else [])])
    return labels if len(set(labels.values())) == len(labels) else {run.id: run.id for run in runs}


def swept(runs: Sequence[Run]) -> list[str]:
    """Return the one or two hyperparameters, besides the seed, that differ."""
    from lfadsrm_hpc.collection.labels import varying_names

    varying = varying_names(run.params for run in runs)
    found = [name for name in varying if name != "seed"] or varying
    if not found:
        raise UsageError(
            "no hyperparameter differs among these runs, so there is no sweep to draw",
            hint="sweep one first: params.generate_sweep(...); or name a hyperparameter: over=...",
        )
    if len(found) > 2:
        raise UsageError(
            f"{len(found)} hyperparameters differ among these runs: {', '.join(found)}",
            hint=f"name one or two: over={found[0]!r}",
        )
    return found


def with_params(table: pd.DataFrame, runs: Sequence[Run], names: Sequence[str]) -> pd.DataFrame:
    """Return the table with a column for each hyperparameter, also for one that is the same in all runs."""
    values = {run.id: run.params.values() for run in runs}
    for name in names:
        if name not in table and all(name in own for own in values.values()):
            table = table.assign(**{name: [values[run_id][name] for run_id in table.index]})
    return table


@contextmanager
def open_sessions(
    run: Drawn, datasets: Sequence[str] | None, *, spikes: bool = False
) -> Iterator[dict[str, xr.Dataset]]:
    """Open the posterior means of some datasets of a run; close them at the end."""
    names = run.dataset_names if datasets is None else tuple(datasets)
    with ExitStack() as stack:
        if spikes:
            yield {name: stack.enter_context(open_with_spikes(run, name)) for name in names}
        else:
            yield {name: stack.enter_context(run.load_posterior_means(name)) for name in names}


@contextmanager
def open_with_spikes(run: Drawn, dataset: str | None) -> Iterator[xr.Dataset]:
    """Open the posterior means of a dataset with the counts that were fitted, from the run's inputs."""
    with run.load_posterior_means(dataset) as means:
        if "spikes" in means:
            yield means
            return
    path = run.input_files()[dataset or run.dataset_names[0]]
    if not path.is_file():
        raise NotFoundError(
            "the inputs of the run are gone, and its posterior means hold no spikes", where=path
        )
    with run.load_posterior_means(dataset, attach="spikes") as means:
        yield means
