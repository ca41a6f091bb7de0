"""Continuous data with an external input and inferred inputs, from arrays to loaded posterior means."""

from pathlib import Path

import numpy as np
import pytest

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection, RunParams, RunSpec


@pytest.mark.slow
@pytest.mark.train
def test_gaussian_outputs_are_in_the_units_of_the_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wave = 50.0 + 5.0 * np.sin(np.arange(12) / 2.0)
    data = wave[None, :, None] + rng.normal(0, 1, (40, 12, 5))
    dc = DatasetCollection(tmp_path / "datasets")
    Dataset.from_arrays(dc, "lfp", data, bin_ms=10, external_input=rng.normal(size=(40, 12, 1)))
    rc = RunCollection(tmp_path / "runs", "gaussian", dc)
    small = {"gen_dim": 8, "ic_dim": 4, "ic_enc_dim": 6, "ci_enc_dim": 6, "con_dim": 6, "factors_dim": 3}
    rc.add_params(
        RunParams(
            output_dist="gaussian",
            spike_bin_ms=10,
            co_dim=1,
            ext_input_dim=1,
            batch_size=16,
            max_epochs=5,
            num_samples_posterior=4,
            use_xla="off",
            **small,
        )
    )
    rc.add_run_spec(RunSpec("single_lfp", dc, ["lfp"]))
    rc.prepare_for_lfads(warn=False)
    run = rc.find_run("single_lfp")
    assert run.train() == 0
    with run.load_posterior_means() as means:
        assert "rates" not in means
        assert means.output_mean.shape == means.output_var.shape == (40, 12, 5)
        assert means.controller_outputs.shape == (40, 12, 1)
        assert abs(float(means.output_mean.mean()) - 50.0) < 3.0
        assert float(means.output_var.min()) > 0
        assert means.output_mean.attrs["units"] != "spikes/s"
