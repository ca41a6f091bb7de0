"""How good a run is: metrics, a verdict, decoding, submission files of the Neural Latents Benchmark."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lfadsrm_hpc.api.run_loading import RunLoading
from lfadsrm_hpc.errors import LfadsrmError, LfadsrmWarning, NotFoundError, ResultsError, suggest

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from lfadsrm_hpc.data.inputs import SessionInputs
    from lfadsrm_hpc.results.decoding import Decoded
    from lfadsrm_hpc.results.runs.metrics_file import RunMetrics


class RunScoring(RunLoading):
    """What a run says of how good it is."""

    def metrics(self, *, recompute: bool = False) -> RunMetrics:
        """Return the scores of the run and the verdict on it.

        They are in `metrics.json`, which is written at the end of a run, and made here where it is missing.

        Parameters
        ----------
        recompute : bool
            Make them anew.

        Returns
        -------
        RunMetrics
            `metrics` and `train_metrics` by name, validation and training trials of all datasets pooled;
            `datasets`, each with its own, with what is not defined and why; `quality`.
            docs/metrics.md has the definitions.

        Raises
        ------
        ResultsError
            The run is not complete.
        MismatchError, NotFoundError
            Its input files are not those that it was prepared with, or not there.

        Warns
        -----
        LfadsrmWarning
            The scores could not be kept.
        """
        from lfadsrm_hpc.results.runs.metrics_file import read_metrics, write_metrics

        token = self._token()
        found = None if recompute else read_metrics(self.layout.metrics_json, expect_token=token)
        if found is None:
            found = _evaluate(self, token)
            try:
                write_metrics(self.layout.metrics_json, found)
            except OSError as error:
                warnings.warn(
                    f"the metrics of {self.id} cannot be kept: {error}", LfadsrmWarning, stacklevel=2
                )
        return found

    def neuron_metrics(self, dataset: str | None = None, *, split: str = "valid") -> pd.DataFrame:
        """Return scores of single neurons.

        Parameters
        ----------
        dataset : str, optional
            Which; needed where the run has several.
        split : {"valid", "train"}
            The trials to score.

        Returns
        -------
        pandas.DataFrame
            By neuron: `neuron_name`, `rate` (spikes/s, mean in the training trials), `held_out`,
            `bits_per_spike` (nan without spikes), and `rate_r2` where true rates are known (nan below 0.5
            spikes/s: see `lfadsrm_hpc.results.r2`).
        """
        import pandas as pd

        from lfadsrm_hpc.results.scoring.scores import score_dataset
        from lfadsrm_hpc.results.scoring.trial_blocks import TrialBlocks, check_split

        check_split(split)
        with _opened(self, self._dataset(dataset)) as (means, inputs):
            found = score_dataset(means, inputs).neurons[split]
            held_out = TrialBlocks(means, inputs).held_out
            table: pd.DataFrame = pd.DataFrame(
                {"neuron_name": inputs.neuron_names, "held_out": held_out, **found},
                index=pd.RangeIndex(len(held_out), name="neuron"),
            )
        return table

    def decode(
        self,
        variable: str,
        *,
        dataset: str | None = None,
        features: str = "rates",
        lag_ms: float = 0.0,
        split: str = "valid",
    ) -> Decoded:
        """Decode behaviour, or another variable over time that is stored with the trials, from rates.

        Ridge regression fitted on the training trials, its penalty chosen by cross-validation within them.

        Parameters
        ----------
        variable : str
        dataset : str, optional
            Which; needed where the run has several.
        features : str
            "rates", "factors" or "generator_states".
        lag_ms : float
            The variable is decoded from features so much earlier; whole bins.
        split : {"valid", "train"}
            Trials to score. Training trials are scored by regressions on other training trials.

        Returns
        -------
        Decoded
            `r2`, the mean over the columns of the variable, `by_output`, and the `penalty`.

        Raises
        ------
        UsageError
            There is no such variable; the message lists those that are.
        ResultsError
            The run is not complete.
        """
        from lfadsrm_hpc.results.scoring.scores import decode_variable

        with _opened(self, self._dataset(dataset)) as (means, inputs):
            return decode_variable(means, inputs, variable, features=features, lag_ms=lag_ms, split=split)

    def write_nlb_submission(
        self,
        path: str | Path,
        dataset_name: str,
        bin_ms: float | None = None,
        *,
        dataset: str | None = None,
        evaluation: xr.Dataset | str | Path | None = None,
        add: bool = False,
    ) -> Path:
        """Write a file that the Neural Latents Benchmark (`nlb_tools`) evaluates.

        Parameters
        ----------
        path : path
        dataset_name : str
            As the benchmark calls the data: "mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg", ...
        bin_ms : float, optional
            5 or 20; that of the run unless given, otherwise a multiple of it.
        dataset : str, optional
            Which of the run's datasets; needed where it has several.
        evaluation : xr.Dataset, or name or path of one, optional
            Posterior means of the trials to evaluate (what `infer` gave, or its name). Without it the
            validation trials of the run are evaluated.
        add : bool
            Keep the other datasets of a file that is there; otherwise it is replaced.

        Returns
        -------
        Path

        Raises
        ------
        UsageError
            The benchmark has no such dataset or width, or the run has no held-out neurons.
        NotFoundError
            There are no posterior means of such a name.
        ResultsError
            The run is not complete.
        """
        from lfadsrm_hpc.results.nlb import write_submission
        from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means

        with contextlib.ExitStack() as stack:
            means = stack.enter_context(self.load_posterior_means(dataset))
            scored = evaluation
            if isinstance(scored, str | Path):
                scored = stack.enter_context(open_posterior_means(self._inferred(scored)))
            return write_submission(path, dataset_name, means, evaluation=scored, bin_ms=bin_ms, add=add)

    def _inferred(self, name: str | Path) -> Path:
        """Return the posterior means of new trials, by the name that `infer` gave them or by their file."""
        files = {path.stem: path for path in sorted(self.layout.inferred_dir.glob("*.nc"))}
        found = files.get(str(name), Path(name))
        if not found.is_file():
            there = f"there are: {', '.join(files)}" if files else "`run.infer` or `lfadsrm infer` makes them"
            raise NotFoundError(
                f"there are no inferred trials {str(name)!r}",
                where=self.layout.inferred_dir,
                hint=suggest(str(name), list(files)) or there,
            )
        return found


@contextlib.contextmanager
def _opened(run: RunLoading, dataset: str) -> Iterator[tuple[xr.Dataset, SessionInputs]]:
    """Open the posterior means of a dataset and what the run was trained on; both stay on disk."""
    from lfadsrm_hpc.data.inputs import open_inputs

    with run.load_posterior_means(dataset) as means, open_inputs(run.input_files()[dataset]) as inputs:
        yield means, inputs


def _evaluate(run: RunLoading, token: str) -> RunMetrics:
    from lfadsrm_hpc.results.scoring.evaluation import assess, run_metrics
    from lfadsrm_hpc.results.scoring.evidence import fit_evidence

    run.check_inputs()
    fit = fit_evidence(run.fit_log_path(), run.effective_params.values())
    found = []
    for name in run.dataset_names:
        with _opened(run, name) as (means, inputs):
            try:
                found.append(assess(means, inputs))
            except (LookupError, TypeError, AttributeError) as error:
                if isinstance(error, LfadsrmError):
                    raise
                raise ResultsError(
                    f"the posterior means or the inputs of dataset {name!r} lack a part: {error}",
                    where=run.layout.posterior_means(name),
                    hint="copy the files again, or sample anew: `lfadsrm run --posterior-only`",
                ) from error
    return run_metrics(fit, found, token=token)
