"""Figures of runs and of collections: what `results.plots` draws, from the files of a run.

Every method draws into the axes that it is given (`ax` or `axes`), or into those of a new figure, and returns
them. `ax.figure` is the figure, which a notebook shows and `ax.figure.savefig("name.png")` saves. What is
drawn, in which units, and what may go wrong stands with the function of `lfadsrm_hpc.results.plots` that each
method names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lfadsrm_hpc.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

    from lfadsrm_hpc.api.run import Run
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.collection.run_spec import RunSpec


class _Drawn(Protocol):
    """What drawing needs of a run."""

    id: str

    @property
    def spec(self) -> RunSpec: ...

    @property
    def params(self) -> RunParams: ...

    @property
    def dataset_names(self) -> tuple[str, ...]: ...

    def input_files(self) -> dict[str, Path]: ...

    def load_posterior_means(self, dataset: str | None = None) -> xr.Dataset: ...

    def load_model_params(self) -> xr.Dataset: ...

    def load_fit_log(self) -> pd.DataFrame: ...


class RunDrawing:
    """The figures of one run."""

    def plot_learning_curves(self: _Drawn, ax: Axes | None = None) -> Axes:
        """Draw the costs of training and validation by epoch: `learning_curves`."""
        from lfadsrm_hpc.results.plots import learning_curves

        return learning_curves({self.id: self.load_fit_log()}, ax=ax)

    def plot_single_trial_rates(
        self: _Drawn, neuron: int = 0, *, dataset: str | None = None, ax: Axes | None = None, **options: Any
    ) -> Axes:
        """Draw the rate of a neuron in every trial, and its mean by condition.

        Parameters
        ----------
        neuron : int
            Index of the neuron.
        dataset : str, optional
            Needed where the run has several.
        ax : matplotlib Axes, optional
        **options
            `conditions` and others of `single_trial_rates_by_condition`.
        """
        from lfadsrm_hpc.results.plots import single_trial_rates_by_condition

        with self.load_posterior_means(dataset) as means:
            return single_trial_rates_by_condition(means, neuron, ax=ax, **options)

    def plot_average_rates(
        self: _Drawn,
        neurons: int | Sequence[int] | None = None,
        *,
        dataset: str | None = None,
        axes: Any = None,
        **options: Any,
    ) -> Any:
        """Draw mean rates by condition with their standard errors, a panel a neuron.

        Parameters
        ----------
        neurons : int or sequence of int, optional
            At most six, spread over all, unless given.
        dataset : str, optional
            Needed where the run has several.
        axes : array of matplotlib Axes, optional
        **options
            `conditions` and others of `average_rates_by_condition`.
        """
        from lfadsrm_hpc.results.plots import average_rates_by_condition

        with self.load_posterior_means(dataset) as means:
            return average_rates_by_condition(means, neurons, axes=axes, **options)

    def plot_raster(
        self: _Drawn,
        *,
        trial: int | None = None,
        neuron: int | None = None,
        dataset: str | None = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> Axes:
        """Draw the spikes that were fitted: of all neurons in one trial, or of one neuron in all trials.

        Parameters
        ----------
        trial : int
            Trial of the dataset, from 0; or
        neuron : int
            index of a neuron.
        dataset : str, optional
            Needed where the run has several.
        ax : matplotlib Axes, optional
        **options
            `order` of `raster_of_trial`, `conditions` of `raster_of_neuron`.

        Raises
        ------
        UsageError
            Neither a trial nor a neuron is given, or both.
        """
        from lfadsrm_hpc.results.plots import raster_of_neuron, raster_of_trial

        if (trial is None) == (neuron is None):
            raise UsageError("a raster is of one trial or of one neuron", hint="trial=0, or neuron=0")
        with _with_spikes(self, dataset) as means:
            if trial is not None:
                return raster_of_trial(means, trial, ax=ax, **options)
            assert neuron is not None
            return raster_of_neuron(means, neuron, ax=ax, **options)

    def plot_factors(
        self: _Drawn,
        factors: int | Sequence[int] | None = None,
        *,
        dataset: str | None = None,
        axes: Any = None,
        **options: Any,
    ) -> Any:
        """Draw factors over time, means by condition, a panel a factor.

        Parameters
        ----------
        factors : int or sequence of int, optional
            The twelve that vary most, unless given.
        dataset : str, optional
            Needed where the run has several.
        axes : array of matplotlib Axes, optional
        **options
            `conditions`, `trials` and others of `factors_over_time`.
        """
        from lfadsrm_hpc.results.plots import factors_over_time

        with self.load_posterior_means(dataset) as means:
            return factors_over_time(means, factors, axes=axes, **options)

    def plot_factors_3d(self: _Drawn, *, dataset: str | None = None, ax: Any = None, **options: Any) -> Any:
        """Draw factors as paths in space, by condition.

        Parameters
        ----------
        dataset : str, optional
            Needed where the run has several.
        ax : matplotlib Axes3D, optional
        **options
            `conditions`, `trials` and others of `factors_3d`.
        """
        from lfadsrm_hpc.results.plots import factors_3d

        with self.load_posterior_means(dataset) as means:
            return factors_3d(means, ax=ax, **options)

    def plot_inferred_inputs(
        self: _Drawn,
        outputs: int | Sequence[int] | None = None,
        *,
        dataset: str | None = None,
        axes: Any = None,
        **options: Any,
    ) -> Any:
        """Draw what the controller put into the generator: every trial, and averages by condition.

        Parameters
        ----------
        outputs : int or sequence of int, optional
            Which controller outputs; all unless given.
        dataset : str, optional
            Needed where the run has several.
        axes : array of matplotlib Axes, optional
            Two a controller output.
        **options
            `conditions` and others of `inferred_inputs`.
        """
        from lfadsrm_hpc.results.plots import inferred_inputs

        with self.load_posterior_means(dataset) as means:
            return inferred_inputs(means, outputs, axes=axes, **options)

    def plot_session_components(
        self: _Drawn,
        components: int = 3,
        *,
        datasets: Sequence[str] | None = None,
        axes: Any = None,
        **options: Any,
    ) -> Any:
        """Draw all sessions in one space: principal components of the condition averages of their factors.

        Parameters
        ----------
        components : int
        datasets : sequence of str, optional
            All of the run unless given.
        axes : array of matplotlib Axes, optional
        **options
            `conditions` and others of `session_components`.
        """
        from lfadsrm_hpc.results.plots import session_components

        with _sessions(self, datasets) as means:
            return session_components(means, components, axes=axes, **options)

    def plot_session_alignment(
        self: _Drawn,
        components: int = 3,
        *,
        datasets: Sequence[str] | None = None,
        axes: Any = None,
        **options: Any,
    ) -> Any:
        """Draw how read-ins bring the sessions of a stitched run together.

        Parameters
        ----------
        components : int
        datasets : sequence of str, optional
            All of the run unless given.
        axes : array of matplotlib Axes, optional
        **options
            `conditions` and others of `session_alignment`; ``variable="spikes"`` for averages of what was
            measured.
        """
        from lfadsrm_hpc.results.plots import session_alignment

        spikes = options.get("variable") == "spikes"
        with _sessions(self, datasets, spikes=spikes) as means:
            return session_alignment(self.load_model_params(), means, components, axes=axes, **options)

    def plot_generator_weights(self: _Drawn, *, axes: Any = None, **options: Any) -> Any:
        """Draw the recurrent weights of the generator as heat maps: `generator_weights`."""
        from lfadsrm_hpc.results.plots import generator_weights

        return generator_weights(self.load_model_params(), axes=axes, **options)

    def plot_readout_weights(
        self: _Drawn, datasets: Sequence[str] | None = None, *, axes: Any = None, **options: Any
    ) -> Any:
        """Draw the read-out of each dataset (all unless named) as a heat map: `readout_weights`."""
        from lfadsrm_hpc.results.plots import readout_weights

        return readout_weights(self.load_model_params(), datasets, axes=axes, **options)

    def plot_generator_eigenvalues(
        self: _Drawn, *, dataset: str | None = None, ax: Axes | None = None, **options: Any
    ) -> Axes:
        """Draw the eigenvalues of the generator's dynamics, linearised at a fixed point.

        Parameters
        ----------
        dataset : str, optional
            In whose trials the search for fixed points begins; the first of the run unless given.
        ax : matplotlib Axes, optional
        **options
            `at`, `inputs` and others of `generator_eigenvalues`, which says exactly what is drawn.
        """
        from lfadsrm_hpc.results.plots import generator_eigenvalues

        with self.load_posterior_means(dataset or self.dataset_names[0]) as means:
            return generator_eigenvalues(self.load_model_params(), means, ax=ax, **options)


class _Collection(Protocol):
    """What drawing needs of a run collection."""

    @property
    def runs(self) -> list[Run]: ...

    def load_fit_logs(self, runs: Iterable[Run] | None = None) -> dict[str, pd.DataFrame]: ...

    def runs_table(self, runs: Iterable[Run] | None = None) -> pd.DataFrame: ...


class CollectionDrawing:
    """The figures of many runs together."""

    def plot_learning_curves(
        self: _Collection, runs: Iterable[Run] | None = None, ax: Axes | None = None
    ) -> Axes:
        """Draw the validation costs of many runs over epochs: `learning_curves`.

        Runs are named by their run spec and the hyperparameters that differ.
        """
        from lfadsrm_hpc.results.plots import learning_curves

        chosen = self.runs if runs is None else list(runs)
        logs = self.load_fit_logs(chosen)
        named = {label: logs[run_id] for run_id, label in run_labels(chosen).items() if run_id in logs}
        return learning_curves(named, ax=ax)

    def plot_sweep(
        self: _Collection,
        metric: str = "lowest_valid_cost",
        over: str | Sequence[str] | None = None,
        *,
        runs: Iterable[Run] | None = None,
        axes: Any = None,
        **options: Any,
    ) -> Any:
        """Draw a metric against one or two swept hyperparameters, with the spread over seeds.

        Parameters
        ----------
        metric : str
            A column of `runs_table()`, such as "co_bps" or "lowest_valid_cost".
        over : str or two str, optional
            The hyperparameters; the one or two that differ among the runs, besides the seed, unless given.
        runs : iterable of Run, optional
            Which; all unless given.
        axes : matplotlib Axes or array of them, optional
            One; for two hyperparameters, one a run spec.
        **options
            Of `sweep_curve` (one hyperparameter) or `sweep_map` (two).

        Returns
        -------
        Axes, or array of Axes for two hyperparameters

        Raises
        ------
        UsageError
            Nothing differs among the runs, or more than two hyperparameters do and none is named.
        NotFoundError
            No such metric or hyperparameter.
        DataError
            No run has the metric.
        """
        from lfadsrm_hpc.results.plots import sweep_curve, sweep_map

        chosen = self.runs if runs is None else list(runs)
        names = [over] if isinstance(over, str) else list(over) if over is not None else _swept(chosen)
        table = _with_params(self.runs_table(chosen), chosen, names)
        if len(names) == 1:
            return sweep_curve(table, metric, names[0], ax=axes, **options)
        return sweep_map(table, metric, names, axes=axes, **options)


def run_labels(runs: Sequence[Run]) -> dict[str, str]:
    """Name runs, by their ids, by run spec and what differs; by the id itself where that is not enough."""
    from lfadsrm_hpc.collection.summary import params_label, varying_names

    varying = varying_names(run.params for run in runs)
    several = len({run.spec.name for run in runs}) > 1
    labels = {}
    for run in runs:
        spec = [run.spec.name] if several or not varying else []
        labels[run.id] = ", ".join([*spec, *([params_label(run.params, varying)] if varying else [])])
    return labels if len(set(labels.values())) == len(labels) else {run.id: run.id for run in runs}


def _swept(runs: Sequence[Run]) -> list[str]:
    """Return the one or two hyperparameters, besides the seed, that differ."""
    from lfadsrm_hpc.collection.summary import varying_names

    varying = varying_names(run.params for run in runs)
    found = [name for name in varying if name != "seed"] or varying
    if not found:
        raise UsageError("no hyperparameter differs among these runs, so there is no sweep to draw")
    if len(found) > 2:
        raise UsageError(
            f"{len(found)} hyperparameters differ among these runs: {', '.join(found)}",
            hint=f"name one or two: over={found[0]!r}",
        )
    return found


def _with_params(table: pd.DataFrame, runs: Sequence[Run], names: Sequence[str]) -> pd.DataFrame:
    """Return the table with a column for each hyperparameter, also for one that is the same in all runs."""
    values = {run.id: run.params.values() for run in runs}
    for name in names:
        if name not in table and all(name in own for own in values.values()):
            table = table.assign(**{name: [values[run_id][name] for run_id in table.index]})
    return table


@contextmanager
def _sessions(
    run: _Drawn, datasets: Sequence[str] | None, *, spikes: bool = False
) -> Iterator[dict[str, xr.Dataset]]:
    """Open the posterior means of some datasets of a run; close them at the end."""
    names = run.dataset_names if datasets is None else tuple(datasets)
    with ExitStack() as stack:
        if spikes:
            yield {name: stack.enter_context(_with_spikes(run, name)) for name in names}
        else:
            yield {name: stack.enter_context(run.load_posterior_means(name)) for name in names}


@contextmanager
def _with_spikes(run: _Drawn, dataset: str | None) -> Iterator[xr.Dataset]:
    """Open the posterior means of a dataset with the counts that were fitted, which are in the run's inputs."""
    import numpy as np
    import xarray as xr

    from lfadsrm_hpc.data.inputs import read_inputs

    with run.load_posterior_means(dataset) as means:
        if "spikes" in means:
            yield means
            return
        path = run.input_files()[dataset or run.dataset_names[0]]
        if not path.is_file():
            raise NotFoundError(
                "the inputs of the run are gone, and its posterior means hold no spikes", where=path
            )
        inputs = read_inputs(path)
        trial = np.concatenate([inputs.train_inds, inputs.valid_inds])
        counts = np.concatenate([inputs.train_data, inputs.valid_data])
        sorted_counts = counts[np.argsort(trial)]
        about = {"units": "spikes per bin"}
        spikes = xr.DataArray(
            sorted_counts, dims=("trial", "time", "neuron"), coords={"trial": np.sort(trial)}, attrs=about
        )
        yield means.assign(spikes=spikes.sel(trial=means["trial"].values).variable)
