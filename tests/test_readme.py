"""README says what is true: its script runs, and CI calls its test command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def block(marker: str, language: str) -> str:
    """Return the code block after a marker in README."""
    match = re.search(rf"<!-- {marker}.*?-->\n```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert match, f"README has no {language} block marked {marker}"
    return match[1]


@pytest.mark.train
@pytest.mark.slow
def test_the_script_runs(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(block("script", "python"))
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'RunCollection "example" (4 runs in total)' in done.stdout
    assert re.search(r"<xarray.DataArray 'rates' \(trial: 200, time: 100\)>", done.stdout)
    assert re.search(r"units: +spikes/s", done.stdout)


def test_the_script_is_about_twenty_lines() -> None:
    lines = [line for line in block("script", "python").splitlines() if line.strip() and line[0] != "#"]
    assert len(lines) <= 25


def test_ci_calls_the_test_command_of_readme() -> None:
    command = block("tests", "bash").strip()
    assert command.startswith("pip install")
    assert "pytest" in command
    ci = (ROOT / ".ci/run").read_text()
    assert "<!-- tests -->" in ci, "CI takes the command from README"


def test_the_main_job_is_one_command() -> None:
    assert block("demo", "bash").strip() == "pip install . && lfadsrm demo"
