"""The scores of a run, as `metrics.json` holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RunMetrics:
    """What `metrics.json` of a run says.

    Attributes
    ----------
    schema_version : int
    claim_token : str
    versions : dict
    metrics, train_metrics : dict of str to float
        Of validation and of training trials, all datasets pooled; those that are defined.
    datasets : dict
        By dataset, the same two.
    quality : dict
        `verdict` and `reasons`.
    """

    schema_version: int
    claim_token: str
    versions: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    train_metrics: Mapping[str, float] = field(default_factory=dict)
    datasets: Mapping[str, Any] = field(default_factory=dict)
    quality: Mapping[str, Any] = field(default_factory=dict)


def read_metrics(path: Path, *, expect_token: str | None = None) -> RunMetrics | None:
    """Return the scores of a run; None where there are none, of another claim, or in a newer form."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        return None
    if expect_token is not None and content.get("claim_token") != expect_token:
        return None
    known = {name: content[name] for name in RunMetrics.__dataclass_fields__ if name in content}
    return RunMetrics(**known)
