"""`lfadsrm demo`: the whole road in a few minutes, on data whose rates are known."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.common import json_option, print_json, say
from lfadsrm_hpc.cli.plain_table import print_table
from lfadsrm_hpc.cli.run import live_progress
from lfadsrm_hpc.errors import SomeRunsFailedError, UsageError
from lfadsrm_hpc.manifest.states import RunState

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lfadsrm_hpc.api import Run, RunCollection
    from lfadsrm_hpc.data.inputs import SessionInputs

COLLECTION = "demo"
STITCHED = "stitched_all"
SIZES = {
    # trials a condition, epochs: what about two, five and fifteen minutes on two cores give
    "quick": (16, 60),
    "normal": (20, 120),
    "long": (30, 300),
}
_SMOOTHING_MS = (10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0)


@dataclass(frozen=True)
class Score:
    """How well rates fit what is known, on validation trials.

    Attributes
    ----------
    r2 : float
        Pooled over datasets, neurons, bins and trials: rates against true rates.
    bits_per_spike : float
        Above each neuron's mean rate in the training trials.
    """

    r2: float
    bits_per_spike: float


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
    began = time.monotonic()
    trials, epochs = SIZES[size]
    collection = build(folder, _numbers(factors), sessions, trials, epochs, seed)
    say(f"{collection!r}\n")
    collection.prepare_for_lfads()
    runs = collection.runs
    todo = [run for run in runs if run.status().state is not RunState.COMPLETED]
    if todo:
        say(f"Training {len(todo)} runs; `lfadsrm status {collection.path}` tells the same from elsewhere.")
        with live_progress(todo) as watch:
            states = collection.run_local(todo, on_update=watch, **({"slots": slots} if slots else {}))
        bad = [state for state in states if state.state is not RunState.COMPLETED]
        if bad:
            raise SomeRunsFailedError(
                f"{len(bad)} runs are not complete",
                where=", ".join(state.run_id for state in bad),
                hint=f"lfadsrm why -C {collection.path} RUN",
            )
    inputs = read_inputs(collection)
    scores = {run.id: score_run(run, inputs) for run in runs}
    smoothed = score_smoothed(list(inputs.values()))
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


def build(
    folder: Path, factors: Sequence[int], sessions: int, trials: int, epochs: int, seed: int
) -> RunCollection:
    """Make the sessions, where they are not there, and the run collection of the demo."""
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.collection.run_spec import RunSpec
    from lfadsrm_hpc.data.dataset import Dataset
    from lfadsrm_hpc.data.dataset_collection import DatasetCollection

    datasets = DatasetCollection(folder / "datasets")
    for name in _make_sessions(folder / "datasets", sessions, trials, seed):
        Dataset(datasets, name)
    collection = RunCollection(folder, COLLECTION, datasets, comment="Lorenz sessions with known rates")
    params = RunParams(
        spike_bin_ms=20,
        co_dim=0,
        batch_size=64,
        gen_dim=64,
        ic_enc_dim=64,
        ic_dim=64,
        keep_prob=0.95,
        learning_rate_init=0.015,
        learning_rate_decay_factor=0.9,
        learning_rate_n_to_compare=3,
        learning_rate_stop=1e-4,
        kl_increase_steps=300,
        l2_increase_steps=300,
        l2_gen_scale=10,
        adam_epsilon=1e-8,
        max_epochs=epochs,
        num_samples_posterior=64,
        scale_increase_steps_with_datasets=False,
        seed=seed,
    )
    collection.add_params(params.generate_sweep("factors_dim", factors))
    for dataset in datasets:
        collection.add_run_spec(RunSpec(dataset.single_run_name, datasets, [dataset.name]))
    if len(datasets) > 1:
        collection.add_run_spec(RunSpec(STITCHED, datasets, [dataset.name for dataset in datasets]))
    return collection


def _make_sessions(folder: Path, sessions: int, trials: int, seed: int) -> list[str]:
    """Write the recording sessions that are not there yet; return the names of their files."""
    from lfadsrm_hpc.data.readers import save_dataset
    from lfadsrm_hpc.data.synthetic import lorenz_sessions

    names = [f"dataset{number:03d}.h5" for number in range(1, sessions + 1)]
    if not all((folder / name).is_file() for name in names):
        say(f"Making {sessions} recording sessions in {folder} ...")
        made = lorenz_sessions(
            sessions,
            n_conditions=24,
            trials_per_condition=trials,
            bin_ms=10,
            mean_rate=9.0,
            modulation=1.0,
            speed=2.0,
            seed=seed,
        )
        folder.mkdir(parents=True, exist_ok=True)
        for name, session in zip(names, made, strict=True):
            if not (folder / name).is_file():
                save_dataset(session, folder / name)
    return names


def read_inputs(collection: RunCollection) -> dict[str, SessionInputs]:
    """Return the binned and split data of each session, by name."""
    from lfadsrm_hpc.data import inputs

    found: dict[str, SessionInputs] = {}
    for run in collection.runs:
        for name, path in run.input_files().items():
            if name not in found:
                found[name] = inputs.read_inputs(path)
    return found


def score_run(run: Run, inputs: dict[str, SessionInputs]) -> Score:
    """Compare the inferred rates of a run with the true ones, on validation trials of all its sessions."""
    rates = {}
    for name in run.dataset_names:
        with run.load_posterior_means(name) as means:
            rates[name] = means.rates.sel(trial=inputs[name].valid_inds).values
    return _score([(rates[name], inputs[name]) for name in run.dataset_names])


def score_smoothed(sessions: Sequence[SessionInputs]) -> dict[str, float]:
    """Return width and R2 of Gaussian-smoothed spikes, for the width that fits the true rates best."""
    from lfadsrm_hpc.results.metrics import smooth_spikes

    scored = {}
    for width in _SMOOTHING_MS:
        pairs = [(smooth_spikes(s.valid_data, bin_ms=s.bin_ms, sd_ms=width), s) for s in sessions]
        scored[width] = _score(pairs).r2
    best = max(scored, key=lambda width: scored[width])
    return {"sd_ms": best, "r2": scored[best]}


def _score(pairs: Sequence[tuple[npt.NDArray[Any], SessionInputs]]) -> Score:
    import numpy as np

    from lfadsrm_hpc.results.metrics import bits_per_spike, mean_rates, pooled_r2

    def flat(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.asarray(array, dtype=np.float64).reshape(-1, array.shape[-1])

    # Sessions differ in neurons and trials: residual and total variance are added up, not the arrays joined.
    residual = total = gained = spikes = 0.0
    for rates, session in pairs:
        truth = flat(_truth(session))
        variance = float(((truth - truth.mean(axis=0)) ** 2).sum())
        residual += (1.0 - pooled_r2(rates, _truth(session))) * variance
        total += variance
        count = float(session.valid_data.sum())
        null = mean_rates(session.train_data, bin_ms=session.bin_ms)
        gained += bits_per_spike(rates, session.valid_data, null, bin_ms=session.bin_ms) * count
        spikes += count
    return Score(1.0 - residual / total, gained / spikes)


def draw(
    collection: RunCollection,
    scores: dict[str, Score],
    inputs: dict[str, SessionInputs],
    sd_ms: float,
) -> Path:
    """Draw what the best run found in its first session, and the learning curves of all; return the path."""
    from lfadsrm_hpc.beside import appearing
    from lfadsrm_hpc.results.plots import demo_summary

    best = _best(collection.runs, scores)
    session = inputs[best.dataset_names[0]]
    logs = {f"{r.spec.name}, {r.params.factors_dim} factors": r.load_fit_log() for r in collection.runs}
    with best.load_posterior_means(session.dataset) as means:
        figure = demo_summary(
            means.sel(trial=session.valid_inds).load(),
            session.valid_data,
            _truth(session),
            logs,
            sd_ms=sd_ms,
            title=f"{best.spec.name}, {best.params.factors_dim} factors: {session.dataset}, not trained on",
        )
    path = collection.layout.figures / "demo.png"
    with appearing(path) as beside:
        figure.savefig(beside, dpi=110, format="png")
    return path


def _truth(session: SessionInputs) -> npt.NDArray[Any]:
    """Return the true rates of the validation trials in spikes/s."""
    if session.valid_truth is None:
        raise UsageError(
            f"session {session.dataset} has no true rates: it was not made by the demo",
            hint="choose another folder with --dir",
        )
    return session.valid_truth


def show(
    collection: RunCollection, scores: dict[str, Score], smoothed: dict[str, float], figure: Path
) -> None:
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
                f"{score.r2:.3f}",
                f"{score.bits_per_spike:.3f}",
            )
        )
    width, plain = smoothed["sd_ms"], smoothed["r2"]
    rows.append((f"smoothed spikes, sd {width:g} ms", "", "", "", "", f"{plain:.3f}", "-"))
    print_table(("run spec", *numbers), rows, numbers=numbers)
    click.echo(
        "Costs of the last epoch. R2 of inferred to true rates (pooled) and bits/spike: validation trials."
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


def _best(runs: Sequence[Run], scores: dict[str, Score]) -> Run:
    return max(runs, key=lambda run: scores[run.id].r2)


def _as_json(
    collection: RunCollection,
    scores: dict[str, Score],
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
                "r2": scores[run.id].r2,
                "bits_per_spike": scores[run.id].bits_per_spike,
                "posterior_means": {name: str(path) for name, path in run.posterior_files().items()},
            }
            for run in collection.runs
        ],
        "smoothed": smoothed,
        "figure": str(figure),
    }
