"""Run specs, runs and collections in memory: adding, finding, showing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lfadsrm_hpc.collection import params as params_module
from lfadsrm_hpc.collection.collection import RunCollection
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.errors import MismatchError, NotFoundError, ParamsError, UsageError


def test_run_specs(datasets: DatasetCollection) -> None:
    spec = RunSpec("two", datasets, [2, "dataset001"], comment="why")
    assert spec.dataset_names == ("dataset003", "dataset001")
    assert spec.datasets == [datasets[2], datasets[0]]
    assert spec.is_stitched
    assert not RunSpec("one", datasets, 0).is_stitched
    assert RunSpec("one", datasets, -1).dataset_names == ("dataset003",)
    assert RunSpec("these", datasets, [datasets[1], 0]).dataset_names == ("dataset002", "dataset001")
    assert RunSpec("mask", datasets, [False, True, True]).dataset_names == ("dataset002", "dataset003")
    assert RunSpec("mask", datasets, np.array([True, False, False])).dataset_names == ("dataset001",)
    assert RunSpec.from_json(spec.to_json()) == spec
    with pytest.raises(UsageError, match="by name only"):
        _ = RunSpec.from_json(spec.to_json()).datasets


@pytest.mark.parametrize(
    ("name", "which", "message"),
    [
        ("a/b", [0], "contains '/'"),
        ("", [0], "cannot be the name"),
        ("x", [], "no datasets"),
        ("x", [0, "dataset001"], "named twice"),
        ("x", [7], "no dataset 7"),
        ("x", [0.5], "no dataset 0.5"),
        ("x", [True, False], "a mask of 2 values for 3 datasets"),
        ("x", [True, 0, False], "a mask of 3 values"),
        ("x", [False, False, False], "no datasets"),
        ("x", "dataset01", "did you mean 'dataset001'"),
    ],
)
def test_wrong_run_specs(datasets: DatasetCollection, name: str, which: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RunSpec(name, datasets, which)  # type: ignore[arg-type]


def test_runs_are_specs_times_params(collection: RunCollection) -> None:
    ids = [run.id for run in collection.runs]
    hashes = [p.param_hash for p in collection.params]
    specs = ["single_dataset001", "single_dataset002", "all"]
    assert ids == [f"param_{h}/{s}" for s in specs for h in hashes]
    assert collection.n_runs == 6
    run = collection.runs[-1]
    assert (run.params_index, run.n_datasets, run.name) == (1, 3, "all")
    assert run.path == collection.path / f"param_{hashes[1]}" / "all"
    assert list(run.input_files()) == ["dataset001", "dataset002", "dataset003"]
    assert run.input_files()["dataset002"] == (
        collection.path / f"data_{run.data_hash}" / "all" / "lfads_dataset002.h5"
    )
    assert run.effective_params.kl_increase_steps == 2700
    assert not run.is_prepared
    with pytest.raises(NotFoundError, match="not prepared"):
        run.record()


def test_adding_twice_changes_nothing(collection: RunCollection, datasets: DatasetCollection) -> None:
    before = [run.id for run in collection.runs]
    collection.add_params(collection.params)
    collection.add_run_spec(RunSpec("all", datasets, range(3)))
    assert [run.id for run in collection.runs] == before
    collection.add_params(collection.params[0].replace(gpu_memory_mb=500, name="small"))
    assert [run.id for run in collection.runs] == before
    assert (collection.params[0].gpu_memory_mb, collection.params[0].name) == (500, "small")
    with pytest.raises(UsageError, match="'all' with other datasets"):
        collection.add_run_spec(RunSpec("all", datasets, [0, 1]))
    with pytest.raises(UsageError, match="no RunParams"):
        collection.add_params([{"gen_dim": 3}])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="no RunSpec"):
        collection.add_run_spec(["all"])  # type: ignore[list-item]


def test_two_params_with_one_hash_are_an_error(
    collection: RunCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(params_module, "short_hash", lambda text: "a" * 12)
    collection.clear_params()
    collection.add_params(RunParams(gen_dim=3))
    with pytest.raises(MismatchError, match="two different params have the hash a"):
        collection.add_params(RunParams(gen_dim=4))


def test_find_runs(collection: RunCollection) -> None:
    first, second = collection.params
    assert [r.params.factors_dim for r in collection.find_runs("all")] == [2, 3]
    assert [r.name for r in collection.find_runs(factors_dim=3)] == [s.name for s in collection.run_specs]
    assert [r.id for r in collection.find_runs(["all", "single_dataset001"], 1)] == [
        f"param_{second.param_hash}/single_dataset001",
        f"param_{second.param_hash}/all",
    ]
    assert len(collection.find_runs(params=[0, -1])) == 6
    assert len(collection.find_runs(params=first.param_hash)) == 3
    assert len(collection.find_runs(params=f"param_{first.param_hash[:6]}")) == 3
    assert len(collection.find_runs(params=first, c_factors_dim=[2, 9])) == 3
    assert collection.find_runs(factors_dim=99) == []
    with pytest.raises(NotFoundError, match="did you mean 'single_dataset001'"):
        collection.find_runs("single_dataset01")
    with pytest.raises(NotFoundError, match="there are 2, counted from 0"):
        collection.find_runs("all", 2)
    with pytest.raises(NotFoundError, match="hash or name 'nothing'"):
        collection.find_runs(params="nothing")
    with pytest.raises(NotFoundError, match="there is no run spec 3"):
        collection.find_runs(3)  # type: ignore[arg-type]
    with pytest.raises(ParamsError, match="did you mean 'factors_dim'"):
        collection.find_runs(factor_dim=3)


def test_find_run_is_one_or_an_error_that_lists(collection: RunCollection) -> None:
    run = collection.find_run("single_dataset001", 1)
    assert (run.name, run.params.factors_dim) == ("single_dataset001", 3)
    assert collection.find_run("all", factors_dim=2).params_index == 0
    with pytest.raises(NotFoundError, match="2 runs fit") as several:
        collection.find_run("all")
    assert all(run.id in str(several.value) for run in collection.find_runs("all"))
    with pytest.raises(NotFoundError, match="no run fits") as none:
        collection.find_run("all", factors_dim=99)
    assert collection.runs[0].id in str(none.value)


def test_params_are_found_by_name_before_a_part_of_a_hash(collection: RunCollection) -> None:
    first, second = collection.params
    collection.add_params(second.replace(name=first.param_hash[:4]))
    assert collection.find_params(first.param_hash[:4]).factors_dim == 3
    assert collection.find_params(first.param_hash).factors_dim == 2


def test_run_by_id(collection: RunCollection) -> None:
    for run in collection.runs:
        assert collection.run_by_id(run.id).id == run.id
    with pytest.raises(NotFoundError, match="did you mean"):
        collection.run_by_id(collection.runs[0].id[:-1])


def test_filter_and_clear(collection: RunCollection) -> None:
    some = collection.filter(lambda p: p.factors_dim > 2, lambda s: s.is_stitched)
    assert [(run.name, run.params.factors_dim) for run in some.runs] == [("all", 3)]
    assert some.path == collection.path
    assert collection.n_runs == 6
    collection.clear_run_specs()
    assert (collection.n_runs, len(collection.params)) == (0, 2)
    collection.clear()
    assert collection.params == []


def test_a_subclass_makes_its_own_runs(tmp_path: Path, collection: RunCollection) -> None:
    class MyRun(Run):
        pass

    class MyCollection(RunCollection):
        run_class = MyRun

    mine = MyCollection(tmp_path, "mine", collection.dataset_collection)
    mine.add_params(collection.params)
    mine.add_run_spec(collection.run_specs)
    assert type(mine.find_run("all", 0)) is MyRun
    assert type(mine.filter()) is MyCollection


def test_display_reads_like_the_original(collection: RunCollection) -> None:
    assert repr(collection).splitlines() == [
        'RunCollection "example" (6 runs in total)',
        f'  Dataset collection "lorenz_example" (3 datasets) in {collection.dataset_collection.path}',  # type: ignore[union-attr]
        f"  Path: {collection.path}",
        "  Comment: for tests",
        "",
        "  2 sets of run params",
        *(f"  [{i}] RunParams param_{p.param_hash} {p.diff_text()}" for i, p in enumerate(collection.params)),
        "",
        "  3 run specs",
        '  [0] RunSpec "single_dataset001" (1 dataset: dataset001)',
        '  [1] RunSpec "single_dataset002" (1 dataset: dataset002)',
        '  [2] RunSpec "all" (3 datasets: dataset001, dataset002, dataset003)',
    ]
    collection.add_params(collection.params[0].generate_sweep("seed", range(1, 100)))
    assert "... and 61 more" in repr(collection)
    assert "more" not in collection.summary_text()


def test_light_import() -> None:
    code = (
        "import sys, lfadsrm_hpc.collection.collection as c; c.RunCollection('x', 'y');"
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "tensorflow", "xarray", "h5py", "pandas", "scipy", "jinja2"} & set(
        done.stdout.split()
    )
