"""What notebooks show of collections, runs and states: small tables, from few and small files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc import markup
from lfadsrm_hpc.collection.labels import varying_names
from lfadsrm_hpc.collection.words import listing, value_text
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.states import RunState

if TYPE_CHECKING:
    from lfadsrm_hpc.collection.collection import RunCollection
    from lfadsrm_hpc.collection.run import Run

_MOST_READ = 200  # runs whose states are looked up for a display
_COLUMNS = ("run", "state", "try", "epoch", "validation cost", "host", "")


class RunStates(list[RunStatus]):
    """A list of states, with a table of them for notebooks."""

    def _repr_html_(self) -> str:
        shown = (
            sorted(self, key=lambda one: not one.state.is_failure) if len(self) > markup.MOST_ROWS else self
        )
        rows = [
            (
                one.run_id,
                _word(one.state),
                one.attempt,
                one.progress.get("epoch"),
                _number(one.progress.get("valid_total")),
                one.host,
                _remark(one),
            )
            for one in shown[: markup.MOST_ROWS]
        ]
        return markup.block(
            markup.paragraph(counts_text(self)),
            markup.table(
                _COLUMNS, rows, numbers=(2, 3, 4), count=len(self), more="those that failed come first"
            ),
        )


def counts_text(states: Sequence[RunStatus]) -> str:
    """Return how many runs are in which state, "3 runs: 2 completed, 1 failed"."""
    counts = Counter(one.state for one in states)
    told = ", ".join(f"{counts[state]:,} {_word(state)}" for state in RunState if counts[state])
    return f"{len(states):,} run{'' if len(states) == 1 else 's'}{': ' if told else ''}{told}"


def collection_html(collection: RunCollection[Any]) -> str:
    """Return what a notebook shows of a run collection."""
    params, specs = collection.params, collection.run_specs
    varying = varying_names(params) if params else []
    values = [one.values() for one in params]
    about = {
        "path": collection.path,
        "comment": collection.comment,
        "datasets": len({name for spec in specs for name in spec.dataset_names}),
        "run specs": len(specs),
        "params": len(params),
        "runs": _runs_text(collection),
    }
    swept = [
        (name, len(found), ", ".join(found[:8]) + (", ..." if len(found) > 8 else ""))
        for name in varying
        if (found := list(dict.fromkeys(value_text(one.get(name)) for one in values)))
    ]
    listed = [
        (spec.name, spec.n_datasets, listing(spec.dataset_names, 5)) for spec in specs[: markup.MOST_ROWS]
    ]
    return markup.block(
        markup.title(type(collection).__name__, collection.name),
        markup.pairs(about),
        markup.table(("swept", "values", ""), swept[: markup.MOST_ROWS], numbers=(1,), count=len(swept))
        if swept
        else "",
        markup.table(
            ("run spec", "datasets", ""), listed, numbers=(1,), count=len(specs), more="rc.run_specs"
        )
        if specs
        else "",
    )


def _runs_text(collection: RunCollection[Any]) -> str:
    """Return how many runs there are, and of a small collection on disk also what they are at."""
    if not 0 < collection.n_runs <= _MOST_READ or not collection.layout.collection_json.is_file():
        return f"{collection.n_runs:,}"
    states = store.collection_states(collection.layout, [run.layout for run in collection.runs])
    counts = counts_text(list(states.values()))
    return counts.replace(" runs: ", ": ").replace(" run: ", ": ")


def run_html(run: Run) -> str:
    """Return what a notebook shows of a run."""
    status = store.run_status(run.layout) if run.layout.params_json.is_file() else None
    about: dict[str, object] = {
        "run spec": run.spec.name,
        "datasets": listing(run.dataset_names, 5),
        "differs from the defaults in": run.params.diff_text() or "nothing",
        "folder": run.path,
    }
    if status is None:
        about["state"] = "not prepared"
    else:
        about |= _state_pairs(status)
    return markup.block(markup.title(type(run).__name__, run.id), markup.pairs(about))


def _state_pairs(status: RunStatus) -> dict[str, object]:
    return {
        "state": _word(status.state),
        "attempt": status.attempt,
        "epoch": status.progress.get("epoch"),
        "validation cost": _number(status.progress.get("valid_total")),
        "host": status.host,
        "told": _remark(status),
    }


def _remark(status: RunStatus) -> str:
    if not status.state.is_failure:
        return ""
    told = status.message.strip().splitlines()
    return told[0][:200] if told else (status.reason or "").replace("_", " ")


def _word(state: RunState) -> str:
    return state.value.lower().replace("_", " ")


def _number(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, int | float) else ""
