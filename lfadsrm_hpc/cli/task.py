"""`lfadsrm task`: one run, as scripts call it."""

from __future__ import annotations

import math
from pathlib import Path

import click

from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.manifest.records import LOCAL, Identity


@click.command(hidden=True)
@click.option(
    "--collection",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the run collection.",
)
@click.option("--run", "run_id", required=True, help="param_<hash>/<run spec>.")
@click.option("--submission", default="", help="ULID of the submission that asks for it.")
@click.option("--task", default="0", help="Number of the task in the submission; in a job, its array index.")
@click.option(
    "--attempt",
    type=click.IntRange(min=1),
    help="The attempt that was reserved for this task. Left out: the next that is free.",
)
@click.option("--cluster", envvar="LFADSRM_CLUSTER", default="", help="In a job: the cluster it runs on.")
@click.option("--job", envvar="LFADSRM_JOB", default="", help="In a job: its id, that of the array if any.")
@click.option(
    "--deadline",
    envvar="LFADSRM_DEADLINE",
    type=float,
    help="When to checkpoint and stop, seconds since 1970.",
)
@click.option("--posterior-only", is_flag=True, help="Sample posterior means again; train nothing.")
@click.option("--no-log-file", is_flag=True, help="Print to the terminal, not to the attempt's log.txt.")
def task(
    collection: Path,
    run_id: str,
    submission: str,
    task: str,
    attempt: int | None,
    cluster: str,
    job: str,
    deadline: float | None,
    posterior_only: bool,
    no_log_file: bool,
) -> int:
    """Do one run: train, or resume, sample posterior means, record the exit.

    \b
    Exit codes: 0 done; 1 failed; 64 another task owns the run; 65 bad data; 75 checkpointed: start it
    again.

    \b
    Examples:
      lfadsrm task --collection runs/example --run param_ab12cd34ef56/single_day1 --no-log-file
    """
    identity = _identity(cluster, job, task, submission, attempt)
    if deadline is not None and not math.isfinite(deadline):
        raise UsageError(f"--deadline {deadline} is no time", hint="give seconds since 1970")
    from lfadsrm_hpc.worker import run_task

    return run_task(
        collection,
        run_id,
        submission=submission,
        task=task,
        posterior_only=posterior_only,
        capture_log=not no_log_file,
        attempt=attempt,
        identity=identity,
        deadline=deadline,
    )


def _identity(cluster: str, job: str, task: str, submission: str, attempt: int | None) -> Identity | None:
    """Return who the task is in a scheduler's eyes; None: a task of this machine."""
    if not cluster and not job:
        return None
    if not cluster or not job or cluster == LOCAL:
        raise UsageError(
            f"--cluster {cluster!r} and --job {job!r} do not name a job",
            hint="give both, or neither for a task of this machine",
        )
    if attempt is None:
        raise UsageError("a job takes the attempt that was reserved for it", hint="give --attempt")
    return Identity(cluster, job, task, submission)
