"""The examples in docstrings are true: each is executed, and prints what stands below it."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from doc_pages import ROOT

PACKAGE = ROOT / "lfadsrm_hpc"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def modules() -> list[str]:
    """Return the modules with examples."""
    found = (path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text())
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found]


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", modules())
@pytest.mark.usefixtures("recordings")
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    found = doctest.DocTestFinder(exclude_empty=True).find(module, name, extraglobs={"np": np, "xr": xr})
    assert any(one.examples for one in found)
    for one in found:
        runner.run(one, out=said.append)
    assert not runner.failures, "".join(said)


@pytest.mark.parametrize("name", modules())
def test_no_example_is_left_out(name: str) -> None:
    path = ROOT / (name.replace(".", "/") + ".py")
    assert not re.search(r"doctest: *\+SKIP", path.read_text()), f"{name}: let it run"
