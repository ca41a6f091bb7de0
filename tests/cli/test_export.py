"""`lfadsrm export`: files, words, JSON, exit codes; and what other commands say of a Matlab collection."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from lfadsrm_hpc import LegacyCollection, RunCollection
from lfadsrm_hpc.errors import LfadsrmWarning

FIT = ("epochs", "lowest_valid_cost", "lowest_valid_epoch")


def test_one_file(call: Any, sweep: RunCollection, tmp_path: Path) -> None:
    path = tmp_path / "out.nc"
    said = call(
        "export", path, "-C", sweep.path, "--spec", "both", "--variable", "rates", "--attach", "spikes"
    )
    assert (said.code, said.out) == (0, f"{path}\n")
    assert said.err == "not complete, and left out: 1 of 4 runs\n"
    with xr.open_datatree(path, group="posterior_means") as tree:
        assert len(tree.leaves) == 6
        assert all(set(leaf.data_vars) == {"rates", "spikes"} for leaf in tree.leaves)
    again = call("export", path, "-C", sweep.path)
    assert again.code == 2
    assert "--overwrite" in again.err


def test_json_and_selections(call: Any, sweep: RunCollection, tmp_path: Path) -> None:
    path = tmp_path / "out.nc"
    options = ("--match", "factors_dim=4", "--part", "fit_log", "--part", "model_params", "--json")
    said = call("export", path, "-C", sweep.path, *options)
    assert said.code == 0
    wanted = [run.id for run in sweep.find_runs(factors_dim=4)]
    assert said.json["runs"] == wanted[:-1]
    assert said.json["not_complete"] == wanted[-1:]
    assert (said.json["path"], said.json["layout"], said.json["schema_version"]) == (str(path), "netcdf", 1)
    with xr.open_datatree(path) as tree:
        assert set(tree.children) == {"fit_log", "model_params"}


def test_the_layout_of_matlab(call: Any, sweep: RunCollection, tmp_path: Path) -> None:
    path = tmp_path / "for_matlab"
    with warnings.catch_warnings():
        warnings.simplefilter("always", LfadsrmWarning)  # as for users
        said = call("export", path, "-C", sweep.path, "--layout", "run-manager", "--match", "seed=0")
    assert (said.code, said.out) == (0, f"{path}\n")
    assert "does not hold" in said.err
    assert "posterior standard deviations" in said.err
    assert len(LegacyCollection.open(path).runs) == 4
    said = call("export", path, "-C", sweep.path, "--layout", "run-manager", "--dataset", "day1")
    assert said.code == 2


def test_a_collection_of_matlab(
    call: Any, matlab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = matlab.Made(tmp_path / "old")
    path = tmp_path / "new.nc"
    said = call("export", path, "-C", made.path, "--spec", "all", "--match", "factors_dim=3", "--json")
    assert said.json["runs"] == ["param_aB-_9z/all"]
    with xr.open_datatree(path, group="posterior_means") as tree:
        assert [leaf.name for leaf in tree.leaves] == ["ds2", "ds1"]
    monkeypatch.chdir(made.path)
    said = call("export", tmp_path / "again.nc", "--bin-ms", "4", "--json")
    assert len(said.json["runs"]) == 4
    with xr.open_datatree(tmp_path / "again.nc", group="posterior_means") as tree:
        assert {leaf.attrs["bin_ms"] for leaf in tree.leaves} == {4.0}


def test_wrong_words(call: Any, sweep: RunCollection, tmp_path: Path) -> None:
    path = tmp_path / "out.nc"
    for options, word in (
        (("--variable", "rate", "--spec", "single_day1"), "rates"),
        (("--spec", "single_day9"), "single_day1"),
        (("--match", "factors=2"), "factors_dim"),
        (("--bin-ms", "2"), "--bin-ms"),
        (("--layout", "csv"), "run-manager"),
    ):
        said = call("export", path, "-C", sweep.path, *options)
        assert said.code == 2
        assert word in said.err
    last = sweep.runs[-1].params
    said = call("export", path, "-C", sweep.path, "--spec", "both", "--match", f"seed={last.seed}",
                "--match", f"factors_dim={last.factors_dim}")  # fmt: skip
    assert said.code == 1
    assert "not complete" in said.err
    assert list(tmp_path.iterdir()) == []


def test_show_lists_the_runs_of_a_collection_of_matlab(call: Any, matlab: Any, tmp_path: Path) -> None:
    made = matlab.Made(tmp_path / "old")
    made.means_path("all", 3, "ds1", "valid").unlink()
    said = call("show", made.path)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == 'LegacyCollection "old" (4 runs, 3 complete)'
    header = next(line for line in lines if line.startswith("run "))
    assert header.split() == ["run", "state", "factors_dim", *FIT, "reasons"]
    assert lines[-1].split()[:6] == ["param_aB-_9z/all", "FAILED", "3", "4", "7.3", "3"]
    assert "no posterior means of the valid trials of ds1" in lines[-1]
    runs = call("show", made.path, "--json").json["runs"]
    assert [run["lowest_valid_cost"] for run in runs] == [7.2, 7.3, 7.2, 7.3]
    assert runs[3]["state"] == "FAILED"


def test_states_and_the_best_runs_of_a_collection_of_matlab(call: Any, matlab: Any, tmp_path: Path) -> None:
    made = matlab.Made(tmp_path / "old")
    made.means_path("all", 3, "ds1", "valid").unlink()
    said = call("status", made.path)
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[-1].startswith("3 complete")
    assert "no posterior means of the valid trials of ds1" in said.out
    states = call("status", made.path, "--json").json
    assert states["counts"] == {"COMPLETED": 3, "FAILED": 1}
    best = call("best", made.path)
    assert (best.code, best.err) == (0, "")
    assert best.out.splitlines()[0].split(": ")[1] == "best of 2 by lowest_valid_cost"
    told = call("best", made.path, "--json", "--spec", "all").json["best"]
    assert (list(told), told["all"]["value"], told["all"]["competed"]) == (["all"], 7.2, 1)
    assert call("best", made.path, "--script", tmp_path / "x.py").code == 2


@pytest.mark.parametrize("command", ["report", "metrics", "plan"])
def test_other_commands_tell_what_to_do_with_a_collection_of_matlab(
    call: Any, matlab: Any, tmp_path: Path, command: str
) -> None:
    made = matlab.Made(tmp_path / "old", factors=(2,))
    said = call(command, made.path)
    assert said.code == 2
    assert "Matlab run manager" in said.err
    assert "LegacyCollection.open" in said.err
