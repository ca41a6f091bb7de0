"""Small datasets in memory, and a collection made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.collection.collection import RunCollection
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.dataset_collection import DatasetCollection


def counts(seed: int, n_trials: int = 20, n_bins: int = 10, n_neurons: int = 4) -> Any:
    return np.random.default_rng(seed).poisson(0.5, (n_trials, n_bins, n_neurons))


def add_dataset(dc: DatasetCollection, name: str, seed: int = 0, **others: Any) -> Dataset:
    spikes = counts(seed, **{k: others.pop(k) for k in ("n_trials", "n_neurons") if k in others})
    condition = np.arange(len(spikes)) % 4
    return Dataset.from_arrays(dc, name, spikes, bin_ms=2, **{"condition": condition, **others})


@pytest.fixture
def datasets(tmp_path: Path) -> DatasetCollection:
    dc = DatasetCollection(tmp_path / "datasets", name="lorenz_example")
    for i in range(3):
        add_dataset(dc, f"dataset{i + 1:03d}", seed=i, n_neurons=4 + i)
    return dc


@pytest.fixture
def base() -> RunParams:
    return RunParams(spike_bin_ms=2, co_dim=0, batch_size=4, gen_dim=8, ic_enc_dim=8, learning_rate_stop=1e-3)


@pytest.fixture
def collection(tmp_path: Path, datasets: DatasetCollection, base: RunParams) -> RunCollection:
    """Two single runs and a stitched one, each with two numbers of factors; not prepared."""
    rc = RunCollection(tmp_path / "runs", "example", datasets, comment="for tests")
    rc.add_params(base.generate_sweep("factors_dim", [2, 3]))
    rc.add_run_spec([RunSpec(ds.single_run_name, datasets, ds.name) for ds in datasets[:2]])
    rc.add_run_spec(RunSpec("all", datasets, range(3)))
    return rc
