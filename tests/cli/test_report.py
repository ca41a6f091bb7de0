"""`lfadsrm report`: what it writes where, what it says, exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.api import RunCollection


def test_the_page_goes_into_the_collection_and_its_path_to_the_shell(call: Any, sweep: RunCollection) -> None:
    said = call("report", sweep.path)
    assert (said.code, said.out) == (0, f"{sweep.path}/report.html\n")
    assert "8 runs, 0." in said.err
    assert "open it in any browser" in said.err
    text = (sweep.path / "report.html").read_text()
    assert f"<code>lfadsrm report {sweep.path}</code>" in text
    assert all(run.id in text for run in sweep.runs)


def test_selections_and_json(call: Any, sweep: RunCollection, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    run = sweep.runs[2]
    words = ["--spec", "single_day1", "--match", "seed=0", "--run", run.id, "-o", path, "--no-ask"]
    said = call("report", sweep.path, *words, "--json")
    assert said.code == 0
    content = said.json
    assert content["schema_version"] == 1
    assert content["report"] == str(path)
    assert content["bytes"] == path.stat().st_size
    assert (content["runs"], content["shown"]) == (2, [run.id])
    assert isinstance(content["notes"], list)
    text = path.read_text()
    assert f"--spec single_day1 --match seed=0 --run {run.id}</code>" in text
    assert sweep.runs[1].id not in text


def test_what_cannot_be_shown(call: Any, sweep: RunCollection, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    said = call("report", sweep.path, "-o", page, "--run", sweep.runs[-1].id)
    assert (said.code, said.out) == (1, "")
    assert f"run {sweep.runs[-1].id} is not complete, it is PREPARED" in said.err
    said = call("report", sweep.path, "-o", page, "--metric", "co_bbs")
    assert said.code == 2
    assert "co_bps" in said.err, "what may be meant"
    said = call("report", sweep.path, "-o", tmp_path)
    assert said.code == 2
    assert "directory" in said.err
    said = call("report", sweep.path, "--match", "seed=7")
    assert said.code == 2
    assert not page.exists()


def test_where_nothing_may_be_written(call: Any, sweep: RunCollection, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = call("report", sweep.path, "-o", tmp_path / "file" / "page.html")
    assert said.code == 2
    assert f"there is no folder {tmp_path / 'file'}" in said.err


@pytest.mark.parametrize("name", ["it's one & two.html", "-x.html"])
def test_odd_names(call: Any, sweep: RunCollection, tmp_path: Path, name: str) -> None:
    said = call("report", sweep.path, f"--out={tmp_path / name}", "--spec", "single_day1")
    assert said.code == 0
    assert (tmp_path / name).is_file()
