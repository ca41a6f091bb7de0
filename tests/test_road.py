"""The whole road by the command line, with real training: prepare, run, kill -9, stop, go on, load.

Everything is compared with one collection that nobody disturbed, bit by bit.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from lfadsrm_hpc.api import Run, RunCollection
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.data.inputs import read_inputs
from lfadsrm_hpc.data.readers import read, save_dataset
from lfadsrm_hpc.data.synthetic import lorenz_sessions
from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.layout import fitlog
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.process import is_alive
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.model.sampling.posterior import Sampler
from lfadsrm_hpc.model.training import checkpoints
from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means

pytestmark = [pytest.mark.slow, pytest.mark.train]

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 240.0  # for one wait; a busy machine may need it
EPOCHS = 240
EXPERIMENT = f"""
[collection]
name = "road"
[params]
spike_bin_ms = 10
co_dim = 0
batch_size = 12
gen_dim = 8
ic_dim = 4
ic_enc_dim = 8
kl_increase_steps = 100
l2_increase_steps = 100
max_epochs = {EPOCHS}
num_samples_posterior = 64
use_xla = "off"
[sweep]
factors_dim = [2, 3]
[run_specs]
singles = false
specs = [{{ name = "alone", datasets = ["dataset001"] }}]
stitched = "all"
[queue]
slots = 2
cpu_cap = 1
use_gpu = false
poll_s = 0.05
recheck_s = 1
"""


# -- the command line and what it started --------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """How a call of `lfadsrm` ended and what it printed."""

    code: int
    out: str
    err: str


class Shell:
    """Starts `lfadsrm` in a folder as a process and a session of its own."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[str]] = []
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LFADSRM_", "CUDA_", "OMP_", "TF_"))}
        paths = [str(ROOT), kept.get("PYTHONPATH", "")]
        self.environment = kept | {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "LFADSRM_THREADS": "1",
            "LFADSRM_TRUSTED": "/",
            "CUDA_VISIBLE_DEVICES": "",
        }

    def start(self, folder: Path, *args: object, program: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*(program or (sys.executable, "-m", "lfadsrm_hpc")), *map(str, args)],
            cwd=folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    @staticmethod
    def end(process: subprocess.Popen[str]) -> Said:
        out, err = process.communicate(timeout=PATIENCE_S)
        assert "Traceback" not in out + err
        return Said(process.returncode, out, err)

    def __call__(self, folder: Path, *args: object) -> Said:
        return self.end(self.start(folder, *args))

    def clean_up(self) -> None:
        for process in self.started:
            if process.poll() is None:  # a test failed: its queue stops its runs
                os.killpg(process.pid, signal.SIGTERM)
                os.killpg(process.pid, signal.SIGCONT)  # those that were held
                process.communicate(timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def lfadsrm() -> Iterator[Shell]:
    made = Shell()
    yield made
    made.clean_up()


def opened(folder: Path) -> RunCollection:
    return RunCollection.open(folder / "runs" / "road")


def find(folder: Path, spec: str, factors_dim: int) -> Run:
    return opened(folder).find_run(spec, factors_dim=factors_dim)


def wait_for(
    run: Run, enough: Callable[[RunStatus], object], process: subprocess.Popen[str] | None = None
) -> RunStatus:
    """Look at a run until it is as it should be, while a command works on it."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and (process is None or process.poll() is None):
        check_one_owner(run)
        status = run.status()
        if enough(status):
            return status
        time.sleep(0.01)
    raise AssertionError(f"waited in vain: {run.status()}")


def watch_to_its_end(process: subprocess.Popen[str], runs: Iterable[Run]) -> Said:
    """Wait for a command; at no time may two processes have the same run."""
    runs, end = list(runs), time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < end:
        for run in runs:
            check_one_owner(run)
        time.sleep(0.1)
    return Shell.end(process)


def check_one_owner(run: Run) -> None:
    facts = store.read_facts(run.layout)
    claims = [k for attempt in facts.attempts for k in attempt.incarnations]
    assert sum(k.alive is True and k.exit is None for k in claims) <= 1, f"{run.id} is trained twice"


def trains(status: RunStatus, *, beyond: int = 0) -> bool:
    """Tell whether a run is in the middle of its training."""
    return (
        status.state is RunState.RUNNING
        and status.progress.get("phase") == "training"
        and beyond < status.progress["epoch"] < EPOCHS
    )


def kill(status: RunStatus) -> None:
    """Kill -9 the process that has a run."""
    assert status.claim is not None
    process = status.claim.process
    os.kill(process.pid, signal.SIGKILL)
    end = time.monotonic() + PATIENCE_S
    while is_alive(process.pid, process.start):
        assert time.monotonic() < end
        time.sleep(0.01)


def hold(status: RunStatus) -> int:
    """Stop the clock of the process that has a run, so that it cannot end before it is told to.

    On a busy machine a thread stops only when it is its turn; a TERM that comes before would be taken first.
    """
    assert status.claim is not None
    pid, end = status.claim.process.pid, time.monotonic() + PATIENCE_S
    os.kill(pid, signal.SIGSTOP)
    while {thread_state(path) for path in Path(f"/proc/{pid}/task").glob("*/stat")} - {"T", ""}:
        assert time.monotonic() < end, "it does not stop"
        time.sleep(0.01)
    return pid


def thread_state(stat: Path) -> str:
    """Return the letter of a thread's state; nothing if it has ended meanwhile."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def let_go_when_told_to_end(pid: int) -> None:
    """Wait until TERM is on its way to a held process, and let it go on."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        pending = next(int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd:"))
        if pending >> (signal.SIGTERM - 1) & 1:
            break
        time.sleep(0.01)
    os.kill(pid, signal.SIGCONT)
    assert time.monotonic() < end, "nobody told the run to end"


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found


# -- what runs leave -----------------------------------------------------------------------------------


def exits(run: Run) -> list[int | None]:
    """Return the exit code of each attempt, in order; None: killed when nobody was there to note it."""
    found = []
    for attempt in store.read_facts(run.layout).attempts:
        assert len(attempt.incarnations) == 1
        record = attempt.incarnations[0].exit
        assert record is not None or attempt.closed is not None
        found.append(record.code if record else None)
    return found


def token(run: Run) -> str:
    winner = store.winning_exit(run.layout)
    assert winner is not None
    return winner[1]


def log_of(run: Run, attempt: int) -> str:
    return run.layout.attempt(attempt).log.read_text()


def traces(run: Run) -> dict[str, Any]:
    """Return what changes when a run is worked on again: its token, and times and sizes of its files."""
    files = {path: path.stat() for path in run.path.rglob("*") if path.is_file() and path.suffix != ".sh"}
    return {"token": token(run), **{str(path): (s.st_mtime_ns, s.st_size) for path, s in files.items()}}


def arrays_of(means: xr.Dataset) -> dict[str, np.ndarray[Any, Any]]:
    return {str(name): means[name].values for name in (*means.data_vars, *means.coords)}


def assert_same(run: Run, reference: Run) -> None:
    """Posterior means, model parameters and fit log are those of the other run, to the last bit."""
    assert run.id == reference.id
    for name in run.dataset_names:
        with run.load_posterior_means(name) as mine, reference.load_posterior_means(name) as theirs:
            assert_equal_bits(arrays_of(mine), arrays_of(theirs))
            assert mine.attrs["checkpoint"] == theirs.attrs["checkpoint"]
            assert mine.attrs["claim_token"] == token(run) != theirs.attrs["claim_token"]
        assert not list(run.layout.posterior_dir.glob(".*")), "nothing half written is left"
    with h5py.File(run.layout.model_params) as mine, h5py.File(reference.layout.model_params) as theirs:
        assert_equal_bits(model_arrays(mine), model_arrays(theirs))
        assert mine.attrs["claim_token"] == token(run)
    assert run.fit_log_path().read_bytes() == reference.fit_log_path().read_bytes()


def model_arrays(file: h5py.File) -> dict[str, np.ndarray[Any, Any]]:
    found: dict[str, np.ndarray[Any, Any]] = {}
    file.visititems(lambda name, item: found.update({name: item[()]}) if hasattr(item, "shape") else None)
    return found


def assert_equal_bits(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert mine.keys() == theirs.keys()
    assert len(mine) > 8
    for name in mine:
        assert mine[name].dtype == theirs[name].dtype
        assert np.array_equal(mine[name], theirs[name]), name


# -- collections ---------------------------------------------------------------------------------------


MadeOnce = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="module")
def prepared(lfadsrm: Shell, made_once: MadeOnce) -> Path:
    """Two Lorenz sessions; one alone and both stitched, x two numbers of factors; nothing run yet."""
    return made_once("road-prepared", lambda folder: prepare(lfadsrm, folder))


def prepare(lfadsrm: Shell, folder: Path) -> None:
    sessions = lorenz_sessions(
        2, n_neurons=(8, 12), n_conditions=3, trials_per_condition=10, duration_ms=200, bin_ms=5,
        mean_rate=20, seed=1,
    )  # fmt: skip
    (folder / "datasets").mkdir(parents=True)
    for session in sessions:
        save_dataset(session, folder / "datasets" / f"{session.attrs['name']}.h5")
    (folder / "experiment.toml").write_text(EXPERIMENT)
    said = lfadsrm(folder, "prepare")
    assert said.code == 0, said.err


@pytest.fixture(scope="module")
def calm(prepared: Path, lfadsrm: Shell, made_once: MadeOnce) -> Path:
    """The collection that nobody disturbs, complete."""
    return made_once("road-calm", lambda folder: run_calmly(lfadsrm, shutil.copytree(prepared, folder)))


def run_calmly(lfadsrm: Shell, folder: Path) -> None:
    said = lfadsrm(folder, "run", "--json")
    assert said.code == 0, said.err
    states = json.loads(said.out)["runs"]
    assert [(run["state"], run["attempt"], run["code"]) for run in states] == [("COMPLETED", 1, 0)] * 4
    assert [run.status().state for run in opened(folder).runs] == [RunState.COMPLETED] * 4


@pytest.fixture
def anew(calm: Path, tmp_path: Path) -> Callable[..., Path]:
    """Give a copy of the complete collection in which some runs are to be done again."""

    def copied(*spec: str) -> Path:
        folder = shutil.copytree(calm, tmp_path / "copy")
        copy = opened(folder)
        copy.delete_outputs([run for run in copy.runs if run.spec.name in spec], yes=True)
        return folder

    return copied


# -- the road ------------------------------------------------------------------------------------------


def test_means_are_right_in_size_units_and_order(calm: Path) -> None:
    rc = opened(calm)
    tree = rc.load_posterior_means()
    leaves = {node.path.strip("/") for node in tree.leaves}
    assert leaves == {f"{run.id}/{name}" for run in rc.runs for name in run.dataset_names}
    assert len(leaves) == 6
    for run in rc.runs:
        for name in run.dataset_names:
            with run.load_posterior_means(name) as means:
                check_means(means, run, name, calm)
                xr.testing.assert_identical(tree[f"{run.id}/{name}"].to_dataset(), means)


def check_means(means: xr.Dataset, run: Run, name: str, folder: Path) -> None:
    data = read(folder / "datasets" / f"{name}.h5")
    factors = run.params.factors_dim
    assert dict(means.sizes) == {
        "trial": 30, "time": 20, "neuron": data.sizes["neuron"],
        "factor": factors, "generator_unit": 8, "ic": 4,
    }  # fmt: skip
    assert means.rates.dims == ("trial", "time", "neuron")
    assert means.factors.dims == ("trial", "time", "factor")
    assert (means.rates.attrs["units"], means.time.attrs["units"]) == ("spikes/s", "ms")
    np.testing.assert_array_equal(means.time, np.arange(0.0, 200.0, 10.0))
    np.testing.assert_array_equal(means.trial, np.arange(30))
    np.testing.assert_array_equal(means.condition, data.condition)
    np.testing.assert_array_equal(means.neuron_name, data.neuron_name)
    assert sorted(np.unique(means.split)) == ["train", "valid"]
    # In spikes/s they match what was recorded, neuron by neuron.
    recorded = data.spikes.mean(("trial", "time")) / (data.attrs["bin_ms"] / 1000)
    np.testing.assert_allclose(means.rates.mean(("trial", "time")), recorded, rtol=0.35)
    assert float(means.rates.mean()) == pytest.approx(float(recorded.mean()), rel=0.1)
    assert means.attrs["run_id"] == run.id
    assert RunParams.from_json(json.loads(means.attrs["params"])) == run.params


def test_rates_are_counts_a_bin_over_the_bin(calm: Path) -> None:
    run = find(calm, "alone", 2)
    session = read_inputs(run.input_files()["dataset001"])
    trials = session.valid_inds
    samples = run.params.num_samples_posterior
    folder = run.fit_log_path().parent
    sampler = Sampler(run.params.effective(1), folder, "dataset001", num_samples=samples)
    [block] = sampler.blocks(session.valid_data, trial_ids=trials)
    stored = run.load_posterior_means().rates.sel(trial=trials)
    assert set(stored.split.values) == {"valid"}
    np.testing.assert_allclose(stored, block.arrays["rates"] / 0.010, rtol=1e-4)


def test_fit_log_and_token(calm: Path, tmp_path: Path) -> None:
    run = find(calm, "all", 3)
    log = run.load_fit_log()
    assert list(log.epoch) == list(range(1, EPOCHS + 1))
    best = log.attrs["lowest_valid_epoch"]
    means = run.load_posterior_means("dataset002")
    assert json.loads(means.attrs["checkpoint"]) == {
        "kind": "lve", "epoch": best, "step": int(log.step[best - 1])
    }  # fmt: skip
    assert log.train_total.iloc[-1] < log.train_total.iloc[0]
    # A file of another claim is refused, though it lies in the right place.
    file = run.layout.posterior_means("dataset002")
    foreign = shutil.copy(find(calm, "all", 2).layout.posterior_means("dataset002"), tmp_path / "foreign.nc")
    with pytest.raises(ResultsError, match="another attempt"):
        open_posterior_means(foreign, expect_token=token(run))
    open_posterior_means(file, expect_token=token(run)).close()


# -- kill -9 -------------------------------------------------------------------------------------------


def test_killed_in_training_the_queue_starts_it_again(
    calm: Path, anew: Callable[..., Path], lfadsrm: Shell
) -> None:
    folder = anew("alone")
    rc = opened(folder)
    complete = {run.id: traces(run) for run in rc.find_runs("all")}
    victim, other = rc.find_runs("alone")
    process = lfadsrm.start(folder, "run", "--json")
    kill(wait_for(victim, trains, process))
    said = watch_to_its_end(process, rc.runs)
    assert said.code == 0, said.err
    # 137 = 128 + 9, noted by the queue; the next attempt did the whole run, and no other was done twice.
    assert (exits(victim), exits(other)) == ([137, 0], [0])
    assert {run.id: traces(run) for run in rc.find_runs("all")} == complete
    for run in rc.runs:
        if run.spec.name == "alone":
            assert_same(run, calm_twin(calm, run))


def calm_twin(calm: Path, run: Run) -> Run:
    return next(twin for twin in opened(calm).runs if twin.id == run.id)


def test_killed_at_every_stage_one_after_the_other(
    calm: Path, anew: Callable[..., Path], lfadsrm: Shell
) -> None:
    folder = anew("alone")
    run = find(folder, "alone", 3)
    stages: list[Callable[[RunStatus], object]] = [
        lambda status: status.claim is not None,
        lambda status: status.progress.get("phase") == "starting",
        lambda status: trains(status),
        lambda status: trains(status, beyond=EPOCHS // 2),
        lambda status: status.progress.get("phase") == "posterior means",
    ]
    process = lfadsrm.start(folder, "run", "--spec", "alone", "--match", "factors_dim=3")
    for number, stage in enumerate(stages, start=1):
        kill(wait_for(run, lambda s, n=number, f=stage: s.attempt == n and f(s), process))  # type: ignore[misc]
    said = watch_to_its_end(process, [run])
    assert said.code == 0, said.err
    assert exits(run) == [137] * len(stages) + [0]
    assert "resumes from 005.r0" in log_of(run, 6)
    assert_same(run, calm_twin(calm, run))


def test_with_xla_the_bits_are_the_same_too(lfadsrm: Shell, tmp_path: Path, prepared: Path) -> None:
    folders = [tmp_path / name for name in ("calm", "killed")]
    for folder in folders:
        shutil.copytree(prepared / "datasets", folder / "datasets")
        (folder / "experiment.toml").write_text(EXPERIMENT.replace('use_xla = "off"', 'use_xla = "on"'))
        assert lfadsrm(folder, "prepare").code == 0
    words = ("run", "--slots", 1, "--spec", "alone", "--match", "factors_dim=2")
    calm, killed = (lfadsrm.start(folder, *words) for folder in folders)
    run = find(folders[1], "alone", 2)
    kill(wait_for(run, trains, killed))
    assert watch_to_its_end(killed, [run]).code == 0
    assert Shell.end(calm).code == 0
    assert exits(run) == [137, 0]
    assert_same(run, find(folders[0], "alone", 2))


def test_killed_command_killed_queue_and_killed_run(
    calm: Path, anew: Callable[..., Path], lfadsrm: Shell
) -> None:
    folder = anew("all")
    rc = opened(folder)
    complete = {run.id: traces(run) for run in rc.find_runs("alone")}
    victim, orphan = rc.find_runs("all")
    command = lfadsrm.start(folder, "run")
    for run in (victim, orphan):
        wait_for(run, lambda status: status.claim is not None, command)
    [queue] = children(command.pid)
    command.kill()
    os.kill(queue, signal.SIGKILL)
    Shell.end(command)
    kill(wait_for(victim, trains))
    assert orphan.status().state is RunState.RUNNING
    assert victim.status().state is RunState.LOST

    second = lfadsrm.start(folder, "run", "--slots", 1)
    said = watch_to_its_end(second, rc.runs)
    assert said.code == 0, said.err
    log = rc.layout.queue_script.with_suffix(".log").read_text()
    pid = orphan.status().claim.process.pid  # type: ignore[union-attr]
    assert f"runs already, as process {pid} of another queue" in log
    assert (exits(victim), exits(orphan)) == ([None, 0], [0])
    # The orphan had the one slot, so the other run began again when it had ended.
    assert victim.status().started > orphan.status().ended  # type: ignore[operator]
    assert {run.id: traces(run) for run in rc.find_runs("alone")} == complete
    for run in (victim, orphan):
        assert_same(run, calm_twin(calm, run))


def test_killed_while_it_samples_posterior_means(
    calm: Path, anew: Callable[..., Path], lfadsrm: Shell
) -> None:
    folder = anew("all")
    rc = opened(folder)
    run = find(folder, "all", 2)
    with (folder / "experiment.toml").open("a") as file:
        file.write("max_restarts = 0\n")
    process = lfadsrm.start(folder, "run", "--spec", "all", "--match", "factors_dim=2")
    kill(wait_for(run, lambda status: status.progress.get("dataset") == "dataset002", process))
    assert watch_to_its_end(process, [run]).code == 5
    assert exits(run) == [137]
    first = run.layout.posterior_means("dataset001")
    assert first.is_file()
    assert not run.layout.posterior_means("dataset002").exists()
    with pytest.raises(ResultsError, match="is not complete"):
        run.load_posterior_means("dataset001")
    assert find(folder, "all", 3).id not in {leaf.path for leaf in rc.load_posterior_means().leaves}
    trained = checkpoints.load(run.layout.checkpoint_dir(1, 0))

    said = lfadsrm(folder, "run", "--spec", "all", "--match", "factors_dim=2")
    assert said.code == 0, said.err
    assert exits(run) == [137, 0]
    assert "resumes from 001.r0" in log_of(run, 2)
    assert checkpoints.load(run.layout.checkpoint_dir(2, 0)).meta == trained.meta, "it did not train again"
    assert_same(run, calm_twin(calm, run))


# -- stopping ------------------------------------------------------------------------------------------


def test_ctrl_c_then_term_then_kill_and_the_same_bits(
    calm: Path, anew: Callable[..., Path], lfadsrm: Shell
) -> None:
    folder = anew("alone")
    rc = opened(folder)
    runs = rc.find_runs("alone")
    epochs = [0]
    for whom in ("all", "command"):
        process = lfadsrm.start(folder, "run")
        held = [
            hold(wait_for(run, lambda status: trains(status, beyond=epochs[-1]), process)) for run in runs
        ]
        if whom == "all":  # as a terminal does
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.terminate()
        for pid in held:
            let_go_when_told_to_end(pid)
        said = watch_to_its_end(process, runs)
        assert said.code == 130
        assert "its runs have checkpointed" in said.err
        for run in runs:
            status = run.status()
            assert (status.state, status.code, status.signal) == (RunState.PREEMPTED, 75, signal.SIGTERM)
            assert "SIGINT" not in log_of(run, status.attempt or 0), "the queue alone tells runs to stop"
            with pytest.raises(ResultsError, match="is not complete"):
                run.load_posterior_means()
        epochs.append(max(run.status().progress["epoch"] for run in runs))
    assert 0 < epochs[1] < epochs[2] < EPOCHS

    # Killed after it went on from its checkpoint and wrote another.
    victim, other = runs
    process = lfadsrm.start(folder, "run")
    resumed = victim.layout.checkpoint_dir(3, 0)
    kill(
        wait_for(
            victim,
            lambda status: trains(status, beyond=epochs[-1]) and checkpoints.complete(resumed),
            process,
        )
    )
    said = watch_to_its_end(process, runs)
    assert said.code == 0, said.err
    assert (exits(victim), exits(other)) == ([75, 75, 137, 0], [75, 75, 0])
    for number in (2, 3, 4):
        assert f"resumes from {number - 1:03d}.r0" in log_of(victim, number)
    assert len(fitlog(resumed).read_text().splitlines()) > epochs[-1]
    for run in runs:
        assert_same(run, calm_twin(calm, run))


# -- posterior means alone -----------------------------------------------------------------------------


def test_posterior_means_alone_killed_and_made_anew(
    calm: Path, anew: Callable[..., Path], lfadsrm: Shell
) -> None:
    folder = anew()
    rc = opened(folder)
    run = find(folder, "all", 2)
    others = {other.id: traces(other) for other in rc.runs if other.id != run.id}
    trained = {path: path.stat().st_mtime_ns for path in run.layout.checkpoints.rglob("*")}
    old = token(run)
    with (folder / "experiment.toml").open("a") as file:
        file.write("max_restarts = 0\n")
    words = ("run", "--posterior-only", "--spec", "all", "--match", "factors_dim=2")
    process = lfadsrm.start(folder, *words)
    kill(wait_for(run, lambda s: s.attempt == 2 and s.progress.get("dataset") == "dataset002", process))
    assert watch_to_its_end(process, [run]).code == 5
    # One file is new and nobody vouches for it; the other is still the old one.
    assert token(run) == old
    with pytest.raises(ResultsError, match="another attempt"):
        run.load_posterior_means("dataset001")
    run.load_posterior_means("dataset002").close()

    said = lfadsrm(folder, *words)
    assert said.code == 0, said.err
    assert exits(run) == [0, 137, 0]
    assert token(run) != old
    assert_same(run, calm_twin(calm, run))
    assert {path: path.stat().st_mtime_ns for path in run.layout.checkpoints.rglob("*")} == trained
    assert {other.id: traces(other) for other in rc.runs if other.id != run.id} == others
    assert lfadsrm(folder, "run").code == 4


def test_posterior_means_alone_need_a_training_that_ended(
    prepared: Path, lfadsrm: Shell, tmp_path: Path
) -> None:
    folder = shutil.copytree(prepared, tmp_path / "copy")
    run = find(folder, "alone", 2)
    one = ("--spec", "alone", "--match", "factors_dim=2")
    assert lfadsrm(folder, "run", "--posterior-only", *one).code == 4, "nothing to sample from"
    task = ("task", "--collection", run.collection.path, "--run", run.id, "--posterior-only")
    assert lfadsrm(folder, *task).code == 1
    assert "there is no trained model" in run.status().message
    # That does not keep it from being trained.
    process = lfadsrm.start(folder, "run", *one)
    held = hold(wait_for(run, trains, process))
    process.terminate()
    let_go_when_told_to_end(held)
    assert Shell.end(process).code == 130
    # A model in the middle of its training would give posterior means that look final.
    assert lfadsrm(folder, "run", "--posterior-only", *one).code == 5
    assert "training has not ended" in run.status().message
    assert exits(run) == [1, 75, 1]
    assert not run.layout.posterior_dir.exists()


# -- bad data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["changed", "cut"])
def test_bad_data_end_65_and_are_not_tried_again(
    prepared: Path, lfadsrm: Shell, tmp_path: Path, fault: str
) -> None:
    folder = shutil.copytree(prepared, tmp_path / "copy")
    run = find(folder, "alone", 2)
    words = ("run", "--spec", "alone", "--match", "factors_dim=2", "--max-attempts", 3, "--dry-run")
    assert lfadsrm(folder, *words).code == 0
    [file] = run.input_files().values()
    kept = shutil.copy2(file, tmp_path)
    if fault == "changed":
        with h5py.File(file, "r+") as inputs:
            inputs.attrs["fingerprint"] = "0" * 64
    else:
        os.truncate(file, file.stat().st_size // 2)
    for _ in range(2):
        said = Shell.end(lfadsrm.start(folder, rc_script(folder), program=("bash",)))
        assert said.code == 5
        assert "data that cannot be used; it is not tried again" in said.err
        assert exits(run) == [65]
    assert run.status().reason == "bad_data"
    assert "dataset001" in run.status().message
    # Neither does the command start what it can see to be in vain.
    said = lfadsrm(folder, "run", "--spec", "alone")
    assert said.code == 3
    assert "dataset001" in said.err
    assert exits(run) == [65]
    shutil.copy2(kept, file)
    opened(folder).delete_outputs(run, yes=True)
    assert run.status().state is RunState.PREPARED
    assert lfadsrm(folder, *words).code == 0


def rc_script(folder: Path) -> Path:
    return opened(folder).layout.queue_script
