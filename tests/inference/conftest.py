"""A tiny collection, trained once: two sessions together and one alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import xarray as xr

from lfadsrm_hpc import DatasetCollection, RunCollection, RunParams, RunSpec
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.readers import from_arrays

NAMES = {"day1": ["a1", "b1", "c1", "d1", "e1"], "day2": ["a2", "b2", "c2", "d2"]}
BINS, RAW_MS = 16, 5.0  # of 5 ms: 8 bins of 10 ms
PARAMS = RunParams(
    spike_bin_ms=10, co_dim=0, batch_size=8, gen_dim=6, ic_dim=3, ic_enc_dim=4, factors_dim=2, use_xla="off",
    kl_increase_steps=1, l2_increase_steps=1, max_epochs=3, num_samples_posterior=4,
)  # fmt: skip


def make(name: str, neurons: list[str] | int, *, trials: int = 24, seed: int = 0, **more: Any) -> xr.Dataset:
    """A session of counts that follow one of two courses, one a condition."""
    names = [f"n{i:03d}" for i in range(neurons)] if isinstance(neurons, int) else neurons
    rng = np.random.default_rng([seed, len(name), ord(name[-1])])
    weights = np.random.default_rng(len(names)).normal(0, 1, len(names))
    condition = np.arange(trials) % 2
    wave = np.sin(np.arange(BINS) / 3.0 + 2.0 * condition[:, None])
    counts = rng.poisson(np.exp(wave[:, :, None] * weights - 0.5))
    return from_arrays(
        counts, bin_ms=RAW_MS, name=name, condition=condition, neuron_names=names, **{"time": None, **more}
    )


@pytest.fixture(scope="session")
def _trained(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    return made_once("inference-trained", train) / "runs"


def train(folder: Path) -> None:
    dc = DatasetCollection(folder / "datasets")
    for name, neurons in NAMES.items():
        Dataset._from_memory(dc, name, make(name, neurons))
    rc = RunCollection(folder, "runs", dc)
    rc.add_params(PARAMS)
    rc.add_run_spec([RunSpec("both", dc, [0, 1]), RunSpec("alone", dc, [0])])
    rc.prepare_for_lfads(warn=False)
    for run in rc.runs:
        assert run.train() == 0


@pytest.fixture
def trained(_trained: Path, tmp_path: Path) -> RunCollection:
    """The collection with the trained runs `both` (day1, day2) and `alone` (day1), a copy for each test."""
    return RunCollection.open(shutil.copytree(_trained, tmp_path / "runs"))


@pytest.fixture
def kit() -> SimpleNamespace:
    """What tests make sessions and collections of."""
    return SimpleNamespace(
        make=make, everything=everything, names=NAMES, bins=BINS, params=PARAMS, collection=collection
    )


def collection(folder: Path, params: RunParams, *sessions: xr.Dataset) -> RunCollection:
    """A prepared collection of one run, of all sessions together."""
    dc = DatasetCollection(folder / "datasets")
    for session in sessions:
        Dataset._from_memory(dc, session.attrs["name"], session)
    rc = RunCollection(folder, "runs", dc)
    rc.add_params(params)
    rc.add_run_spec(RunSpec("all", dc, range(len(sessions))))
    rc.prepare_for_lfads(warn=False)
    return rc


def everything(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
