"""A slip in the path of what a command writes makes no folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    "words",
    [
        ["report", "-o", "nowhere/page.html"],
        ["archive", "-o", "nowhere/runs.tar"],
        ["best", "--script", "nowhere/again.py"],
        ["export", "nowhere/results.nc"],
        ["export", "nowhere/deeper/runs", "--layout", "run-manager"],
        ["plot", "single_day1", "factors", "-o", "nowhere/factors.pdf"],
        ["nlb", "single_day1", "nowhere/new.h5", "--name", "mc_maze"],
        ["infer", "single_day1", "data.npz", "-o", "nowhere/late.nc"],
    ],
    ids=" ".join,
)
def test_a_folder_that_is_not_there(
    call: Any, small: Path, tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LFADSRM_COLLECTION", str(small))
    (tmp_path / "data.npz").touch()
    said = call(*words)
    assert (said.code, said.out) == (2, "")
    assert f"there is no folder {tmp_path / 'nowhere'}" in said.err
    assert not (tmp_path / "nowhere").exists()
