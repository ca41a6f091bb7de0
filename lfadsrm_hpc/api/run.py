"""A run: what it is, how it goes, what came out, and what it says of new data."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.api.exporting import RunExporting
from lfadsrm_hpc.api.run_drawing import RunDrawing
from lfadsrm_hpc.api.run_loading import RunLoading
from lfadsrm_hpc.api.run_scoring import RunScoring
from lfadsrm_hpc.api.stitching import RunStitching
from lfadsrm_hpc.errors import LfadsrmWarning, NotFoundError
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.fold import RunStatus

if TYPE_CHECKING:
    import numpy.typing as npt
    import xarray as xr

    from lfadsrm_hpc.inference.adaptation import AdaptedModel
    from lfadsrm_hpc.inference.taking import Data
    from lfadsrm_hpc.model.training.progress import Progress
    from lfadsrm_hpc.results.peek.reading import Peek
    from lfadsrm_hpc.schedulers.explaining import Explanation


class Run(RunScoring, RunDrawing, RunExporting, RunLoading, RunStitching):
    """One run spec with one set of run params: what it is, how it goes, and what came out.

    A collection makes its runs: `RunCollection.runs`, `find_runs`, `find_run`.

    Attributes
    ----------
    collection : RunCollection
    spec : RunSpec
    params : RunParams
        As the user gave them; the model trains with `effective_params`.
    id : str
        `param_<hash>/<run spec>`.
    """

    def status(self) -> RunStatus:
        """Return the state of the run, read from its own files."""
        return store.run_status(self.layout)

    def train(self, *, posterior_only: bool = False) -> int:
        """Do the run here, in this process, and return its exit code (0 done, 75 checkpointed, ...).

        Meant for a notebook or a debugger; what it prints stays on the screen. Ctrl-C checkpoints and stops.

        Parameters
        ----------
        posterior_only : bool
            Do not train on: only sample a model that is there.
        """
        from lfadsrm_hpc.worker import run_task

        return run_task(self.collection.path, self.id, posterior_only=posterior_only, capture_log=False)

    def why(self) -> Explanation:
        """Return why the run is at what it is at, with evidence, the last of its log and the next command.

        Its scheduler is asked only where the run's files do not settle it.
        """
        from lfadsrm_hpc.collection.roster import Roster
        from lfadsrm_hpc.schedulers.explaining import entry_of, explain

        roster = Roster.open(self.collection.path)
        return explain(roster, entry_of(roster, self.id))

    def peek(self, dataset: str | None = None, trial: int | None = None) -> Peek:
        """Return the learning curve, and one trial's rates beside its data, also while the run trains.

        Parameters
        ----------
        dataset : str, optional
            Of a stitched run; the first that can be shown unless given.
        trial : int, optional
            Its number in the dataset. While the run trains some validation trials can be shown.

        Raises
        ------
        NotFoundError
            There is no such dataset or trial, or the run is not prepared.
        ResultsError
            A file is damaged.
        """
        from lfadsrm_hpc.results.peek.reading import peek

        return peek(self.layout, dataset=dataset, trial=trial)

    def infer(
        self,
        dataset: Data,
        *,
        session: str | None = None,
        name: str | None = None,
        bin_ms: float | None = None,
        ext_input: npt.ArrayLike | None = None,
        kind: str | None = None,
        num_samples: int | None = None,
        seed: int | None = None,
        path: str | Path | None = None,
        overwrite: bool = False,
        on_block: Callable[[int, int], None] = lambda done, total: None,
    ) -> xr.Dataset:
        """Return posterior means of new trials of a session that this run was trained on.

        They are binned as the training trials were, and may be any number, one trial alone too. The file goes
        into the folder `inferred` of the run; its other results stay as they are.

        Parameters
        ----------
        dataset : Dataset, xr.Dataset, path, or array (trial, time, neuron)
            The same neurons in the same order, and trials as long, as in training.
        session : str, optional
            Whose neurons they are, where the run has several sessions and none has the name of the dataset.
        name : str, optional
            Of the result and its file; the dataset's own unless given ("new_trials" for an array).
        bin_ms : float, optional
            Width of the bins of an array (those of the model unless given), or of a file that does not say.
        ext_input : array (trial, time, input), optional
            External inputs, where the dataset does not hold them.
        kind, num_samples, seed : optional
            In place of `posterior_mean_kind`, `num_samples_posterior` and `seed` of the run.
        path : path, optional
            Another place for the file, outside the folder of the run.
        overwrite : bool
            Replace an earlier inference of this name.
        on_block : callable
            Called with trials done and all trials, now and then.

        Returns
        -------
        xr.Dataset
            As `load_posterior_means`; `split` is "new" for each trial, and attributes say which checkpoint
            and seed were used.

        Raises
        ------
        ResultsError
            The run is not trained to its end.
        MismatchError
            Other neurons; the message names them.
        DataError
            Trials of another length, missing external inputs, values that are no counts.
        NotFoundError
            It is not clear which session is meant; the message lists them.
        UsageError
            There is a file already.
        """
        from lfadsrm_hpc.inference.new_trials import infer_with_run

        return infer_with_run(
            self,
            dataset,
            session=session,
            name=name,
            bin_ms=bin_ms,
            ext_input=ext_input,
            kind=kind,
            num_samples=num_samples,
            seed=seed,
            path=path,
            overwrite=overwrite,
            on_block=on_block,
        )

    def adapt(
        self,
        dataset: Data,
        *,
        name: str | None = None,
        bin_ms: float | None = None,
        ext_input: npt.ArrayLike | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_message: Callable[[str], None] = lambda text: warnings.warn(text, LfadsrmWarning, stacklevel=2),
        on_block: Callable[[int, int], None] = lambda done, total: None,
        **changes: Any,
    ) -> AdaptedModel:
        """Fit the trained model to a session that it does not know: new neurons, the same dynamics.

        Only a read-in and a read-out of the new session are trained; all else stays as it is, bit for bit.
        Where the session shares conditions with those of the run, both start at regressions on them, and few
        epochs are enough; else at the best of several guesses. Everything is kept in the folder
        `adapted/<name>` of the run, nothing else of the run changes, and the same call goes on where an
        earlier one was stopped or killed. Ctrl-C checkpoints and stops.

        Parameters
        ----------
        dataset, bin_ms, ext_input
            As for `infer`; the neurons are others. Some trials are set apart for validation, as in
            preparation.
        name : str, optional
            Of the adapted model; that of the dataset unless given.
        on_progress, on_message, on_block : callable
            Called while it trains; with what the user should know (a warning unless given); while it samples.
        **changes
            Hyperparameters other than the run's, such as `max_epochs=50`, `learning_rate_init=0.02`. Ramps of
            the KL and L2 costs are full from the start unless given.

        Returns
        -------
        AdaptedModel
            With `load_posterior_means()`, `load_fit_log()` and `infer(...)`.

        Raises
        ------
        ResultsError
            The run is not trained to its end.
        MismatchError
            There is an adapted model of this name, of other data or with other params.
        DataError
            The data cannot be fitted.
        InterruptedRunError
            It was stopped; the same call goes on.
        """
        from lfadsrm_hpc.inference.adaptation import adapt

        return adapt(
            self,
            dataset,
            name=name,
            bin_ms=bin_ms,
            ext_input=ext_input,
            changes=changes,
            on_progress=on_progress,
            on_message=on_message,
            on_block=on_block,
        )

    def adapted(self, name: str) -> AdaptedModel:
        """Return a model that `adapt` made earlier.

        Parameters
        ----------
        name : str
            As given to `adapt`; the name of the dataset unless one was given.

        Raises
        ------
        NotFoundError
            There is none of this name; the message lists those that are.
        """
        from lfadsrm_hpc.inference.adaptation import adapted

        return adapted(self, name)

    def prior_samples(
        self,
        count: int,
        *,
        dataset: str | None = None,
        ext_input: npt.ArrayLike | None = None,
        seed: int | None = None,
    ) -> xr.Dataset:
        """Draw samples from the prior of the trained model: what it makes up without data.

        Parameters
        ----------
        count : int
        dataset : str, optional
            Whose read-out makes rates of the factors; needed where the run has several datasets.
        ext_input : (count, time, input) or (time, input) array
            External inputs of the generator, where it has some.
        seed : int, optional
            That of the run unless given.

        Returns
        -------
        xr.Dataset
            `rates` (sample, time, neuron) in spikes/s, `factors`, `generator_states`, `generator_ics` and
            `controller_outputs`, in memory. The first samples of a larger `count` are the same.

        Raises
        ------
        NotFoundError
            No such dataset, or none was named and there are several.
        ResultsError
            The run is not trained to its end.
        DataError
            External inputs that do not fit the model.
        """
        from lfadsrm_hpc.inference.prior import prior_samples

        return prior_samples(self, count, self._dataset(dataset), ext_input=ext_input, seed=seed)

    def _repr_html_(self) -> str:
        from lfadsrm_hpc.api.displaying import run_html

        return run_html(self)

    def log_path(self) -> Path:
        """Return the log of the newest attempt that has printed something."""
        for attempt in reversed(self.layout.attempts()):
            if attempt.log.is_file():
                return attempt.log
        raise NotFoundError("the run has printed nothing yet", where=self.path)
