"""The notebooks in docs/tutorials were executed from top to bottom, and what is in them still runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS = ROOT / "docs/tutorials"
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#[^)]*)?\)")

# What stands in place of the cell tagged "parameters": enough to see that all works.
TINY: dict[str, dict[str, Any]] = {
    "one_session": {"trials_per_condition": 6, "max_epochs": 2, "factors": [2, 3]},
    "stitching": {"days": ["monday", "tuesday"], "trials_per_condition": 4, "max_epochs": 4},
}


def cells(name: str, kind: str = "code") -> list[dict[str, Any]]:
    notebook = json.loads((TUTORIALS / f"{name}.ipynb").read_text())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_all_of_them_are_tested() -> None:
    assert sorted(path.stem for path in TUTORIALS.glob("*.ipynb")) == sorted(TINY)


@pytest.mark.parametrize("name", TINY)
def test_it_was_executed_in_order(name: str) -> None:
    code = cells(name)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell["outputs"]:
            assert output["output_type"] != "error", source(cell)
            assert "/tmp/" not in json.dumps(output), f"a path of somebody's machine below: {source(cell)}"
    pictures = [o for cell in code for o in cell["outputs"] if "image/png" in o.get("data", {})]
    assert len(pictures) >= 2
    assert (TUTORIALS / f"{name}.ipynb").stat().st_size < 1_500_000


@pytest.mark.parametrize("name", TINY)
def test_its_links_lead_somewhere(name: str) -> None:
    found = [link for cell in cells(name, "markdown") for link in LINK.findall(source(cell))]
    assert found
    for link in found:
        assert (TUTORIALS / link).exists(), link


@pytest.mark.train
@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_it_runs(name: str, tmp_path: Path) -> None:
    tiny = TINY[name]
    script = []
    for cell in cells(name):
        text = source(cell)
        if "parameters" in cell["metadata"].get("tags", []):
            assert re.findall(r"^(\w+) = ", text, re.MULTILINE) == list(tiny)
            text = "\n".join(f"{key} = {value!r}" for key, value in tiny.items())
        script.append(text)
    text = "\n\n".join(script)
    assert "RunParams(\n" in text
    text = text.replace("RunParams(\n", "RunParams(\n    use_xla='off', num_samples_posterior=8,\n")
    if name == "one_session":  # two epochs make no good fit
        assert "rc.best()" in text
        text = text.replace("rc.best()", "rc.best(include_bad=True)")
    (tmp_path / "notebook.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "notebook.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "MPLBACKEND": "Agg",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
