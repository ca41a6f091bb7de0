"""Negative binomial and gamma outputs with sample validation, from arrays to loaded posterior means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection, RunParams, RunSpec
from lfadsrm_hpc.errors import DataError

DISTS = ("negative_binomial", "gamma", "zero_inflated_gamma")


def collection(tmp_path: Path, data: np.ndarray, *dists: str) -> RunCollection:
    dc = DatasetCollection(tmp_path / "datasets")
    Dataset.from_arrays(dc, "a", data, bin_ms=10)
    rc = RunCollection(tmp_path / "runs", "dists", dc)
    small = {"gen_dim": 8, "ic_dim": 4, "ic_enc_dim": 6, "factors_dim": 3, "co_dim": 0, "batch_size": 16}
    base = RunParams(
        spike_bin_ms=10,
        sample_validation_rate=0.2,
        max_epochs=3,
        num_samples_posterior=4,
        use_xla="off",
        **small,
    )
    rc.add_params([base.replace(output_dist=dist) for dist in dists])
    rc.add_run_spec(RunSpec("single_a", dc, ["a"]))
    return rc


@pytest.mark.slow
@pytest.mark.train
def test_each_distribution_the_whole_way(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = 1 + rng.poisson(np.exp(np.sin(np.arange(12) / 2))[None, :, None], (40, 12, 5))
    rc = collection(tmp_path, data, *DISTS)
    rc.prepare_for_lfads(warn=False)
    for run in rc.runs:
        assert run.train() == 0
        log = run.load_fit_log()
        assert log[["train_sv_recon", "valid_sv_recon"]].notna().all(axis=None)
        with run.load_posterior_means() as means:
            if run.params.output_dist == "negative_binomial":
                assert "output_mean" not in means
                assert abs(float(means.rates.mean()) / 100 - data.mean()) < 0.5
            else:
                assert "rates" not in means
                assert abs(float(means.output_mean.mean()) - data.mean()) < 0.5
                assert float(means.output_var.min()) > 0


@pytest.mark.parametrize(
    ("dist", "value", "message"),
    [
        ("gamma", 0.0, r"(?s)not above 0, 0.*trial 3 .*'n001', bin 2 .*zero_inflated_gamma"),
        ("zero_inflated_gamma", -1.5, r"(?s)a negative value, -1\.5.*gaussian"),
        ("negative_binomial", 1.5, r"(?s)a fractional spike count, 1\.5.*gaussian"),
    ],
)
def test_what_a_distribution_cannot_produce_is_refused(
    tmp_path: Path, dist: str, value: float, message: str
) -> None:
    data = np.ones((40, 12, 5))
    data[3, 2, 1] = value
    with pytest.raises(DataError, match=message):
        collection(tmp_path, data, dist).prepare_for_lfads(warn=False)
