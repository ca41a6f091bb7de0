"""`lfadsrm infer`: new trials and new sessions from a shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc import RunCollection
from lfadsrm_hpc.cli.main import lfadsrm, main
from lfadsrm_hpc.data.readers import save_dataset
from lfadsrm_hpc.model.training import checkpoints
from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means

pytestmark = pytest.mark.train


@pytest.fixture
def infer(trained: RunCollection, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call the command on the trained collection; return exit code, standard output, standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        arguments = ["lfadsrm", "infer", *(str(word) for word in words), "-C", str(trained.path)]
        monkeypatch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


def test_new_trials(infer: Any, trained: RunCollection, kit: Any, tmp_path: Path) -> None:
    file = tmp_path / "afternoon.h5"
    save_dataset(kit.make("afternoon", kit.names["day1"], trials=5, seed=7), file)
    code, out, err = infer("alone", file)
    assert (code, err) == (0, "")
    run = trained.find_run("alone", 0)
    assert out == f"{run.path / 'inferred' / 'afternoon.nc'}\n"
    with open_posterior_means(out.strip()) as shell, run.infer(file, path=tmp_path / "again.nc") as python:
        np.testing.assert_array_equal(shell.rates, python.rates)

    code, out, err = infer("alone", file)
    assert code == 2
    assert out == ""
    assert "--overwrite" in err
    code, out, _ = infer("alone", file, "--overwrite", "--num-samples", 2, "--seed", 5, "--json")
    found = json.loads(out)
    assert (code, found["num_samples"], found["seed"], found["trials"]) == (0, 2, 5, 5)
    assert found["checkpoint"]["kind"] == "lve"


def test_the_dataset_of_a_stitched_run(
    infer: Any, trained: RunCollection, kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "later.h5"
    save_dataset(kit.make("later", kit.names["day2"], trials=3, seed=8), file)
    code, out, err = infer("both", file)
    assert (code, out) == (2, "")
    assert "day1, day2" in err
    assert "--dataset day1" in err
    folder = trained.find_run("both", 0).path
    code, out, _ = infer(folder, file, "--dataset", "day2", "-o", tmp_path / "out.nc", "--name", "late")
    assert (code, out) == (0, f"{tmp_path / 'out.nc'}\n")
    monkeypatch.setenv("LFADSRM_INFER_SESSION", "day1")
    for words in (["--dataset", "day1"], ["--session", "day1"], []):  # the older name goes on
        code, _, err = infer("both", file, *words)
        assert code == 3
    assert "a2" in err, "the message names a neuron that is not the dataset's"


def test_a_new_session(infer: Any, trained: RunCollection, kit: Any, tmp_path: Path) -> None:
    for name, trials in (("day9", 20), ("day9_more", 4)):
        save_dataset(kit.make(name, ["x", "y", "z"], trials=trials, seed=9), tmp_path / f"{name}.h5")
    code, out, _ = infer("both", tmp_path / "day9.h5", "--adapt", "--max-epochs", 2)
    run = trained.find_run("both", 0)
    assert (code, out.strip()) == (0, str(run.adapted("day9").layout.posterior_means))
    code, out, _ = infer("both", tmp_path / "day9_more.h5", "--adapted", "day9", "--json")
    found = json.loads(out)
    assert (code, found["adapted"], found["neurons"], found["trials"]) == (0, "day9", 3, 4)
    code, _, err = infer("both", tmp_path / "day9_more.h5", "--adapted", "day")
    assert code == 2
    assert "day9" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--adapt", "--adapted", "x"], "give one of them"),
        (["--adapt", "--session", "day1"], "--dataset"),
        (["--max-epochs", "3"], "--adapt"),
        (["--adapt", "--num-samples", "3"], "--num-samples has no meaning with --adapt"),
        (["--adapt", "-o", "x.nc"], "--out has no meaning with --adapt"),
        (["--kind", "best"], "posterior_push_mean"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], told: str, infer: Any, tmp_path: Path) -> None:
    (tmp_path / "data.h5").touch()
    code, out, err = infer("both", tmp_path / "data.h5", *words)
    assert (code, out) == (2, "")
    assert told in err


@pytest.mark.slow
def test_an_adaptation_that_is_stopped_goes_on(trained: RunCollection, kit: Any, tmp_path: Path) -> None:
    """SIGTERM: it checkpoints, ends with 75, and says what to do; the same command goes on."""
    file = tmp_path / "day9.h5"
    save_dataset(kit.make("day9", ["x", "y", "z"], trials=20, seed=9), file)
    words = ["infer", "both", file, "-C", trained.path, "--adapt", "--max-epochs", 3000]
    command = [sys.executable, "-m", "lfadsrm_hpc", *map(str, words)]
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "LFADSRM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    folder = trained.find_run("both").layout.adapted("day9").checkpoints
    end = time.monotonic() + 120
    while not list(folder.glob("*/*.npz")) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (75, ""), err
    assert "the same call goes on from there" in err
    checkpoint = checkpoints.load(folder / "001")
    assert checkpoint.meta["reason"] is None
    assert checkpoint.meta["epoch"] > 0


def test_the_command_is_listed() -> None:
    assert "infer" in lfadsrm.list_commands(None)  # type: ignore[arg-type]
