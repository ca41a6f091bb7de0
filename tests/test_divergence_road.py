"""A run whose training diverges says in its log what it does about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection, RunParams, RunSpec
from lfadsrm_hpc.worker import run_task


@pytest.mark.slow
@pytest.mark.train
def test_the_log_tells_of_going_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dc = DatasetCollection(tmp_path / "datasets")
    Dataset.from_arrays(dc, "a", np.random.default_rng(0).poisson(1.0, (25, 9, 6)), bin_ms=10)
    rc = RunCollection(tmp_path / "runs", "exploding", dc)
    small = {"gen_dim": 7, "ic_dim": 4, "ic_enc_dim": 5, "factors_dim": 3, "co_dim": 0, "batch_size": 8}
    exploding = {"learning_rate_init": 1e4, "adam_epsilon": 1e-8, "keep_prob": 1.0}
    rc.add_params(RunParams(spike_bin_ms=10, use_xla="off", max_epochs=3, **small, **exploding))
    rc.add_run_spec(RunSpec("single_a", dc, ["a"]))
    rc.prepare_for_lfads(warn=False)
    run = rc.find_run("single_a")
    assert run_task(rc.path, run.id) == 1
    log = capsys.readouterr().err
    assert log.count("warning: the cost or its gradient was not finite at step") == 3
    assert "with a learning rate of 5000 (1 of at most 3 times)" in log
    assert "error: the cost or its gradient was not finite" in log
