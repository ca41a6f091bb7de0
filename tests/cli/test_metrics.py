"""`lfadsrm metrics` and `lfadsrm check-runs` on runs whose metrics are stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.api import Run, RunCollection
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import Claim, Exit, Identity, new_ulid
from lfadsrm_hpc.results.runs.metrics_file import RunMetrics, write_metrics

NOT_FINITE = "the cost or its gradient was not finite (epoch 3)"


def end(run: Run, code: int = 0, message: str = "", **numbers: Any) -> None:
    """Let a run end without having worked; with numbers it has metrics."""
    claim = store.take_local(run.layout, Identity.local(new_ulid(), 0))
    assert isinstance(claim, Claim)
    if numbers:
        verdict = numbers.pop("verdict", "good")
        reasons = [{"check": "ramps", "verdict": verdict, "text": "Too short: train longer."}]
        datasets = {
            name: {"metrics": numbers, "train_metrics": {}, "undefined": {}, "notes": ["mind this"]}
            for name in run.dataset_names
        }
        quality = {"verdict": verdict, "reasons": reasons if verdict != "good" else []}
        doubled = {name: 2 * value for name, value in numbers.items()}
        metrics = RunMetrics(1, claim.token, {}, numbers, doubled, datasets, quality)
        write_metrics(run.layout.metrics_json, metrics)
    reason = "done" if code == 0 else "failed"
    store.publish_exit(run.layout, claim, Exit(code, reason, message=message))


@pytest.fixture
def ended(small: Path) -> RunCollection:
    """Two runs with metrics, one complete without, one failed; two were never tried."""
    rc = RunCollection.open(small)
    find = rc.find_run
    end(find("single_day1", factors_dim=2), bits_per_spike=0.25, rate_r2=0.5)
    end(find("single_day1", factors_dim=3), bits_per_spike=0.375, verdict="suspect")
    end(find("single_day2", factors_dim=2))
    end(find("single_day2", factors_dim=3), 1, NOT_FINITE)
    return rc


def test_a_table_of_runs_and_metrics(call: Any, ended: RunCollection) -> None:
    said = call("metrics", ended.path, "--stored")
    assert said.code == 0
    head, *rows = said.out.splitlines()
    assert head.split() == ["run", "spec", "params", "quality", "bits_per_spike", "rate_r2"]
    assert [row.split() for row in rows] == [
        ["single_day1", "factors_dim=2", "good", "0.2500", "0.5000"],
        ["single_day1", "factors_dim=3", "suspect", "0.3750"],
    ]
    assert "note: day1: mind this" in said.err
    assert said.err.count("no metrics: not computed yet") == 1
    train = call("metrics", ended.path, "--stored", "--train").out.splitlines()
    assert train[2].split()[-1] == "0.7500"


def test_runs_are_selected_as_ever(call: Any, ended: RunCollection) -> None:
    said = call("metrics", ended.path, "--stored", "--match", "factors_dim=3", "--state", "completed")
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == ["single_day1"]
    both = call("metrics", ended.path, "--stored", "--spec", "single_day1", "--datasets").out.splitlines()
    assert [line.split()[2] for line in both] == ["params", "day1", "day1"]
    none = call("metrics", ended.path, "--spec", "all")
    assert none.code == 1
    assert "no run is complete" in none.err
    assert call("metrics", ended.path, "--state", "running").code == 2
    assert call("metrics", ended.path, "--match", "nonsense=3").code == 2


def test_json_holds_everything(call: Any, ended: RunCollection) -> None:
    content = call("metrics", ended.path, "--stored", "--json").json
    assert content["schema_version"] == 1
    first = content["runs"][0]
    assert first["run_id"] == ended.find_run("single_day1", factors_dim=2).id
    assert first["params"]["factors_dim"] == 2
    assert first["metrics"] == {"bits_per_spike": 0.25, "rate_r2": 0.5}
    assert first["datasets"]["day1"]["metrics"] == first["metrics"]
    assert first["quality"] == {"verdict": "good", "reasons": []}
    without = ended.find_run("single_day2", factors_dim=2).id
    assert content["missing"] == {without: "not computed yet"}


def test_metrics_of_another_attempt_do_not_count(call: Any, ended: RunCollection) -> None:
    run = ended.find_run("single_day1", factors_dim=2)
    content = json.loads(run.layout.metrics_json.read_text())
    run.layout.metrics_json.write_text(json.dumps({**content, "claim_token": "another"}))
    assert run.id in call("metrics", ended.path, "--stored", "--json").json["missing"]


def test_what_cannot_be_computed_is_said(call: Any, ended: RunCollection) -> None:
    """The complete run without metrics has no posterior means either."""
    said = call("metrics", ended.path)
    assert said.code == 5
    assert len(said.out.splitlines()) == 3
    assert "there is no fit log" in said.err or "has no fit log" in said.err
    assert "1 of 3 runs have no metrics" in said.err


def test_verdicts_with_their_reasons(call: Any, ended: RunCollection) -> None:
    said = call("check-runs", ended.path, "--stored")
    assert said.code == 0
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["good", "suspect", "-", "bad", "-"]
    assert lines[2].strip() == "- Too short: train longer."
    assert f"The run ended as failed: {NOT_FINITE}; see `lfadsrm logs`." in lines[4]
    assert lines[-1].endswith("1 good, 1 suspect, 1 bad, 2 not ended")
    assert call("check-runs", ended.path, "--stored", "--fail").code == 5
    assert call("check-runs", ended.path, "--stored", "--fail", "--spec", "single_day1").code == 0
    none = call("check-runs", ended.path, "--spec", "all")
    assert none.code == 1
    assert "no run has ended, so there is nothing to judge" in none.err


def test_verdicts_as_json(call: Any, ended: RunCollection) -> None:
    content = call("check-runs", ended.path, "--stored", "--json").json
    assert content["counts"] == {"good": 1, "suspect": 1, "bad": 1}
    assert [run["verdict"] for run in content["runs"]] == ["good", "suspect", "bad"]
    assert content["runs"][2]["state"] == "FAILED"
    assert content["runs"][2]["reasons"][0]["check"] == "diverged"
    assert list(content["missing"]) == [ended.find_run("single_day2", factors_dim=2).id]


def test_outputs_that_are_deleted_take_their_metrics_along(ended: RunCollection) -> None:
    run = ended.find_run("single_day1", factors_dim=2)
    assert run.metrics().metrics["rate_r2"] == 0.5
    ended.delete_outputs(run, yes=True)
    assert not run.layout.metrics_json.exists()


def test_a_submission_needs_a_complete_run(call: Any, ended: RunCollection, tmp_path: Path) -> None:
    words = ("nlb", "single_day2", tmp_path / "s.h5", "-C", ended.path, "--name", "mc_maze")
    said = call(*words, "--match", "factors_dim=3")
    assert said.code == 1
    assert "is not complete" in said.err
    assert call("nlb", "single_day2", tmp_path / "s.h5", "-C", ended.path).code == 2  # no --name
