"""`metrics.json`, and how it comes to be at the end of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.errors import ClaimLostError
from lfadsrm_hpc.model.training.schedule import COLUMNS
from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means
from lfadsrm_hpc.results.runs.metrics_file import RunMetrics, read_metrics, write_metrics
from lfadsrm_hpc.results.scoring.evaluation import EndOfRun

SOME = RunMetrics(
    schema_version=1,
    claim_token="T1",
    versions={"lfadsrm_hpc": "1"},
    metrics={"bits_per_spike": 0.25},
    train_metrics={"bits_per_spike": 0.5},
    datasets={"day1": {"metrics": {"bits_per_spike": 0.25}, "train_metrics": {}}},
    quality={
        "verdict": "suspect",
        "reasons": [{"check": "ramps", "verdict": "suspect", "text": "Too short."}],
    },
)
PARAMS = {
    "kl_start_step": 0, "kl_increase_steps": 2, "l2_start_step": 0, "l2_increase_steps": 2,
    "learning_rate_init": 1.0, "learning_rate_decay_factor": 0.9,
}  # fmt: skip


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_metrics(path, SOME)
    assert read_metrics(path) == read_metrics(path, expect_token="T1") == SOME
    assert (SOME.verdict, SOME.texts) == ("suspect", ["Too short."])
    assert read_metrics(path, expect_token="T2") is None
    assert read_metrics(tmp_path / "absent.json") is None
    assert [item.name for item in tmp_path.iterdir()] == ["metrics.json"]


@pytest.mark.parametrize(
    "change",
    [{"schema_version": 2}, {"schema_version": "1"}, {"metrics": None}, {"claim_token": None}],
)
def test_a_file_of_a_newer_release_or_a_damaged_one_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "metrics.json"
    write_metrics(path, SOME)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **change}))
    assert read_metrics(path) is None
    path.write_text(json.dumps({**content, "later": 1}))
    assert read_metrics(path) == SOME
    for text in ("", "{", "[1]"):
        path.write_text(text)
        assert read_metrics(path) is None


def test_numbers_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_metrics(path, RunMetrics(1, "T", {}, {"a": float("nan"), "b": 1.0}, {"a": float("inf")}, {}, {}))
    found = read_metrics(path)
    assert found is not None
    assert (found.metrics, found.train_metrics) == ({"b": 1.0}, {})


def test_reading_needs_no_numbers() -> None:
    code = (
        "import sys, lfadsrm_hpc.results.runs.metrics_file as m; m.read_metrics('x');"
        "print([n for n in ('numpy', 'xarray', 'h5py', 'pandas') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- the end of a run ----------------------------------------------------------------------------------


def write_log(path: Path) -> Path:
    epoch = np.arange(1, 41)
    table = np.ones((40, len(COLUMNS)))
    table[:, 0], table[:, 1] = epoch, epoch
    lines = [",".join([str(int(v)) for v in row[:2]] + [repr(float(v)) for v in row[2:]]) for row in table]
    path.write_text("\n".join([",".join(COLUMNS), *lines, ""]))
    return path


@pytest.fixture
def at_end(made: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """A session with posterior means, a fit log, and what the run says."""
    session = made.session()
    path = made.write(tmp_path / "a.nc", session, made.together(session, "truth"))
    said: list[str] = []
    log = write_log(tmp_path / "fitlog.csv")

    def end(**changes: Any) -> EndOfRun:
        return EndOfRun(
            **{"fitlog": log, "params": PARAMS, "say": said.append, "between": lambda: None, **changes}
        )

    return SimpleNamespace(
        session=session,
        open=lambda: open_posterior_means(path),
        said=said,
        end=end,
        target=tmp_path / "m.json",
    )


def test_scores_go_into_the_file_and_into_metrics_json(at_end: SimpleNamespace) -> None:
    ending = at_end.end()
    attributes = ending.describe(at_end.open, at_end.session)
    ending.publish(at_end.target, token="T9", versions={"numpy": "0"})
    found = read_metrics(at_end.target, expect_token="T9")
    assert found is not None
    assert found.versions == {"numpy": "0"}
    assert found.metrics == attributes["metrics"] == found.datasets["made_up"]["metrics"]
    assert found.train_metrics == attributes["train_metrics"]
    assert found.metrics["rate_r2"] > 0.99
    assert found.datasets["made_up"]["undefined"]["co_bps"].startswith("no neuron is withheld")
    assert found.verdict == attributes["quality_verdict"]
    # posterior and prior of the made up initial conditions are the same
    assert [reason["check"] for reason in found.quality["reasons"]] == ["collapsed"]
    assert attributes["quality_reasons"] == found.quality["reasons"]
    assert any(line.startswith("quality: suspect") for line in at_end.said)


def test_what_fails_is_said_and_goes_no_further(at_end: SimpleNamespace, tmp_path: Path) -> None:
    def broken() -> Any:
        raise MemoryError("no room")

    for changes, opened, word in (
        ({}, broken, "MemoryError: no room"),
        ({"fitlog": tmp_path / "absent.csv"}, at_end.open, "no fit log"),
        ({"between": broken}, at_end.open, "MemoryError"),
    ):
        at_end.said.clear()
        ending = at_end.end(**changes)
        assert ending.describe(opened, at_end.session) == {}
        ending.publish(at_end.target, token="T", versions={})
        assert word in at_end.said[0]
        assert "`lfadsrm metrics` makes it" in at_end.said[1]
        assert not at_end.target.exists()
    ending = at_end.end()
    ending.describe(at_end.open, at_end.session)
    ending.publish(tmp_path / "no such folder" / "m.json", token="T", versions={})
    assert "no metrics.json" in at_end.said[-1]


def test_one_dataset_without_scores_leaves_no_half_of_a_metrics_json(at_end: SimpleNamespace) -> None:
    ending = at_end.end()
    ending.describe(at_end.open, at_end.session)
    ending.describe(lambda: at_end.open().drop_vars("factors").drop_vars("rates"), at_end.session)
    ending.publish(at_end.target, token="T", versions={})
    assert not at_end.target.exists()


def test_a_run_that_was_taken_over_ends_at_once(at_end: SimpleNamespace) -> None:
    def lost() -> None:
        raise ClaimLostError("a newer attempt has taken over")

    with pytest.raises(ClaimLostError):
        at_end.end(between=lost).describe(at_end.open, at_end.session)
