"""A real training in the script of a job: warned, out of time, started again, complete."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection, RunParams, RunSpec
from lfadsrm_hpc.api import Run
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.submissions import Plan, PlannedChunk, PlannedTask, write_plan
from lfadsrm_hpc.schedulers.resources import JobRequest
from lfadsrm_hpc.schedulers.scripts import render_chunk
from lfadsrm_hpc.schedulers.sites.loading import load_site

pytestmark = [pytest.mark.slow, pytest.mark.train]

ROOT = Path(__file__).resolve().parents[2]
ULID = "01J9ZK3V5Q8N7M2C4B6A1D0E9F"
PATIENCE_S = 180.0


@pytest.fixture
def run(tmp_path: Path) -> Run:
    dc = DatasetCollection(tmp_path / "datasets")
    Dataset.from_arrays(dc, "day1", np.random.default_rng(0).poisson(0.7, (20, 8, 5)), bin_ms=10)
    rc = RunCollection(tmp_path, "runs", dc)
    rc.add_params(
        RunParams(
            spike_bin_ms=10, co_dim=0, batch_size=8, gen_dim=6, ic_dim=3, ic_enc_dim=4, factors_dim=2,
            use_xla="off", max_epochs=1500, num_samples_posterior=4, learning_rate_stop=1e-9,
        )
    )  # fmt: skip
    rc.add_run_spec(RunSpec("it's $(one)", dc, [0]))
    rc.prepare_for_lfads(warn=False)
    return rc.runs[0]


def submit(run: Run, walltime_s: int) -> Path:
    """Reserve the run and write what a scheduler gets: an array of two, of which it is the second."""
    layout = run.collection.layout
    submission = layout.submission(ULID)
    site = load_site("generic-slurm").site
    chunk = PlannedChunk(0, "lfTESTTESTTE0", 2)
    plan = Plan(ULID, "slurm", site.name, chunks=(chunk,))
    tasks = [PlannedTask(0, 1, run.id, store.reserve(run.layout, ULID))]
    scripts = render_chunk(
        layout, submission, plan, chunk, tasks, site, JobRequest(walltime_s), titles={}, gpu_memory_mb={}
    )
    write_plan(submission, plan, tasks, scripts)
    return submission.script(0)


def start(script: Path) -> subprocess.Popen[bytes]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LFADSRM_", "CUDA_", "OMP_", "TF_"))}
    job = {"SLURM_ARRAY_JOB_ID": "41", "SLURM_JOB_ID": "42", "SLURM_ARRAY_TASK_ID": "1"}
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH", "")]))
    with (script.parent / "output" / "41_1.txt").open("ab") as output:
        return subprocess.Popen(
            ["bash", str(script)],
            env={**kept, **job, "PYTHONPATH": path, "SLURM_CPUS_PER_TASK": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


def wait_for_training(run: Run, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE_S
    while run.status().progress.get("phase") != "training":
        assert process.poll() is None, run.log_path().read_text()
        assert time.monotonic() < end, "no training in sight"
        time.sleep(0.05)


def test_a_training_is_warned_runs_out_of_time_and_completes(run: Run) -> None:
    script = submit(run, 3600)
    job = start(script)
    wait_for_training(run, job)
    job.send_signal(12)  # USR2, to the script alone, as Slurm's --signal=B:USR2@... does
    assert job.wait(PATIENCE_S) == 75
    status = run.status()
    # An hour before its time is over: somebody asked.
    assert (status.state, status.reason, status.signal) == (RunState.PREEMPTED, "checkpointed", 12)
    assert status.claim is not None
    assert status.claim.identity == Identity("generic-slurm", "41", "1", ULID)

    text = script.read_text()
    late = text.replace("+ 3600 - 300", "- 1")
    assert late != text
    script.write_text(late)
    assert start(script).wait(PATIENCE_S) == 75
    assert (run.status().state, run.status().reason, run.status().incarnation) == (
        RunState.TIMEOUT, "timeout", 1,
    )  # fmt: skip

    script.write_text(text)
    assert start(script).wait(PATIENCE_S) == 0
    status = run.status()
    assert (status.state, status.attempt, status.incarnation) == (RunState.COMPLETED, 1, 2)
    log = run.log_path().read_text()
    assert log.count("job 41, task 1 on") == 3
    assert "resumes from 001.r0" in log
    assert not list((script.parent / "output").iterdir())
    with run.load_posterior_means() as means:
        assert np.isfinite(means["rates"].values).all()
    assert start(script).wait(PATIENCE_S) == 0, "complete: nothing is left to do"
