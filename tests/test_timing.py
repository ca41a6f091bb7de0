"""`lfadsrm time`: some training steps of a real, tiny run, and what plan makes of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lfadsrm_hpc import timing
from lfadsrm_hpc.api import Run, RunCollection
from lfadsrm_hpc.api.costs import cost_of
from lfadsrm_hpc.cli.time import time
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.manifest.timings import Timing, read_timings
from lfadsrm_hpc.schedulers.resources import JobRequest

pytestmark = pytest.mark.train


@pytest.fixture
def collection(tmp_path: Path) -> RunCollection:
    datasets = DatasetCollection(tmp_path / "datasets")
    rng = np.random.default_rng(0)
    Dataset.from_arrays(datasets, "day1", rng.poisson(0.5, (40, 20, 6)), bin_ms=10)
    collection = RunCollection(tmp_path, "runs", datasets)
    params = RunParams(
        spike_bin_ms=10, co_dim=0, batch_size=8, ic_enc_dim=8, gen_dim=8, ic_dim=8, num_samples_posterior=4,
        max_epochs=500, use_xla="off",
    )  # fmt: skip
    collection.add_params(params.generate_sweep("gen_dim", [8, 32]))
    collection.add_run_spec(RunSpec("day1", datasets, ["day1"]))
    collection.prepare_for_lfads()
    return collection


def test_some_steps_and_some_trials_are_timed(collection: RunCollection) -> None:
    run = collection.find_run(gen_dim=8)
    found = timing.time_run(run, seconds=0)
    assert found == read_timings(collection.layout)[0]
    assert found.run_id == run.id
    assert not found.on_gpu
    assert found.seconds_per_epoch > 0
    assert found.start_s > 0
    assert found.sampling_s is not None
    assert found.sampling_s > 0
    assert not run.layout.checkpoints.exists()


@pytest.mark.slow
def test_the_largest_run_is_timed_and_left_alone(collection: RunCollection) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lfadsrm_hpc", "time", str(collection.path), "--seconds", "1", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)["timing"]
    small, large = (collection.find_run(gen_dim=n) for n in (8, 32))
    assert told["run_id"] == large.id
    assert told["device"].startswith("cpu, ")
    assert told["seconds_per_epoch"] > 0
    assert told["start_s"] > 0.1
    assert told["peak_memory_mb"] > 100
    assert [run.status().attempt for run in collection.runs] == [None, None]
    assert not large.layout.checkpoints.exists()

    request = JobRequest(36000, gpus=1, memory_mb=8000)
    opened = RunCollection.open(collection.path)
    cost = cost_of(opened, {run.id: request for run in opened.runs}, states={})
    assert large.id in cost.basis
    epochs = 500 * told["seconds_per_epoch"]
    assert cost.expected_s[large.id] == pytest.approx(epochs + told["start_s"] + told["sampling_s"])
    assert cost.expected_s[small.id] < cost.expected_s[large.id]
    assert cost.memory_fits is True
    assert cost.gpu_hours == pytest.approx(sum(cost.expected_s.values()) / 3600)


def test_the_command_tells_what_was_measured(
    collection: RunCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def timed(run: Run, seconds: float) -> Timing:
        asked.append((run.id, seconds))
        return Timing(run.id, "node7", "NVIDIA A100", 1.5, 30.25, 12.0, 2048.0)

    monkeypatch.setattr(timing, "time_run", timed)
    said = CliRunner().invoke(time, [str(collection.path), "--seconds", "3"])
    assert said.exit_code == 0, said.output
    assert asked == [(collection.find_run(gen_dim=32).id, 3.0)], "the largest"
    assert f"{asked[0][0]} on node7 (NVIDIA A100)" in said.stdout
    for what in ("1.50 s", "30.2 s", "12.0 s", "2048 MiB"):
        assert what in said.stdout
