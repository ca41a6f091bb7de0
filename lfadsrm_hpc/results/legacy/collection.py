"""A run collection that the Matlab run manager made: its runs, found, loaded and compared. Read only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from lfadsrm_hpc.collection.labels import varying
from lfadsrm_hpc.collection.matching import plain_list, values_match
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.words import lines, listing
from lfadsrm_hpc.errors import NotFoundError, ResultsError, suggest
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.legacy_layout import LegacyCollectionLayout
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.results.legacy.fitlog import read_lfads_summary
from lfadsrm_hpc.results.legacy.params import read_summary
from lfadsrm_hpc.results.legacy.run import LegacyRun
from lfadsrm_hpc.results.legacy.status import LegacyStatus
from lfadsrm_hpc.results.posterior_means.of_runs import (
    Chunks,
    Names,
    Wanted,
    open_stacks,
    open_tree_of,
    several,
)
from lfadsrm_hpc.results.runs.best import Best, choose
from lfadsrm_hpc.results.runs.table import FIT, RESOURCES, summary_of, table_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

R = TypeVar("R", bound=LegacyRun)
C = TypeVar("C", bound="LegacyCollection[Any]")


class LegacyCollection(Generic[R]):
    """A run collection of the Matlab run manager; see `open`.

    Attributes
    ----------
    layout : LegacyCollectionLayout
    """

    run_class: type[R] = LegacyRun  # type: ignore[assignment] # what subclasses for other runs set

    def __init__(self, path: str | Path, *, bin_ms: float | None = None) -> None:
        self.layout = LegacyCollectionLayout(Path(path).absolute())
        self._bin_ms = bin_ms

    @classmethod
    def open(cls: type[C], path: str | Path, *, bin_ms: float | None = None) -> C:
        """Open a collection from its directory: no Matlab is needed, and nothing is written.

        Parameters
        ----------
        path : path
            `<root>/<name>`: the folder that holds `param_<HASH>` and `data_<HASH>`.
        bin_ms : float, optional
            Width of the spike bins, where neither `summary.txt` nor `inputInfo_*.mat` tells it.

        Raises
        ------
        NotFoundError
            There is no such folder, or no run in it; the message says where there are some.
        """
        found = cls(path, bin_ms=bin_ms)
        where = found.layout.path
        if not where.is_dir():
            raise NotFoundError("there is no such folder", where=where)
        if not found.runs:
            raise NotFoundError(
                "there are no runs of the Matlab run manager here", where=where, hint=_what_is_there(where)
            )
        return found

    @property
    def path(self) -> Path:
        """The folder of the collection."""
        return self.layout.path

    @property
    def name(self) -> str:
        """The name of that folder."""
        return self.layout.path.name

    @cached_property
    def runs(self) -> list[R]:
        """All runs, in order of run specs, then params, as `summary.txt` has them where it is there."""
        summary = read_summary(self.layout.summary)
        found = [
            self.run_class(self, layout, self.layout, summary, self._bin_ms) for layout in self.layout.runs()
        ]
        specs, params = list(summary.specs), list(summary.params)

        def place(run: R) -> tuple[int, str, int, str]:
            return _index(specs, run.name), run.name, _index(params, run.param_hash), run.param_hash

        return sorted(found, key=place)

    @property
    def n_runs(self) -> int:
        """How many runs there are."""
        return len(self.runs)

    @property
    def run_specs(self) -> list[str]:
        """The names of the run specs."""
        return list(dict.fromkeys(run.name for run in self.runs))

    @property
    def param_hashes(self) -> list[str]:
        """The params, as Matlab hashed them."""
        return list(dict.fromkeys(run.param_hash for run in self.runs))

    # ---------------------------------------------------------------- finding

    def find_runs(
        self, spec: Names | None = None, params: Names | int | None = None, **match: Any
    ) -> list[R]:
        """Return the runs that fit, in order.

        Parameters
        ----------
        spec : str or iterable of str, optional
            Names of run specs.
        params : str or iterable of str, or int, optional
            Hashes, with or without `param_`; or the position of one, from 0.
        **match
            Values that the params must have, by our names: `factors_dim=4`; a list means any of its values, a
            function is asked. Runs whose value is not known do not fit.

        Raises
        ------
        NotFoundError
            No such run spec or params.
        ParamsError
            No run has such a hyperparameter.
        """
        specs = self._named(several(spec), self.run_specs, "run spec")
        if isinstance(params, int):
            if not -len(self.param_hashes) <= params < len(self.param_hashes):
                raise NotFoundError(
                    f"there are no params {params}",
                    where=self.path,
                    hint=f"there are {len(self.param_hashes)}, counted from 0",
                )
            params = self.param_hashes[params]
        plain = [one.removeprefix("param_") for one in several(params)]
        hashes = self._named(plain, self.param_hashes, "params with the hash")
        known = RunParams().values() | {name: None for run in self.runs for name in run.values}
        wanted = dict(zip(plain_list(match, known), match.values(), strict=True))
        return [
            run
            for run in self.runs
            if (spec is None or run.name in specs)
            and (params is None or run.param_hash in hashes)
            and wanted.keys() <= run.values.keys()
            and values_match(run.values, wanted)
        ]

    def find_run(self, spec: Names | None = None, params: Names | int | None = None, **match: Any) -> R:
        """Return the one run that fits; see `find_runs`.

        Parameters
        ----------
        spec, params, **match
            As there.

        Raises
        ------
        NotFoundError
            None fits, or several; they are listed.
        """
        found = self.find_runs(spec, params, **match)
        if len(found) == 1:
            return found[0]
        raise NotFoundError(
            f"{len(found)} runs fit" if found else "no run fits",
            where=self.path,
            hint=("narrow it down:\n" if found else "there are:\n")
            + lines([f"{run.id} {run.params.diff_text()}".strip() for run in found or self.runs]),
        )

    def run_by_id(self, run_id: str) -> R:
        """Return the run with an id.

        Parameters
        ----------
        run_id : str

        Raises
        ------
        NotFoundError
        """
        for run in self.runs:
            if run.id == run_id:
                return run
        ids = [run.id for run in self.runs]
        raise NotFoundError(
            f"there is no run {run_id!r}", where=self.path, hint=suggest(run_id, ids) or listing(ids)
        )

    def _named(self, given: Iterable[str], there: list[str], what: str) -> set[str]:
        for name in given:
            if name not in there:
                raise NotFoundError(
                    f"there is no {what} {name!r}",
                    where=self.path,
                    hint=suggest(name, there) or f"there are: {listing(there)}",
                )
        return set(given)

    # ---------------------------------------------------------------- loading

    def status(self, runs: Iterable[R] | None = None) -> list[LegacyStatus]:
        """Return how far runs are (all unless given), from the files that are there.

        Parameters
        ----------
        runs : iterable of LegacyRun, optional
        """
        return [run.status() for run in (self.runs if runs is None else runs)]

    def load_posterior_means(
        self,
        runs: Iterable[R] | None = None,
        *,
        spec: Names | None = None,
        params: Names | int | None = None,
        dataset: Names | None = None,
        kind: str | None = None,
        stack: Names | None = None,
        attach: Names = (),
        split: Literal["train", "valid"] | None = None,
        chunks: Chunks = None,
        **match: Any,
    ) -> xr.DataTree | xr.Dataset:
        """Open the posterior means of complete runs lazily, as a tree or stacked along swept params.

        Parameters
        ----------
        runs, spec, params, **match
            See `find_runs`; `runs` takes their place.
        kind
            See `LegacyRun.load_posterior_means`.
        dataset, stack, attach, split, chunks
            See `api.collection_loading.CollectionLoading.load_posterior_means`.

        Returns
        -------
        xr.DataTree or xr.Dataset

        Raises
        ------
        ResultsError
            No run is complete, or files are damaged.
        NotFoundError, ParamsError
            There is no such run spec, dataset or param.
        """
        chosen = self.find_runs(spec, params, **match) if runs is None else list(runs)
        done = [run for run in chosen if run.is_complete]
        if not done or (runs is not None and len(done) < len(chosen)):
            unfit = [str(run.status()) for run in chosen if run not in done]
            raise ResultsError(
                f"none of the {len(chosen)} selected runs is complete"
                if not done and chosen
                else f"{len(unfit)} of the runs are not complete"
                if chosen
                else "no run fits",
                where=self.path,
                hint=lines(unfit, 5) if unfit else None,
            )
        wanted = Wanted.of(dataset, attach, split, chunks)
        loadable = [run.loadable(kind) for run in done]
        if stack is not None:
            return open_stacks(loadable, stack, wanted)
        others = [run.id for run in chosen if run not in done]
        return open_tree_of(loadable, wanted, {"collection": self.name, "not_complete": json.dumps(others)})

    def load_fit_logs(self, runs: Iterable[R] | None = None) -> dict[str, pd.DataFrame]:
        """Return the fit log of each run (of all unless given) that has one, by run id.

        Parameters
        ----------
        runs : iterable of LegacyRun, optional
        """
        logs = {}
        for run in self.runs if runs is None else runs:
            try:
                logs[run.id] = run.load_fit_log()
            except ResultsError:
                continue
        return logs

    # ---------------------------------------------------------------- tables

    def runs_table(self, runs: Iterable[R] | None = None) -> pd.DataFrame:
        """Return a table with a row for each run (all unless given), from small text files alone.

        Parameters
        ----------
        runs : iterable of LegacyRun, optional

        Returns
        -------
        pandas.DataFrame
            See `api.collection_loading.CollectionLoading.runs_table`. Nothing is on record of attempts,
            times, machines and scores; `reasons` holds what is odd about a run.
        """
        chosen = self.runs if runs is None else list(runs)
        swept = [name for name in varying(run.values for run in self.runs if run.values) if name != "name"]
        return table_of([run.id for run in chosen], [_row(run) for run in chosen],
                        [run.values for run in chosen], swept)  # fmt: skip

    def summary(self, runs: Iterable[R] | None = None) -> pd.DataFrame:
        """Return runs x (params, costs), of all runs unless given; see `CollectionLoading.summary`.

        Parameters
        ----------
        runs : iterable of LegacyRun, optional
        """
        return summary_of(self.runs_table(runs))

    def best(
        self,
        metric: str | None = None,
        spec: Names | None = None,
        *,
        runs: Iterable[R] | None = None,
        **match: Any,
    ) -> Best[R]:
        """Return the best complete run of each run spec, by its lowest validation cost.

        See `api.collection_loading.CollectionLoading.best`. There is no methods paragraph, and no script.

        Parameters
        ----------
        metric : str, optional
            A cost of the fit log; the lowest total validation cost unless given.
        runs, spec, **match
            See `find_runs`; `runs` takes their place.

        Raises
        ------
        ResultsError
            No run is complete, or none has the score.
        NotFoundError, ParamsError
            There is no such score, run spec or param.
        """
        chosen = self.find_runs(spec, **match) if runs is None else list(runs)
        return choose(chosen, self.runs_table(chosen), metric, include_bad=True)

    def __repr__(self) -> str:
        done = sum(run.is_complete for run in self.runs)
        return (
            f'{type(self).__name__} "{self.name}" ({self.n_runs} runs, {done} complete)\n'
            f"  Path: {self.path}\n  Run specs: {listing(self.run_specs)}\n  {len(self.param_hashes)} params"
        )


def _row(run: LegacyRun) -> Mapping[str, Any]:
    status = run.status()
    notes = [status.detail, *run.known_params.notes]
    found: dict[str, Any] = {
        "spec": run.name,
        "params": run.param_hash,
        "state": status.state.value,
        "attempts": None,
        **dict.fromkeys((*FIT, *RESOURCES)),
        "metrics": {},
        "verdict": None,
    }
    try:
        fit = read_lfads_summary(run.layout.output.fitlog)
    except ResultsError as error:
        if status.state is RunState.COMPLETED:
            notes.append(error.what)
    else:
        found |= {} if fit is None else fit._asdict()
    return {**found, "reasons": "; ".join(note for note in notes if note)}


def _index(names: list[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def _what_is_there(where: Path) -> str:
    """Return where there are runs, near a folder that has none."""
    if CollectionLayout(where).collection_json.is_file():
        return "this is a collection of lfadsrm_hpc: RunCollection.open(path)"
    for folder in (where.parent, where.parent.parent, *sorted(p for p in where.iterdir() if p.is_dir())):
        if LegacyCollectionLayout(folder).runs():
            return f"there are some in {folder}"
    return "name the folder that holds the folders param_<HASH> and data_<HASH>"
