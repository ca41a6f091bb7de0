"""Stitched runs with sessions that do not fit the mould, from arrays to loaded posterior means."""

from pathlib import Path

import numpy as np
import pytest

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection, RunParams, RunSpec
from lfadsrm_hpc.errors import DataWarning


@pytest.mark.slow
@pytest.mark.train
def test_sessions_that_lack_conditions_are_trained_with_the_rest(tmp_path: Path) -> None:
    """Two share conditions with a third alone, one has none: all come out, at the rates that they have."""
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((6, 20, 2)).cumsum(axis=1)
    dc = DatasetCollection(tmp_path / "datasets")
    for index, kept in enumerate(([0, 1, 2], [2, 3], [3, 4, 5], [0, 1])):
        rates = 0.8 * np.exp(0.15 * latent @ rng.standard_normal((2, 4 + index)))
        condition = np.array(kept)[np.arange(30) % len(kept)]
        Dataset.from_arrays(
            dc,
            f"day{index}",
            rng.poisson(rates[condition]),
            bin_ms=10,
            condition=condition if index < 3 else None,
        )
    rc = RunCollection(tmp_path / "runs", "stitched", dc)
    small = {"gen_dim": 8, "ic_dim": 4, "ic_enc_dim": 6, "factors_dim": 3, "co_dim": 0}
    params = RunParams(
        spike_bin_ms=10, batch_size=8, max_epochs=3, num_samples_posterior=4, use_xla="off", **small
    )
    rc.add_params([params.replace(alignment_without_conditions=how) for how in ("pca", "random")])
    rc.add_run_spec(RunSpec("all", dc, range(4)))
    with pytest.warns(DataWarning, match="day3"):
        rc.prepare_for_lfads(silence=["few_shared_conditions"])
    for run in rc.runs:
        assert run.alignment_table().conditions.tolist() == [3, 2, 3, 0]
        assert run.train() == 0
        for index in range(4):
            with run.load_posterior_means(f"day{index}") as means:
                counts = dc[index].load().spikes.values
                assert means.rates.shape == counts.shape
                # read-outs started at the log of mean counts, so even three epochs are about right
                ratio = means.rates.mean(("trial", "time")).values / (counts.mean(axis=(0, 1)) / 0.01)
                assert 0.6 < ratio.min() < ratio.max() < 1.6
