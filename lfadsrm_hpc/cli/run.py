"""`lfadsrm run`: the local queue, with live progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.common import (
    console,
    find_place,
    json_option,
    print_json,
    say,
    select_runs,
    selection_options,
    where_argument,
)
from lfadsrm_hpc.cli.status import (
    clock,
    counts_text,
    duration,
    print_states,
    table,
)
from lfadsrm_hpc.cli.terminal import may_change
from lfadsrm_hpc.cli.unnamed_runs import tell_of_chosen
from lfadsrm_hpc.collection.labels import params_label, varying_names
from lfadsrm_hpc.collection.words import counted
from lfadsrm_hpc.errors import NothingEligibleError, SomeRunsFailedError
from lfadsrm_hpc.manifest.deleted import BY, TRAIN_AGAIN, can_be_sampled, deleted_of
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.stopping import as_interrupt

if TYPE_CHECKING:
    from lfadsrm_hpc.api import Run, RunCollection, Watch
    from lfadsrm_hpc.cli.common import Place
    from lfadsrm_hpc.manifest.fold import RunStatus

_SHOWN = "`lfadsrm status` shows them"


@click.command()
@where_argument
@selection_options
@click.option("--slots", type=click.IntRange(1), help="Runs at a time (default: as the machine allows).")
@click.option(
    "--threads", "cpu_cap", type=click.IntRange(1), help="CPU threads of each run (default: shared)."
)
@click.option("--max-per-gpu", type=click.IntRange(1), help="Runs at a time on one GPU (default: 4).")
@click.option(
    "--gpu/--no-gpu",
    "use_gpu",
    default=None,
    help="Insist on GPUs, or leave them alone (default: where there are any).",
)
@click.option(
    "--max-attempts", type=click.IntRange(1), help="Tries of a run that fails by itself (default: 1)."
)
@click.option("--cancelled", is_flag=True, help="Also runs that were cancelled.")
@click.option("--posterior-only", is_flag=True, default=None, help="Sample posterior means; train nothing.")
@click.option("--tensorboard", is_flag=True, default=None, help="Start TensorBoard with the queue.")
@click.option("--detach", is_flag=True, help="Go on in the background when this terminal ends.")
@click.option("--dry-run", is_flag=True, help="Write the script and list the runs; start nothing.")
@json_option
def run(
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    cancelled: bool,
    detach: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train the runs of WHERE that are not complete, on this machine, and wait.

    WHERE is an experiment or a run collection; without it, what is found from here upwards. The [queue] table
    of an experiment.toml holds where WHERE is the experiment, under the options given here; it does not where
    WHERE is the collection itself.

    Runs that were interrupted go on from their last checkpoint; complete ones are skipped, those that a
    cluster's scheduler has and those that were cancelled are left out, and nothing is ever trained twice at a
    time. Ctrl-C lets the runs write a checkpoint and ends.

    \b
    Examples:
      lfadsrm run
      lfadsrm run my_experiment --slots 2 --match factors_dim=8
      lfadsrm run --detach && lfadsrm status
      lfadsrm run --dry-run                     then read run_queue.sh

    \b
    Exit codes: 0 all complete; 2 usage; 3 options of [queue] are invalid or not trusted; 4
    nothing to do; 5 some failed; 130 interrupted.
    """
    from lfadsrm_hpc.api import RunCollection

    place = find_place(where)
    collection = RunCollection.open(place.collection)
    settings = {**_experiment_options(place), **{k: v for k, v in options.items() if v is not None}}
    runs = select_runs(collection, spec, match)
    if settings.get("posterior_only"):
        runs, nothing, hint = _to_sample(runs)
    else:
        runs, nothing, hint = _to_do(collection, runs, cancelled=cancelled)
    if not runs:
        raise NothingEligibleError(nothing, where=collection.path, hint=hint)
    tell_of_chosen(place, [run.id for run in runs], frozenset(RunState))
    if cancelled and not dry_run:
        collection.lift_cancellation(runs)
    detach = detach or bool(settings.get("survive_hangup"))
    if dry_run or detach:
        script = collection.write_shell_script_run_queue(runs, **settings)
        _hand_over(script, runs, detach and not dry_run, as_json)
        return
    with as_interrupt(), live_progress(runs) as watch:
        collection.run_local(runs, on_update=watch, **settings)
    report(runs, collection.status(runs, rescan=True), as_json)  # with costs and messages


def _to_sample(runs: Sequence[Run]) -> tuple[list[Run], str, str]:
    """Return the trained runs, and what to say where there are none; tell of those left out."""
    trained = [run for run in runs if can_be_sampled(run.layout)]
    there = {run.id for run in trained}  # a complete run that is not among them has lost its checkpoint
    gone = sum(deleted_of(run.layout, ()) is not None for run in runs if run.id not in there)
    if not gone:
        return trained, "no run has been trained yet", _SHOWN
    nothing = f"the last checkpoint of {counted(gone, 'complete run')} was {BY}"
    if trained:
        say(f"left out: {nothing}")
    return trained, nothing, TRAIN_AGAIN


def _to_do(collection: RunCollection, runs: Sequence[Run], *, cancelled: bool) -> tuple[list[Run], str, str]:
    """Return the runs to train, and what to say where there are none; tell of those left out."""
    tracked = collection.track(runs)
    for warning in tracked.warnings:
        say(f"warning: {warning}")
    chosen: list[Run] = []
    with_cluster: list[Run] = []
    given_up: list[Run] = []
    for run in runs:
        state = tracked.statuses[run.id].state
        if run.id in tracked.handed_runs and (state.is_live or state is RunState.UNKNOWN):
            with_cluster.append(run)
        elif state is RunState.CANCELLED and not cancelled:
            given_up.append(run)
        elif state is not RunState.COMPLETED:
            chosen.append(run)
    if with_cluster:
        say(f"left out: {len(with_cluster)} in the hands of a scheduler; `lfadsrm cancel` takes them back")
    if given_up:
        say(f"left out: {len(given_up)} that were cancelled; --cancelled takes them too")
    if chosen or with_cluster or given_up:
        return chosen, "nothing is left to do here", _SHOWN
    return [], *_complete(runs)


