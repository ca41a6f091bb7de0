"""After `clean` has deleted results or the last checkpoint: each command says so, and names what works."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.api import Run, RunCollection
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.deleted import Deleted, can_be_sampled, deleted_of
from lfadsrm_hpc.manifest.records import Identity

sys.path.insert(0, str(Path(__file__).parents[1] / "results"))
from made_up_runs import build

SAMPLE, TRAIN = "lfadsrm run --posterior-only", "clean --restart"
OLD, LAST = "checkpoint-000000000020.npz", "checkpoint-000000000024-best.npz"


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("made_up") / "runs", sweep=False).path


@pytest.fixture
def collection(_made: Path, tmp_path: Path) -> RunCollection:
    """Return a collection whose two runs are complete, each with a last checkpoint and an older one."""
    opened = RunCollection.open(shutil.copytree(_made, tmp_path / "reaching"))
    for run in opened.runs:
        folder = run.layout.checkpoint_dir(1, 0)
        folder.mkdir(exist_ok=True)
        for name in (OLD, LAST):
            (folder / name).write_bytes(b"")
        claim = store.read_claim(run.layout.attempt(1), 0)
        assert claim is not None
        store.heartbeat(run.layout, claim, epoch=6, step=24)
    return opened


@pytest.fixture
def run(collection: RunCollection) -> Run:
    return collection.find_run("single_day1")


def delete_means(run: Run) -> None:
    for path in run.posterior_files().values():
        path.unlink()


def delete_model(run: Run) -> None:
    (run.layout.checkpoint_dir(1, 0) / LAST).unlink()


def test_what_is_gone(run: Run) -> None:
    assert deleted_of(run.layout, run.dataset_names) == Deleted()
    delete_means(run)
    assert deleted_of(run.layout, run.dataset_names) == Deleted(means=("day1",))
    assert can_be_sampled(run.layout)
    delete_model(run)
    assert deleted_of(run.layout, run.dataset_names) == Deleted(True, ("day1",))
    assert not can_be_sampled(run.layout), "the older checkpoint is not the end of the training"
    (run.layout.checkpoint_dir(1, 0) / OLD).unlink()
    assert not can_be_sampled(run.layout)
    store.take_local(run.layout, Identity.local("", 0), redo=True)
    assert deleted_of(run.layout, run.dataset_names) is None, "it is being made again"


@pytest.mark.parametrize("model", [False, True])
def test_commands_about_one_run_name_what_works(
    collection: RunCollection, run: Run, call: Any, tmp_path: Path, *, model: bool
) -> None:
    delete_means(run)
    if model:
        delete_model(run)
    right, wrong = (TRAIN, SAMPLE) if model else (SAMPLE, TRAIN)
    where = ("-C", collection.path)
    for words, code in (
        (("peek", "single_day1", *where), 0),
        (("show", collection.path, "--run", "single_day1"), 0),
        (("plot", run.id, "averages", *where, "--out", tmp_path / "a.pdf"), 1),
        (("export", tmp_path / "all.nc", *where), 1),
        (("run", collection.path), 4),
    ):
        said = call(*words)
        text = " ".join((said.out + said.err).replace("-\n", "-").split())
        assert said.code == code, said.err
        assert "deleted (`lfadsrm clean`" in text, words
        assert right in text, words
        assert wrong not in text, words
        assert "yet" not in text, words
    found = call("why", "single_day1", *where, "--json").json
    assert any("day1 were deleted" in one["says"] for one in found["evidence"])
    assert found["next"]["command"][1:2] == (["clean"] if model else ["run"])
    assert found["next"]["command"][-1] == ("--restart" if model else "--posterior-only")


def test_runs_that_cannot_be_sampled_are_left_out(collection: RunCollection, run: Run, call: Any) -> None:
    other = collection.find_run("stitched")
    delete_model(run)
    said = call("run", collection.path, "--posterior-only", "--dry-run")
    assert (said.code, said.out) == (0, f"{other.id}\n")
    assert "left out: the last checkpoint of 1 complete run was deleted" in said.err
    assert [one.id for one in collection._to_do(_Sampling())] == [other.id]
    delete_model(other)
    said = call("run", collection.path, "--posterior-only")
    assert said.code == 4
    assert "the last checkpoint of 2 complete runs was deleted" in said.err
    assert TRAIN in said.err
    for one in collection.runs:
        shutil.rmtree(one.layout.attempts_dir)
        shutil.rmtree(one.layout.checkpoints)
    said = call("run", collection.path, "--posterior-only")
    assert (said.code, "no run has been trained yet" in said.err) == (4, True)


class _Sampling:
    posterior_only = True
