"""Figures of runs: what `results.plots` draws, from the files of a run.

Every method draws into the axes that it is given (`ax` or `axes`), or into those of a new figure, and returns
them. `ax.figure` is the figure, which a notebook shows and `ax.figure.savefig("name.png")` saves. What is
drawn, in which units, and what may go wrong stands with the function of `lfadsrm_hpc.results.plots` that each
method names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.api.drawn import Drawn, open_sessions, open_with_spikes
from lfadsrm_hpc.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class RunDrawing:
    """The figures of one run."""

    def plot_learning_curves(self: Drawn, ax: Axes | None = None) -> Axes:
        """Draw the costs of training and validation by epoch: `learning_curves`.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Those of a new figure unless given.
        """
        from lfadsrm_hpc.results.plots import learning_curves

        return learning_curves({self.id: self.load_fit_log()}, ax=ax)

    def plot_single_trial_rates(
        self: Drawn, neuron: int = 0, *, dataset: str | None = None, ax: Axes | None = None, **options: Any
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
        self: Drawn,
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
        self: Drawn,
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
        with open_with_spikes(self, dataset) as means:
            if trial is not None:
                return raster_of_trial(means, trial, ax=ax, **options)
            assert neuron is not None
            return raster_of_neuron(means, neuron, ax=ax, **options)

    def plot_factors(
        self: Drawn,
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

    def plot_factors_3d(self: Drawn, *, dataset: str | None = None, ax: Any = None, **options: Any) -> Any:
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
        self: Drawn,
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
        self: Drawn,
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

        with open_sessions(self, datasets) as means:
            return session_components(means, components, axes=axes, **options)

    def plot_session_alignment(
        self: Drawn,
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
        with open_sessions(self, datasets, spikes=spikes) as means:
            return session_alignment(self.load_model_params(), means, components, axes=axes, **options)

    def plot_generator_weights(self: Drawn, *, axes: Any = None, **options: Any) -> Any:
        """Draw the recurrent weights of the generator as heat maps: `generator_weights`.

        Parameters
        ----------
        axes : optional
            As `lfadsrm_hpc.results.plots.generator_weights` takes them.
        **options
            Of that function.
        """
        from lfadsrm_hpc.results.plots import generator_weights

        return generator_weights(self.load_model_params(), axes=axes, **options)

    def plot_readout_weights(
        self: Drawn, datasets: Sequence[str] | None = None, *, axes: Any = None, **options: Any
    ) -> Any:
        """Draw the read-out of each dataset (all unless named) as a heat map: `readout_weights`.

        Parameters
        ----------
        datasets : sequence of str, optional
            Names of datasets of the run.
        axes : optional
            As `lfadsrm_hpc.results.plots.readout_weights` takes them.
        **options
            Of that function.
        """
        from lfadsrm_hpc.results.plots import readout_weights

        return readout_weights(self.load_model_params(), datasets, axes=axes, **options)

    def plot_generator_eigenvalues(
        self: Drawn, *, dataset: str | None = None, ax: Axes | None = None, **options: Any
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
