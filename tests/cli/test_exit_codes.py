"""Exit codes: one table, told in three places, and a real command line that ends with each of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from every_command import leaves

from lfadsrm_hpc import errors
from lfadsrm_hpc.cli import main

ROOT = Path(__file__).resolve().parents[2]
ALWAYS_KNOWN = {0, 130}
OF_JOBS = {64, 65}  # of `task` alone
SITE = """
[site]
name = "ours"
scheduler = "slurm"
[client]
timeout_s = 2.0
history = "none"
[limits]
largest_array_index = 2
"""
FAILED = "echo 'sbatch: error: Batch job submission failed: {}' >&2; exit 1"
UNREACHABLE = FAILED.format("Unable to contact slurm controller (connect failure)")
REFUSED = FAILED.format("Invalid account or account/partition combination specified")
CONFIG = "echo 'ClusterName = ours'; echo 'SLURM_VERSION = 22.05.8'"


def table(page: str, title: str) -> dict[int, str]:
    """Return the first table of codes below a title."""
    text = (ROOT / "docs" / page).read_text().partition(title)[2]
    rows = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert rows is not None
    return {int(code): words for code, words in re.findall(r"^\| (\d+) \| (.*?) \|", rows[0], re.MULTILINE)}


CODES = table("manifest.md", "Of the command line:")


def codes_in(help_text: str) -> set[int]:
    """Return the codes that a help text lists."""
    listed = help_text.partition("Exit codes: ")[2].partition("\n\n")[0]
    return {int(code) for code in re.findall(r"(?:^|; |, |\n\s*)(\d{1,3}) [a-z-]", listed)}


def test_help_and_page_have_the_same_table() -> None:
    epilog = main.lfadsrm.epilog or ""
    assert codes_in(epilog) == set(CODES) - {main.EXIT_PIPE_CLOSED}


def test_errors_end_with_codes_of_the_table() -> None:
    found = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.LfadsrmError)
    }
    assert found <= set(CODES) | OF_JOBS


@pytest.mark.parametrize("words", [pytest.param(words, id=" ".join(words)) for words in leaves()])
def test_help_of_commands_lists_codes_of_the_table(words: tuple[str, ...]) -> None:
    text = leaves()[words].help or ""
    if "Exit codes" not in text or "those of `lfadsrm submit`" in text:
        return
    assert 0 in codes_in(text)
    assert codes_in(text) <= set(CODES) | (OF_JOBS if words == ("task",) else set())


@pytest.fixture
def cluster(shell: Any, experiment: Path, tmp_path: Path) -> Any:
    """Return a call of `lfadsrm submit` on a site whose sbatch does what a line of shell says."""
    folder = experiment / "site_configs"
    folder.mkdir()
    (folder / "ours.toml").write_text(SITE)
    programs = tmp_path / "programs"
    programs.mkdir()

    def submit(sbatch: str, *words: str) -> Any:
        for name, body in {"sbatch": sbatch, "squeue": "", "scontrol": CONFIG, "sacct": "exit 1"}.items():
            (programs / name).write_text(f"#!/bin/bash\n{body}\n")
            (programs / name).chmod(0o755)
        path = f"{programs}:{os.environ['PATH']}"
        return shell(
            "submit", "--site", "ours", "--walltime", "1:00:00", *words, cwd=experiment, PATH=path,
            COUNT=str(tmp_path / "count"),
        )  # fmt: skip

    return submit


class TestEachCode:
    """The real command line ends with each code of the table. 75: tests/inference/test_infer_command.py."""

    def test_all_are_tested(self) -> None:
        tested = {int(name.rpartition("_")[2]) for name in dir(self) if re.fullmatch(r"test_.*_\d+", name)}
        assert tested | {75} == set(CODES)

    def test_done_0(self, shell: Any, experiment: Path) -> None:
        assert shell("status", experiment).code == 0

    def test_failed_1(self, shell: Any, experiment: Path) -> None:
        target = experiment / "new.nc"
        export = ["export", target, "-C"]
        for command in (["best"], ["metrics"], ["check-runs"], export):
            said = shell(*command, experiment)
            assert (said.code, said.out) == (1, ""), command

    def test_usage_2(self, shell: Any, tmp_path: Path) -> None:
        assert shell("statsu").code == 2
        assert shell("status", tmp_path).code == 2

    def test_invalid_3(self, shell: Any, tmp_path: Path) -> None:
        (tmp_path / "experiment.toml").write_text("[params]\nfactors_dims = 3\n")
        assert shell("prepare", tmp_path).code == 3

    def test_refused_3(self, cluster: Any) -> None:
        assert cluster(REFUSED).code == 3

    def test_nothing_to_do_4(self, shell: Any, experiment: Path) -> None:
        assert shell("cancel", experiment, "--all").code == 4

    def test_some_failed_5(self, shell: Any, experiment: Path, plan: Any) -> None:
        plan(all=(0.1, 1))
        assert shell("run", experiment, "--spec", "all").code == 5
        assert shell("status", experiment, "--fail").code == 5
        assert shell("status", experiment).code == 0

    def test_no_scheduler_6(self, cluster: Any) -> None:
        assert cluster(UNREACHABLE).code == 6

    def test_partly_7(self, cluster: Any) -> None:
        first = f'if [[ -e $COUNT ]]; then {UNREACHABLE}; fi; touch "$COUNT"; echo 4711'
        said = cluster(first)
        assert (said.code, said.out) == (7, "4711\n"), said.err
        again = cluster("echo 4712")
        assert (again.code, again.out) == (0, "4712\n"), "the same command goes on"

    def test_uncertain_9(self, cluster: Any) -> None:
        said = cluster("sleep 60")
        assert said.code == 9
        assert "lfadsrm reconcile" in said.err

    def test_interrupted_130(self, shell: Any, experiment: Path, plan: Any) -> None:
        plan(all=(30, 0))
        process = shell.start("run", experiment, "--spec", "all")
        shell.wait_until(lambda: list(experiment.glob("runs/small/param_*/all/attempts/*/log.txt")))
        process.send_signal(signal.SIGINT)
        assert shell.end(process).code == 130

    def test_ended_by_term_143(self, shell: Any, experiment: Path) -> None:
        assert self._ended(shell, experiment, signal.SIGTERM) == 143

    def test_ended_by_the_terminal_129(self, shell: Any, experiment: Path) -> None:
        assert self._ended(shell, experiment, signal.SIGHUP) == 129

    def _ended(self, shell: Any, experiment: Path, number: signal.Signals) -> int:
        words = ("peek", "all", "--match", "factors_dim=2", "--every", 60, "-C", experiment)
        process = shell.start(*words)
        assert process.stdout.readline()  # so it waits, or soon does
        process.send_signal(number)
        code = shell.end(process).code
        assert isinstance(code, int)
        return code

    def test_pipe_closed_141(self, shell: Any) -> None:
        line = f"set -o pipefail; {sys.executable} -m lfadsrm_hpc show --params | true"
        process = subprocess.run(
            ["bash", "-c", line], env=shell.environment, capture_output=True, check=False
        )
        assert (process.returncode, process.stderr) == (141, b"")
