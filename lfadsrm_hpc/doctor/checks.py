"""What a check finds, and how one is done: within a time limit, whatever hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from lfadsrm_hpc.errors import LfadsrmError


class Verdict(str, Enum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    ABSENT = "not applicable"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Found:
    """What a check finds.

    Attributes
    ----------
    verdict : Verdict
    evidence : str
        What was seen.
    fix : str
        What to do about it; "": nothing is to be done.
    details : dict
        Plain values, for programs.
    """

    verdict: Verdict
    evidence: str
    fix: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def ok(evidence: str, **details: Any) -> Found:
    """All is well."""
    return Found(Verdict.OK, evidence, details=details)


def warning(evidence: str, fix: str, **details: Any) -> Found:
    """Something may go wrong or be slow."""
    return Found(Verdict.WARNING, evidence, fix, details)


def problem(evidence: str, fix: str, **details: Any) -> Found:
    """Something does not work."""
    return Found(Verdict.PROBLEM, evidence, fix, details)


def absent(evidence: str) -> Found:
    """There is nothing to check here."""
    return Found(Verdict.ABSENT, evidence)


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Attributes
    ----------
    name : str
    group : str
        Under which it is shown.
    look : callable
    limit_s : float
        It has no answer after this time: that is a finding too.
    slow : str
        What to do where it has none.
    """

    name: str
    group: str
    look: Callable[[], Found]
    limit_s: float
    slow: str = ""


@dataclass(frozen=True)
class Result:
    """What one check has found.

    Attributes
    ----------
    name, group : str
    verdict : Verdict
    evidence, fix : str
    details : dict
    seconds : float
        How long it took.
    """

    name: str
    group: str
    verdict: Verdict
    evidence: str
    fix: str
    details: Mapping[str, Any]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them."""
        return {**asdict(self), "verdict": self.verdict.value, "seconds": round(self.seconds, 3)}


def perform(check: Check) -> Result:
    """Do one check. It always returns: what hangs (a dead file server, a dead scheduler) is left behind.

    A thread that waits in the system cannot be ended. It is a daemon, so it does not keep the program from
    ending either.
    """
    began = time.monotonic()
    found = within(check.limit_s, lambda: _guarded(check.look))
    if found is None:
        found = problem(f"no answer within {check.limit_s:g} s", check.slow or "try again; ask the operators")
    return Result(
        check.name,
        check.group,
        found.verdict,
        found.evidence,
        found.fix,
        found.details,
        time.monotonic() - began,
    )


def within(limit_s: float, work: Callable[[], Any]) -> Any:
    """Return what some work returns; None: it has not ended in time, and goes on where nobody waits."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(work()), daemon=True)
    thread.start()
    thread.join(limit_s)
    return answers[0] if answers else None


def _guarded(look: Callable[[], Found]) -> Found:
    """Return what a check finds; that it cannot be done is a finding."""
    try:
        return look()
    except LfadsrmError as error:
        where = f" ({error.where})" if error.where is not None else ""
        return problem(f"{error.what}{where}", error.hint or "")
    except OSError as error:
        return problem(f"the system says: {error}", "")
    except Exception as error:  # a check that breaks must not keep the others from being done
        return problem(f"the check itself failed: {error!r}", "report it: this is a bug of lfadsrm_hpc")
