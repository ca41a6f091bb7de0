"""`lfadsrm init --python`: a script that makes the very collection that experiment.toml makes."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfadsrm_hpc.cli.main import main
from lfadsrm_hpc.collection.collection import RunCollection
from lfadsrm_hpc.collection.experiment_file import read_experiment
from lfadsrm_hpc.collection.experiment_template import template

ROOT = Path(__file__).resolve().parents[2]
QUICK = "[params]\nspike_bin_ms = 10\nbatch_size = 4\nco_dim = 0\n"
TEXTS = {
    "template": template("mine"),
    "no more than needed": "[params]\nspike_bin_ms = 10\nbatch_size = 4\n",
    "sweep": QUICK + '[sweep]\nfactors_dim = [2, 3]\nc_gen_dim = [8, 16]\n[run_specs]\nstitched = "all"\n',
    "aliases and lists": '[collection]\nname = "a \'b\' \\"c\\""\nroot = "out/deep"\ncomment = "größe\\\\n"\n'
    + QUICK
    + 'name = "p"\nl2_gen_scale = 1e-3\n[run_specs]\nsingles = false\n'
    'specs = [{ name = "two", datasets = ["day2", "day1"] }, { name = "one", datasets = ["day10"] }]\n',
    "files": '[datasets]\nfiles = ["day2*", "day1", "d[1].npz"]\n' + QUICK,
    "few trials": "[datasets]\nmin_trials = 25\n" + QUICK,
    "sessions": '[datasets]\nfiles = ["day1"]\n[[datasets.sessions]]\nname = "other"\nfile = "day2"\n'
    "options = { bin_ms = 10 }\n" + QUICK,
    "alignment": '[datasets]\nfiles = ["day*"]\nalignment = "by"\n[run_specs]\nstitched = "all"\n' + QUICK,
    "queue and cluster": QUICK + '[queue]\nslots = 2\n[cluster]\nsite = "delta"\naccount = "x"\ncpus = 2\n'
    'set = ["a.b=1"]\n',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place, trials in (("datasets", 24), ("by", 20)):
        (tmp_path / place).mkdir()
        for number, name in enumerate(("day1", "day2", "day10", "d[1]")):
            spikes = np.random.default_rng(number).poisson(0.5, (trials + number, 12, 3))
            kinds = np.arange(trials + number) % 4
            file = tmp_path / place / f"{name}.npz"
            np.savez(file, spikes=spikes, bin_ms=10.0, condition=kinds)
    (tmp_path / "datasets" / "notes.txt").write_text("no recording")
    return tmp_path


def content_of(one: h5py.Dataset | h5py.Group) -> object:
    attributes = {key: str(value) for key, value in one.attrs.items()}
    if isinstance(one, h5py.Group):
        return attributes
    return attributes, repr(np.asarray(one[()]).tolist())  # as text: NaN is the same as NaN


def files_of(collection: Path) -> dict[str, object]:
    """Return what is in each file: HDF5 by its arrays, JSON by its values, the rest byte by byte."""
    found: dict[str, object] = {}
    for path in (path for path in collection.rglob("*") if path.is_file()):
        name = str(path.relative_to(collection))
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                arrays: dict[str, object] = {f"@{key}": str(value) for key, value in file.attrs.items()}
                file.visititems(lambda key, one, arrays=arrays: arrays.update({key: content_of(one)}))
                found[name] = arrays
        else:
            found[name] = json.loads(path.read_bytes()) if path.suffix == ".json" else path.read_bytes()
    return found


def differences(found: dict[str, object], expected: dict[str, object]) -> list[str]:
    return sorted(_differing(found, expected, ""))


def _differing(found: Any, expected: Any, place: str) -> Iterator[str]:
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in {*found, *expected}:
            yield from _differing(found.get(name), expected.get(name), f"{place}/{name}")
    elif found != expected:
        yield f"{place}: {found!r:.300} for {expected!r:.300}"


def init_script(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lfadsrm", "init", str(folder), "--python", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def run_script(folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(folder / "experiment.py")],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.filterwarnings("ignore::lfadsrm_hpc.errors.DataWarning")
def test_both_give_the_same_collection(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (folder / "experiment.toml").write_text(TEXTS[name], encoding="utf-8")
    collection = read_experiment(folder).build(RunCollection)
    collection.prepare_for_lfads(warn=False)
    expected = files_of(collection.path)
    assert len([file for file in expected if file.endswith("params.json")]) == collection.n_runs
    shutil.rmtree(collection.path)
    assert init_script(folder, monkeypatch) == 0
    capsys.readouterr()
    runpy.run_path(str(folder / "experiment.py"), run_name="__main__")
    assert capsys.readouterr().out.splitlines()[-1] == str(collection.path)
    assert differences(files_of(collection.path), expected) == []


def test_without_an_experiment_it_is_the_script_of_a_new_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert init_script(folder, monkeypatch, "--name", "fresh") == 0
    assert not (folder / "experiment.toml").exists()
    run_script(folder)
    expected = files_of(folder / "runs" / "fresh")
    shutil.rmtree(folder / "runs")
    (folder / "experiment.toml").write_text(template("fresh"))
    read_experiment(folder).build(RunCollection).prepare_for_lfads(warn=False)
    assert differences(files_of(folder / "runs" / "fresh"), expected) == []


def test_the_command_that_it_names_is_quoted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert init_script(folder, monkeypatch, "--name", "a b") == 0
    assert "# Then: lfadsrm run 'runs/a b'; or here:" in (folder / "experiment.py").read_text()


def test_a_script_that_is_there_is_never_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "experiment.py").write_text("mine")
    assert init_script(folder, monkeypatch) == 2
    assert (folder / "experiment.py").read_text() == "mine"
    assert "experiment.py already" in capsys.readouterr().err
    (folder / "experiment.py").unlink()
    (folder / "experiment.toml").write_text("[params]\nco_dims = 3\n")
    assert init_script(folder, monkeypatch) == 3
    assert init_script(folder, monkeypatch, "--name", "other") == 2
    assert not (folder / "experiment.py").exists()
