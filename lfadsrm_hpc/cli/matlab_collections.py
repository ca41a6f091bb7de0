"""Collections of the Matlab run manager on the command line: found, and listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.common import is_place, print_json
from lfadsrm_hpc.cli.plain_table import plain_table
from lfadsrm_hpc.legacy_layout import LegacyCollectionLayout

if TYPE_CHECKING:
    from lfadsrm_hpc.api.legacy import LegacyCollection

_MADE_BY = "Matlab run manager"
_FIT = ("epochs", "lowest_valid_cost", "lowest_valid_epoch")


def find_matlab_collection(where: Path | None, bin_ms: float | None = None) -> LegacyCollection | None:
    """Return what `where`, or the current folder, is, if the Matlab run manager has made it."""
    folder = where or Path.cwd()
    if is_place(folder) or not LegacyCollectionLayout(folder).runs():
        return None
    from lfadsrm_hpc.api.legacy import LegacyCollection

    return LegacyCollection.open(folder, bin_ms=bin_ms)


def show_matlab_collection(collection: LegacyCollection, *, as_json: bool) -> None:
    """Print what is known of the runs."""
    table = collection.runs_table()
    swept = list(table.attrs["swept"])
    names = ["state", *swept, *_FIT, "reasons"]
    rows = [
        {"run_id": str(run), **{name: _plain(row[name]) for name in names}} for run, row in table.iterrows()
    ]
    if as_json:
        print_json({"collection": str(collection.path), "made_by": _MADE_BY, "runs": rows})
        return
    texts = [["" if value is None else str(value) for value in row.values()] for row in rows]
    click.echo(f"{collection!r}\n\n" + plain_table(("run", *names), texts, numbers=(*swept, *_FIT)))


def states_of_matlab_collection(collection: LegacyCollection, *, as_json: bool) -> None:
    """Print what each run is at, by the files that it has left."""
    found = collection.status()
    counts = Counter(one.state.value for one in found)
    if as_json:
        runs = [{"run_id": one.run_id, "state": one.state.value, "detail": one.detail} for one in found]
        print_json({"collection": str(collection.path), "made_by": _MADE_BY, "counts": counts, "runs": runs})
        return
    rows = [(one.run_id, one.state.value, one.detail) for one in found]
    told = ", ".join(f"{count} {state.lower()}" for state, count in counts.items()) or "no runs"
    click.echo(plain_table(("run", "state", ""), rows) + f"\n{told} (made by the Matlab run manager)")


def best_of_matlab_collection(
    collection: LegacyCollection, spec: Sequence[str], metric: str | None, top: int, *, as_json: bool
) -> None:
    """Print the best complete run of each run spec, by its lowest validation cost."""
    found = collection.best(metric, spec=list(spec) or None)
    swept = list(collection.runs_table().attrs["swept"])
    if as_json:
        best = {
            name: {
                "run_id": one.run.id,
                "metric": one.metric,
                "value": one.value,
                "ranking": [
                    {"run_id": str(run_id), one.metric: float(row[one.metric])}
                    for run_id, row in one.ranking.iloc[:top].iterrows()
                ],
                "competed": len(one.ranking),
                "notes": list(one.notes),
            }
            for name, one in found.items()
        }
        print_json({"collection": str(collection.path), "made_by": _MADE_BY, "best": best})
        return
    for name, one in found.items():
        click.echo(f"{name}: best of {len(one.ranking)} by {one.metric}: {one.run.id}")
        names = [one.metric, *swept]
        rows = [
            (str(run_id), *("" if (value := _plain(row[key])) is None else str(value) for key in names))
            for run_id, row in one.ranking.iloc[:top].iterrows()
        ]
        click.echo(plain_table(("run", *names), rows, numbers=names))
        for note in one.notes:
            click.echo(f"note: {note}")


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    return None if value is None or value != value or str(value) == "<NA>" else value
