"""Which run is best, by one score; and what else a reader of that answer should know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import pandas as pd

from lfadsrm_hpc.collection.labels import varying_names
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.collection.words import listing, value_text
from lfadsrm_hpc.errors import NotFoundError, ResultsError, UsageError, suggest
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.results.runs.methods_text import Chosen, methods_paragraph
from lfadsrm_hpc.results.runs.reproduction import reproducing_script
from lfadsrm_hpc.results.runs.table import KNOWN_METRICS

if TYPE_CHECKING:
    from lfadsrm_hpc.collection.params import RunParams


class Ranked(Protocol):
    """A run, of whatever origin, as far as it can be compared with others."""

    @property
    def id(self) -> str: ...

    @property
    def params(self) -> RunParams: ...

    @property
    def collection(self) -> Any: ...


R = TypeVar("R", bound=Ranked)

COSTS = ("lowest_valid_cost", "valid_cost")
PREFERRED = "co_bps"
BAD = "bad"
# Params that change what is measured, not only how well the model does.
_MEASURED = ("held_out_neurons", "held_out_seed", "forward_prediction_bins")
_IN_THE_COST = (
    "output_dist", "loss_reduction", "kl_ic_weight", "kl_co_weight", "l2_gen_scale", "l2_con_scale",
    "co_mean_corr_scale", "sample_validation_rate", "ic_prior_var_min", "ic_prior_var_scale",
    "ic_prior_var_max", "prior_ar_atau", "prior_ar_nvar", "do_train_prior_ar_atau", "do_train_prior_ar_nvar",
)  # fmt: skip


@dataclass(frozen=True)
class BestRun(Generic[R]):
    """The best run of one run spec.

    Attributes
    ----------
    run : Run
    metric : str
    value : float
    ranking : pandas.DataFrame
        The rows of `runs_table` of the runs that competed, best first.
    notes : tuple of str
        What a reader of the answer should know: runs that are not complete or were left out, ties, ...
    """

    run: R
    metric: str
    value: float
    ranking: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def differences(self) -> dict[str, Any]:
        """The hyperparameters that differ from their defaults."""
        return self.run.params.differences()

    @cached_property
    def methods(self) -> str:
        """A paragraph for a methods section (data, model, training, versions, citations); plain text."""
        swept = {}
        for name in self.ranking.attrs.get("swept", ()):
            values = list(self.ranking[name].drop_duplicates())
            numbers = all(isinstance(one, int | float) for one in values)
            swept[name] = [value_text(one) for one in (sorted(values) if numbers else values)]
        swept = {name: values for name, values in swept.items() if len(values) > 1}
        return methods_paragraph(self._own_run, Chosen(self.metric, self.value, len(self.ranking), swept))

    @cached_property
    def script(self) -> str:
        """A Python script that prepares the same run from the same data, checks that, and trains it."""
        return reproducing_script(self._own_run)

    @property
    def _own_run(self) -> Run:
        if not isinstance(self.run, Run):
            raise UsageError(
                "another program made this run: what is on record of it is too little for that",
                where=self.run.id,
                hint="`params`, `differences` and `ranking` tell what is known",
            )
        return self.run

    def __str__(self) -> str:
        differ = self.run.params.diff_text() or "nothing"
        text = f"{self.run.id}: {self.metric} {self.value:.6g}\n  differs from the defaults in: {differ}"
        return "\n".join([text, *(f"  note: {note}" for note in self.notes)])


class Best(Mapping[str, BestRun[R]]):
    """The best run of each run spec: `best["single_day1"].run`; where there is one run spec, `best.run`."""

    def __init__(self, found: Mapping[str, BestRun[R]]) -> None:
        self._found = dict(found)

    def __getitem__(self, spec: str) -> BestRun[R]:
        if spec not in self._found:
            raise NotFoundError(
                f"there is no run spec {spec!r} here", hint=suggest(spec, list(self)) or listing(list(self))
            )
        return self._found[spec]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    @property
    def only(self) -> BestRun[R]:
        """The answer, where there is one run spec.

        Raises
        ------
        NotFoundError
            There are several; runs of different run specs are not compared, since their data differ.
        """
        if len(self._found) != 1:
            names = list(self)
            raise NotFoundError(
                f"there are {len(names)} run specs, each with a best run: {listing(names)}",
                hint=f"name one: best(..., spec={names[0]!r}), or best[{names[0]!r}]",
            )
        return next(iter(self._found.values()))

    run = property(lambda self: self.only.run, doc="The best run, where there is one run spec.")
    value = property(lambda self: self.only.value, doc="Its score.")
    metric = property(lambda self: self.only.metric, doc="The name of the score.")
    ranking = property(lambda self: self.only.ranking, doc="The runs that competed, best first.")
    notes = property(lambda self: self.only.notes, doc="What else should be known of it.")
    differences = property(lambda self: self.only.differences, doc="How its params differ from the defaults.")
    methods = property(lambda self: self.only.methods, doc="A paragraph for a methods section.")
    script = property(lambda self: self.only.script, doc="A script that reproduces it.")

    def __repr__(self) -> str:
        return "\n".join(map(str, self.values()))


def choose(runs: Sequence[R], table: pd.DataFrame, metric: str | None, *, include_bad: bool) -> Best[R]:
    """Choose the best run of each run spec.

    Parameters
    ----------
    runs : sequence of Run
    table : pandas.DataFrame
        Their `runs_table`.
    metric : str or None
        A column of it: higher is better, but for costs. None: `co_bps` where a complete run of the run spec
        has it, else `lowest_valid_cost`.
    include_bad : bool
        Let runs compete that quality control calls bad.

    Raises
    ------
    NotFoundError
        There is no such score.
    ResultsError
        No run is complete, or has the score, or may compete.
    """
    _check_metric(metric, table)
    by_id = {run.id: run for run in runs}
    done = table[table["state"] == RunState.COMPLETED.value]
    if done.empty:
        counts = _counted(table["state"])
        raise ResultsError(
            f"no run is complete ({counts})" if counts else "there are no runs",
            where=runs[0].collection.path if runs else None,
            hint="train them: `lfadsrm run`; see `lfadsrm status`",
        )
    found: dict[str, BestRun[R]] = {}
    without: list[str] = []
    errors: list[ResultsError] = []
    for spec, rows in table.groupby("spec", sort=False):
        own = done[done["spec"] == spec]
        if own.empty:
            without.append(f"no run of {spec} is complete")
            continue
        try:
            found[str(spec)] = _best_of(str(spec), rows, own, metric, by_id, include_bad=include_bad)
        except ResultsError as error:  # another run spec may do
            errors.append(error)
            without.append(error.what)
    if not found:
        raise errors[0]
    return Best({spec: _noted(one, without) for spec, one in found.items()} if without else found)


def _noted(one: BestRun[R], notes: Sequence[str]) -> BestRun[R]:
    return BestRun(one.run, one.metric, one.value, one.ranking, (*one.notes, *notes))


def _best_of(
    spec: str,
    rows: pd.DataFrame,
    done: pd.DataFrame,
    metric: str | None,
    by_id: Mapping[str, R],
    *,
    include_bad: bool,
) -> BestRun[R]:
    notes = []
    if len(done) < len(rows):
        others = rows[rows["state"] != RunState.COMPLETED.value]
        are = "is" if len(others) == 1 else "are"
        notes.append(f"{len(others)} of {len(rows)} runs {are} not complete ({_counted(others['state'])})")
    bad = done["verdict"] == BAD
    competing = done if include_bad else done[~bad]
    if bad.any() and not include_bad:
        which = listing([str(one) for one in done.index[bad]], 3)
        if competing.empty:
            raise _all_bad(spec, done, metric)
        notes.append(f"left out, since quality control calls it bad: {which}")
    name = metric or _default_metric(competing)
    if not _has(competing, name):
        raise _without_score(spec, competing, name, of_bad=_has(done, name))
    scored = competing[competing[name].notna()]
    if len(scored) < len(competing):
        lacking = len(competing) - len(scored)
        runs = "1 complete run" if lacking == 1 else f"{lacking} complete runs"
        notes.append(f"did not compete, for want of {name}: {runs}")
    ranking = scored.sort_values(name, ascending=name in COSTS, kind="stable")
    ranking.attrs = dict(rows.attrs)
    first = ranking.iloc[0]
    tied = [str(one) for one in ranking.index[1:] if ranking.loc[one, name] == first[name]]
    if tied:
        notes.append(f"tied with {listing(tied, 3)}: the first in the order of the collection is named")
    notes += _warnings(name, [by_id[str(one)].params for one in ranking.index], first)
    return BestRun(by_id[str(ranking.index[0])], name, float(first[name]), ranking, tuple(notes))


def _has(rows: pd.DataFrame, name: str) -> bool:
    return name in rows and bool(rows[name].notna().any())


def _default_metric(rows: pd.DataFrame) -> str:
    return PREFERRED if _has(rows, PREFERRED) else COSTS[0]


def _all_bad(spec: str, done: pd.DataFrame, metric: str | None) -> ResultsError:
    count = "the one complete run" if len(done) == 1 else f"all {len(done)} complete runs"
    of = "" if len(done) == 1 else f"; of {done.index[0]}"
    option, keyword = "--include-bad", "include_bad=True"
    there = _scores_of(done)
    if not _has(done, metric or _default_metric(done)) and there:
        option, keyword = f"{option} --metric {there[0]}", f'{keyword}, metric="{there[0]}"'
    return ResultsError(
        f"quality control calls {count} of {spec} bad{of}: {_reasons(done.iloc[0])}",
        hint=f"look at them; {option} (in Python {keyword}) lets them compete",
    )


def _without_score(spec: str, rows: pd.DataFrame, name: str, *, of_bad: bool) -> ResultsError:
    but = " but bad ones" if of_bad else ""
    # A last epoch with a finite cost would count, had its ramps been complete.
    ramps = (
        name == COSTS[0]
        and not of_bad
        and _has(rows, "valid_cost")
        and rows["valid_cost"].abs().lt(float("inf")).any()
    )
    why = ": training ended before the ramps of KL and L2 did" if ramps else ""
    there = _scores_of(rows)
    return ResultsError(
        f"no complete run{but} of {spec} has {name}{why}",
        hint=f'--metric {there[0]} (in Python metric="{there[0]}"); they have {listing(there)}'
        if there
        else "`lfadsrm metrics` (in Python compute_metrics()) computes scores",
    )


def _scores_of(rows: pd.DataFrame) -> list[str]:
    return [one for one in (*KNOWN_METRICS, *COSTS) if _has(rows, one)]


def _warnings(metric: str, params: Sequence[RunParams], best: Any) -> Iterator[str]:
    different = [name for name in varying_names(params) if _changes_what_is_measured(name, metric, params[0])]
    if different:
        yield f"compare with care: runs differ in {listing(different)}, which changes what {metric} measures"
    if best["verdict"] not in (None, "good") and best["verdict"] == best["verdict"]:
        yield f"quality control calls the best run {best['verdict']}: {_reasons(best)}"


def _changes_what_is_measured(name: str, metric: str, params: RunParams) -> bool:
    data = params.affects(name) == "data"
    return data or name in _MEASURED or (metric in COSTS and name in _IN_THE_COST)


def _check_metric(metric: str | None, table: pd.DataFrame) -> None:
    if metric is None or metric in COSTS or metric in KNOWN_METRICS or metric in table.attrs["metrics"]:
        return
    known = list(dict.fromkeys([*table.attrs["metrics"], *KNOWN_METRICS, *COSTS]))
    raise NotFoundError(
        f"there is no score {metric!r}", hint=suggest(metric, known) or f"there are: {', '.join(known)}"
    )


def _counted(states: pd.Series[Any]) -> str:
    counts = Counter(states)
    named = ((counts[state.value], state.value.lower().replace("_", " ")) for state in RunState)
    return ", ".join(f"{number} {word}" for number, word in named if number)


def _reasons(row: Any) -> str:
    return str(row["reasons"] or "no reasons are given")
