"""Loading what came out of many runs: as a tree, a stack or a table; and which run is best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from lfadsrm_hpc.api.run import Run
from lfadsrm_hpc.api.run_loading import Chunks, Names
from lfadsrm_hpc.api.tracking import TrackedCollection
from lfadsrm_hpc.errors import ResultsError, UsageError
from lfadsrm_hpc.manifest.states import RunState

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.collection.run_spec import RunSpec
    from lfadsrm_hpc.results.runs.best import Best


class CollectionLoading(TrackedCollection):
    """What can be loaded of many runs."""

    @overload
    def load_posterior_means(
        self,
        runs: Iterable[Run] | None = ...,
        *,
        spec: str | RunSpec | Iterable[str | RunSpec] | None = ...,
        params: int | str | RunParams | Iterable[int | str | RunParams] | None = ...,
        state: RunState | str | Iterable[RunState | str] | None = ...,
        dataset: Names | None = ...,
        stack: None = ...,
        attach: Names = ...,
        split: Literal["train", "valid"] | None = ...,
        chunks: Chunks = ...,
        **match: Any,
    ) -> xr.DataTree: ...

    @overload
    def load_posterior_means(
        self,
        runs: Iterable[Run] | None = ...,
        *,
        spec: str | RunSpec | Iterable[str | RunSpec] | None = ...,
        params: int | str | RunParams | Iterable[int | str | RunParams] | None = ...,
        state: RunState | str | Iterable[RunState | str] | None = ...,
        dataset: Names | None = ...,
        stack: Names,
        attach: Names = ...,
        split: Literal["train", "valid"] | None = ...,
        chunks: Chunks = ...,
        **match: Any,
    ) -> xr.Dataset | xr.DataTree: ...

    def load_posterior_means(
        self,
        runs: Iterable[Run] | None = None,
        *,
        spec: str | RunSpec | Iterable[str | RunSpec] | None = None,
        params: int | str | RunParams | Iterable[int | str | RunParams] | None = None,
        state: RunState | str | Iterable[RunState | str] | None = None,
        dataset: Names | None = None,
        stack: Names | None = None,
        attach: Names = (),
        split: Literal["train", "valid"] | None = None,
        chunks: Chunks = None,
        **match: Any,
    ) -> xr.DataTree | xr.Dataset:
        """Open the posterior means of complete runs lazily, as a tree or stacked along swept params.

        Parameters
        ----------
        runs : iterable of Run, optional
            These; each must be complete. Otherwise those that the following select, as far as they are
            complete.
        spec, params, **match
            See `find_runs`: `spec="both_days", factors_dim=8`; `c_split=...` for the hyperparameter `split`.
        state : RunState or str, or several, optional
            Only runs in these states now (a run that is being sampled anew has its earlier results until
            then).
        dataset : str or iterable of str, optional
            Only these datasets.
        stack : str or sequence of str, optional
            Params that become dimensions: `stack=("factors_dim", "seed")`.
        attach, split, chunks
            See `Run.load_posterior_means`; what a dataset does not have is left out, unless none has it. In a
            stack, what is attached is there once, without the stacked dimensions.

        Returns
        -------
        xr.DataTree or xr.Dataset
            `tree["param_<hash>/<run spec>/<dataset>"]`; attributes of `tree["param_<hash>"]` are the values
            of swept params; `tree.attrs["not_complete"]` (JSON) names the selected runs that are not. With
            `stack`, one Dataset a run spec and dataset: itself where there is only one (select with `spec`
            and `dataset`), else `tree["<run spec>/<dataset>"]`. Its dimensions are the params, then those of
            a run. Narrower runs are padded with NaN along `factor` (and generator_unit, controller_output,
            ic): `n_factor` and so on hold the true widths, and attributes and a warning say so; runs that
            are missing are NaN, and `run` is "" there. What is read is not kept: `.load()` does.

        Raises
        ------
        ResultsError
            No run is complete, or a named one is not; two runs of a stack have the same values (the message
            says in what else they differ), or other trials, bins or neurons.
        NotFoundError, ParamsError
            There is no such run spec, dataset or param.

        Warns
        -----
        LfadsrmWarning
            A stack is padded, or lacks combinations.
        """
        import json

        from lfadsrm_hpc.results.posterior_means.of_runs import Wanted, completed, open_stacks, open_tree_of

        chosen = self._chosen(runs, spec, params, state, match)
        done, others = completed(chosen)
        if others and runs is not None:
            others[0]._token()  # says what it is at
        if not done:
            what = f"none of the {len(chosen)} selected runs is complete" if chosen else "no run fits"
            raise ResultsError(
                what if self.n_runs else "there are no runs",
                where=self.path,
                hint="see `lfadsrm status`; train them: `lfadsrm run`",
            )
        wanted = Wanted.of(dataset, attach, split, chunks)
        if stack is not None:
            return open_stacks(done, stack, wanted)
        about = {"collection": self.name, "not_complete": json.dumps([run.id for run in others])}
        return open_tree_of(done, wanted, about)

    def _chosen(self, given: Any, spec: Any, params: Any, state: Any, match: Mapping[str, Any]) -> list[Run]:
        if given is not None:
            if spec is not None or params is not None or match:
                raise UsageError(
                    "runs are given, so spec=, params= and values of params select nothing",
                    hint="give either runs, or what selects them",
                )
            chosen = list(given)
        else:
            chosen = self.find_runs(spec, params, **match)
        if state is None:
            return chosen
        words = [state] if isinstance(state, str) else list(state)
        try:
            states = {RunState(str(one).upper().replace(" ", "_")) for one in words}
        except ValueError as error:
            raise UsageError(str(error), hint=f"the states are: {', '.join(RunState)}") from None
        now = zip(chosen, self.status(chosen), strict=True)
        return [run for run, status in now if status.state in states]

    def load_fit_logs(self, runs: Iterable[Run] | None = None) -> dict[str, pd.DataFrame]:
        """Return the fit log of each run that has one, by run id.

        Parameters
        ----------
        runs : iterable of Run, optional
            All unless given.
        """
        logs = {}
        for run in self.runs if runs is None else runs:
            try:
                logs[run.id] = run.load_fit_log()
            except ResultsError:
                continue
        return logs

    # ---------------------------------------------------------------- tables

    def runs_table(self, runs: Iterable[Run] | None = None, *, ask: bool = False) -> pd.DataFrame:
        """Return a table with a row for each run (all unless given), from small text files alone.

        Parameters
        ----------
        runs : iterable of Run, optional
        ask : bool
            Ask schedulers for the states of runs that wait or work on clusters, as `status` does.

        Returns
        -------
        pandas.DataFrame
            Index `run`: ids. Columns: `spec`, `params` (the hash), `state`, `attempts` (tries that began), a
            column for each swept param (those that differ in the collection), `epochs`, `valid_cost` (of the
            last epoch), `lowest_valid_cost` and `lowest_valid_epoch` (with both ramps complete), `started`
            (first), `ended` (last, unless it goes on), `seconds` (in all incarnations, as far as they are on
            record), `host`, `gpu`, `peak_memory_mb`, then the metrics that any run has, `verdict`,
            `reasons`. Times are in UTC; what is not known is missing.
        """
        from lfadsrm_hpc.results.runs.table import runs_table

        chosen = self.runs if runs is None else list(runs)
        states = {one.run_id: one for one in self.status(chosen)} if ask else None
        return runs_table(chosen, self.runs, states=states)

    def summary(self, runs: Iterable[Run] | None = None) -> pd.DataFrame:
        """Return runs x (params, metrics): what was swept, and what came of it.

        Parameters
        ----------
        runs : iterable of Run, optional
            All unless given.

        Returns
        -------
        pandas.DataFrame
            Index (`spec`, `params` hash); columns (`params`, name) for swept params, (`metrics`, name) for
            epochs, costs and scores. `summary()["metrics"]["co_bps"].unstack("spec")`, for instance.
        """
        from lfadsrm_hpc.results.runs.table import summary_of

        return summary_of(self.runs_table(runs))

    def best(
        self,
        metric: str | None = None,
        spec: str | RunSpec | Iterable[str | RunSpec] | None = None,
        *,
        runs: Iterable[Run] | None = None,
        include_bad: bool = False,
        **match: Any,
    ) -> Best[Run]:
        """Return the best complete run of each run spec, by one score.

        Parameters
        ----------
        metric : str, optional
            A score of `runs_table`: higher is better, but for `lowest_valid_cost` and `valid_cost`. Unless
            given, `co_bps` (co-smoothing) where a run has it, else `lowest_valid_cost`.
        spec, **match
            See `find_runs`.
        runs : iterable of Run, optional
            Among these alone.
        include_bad : bool
            Let runs compete that quality control calls bad.

        Returns
        -------
        Best
            `best["single_day1"]` has `run`, `value`, `ranking`, `notes` (runs that are not complete, were
            left out, or are tied), `differences` from the defaults, `methods` (a paragraph to paste) and
            `script` (Python that reproduces the run). Where there is one run spec, `best.run` and so on do
            as well.

        Raises
        ------
        ResultsError
            No run is complete, or none has the score.
        NotFoundError, ParamsError
            There is no such score, run spec or param.
        """
        from lfadsrm_hpc.results.runs.best import choose

        chosen = self._chosen(runs, spec, None, None, match)
        return choose(chosen, self.runs_table(chosen), metric, include_bad=include_bad)
