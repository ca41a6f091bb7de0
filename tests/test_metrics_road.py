"""Metrics and verdicts of real trainings, good ones and such as were broken on purpose; all tiny."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfadsrm_hpc import Dataset, DatasetCollection, Run, RunCollection, RunParams, RunSpec
from lfadsrm_hpc.data.synthetic import lorenz_sessions
from lfadsrm_hpc.errors import LfadsrmWarning, ResultsError, UsageError
from lfadsrm_hpc.layout import fitlog
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import loop as training
from lfadsrm_hpc.results.runs import metrics_file as run_metrics
from lfadsrm_hpc.results.runs.metrics_file import read_metrics
from lfadsrm_hpc.results.scoring import evaluation
from lfadsrm_hpc.results.scoring.evidence import fit_evidence
from lfadsrm_hpc.results.scoring.quality import judge

pytestmark = [pytest.mark.slow, pytest.mark.train]

BASE = RunParams(
    spike_bin_ms=20, co_dim=0, factors_dim=4, gen_dim=24, ic_dim=8, ic_enc_dim=24, batch_size=32,
    kl_increase_steps=80, l2_increase_steps=80, max_epochs=80, l2_gen_scale=10, learning_rate_init=0.02,
    num_samples_posterior=16, use_xla="off",
)  # fmt: skip
INPUTS = {"co_dim": 2, "ci_enc_dim": 16, "con_dim": 16}
# name -> run spec, what differs
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "good": ("many", {"held_out_neurons": 0.2, "forward_prediction_bins": 5}),
    "collapsed": ("many", {"kl_ic_weight": 300.0, "max_epochs": 40}),
    "dead_inputs": ("many", {**INPUTS, "kl_co_weight": 300.0, "max_epochs": 50}),
    "too_short": ("many", {"max_epochs": 8}),
    "overfitted": (
        "few",
        {"keep_prob": 1.0, "l2_gen_scale": 0.0, "kl_ic_weight": 0.05, "batch_size": 8, "max_epochs": 250},
    ),
}


def session(**changes: Any) -> Any:
    """A Lorenz system, with its true states (`lowd`) and a hand that follows two of them."""
    given = {
        "n_neurons": 24, "n_conditions": 6, "trials_per_condition": 24, "duration_ms": 500, "bin_ms": 10,
        "mean_rate": 20, "speed": 2, "seed": 1,
    }  # fmt: skip
    made = lorenz_sessions(1, **{**given, **changes})[0]
    hand = made.lowd.values[..., :2] @ np.array([[3.0, 1.0], [-2.0, 9.0]])
    noise = np.random.default_rng(0).normal(0, 1, hand.shape)
    return made.assign(hand=(("trial", "time", "axis"), hand + noise, {"units": "mm"}))


@pytest.fixture(scope="module")
def trained(made_once: Callable[[str, Callable[[Path], None]], Path]) -> RunCollection:
    return RunCollection.open(made_once("metrics-trained", train) / "runs")


def train(folder: Path) -> None:
    dc = DatasetCollection(folder / "datasets")
    Dataset._from_memory(dc, "many", session())
    Dataset._from_memory(dc, "few", session(trials_per_condition=2, mean_rate=8))
    rc = RunCollection(folder, "runs", dc)
    rc.add_params([BASE.replace(name=name, **changes) for name, (_, changes) in CASES.items()])
    rc.add_run_spec([RunSpec("many", dc, ["many"]), RunSpec("few", dc, ["few"])])
    rc.prepare_for_lfads(warn=False)
    for name in CASES:
        assert find(rc, name).train() == 0


def find(rc: RunCollection, name: str) -> Run:
    spec, changes = CASES[name]
    return rc.find_run(spec, **changes)


@pytest.fixture
def good(trained: RunCollection, tmp_path: Path) -> Run:
    """The good run, in a copy of the collection."""
    return find(RunCollection.open(shutil.copytree(trained.path, tmp_path / "runs")), "good")


@pytest.mark.parametrize(
    ("name", "verdicts", "checks"),
    [
        ("good", {"good"}, set()),
        ("collapsed", {"bad"}, {"collapsed", "conditions"}),
        ("dead_inputs", {"suspect", "bad"}, {"inputs"}),
        ("too_short", {"bad"}, {"ramps"}),
        ("overfitted", {"suspect", "bad"}, {"overfitted"}),
    ],
)
def test_verdicts_of_real_trainings(
    trained: RunCollection, name: str, verdicts: set[str], checks: set[str]
) -> None:
    quality = find(trained, name).metrics().quality
    found = {reason["check"] for reason in quality["reasons"]}
    assert checks <= found, quality
    assert quality["verdict"] in verdicts, quality
    assert found == set() or name != "good", quality


def test_every_file_of_a_run_tells_the_same(trained: RunCollection) -> None:
    run = find(trained, "good")
    stored = read_metrics(run.layout.metrics_json, expect_token=run._token())
    assert stored is not None
    always = {"bits_per_spike", "co_bps", "fp_bps", "rate_r2", "psth_r2"}
    assert set(stored.metrics) == always | {"latent_r2", "decoding_r2"}
    assert all(0.1 < value < 1.05 for value in stored.metrics.values()), stored.metrics
    assert stored.metrics["rate_r2"] > 0.75
    assert stored.datasets["many"]["metrics"] == stored.metrics
    with run.load_posterior_means() as means:
        assert json.loads(means.attrs["metrics"]) == pytest.approx(stored.metrics)
        assert json.loads(means.attrs["train_metrics"]) == pytest.approx(stored.train_metrics)
        assert means.attrs["quality_verdict"] == stored.verdict == "good"
        assert json.loads(means.attrs["quality_reasons"]) == []
    log = run.log_path().read_text() if run.layout.attempt(1).log.exists() else ""
    assert "warning: no metrics" not in log


def test_metrics_are_read_where_they_are_and_made_where_not(good: Run) -> None:
    path = good.layout.metrics_json
    stored, before = good.metrics(), path.stat().st_mtime_ns
    assert path.stat().st_mtime_ns == before
    for again in (good.metrics(recompute=True), (path.unlink(), good.metrics())[1]):
        assert again.metrics == pytest.approx(stored.metrics, rel=1e-12)
        assert again.train_metrics == pytest.approx(stored.train_metrics, rel=1e-12)
        assert (again.quality, again.claim_token) == (stored.quality, stored.claim_token)
    assert read_metrics(path) == again


def test_a_collection_computes_what_is_missing(good: Run) -> None:
    rc = good.collection
    assert isinstance(rc, RunCollection)
    good.layout.metrics_json.unlink()
    told: list[str] = []
    found = rc.compute_metrics(on_run=lambda run, metrics: told.append(metrics.verdict))
    assert set(found) == {run.id for run in rc.runs if run.layout.metrics_json.exists()}
    assert len(found) == len(told) == len(CASES)
    assert good.id in found
    never = rc.find_run("few", **CASES["good"][1])
    with pytest.raises(ResultsError, match="not complete"):
        rc.compute_metrics([never])


def test_a_failure_to_score_never_fails_a_run(
    good: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = good._token()

    def broken(*args: Any, **more: Any) -> Any:
        raise ValueError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "score_dataset", broken)
        assert good.train(posterior_only=True) == 0
    said = capsys.readouterr().err
    assert "warning: no metrics of many: ValueError: a bug" in said
    assert "warning: no metrics.json was written; `lfadsrm metrics` makes it" in said
    assert good._token() != old
    # what is there is of the claim before, and does not count
    assert read_metrics(good.layout.metrics_json, expect_token=good._token()) is None
    with good.load_posterior_means() as means:
        assert "quality_verdict" not in means.attrs
    assert good.metrics().verdict == "good"


def test_scores_that_cannot_be_kept_are_told(good: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, data: bytes) -> None:
        raise PermissionError("somebody else's collection")

    good.layout.metrics_json.unlink()
    monkeypatch.setattr(run_metrics, "publish_replacing", refused)
    with pytest.warns(LfadsrmWarning, match="cannot be kept: somebody else's"):
        assert good.metrics().verdict == "good"


def test_latents_and_behaviour_are_kept_with_the_run(trained: RunCollection) -> None:
    run = find(trained, "good")
    found = run.metrics()
    assert found.metrics["latent_r2"] > 0.6
    assert found.metrics["decoding_r2"] > 0.5
    assert run.decode("hand").r2 == pytest.approx(found.metrics["decoding_r2"])
    assert run.decode("hand", split="train").r2 == pytest.approx(found.train_metrics["decoding_r2"])
    shifted = run.decode("hand", lag_ms=100, features="factors")
    assert shifted.r2 < found.metrics["decoding_r2"]
    assert shifted.by_output.shape == (2,)
    assert find(trained, "collapsed").metrics().metrics["latent_r2"] < 0.3


def test_going_back_shows_in_the_fit_log(tmp_path: Path) -> None:
    data = np.random.default_rng(0).poisson(1.0, (26, 9, 6))
    hp = Hyperparameters(
        learning_rate_init=3.0, adam_epsilon=1e-8, keep_prob=1.0, max_epochs=3, batch_size=8, gen_dim=7,
        ic_dim=4, ic_enc_dim=5, factors_dim=3, co_dim=0, use_xla="off",
    )  # fmt: skip
    outcome = training.train(hp, [Session("a", data[:20], data[20:])], tmp_path, on_message=lambda text: None)
    assert outcome.rollbacks > 0
    found = fit_evidence(fitlog(tmp_path), dataclasses.asdict(hp))
    assert found.went_back == outcome.rollbacks
    assert "diverged" in {reason.check for reason in judge(found, []).reasons}


def test_single_neurons(trained: RunCollection) -> None:
    run = find(trained, "good")
    table = run.neuron_metrics()
    assert list(table.columns) == ["neuron_name", "held_out", "rate", "bits_per_spike", "rate_r2"]
    assert len(table) == 24
    assert table.held_out.sum() == 5
    assert table.rate_r2.median() > 0.6
    recorded = session().spikes.mean(("trial", "time")) * 100
    np.testing.assert_allclose(table.rate, recorded, rtol=0.1)
    with pytest.raises(UsageError, match="nothing called 'foot' over time"):
        run.decode("foot")


def test_a_submission_of_a_run(good: Run, tmp_path: Path) -> None:
    path = good.write_nlb_submission(tmp_path / "s.h5", "mc_rtt")
    good.infer(session(seed=1).spikes.values[:7], bin_ms=10, name="later")
    good.write_nlb_submission(path, "mc_maze", evaluation="later", add=True)
    with h5py.File(path) as file, good.load_posterior_means() as means:
        held_out = json.loads(means.attrs["held_out_neurons"])
        valid = means.rates.values[means.split.values == "valid"] * 0.02
        np.testing.assert_allclose(file["mc_rtt_20/eval_rates_heldout"], valid[:, :20, held_out], rtol=1e-5)
        assert file["mc_rtt_20/eval_rates_heldin_forward"].shape == (len(valid), 5, 19)
        assert file["mc_maze_20/eval_rates_heldin"].shape == (7, 20, 19)
        assert file["mc_maze_20/train_rates_heldin"].shape == (144, 20, 19)
