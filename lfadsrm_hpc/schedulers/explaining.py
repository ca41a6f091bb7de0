"""Why a run is at what it is at: what files and scheduler say, its last words, and the next command."""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lfadsrm_hpc.collection.roster import Entry, Roster
from lfadsrm_hpc.collection.words import counted
from lfadsrm_hpc.errors import ConfigError, UsageError
from lfadsrm_hpc.layout import CollectionLayout, RunLayout
from lfadsrm_hpc.manifest.deleted import BY, Deleted, deleted_of
from lfadsrm_hpc.manifest.evidence import Evidence
from lfadsrm_hpc.manifest.facts import AttemptFacts, RunFacts
from lfadsrm_hpc.manifest.fold import RunStatus, fold
from lfadsrm_hpc.manifest.reading import look, read_facts
from lfadsrm_hpc.manifest.records import LOCAL
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.submissions import Plan
from lfadsrm_hpc.plain_files import read_json
from lfadsrm_hpc.schedulers.attempts import Attempt, attempts_of, job_text
from lfadsrm_hpc.schedulers.handed import find_handed, site_of
from lfadsrm_hpc.schedulers.log_lines import last_lines
from lfadsrm_hpc.schedulers.next_steps import Names, Situation, Step, next_step
from lfadsrm_hpc.schedulers.retrying import Asked, Chooser, history_of, rules_of
from lfadsrm_hpc.schedulers.tracking import track
from lfadsrm_hpc.schedulers.untried import Wanted, never_tried

LINES = 8  # of the log


@dataclass(frozen=True)
class Says:
    """One piece of evidence.

    Attributes
    ----------
    source : str
        A file, relative to the run's folder or else to the collection, or a scheduler.
    says : str
    """

    source: str
    says: str


@dataclass(frozen=True)
class Explanation:
    """Why a run is at what it is at.

    Attributes
    ----------
    status : RunStatus
        Files and scheduler together.
    label : str
        What tells its params from others.
    evidence : tuple of Says
        On what that rests.
    job : str
        The scheduler's task; "": none is known.
    log : Path or None
        What the newest attempt that printed anything has printed.
    lines : tuple of str
        The last of it.
    step : Step
        What to do next.
    warnings : tuple of str
    """

    status: RunStatus
    label: str
    evidence: tuple[Says, ...]
    job: str
    log: Path | None
    lines: tuple[str, ...]
    step: Step
    warnings: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """Return the next command as a shell takes it."""
        return shlex.join(self.step.command)

    def __str__(self) -> str:
        said = "; ".join(f"{one.source}: {one.says}" for one in self.evidence)
        return f"{self.status.run_id} is {self.status.state}. {said}. Next: {self.command}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `--json` prints them."""
        return {
            **self.status.to_dict(),
            "label": self.label,
            "job": self.job or None,
            "evidence": [asdict(one) for one in self.evidence],
            "log": None if self.log is None else str(self.log),
            "lines": list(self.lines),
            "next": {"command": list(self.step.command), "shell": self.command, "why": self.step.why},
            "warnings": list(self.warnings),
        }


def explain(
    roster: Roster,
    entry: Entry,
    *,
    where: Sequence[str] | None = None,
    walltime: str = "",
    site: str | None = None,
    lines: int = LINES,
) -> Explanation:
    """Explain one run, from all of its files and one question to its scheduler, where it has one.

    Parameters
    ----------
    roster : Roster
    entry : Entry
        Of the roster.
    where : sequence of str, optional
        How commands name the collection; by its absolute path unless given.
    walltime : str
        What the experiment asks for; "": it does not say, and what earlier runs had is taken.
    site : str, optional
        Where the experiment says that runs go.
    lines : int
        Of the log.
    """
    layout, run = roster.layout, roster.layout.run_by_id(entry.id)
    facts = read_facts(run)
    status = fold(facts, look(run.path))
    deleted = _deleted(run, facts)
    evidence = [*_file_evidence(run, facts, status, deleted)]
    names = _names(roster, entry, (str(layout.path),) if where is None else tuple(where))
    situation, told, warnings = _situation(layout, run, facts, status, names, Wanted(site, walltime))
    attempts = attempts_of(run)
    log = next((one.printed for one in reversed(attempts) if one.printed is not None), None)
    return Explanation(
        situation.status,
        roster.label(entry.params, roster.varying(roster.entries)),
        (*evidence, *told),
        situation.job or _job_of(attempts),
        log,
        tuple(last_lines(log, lines)) if log is not None else (),
        next_step(replace(situation, deleted=deleted)),
        warnings,
    )


