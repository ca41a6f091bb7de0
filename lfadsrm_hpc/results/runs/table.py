"""All runs of a collection as one table, from small text files alone: no netCDF file is opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.collection.labels import varying_names
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.collection.words import value_text
from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.layout import RunLayout, fitlog
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.fold import Freshness, RunFacts, RunStatus, fold
from lfadsrm_hpc.manifest.reading import look
from lfadsrm_hpc.results.runs.fit_summary import FitSummary, read_fit_summary
from lfadsrm_hpc.results.runs.metrics_file import RunMetrics, read_metrics

if TYPE_CHECKING:
    import pandas as pd

    from lfadsrm_hpc.manifest.facts import IncarnationFacts

BEFORE_PARAMS = ("spec", "params", "state", "attempts")
FIT = ("epochs", "valid_cost", "lowest_valid_cost", "lowest_valid_epoch")
RESOURCES = ("started", "ended", "seconds", "host", "gpu", "peak_memory_mb")
VERDICT = ("verdict", "reasons")
# in this order, where there are any; others follow
KNOWN_METRICS = (
    "bits_per_spike", "co_bps", "fp_bps", "rate_r2", "psth_r2", "latent_r2", "decoding_r2",
)  # fmt: skip
_COUNTS = ("epochs", "lowest_valid_epoch")
_TIMES = ("started", "ended")


def runs_table(
    runs: Sequence[Run],
    every: Iterable[Run] | None = None,
    *,
    states: Mapping[str, RunStatus] | None = None,
    facts: Mapping[str, RunFacts] | None = None,
) -> pd.DataFrame:
    """Return a row for each run.

    Parameters
    ----------
    runs : sequence of Run
        Of one collection.
    every : iterable of Run, optional
        The runs whose params decide which hyperparameters are columns; `runs` unless given.
    states : dict of str to RunStatus, optional
        By id, states that are known already (from a scheduler); files are asked for the others.
    facts : dict of str to RunFacts, optional
        By id, what was read already of the manifest.

    Returns
    -------
    pandas.DataFrame
        See `lfadsrm_hpc.api.collection_loading.CollectionLoading.runs_table`.
    """
    values = {run.params.param_hash: run.params.values() for run in runs}
    return table_of(
        [run.id for run in runs],
        _rows(runs, states or {}, facts or {}),
        [values[run.params.param_hash] for run in runs],
        _swept(runs if every is None else every),
    )


def table_of(
    ids: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    values: Sequence[Mapping[str, Any]],
    swept: Sequence[str],
) -> pd.DataFrame:
    """Return the table of what is known of runs.

    Parameters
    ----------
    ids : sequence of str
    rows : sequence of mapping
        For each run what `BEFORE_PARAMS`, `FIT`, `RESOURCES` and `VERDICT` name, and `metrics`, a mapping.
    values : sequence of mapping
        The params of each run.
    swept : sequence of str
        Which of them become columns.
    """
    import pandas as pd

    names = list(dict.fromkeys([*KNOWN_METRICS, *(name for row in rows for name in row["metrics"])]))
    metrics = [name for name in names if any(name in row["metrics"] for row in rows)]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in BEFORE_PARAMS}
    taken = {*BEFORE_PARAMS, *FIT, *RESOURCES, *VERDICT, *metrics}
    for name in swept:
        own = [one.get(name) for one in values]
        columns[f"param_{name}" if name in taken else name] = _plain_column(own)
    columns |= {name: [row[name] for row in rows] for name in (*FIT, *RESOURCES)}
    columns |= {name: [row["metrics"].get(name) for row in rows] for name in metrics}
    columns |= {name: [row[name] for row in rows] for name in VERDICT}
    table: pd.DataFrame = pd.DataFrame(
        {name: _column(name, column, metrics) for name, column in columns.items()},
        index=pd.Index(list(ids), name="run", dtype=object),
    )
    table.attrs["swept"] = [f"param_{name}" if name in taken else name for name in swept]
    table.attrs["metrics"] = metrics
    return table


def summary_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return params and metrics of a table of runs; see `CollectionLoading.summary`."""
    import pandas as pd

    groups = {
        "params": list(table.attrs["swept"]),
        "metrics": [*FIT, *table.attrs["metrics"]],
    }
    found: pd.DataFrame = table[[name for names in groups.values() for name in names]].copy()
    pairs = [(group, name) for group, names in groups.items() for name in names]
    found.columns = pd.MultiIndex.from_tuples(pairs, names=["", "name"])
    found.index = pd.MultiIndex.from_arrays([table["spec"], table["params"]], names=["spec", "params"])
    found.attrs = {}
    return found


# ---------------------------------------------------------------- columns


def _swept(runs: Iterable[Run]) -> list[str]:
    params = {run.params.param_hash: run.params for run in runs}
    return varying_names(params.values())


