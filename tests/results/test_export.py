"""One file of many runs: what is in it, that nothing is lost or overwritten, and memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from lfadsrm_hpc import LegacyCollection, RunCollection, RunParams
from lfadsrm_hpc.errors import NotFoundError, ResultsError, UsageError
from lfadsrm_hpc.results import one_file


@pytest.fixture(scope="module")
def exported(sweep: RunCollection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sweep.export(tmp_path_factory.mktemp("export") / "all.nc", attach="all")


def same(one: xr.Dataset, other: xr.Dataset) -> None:
    """Compare all but attributes."""
    assert dict(one.sizes) == dict(other.sizes)
    assert set(one.coords) == set(other.coords)
    for name in one.variables:
        assert one[name].dims == other[name].dims
        mine, theirs = one[name].values, other[name].values
        if mine.dtype.kind in "OU":
            assert mine.astype(str).tolist() == theirs.astype(str).tolist()
        else:
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs, err_msg=str(name))
        assert one[name].attrs.get("units") == other[name].attrs.get("units")


def test_xarray_opens_it_as_the_collection_itself(sweep: RunCollection, exported: Path) -> None:
    loaded = sweep.load_posterior_means(attach="all")
    with xr.open_datatree(exported, group="posterior_means") as tree:
        nodes = {node.path: node for node in loaded.leaves}
        assert {node.path for node in tree.leaves} == set(nodes)
        for path, node in nodes.items():
            same(node.to_dataset(), tree[path].to_dataset(inherit=False))
            assert tree[path].attrs["run_id"] == path.strip("/").rpartition("/")[0]
    with xr.open_dataset(exported) as root:
        assert root.attrs["format"] == one_file.FORMAT
        assert root.attrs["complete"] == 1
        assert json.loads(root.attrs["not_complete"]) == [sweep.runs[-1].id]


def test_fit_logs_params_and_what_is_known(sweep: RunCollection, exported: Path) -> None:
    for run in sweep.runs[:-1]:
        with xr.open_dataset(exported, group=f"fit_log/{run.id}") as log:
            wanted = run.load_fit_log()
            assert log["epoch"].values.tolist() == wanted["epoch"].tolist()
            np.testing.assert_array_equal(log["valid_total"].values, wanted["valid_total"].to_numpy())
            assert log.attrs["lowest_valid_epoch"] == wanted.attrs["lowest_valid_epoch"]
        with xr.open_dataset(exported, group=f"model_params/{run.id}") as params:
            same(run.load_model_params(), params)
        with xr.open_dataset(exported, group=f"posterior_means/{run.id}") as about:
            assert json.loads(about.attrs["params"])["seed"] == run.params.seed
            assert json.loads(about.attrs["metrics"])["co_bps"] > 0


def test_plain_hdf5_has_the_arrays_under_their_paths(sweep: RunCollection, exported: Path) -> None:
    run = sweep.find_run("both", factors_dim=2, seed=1)
    with h5py.File(exported) as file:
        stored = file[f"posterior_means/{run.id}/day2/rates"]
        np.testing.assert_array_equal(stored[()], run.load_posterior_means("day2")["rates"].values)
        assert stored.attrs["units"] in ("spikes/s", b"spikes/s")
        assert stored.compression == "gzip"


def test_a_selection(sweep: RunCollection, tmp_path: Path) -> None:
    path = sweep.export(
        tmp_path / "few.nc", spec="both", seed=1, dataset="day2", variables="rates",
        attach="spikes", split="valid", parts="posterior_means", factors_dim=2,
    )  # fmt: skip
    with xr.open_datatree(path) as tree:
        (leaf,) = tree.leaves
        assert leaf.path == f"/posterior_means/{sweep.find_run('both', factors_dim=2, seed=1).id}/day2"
        assert set(leaf.data_vars) == {"rates", "spikes"}
        assert set(leaf["split"].values) == {"valid"}
    one = sweep.runs[0].export(tmp_path / "one.nc")
    with xr.open_datatree(one, group="posterior_means") as tree:
        assert [leaf.path for leaf in tree.leaves] == [f"/{sweep.runs[0].id}/day1"]


def test_a_collection_of_matlab_is_exported_alike(matlab: Any, tmp_path: Path) -> None:
    made = matlab.Made(tmp_path / "c")
    opened = LegacyCollection.open(made.path)
    path = opened.export(tmp_path / "out.nc", attach="spikes")
    loaded = opened.load_posterior_means(attach="spikes")
    with xr.open_datatree(path, group="posterior_means") as tree:
        assert len(tree.leaves) == 6
        for node in loaded.leaves:
            same(node.to_dataset(), tree[node.path].to_dataset(inherit=False))
    with xr.open_dataset(path, group="model_params/param_aB-_9z/all") as params:
        same(opened.find_run("all", factors_dim=3).load_model_params(), params)


def test_runs_that_differ_in_a_seed_stay_apart(sweep: RunCollection, exported: Path) -> None:
    rates = []
    with xr.open_datatree(exported, group="posterior_means") as tree:
        for run in sweep.find_runs("single_day1"):
            rates.append(tree[f"{run.id}/day1"]["rates"].values.tobytes())
    assert len(set(rates)) == 4


def test_what_is_there_is_not_replaced(sweep: RunCollection, tmp_path: Path) -> None:
    path = tmp_path / "out.nc"
    path.write_text("mine")
    with pytest.raises(UsageError, match="such a file already"):
        sweep.export(path)
    assert path.read_text() == "mine"
    sweep.export(path, spec="single_day1", overwrite=True)
    with xr.open_datatree(path, group="posterior_means") as tree:
        assert len(tree.leaves) == 4
    with pytest.raises(UsageError, match="folder"):
        sweep.export(tmp_path, overwrite=True)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out.nc"]


def test_a_failure_leaves_nothing(make: Callable[..., Any], fabricated: Any, tmp_path: Path) -> None:
    rc = make([RunParams(**{**fabricated.BASE, "seed": seed}) for seed in (0, 1)])
    path = tmp_path / "exported" / "out.nc"
    damaged = rc.runs[1].layout.posterior_means("day1")
    damaged.write_bytes(damaged.read_bytes()[:-3000])
    with pytest.raises(ResultsError, match="day1"):
        rc.export(path)
    assert list(path.parent.iterdir()) == []


def test_wrong_words(sweep: RunCollection, tmp_path: Path) -> None:
    path = tmp_path / "out.nc"
    with pytest.raises(UsageError, match="fit_log"):
        sweep.export(path, parts=("fit_logs",))
    with pytest.raises(NotFoundError, match="rates"):
        sweep.export(path, variables="rate", spec="single_day1")
    with pytest.raises(NotFoundError, match="day1"):
        sweep.export(path, dataset="day3", spec="single_day1")
    with pytest.raises(NotFoundError, match="joystick"):
        sweep.export(path, attach="joystick", spec="single_day1")
    with pytest.raises(UsageError, match="layout"):
        sweep.export(path, layout="csv")
    with pytest.raises(UsageError, match="select nothing"):
        sweep.export(path, sweep.runs[:1], seed=1)
    with pytest.raises(ResultsError, match=r"run \S+ is not complete\n.*\n  do: see `lfadsrm status`"):
        sweep.runs[-1].export(path)
    with pytest.raises(NotFoundError, match="single_day1"):
        sweep.export(path, spec="single_day2")
    assert list(tmp_path.iterdir()) == []


def test_memory_stays_bounded(
    make: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_file, "_BLOCK_BYTES", 1 << 16)
    rc = make(neurons=(40,), trials=600)
    whole = rc.runs[0].load_posterior_means()["factors"].nbytes
    rc.runs[0].export(tmp_path / "warm.nc")  # what is imported and kept once does not count
    tracemalloc.start()
    try:
        rc.runs[0].export(tmp_path / "out.nc", parts="posterior_means", variables="factors")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < whole
