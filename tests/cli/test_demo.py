"""`lfadsrm demo`: what it builds, scores and says, over results that are made up; and once with real ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.api import Run, RunCollection
from lfadsrm_hpc.cli import demo
from lfadsrm_hpc.manifest.states import RunState


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo.SIZES, "quick", (4, 3))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, fabricated: Any) -> list[str]:
    """Let runs that are started be complete at once; return their ids, in the order of the starts."""
    started: list[str] = []

    def run_local(self: RunCollection, runs: Sequence[Run], on_update: Any = None, **more: Any) -> Any:
        assert more == {"slots": 2}
        for run in runs:
            fabricated.complete(run)
            started.append(run.id)
        return self.status(runs)

    monkeypatch.setattr(RunCollection, "run_local", run_local)
    return started


def test_two_sessions_alone_and_together(call: Any, tmp_path: Path, trained: list[str]) -> None:
    words = ["demo", "--dir", tmp_path / "new", "--size", "quick", "--sessions", 2, "--factors", "2,3"]
    said = call(*words, "--slots", 2)
    assert said.code == 0, said.err
    assert len(trained) == 6
    rows = [line.split() for line in said.out.splitlines()]
    specs = ("single_dataset001", "single_dataset002", "stitched_all")
    assert {tuple(row[:2]) for row in rows[1:7]} == {(spec, n) for spec in specs for n in "23"}
    (smoothed,) = (row for row in rows if row[:2] == ["smoothed", "spikes,"])
    assert 0 < float(smoothed[-2]) < 1, "made-up rates are no measure; smoothed spikes are real ones"
    files = re.findall(r"^  (\S+\.nc)$", said.out, re.MULTILINE)
    assert len(files) == 2 * (1 + 1 + 2)
    assert all(Path(file).is_file() for file in files)
    assert (tmp_path / "new/demo/figures/demo.png").stat().st_size > 1000
    lines = said.out.partition("Load them in Python:\n")[2]
    names: dict[str, Any] = {}
    exec("\n".join(line.strip() for line in lines.splitlines()), names)
    assert names["pm"].rates.sizes["trial"] == 24 * 4
    names["pm"].close()


def test_again_it_trains_nothing_and_tells_the_same(call: Any, tmp_path: Path, trained: list[str]) -> None:
    words = ["demo", "--dir", tmp_path, "--size", "quick", "--sessions", 1, "--factors", 2, "--slots", 2]
    first, again = (call(*words, "--json") for _ in range(2))
    assert (first.code, again.code) == (0, 0)
    (run,) = first.json["runs"]
    assert trained == [run["run_id"]]
    assert run["spec"] == "single_dataset001"
    assert run["params"]["factors_dim"] == 2
    assert Path(first.json["figure"]).is_file()
    for name in ("collection", "runs", "smoothed", "figure"):
        assert again.json[name] == first.json[name]
    assert "Training" in first.err
    assert "Training" not in again.err


def test_a_run_that_fails_is_named(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fabricated: Any
) -> None:
    def run_local(self: RunCollection, runs: Sequence[Run], on_update: Any = None) -> Any:
        for number, run in enumerate(runs):
            fabricated.complete(run, code=number)
        return self.status(runs)

    monkeypatch.setattr(RunCollection, "run_local", run_local)
    said = call("demo", "--dir", tmp_path, "--size", "quick", "--sessions", 1, "--factors", "2,3")
    assert said.code == 5
    assert "1 run did not complete" in said.err
    (failed,) = (
        run for run in RunCollection.open(tmp_path / "demo").runs if run.status().state is RunState.FAILED
    )
    assert failed.id in said.err


@pytest.mark.parametrize("factors", ["", "4,", "four", "0", "2,-1"])
def test_numbers_of_factors_that_are_none(call: Any, tmp_path: Path, factors: str) -> None:
    said = call("demo", "--dir", tmp_path / "new", "--factors", factors)
    assert said.code == 2
    assert f"--factors {factors!r} is not a list of whole numbers" in said.err
    assert not (tmp_path / "new").exists()


def test_sessions_that_are_not_of_the_demo(call: Any, tmp_path: Path, trained: list[str]) -> None:
    import numpy as np

    from lfadsrm_hpc.data.readers import from_arrays, save_dataset

    counts = np.random.default_rng(0).poisson(0.5, (120, 40, 5))
    (tmp_path / "datasets").mkdir()
    save_dataset(from_arrays(counts, bin_ms=10, name="own"), tmp_path / "datasets/dataset001.h5")
    said = call("demo", "--dir", tmp_path, "--size", "quick", "--sessions", 1, "--factors", 2, "--slots", 2)
    assert said.code == 2
    assert "has no true rates: it was not made by the demo" in said.err
    assert trained == [], "it is told before hours of training"


@pytest.mark.slow
@pytest.mark.train
def test_with_a_real_training(call: Any, tmp_path: Path) -> None:
    said = call("demo", "--dir", tmp_path, "--size", "quick", "--sessions", 1, "--factors", 2, "--json")
    assert said.code == 0, said.err
    (run,) = said.json["runs"]
    (scores,) = call("metrics", tmp_path / "demo", "--json").json["runs"]
    assert run["r2"] == scores["metrics"]["rate_r2"] > 0
    assert run["bits_per_spike"] == scores["metrics"]["bits_per_spike"]
    assert Path(run["posterior_means"]["dataset001"]).is_file()
