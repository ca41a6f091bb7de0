"""`lfadsrm time`: time some training steps, for the costs that `lfadsrm plan` tells."""

from __future__ import annotations

from pathlib import Path

import click

from lfadsrm_hpc.cli.common import (
    json_option,
    open_collection,
    print_json,
    say,
    select_runs,
    selection_options,
    where_argument,
)


@click.command("time")
@where_argument
@selection_options
@click.option(
    "--seconds",
    default=15.0,
    show_default=True,
    type=click.FloatRange(1, 3600),
    help="For how long to train after compiling; at least one whole epoch is done.",
)
@json_option
def time(
    where: Path | None, spec: tuple[str, ...], match: tuple[str, ...], seconds: float, as_json: bool
) -> None:
    """Train the largest of the selected runs of WHERE for some seconds, here, and put on record how long
    its steps took. `lfadsrm plan` tells the costs of a submission from that.

    Time on the kind of node that the runs will have, since GPUs and CPUs differ. The run itself is not
    touched.

    \b
    Examples:
      lfadsrm time my_experiment
      srun --partition=gpu --gres=gpu:1 --time=10 lfadsrm time my_experiment
      lfadsrm time --match factors_dim=8 --seconds 60

    \b
    Exit codes: 0 done; 2 there is no such run; 3 it is not prepared.
    """
    from lfadsrm_hpc.api.costs import needs_of
    from lfadsrm_hpc.timing import time_run

    collection = open_collection(where)
    runs = select_runs(collection, spec, match)
    needs = needs_of(collection, runs)
    run = max(runs, key=lambda run: needs[run.id].epoch_work)
    say(f"Timing {run.id} here, for about {seconds:.0f} s after compiling.")
    timing = time_run(run, seconds)
    if as_json:
        print_json({"timing": vars(timing)})
        return
    click.echo(f"{timing.run_id} on {timing.host} ({timing.device})")
    click.echo(f"  an epoch      {timing.seconds_per_epoch:8.2f} s  (training and validation)")
    click.echo(f"  the start     {timing.start_s:8.1f} s  (imports, compiling)")
    click.echo(f"  sampling      {timing.sampling_s or 0.0:8.1f} s  (posterior means of all trials)")
    click.echo(f"  peak memory   {timing.peak_memory_mb:8.0f} MiB")
