"""`lfadsrm infer`: a trained run on new trials, or on a session that it was not trained on."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    say,
    where_of,
)
from lfadsrm_hpc.cli.terminal import change_line, may_change
from lfadsrm_hpc.errors import InterruptedRunError, UsageError
from lfadsrm_hpc.manifest.records import EXIT_CHECKPOINTED

if TYPE_CHECKING:
    import xarray as xr


_TELL_S = 10.0  # between lines where standard error is no terminal
KINDS = ("posterior_sample_and_average", "posterior_push_mean")


@click.command()
@run_argument
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@collection_option
@match_option
@click.option("--dataset", metavar="NAME", help="Whose neurons these are; for a run of several datasets.")
@click.option("--session", metavar="NAME", hidden=True, help="What --dataset was called at first.")
@click.option("--adapt", is_flag=True, help="A new dataset: first train a read-in and a read-out for it.")
@click.option("--max-epochs", type=click.IntRange(1), help="With --adapt: how long to train.")
@click.option("--adapted", metavar="NAME", help="Further trials of a dataset that --adapt was used on.")
@click.option("--name", metavar="NAME", help="Of the result; otherwise that of the data.")
@click.option(
    "--bin-ms", type=float, metavar="MS", help="Width of the data's bins, if the file does not say."
)
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    metavar="KIND",
    help=f"{KINDS[0]} or {KINDS[1]}; otherwise that of the run.",
)
@click.option(
    "--num-samples", type=click.IntRange(1), help="Posterior samples a trial; otherwise as the run."
)
@click.option("--seed", type=click.IntRange(0), help="Of the samples; otherwise that of the run.")
@click.option(
    "-o",
    "--out",
    "path",
    type=Written(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The netCDF file; otherwise inferred/<name>.nc in the folder of the run.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier inference of this name.")
@json_option
def infer(
    run: str,
    data: Path,
    where: Path | None,
    match: tuple[str, ...],
    dataset: str | None,
    session: str | None,
    adapt: bool,
    max_epochs: int | None,
    adapted: str | None,
    name: str | None,
    bin_ms: float | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Infer rates and factors of the trials in DATA with the trained RUN.

    RUN is an id, a run spec, a part of an id that no other run has, or the folder of a run. DATA is a file of
    a session, like those that runs are prepared from: the same neurons in the same order, trials as long. The
    path of the netCDF file with the posterior means goes to standard output.

    With --adapt, DATA is a session that the run was not trained on: a read-in and a read-out are trained
    for it, everything else of the model stays, and the file holds the posterior means of its trials. Ctrl-C
    or SIGTERM keeps what was done; the same command goes on from there.

    \b
    Examples:
      lfadsrm infer single_day1 day1_afternoon.npz
      lfadsrm infer all new_trials.npz --dataset day2 -o new_trials.nc
      lfadsrm infer all day9.npz --adapt --max-epochs 100
      lfadsrm infer all day9_more.npz --adapted day9 --json

    \b
    Exit codes: 0 done; 1 failed, or the run is not trained to its end; 2 usage;
    3 data or params invalid; 75 --adapt was stopped: start it again; 130 interrupted.
    """
    dataset = dataset or session
    _check(dataset, adapt, max_epochs, adapted, options)
    found = find_one_run(open_collection(where_of(run, where)), run, match)
    line = _Line()
    common: dict[str, Any] = {"name": name, "bin_ms": bin_ms, "on_block": line.sampled}
    if adapt:
        if max_epochs is not None:
            common["max_epochs"] = max_epochs
        try:
            model = found.adapt(data, on_progress=line.trained, on_message=line.message, **common)
        except InterruptedRunError as error:
            line.end()
            say(str(error))
            return EXIT_CHECKPOINTED
        means = model.load_posterior_means()
    elif adapted is not None:
        means = found.adapted(adapted).infer(data, **common, **options)
    else:
        means = found.infer(data, session=dataset, **common, **options)
    line.end()
    with means:
        file = means.encoding["source"]
        if as_json:
            print_json({"run_id": found.id, "file": file, **_about(means)})
        else:
            click.echo(file)
    return 0


def _check(
    dataset: str | None, adapt: bool, max_epochs: int | None, adapted: str | None, options: dict[str, Any]
) -> None:
    """Refuse options that have no meaning together."""
    if adapt and adapted is not None:
        raise UsageError("--adapt makes an adapted model, --adapted NAME uses one", hint="give one of them")
    if dataset is not None and (adapt or adapted is not None):
        raise UsageError(
            "--dataset names a dataset of the run; an adapted model has its own",
            hint="leave out --dataset, or --adapted",
        )
    if max_epochs is not None and not adapt:
        raise UsageError(
            "--max-epochs is for --adapt: nothing is trained without it",
            hint="add --adapt, or leave --max-epochs out",
        )
    for option, value in options.items():
        if adapt and value is not None and value is not False:
            flag = "out" if option == "path" else option.replace("_", "-")
            raise UsageError(
                f"--{flag} has no meaning with --adapt", hint="adapt first; then infer with --adapted NAME"
            )


def _about(means: xr.Dataset) -> dict[str, Any]:
    names = ("dataset", "session", "adapted", "checkpoint", "posterior_mean_kind", "num_samples", "seed")
    about = {name: means.attrs[name] for name in names if name in means.attrs}
    if "checkpoint" in about:
        about["checkpoint"] = json.loads(about["checkpoint"])
    return {**about, "trials": means.sizes["trial"], "neurons": means.sizes["neuron"]}


class _Line:
    """Progress on standard error: one line that changes on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self.live = may_change(sys.stderr)
        self.last = time.monotonic() if not self.live else 0.0
        self.shown = False

    def trained(self, progress: Any) -> None:
        left = "" if progress.eta_s is None else f", about {progress.eta_s:.0f} s left"
        cost = "" if progress.valid_recon != progress.valid_recon else f", cost {progress.valid_recon:.2f}"
        self._tell(f"adapting: epoch {progress.epoch}{cost}{left}")

    def sampled(self, done: int, total: int) -> None:
        self._tell(f"posterior means: {done} of {total} trials")

    def message(self, text: str) -> None:
        self.end()
        say(f"warning: {text}")

    def end(self) -> None:
        if self.live and self.shown:
            click.echo(err=True)
            self.shown = False

    def _tell(self, text: str) -> None:
        if self.live:
            change_line(text)
            self.shown = True
        elif time.monotonic() - self.last >= _TELL_S:
            self.last = time.monotonic()
            say(text)