def _names(roster: Roster, entry: Entry, where: tuple[str, ...]) -> Names:
    values, varying = roster.values(entry.params), roster.varying(roster.entries)
    selection = ["--spec", entry.spec] if len(roster.specs) > 1 or not varying else []
    for name in varying:
        selection += ["--match", f"{name}={json.dumps(values[name])}"]
    return Names(entry.id, where, tuple(selection))


def _job_of(attempts: Sequence[Attempt]) -> str:
    return attempts[-1].job if attempts else ""


# -- what is known ---------------------------------------------------------------------------------------


def _situation(
    layout: CollectionLayout, run: RunLayout, facts: RunFacts, status: RunStatus, names: Names, wanted: Wanted
) -> tuple[Situation, list[Says], tuple[str, ...]]:
    """Return what the next step depends on, what the scheduler says, and what the user should know."""
    newest = facts.newest
    if status.attempt is None or newest is None:
        situation, warnings = never_tried(run, status, names, wanted)
        return situation, [], warnings
    if not _of_cluster(newest):
        return Situation(status, names), [], ()
    tracked = track(layout, {run.run_id: status})
    status = tracked.statuses[run.run_id]
    judged = tracked.judged.get(run.run_id)
    handed = tracked.handed_runs.get(run.run_id)
    if handed is None:
        handed = find_handed(layout, {run.run_id: status}, look(run.path).now).get(run.run_id)
    plan = handed.submission.plan if handed is not None and handed.submission is not None else None
    job = handed.job if handed is not None else None
    told = [] if judged is None else [_scheduler_says(judged.evidence, plan)]
    situation = Situation(
        status,
        names,
        on_cluster=True,
        remedy=judged.verdict.remedy if judged is not None else None,
        seen=judged.evidence.seen if judged is not None else None,
        job=job_text(job.id, job.size, handed.index) if job is not None and handed is not None else "",
        scheduler=plan.scheduler if plan is not None else "",
    )
    return _with_history(layout, run, situation, plan), told, tracked.warnings


def _of_cluster(attempt: AttemptFacts) -> bool:
    claim = attempt.newest.claim if attempt.newest is not None else None
    return attempt.is_ahead if claim is None else claim.identity.cluster != LOCAL


def _with_history(layout: CollectionLayout, run: RunLayout, s: Situation, plan: Plan | None) -> Situation:
    """Add what decides whether and how the run is tried again."""
    if plan is None or not s.status.state.is_failure:
        return s
    try:
        site = site_of(plan)
    except ConfigError:  # planned by a version that knows more of sites
        return s
    attempts = read_facts(run, cancelled={}).attempts
    chooser = Chooser(layout, site, Asked(), rules_of(site), frozenset({s.status.state}))
    return replace(
        s,
        request=chooser.last_request(run, attempts),
        history=history_of(run, s.status, attempts),
        site=site,
    )


# -- what files and scheduler say ------------------------------------------------------------------------


def _file_evidence(
    run: RunLayout, facts: RunFacts, status: RunStatus, deleted: Deleted | None
) -> Iterator[Says]:
    """Yield what the files of the attempt that counts say, in the order in which they were written."""
    attempt = next((one for one in facts.attempts if one.number == status.attempt), None)
    if attempt is None:
        yield Says(run.run_id, "no attempt is on record" if not facts.attempts else "no attempt counts")
    else:
        yield from _attempt_evidence(run, attempt)
    if facts.is_cancelled:
        records = run.collection.cancellations()
        if records:
            yield Says(_short(run, records[-1]), "it was cancelled")
    if status.state is RunState.COMPLETED:
        found = len(list(run.posterior_dir.glob("*.nc"))) if run.posterior_dir.is_dir() else 0
        yield Says(_short(run, run.posterior_dir), f"posterior means of {counted(found, 'dataset')}")
        if deleted is not None and deleted.means:
            yield Says(_short(run, run.posterior_dir), f"those of {', '.join(deleted.means)} were {BY}")
        if deleted is not None and deleted.model:
            yield Says(_short(run, run.checkpoints), f"its last checkpoint was {BY}")
    steps = run.checkpoint_steps()
    if steps and status.state is not RunState.COMPLETED:
        (number, k), step = max(steps.items())
        yield Says(_short(run, run.checkpoint_dir(number, k)), f"a checkpoint of training step {step}")


