"""The folder of a run says which RUN of which collection a command is about."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.api import RunCollection


@pytest.fixture
def folder(small: Path) -> Path:
    """Return the folder of a run of which nobody knows from the current folder upwards."""
    return RunCollection.open(small).find_run("single_day1", factors_dim=3).path


@pytest.mark.parametrize("command", [["why"], ["peek"], ["show", "--run"]])
def test_a_folder_as_run(call: Any, folder: Path, command: list[str]) -> None:
    run_id = f"{folder.parent.name}/{folder.name}"
    for text in (str(folder), f"{folder}/", os.path.relpath(folder)):
        said = call(*command, text, "--json")
        assert said.code == 0, said.err
        assert said.json["run_id"] == run_id


def test_a_folder_where_the_run_has_no_results_yet(call: Any, folder: Path, tmp_path: Path) -> None:
    said = call("logs", folder)
    assert said.code == 2
    assert "printed nothing" in said.err
    for command in (
        ["nlb", folder, tmp_path / "new.h5", "--name", "mc_maze"],
        ["report", "--run", folder, "--out", tmp_path / "page.html"],
        ["plot", folder, "factors"],
    ):
        said = call(*command)
        assert said.code in (1, 2), command
        assert "complete" in said.err or "withheld" in said.err or "held" in said.err, said.err
        assert "no run collection" not in said.err, command


def test_what_cannot_be_a_folder(call: Any, small: Path, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for text in ("x" * 300, tmp_path / "circle"):
        said = call("why", text, "-C", small)
        assert said.code == 2, said.err
        assert "no run fits" in said.err


def test_with_a_collection_it_must_be_of_that(call: Any, folder: Path, small: Path, tmp_path: Path) -> None:
    assert call("why", folder, "-C", small).code == 0
    assert call("why", folder, "-C", small.parent.parent).code == 0
    other = RunCollection(tmp_path, "other")
    other.path.mkdir()
    (other.path / "collection.json").write_text((small / "collection.json").read_text())
    said = call("why", folder, "-C", other.path)
    assert said.code == 2
    assert "no run" in said.err
