"""A run collection as text: its display and `summary.txt`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lfadsrm_hpc.collection.collection import RunCollection

# lines of each list that a display shows; summary.txt shows all
MOST_SHOWN = 40
_MOST_LISTED = 12


def listing(names: Sequence[str], most: int = _MOST_LISTED) -> str:
    """Return names as one readable text, cut after `most`.

    Examples
    --------
    >>> listing(["a", "b", "c"], most=2)
    'a, b, and 1 more'
    """
    if not names:
        return "none"
    shown = list(names[:most])
    return ", ".join([*shown, f"and {len(names) - most} more"] if len(names) > most else shown)


def _plural(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def collection_text(collection: RunCollection, most: int | None = None) -> str:
    """Return path, datasets, params with their differences from the defaults, run specs and counts."""
    datasets = collection.dataset_collection
    known = collection.dataset_info
    lines = [
        f'{type(collection).__name__} "{collection.name}" ({_plural(collection.n_runs, "run")} in total)'
    ]
    if datasets is not None:
        lines.append(
            f'  Dataset collection "{datasets.name}" ({_plural(len(datasets), "dataset")}) in {datasets.path}'
        )
    elif known:
        lines.append(f"  {_plural(len(known), 'dataset')}: {listing([item['name'] for item in known])}")
    lines.append(f"  Path: {collection.path}")
    if collection.comment:
        lines.append(f"  Comment: {collection.comment}")
    lines += ["", f"  {_plural(len(collection.params), 'parameter setting')}"]
    lines += _cut([f"  [{i} {p.title()}]" for i, p in enumerate(collection.params)], most)
    lines += ["", f"  {_plural(len(collection.run_specs), 'run specification')}"]
    lines += _cut([f"  [{i}] {spec!r}" for i, spec in enumerate(collection.run_specs)], most)
    return "\n".join(lines)


def _cut(lines: list[str], most: int | None) -> list[str]:
    if most is None or len(lines) <= most:
        return lines
    return [*lines[:most], f"  ... and {len(lines) - most} more (summary_text() shows all)"]


def full_text(collection: RunCollection) -> str:
    """Return everything: the collection, its datasets, its runs with their files, and all params."""
    lines = [collection_text(collection), "", "  Datasets"]
    for item in collection.dataset_info:
        about = " ".join(item[key] for key in ("subject", "date") if item.get(key))
        lines.append(
            f"  {item['name']}: {item['trials']} trials, {item['neurons']} neurons, {item['bins']} bins of "
            f"{item['bin_ms']:g} ms{'; ' + about if about else ''}"
        )
    lines += ["", "  Runs"]
    lines += [f"  {run.id}  inputs: data_{run.data_hash}/{run.spec.name}" for run in collection.runs]
    for i, params in enumerate(collection.params):
        lines += ["", f"Parameter setting {i}", params.describe()]
    return "\n".join(lines) + "\n"
