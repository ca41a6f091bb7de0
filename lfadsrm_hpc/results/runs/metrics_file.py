"""`metrics.json`: the scores of a run and the verdict on it, small and read in no time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lfadsrm_hpc.manifest.publish import publish_replacing
from lfadsrm_hpc.plain_files import read_json

SCHEMA_VERSION = 1
_MAPPINGS = ("versions", "metrics", "train_metrics", "datasets", "quality")


@dataclass(frozen=True)
class RunMetrics:
    """The scores of a run and the verdict on it.

    Attributes
    ----------
    schema_version : int
    claim_token : str
        Of the claim whose posterior means were scored.
    versions : dict of str to str
    metrics, train_metrics : dict of str to float
        Of the validation and the training trials, all datasets pooled; those that are defined for each of
        them. Names: `lfadsrm_hpc.results.scoring.scores.NAMES`. Higher is better.
    datasets : dict of str to dict
        By dataset: "metrics", "train_metrics", "undefined" (name -> why it is not there), "notes".
    quality : dict
        "verdict": "good", "suspect" or "bad"; "reasons": a list of {"check", "verdict", "text"}.
    """

    schema_version: int
    claim_token: str
    versions: Mapping[str, str]
    metrics: Mapping[str, float]
    train_metrics: Mapping[str, float]
    datasets: Mapping[str, Mapping[str, Any]]
    quality: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """The verdict: "good", "suspect" or "bad"; "" where there is none."""
        return str(self.quality.get("verdict", ""))

    @property
    def texts(self) -> list[str]:
        """The reasons of the verdict, as sentences."""
        return [str(reason["text"]) for reason in self.quality.get("reasons", ())]


def read_metrics(path: str | os.PathLike[str], *, expect_token: str | None = None) -> RunMetrics | None:
    """Read `metrics.json`.

    Parameters
    ----------
    path : path
        `RunLayout.metrics_json`.
    expect_token : str, optional
        Token of the claim that completed the run.

    Returns
    -------
    RunMetrics or None
        None where the file is absent or damaged, of another claim, or of a newer release.
    """
    try:
        content = read_json(Path(path))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in _MAPPINGS):
        return None
    version, token = content.get("schema_version"), content.get("claim_token")
    if not isinstance(version, int) or version > SCHEMA_VERSION or not isinstance(token, str):
        return None
    if expect_token is not None and token != expect_token:
        return None
    return RunMetrics(version, token, **{key: content[key] for key in _MAPPINGS})


def write_metrics(path: str | os.PathLike[str], metrics: RunMetrics) -> None:
    """Publish `metrics.json`; what was there before is replaced in one step.

    Numbers that are not finite are left out.

    Raises
    ------
    OSError
        The folder is full or not writable.
    """
    text = json.dumps(_finite(asdict(metrics)), indent=1, sort_keys=True, allow_nan=False)
    publish_replacing(Path(path), text.encode() + b"\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(key): _finite(item)
            for key, item in value.items()
            if not isinstance(item, float) or math.isfinite(item)
        }
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
