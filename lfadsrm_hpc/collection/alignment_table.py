"""What the input files of stitched runs say of their alignment: rows of a table, lines, warnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lfadsrm_hpc.collection.run import Run

_MOST_NAMED = 6


def alignment_rows(run: Run) -> list[dict[str, Any]]:
    """Return how well each dataset of a run is aligned, from its input files.

    Returns
    -------
    list of dict
        run_spec, data_hash, factors_dim, dataset, and what `data.alignment.matrices.Alignment.described`
        lists. Empty where the run uses no alignment.

    Raises
    ------
    NotFoundError
        The run is not prepared.
    """
    if not run.params.aligned(run.n_datasets):
        return []
    from lfadsrm_hpc.data.inputs import read_attributes

    about = {"run_spec": run.name, "data_hash": run.data_hash, "factors_dim": run.params.factors_dim}
    rows = []
    for name, path in run.input_files().items():
        found = read_attributes(path).get("alignment")
        if found is not None:  # not of a version that did not write it
            rows.append({**about, "dataset": name, **found})
    return rows


def alignment_warnings(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Give what users must know of how datasets start."""
    for row in rows:
        if row["note"]:
            yield f"dataset {row['dataset']!r} in run spec {row['run_spec']!r}: {row['note']}"


def alignment_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each run spec and number of factors (or other choices)."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["run_spec"], row["data_hash"]), []).append(row)
    return [_line(group) for group in groups.values()]


def _line(rows: Sequence[dict[str, Any]]) -> str:
    first = rows[0]
    regressed = [row for row in rows if row["r2"] is not None]
    texts = [f"{row['dataset']} {quality(row)}" for row in rows]
    if len(rows) > _MOST_NAMED and regressed:
        low, high = (pick(regressed, key=lambda row: float(row["r2"])) for pick in (min, max))
        texts = [
            f"{len(rows)} datasets, from {low['dataset']} {quality(low)} to {high['dataset']} {quality(high)}"
        ]
    return f"alignment of {first['run_spec']} ({first['factors_dim']} factors), R2: {', '.join(texts)}"


def quality(row: dict[str, Any]) -> str:
    """Return the R2 of one row as text: "0.93 (0.88)" with that of left-out conditions, or how it starts.

    Examples
    --------
    >>> quality({"made_by": "conditions", "r2": 0.934, "r2_left_out": 0.8})
    '0.93 (0.80)'
    """
    if row["made_by"] != "conditions":
        return "not aligned"
    if row["r2"] is None:
        return "undefined"
    left_out = row["r2_left_out"]
    return f"{row['r2']:.2f}" + (f" ({left_out:.2f})" if left_out is not None else "")
