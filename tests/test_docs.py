"""The pages in docs/ are true: their code runs, their links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from lfadsrm_hpc.errors import LfadsrmWarning

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A link's target: a file with or without an anchor; not the web.
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#[^)]*)?\)")


@dataclass(frozen=True)
class Block:
    """A piece of code of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}, line {self.line} ({self.language})"


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(page, text[: m.start()].count("\n") + 1, m[1], m[2]) for m in FENCE.finditer(text)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder, with `lfadsrm` on the path."""
    command = tmp_path / "bin" / "lfadsrm"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lfadsrm_hpc "$@"\n')
    command.chmod(0o755)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    for name in ("LFADSRM_COLLECTION", "LFADSRM_JSON"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "here"


def execute(block: Block, names: dict[str, Any]) -> None:
    if block.language == "python":
        exec(compile("\n" * block.line + block.text, str(block.page), "exec"), names)
    elif block.language == "bash":
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text], capture_output=True, text=True, check=False
        )
        print(done.stdout, done.stderr)
        assert done.returncode == 0, f"{block} ended with {done.returncode}:\n{done.stderr}"
    elif block.language == "toml":
        first = block.text.splitlines()[0]
        assert first.startswith("# "), f"{block} does not name its file"
        Path(first[2:]).write_text(block.text)
    else:
        raise AssertionError(f"{block}: nobody knows how to run this; leave the language out")


@pytest.mark.train
@pytest.mark.slow
def test_quickstart(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("Agg")
    names: dict[str, Any] = {"__name__": "quickstart"}
    for block in blocks(ROOT / "docs/quickstart.md"):
        try:
            execute(block, names)
        except Exception as error:
            raise AssertionError(f"{block} does not work: {error}") from error
    assert (place / "learning_curves.png").stat().st_size > 1000
    assert dict(names["pm"].rates.sizes) == {"trial": 90, "time": 50, "neuron": names["pm"].sizes["neuron"]}
    assert names["average"].sizes["condition"] == 6
    assert names["held_back"].sizes["trial"] == 18
    assert [group.rpartition("/")[2] for group in names["tree"].groups[-2:]] == ["day1", "day2"]


@pytest.mark.train
@pytest.mark.slow
def test_readers(place: Path) -> None:
    names: dict[str, Any] = {"__name__": "readers"}
    for block in blocks(ROOT / "docs/readers.md"):
        try:
            execute(block, names)
        except Exception as error:
            raise AssertionError(f"{block} does not work: {error}") from error
    assert dict(names["session"].sizes) == {
        **{"trial": 45, "time": 160, "neuron": 11, "hand_channel": 2},
    }
    assert names["day2"].load().spikes.shape == (20, 40, 5)
    assert names["day4"].load().hand.shape == (30, 500, 2)
    assert names["dc"]["grating1"].load().sizes["trial"] == 38
    assert names["params"].held_out_neurons == (15, 16, 17, 18, 19)
    assert names["params"].forward_prediction_bins == 10
    assert names["free"].rates.sizes == {"time": 3000, "neuron": 12}
    assert not names["free"].rates.isnull().any()
    assert set(names["free"].split.values) == {"train", "valid"}
    assert (place / "reaching/runs/reaching/collection.json").is_file()


@pytest.mark.slow
def test_stitching(place: Path) -> None:
    matplotlib.use("Agg")
    names: dict[str, Any] = {"__name__": "stitching"}
    for block in blocks(ROOT / "docs/stitching.md"):
        try:
            execute(block, names)
        except Exception as error:
            raise AssertionError(f"{block} does not work: {error}") from error
    assert (place / "alignment.png").stat().st_size > 1000
    assert "own principal components" in str(names["caught"][-1].message)
    assert (place / "runs").is_dir()


def test_plots(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of the page draws the pictures of the page, from runs that are made up."""
    monkeypatch.syspath_prepend(str(ROOT / "tests/results"))
    import pictures
    from made_up_runs import build

    from lfadsrm_hpc.results import plots

    build(place / "runs")
    names: dict[str, Any] = {"__name__": "plots"}
    with plots.style("light"):
        for block in blocks(ROOT / "docs/plots.md"):
            try:
                execute(block, names)
            except Exception as error:
                raise AssertionError(f"{block} does not work: {error}") from error
    shown = re.findall(r"\]\(images/(.*?)\)", (ROOT / "docs/plots.md").read_text())
    assert sorted(shown) == sorted(path.name for path in place.glob("*.png"))
    for name in shown:
        stored = ROOT / "docs/images" / name
        assert stored.stat().st_size < 60_000
        one, two = (pictures.read(path)[::2, ::2] for path in (place / name, stored))
        found = pictures.difference(one, two, shift=pictures.SHIFT)
        assert found < 0.55 * pictures.content(two), f"{name}: python docs/images/draw.py draws it again"
    assert (place / "sweep.pdf").read_bytes().startswith(b"%PDF")
    assert names["found"].frequency_hz[0] == pytest.approx(2, rel=1e-3)


