"""Collections of the Matlab run manager on the command line: found, and listed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.common import is_place, print_json
from lfadsrm_hpc.cli.plain_table import plain_table
from lfadsrm_hpc.legacy_layout import LegacyCollectionLayout

if TYPE_CHECKING:
    from lfadsrm_hpc.api.legacy import LegacyCollection

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
    rows = [{"run": str(run), **{name: _plain(row[name]) for name in names}} for run, row in table.iterrows()]
    if as_json:
        print_json({"collection": str(collection.path), "made_by": "Matlab run manager", "runs": rows})
        return
    header = ["run", *names]
    texts = [["" if row[name] is None else str(row[name]) for name in header] for row in rows]
    click.echo(f"{collection!r}\n\n" + plain_table(header, texts, numbers=(*swept, *_FIT)))


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    return None if value is None or value != value or str(value) == "<NA>" else value
