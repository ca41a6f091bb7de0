"""Verdicts on runs for the report page: how many of each, and which checks told against which runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lfadsrm_hpc.results.runs.metrics_file import RunMetrics

ORDER = ("good", "suspect", "bad")
MOST_LISTED = 20


@dataclass
class Check:
    """One check, and the runs that it told against with one verdict.

    Attributes
    ----------
    name, verdict : str
    runs : list of (str, str)
        Id and what the check says of the run, the first `MOST_LISTED`.
    count : int
        Runs in all.
    """

    name: str
    verdict: str
    runs: list[tuple[str, str]] = field(default_factory=list)
    count: int = 0


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on runs.

    Attributes
    ----------
    counts : sequence of (str, int)
        From good to bad, those that there are.
    checks : sequence of Check
        The worst first, then those that told against most runs.
    """

    counts: Sequence[tuple[str, int]]
    checks: Sequence[Check]


def verdicts_of(scores: Mapping[str, RunMetrics]) -> Verdicts:
    """Sort the verdicts on runs, and their reasons."""
    counts = Counter(one.verdict for one in scores.values() if one.verdict)
    checks: dict[tuple[str, str], Check] = {}
    for run_id, one in scores.items():
        told = set()
        for reason in one.quality.get("reasons", ()):
            key = str(reason.get("verdict", "")), str(reason.get("check", ""))
            check = checks.setdefault(key, Check(key[1], key[0]))
            check.count += key not in told
            told.add(key)
            if len(check.runs) < MOST_LISTED:
                check.runs.append((run_id, str(reason.get("text", ""))))
    ordered = sorted(checks.values(), key=lambda one: (-_place(one.verdict), -one.count, one.name))
    known = sorted(counts.items(), key=lambda one: _place(one[0]))
    return Verdicts(known, ordered)


def _place(verdict: str) -> int:
    return ORDER.index(verdict) if verdict in ORDER else -1
