"""Run params in groups: which there are, and all values as text, group by group."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

from lfadsrm_hpc.collection.words import value_text
from lfadsrm_hpc.model.hyperparameters import FieldSpec

PREPROCESSING = "Run manager logistics and data preprocessing"
STITCHING = "Stitching multi-session models"
UNDERFITTING = "Underfitting"
RETRAINING = "Retraining"
POSTERIOR = "Posterior sampling"
RESOURCES = "Resources"
USERS = "Added by the user"

# the order in which groups are shown, as in the Matlab run manager
GROUPS = (
    PREPROCESSING,
    "TensorFlow logistics",
    "Optimization",
    "Overfitting",
    UNDERFITTING,
    "External inputs",
    "Controller and inferred inputs",
    "Encoder and initial conditions for generator",
    "Generator network, factors, rates",
    STITCHING,
    RETRAINING,
    POSTERIOR,
    RESOURCES,
    USERS,
)


def _doc_text(spec: FieldSpec) -> str:
    notes = "; ".join(part for part in (spec.unit, spec.range_text()) if part)
    return f"{spec.doc} [{notes}]" if notes else spec.doc


def grouped(
    described: Mapping[str, FieldSpec], values: Mapping[str, Any], changed: Container[str], *, docs: bool
) -> Iterator[str]:
    """Yield a line for each value, group by group; changed ones have a star.

    Parameters
    ----------
    docs : bool
        Add the meaning, unit and range of each.
    """
    groups = [*GROUPS, *sorted({spec.group for spec in described.values()} - set(GROUPS))]
    width = max(len(name) for name in described)
    for group in groups:
        members = [name for name, spec in described.items() if spec.group == group]
        yield from ["", f"   {group}"] if members else []
        for name in members:
            mark = "*" if name in changed else " "
            line = f"  {mark} {name:>{width}}: {value_text(values[name])}"
            yield (f"{line:<{width + 20}}  {_doc_text(described[name])}" if docs else line).rstrip()
