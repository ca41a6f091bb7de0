"""`lfadsrm best`: tables, words, JSON, the script, exit codes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.collection.params import RunParams


@pytest.fixture(scope="module")
def swept(fabricated: Any, tmp_path_factory: pytest.TempPathFactory) -> RunCollection:
    """Two run specs x three seeds; one run is bad, one not run."""
    rc = fabricated.collection(
        tmp_path_factory.mktemp("best"),
        RunParams(**fabricated.BASE).generate_sweep(seed=[0, 1, 2]),
        specs={"single_day1": ["day1"], "both": ["day1", "day2"]},
    )
    for number, run in enumerate(rc.runs[:-1]):
        verdict = "bad" if number == 2 else "good"
        fabricated.complete(run, metrics={"co_bps": 0.1 + number / 100}, verdict=verdict, reasons=["why"])
    found: RunCollection = rc
    return found


def test_the_best_of_each_run_spec_is_named_with_what_to_know(call: Any, swept: RunCollection) -> None:
    said = call("best", swept.path)
    assert (said.code, said.err) == (0, "")
    one, other = said.out.split("\n\n")
    lines = one.splitlines()
    assert lines[0] == "single_day1: best of 2 by co_bps"
    assert lines[1].split() == ["params", "co_bps", "epochs", "verdict"]
    assert lines[2].split() == ["1", swept.runs[1].params.param_hash, "0.11", "4", "good", "seed=1"]
    assert lines[3].split()[-1] == "seed=0"
    assert f"run: {swept.runs[1].id}" in lines
    assert f"note: left out, since quality control calls it bad: {swept.runs[2].id}" in lines
    assert lines[lines.index("methods:") + 1] == swept.best(spec="single_day1").methods, "one line to paste"
    assert "note: 1 of 3 runs is not complete (1 prepared)" in other


def test_metrics_selections_and_lengths(call: Any, swept: RunCollection) -> None:
    said = call("best", swept.path, "--spec", "both", "--metric", "lowest_valid_cost", "--top", "1")
    assert said.out.startswith("both: best of 2 by lowest_valid_cost")
    assert "and 1 more (--top)" in said.out
    assert f"tied with {swept.runs[4].id}" in said.out
    said = call("best", swept.path, "--match", "seed=2", "--include-bad")
    assert said.out.startswith("single_day1: best of 1 by co_bps")
    assert "quality control calls the best run bad: why" in said.out


def test_json(call: Any, swept: RunCollection) -> None:
    content = call("best", swept.path, "--json").json
    assert content["schema_version"] == 1
    assert content["collection"] == str(swept.path)
    one = content["best"]["single_day1"]
    assert (one["run_id"], one["metric"], one["value"], one["competed"]) == (
        swept.runs[1].id, "co_bps", 0.11, 2
    )  # fmt: skip
    assert [row["run_id"] for row in one["ranking"]] == [swept.runs[1].id, swept.runs[0].id]
    assert one["differences"]["seed"] == 1
    assert one["methods"].startswith("Single-trial firing rates")


def test_a_script_that_reproduces_it(call: Any, swept: RunCollection, tmp_path: Path) -> None:
    script = tmp_path / "reproduce.py"
    said = call("best", swept.path, "--spec", "both", "--script", script)
    assert said.code == 0
    assert said.err == f"{script} reproduces {swept.runs[4].id}\n"
    assert script.read_text() == swept.best(spec="both").script
    assert os.access(script, os.X_OK)
    again = call("best", swept.path, "--spec", "both", "--script", script)
    assert (again.code, again.out) == (2, "")
    assert "there is such a file already" in again.err
    several = call("best", swept.path, "--script", tmp_path / "other.py")
    assert several.code == 2
    assert "reproduces one run, and there are 2 run specs" in several.err
    assert "--spec single_day1" in several.err
    assert not (tmp_path / "other.py").exists()
    nowhere = call("best", swept.path, "--spec", "both", "--script", tmp_path / "absent" / "x.py")
    assert nowhere.code == 2
    assert f"there is no folder {tmp_path / 'absent'}" in nowhere.err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--metric", "co_bsp"], 2, "did you mean 'co_bps'?"),
        (["--metric", "fp_bps"], 1, "no complete run of single_day1 has fp_bps"),
        (["--spec", "bth"], 2, "did you mean 'both'?"),
        (["--match", "seed=7"], 2, "no run fits --match seed=7"),
        (["--spec", "both", "--match", "seed=2"], 1, "no run is complete (1 prepared)"),
        (["--top", "0"], 2, "--top"),
    ],
)
def test_what_is_wrong_is_said(
    call: Any, swept: RunCollection, words: list[str], code: int, text: str
) -> None:
    said = call("best", swept.path, *words)
    assert (said.code, said.out) == (code, "")
    assert text in said.err


def test_many_run_specs_get_a_line_each(call: Any, fabricated: Any, tmp_path: Path) -> None:
    specs = {f"spec{k}": ["day1"] for k in range(5)}
    rc = fabricated.collection(tmp_path, specs=specs)
    for number, run in enumerate(rc.runs):
        fabricated.complete(run, metrics={"co_bps": 0.2} if number else None)
    lines = call("best", rc.path).out.splitlines()
    assert lines[0].split() == ["run", "spec", "params", "score", "of"]
    assert lines[1].split() == ["spec0", rc.params[0].param_hash, "3", "lowest_valid_cost", "1"]
    assert lines[5].split() == ["spec4", rc.params[0].param_hash, "0.2", "co_bps", "1"]
    assert lines[6] == "--spec NAME: notes, differences from the defaults, methods"
    assert len(call("best", rc.path, "--json").json["best"]) == 5


def test_it_fits_a_terminal(swept: RunCollection) -> None:
    """In a terminal of 80 columns nothing is wider."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-m", "lfadsrm_hpc", "best", str(swept.path)]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    text = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the terminal of a process that ended
            break
        if not piece:
            break
        text += piece
    os.close(ours)
    assert process.wait() == 0
    lines = text.decode().replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) > 40
