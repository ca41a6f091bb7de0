"""Completion, as shells ask for it: real bash, zsh and fish, and what the program answers them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from every_command import every_command

SHELLS = ("bash", "zsh", "fish")
Ask = Callable[..., list[str]]


@pytest.fixture
def ask(shell: Any, small: Path, tmp_path: Path) -> Ask:
    """Return what is offered for a line that ends where one types, in the protocol of click's shells."""

    def asked(line: str, place: Path | None = None) -> list[str]:
        words = line.split(" ")
        done = subprocess.run(
            [sys.executable, "-m", "lfadsrm_hpc"],
            cwd=place or small,
            env=shell.environment
            | {
                "_LFADSRM_COMPLETE": "bash_complete",
                "COMP_WORDS": line,
                "COMP_CWORD": str(len(words) - 1),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == "", done.stderr
        return [text.partition(",")[2] for text in done.stdout.splitlines() if text]

    return asked


def run_ids(small: Path) -> list[str]:
    return sorted(f"{path.parent.name}/{path.name}" for path in small.glob("param_*/*"))


def test_commands_and_options(ask: Ask) -> None:
    assert ask("lfadsrm st") == ["status"]
    assert set(ask("lfadsrm ")) == {words[0] for words in every_command()} - {"task"}
    assert ask("lfadsrm status --wat") == ["--watch"]
    assert ask("lfadsrm site ch") == ["check"]
    assert ask("lfadsrm completion ") == ["bash", "zsh", "fish"]
    assert "learning-curves" in ask("lfadsrm plot x le")


def test_names_of_the_collection_at_hand(ask: Ask, small: Path) -> None:
    specs = ["single_day1", "single_day2", "all"]
    assert sorted(ask("lfadsrm status --spec ")) == sorted(specs)
    assert ask("lfadsrm logs single_day2") == ["single_day2"]
    assert sorted(ask("lfadsrm logs param_")) == run_ids(small)
    assert ask("lfadsrm status --match ") == ["factors_dim="]
    assert ask("lfadsrm status --match factors_dim=") == ["factors_dim=2", "factors_dim=3"]
    assert ask("lfadsrm plot x sweep --over f") == ["factors_dim"]
    assert ask("lfadsrm status --state fai") == ["failed"]
    assert ask("lfadsrm status --state FAI") == ["FAILED"]
    assert ask("lfadsrm clean --kind gl") == ["glimpses"]
    assert "generic-slurm" in ask("lfadsrm submit --site gen")
    assert ask("lfadsrm site show perl") == ["perlmutter"]


def test_names_of_the_collection_that_is_named(ask: Ask, small: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place = shutil.copytree(small, tmp_path / "copied")
    assert ask("lfadsrm logs single", elsewhere) == []
    assert ask(f"lfadsrm logs -C {place} single", elsewhere) == ["single_day1", "single_day2"]
    assert ask(f"lfadsrm status {place} --spec a", elsewhere) == ["all"]


def test_a_damaged_collection_offers_nothing_and_says_nothing(ask: Ask, small: Path) -> None:
    (small / "collection.json").write_text("{")
    assert ask("lfadsrm logs ") == []


def test_an_unknown_shell(call: Any) -> None:
    said = call("completion", "tcsh")
    assert said.code == 2
    assert "'tcsh'" in said.err


@pytest.fixture
def scripts(shell: Any, tmp_path: Path) -> dict[str, Path]:
    """The scripts, and in `bin` a program `lfadsrm` that they call."""
    program = tmp_path / "bin/lfadsrm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lfadsrm_hpc "$@"\n')
    program.chmod(0o755)
    found = {}
    for name in SHELLS:
        found[name] = tmp_path / f"completion.{name}"
        found[name].write_text(shell("completion", name).out)
    return found


def in_shell(words: list[str], place: Path, environment: dict[str, str], scripts: dict[str, Path]) -> str:
    if shutil.which(words[0]) is None:
        if os.environ.get("LFADSRM_REQUIRE_TOOLS") == "1":
            pytest.fail(f"{words[0]} is not installed")
        pytest.skip(f"{words[0]} is not installed")
    path = f"{scripts['bash'].parent / 'bin'}:{environment['PATH']}"
    done = subprocess.run(
        words, cwd=place, env=environment | {"PATH": path, "HOME": str(scripts["bash"].parent)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


BASH = r"""
source "$1"
complete() { :; }  # of here on: what the function fills is looked at
type_line() {
    COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMPREPLY=()
    read -r -a COMP_WORDS <<<"${1//=/ = }"
    [[ $1 == *[\ =] ]] && COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _lfadsrm_completion lfadsrm "${COMP_WORDS[COMP_CWORD]}" ""
    echo "${COMPREPLY[@]}"
}
compopt() { :; }
type_line 'lfadsrm stat'
type_line 'lfadsrm status --spec single_'
type_line 'lfadsrm status --match factors_dim='
type_line 'lfadsrm status --match factors_dim=3'
type_line 'lfadsrm status --match fac'
"""


def test_bash(shell: Any, scripts: dict[str, Path], small: Path) -> None:
    words = ["bash", "--norc", "-c", BASH, "bash", str(scripts["bash"])]
    assert in_shell(words, small, shell.environment, scripts).splitlines() == [
        "status",
        "single_day1 single_day2",
        "2 3",  # bash replaces what stands behind the "=" alone
        "3",
        "factors_dim=",
    ]


def test_fish(shell: Any, scripts: dict[str, Path], small: Path) -> None:
    code = "source $argv[1]; complete -C 'lfadsrm stat'; complete -C 'lfadsrm status --match factors_dim='"
    text = in_shell(["fish", "-N", "-c", code, str(scripts["fish"])], small, shell.environment, scripts)
    offered = [line.partition("\t")[0] for line in text.splitlines()]
    assert offered == ["status", "factors_dim=2", "factors_dim=3"]


ZSH = r"""
autoload -Uz compinit && compinit -u -D
source "$1"
compadd() { while [[ $1 == -* ]]; do [[ $1 == -[VaU]* ]] && shift || break; done; print -l -- ${(P)@[-1]} }
_describe() { print -l -- ${(P)@[-2]%%:*} }
words=(lfadsrm stat) CURRENT=2; _lfadsrm_completion
words=(lfadsrm status --spec single_) CURRENT=4; _lfadsrm_completion
"""


def test_zsh(shell: Any, scripts: dict[str, Path], small: Path) -> None:
    words = ["zsh", "-f", "-c", ZSH, "zsh", str(scripts["zsh"])]
    offered = in_shell(words, small, shell.environment, scripts).splitlines()
    assert offered == ["status", "single_day1", "single_day2"]


def test_it_imports_nothing_heavy(shell: Any, small: Path) -> None:
    """Somebody waits between two keys."""
    code = (
        "import sys\n"
        "from lfadsrm_hpc.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n"
        "    print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    for line in ("lfadsrm logs param_", "lfadsrm status --match factors_dim=", "lfadsrm st"):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=small, capture_output=True, text=True, check=True,
            env=shell.environment
            | {"_LFADSRM_COMPLETE": "bash_complete", "COMP_WORDS": line,
               "COMP_CWORD": str(len(line.split()) - 1)},
        )  # fmt: skip
        assert done.stdout.strip()
        heavy = {"numpy", "tensorflow", "xarray", "pandas", "h5py", "rich", "jinja2"}
        assert not heavy & set(done.stderr.split())
