"""Exporting runs: to one netCDF file, or to the layout of the Matlab run manager."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lfadsrm_hpc.collection.words import listing
from lfadsrm_hpc.errors import LfadsrmWarning, ResultsError, UsageError

if TYPE_CHECKING:
    from lfadsrm_hpc.results.one_file import Exported

LAYOUTS = ("netcdf", "run-manager")
PARTS = ("posterior_means", "fit_log", "model_params")
Names = str | Iterable[str]
OnRun = Callable[[int, int, str], None]


def _silent(done: int, total: int, run_id: str) -> None:
    """Tell nobody."""


class _Collection(Protocol):
    """What exporting needs of a run collection."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> Path: ...

    def find_runs(self, spec: Any = ..., params: Any = ..., **match: Any) -> Sequence[Any]: ...

    def _exported(self, runs: Sequence[Any]) -> tuple[list[Exported], list[str]]: ...


class RunExporting:
    """What can be written of a run for others."""

    collection: Any

    def export(self, path: str | Path, **options: Any) -> Path:
        """Write the run into one file, or into the layout of the Matlab run manager.

        See `CollectionExporting.export` for the options and what is written.

        Parameters
        ----------
        path : path
            The file or folder to write.
        **options
            Of `CollectionExporting.export`.
        """
        found: Path = self.collection.export(path, [self], **options)
        return found


class CollectionExporting:
    """What can be written of many runs for others."""

    def export(
        self: _Collection,
        path: str | Path,
        runs: Iterable[Any] | None = None,
        *,
        skip_incomplete: bool = False,
        layout: Literal["netcdf", "run-manager"] = "netcdf",
        spec: Any = None,
        params: Any = None,
        dataset: Names | None = None,
        attach: Names = (),
        split: Literal["train", "valid"] | None = None,
        variables: Names | None = None,
        parts: Names = PARTS,
        overwrite: bool = False,
        on_run: OnRun = _silent,
        **match: Any,
    ) -> Path:
        """Write complete runs into one netCDF-4 (HDF5) file, or into the layout of the Matlab run manager.

        Parameters
        ----------
        path : path
            The file; or, with `layout="run-manager"`, the folder of the new collection.
        runs : iterable of Run, optional
            These; each must be complete. Otherwise those that the following select, as far as they are.
        skip_incomplete : bool
            Leave out those of `runs` that are not complete.
        layout : {"netcdf", "run-manager"}
            The second is the original's directories, for `LoadPosteriorMeans` of Matlab users: see
            `lfadsrm_hpc.results.legacy.exporting`, also for what it cannot hold.
        spec, params, **match
            See `find_runs`.
        dataset : str or iterable of str, optional
            Only these datasets. (one file)
        attach : str or iterable of str
            Beside the posterior means: "spikes", "truth", "external_input", "behaviour", "all". (one file)
        split : {"train", "valid"}, optional
            Only these trials. (one file)
        variables : str or iterable of str, optional
            Of the posterior means, such as ("rates", "factors"); all unless given. (one file)
        parts : str or iterable of str
            Of posterior_means, fit_log, model_params. (one file)
        overwrite : bool
            Replace what is there. A folder that is no export is never replaced.
        on_run : callable
            Called with runs done, all runs, and the id of the run that is next.

        Returns
        -------
        Path
            What was written. `xr.open_datatree(path, group="posterior_means")` opens one file as
            `load_posterior_means` does; Matlab reads it by `h5read`.

        Raises
        ------
        UsageError
            There is a file or folder already, or an option that the layout does not have.
        ResultsError
            No run is complete, or a named one is not; a run cannot be read; the disk refuses.
        NotFoundError, ParamsError
            There is no such run spec, dataset, variable or hyperparameter.

        Warns
        -----
        LfadsrmWarning
            What the layout of the Matlab run manager does not hold.
        """
        from lfadsrm_hpc.results.legacy.exporting import write_matlab_collection
        from lfadsrm_hpc.results.one_file import write_one_file
        from lfadsrm_hpc.results.posterior_means.of_runs import Wanted, several

        if layout not in LAYOUTS:
            raise UsageError(f"there is no layout {layout!r}", hint=f"there are: {', '.join(LAYOUTS)}")
        if layout == LAYOUTS[1] and (dataset or attach or split or variables or several(parts) != PARTS):
            raise UsageError(
                "the layout of the Matlab run manager holds whole runs",
                hint="dataset, attach, split, variables and parts are for one file: leave them out",
            )
        if runs is not None and (spec is not None or params is not None or match):
            raise UsageError(
                "runs are given, so spec=, params= and values of params select nothing",
                hint="give either runs, or what selects them",
            )
        chosen = self.find_runs(spec, params, **match) if runs is None else list(runs)
        done, others = self._exported(chosen)
        if not done or (runs is not None and others and not skip_incomplete):
            raise _lacking(self.path, chosen, others)
        if layout == LAYOUTS[1]:
            notes = write_matlab_collection(Path(path), done, overwrite=overwrite, on_run=on_run)
            warnings.warn(
                f"the layout of the Matlab run manager does not hold: {'; '.join(notes)}",
                LfadsrmWarning,
                stacklevel=2,
            )
            return Path(path).absolute()
        return write_one_file(
            Path(path),
            done,
            Wanted.of(dataset, attach, split, None),
            parts=several(parts),
            variables=None if variables is None else several(variables),
            about={"collection": self.name, "not_complete": others},
            overwrite=overwrite,
            on_run=on_run,
        )


def _lacking(path: Path, chosen: Sequence[Any], others: Sequence[str]) -> ResultsError:
    if not chosen:
        what = "no run fits"
    elif len(chosen) == 1:
        what = f"run {others[0]} is not complete"
    elif len(others) == len(chosen):
        what = "no run is complete"
    else:
        what = f"{len(others)} of {len(chosen)} runs are not complete: {listing(others, 5)}"
    return ResultsError(what, where=path, hint="see `lfadsrm status`")


class OwnExporting(CollectionExporting):
    """Exporting runs of this package."""

    def complete_runs(self, runs: Iterable[Any]) -> list[Any]:
        """Return those of some runs that are complete.

        Parameters
        ----------
        runs : iterable of Run
        """
        from lfadsrm_hpc.results.posterior_means.of_runs import completed

        return [own.run for own in completed(runs)[0]]

    def _exported(self, runs: Sequence[Any]) -> tuple[list[Exported], list[str]]:
        from lfadsrm_hpc.results.one_file import Exported
        from lfadsrm_hpc.results.posterior_means.of_runs import completed
        from lfadsrm_hpc.results.runs.metrics_file import read_metrics

        done, others = completed(runs)
        found = []
        for own in done:
            scores = read_metrics(own.run.layout.metrics_json, expect_token=own.token)
            about = {"spec": own.spec_name, "params": own.values}
            if scores is not None:
                about |= {"metrics": dict(scores.metrics), "quality": dict(scores.quality)}
            run: Any = own.run
            found.append(Exported(own, run.load_fit_log, run.load_model_params, about))
        return found, [run.id for run in others]
