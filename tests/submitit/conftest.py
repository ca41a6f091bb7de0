"""A prepared collection of tiny runs, the environment of submitit's jobs, and the fake PBS of `tests/pbs`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection, RunParams, RunSpec
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.submitit_plugin.pbs import PbsInfoWatcher, PbsJob

TESTS = Path(__file__).resolve().parents[1]
TINY = RunParams(
    spike_bin_ms=10, co_dim=0, batch_size=8, gen_dim=6, ic_dim=3, ic_enc_dim=4, factors_dim=2, use_xla="off",
    kl_increase_steps=1, l2_increase_steps=1, max_epochs=4, num_samples_posterior=4,
)  # fmt: skip
LONG = TINY.replace(max_epochs=900)  # some seconds, so that it can be interrupted


class Helpers:
    """What several modules of these tests use."""

    @staticmethod
    def until(true: Callable[[], Any], seconds: float = 90.0) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := true():
                return value
            time.sleep(0.1)
        raise AssertionError(f"waited {seconds} s in vain")

    @staticmethod
    def same_bits(run: Any, other: Any) -> None:
        mine, others = run.load_posterior_means(), other.load_posterior_means()
        assert set(mine.variables) == set(others.variables)
        for name in mine.variables:
            np.testing.assert_array_equal(mine[name].values, others[name].values, err_msg=str(name))

    @staticmethod
    def state(run: Any) -> Any:
        return run.collection.status([run])[0].state

    @staticmethod
    def incarnation(run: Any, attempt: int, number: int) -> Any:
        """Return the facts of one incarnation."""
        attempts = store.read_facts(run.layout).attempts
        return next(one for one in attempts if one.number == attempt).incarnations[number]


@pytest.fixture
def helpers() -> type[Helpers]:
    return Helpers


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, no GPU; nothing of a submitit or cluster that these tests may run in."""
    for name in list(os.environ):
        if name.startswith(("LFADSRM_", "SUBMITIT_", "PBS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LFADSRM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("submitit")
    sessions = DatasetCollection(folder / "datasets")
    counts = np.random.default_rng(0).poisson(0.7, (20, 8, 5))
    Dataset.from_arrays(sessions, "day1", counts, bin_ms=10)
    collection = RunCollection(folder, "runs", sessions)
    collection.add_params([TINY, TINY.replace(factors_dim=3), LONG])
    collection.add_run_spec(RunSpec("single_day1", sessions, [0]))
    collection.prepare_for_lfads(warn=False)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "my experiment"


@pytest.fixture
def collection(_prepared: Path, place: Path) -> RunCollection:
    """Return a collection of two short runs and a longer one, nothing run yet."""
    shutil.copytree(_prepared, place)
    return RunCollection.open(place / "runs")


@pytest.fixture
def short(collection: RunCollection) -> list[Any]:
    return [run for run in collection.runs if run.params.max_epochs == TINY.max_epochs]


@pytest.fixture
def long(collection: RunCollection) -> Any:
    return longer(collection)


def longer(collection: RunCollection) -> Any:
    return next(run for run in collection.runs if run.params.max_epochs == LONG.max_epochs)


@pytest.fixture(scope="session")
def undisturbed(_prepared: Path, made_once: Callable[[str, Callable[[Path], None]], Path]) -> Any:
    """Return the longer run, trained at one go."""

    def train(folder: Path) -> None:
        collection = RunCollection.open(shutil.copytree(_prepared, folder) / "runs")
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setenv("LFADSRM_THREADS", "1")
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
            assert longer(collection).train() == 0

    return longer(RunCollection.open(made_once("submitit-undisturbed", train) / "runs"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return submitit's own folder."""
    return tmp_path / "submitit's own"


_spec = importlib.util.spec_from_file_location("pbs_conftest", TESTS / "pbs" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_pbs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_pbs)


@pytest.fixture
def pbspro(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A fake PBS Pro whose jobs train with one thread; nothing is known of another fake's ids."""
    monkeypatch.setattr(PbsJob, "watcher", PbsInfoWatcher())
    settings = {"LFADSRM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with _pbs.fake_pbs(tmp_path / "pbs", "pbspro", monkeypatch, job_environment=settings) as server:
        yield server