def test_report(place: Path, fabricated: Any) -> None:
    """The page's collection is there, with results that are made up."""
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.collection.run_spec import RunSpec

    found = fabricated.sessions(place / "datasets")
    rc = RunCollection(place / "runs", "reaching", found)
    rc.add_params(RunParams(**fabricated.BASE).generate_sweep(factors_dim=[4, 8], seed=[0, 1]))
    rc.add_run_spec([RunSpec("single_day1", found, ["day1"]), RunSpec("both", found, found.names)])
    with fabricated.quickly():
        rc.prepare_for_lfads(warn=False)
    for run in rc.runs:
        fabricated.complete(run, metrics={"co_bps": 0.1 + run.params.seed / 10}, verdict="good")
    names: dict[str, Any] = {"__name__": "report"}
    for block in blocks(ROOT / "docs/report.md"):
        if block.language == "text":  # starts servers
            continue
        try:
            execute(block, names)
        except Exception as error:
            raise AssertionError(f"{block} does not work: {error}") from error
    for name in ("runs/reaching/report.html", "day1.html", "seed0.html", "reaching.html", "chosen.html"):
        assert (place / name).read_text().startswith("<!doctype html>")
    assert names["page"].shown == (names["chosen"][0].id,)
    assert (place / "tensorboard.sh").read_text().count("ln -s") == 4
    for name in re.findall(r"\]\(images/(.*?)\)", (ROOT / "docs/report.md").read_text()):
        assert (ROOT / "docs/images" / name).stat().st_size < 150_000


@pytest.mark.train
@pytest.mark.slow
def test_metrics(place: Path) -> None:
    names: dict[str, Any] = {"__name__": "metrics"}
    for block in blocks(ROOT / "docs/metrics.md"):
        try:
            execute(block, names)
        except Exception as error:
            raise AssertionError(f"{block} does not work: {error}") from error
    assert {"bits_per_spike", "co_bps", "fp_bps", "rate_r2", "psth_r2"} == set(names["metrics"].metrics)
    assert names["metrics"].verdict == "bad"  # ten epochs
    assert (place / "submission.h5").is_file()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_code_can_be_read(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, str(block), "exec")
        elif block.language == "bash":
            assert not re.search(r"(?m)^\$ ", block.text), f"{block}: prompts cannot be copied"
            done = subprocess.run(
                ["bash", "-n"], input=block.text, text=True, capture_output=True, check=False
            )
            assert done.returncode == 0, f"{block}: {done.stderr}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_commands_in_the_text_exist() -> None:
    from lfadsrm_hpc.cli.main import _COMMANDS

    # The page of the architecture tells of commands to come.
    for page in [ROOT / "README.md", *(page for page in PAGES if page.name != "architecture.md")]:
        for command in re.findall(r"`lfadsrm ([a-z-]+)", page.read_text()):
            assert command in _COMMANDS, f"{page.name} names `lfadsrm {command}`"


def test_results(place: Path, fabricated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's sweep is there, with results that are made up: training it would take minutes."""
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.collection.run_spec import RunSpec

    python = place.parent / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    found = fabricated.sessions(place / "datasets")
    rc = RunCollection(place / "runs", "reaching", found)
    rc.add_params(RunParams(**fabricated.BASE).generate_sweep(factors_dim=[4, 8], seed=[0, 1]))
    rc.add_run_spec([RunSpec(f"single_{name}", found, [name]) for name in found.names])
    rc.add_run_spec(RunSpec("both_days", found, found.names))
    rc.prepare_for_lfads(warn=False)
    for number, run in enumerate(rc.runs):
        fabricated.complete(run, valid_costs=(9, 8, 7 - number / 10))
    names: dict[str, Any] = {"__name__": "results"}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for block in blocks(ROOT / "docs/results.md"):
            try:
                execute(block, names)
            except Exception as error:
                raise AssertionError(f"{block} does not work: {error}") from error
    (padded,) = [str(one.message) for one in said if issubclass(one.category, LfadsrmWarning)]
    assert "factor is padded with NaN to 8" in padded
    assert names["held_back"].sizes["trial"] == 4
    assert names["everyone"].sizes == {"time": 10, "neuron": 11}
    assert names["apart"].spikes.dims == ("split", "condition", "time", "neuron")
    assert len(names["tree"].leaves) == 8
    assert names["neuron"].dims == ("seed", "trial", "time")
    assert names["best"].run.id == rc.runs[3].id
    assert (place / "reproduced/reaching").is_dir()
    assert (place / "reproduce_both.py").is_file()
    assert (place / "best.json").stat().st_size > 1000


def test_legacy(place: Path, fabricated: Any, matlab: Any) -> None:
    """A collection of the Matlab run manager and one of ours are there, made up."""
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.collection.run_spec import RunSpec

    matplotlib.use("Agg")
    matlab.Made(place / "matlab/runs/reaching")
    found = fabricated.sessions(place / "datasets")
    rc = RunCollection(place / "runs", "reaching", found)
    rc.add_params(RunParams(**fabricated.BASE).generate_sweep(factors_dim=[4, 8], seed=[0, 1]))
    rc.add_run_spec(RunSpec("single_day1", found, ["day1"]))
    rc.add_run_spec(RunSpec("both_days", found, found.names))
    rc.prepare_for_lfads(warn=False)
    for run in rc.runs:
        fabricated.complete(run)
    names: dict[str, Any] = {"__name__": "legacy"}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for block in blocks(ROOT / "docs/legacy.md"):
            try:
                execute(block, names)
            except Exception as error:
                raise AssertionError(f"{block} does not work: {error}") from error
    padded, left_out = [str(one.message) for one in said if issubclass(one.category, LfadsrmWarning)]
    assert "factor is padded" in padded
    assert "standard deviations" in left_out
    assert names["psth"].sizes["condition"] == 3
    assert names["best"].params.factors_dim == 2
    assert names["rates"].sizes == {"trial": 20, "time": 10, "neuron": 5}
    assert names["params"].sizes["factor"] == 8
    assert len(names["tree"].leaves) == 4
    assert len(names["again"].runs) == 4
    assert (place / "rates.nc").stat().st_size > 1000
    assert (place / "old.nc").stat().st_size > 1000
    assert (place / "for_matlab/single/summary.txt").is_file()
