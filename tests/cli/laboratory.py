"""The experiment that the examples of help texts are about: a home folder with `my_experiment` in it.

Sessions day1 to day5 alone, day1 and day2 together (`all`), one of a benchmark. `single_day1` and `all` are
complete, `single_day2` was never tried, `single_day3` failed, `single_day4` was stopped at a checkpoint,
`single_day5` is at work in a process that does nothing. In the trained laboratory results are true.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from lfadsrm_hpc.api import Run, RunCollection
from lfadsrm_hpc.collection.experiment_file import read_experiment
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import CHECKPOINTED, EXIT_CHECKPOINTED, Exit, Identity

FAKE_TASK = Path(__file__).parent / "fake_task.py"
COMPLETE = ("single_day1", "all", "single_mc_maze", "single_mc_rtt")
NEURONS = {"day1": 9, "day2": 8, "day3": 6, "day4": 6, "day5": 6, "mc_maze": 8, "mc_rtt": 8}
# Files beside the experiment, and whose neurons they have.
FURTHER = {
    "day1_afternoon": "day1",
    "new_trials": "day2",
    "day9": "day1",
    "day9_more": "day1",
    "mc_maze_test": "mc_maze",
}
BIN_MS, BINS, TRIALS = 5.0, 12, 48
EXPERIMENT = f"""
[collection]
name = "example"
[datasets]
files = ["day*.npz", "mc_*.npz"]
[params]
spike_bin_ms = {BIN_MS:g}
batch_size = 8
co_dim = 0
gen_dim = 6
ic_dim = 3
ic_enc_dim = 4
held_out_neurons = 0.25
max_epochs = 2
kl_increase_steps = 1
l2_increase_steps = 1
num_samples_posterior = 4
use_xla = "off"
[sweep]
factors_dim = [8]
[run_specs]
specs = [{{ name = "all", datasets = ["day1", "day2"] }}]
[queue]
task_command = {json.dumps([sys.executable, str(FAKE_TASK)])}
poll_s = 0.05
look_s = 0
slots = 4
cpu_cap = 1
use_gpu = false
[cluster]
site = "generic-slurm"
walltime = "1:00:00"
"""


def make(home: Path, fabricated: Any) -> subprocess.Popen[bytes]:
    """Make the home folder, with results of random numbers; return the process that is at work on a run.

    It ends when its standard input is closed.

    Parameters
    ----------
    home : Path
        A folder that is not there yet.
    fabricated : module
        `tests/results/fabricated.py`.
    """
    collection = prepared(home)
    for run in collection.runs:
        spec = run.spec.name
        if spec in COMPLETE:
            fabricated.complete(run, metrics={"co_bps": 0.25, "bits_per_spike": 0.5}, verdict="good")
            _log(run, 1, "the epochs\ndone\n")
        elif spec == "single_day3":
            fabricated.complete(run, code=1)
            _log(run, 1, "something is wrong\n")
        elif spec == "single_day4":
            _begin(run, Exit(EXIT_CHECKPOINTED, CHECKPOINTED))
    return _at_work(collection.find_run("single_day5"))


def make_trained(home: Path) -> None:
    """Make the home folder, and train what is to be complete."""
    collection = prepared(home)
    for run in collection.runs:
        if run.spec.name in COMPLETE:
            assert run.train() == 0


def prepared(home: Path) -> RunCollection:
    folder = home / "my_experiment"
    (folder / "datasets").mkdir(parents=True)
    for name, neurons in NEURONS.items():
        write_session(folder / f"datasets/{name}.npz", name, neurons)
    for name, like in FURTHER.items():
        write_session(folder / f"{name}.npz", like, NEURONS[like], seed=len(name))
    (folder / "experiment.toml").write_text(EXPERIMENT)
    other = EXPERIMENT.replace("co_dim = 0", "co_dim = 2").replace('"example"', '"co_dim"')
    (folder / "co_dim.toml").write_text(other)
    collection = read_experiment(folder).build(RunCollection)
    collection.prepare_for_lfads(warn=False)
    return collection


def write_session(path: Path, name: str, neurons: int, seed: int = 0) -> None:
    """Write a session of four conditions whose neurons all sessions' conditions drive alike."""
    rng = np.random.default_rng([seed, neurons])
    condition = np.arange(TRIALS) % 4
    course = np.sin(np.arange(BINS) / 3 + condition[:, None])[:, :, None] * np.linspace(0.5, 1, neurons)
    np.savez(
        path,
        spikes=rng.poisson(np.exp(course - 0.5)),
        bin_ms=BIN_MS,
        condition=condition,
        neuron_names=np.array([f"{name}_{n}" for n in range(neurons)]),
    )


def _at_work(run: Run) -> subprocess.Popen[bytes]:
    """Let a process claim a run: not this one, which `lfadsrm cancel` would end."""
    words = [sys.executable, __file__, str(run.collection.path), run.id]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline(), "it has not begun"
    return process


def _begin(run: Run, end: Exit | None) -> None:
    claim = store.take_local(run.layout, Identity.local("", 0))
    assert not isinstance(claim, store.AlreadyComplete)
    store.heartbeat(run.layout, claim, phase="training", epoch=1, max_epochs=2, eta_s=60.0)
    _log(run, claim.attempt, "the first epoch\n")
    if end is not None:
        store.publish_exit(run.layout, claim, end)


def _log(run: Run, attempt: int, text: str) -> None:
    run.layout.attempt(attempt).log.write_text(text)


if __name__ == "__main__":
    _begin(RunCollection.open(sys.argv[1]).run_by_id(sys.argv[2]), None)
    print("begun", flush=True)
    sys.stdin.read()
