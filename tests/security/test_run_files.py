"""Files of a run that are no files, or lead elsewhere: what looks at a run, and at what is left, ends."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import hostile
import pytest

from lfadsrm_hpc import RunCollection
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.layout import RunLayout
from lfadsrm_hpc.model.training.checkpoints import newest
from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means


@pytest.fixture(scope="module")
def whole(fabricated: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    rc = fabricated.collection(root, [RunParams(**fabricated.BASE)], specs={"single_day1": ["day1"]})
    (run,) = rc.runs
    fabricated.complete(run, metrics={"co_bps": 0.3}, verdict="good")
    run.layout.attempt(1).log.write_text("epoch 1\n")
    return Path(rc.path)


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> RunLayout:
    shutil.copytree(whole.parent.parent, tmp_path / "in")
    (found,) = RunCollection.open(tmp_path / "in" / whole.relative_to(whole.parent.parent)).runs
    return found.layout


def looking(run: RunLayout) -> list[tuple[object, ...]]:
    place = ("-C", run.collection.path)
    return [
        ("why", "single_day1", *place),
        ("logs", "single_day1", *place),
        ("logs", "-f", "single_day1", *place),
        ("peek", "single_day1", *place),
        ("clean", run.collection.path, "--dry-run"),
    ]


def victims(run: RunLayout) -> dict[str, Path]:
    return {
        "log": run.attempt(1).log,
        "params": run.params_json,
        "means": run.posterior_means("day1"),
        "inputs": next(run.collection.path.glob("data_*/*/*.h5")),
        "collection": run.collection.collection_json,
    }


@pytest.mark.parametrize("victim", ["log", "params", "means", "inputs", "collection"])
def test_a_pipe_in_the_place_of_a_file(run: RunLayout, victim: str) -> None:
    path = victims(run)[victim]
    path.unlink()
    os.mkfifo(path)
    hostile.check(hostile.outcome(looking(run)))


def test_a_pipe_in_the_place_of_a_checkpoint(run: RunLayout) -> None:
    folder = run.checkpoints / "001.r0"
    folder.mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / "checkpoint-000000000009.npz")
    hostile.check(hostile.outcome(looking(run)))
    assert newest(folder) is None


@pytest.mark.parametrize("name", ["trial", "split", "neuron_name", "rates"])
def test_posterior_means_that_are_stored_elsewhere(run: RunLayout, name: str) -> None:
    path = run.posterior_means("day1")
    os.mkfifo(path.parent / "pipe")
    with h5py.File(path, "r+") as file:
        shape, kind = file[name].shape, "i8"
        del file[name]
        file.create_dataset(name, shape, kind, external=[(path.parent / "pipe", 0, h5py.h5f.UNLIMITED)])
    hostile.check(hostile.outcome(looking(run)[3:4]))
    with pytest.raises(ResultsError, match="no array of this file"):
        open_posterior_means(path)[name].to_numpy()
