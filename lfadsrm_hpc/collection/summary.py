"""A run collection as text: its display and `summary.txt`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lfadsrm_hpc.collection.collection import RunCollection
    from lfadsrm_hpc.collection.params import RunParams

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


def lines(texts: Sequence[str], most: int = _MOST_LISTED) -> str:
    """Return texts one below the other, indented, cut after `most`."""
    shown = [*texts[:most], *([f"and {len(texts) - most} more"] if len(texts) > most else [])]
    return "\n".join(f"    {text}" for text in shown)


def _plural(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def collection_text(collection: RunCollection[Any], most: int | None = None) -> str:
    """Return path, datasets, params with their differences from the defaults, run specs and counts."""
    datasets = collection.dataset_collection
    known = collection.dataset_info
    text = [f'{type(collection).__name__} "{collection.name}" ({_plural(collection.n_runs, "run")} in total)']
    if datasets is not None:
        text.append(
            f'  Dataset collection "{datasets.name}" ({_plural(len(datasets), "dataset")}) in {datasets.path}'
        )
    elif known:
        text.append(f"  {_plural(len(known), 'dataset')}: {listing([item['name'] for item in known])}")
    text.append(f"  Path: {collection.path}")
    if collection.comment:
        text.append(f"  Comment: {collection.comment}")
    text += ["", f"  {_plural(len(collection.params), 'parameter setting')}"]
    text += _cut([f"  [{i}] {p.title()}" for i, p in enumerate(collection.params)], most)
    text += ["", f"  {_plural(len(collection.run_specs), 'run specification')}"]
    text += _cut([f"  [{i}] {spec!r}" for i, spec in enumerate(collection.run_specs)], most)
    return "\n".join(text)


def _cut(items: list[str], most: int | None) -> list[str]:
    if most is None or len(items) <= most:
        return items
    return [*items[:most], f"  ... and {len(items) - most} more (summary_text() shows all)"]


def full_text(collection: RunCollection[Any]) -> str:
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
        text += ["", f"Parameter setting {i}", params.describe()]
    return "\n".join(text) + "\n"


def varying_names(params: Iterable[RunParams]) -> list[str]:
    """Return the hyperparameters that differ among run params, sorted."""
    return varying(one.values() for one in params)


def varying(params: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names under which values differ, or that some lack, sorted.

    Examples
    --------
    >>> varying([{"seed": 0, "gen_dim": 8}, {"seed": 1, "gen_dim": 8}])
    ['seed']
    """
    found: set[str] = set()
    first: Mapping[str, Any] | None = None
    for values in params:
        first = values if first is None else first
        found |= {name for name, value in values.items() if name not in first or first[name] != value}
        found |= first.keys() - values.keys()
    return sorted(found)


def params_label(params: RunParams, varying: Sequence[str]) -> str:
    """Name run params by what distinguishes them, "factors_dim=4", or by their hash."""
    values = params.values()
    label = " ".join(f"{name}={value_text(values[name])}" for name in varying if name in values)
    return label or params.param_hash


def value_text(value: Any) -> str:
    """Return a value as short text: 2 rather than 2.0, [1,3] of a tuple.

    Examples
    --------
    >>> [value_text(v) for v in (2.0, 0.95, None, "poisson", "", (1, 3))]
    ['2', '0.95', 'None', 'poisson', "''", '[1,3]']
    """
    if isinstance(value, list | tuple | dict):
        from lfadsrm_hpc.collection.hashing import canonical_json

        return canonical_json(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value) if value != "" else "''"
