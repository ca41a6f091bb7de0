"""Runs that start from another run's model: through the worker, stopped, resumed, and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection, RunParams, RunSpec
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.model.training import checkpoints
from lfadsrm_hpc.model.training import loop as training
from lfadsrm_hpc.stopping import StopFlag

pytestmark = [pytest.mark.train, pytest.mark.slow]

PARAMS = RunParams(
    spike_bin_ms=10, co_dim=0, batch_size=8, gen_dim=6, ic_dim=3, ic_enc_dim=4, factors_dim=2, use_xla="off",
    kl_increase_steps=1, l2_increase_steps=1, max_epochs=4, num_samples_posterior=4,
)  # fmt: skip


def collection(root: Path, *params: RunParams) -> RunCollection:
    dc = DatasetCollection(root / "datasets")
    Dataset.from_arrays(dc, "day1", np.random.default_rng(0).poisson(0.7, (20, 8, 5)), bin_ms=10)
    rc = RunCollection(root, "runs", dc)
    rc.add_params([PARAMS, *params])
    rc.add_run_spec(RunSpec("single_day1", dc, [0]))
    rc.prepare_for_lfads(warn=False)
    return rc


def newest(run: Any) -> checkpoints.Checkpoint:
    return checkpoints.load(run.layout.checkpoint_dirs()[0][2])


def test_train_stop_and_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source_id = f"param_{PARAMS.param_hash}/single_day1"
    further = PARAMS.replace(start_from=source_id, do_train_encoder_only=True, do_reset_learning_rate=True)
    rc = collection(tmp_path, further)
    source, run = rc.find_run(params=PARAMS), rc.find_run(params=further)
    assert run.train() == 1
    (status,) = rc.status([run], rescan=True)
    assert status.state is RunState.FAILED
    assert "not trained yet" in status.message
    assert f"lfadsrm run {rc.path} --spec single_day1" in status.message
    assert source.train() == 0

    monkeypatch.setattr(training, "SLICE_SECONDS", 0.0)
    asked = iter(range(100))
    with monkeypatch.context() as stopping:
        stopping.setattr(StopFlag, "__call__", lambda self: next(asked) >= 4)
        assert run.train() == 75
    assert newest(run).meta["reason"] is None
    assert run.train() == 0
    checkpoint = newest(run)
    assert len(run.layout.checkpoint_dirs()) == 2
    assert checkpoint.meta["started_from"]["path"] == str(source.layout.checkpoint_dirs()[0][2])

    before = checkpoints.trained(source.layout.checkpoint_dirs()[0][2])
    assert checkpoint.meta["started_from"]["fingerprint"] == before.fingerprint
    for name, value in checkpoint.group("latest").items():
        assert np.array_equal(value, before.params[name]) == (name.split("/")[0] not in ("ic_enc", "ic"))

    again = RunCollection.open(rc.path)  # undisturbed, in a place of its own
    other = collection(tmp_path / "undisturbed", further.replace(start_from=str(source.path)))
    twin = other.find_run(params=further.replace(start_from=str(source.path)))
    assert twin.train() == 0
    a, b = newest(run), newest(twin)
    for name, value in a.arrays.items():
        np.testing.assert_array_equal(value, b.arrays[name], err_msg=name)
    with again.run_by_id(run.id).load_posterior_means() as one, twin.load_posterior_means() as two:
        for name in one.data_vars:
            np.testing.assert_array_equal(one[name].values, two[name].values, err_msg=name)


def test_a_source_whose_checkpoint_was_deleted(tmp_path: Path) -> None:
    further = PARAMS.replace(start_from=f"param_{PARAMS.param_hash}/single_day1")
    rc = collection(tmp_path, further)
    source, run = rc.find_run(params=PARAMS), rc.find_run(params=further)
    assert source.train() == 0
    rc.clean(rc.removable([source], kinds=["last-checkpoint", "checkpoints"]))
    assert run.train() == 1
    (status,) = rc.status([run], rescan=True)
    assert f"{source.id}, whose last checkpoint was deleted" in status.message
    assert "clean --restart" in status.message
