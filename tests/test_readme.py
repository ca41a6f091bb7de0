"""README says what is true: CI calls its test command. Its code is run by tests/docs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def block(marker: str, language: str) -> str:
    """Return the code block after a marker in README."""
    match = re.search(rf"<!-- {marker}.*?-->\n```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert match, f"README has no {language} block marked {marker}"
    return match[1]


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
