"""`lfadsrm nlb`: a submission file of the Neural Latents Benchmark."""

from __future__ import annotations

from pathlib import Path

import click

from lfadsrm_hpc.cli.common import (
    Written,
    collection_option,
    find_one_run,
    json_option,
    match_option,
    open_collection,
    print_json,
    run_argument,
    where_of,
)


@click.command()
@run_argument
@click.argument("file", type=Written(dir_okay=False, path_type=Path))
@collection_option
@match_option
@click.option("--name", required=True, metavar="NAME", help="What the benchmark calls the data: mc_maze, ...")
@click.option("--bin-ms", type=float, metavar="MS", help="5 or 20; otherwise that of the run.")
@click.option("--dataset", metavar="NAME", help="Which dataset, for a run of several.")
@click.option(
    "--evaluation",
    metavar="NAME",
    help="Trials to evaluate, as `lfadsrm infer` named them, or their netCDF file; otherwise the validation "
    "trials.",
)
@click.option("--add", is_flag=True, help="Keep the other datasets in FILE; otherwise it is replaced.")
@json_option
def nlb(
    run: str,
    file: Path,
    where: Path | None,
    match: tuple[str, ...],
    name: str,
    bin_ms: float | None,
    dataset: str | None,
    evaluation: str | None,
    add: bool,
    as_json: bool,
) -> None:
    """Write FILE, which the Neural Latents Benchmark evaluates, from the posterior means of RUN.

    RUN is an id, a run spec, a part of an id that no other run has, or the folder of a run. It must be
    complete, and have been trained with the benchmark's held-out neurons withheld (held_out_neurons). Rates
    are in counts per bin; with forward_prediction_bins there are the predicted bins too.

    \b
    Examples:
      lfadsrm nlb single_mc_maze submission.h5 --name mc_maze
      lfadsrm nlb single_mc_maze submission.h5 --name mc_maze --evaluation mc_maze_test
      lfadsrm nlb single_mc_rtt submission.h5 --name mc_rtt --bin-ms 20 --add

    \b
    Exit codes: 0 written; 1 the run is not complete; 2 usage, or no held-out neurons;
    3 bins do not add up.
    """
    found = find_one_run(open_collection(where_of(run, where)), run, match)
    path = found.write_nlb_submission(file, name, bin_ms, dataset=dataset, evaluation=evaluation, add=add)
    if as_json:
        print_json({"run_id": found.id, "file": str(path)})
    else:
        click.echo(path)
