"""From posterior means to `metrics.json` and the attributes of their files: what a run says at its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.errors import ClaimLostError, LfadsrmError
from lfadsrm_hpc.results.runs.metrics_file import SCHEMA_VERSION, RunMetrics, write_metrics
from lfadsrm_hpc.results.scoring.evidence import DatasetEvidence, FitEvidence, dataset_evidence, fit_evidence
from lfadsrm_hpc.results.scoring.quality import judge
from lfadsrm_hpc.results.scoring.scores import Scores, pooled, score_dataset
from lfadsrm_hpc.results.scoring.trial_blocks import TRAIN, VALID

if TYPE_CHECKING:
    import xarray as xr

    from lfadsrm_hpc.data.inputs import SessionInputs


@dataclass(frozen=True)
class Assessed:
    """One dataset of a run: its scores, and what its posterior means are like."""

    scores: Scores
    evidence: DatasetEvidence


def assess(
    means: xr.Dataset, inputs: SessionInputs, *, between: Callable[[], None] = lambda: None
) -> Assessed:
    """Score the posterior means of one dataset and gather what a verdict needs; see `score_dataset`."""
    scores = score_dataset(means, inputs, between=between)
    return Assessed(scores, dataset_evidence(means, scores))


def run_metrics(
    fit: FitEvidence, datasets: Sequence[Assessed], *, token: str, versions: Mapping[str, str] | None = None
) -> RunMetrics:
    """Return what `metrics.json` says of a run."""
    scores = [one.scores for one in datasets]
    return RunMetrics(
        schema_version=SCHEMA_VERSION,
        claim_token=token,
        versions=_versions() if versions is None else versions,
        metrics=pooled(scores, VALID),
        train_metrics=pooled(scores, TRAIN),
        datasets={one.dataset: _of_dataset(one) for one in scores},
        quality=judge(fit, [one.evidence for one in datasets]).to_json(),
    )


def _of_dataset(scores: Scores) -> dict[str, Any]:
    return {
        "metrics": scores.values(VALID),
        "train_metrics": scores.values(TRAIN),
        "undefined": dict(scores.undefined),
        "notes": list(scores.notes),
    }


def _versions() -> dict[str, str]:
    python = ".".join(str(part) for part in sys.version_info[:3])
    return {"lfadsrm_hpc": __version__, "python": python, "numpy": np.__version__}


class EndOfRun:
    """Scores the datasets of a run while it ends, one after the other; never lets the run fail.

    Parameters
    ----------
    fitlog : path
    params : mapping
        Hyperparameters that the run trained with.
    say : callable
        Told what could not be computed.
    between : callable
        Called before each block of trials; `ClaimLostError` is the one exception that gets through.
    """

    def __init__(
        self,
        fitlog: str | os.PathLike[str],
        params: Mapping[str, Any],
        *,
        say: Callable[[str], None],
        between: Callable[[], None],
    ) -> None:
        self._fitlog, self._params, self._say, self._between = fitlog, params, say, between
        self._fit: FitEvidence | None = None
        self._datasets: list[Assessed] = []
        self._missing: list[str] = []

    def describe(self, open_means: Callable[[], xr.Dataset], inputs: SessionInputs) -> dict[str, object]:
        """Return what the file of a dataset's posterior means says of itself; nothing where that fails."""
        try:
            if self._fit is None:
                self._fit = fit_evidence(self._fitlog, self._params)
            one = assess(open_means(), inputs, between=self._between)
            quality = judge(self._fit, [one.evidence])
        except ClaimLostError:
            raise
        except Exception as error:
            self._missing.append(inputs.dataset)
            self._say(f"warning: no metrics of {inputs.dataset}: {_short(error)}")
            return {}
        self._datasets.append(one)
        found = ", ".join(f"{name} {value:.3f}" for name, value in one.scores.values(VALID).items())
        self._say(f"metrics of {inputs.dataset}, validation trials: {found or 'none is defined'}")
        return {
            "metrics": one.scores.values(VALID),
            "train_metrics": one.scores.values(TRAIN),
            "quality_verdict": quality.verdict,
            "quality_reasons": quality.to_json()["reasons"],
        }

    def publish(self, path: Path, *, token: str, versions: Mapping[str, str]) -> None:
        """Write `metrics.json`, unless a dataset is missing."""
        if self._missing or self._fit is None:
            self._say("warning: no metrics.json was written; `lfadsrm metrics` makes it")
            return
        try:
            metrics = run_metrics(self._fit, self._datasets, token=token, versions=versions)
            write_metrics(path, metrics)
        except Exception as error:
            self._say(f"warning: no metrics.json: {_short(error)}; `lfadsrm metrics` makes it")
            return
        self._say(f"quality: {metrics.verdict}")
        for text in metrics.texts:
            self._say(f"  {text}")


def _short(error: Exception) -> str:
    text = next(iter(str(error).splitlines()), "")
    return text if isinstance(error, LfadsrmError) else f"{type(error).__name__}: {text}"
