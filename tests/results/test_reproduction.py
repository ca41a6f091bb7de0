"""Scripts that make a run again: executed as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.api import Run, RunCollection
from lfadsrm_hpc.collection.params import RunParams, param
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.data.inputs import read_inputs
from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means
from lfadsrm_hpc.results.runs.reproduction import reproducing_script

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class AreaParams(RunParams):
    area: str = param("M1", "Brain area.", kind="str", affects="data")


def execute(text: str, folder: Path, *args: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder as a process of its own, with nothing of this one's settings."""
    (folder / "reproduce.py").write_text(text)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LFADSRM_", "OMP_", "TF_"))}
    return subprocess.run(
        [sys.executable, "reproduce.py", *map(str, args)],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def again(folder: Path, run: Run) -> Run:
    return RunCollection.open(folder / "reproduced" / run.collection.name).run_by_id(run.id)


def check_equal(mine: Any, theirs: Any, where: str) -> None:
    """Compare what may hold arrays."""
    if is_dataclass(theirs):
        mine, theirs = vars(mine), vars(theirs)
    if isinstance(theirs, dict):
        assert mine.keys() == theirs.keys(), where
        for name, value in theirs.items():
            check_equal(mine[name], value, f"{where} {name}")
        return
    np.testing.assert_array_equal(mine, theirs, err_msg=where)


def check_same(folder: Path, run: Run) -> None:
    """Compare what the script made with a run."""
    found = again(folder, run)
    assert found.record()["hashed_values"] == run.record()["hashed_values"]
    assert found.params == run.params
    for one, other in zip(found.record()["inputs"], run.record()["inputs"], strict=True):
        assert one["inputs_fingerprint"] == other["inputs_fingerprint"]
        mine, theirs = (vars(read_inputs(r.input_files()[one["dataset"]])) for r in (found, run))
        check_equal(mine, theirs, one["dataset"])


def test_the_same_run_of_the_same_data(make: Any, fabricated: Any, tmp_path: Path) -> None:
    params = RunParams(**fabricated.BASE, name="a name").generate_sweep(factors_dim=[2, 3], keep_prob=[0.9])
    rc = make(params, specs={"both 'days'": ["day2", "day1"], "alone": ["day1"]})
    best = rc.best(spec="both 'days'", factors_dim=3)
    done = execute(best.script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{best.run.id}: the same run on the same data" in done.stdout
    check_same(tmp_path, best.run)
    assert len(again(tmp_path, best.run).collection.runs) == 1, "and no other"
    assert again(tmp_path, best.run).params.name == "a name"


def test_other_data_stop_it(make: Any, tmp_path: Path) -> None:
    (run,) = make().runs
    other = tmp_path / "elsewhere"
    other.mkdir()
    with np.load(tmp_path / "datasets/day1.npz") as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(other / "day1.npz", **{**arrays, "spikes": arrays["spikes"] + 1})
    done = execute(reproducing_script(run), tmp_path, "--datasets", other)
    assert done.returncode == 1
    assert "session 'day1' holds other data than it did" in done.stderr


def test_other_defaults_stop_it(make: Any, tmp_path: Path) -> None:
    (run,) = make().runs
    text = reproducing_script(run).replace("'gen_dim': 8", "'gen_dim': 9")
    done = execute(text, tmp_path)
    assert done.returncode == 1
    assert "not that of param_" in done.stderr
    assert "install version" in done.stderr


def test_data_that_were_in_memory_are_asked_for(fabricated: Any, tmp_path: Path) -> None:
    sessions = DatasetCollection(tmp_path / "nowhere")
    spikes = np.random.default_rng(0).poisson(0.5, (20, 20, 4))
    Dataset.from_arrays(sessions, "day1", spikes, bin_ms=2)
    rc = RunCollection(tmp_path / "runs", "memory", sessions)
    rc.add_params(RunParams(**{**fabricated.BASE, "ext_input_dim": 0}))
    rc.add_run_spec(RunSpec("alone", sessions, ["day1"]))
    rc.prepare_for_lfads(warn=False)
    (run,) = RunCollection.open(rc.path).runs
    text = reproducing_script(run)
    done = execute(text, tmp_path)
    assert done.returncode == 1
    assert "day1: not from a file; add it in the function sessions()" in done.stderr
    line = '    # Dataset.from_arrays(found, "name of the session", spikes, bin_ms=..., condition=...)\n'
    assert line in text
    own = (
        "    import numpy as np\n    spikes = np.random.default_rng(0).poisson(0.5, (20, 20, 4))\n"
        '    Dataset.from_arrays(found, "day1", spikes, bin_ms=2)\n'
    )
    done = execute(text.replace(line, own), tmp_path)
    assert done.returncode == 0, done.stderr
    check_same(tmp_path, run)


def test_what_a_run_starts_from_is_made_before_it(make: Any, fabricated: Any, tmp_path: Path) -> None:
    rc = make(done=0)
    (first,) = rc.runs
    rc.add_params(first.params.replace(start_from=first.id, learning_rate_init=0.02))
    with fabricated.quickly():
        rc.prepare_for_lfads(warn=False)
    second = rc.find_run(learning_rate_init=0.02)
    done = execute(reproducing_script(second), tmp_path)
    assert done.returncode == 0, done.stderr
    for run in (first, second):
        check_same(tmp_path, run)
    assert "was not trained when this was written" in reproducing_script(second)


def test_params_of_a_user_s_own_class(make: Any, fabricated: Any, tmp_path: Path) -> None:
    rc = make([AreaParams(**fabricated.BASE, area="V1")], done=0)
    (run,) = rc.runs
    done = execute(reproducing_script(run), tmp_path)
    assert done.returncode == 0, done.stderr
    assert again(tmp_path, run).params.values()["area"] == "V1"
    (opened,) = RunCollection.open(rc.path).runs  # without that class
    done = execute(reproducing_script(opened), tmp_path)
    assert "1 kept" in done.stdout, done.stderr


def test_sessions_that_a_user_s_own_class_reads(fabricated: Any, tmp_path: Path) -> None:
    (tmp_path / "labreader.py").write_text(
        "from lfadsrm_hpc import Dataset\n"
        "class LabDataset(Dataset):\n"
        "    def read(self):\n"
        "        from lfadsrm_hpc.data.readers import from_arrays\n"
        "        import numpy as np\n"
        "        return from_arrays(np.loadtxt(self.path, dtype=int).reshape(20, 20, 4), bin_ms=2)\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        from labreader import LabDataset  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(tmp_path))
    spikes = np.random.default_rng(0).poisson(0.5, (20, 20, 4))
    np.savetxt(tmp_path / "day1.lab", spikes.reshape(400, 4), fmt="%d")
    sessions = DatasetCollection(tmp_path)
    LabDataset(sessions, "day1.lab")
    rc = RunCollection(tmp_path / "runs", "lab", sessions)
    rc.add_params(RunParams(**{**fabricated.BASE, "ext_input_dim": 0}))
    rc.add_run_spec(RunSpec("alone", sessions, ["day1"]))
    rc.prepare_for_lfads(warn=False)
    done = execute(reproducing_script(rc.runs[0]), tmp_path)
    assert done.returncode == 0, done.stderr
    check_same(tmp_path, rc.runs[0])


def test_options_readers_and_alignment_data_are_kept(fabricated: Any, tmp_path: Path) -> None:
    (tmp_path / "labfunctions.py").write_text(
        "def read_text(path, width):\n"
        "    from lfadsrm_hpc.data.readers import from_arrays\n"
        "    import numpy as np\n"
        "    counts = np.loadtxt(path, dtype=int).reshape(20, 20, 4)\n"
        "    return from_arrays(counts, bin_ms=width, condition=np.arange(20) % 4)\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        from labfunctions import read_text  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(tmp_path))
    rng, condition = np.random.default_rng(0), np.arange(20) % 4
    np.savez(tmp_path / "day1.npz", spikes=rng.poisson(0.5, (20, 20, 5)), condition=condition)
    np.savez(tmp_path / "cue.npz", spikes=rng.poisson(0.5, (20, 20, 5)), condition=condition)
    np.savetxt(tmp_path / "day2.lab", rng.poisson(0.5, (400, 4)), fmt="%d")
    sessions = DatasetCollection(tmp_path)
    Dataset(sessions, "day1.npz", bin_ms=2).align_by("cue.npz", bin_ms=2)
    Dataset.from_file(sessions, "day2.lab", read_text, width=2)
    rc = RunCollection(tmp_path / "runs", "lab", sessions)
    rc.add_params(RunParams(**{**fabricated.BASE, "ext_input_dim": 0}))
    rc.add_run_spec(RunSpec("both", sessions, ["day1", "day2"]))
    rc.prepare_for_lfads(warn=False)
    done = execute(reproducing_script(rc.runs[0]), tmp_path)
    assert done.returncode == 0, done.stderr
    check_same(tmp_path, rc.runs[0])


@pytest.mark.parametrize("what", ["reader", "alignment data"])
def test_what_cannot_be_imported_is_asked_for(fabricated: Any, tmp_path: Path, what: str) -> None:
    sessions = fabricated.sessions(tmp_path / "datasets", neurons=(5, 6))
    if what == "reader":
        from lfadsrm_hpc.data import readers

        Dataset.from_file(sessions, "day2.npz", lambda path: readers.read(path), name="odd")
    else:
        Dataset(sessions, "day2.npz", name="odd").align_by(sessions.find("day2").load())
    rc = RunCollection(tmp_path / "runs", "lab", sessions)
    rc.add_params(RunParams(**fabricated.BASE))
    rc.add_run_spec(RunSpec("both", sessions, ["day1", "odd"]))
    rc.prepare_for_lfads(warn=False)
    done = execute(reproducing_script(rc.runs[0]), tmp_path)
    assert done.returncode == 1
    assert "odd: not from a file" in done.stderr


@pytest.mark.train
@pytest.mark.slow
def test_training_again_gives_the_same_results_to_the_last_bit(fabricated: Any, tmp_path: Path) -> None:
    params = {
        **fabricated.BASE,
        "max_epochs": 3,
        "l2_increase_steps": 1,
        "kl_increase_steps": 1,
        "use_xla": "off",
    }
    rc = fabricated.collection(tmp_path, [RunParams(**params)], trials=12)
    (run,) = rc.runs
    text = reproducing_script(run)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LFADSRM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    task = ["-m", "lfadsrm_hpc", "task", "--collection", str(rc.path), "--run", run.id]
    subprocess.run([sys.executable, *task, "--submission", "", "--task", "0"], env=environment, check=True)
    assert run.status().state == "COMPLETED"
    table = rc.runs_table()
    assert table.gpu.isna().all(), "there is none here, and that is on record"
    assert store_device(run).startswith("cpu, 1 thread")
    best = rc.best(include_bad=True)  # three epochs
    assert "THREADS = 1" in best.script
    assert "THREADS = None" in text, "before it was trained that was not known"
    done = execute(best.script, tmp_path, "--train")
    assert done.returncode == 0, done.stderr
    found = again(tmp_path, run)
    with run.load_posterior_means() as mine, found.load_posterior_means() as theirs:
        for name in mine.data_vars:
            np.testing.assert_array_equal(mine[name], theirs[name], err_msg=str(name))
    ours, others = run.load_model_params(), found.load_model_params()
    for name in ours.data_vars:
        np.testing.assert_array_equal(ours[name], others[name], err_msg=str(name))
    assert "Training ended after 3 epochs" in best.methods
    means = open_posterior_means(run.layout.posterior_means("day1"))
    assert (means.attrs["threads"], means.attrs["device"]) == (1, store_device(run))


def store_device(run: Run) -> str:
    return str(run.status().progress["device"])
