"""A run collection as text: its display and `summary.txt`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.collection.words import counted, listing

if TYPE_CHECKING:
    from lfadsrm_hpc.collection.contents import Contents


# lines of each list that a display shows; summary.txt shows all
MOST_SHOWN = 40


def collection_text(collection: Contents[Any], most: int | None = None) -> str:
    """Return path, datasets, params with their differences from the defaults, run specs and counts."""
    datasets = collection.dataset_collection
    known = collection.dataset_info
    text = [f'{type(collection).__name__} "{collection.name}" ({counted(collection.n_runs, "run")} in total)']
    if datasets is not None:
        text.append(
            f'  Dataset collection "{datasets.name}" ({counted(len(datasets), "dataset")}) in {datasets.path}'
        )
    elif known:
        text.append(f"  {counted(len(known), 'dataset')}: {listing([item['name'] for item in known])}")
    text.append(f"  Path: {collection.path}")
    if collection.comment:
        text.append(f"  Comment: {collection.comment}")
    text += ["", f"  {counted(len(collection.params), 'set')} of run params"]
    text += _cut([f"  [{i}] {p.title()}" for i, p in enumerate(collection.params)], most)
    text += ["", f"  {counted(len(collection.run_specs), 'run spec')}"]
    text += _cut([f"  [{i}] {spec!r}" for i, spec in enumerate(collection.run_specs)], most)
    return "\n".join(text)


def _cut(items: list[str], most: int | None) -> list[str]:
    if most is None or len(items) <= most:
        return items
    return [*items[:most], f"  ... and {len(items) - most} more (summary_text() shows all)"]


def full_text(collection: Contents[Any]) -> str:
    """Return everything: the collection, its datasets, its runs with their files, and all params."""
    text = [collection_text(collection), "", "  Datasets"]
    for item in collection.dataset_info:
        about = " ".join(item[key] for key in ("subject", "date") if item.get(key))
        text.append(
            f"  {item['name']}: {item['trials']} trials, {item['neurons']} neurons, {item['bins']} bins of "
            f"{item['bin_ms']:g} ms{'; ' + about if about else ''}"
        )
    text += ["", "  Runs"]
    text += [f"  {run.id}  inputs: data_{run.data_hash}/{run.spec.name}" for run in collection.runs]
    for i, params in enumerate(collection.params):
        text += ["", f"Run params {i}", params.describe()]
    return "\n".join(text) + "\n"