def _complete(runs: Sequence[Run]) -> tuple[str, str]:
    """Return what to say where every run is complete, also if its results were deleted."""
    found = [deleted_of(run.layout, run.dataset_names) for run in runs]
    lacking = [one for one in found if one is not None and one.means]
    if not lacking:
        return "every run is complete", _SHOWN
    first = next((one for one in lacking if not one.model), lacking[0])
    return (
        f"every run is complete; the posterior means of {counted(len(lacking), 'run')} were {BY}",
        first.remedy,
    )


def _experiment_options(place: Place) -> dict[str, Any]:
    """Return the [queue] table of the experiment, checked; nothing where WHERE is the collection itself."""
    from lfadsrm_hpc.schedulers.sites.loading import queue_options

    if place.experiment is None:
        return {}
    with place.experiment.pointing():
        queue_options(place.experiment.queue, where=place.experiment.where("queue"))
        place.experiment.require_trust()
    return place.experiment.queue


def _hand_over(script: Path, runs: Sequence[Run], detach: bool, as_json: bool) -> None:
    from lfadsrm_hpc.rendering import shell_quote

    pid = None
    if detach:
        from lfadsrm_hpc.schedulers.local import detach_queue

        pid = detach_queue(script)
    if as_json:
        print_json({"script": script, "pid": pid, "runs": [run.id for run in runs]})
        return
    for one in runs:
        click.echo(one.id)
    if detach:
        say(f"The queue works in the background (process {pid}). `lfadsrm status` tells how it goes.")
    else:
        say(f"Nothing was started. The queue: bash {shell_quote(script)}")


@contextmanager
def live_progress(runs: Sequence[Run]) -> Iterator[Watch]:
    """Give a function that shows states: a table that renews itself on a terminal, lines elsewhere."""
    if not may_change(sys.stderr):
        yield _lines(runs)
        return
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(console=console(stderr=True), refresh_per_second=2, transient=True) as live:

        def show(states: Sequence[RunStatus]) -> None:
            rows = most_telling(states, live.console.height - 4)
            shown = table([runs[row] for row in rows], [states[row] for row in rows])
            live.update(Group(shown, Text(headline(states))))

        yield show


def most_telling(states: Sequence[RunStatus], most: int) -> list[int]:
    """Return which runs to show where there is no room for all: those running, then failed, then the rest."""
    order = sorted(
        range(len(states)), key=lambda n: (not states[n].state.is_live, not states[n].state.is_failure)
    )
    return sorted(order[: max(most, 1)])


def headline(states: Sequence[RunStatus]) -> str:
    """Return runs done, running and failed, and the time left of those that run, as one line."""
    left = [s.progress.get("eta_s") for s in states if s.state is RunState.RUNNING]
    known = [value for value in left if isinstance(value, int | float)]
    text = f"{clock()}  {counts_text(states)}"
    return f"{text}; those running need about {duration(max(known))} more" if known else text


def _lines(runs: Sequence[Run], every_s: float = 15.0) -> Callable[[Sequence[RunStatus]], None]:
    """Return a function that prints a line for each change of state, and a summary now and then."""
    import time

    varying = varying_names(run.params for run in runs)
    names = {run.id: f"{run.spec.name}, {params_label(run.params, varying)}" for run in runs}
    seen: dict[str, RunState] = {}
    spoken = time.monotonic()

    def show(states: Sequence[RunStatus]) -> None:
        nonlocal spoken
        for run, state in zip(runs, states, strict=True):
            if seen.get(run.id, state.state) is not state.state or (
                run.id not in seen and state.state is not RunState.PREPARED
            ):
                say(f"{clock()}  {names[run.id]}: {state.state.value.lower()}")
            seen[run.id] = state.state
        if time.monotonic() - spoken >= every_s:
            spoken = time.monotonic()
            say(headline(states))
            for run, state in zip(runs, states, strict=True):
                if state.state is RunState.RUNNING:
                    say(f"          {names[run.id]}: {_progress_text(state)}")

    return show


def _progress_text(state: RunStatus) -> str:
    from lfadsrm_hpc.cli.status import progress_cells

    epoch, train, valid, left = progress_cells(state)
    parts = [
        f"epoch {epoch}" if epoch else "",
        f"train {train}" if train else "",
        f"valid {valid}" if valid else "",
        f"{left} left" if left and state.progress.get("phase") == "training" else left,
    ]
    return ", ".join(part for part in parts if part)


def report(runs: Sequence[Run], states: Sequence[RunStatus], as_json: bool) -> None:
    """Print how the runs ended.

    Raises
    ------
    SomeRunsFailedError
        Some are not complete.
    """
    if as_json:
        print_json({"runs": [state.to_dict() for state in states]})
    else:
        print_states(runs, states)
    bad = [state for state in states if state.state is not RunState.COMPLETED]
    if bad:
        raise SomeRunsFailedError(
            f"{len(bad)} of {len(states)} runs are not complete: {counts_text(bad)}",
            where=", ".join(state.run_id for state in bad[:5]),
            hint="`lfadsrm why RUN` tells why; `lfadsrm run` tries them again",
        )
