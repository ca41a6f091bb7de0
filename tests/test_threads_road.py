"""A run goes on with as many threads as it began with: the last bits of its sums depend on their number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection, RunParams, RunSpec
from lfadsrm_hpc.model import backend
from lfadsrm_hpc.model.training import checkpoints
from lfadsrm_hpc.model.training import loop as training
from lfadsrm_hpc.stopping import StopFlag

pytestmark = [pytest.mark.train, pytest.mark.slow]


def test_the_number_of_threads_outlives_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dc = DatasetCollection(tmp_path / "datasets")
    Dataset.from_arrays(dc, "day1", np.random.default_rng(0).poisson(0.7, (20, 8, 5)), bin_ms=10)
    rc = RunCollection(tmp_path, "runs", dc)
    rc.add_params(
        RunParams(
            spike_bin_ms=10, co_dim=0, batch_size=8, gen_dim=6, ic_dim=3, ic_enc_dim=4, factors_dim=2,
            use_xla="off", max_epochs=4, num_samples_posterior=4,
        )
    )  # fmt: skip
    rc.add_run_spec(RunSpec("single_day1", dc, [0]))
    rc.prepare_for_lfads(warn=False)
    run = rc.runs[0]
    monkeypatch.setattr(training, "SLICE_SECONDS", 0.0)
    asked = iter(range(100))
    with monkeypatch.context() as stopping:
        stopping.setattr(StopFlag, "__call__", lambda self: next(asked) >= 4)
        assert run.train() == 75
    assert checkpoints.threads_of(run.layout.checkpoint_dirs()[0][2]) == backend.threads()

    other = backend.threads() + 1
    command = [sys.executable, "-m", "lfadsrm_hpc", "task", "--collection", str(rc.path), "--run", run.id]
    done = subprocess.run(command, env={**os.environ, "LFADSRM_THREADS": str(other)}, check=False)
    assert done.returncode == 0
    folders = [folder for _, _, folder in run.layout.checkpoint_dirs()]
    assert len(folders) == 2
    assert [checkpoints.threads_of(folder) for folder in folders] == [backend.threads()] * 2
    assert f"goes on with {backend.threads()} threads" in run.log_path().read_text()
