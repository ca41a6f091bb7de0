"""`lfadsrm demo`: the whole road in a few minutes, on data whose rates are known."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.common import json_option, print_json, say
from lfadsrm_hpc.cli.demo_experiment import build, read_inputs
from lfadsrm_hpc.cli.plain_table import print_table
from lfadsrm_hpc.cli.run import live_progress
from lfadsrm_hpc.collection.words import counted
from lfadsrm_hpc.errors import SomeRunsFailedError, UsageError
from lfadsrm_hpc.manifest.states import RunState

if TYPE_CHECKING:
    from lfadsrm_hpc.api import Run, RunCollection
    from lfadsrm_hpc.data.inputs import SessionInputs

SIZES = {
    # trials a condition, epochs: what about two, five and fifteen minutes on two cores give
    "quick": (16, 60),
    "normal": (20, 120),
    "long": (30, 300),
}
Scores = Mapping[str, Mapping[str, float]]  # of the validation trials, by run id and name


@click.command()
@click.option(
    "--dir",
    "folder",
    default="lfadsrm_demo",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where: a new folder, or that of an interrupted demo, which then goes on.",
)
@click.option(
    "--size",
    type=click.Choice(list(SIZES)),
    default="normal",
    show_default=True,
    help="How long: about 2, 5 or 15 minutes on 2 cores.",
)
@click.option(
    "--sessions", default=3, show_default=True, type=click.IntRange(1, 9), help="Recording sessions."
)
@click.option(
    "--factors",
    default="4,8",
    show_default=True,
    metavar="N,N,...",
    help="Values of factors_dim to sweep over: each session alone and all stitched, with each of them.",
)
@click.option("--slots", type=click.IntRange(1), help="Runs at a time (default: as the machine allows).")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of data and models.")
@json_option
def demo(
    folder: Path, size: str, sessions: int, factors: str, slots: int | None, seed: int, as_json: bool
) -> None:
    """Make recording sessions with known rates, train a small sweep of LFADS, and show what comes out.

    Sessions of one Lorenz system (different neurons, shared conditions, 9 spikes/s), each fitted alone and
    all stitched, for each number of factors. Nothing is downloaded and no GPU is needed.

    \b
    Examples:
      lfadsrm demo
      lfadsrm demo --size quick --factors 4
      lfadsrm demo --dir try2 --sessions 2 --seed 1

    \b
    Exit codes: 0 done; 2 usage; 5 some runs failed; 130 interrupted, the same command goes on.
    """
    from lfadsrm_hpc.results.baselines import best_smoothed

    began = time.monotonic()
    trials, epochs = SIZES[size]
    collection = build(folder, _numbers(factors), sessions, trials, epochs, seed)
    say(f"{collection!r}\n")
    collection.prepare_for_lfads()
    inputs = read_inputs(collection)
    runs = collection.runs
    todo = [run for run in runs if run.status().state is not RunState.COMPLETED]
    if todo:
        what = counted(len(todo), "run")
        say(f"Training {what}; `lfadsrm status {collection.path}` tells the same from elsewhere.")
        with live_progress(todo) as watch:
            states = collection.run_local(todo, on_update=watch, **({"slots": slots} if slots else {}))
        bad = [state for state in states if state.state is not RunState.COMPLETED]
        if bad:
            raise SomeRunsFailedError(
                f"{counted(len(bad), 'run')} did not complete",
                where=", ".join(state.run_id for state in bad),
                hint=f"lfadsrm why -C {collection.path} RUN",
            )
    scores = {run.id: run.metrics().metrics for run in runs}
    smoothed = dict(zip(("sd_ms", "r2"), best_smoothed(list(inputs.values())), strict=True))
    figure = draw(collection, scores, inputs, smoothed["sd_ms"])
    if as_json:
        print_json(_as_json(collection, scores, smoothed, figure, time.monotonic() - began))
    else:
        show(collection, scores, smoothed, figure)
        say("`pm.rates.sel(neuron=0)` is trial x time, in spikes/s.")
    say(f"The whole took {time.monotonic() - began:.0f} s.")


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UsageError(f"--factors {text!r} is not a list of whole numbers", hint="--factors 4,8")
    return numbers


def draw(
    collection: RunCollection,
    scores: Scores,
    inputs: dict[str, SessionInputs],
    sd_ms: float,
) -> Path:
    """Draw what the best run found in its first session, and the learning curves of all; return the path."""
    from lfadsrm_hpc.beside import appearing
    from lfadsrm_hpc.results.plots import demo_summary

    best = _best(collection.runs, scores)
    session = inputs[best.dataset_names[0]]
    assert session.valid_truth is not None  # `read_inputs` has looked
    logs = {f"{r.spec.name}, {r.params.factors_dim} factors": r.load_fit_log() for r in collection.runs}
    with best.load_posterior_means(session.dataset) as means:
        figure = demo_summary(
            means.sel(trial=session.valid_inds).load(),
            session.valid_data,
            session.valid_truth,
            logs,
            sd_ms=sd_ms,
            title=f"{best.spec.name}, {best.params.factors_dim} factors: {session.dataset}, not trained on",
        )
    path = collection.layout.figures / "demo.png"
    with appearing(path) as beside:
        figure.savefig(beside, dpi=110, format="png")
    return path


def show(collection: RunCollection, scores: Scores, smoothed: dict[str, float], figure: Path) -> None:
    """Print the table of runs, the files, and how to load them."""
    numbers = ("factors", "epochs", "train cost", "valid cost", "R2 of rates", "bits/spike")
    rows = []
    for run in collection.runs:
        log = run.load_fit_log()
        last = log.iloc[-1]
        score = scores[run.id]
        rows.append(
            (
                run.spec.name,
                str(run.params.factors_dim),
                f"{int(last.epoch)}",
                f"{last.train_total:.1f}",
                f"{last.valid_total:.1f}",
                f"{score['rate_r2']:.3f}",
                f"{score['bits_per_spike']:.3f}",
            )
        )
    width, plain = smoothed["sd_ms"], smoothed["r2"]
    rows.append((f"smoothed spikes, sd {width:g} ms", "", "", "", "", f"{plain:.3f}", "-"))
    print_table(("run spec", *numbers), rows, numbers=numbers)
    click.echo(
        "Costs of the last epoch. R2 of inferred to true rates and bits/spike: validation trials, as "
        "`lfadsrm metrics` has them."
    )
    click.echo("No bits/spike for smoothed spikes: each would be scored on itself.\n")
    click.echo("Posterior means (netCDF):")
    for run in collection.runs:
        for path in run.posterior_files().values():
            click.echo(f"  {path}")
    click.echo(f"Figure:\n  {figure}")
    best = _best(collection.runs, scores)
    dataset = f"dataset={best.dataset_names[0]!r}" if best.n_datasets > 1 else ""
    index = best.params_index
    click.echo("\nLoad them in Python:")
    click.echo("  from lfadsrm_hpc import RunCollection")
    click.echo(f"  rc = RunCollection.open({str(collection.path)!r})")
    click.echo(f"  pm = rc.find_run({best.spec.name!r}, {index}).load_posterior_means({dataset})")


def _best(runs: Sequence[Run], scores: Scores) -> Run:
    return max(runs, key=lambda run: scores[run.id]["rate_r2"])


def _as_json(
    collection: RunCollection,
    scores: Scores,
    smoothed: dict[str, float],
    figure: Path,
    seconds: float,
) -> dict[str, Any]:
    return {
        "collection": str(collection.path),
        "seconds": seconds,
        "runs": [
            {
                "run_id": run.id,
                "spec": run.spec.name,
                "params": run.params.differences(),
                "r2": scores[run.id]["rate_r2"],
                "bits_per_spike": scores[run.id]["bits_per_spike"],
                "posterior_means": {name: str(path) for name, path in run.posterior_files().items()},
            }
            for run in collection.runs
        ],
        "smoothed": smoothed,
        "figure": str(figure),
    }
