"""One page of HTML about a run collection, which needs nothing else: no network, no other file.

What the page shows is gathered here and in the other modules of this folder; the template `report.html.j2`
makes a page of it that is complete without its script, which sorts, filters and points. Whatever users have
named stands in it as text alone: the template escapes it, and a policy in the page lets no other script run
and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.collection.labels import varying_names
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.collection.words import listing, value_text
from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.fold import RunStatus, fold
from lfadsrm_hpc.manifest.publish import publish_replacing
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.rendering import render
from lfadsrm_hpc.results.colors import INFERRED, VALID
from lfadsrm_hpc.results.report.curves import TRAIN, Curves, curves_of
from lfadsrm_hpc.results.report.known import Known, gather
from lfadsrm_hpc.results.report.quality import verdicts_of
from lfadsrm_hpc.results.report.rates import Chosen, Panel, panels_of
from lfadsrm_hpc.results.report.resources import Resources, resources_of
from lfadsrm_hpc.results.report.table import columns_of, duration, word
from lfadsrm_hpc.results.runs.best import BestRun, choose

if TYPE_CHECKING:
    import pandas as pd

    from lfadsrm_hpc.collection.collection import RunCollection

TEMPLATE = "report.html.j2"
_MOST_ROWS = 30  # of the smaller tables
_MOST_VALUES = 12
_KINDS = {  # state or verdict -> its colour
    **{state.value: "fail" for state in RunState if state.is_failure},
    "PREEMPTED": "warn", "TIMEOUT": "warn", "HELD": "warn", "COMPLETED": "ok", "RUNNING": "run",
    "SUBMITTED": "wait", "PENDING": "wait", "REQUEUED": "wait", "PREPARED": "none", "CANCELLED": "none",
    "UNCERTAIN": "ask", "UNKNOWN": "ask", "good": "ok", "suspect": "warn", "bad": "fail",
}  # fmt: skip
_SECTIONS = (
    ("overview", "Overview"), ("best", "Best"), ("runs", "Runs"), ("curves", "Learning curves"),
    ("rates", "Rates and factors"), ("quality", "Quality"), ("resources", "Resources"), ("made", "About"),
)  # fmt: skip
_MOST_MESSAGES = 2000  # of failed runs, one line each


@dataclass(frozen=True)
class Report(os.PathLike[str]):
    """A page that was written; it can stand wherever its path can.

    Attributes
    ----------
    path : Path
    size : int
        Bytes.
    n_runs : int
        In its table.
    shown : tuple of str
        Ids of the runs whose rates and factors it shows.
    notes : tuple of str
        What it does not show, and why.
    """

    path: Path
    size: int
    n_runs: int
    shown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Wish:
    """What a page is to show.

    Attributes
    ----------
    shown : sequence of Run, optional
        Whose rates and factors; None: of the best run of each run spec.
    metric : str, optional
        By which runs are compared; see `results.runs.best.choose`.
    made_by : str
        The command or call that makes the page.
    """

    shown: Sequence[Run] | None = None
    metric: str | None = None
    made_by: str = ""


def write_report(
    path: Path,
    collection: RunCollection[Any],
    runs: Sequence[Run],
    wish: Wish,
    *,
    states: Mapping[str, RunStatus] | None = None,
    warned: Sequence[str] = (),
) -> Report:
    """Write the page about runs of a collection; what was there before is replaced in one step.

    Parameters
    ----------
    path : Path
    collection : RunCollection
    runs : sequence of Run
    wish : Wish
    states : dict of str to RunStatus, optional
        By id, what schedulers say; else the files decide.
    warned : sequence of str
        What should be said besides.

    Raises
    ------
    NotFoundError
        `wish.metric` is no score.
    ResultsError
        A run of `wish.shown` is not complete.
    OSError
        The page cannot be written there.
    """
    known = gather(collection, runs, states or {})
    best = _best(known, wish.metric)
    chosen = _chosen(known, best, wish.shown)
    panels, left_out = panels_of(chosen)
    curves = curves_of(known.runs, known.names, [one.run.id for one in chosen])
    notes = {
        "general": list(warned),
        "curves": curves.notes,
        "rates": [*left_out, *(text for one in panels for text in one.notes)],
    }
    used = resources_of(collection.layout, known.facts.values(), known.freshness)
    shown = _Shown(best, panels, curves, used, notes)
    content = _page(collection, known, shown, wish).encode(errors="replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    publish_replacing(path, content)
    ids = tuple(dict.fromkeys(one.run_id for one in panels))
    said = (*notes["general"], *notes["curves"], *notes["rates"], *used.notes)
    return Report(path, len(content), len(known.runs), ids, said)


# ---------------------------------------------------------------- which runs


def _best(known: Known, metric: str | None) -> dict[str, BestRun[Run]]:
    """Return the best run of each run spec that has one: of those called bad only where there is no other."""
    found = dict(_choose(known.runs, known.table, metric, include_bad=False))
    others = [run for run in known.runs if run.spec.name not in found]
    rows = known.table.loc[[run.id for run in others]]
    rows.attrs = dict(known.table.attrs)
    found |= _choose(others, rows, metric, include_bad=True)
    return {spec: found[spec] for spec in dict.fromkeys(run.spec.name for run in known.runs) if spec in found}


def _choose(
    runs: Sequence[Run], table: pd.DataFrame, metric: str | None, *, include_bad: bool
) -> Mapping[str, BestRun[Run]]:
    if not runs:
        return {}
    try:
        return choose(runs, table, metric, include_bad=include_bad)
    except ResultsError:  # no run is complete, or has the score
        return {}


def _chosen(known: Known, best: Mapping[str, BestRun[Run]], shown: Sequence[Run] | None) -> list[Chosen]:
    if shown is not None:
        return [_named(known, run) for run in shown]
    found = []
    for spec, one in best.items():
        winner = known.facts[one.run.id].completed
        if winner is not None and winner[1].claim is not None:
            why = f"best of {spec} by {one.metric}: {one.value:.6g}"
            found.append(Chosen(one.run, winner[1].claim.token, known.names[one.run.id], why))
    return found


def _named(known: Known, run: Run) -> Chosen:
    facts = known.facts.get(run.id) or store.read_facts(run.layout)
    if facts.completed is None or facts.completed[1].claim is None:
        state = fold(facts, known.freshness).state.value
        raise ResultsError(
            f"run {run.id} is not complete, it is {state}", where=run.path, hint="see `lfadsrm status`"
        )
    return Chosen(run, facts.completed[1].claim.token, known.names.get(run.id, run.id), "named")


def _messages(known: Known) -> dict[str, str]:
    failed = [one for one in known.states.values() if one.state.is_failure and (one.message or one.reason)]
    return {
        one.run_id: (one.message.strip().splitlines() or [str(one.reason).replace("_", " ")])[0][:300]
        for one in failed[:_MOST_MESSAGES]
    }


# ---------------------------------------------------------------- the page


@dataclass(frozen=True)
class _Shown:
    """What a page shows besides the table."""

    best: Mapping[str, BestRun[Run]]
    panels: Sequence[Panel]
    curves: Curves
    used: Resources
    notes: Mapping[str, Sequence[str]]


def _page(collection: RunCollection[Any], known: Known, shown: _Shown, wish: Wish) -> str:
    early, script = render("report_early.js.j2", {}), render("report.js.j2", {})
    counts = Counter(status.state for status in known.states.values())
    metric = next((one.metric for one in shown.best.values()), None)
    values = {
        "collection": collection,
        "about": _about(collection, known),
        "swept": _swept(known),
        "datasets": collection.dataset_info,
        "states": [(word(state), _KINDS[state.value], counts[state]) for state in RunState if counts[state]],
        "n_complete": counts[RunState.COMPLETED],
        "best": list(shown.best.items()),
        "names": known.names,
        "labels": known.labels,
        "columns": columns_of(known.table, metric),
        "rows": _rows(known, {one.run.id for one in shown.best.values()}),
        "kinds": {**_KINDS, **{word(state): _KINDS[state.value] for state in RunState}},
        "curves": shown.curves,
        "panels": shown.panels,
        "verdicts": verdicts_of(known.scores),
        "used": shown.used,
        "notes": shown.notes,
        "versions": _versions(known),
        "colors": {"train": TRAIN, "valid": VALID, "inferred": INFERRED},
        "duration": duration,
        "sections": _SECTIONS,
        "most_rows": _MOST_ROWS,
        "now": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "version": __version__,
        "made_by": wish.made_by,
        "early": early,
        "script": script,
        "policy": _policy([early, script]),
    }
    return render(TEMPLATE, values)


@dataclass(frozen=True)
class _Row:
    """What the first cell of a run says: its name, and more when it is opened."""

    run_id: str
    name: str
    state: str
    verdict: str
    is_best: bool
    differs: str
    message: str
    reasons: Sequence[str]


def _rows(known: Known, best: set[str]) -> list[_Row]:
    messages = _messages(known)
    differs = {run.params.param_hash: run.params.diff_text() for run in known.runs}
    found = []
    for run in known.runs:
        scores = known.scores.get(run.id)
        found.append(
            _Row(
                run.id,
                known.labels[run.id],
                word(known.states[run.id].state),
                "" if scores is None else scores.verdict,
                run.id in best,
                differs[run.params.param_hash] or "nothing",
                messages.get(run.id, ""),
                () if scores is None else scores.texts,
            )
        )
    return found


def _policy(scripts: Sequence[str]) -> str:
    """Return a content security policy: these scripts may run, no others, and nothing may be fetched."""
    hashes = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _about(collection: RunCollection[Any], known: Known) -> list[tuple[str, str]]:
    specs = list(dict.fromkeys(run.spec.name for run in known.runs))
    hashes = {run.params.param_hash for run in known.runs}
    names = {name for run in known.runs for name in run.dataset_names}
    found = [
        ("runs", f"{len(known.runs):,}"),
        ("run specs", f"{len(specs):,}"),
        ("sets of run params", f"{len(hashes):,}"),
        ("datasets", f"{len(names):,}"),
    ]
    if len(known.runs) < collection.n_runs:
        found[0] = ("runs", f"{len(known.runs):,} of {collection.n_runs:,}")
    return found


def _swept(known: Known) -> list[tuple[str, str]]:
    """Return hyperparameters that differ, and their values as one text."""
    params = {run.params.param_hash: run.params for run in known.runs}
    every = [one.values() for one in params.values()]
    return [(name, _values_text([one.get(name) for one in every])) for name in varying_names(params.values())]


def _values_text(values: Sequence[Any]) -> str:
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
        texts = [value_text(one) for one in sorted(set(values))]
        if len(texts) > _MOST_VALUES:
            return f"{len(texts)} values from {texts[0]} to {texts[-1]}"
        return ", ".join(texts)
    return listing(list(dict.fromkeys(value_text(one) for one in values)), _MOST_VALUES)


def _versions(known: Known) -> list[tuple[str, str]]:
    """Return the versions that complete runs were made with, and of how many each is."""
    found: dict[str, Counter[str]] = {}
    for one in known.scores.values():
        for name, version in one.versions.items():
            found.setdefault(name, Counter())[str(version)] += 1
    return [
        (name, ", ".join(v if len(c) == 1 else f"{v} ({n} runs)" for v, n in c.most_common()))
        for name, c in found.items()
    ]