def _deleted(run: RunLayout, facts: RunFacts) -> Deleted | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return deleted_of(run, read_json(run.params_json)["spec"]["datasets"], facts)
    return None


def _attempt_evidence(run: RunLayout, attempt: AttemptFacts) -> Iterator[Says]:
    files, newest = run.attempt(attempt.number), attempt.newest
    if newest is None and attempt.reservation is not None:
        whom = f"for submission {attempt.reservation.submission}" if attempt.is_ahead else "to start at once"
        yield Says(_short(run, files.reserved), f"reserved {whom}{_when(attempt.reservation.reserved)}")
    if newest is not None:
        claim, ended = newest.claim, newest.exit
        words = "a claim that cannot be read" if claim is None else _claim_text(claim)
        yield Says(_short(run, files.claim(newest.number)), words)
        if newest.heartbeat is not None and ended is None:
            yield Says(_short(run, files.heartbeat(newest.number)), _progress_text(newest.heartbeat.progress))
        if ended is not None:
            signalled = f", signal {ended.signal}" if ended.signal else ""
            said = f": {_first_line(ended.message)}" if ended.message else ""
            yield Says(
                _short(run, files.exit(newest.number)),
                f"code {ended.code}, {_words(ended.reason)}{signalled}{_when(ended.ended)}{said}",
            )
    if attempt.closed is not None:
        said = f": {_first_line(attempt.closed.message)}" if attempt.closed.message else ""
        yield Says(_short(run, files.closed), f"given up, {_words(attempt.closed.reason)}{said}")


def _claim_text(claim: Any) -> str:
    job = "" if claim.identity.cluster == LOCAL else f", job {claim.identity.job}"
    return f"taken by process {claim.process.pid} on {claim.process.host}{job}{_when(claim.claimed)}"


def _progress_text(progress: Mapping[str, Any]) -> str:
    phase, epoch = progress.get("phase", "at work"), progress.get("epoch")
    total = f" of {progress['max_epochs']}" if progress.get("max_epochs") else ""
    return f"{phase}" + (f", epoch {epoch}{total}" if epoch is not None else "")


def _scheduler_says(evidence: Evidence, plan: Plan | None) -> Says:
    source = f"{plan.scheduler} of {plan.cluster or plan.site}" if plan is not None else "the plan"
    seen = evidence.seen
    if plan is None:
        return Says(source, "it was never completed")
    if not evidence.job:
        return Says(source, f"its job is not known, the submission is {evidence.chunk.value}")
    if seen is not None:
        about = [seen.word or seen.state.value, *([seen.reason] if seen.reason else [])]
        about += [f"on {seen.host}"] if seen.host else []
        return Says(source, f"job {evidence.job} is {', '.join(about)}")
    if not evidence.live_ok:
        return Says(source, f"no usable answer about job {evidence.job}")
    return Says(
        source,
        f"job {evidence.job} is not in the queue"
        + ("" if evidence.history_ok is None else " or its history"),
    )


def _short(run: RunLayout, path: Path) -> str:
    base = run.path if path.is_relative_to(run.path) else run.collection.path
    return str(path.relative_to(base))


def _words(reason: str) -> str:
    return reason.replace("_", " ")


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")


def _when(seconds: float | None) -> str:
    return time.strftime(" at %Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""


def entry_of(roster: Roster, run_id: str) -> Entry:
    """Return the entry of a run with this id.

    Raises
    ------
    UsageError
        The collection has no such run.
    """
    for entry in roster.entries:
        if entry.id == run_id:
            return entry
    raise UsageError(f"there is no run {run_id!r}", hint="`lfadsrm status` lists the runs")
