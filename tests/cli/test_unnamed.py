"""Runs that an experiment does not name any more: commands tell of them, `clean --unnamed` deletes some."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.collection import stored, unnamed
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.holding import held, take_hold
from lfadsrm_hpc.manifest.records import Exit, Identity, reason_of


def edit(experiment: Path, old: str, new: str) -> None:
    file = experiment / "experiment.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.fixture
def edited(experiment: Path) -> Path:
    """Return a prepared experiment from which one of two numbers of factors was taken."""
    edit(experiment, "[2, 3]", "[2]")
    return experiment


def of_factors(folder: Path, factors: int) -> list[Any]:
    return RunCollection.open(folder / "runs/small").find_runs(factors_dim=factors)


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_prepare_tells_of_runs_that_the_experiment_does_not_name(edited: Path, call: Any) -> None:
    said = call("prepare", edited)
    assert said.code == 0
    assert "3 runs that the experiment does not name any more stay in the collection" in said.err
    assert f"in the collection; `lfadsrm clean '{edited}' --unnamed` deletes them" in said.err
    content = call("prepare", edited, "--json").json
    assert content["runs_unnamed"] == [run.id for run in of_factors(edited, 3)]
    edit(edited, "[2]", "[2, 3]")
    again = call("prepare", edited, "--json")
    assert again.json["runs_unnamed"] == []
    assert "name" not in again.err


def test_what_is_handed_over_is_told_of(edited: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = ("--site", "generic-slurm", "--walltime", "1:00:00")
    told = "3 runs among these are not named by the experiment any more; `lfadsrm clean --unnamed` deletes"
    monkeypatch.chdir(edited)
    for words in (("run", "--dry-run"), ("plan", *cluster), ("submit", "--dry-run", *cluster)):
        said = call(*words)
        assert said.code == 0, said.err
        assert told in said.err
        some = call(*words, "--match", "factors_dim=2")
        assert "not named" not in some.err
    assert len(call("run", "--dry-run").out.split()) == 6  # which runs are taken is not changed
    assert "not named" not in call("run", "runs/small", "--dry-run").err
    edit(edited, "factors_dim", "factor_dim")
    assert call("run", "--dry-run").code == 0


def test_untried_runs_go_with_their_inputs(edited: Path, call: Any) -> None:
    layout = CollectionLayout(edited / "runs/small")
    gone, stay = of_factors(edited, 3), of_factors(edited, 2)
    inputs = {path for run in stay for path in run.input_files().values()}
    assert call("clean", edited, "--unnamed").code == 2  # nobody has agreed
    before = files_of(layout.path)
    listed = call("clean", edited, "--unnamed", "--dry-run", "--json").json
    assert files_of(layout.path) == before
    assert [item["run_id"] for item in listed["items"] if item["kind"] == "run"] == [run.id for run in gone]
    said = call("clean", edited, "--unnamed", "--yes", "--json").json
    assert said["size_bytes"] == listed["size_bytes"] > 0
    opened = RunCollection.open(layout.path)
    assert [run.id for run in opened.runs] == [run.id for run in stay]
    assert [params.factors_dim for params in opened.params] == [2]
    assert [run.run_id for run in layout.runs_on_disk()] == sorted(run.id for run in stay)
    assert set(layout.path.glob("data_*/*/*")) == inputs
    assert not [run for run in gone if run.path.parent.exists()]
    assert not [run for run in gone if run.params.param_hash in layout.summary.read_text()]
    assert not layout.runs_put_aside() + layout.inputs_put_aside()
    assert call("clean", edited, "--unnamed", "--yes").code == 4
    edit(edited, "[2]", "[2, 3]")
    assert call("prepare", edited).code == 0
    assert len(call("status", edited, "--json").json["runs"]) == 6


def test_a_run_spec_that_is_not_named_goes_with_its_dataset(edited: Path, call: Any) -> None:
    (edited / "datasets/day2.npz").rename(edited / "day2.npz")
    assert call("clean", edited, "--unnamed", "--yes").code == 0
    opened = RunCollection.open(edited / "runs/small")
    assert [run.name for run in opened.runs] == ["single_day1"]
    assert [item["name"] for item in opened.dataset_info] == ["day1"]


def test_only_the_selected_go(edited: Path, call: Any) -> None:
    assert call("clean", edited, "--unnamed", "--yes", "--spec", "all").code == 0
    assert [run.name for run in of_factors(edited, 3)] == ["single_day1", "single_day2"]
    assert call("clean", edited, "--unnamed", "--yes", "--match", "factors_dim=2").code == 4


def test_runs_that_were_tried_or_handed_over_stay(edited: Path, call: Any) -> None:
    tried, reserved, working = (run.layout for run in of_factors(edited, 3))
    claim = store.take_local(tried, Identity.local("", 0))
    assert not isinstance(claim, store.AlreadyComplete)
    store.publish_exit(tried, claim, Exit(1, reason_of(1)))
    store.reserve(reserved, "01JZZZZZZZZZZZZZZZZZZZZZZZ")
    store.take_local(working, Identity.local("", 0))
    before = files_of(edited)
    said = call("clean", edited, "--unnamed", "--yes")
    assert said.code == 4
    assert f"stays: {tried.run_id} and 2 more: it was tried" in said.err
    assert files_of(edited) - before <= {"runs/small/.lfadsrm/index-0.json"}
    words = ("clean", edited, "--restart", "--yes", "--spec", tried.path.name, "--match", "factors_dim=3")
    assert call(*words).code == 0
    assert call("clean", edited, "--unnamed", "--yes").code == 0
    assert not tried.path.exists()
    assert reserved.params_json.is_file()


def test_what_may_wait_in_a_local_queue_stays(edited: Path, call: Any) -> None:
    assert call("run", edited, "--dry-run").code == 0  # writes run.sh
    working = of_factors(edited, 2)[0].layout
    claim = store.take_local(working, Identity.local("", 0))
    assert not isinstance(claim, store.AlreadyComplete)
    said = call("clean", edited, "--unnamed", "--yes")
    assert (said.code, "may wait in the same local queue" in said.err) == (4, True)
    store.publish_exit(working, claim, Exit(1, reason_of(1)))
    assert call("clean", edited, "--unnamed", "--yes").code == 0


def test_a_run_from_which_another_starts_stays(edited: Path, call: Any) -> None:
    source = of_factors(edited, 3)[0]
    edit(edited, "[sweep]", f'start_from = "{source.id}"\n[sweep]')
    edit(edited, "[2]", "[3]")
    assert call("prepare", edited).code == 0
    said = call("clean", edited, "--unnamed", "--yes")
    assert said.code == 0
    assert f"stays: {source.id}" in said.err
    assert "starts from its model" in said.err
    assert len(RunCollection.open(edited / "runs/small").runs) == 4
    source.check_inputs()


def test_a_run_that_is_taken_meanwhile_stays_and_is_listed(edited: Path) -> None:
    layout = CollectionLayout(edited / "runs/small")
    taken, other, _ = (run.layout for run in of_factors(edited, 3))
    found = unnamed.removable(layout, {run.id for run in of_factors(edited, 2)})
    with held(taken):
        store.reserve(other, "01JZZZZZZZZZZZZZZZZZZZZZZZ")
        done = unnamed.remove(layout, found.items)
    assert set(done.skipped) == {taken.run_id, other.run_id}
    listed = stored.read_stored(layout)
    assert listed is not None
    assert len(listed["runs"]) == 5
    for run in RunCollection.open(layout.path).runs:
        run.check_inputs()


def test_a_holder_that_was_killed_does_not_make_a_run_tried(
    edited: Path, call: Any, monkeypatch: Any
) -> None:
    run = of_factors(edited, 3)[0].layout
    hold = take_hold(run)
    record = run.attempt(hold.attempt).claim(0)
    content = json.loads(record.read_text())
    content["process"]["pid"] = 2**22 + 1  # there is no such process
    record.write_text(json.dumps(content))
    assert not unnamed.was_tried(run)
    assert call("clean", edited, "--unnamed", "--yes").code == 0
    assert not run.path.exists()


def test_it_needs_the_experiment_and_no_other_way_of_cleaning(edited: Path, call: Any) -> None:
    for words, told in (
        ([edited / "runs/small"], "needs the experiment"),
        ([edited, "--kind", "inputs"], "leave --restart and --kind out"),
        ([edited, "--restart", "--spec", "all"], "leave --restart and --kind out"),
    ):
        said = call("clean", *words, "--unnamed", "--yes")
        assert (said.code, told in said.err) == (2, True), said.err
    shutil.rmtree(edited / "datasets")
    assert call("clean", edited, "--unnamed", "--yes").code == 3
    assert len(RunCollection.open(edited / "runs/small").runs) == 6
