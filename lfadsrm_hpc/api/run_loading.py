"""Loading what came out of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lfadsrm_hpc.collection import run as runs
from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.manifest import store

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


Names = str | Iterable[str]
Chunks = Mapping[str, int] | str | None


class RunLoading(runs.Run):
    """What can be loaded of a run."""

    def load_posterior_means(
        self,
        dataset: str | None = None,
        *,
        attach: Names = (),
        split: Literal["train", "valid"] | None = None,
        chunks: Chunks = None,
    ) -> xr.Dataset:
        """Open the posterior means of a dataset, lazily.

        Parameters
        ----------
        dataset : str, optional
            Which; needed where the run has several (a stitched run).
        attach : str or iterable of str
            What to put beside them, from the data that the run was fitted to: "spikes" (counts a bin),
            "truth" (spikes/s), "external_input", "condition", the name of a further variable of the dataset,
            "behaviour" (all of those), or "all". Read when it is used; trials in the original order.
        split : {"train", "valid"}, optional
            Only trials that were trained on, or held for validation.
        chunks : mapping or "auto", optional
            Make dask arrays of such chunks; dask must be installed.

        Returns
        -------
        xr.Dataset
            `rates` (trial, time, neuron) in spikes/s and more; `neuron` is an integer index and names are
            in `neuron_name`, `time` is in ms, `trial` in the original order. Nothing is read before its use.

        Raises
        ------
        NotFoundError
            No such dataset, or none was named and there are several; the message lists them. Or something to
            attach is not there.
        ResultsError
            The run is not complete, or its files are not those that its exit record vouches for.
        """
        from lfadsrm_hpc.results.posterior_means.of_runs import Own, Wanted, open_one

        name = self._dataset(dataset)
        return open_one(Own(self, self._token()), name, Wanted.of(None, attach, split, chunks))

    def condition_averages(
        self,
        dataset: str | None = None,
        variables: str | Sequence[str] | None = None,
        *,
        by: str = "condition",
        split: Literal["train", "valid", "each"] | None = None,
        attach: Names = (),
    ) -> xr.Dataset:
        """Return mean, standard error and number of trials of each condition.

        See `lfadsrm_hpc.results.averages.condition_averages`, which also takes trees and stacks.

        Parameters
        ----------
        dataset, attach
            See `load_posterior_means`.
        variables, by, split
            See `condition_averages`.

        Raises
        ------
        DataError
            The dataset has no conditions.
        NotFoundError, ResultsError
            See `load_posterior_means`.
        """
        from lfadsrm_hpc.results.averages import condition_averages

        return condition_averages(
            self.load_posterior_means(dataset, attach=attach), variables, by=by, split=split
        )

    def load_model_params(self, dataset: str | None = None) -> xr.Dataset:
        """Return the parameters of the trained model by name.

        Parameters
        ----------
        dataset : str, optional
            Only read-in and read-out of this dataset, without its name: `readout_W` (factor, neuron), ...

        Returns
        -------
        xr.Dataset
            See `lfadsrm_hpc.results.model_params.open_model_params`; `all_readouts` there puts the read-outs
            of all datasets side by side.

        Raises
        ------
        ResultsError
            The training has not ended yet.
        NotFoundError
            The run has no such dataset.
        """
        from lfadsrm_hpc.results.model_params import of_dataset, open_model_params

        params = open_model_params(self.layout.model_params)
        return params if dataset is None else of_dataset(params, self._dataset(dataset))

    def load_fit_log(self) -> pd.DataFrame:
        """Return costs, weights and learning rate by epoch.

        `attrs["lowest_valid_epoch"]` tells the epoch of lowest validation cost.

        Raises
        ------
        ResultsError
            The run has not trained yet.
        """
        from lfadsrm_hpc.results.runs.fitlog import read_fitlog

        return read_fitlog(self.fit_log_path())

    def fit_log_path(self) -> Path:
        """Return the fit log that counts: that of the newest attempt that has one."""
        found = self.layout.fit_log()
        if found is None:
            raise ResultsError("the run has no fit log yet", where=self.path, hint="train it: `lfadsrm run`")
        return found

    def posterior_files(self) -> dict[str, Path]:
        """Return the netCDF file of each dataset; they exist when the run is complete."""
        return {name: self.layout.posterior_means(name) for name in self.dataset_names}

    def _token(self) -> str:
        winner = store.winning_exit(self.layout)
        if winner is None:
            state = store.run_status(self.layout).state.value
            raise ResultsError(
                f"run {self.id} is not complete, it is {state}", where=self.path, hint="see `lfadsrm status`"
            )
        return winner[1]

    def _dataset(self, name: str | None) -> str:
        return runs.one_dataset(self.id, self.dataset_names, name)
