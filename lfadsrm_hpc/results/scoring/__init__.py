"""Scores of posterior means, what they rest on, and the verdict on a run."""

from __future__ import annotations

from lfadsrm_hpc.results.scoring.scores import Scores, decode_variable, pooled, score, score_dataset

__all__ = ["Scores", "decode_variable", "pooled", "score", "score_dataset"]
