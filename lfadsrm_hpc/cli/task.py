"""`lfadsrm task`: one run, as scripts call it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(hidden=True)
@click.option(
    "--collection",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the run collection.",
)
@click.option("--run", "run_id", required=True, help="param_<hash>/<run spec>.")
@click.option("--submission", default="", help="ULID of the submission that asks for it.")
@click.option("--task", default="0", help="Number of the task in the submission.")
@click.option("--posterior-only", is_flag=True, help="Sample posterior means again; train nothing.")
@click.option("--no-log-file", is_flag=True, help="Print to the terminal, not to the attempt's log.txt.")
def task(
    collection: Path, run_id: str, submission: str, task: str, posterior_only: bool, no_log_file: bool
) -> int:
    """Do one run: train, or resume, sample posterior means, record the exit.

    \b
    Exit codes: 0 done; 1 failed; 64 another task owns the run; 65 bad data; 75 checkpointed: start it
    again.

    \b
    Examples:
      lfadsrm task --collection runs/example --run param_ab12cd34ef56/single_day1 --no-log-file
    """
    from lfadsrm_hpc.worker import run_task

    return run_task(
        collection,
        run_id,
        submission=submission,
        task=task,
        posterior_only=posterior_only,
        capture_log=not no_log_file,
    )