def _plain_column(values: Sequence[Any]) -> list[Any]:
    """Return lists and the like as text, so that rows can be sorted and compared."""
    return [
        one if one is None or isinstance(one, bool | int | float | str) else value_text(one) for one in values
    ]


def _column(name: str, values: list[Any], metrics: Sequence[str]) -> Any:
    import pandas as pd

    if name in _COUNTS:
        return pd.array(values, dtype="Int64")
    if name in _TIMES:
        return pd.to_datetime(pd.array(values, dtype="Float64"), unit="s", utc=True)
    if name in (*FIT, "seconds", "peak_memory_mb", *metrics):
        return pd.array([float("nan") if one is None else one for one in values], dtype="float64")
    if any(one is None or isinstance(one, str) for one in values):
        return pd.array(values, dtype=object)
    return values


# ---------------------------------------------------------------- rows


def _rows(
    runs: Sequence[Run], states: Mapping[str, RunStatus], known: Mapping[str, RunFacts]
) -> list[dict[str, Any]]:
    if not runs:
        return []
    collection = runs[0].layout.collection
    cancelled = store.read_cancellations(collection)
    freshness = look(collection.state_dir if collection.state_dir.is_dir() else collection.path)
    rows = []
    for run in runs:
        facts = known.get(run.id) or store.read_facts(run.layout, cancelled=cancelled)
        rows.append(_row(run, facts, freshness, states.get(run.id)))
    return rows


def _row(run: Run, facts: RunFacts, freshness: Freshness, known: RunStatus | None) -> dict[str, Any]:
    status = fold(facts, freshness) if known is None else known
    scores = scores_of(run.layout, facts)
    quality = {} if scores is None else scores.quality
    return {
        "spec": run.spec.name,
        "params": run.params.param_hash,
        "state": status.state.value,
        **_fit(fit_summary_of(run.layout)),
        **_spent(facts, live=status.state.is_live),
        "metrics": {} if scores is None else dict(scores.metrics),
        "verdict": quality.get("verdict"),
        "reasons": "; ".join(str(one.get("text", one.get("check"))) for one in quality.get("reasons", ())),
    }


def scores_of(layout: RunLayout, facts: RunFacts) -> RunMetrics | None:
    """Return the scores of the incarnation that completed the run; others are of results that are gone."""
    if facts.completed is None or facts.completed[1].claim is None:
        return None
    return read_metrics(layout.metrics_json, expect_token=facts.completed[1].claim.token)


def fit_summary_of(layout: RunLayout) -> FitSummary | None:
    """Return the numbers of the fit log that counts, that of the newest attempt that has one."""
    for _, _, folder in layout.checkpoint_dirs():
        try:
            found = read_fit_summary(fitlog(folder))
        except ResultsError:  # one damaged log is no reason to have no table; `load_fit_log` tells
            return None
        if found is not None:
            return found
    return None


def _fit(found: FitSummary | None) -> dict[str, Any]:
    return dict.fromkeys(FIT) if found is None else found._asdict()


def _spent(facts: RunFacts, *, live: bool) -> dict[str, Any]:
    """Return when, where and how long a run was worked on, in all its incarnations."""
    every = [one for attempt in facts.attempts for one in attempt.incarnations]
    claims = [one.claim for one in every if one.claim is not None]
    spans = [span(one) for one in every]
    memory = [one.exit.peak_memory_mb for one in every if one.exit is not None and one.exit.peak_memory_mb]
    last = every[-1] if every else None
    devices = [device(one) for one in every]
    gpu = next((name for name in reversed(devices) if name), None)
    return {
        "attempts": sum(bool(attempt.incarnations) for attempt in facts.attempts),
        "started": min((one.claimed for one in claims if one.claimed), default=None),
        "ended": None if live or last is None or last.exit is None else last.exit.ended,
        "seconds": sum(one for one in spans if one is not None)
        if any(s is not None for s in spans)
        else None,
        "host": claims[-1].process.host if claims else None,
        "gpu": None if gpu is None or gpu.startswith("cpu") else gpu,
        "peak_memory_mb": max(memory, default=None),
    }


def span(one: IncarnationFacts) -> float | None:
    """Return how long an incarnation worked: to its end, or to its last sign of life."""
    if one.claim is None or not one.claim.claimed:
        return None
    begun = one.claim.claimed
    if one.exit is not None and one.exit.ended is not None:
        return max(0.0, one.exit.ended - begun)
    return max(0.0, one.heartbeat.written - begun) if one.heartbeat is not None else None


def device(one: IncarnationFacts) -> str:
    """Return what computed: "cpu, 2 threads", the name of a GPU, or "" where that is not on record."""
    return str(one.heartbeat.progress.get("device") or "") if one.heartbeat is not None else ""
