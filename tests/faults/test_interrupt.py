"""Any command may be interrupted at any time: no half files, a documented code, the next command goes on.

Each command that changes something is started as a process, and gets INT, TERM or HUP (as when ssh breaks)
just before a chosen one of its file-system calls. Here at one moment of each command; the slow test below
goes through many.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
import tomllib

from lfadsrm_hpc.layout import CollectionLayout, is_temporary

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SEED = 20261127
CALL_LIMIT_S = 5  # of the scheduler's clients
CLEAR_AFTER_S = CALL_LIMIT_S + 30  # a job that was perhaps not taken is looked for until then
FAKE_TASK = HERE.parent / "cli" / "fake_task.py"
EXPERIMENT = f"""
[collection]
name = "small"
[params]
spike_bin_ms = 10
batch_size = 8
co_dim = 0
[sweep]
factors_dim = [2, 3]
[run_specs]
stitched = "all"
[queue]
task_command = {json.dumps([sys.executable, str(FAKE_TASK)])}
poll_s = 0.05
look_s = 0
slots = 2
cpu_cap = 1
use_gpu = false
[cluster]
site = "generic-pbspro"
walltime = "1:00:00"
memory = "1G"
set = ["filesystem.latency_s=0.2", "client.timeout_s={CALL_LIMIT_S}", "limits.array_tasks=2"]
"""


def _load(name: str, path: Path) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


pbs = _load("pbs_conftest", HERE.parent / "pbs" / "conftest.py")


@dataclass(frozen=True)
class Ended:
    code: int
    calls: int
    out: str
    err: str


class Interrupter:
    """Starts commands below a folder, see `interrupter.py`."""

    def __init__(self) -> None:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("LFADSRM_", "PBS_"))
        }
        environment = kept | {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")])),
            "INTERRUPTER_IMPORTS": json.dumps(["xarray", "pandas", "h5py", "netCDF4", "matplotlib.figure"]),
            "LFADSRM_TRUSTED": "/",
            "MPLBACKEND": "Agg",
        }
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "interrupter.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __call__(
        self, root: Path, *args: object, at: int | None = None, number: int = 0, **env: str
    ) -> Ended:
        order = {"args": [*map(str, args)], "cwd": str(root), "root": str(root), "env": env}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order | {"at": at, "signal": number}) + "\n")
        self.process.stdin.flush()
        ended = Ended(**json.loads(self.process.stdout.readline()))
        assert "Traceback" not in ended.err, ended.err
        return ended

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


@pytest.fixture(scope="module")
def interrupter() -> Iterator[Interrupter]:
    made = Interrupter()
    yield made
    made.close()


# ---------------------------------------------------------------- where commands are interrupted


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, interrupter: Interrupter) -> dict[str, Path]:
    """Return folders to copy: nothing, an experiment, a prepared one, one edited since, two with results."""
    top = tmp_path_factory.mktemp("places")
    names = ("empty", "described", "prepared", "edited", "complete", "benchmark")
    found = {name: top / name for name in names}
    found["empty"].mkdir()
    sessions = found["described"] / "datasets"
    sessions.mkdir(parents=True)
    for number, name in enumerate(("day1", "day2")):
        spikes = np.random.default_rng(number).poisson(0.5, (40, 20, 5 + number))
        np.savez(sessions / f"{name}.npz", spikes=spikes, bin_ms=10.0, condition=np.arange(40) % 4)
    (found["described"] / "experiment.toml").write_text(EXPERIMENT)
    shutil.copytree(found["described"], found["prepared"])
    assert interrupter(found["prepared"], "prepare").code == 0
    shutil.copytree(found["prepared"], found["edited"])
    file = found["edited"] / "experiment.toml"
    file.write_text(EXPERIMENT.replace("[2, 3]", "[2]"))
    _load("made_up_runs", HERE.parent / "results" / "made_up_runs.py").build(
        found["complete"] / "runs", sweep=False
    )
    fabricated = _load("fabricated", HERE.parent / "results" / "fabricated.py")
    laboratory = _load("laboratory", HERE.parent / "cli" / "laboratory.py")
    for run in laboratory.prepared(found["benchmark"]).find_runs("single_mc_maze"):
        fabricated.complete(run, metrics={"co_bps": 0.25}, verdict="good")
        with h5py.File(run.layout.posterior_means("mc_maze"), "r+") as means:
            means.attrs["held_out_neurons"] = "[6, 7]"
    for folder in found["complete"].glob("runs/*/param_*/*/checkpoints/001.r1"):
        claimed = folder.with_name("001.r0")
        claimed.mkdir()
        for step in (10, 20):
            with zipfile.ZipFile(claimed / f"checkpoint-{step:012d}.npz", "w") as file:
                file.writestr("meta.npy", "{}")
    return found


def reaching(folder: Path) -> CollectionLayout:
    return CollectionLayout(folder / "runs" / "reaching")


def small(folder: Path) -> CollectionLayout:
    return CollectionLayout(folder / "runs" / "small")


# ---------------------------------------------------------------- what the next command must have made


def initialised(folder: Path) -> None:
    assert "[collection]" in (folder / "experiment.toml").read_text()
    assert (folder / "datasets").is_dir()


def prepared(folder: Path) -> None:
    layout = small(folder)
    assert len(layout.runs_on_disk()) == 6
    assert len(json.loads(layout.collection_json.read_text())["runs"]) == 6
    assert len(list(layout.path.glob("data_*/*/lfads_*.h5"))) == 6
    assert layout.summary.is_file()
    assert layout.tensorboard_script.is_file()


def ran(folder: Path) -> None:
    states = subprocess.run(
        [sys.executable, "-m", "lfadsrm_hpc", "status", str(folder), "--json"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert {run["state"] for run in json.loads(states.stdout)["runs"]} == {"COMPLETED"}


def there(*names: str) -> Callable[[Path], None]:
    def check(folder: Path) -> None:
        for name in names:
            found = list(folder.glob(name))
            assert found, name
            assert all(path.stat().st_size for path in found)

    return check


def scored(folder: Path) -> None:
    for run in reaching(folder).runs_on_disk():
        assert json.loads(run.metrics_json.read_text())


def cleaned(folder: Path) -> None:
    for run in reaching(folder).runs_on_disk():
        assert [path.name for path in run.checkpoints.rglob("*.npz")] == [f"checkpoint-{20:012d}.npz"]
        assert len(list(run.posterior_dir.iterdir()))


def restarted(folder: Path) -> None:
    for run in reaching(folder).runs_on_disk():
        left = {path.name for path in run.path.iterdir()}
        anew = run.path.name == "stitched"
        assert not left - {"params.json", "run.sh"} if anew else {"attempts", "checkpoints"} <= left


def without_unnamed(folder: Path) -> None:
    layout = small(folder)
    runs = [run.run_id for run in layout.runs_on_disk()]
    listed = json.loads(layout.collection_json.read_text())
    assert sorted(listed["runs"]) == runs
    assert len(runs) == len(listed["params"]) * len(listed["run_specs"]) == 3
    used = {
        entry["file"]
        for run in layout.runs_on_disk()
        for entry in json.loads(run.params_json.read_text())["inputs"]
    }
    assert {path.relative_to(layout.path).as_posix() for path in layout.path.glob("data_*/*/*.h5")} == used
    assert {path.name for path in layout.path.glob("param_*")} == {run.partition("/")[0] for run in runs}
    assert not [*layout.runs_put_aside(), *layout.inputs_put_aside()]


def archived(folder: Path) -> None:
    assert not reaching(folder).path.exists()
    assert [path.name for path in (folder / "runs").iterdir()] == ["reaching.tar"]


@dataclass(frozen=True)
class Case:
    """A command, and what is to be there when it was given again.

    Attributes
    ----------
    place : str
        See `places`.
    args : tuple
    done : callable
    before : tuple of tuple
        Commands that come before it.
    codes : tuple of int
        How the command may end that is given again: 0, or that nothing was left to do.
    cluster : bool
        Whether there is a scheduler.
    jobs : int or None
        How many tasks the scheduler has in the end: nothing is handed over twice.
    env : dict
        Of its processes; "{folder}" is where it works.
    """

    place: str
    args: tuple[str, ...]
    done: Callable[[Path], None]
    before: tuple[tuple[str, ...], ...] = ()
    codes: tuple[int, ...] = (0,)
    cluster: bool = False
    jobs: int | None = None
    env: dict[str, str] = field(default_factory=dict)


def nothing(folder: Path) -> None:
    pass


CASES = {
    "init": Case("empty", ("init",), initialised, codes=(0, 2)),
    "prepare": Case("described", ("prepare",), prepared),
    "run": Case("prepared", ("run",), ran, codes=(0, 4)),
    "plan": Case("prepared", ("plan",), nothing, cluster=True, jobs=0),
    "submit": Case("prepared", ("submit",), nothing, codes=(0, 4), cluster=True, jobs=6),
    "cancel": Case(
        "prepared", ("cancel", "--all"), nothing, before=(("submit",),), codes=(0, 4), cluster=True
    ),
    "retry": Case(
        "prepared",
        ("retry", "--state", "CANCELLED"),
        nothing,
        before=(("submit",), ("cancel", "--all")),
        codes=(0, 4),
        cluster=True,
        jobs=12,
    ),
    "throttle": Case("prepared", ("throttle", "1"), nothing, before=(("submit",),), cluster=True, jobs=6),
    "reconcile": Case("prepared", ("reconcile",), nothing, before=(("submit",),), cluster=True, jobs=6),
    "site": Case(
        "empty",
        ("site", "init", "ours", "--from", "generic-slurm", "--here"),
        there("site_configs/ours.toml"),
        codes=(0, 2),
    ),
    "trust": Case(
        "described",
        ("site", "trust"),
        there("config/lfadsrm/**/*"),
        env={"LFADSRM_TRUSTED": "", "XDG_CONFIG_HOME": "{folder}/config"},
    ),
    "best": Case("complete", ("best", "runs/reaching", "--spec", "stitched", "--script", "again.py"),
                 there("again.py"), codes=(0, 2)),
    "metrics": Case("complete", ("metrics", "runs/reaching", "--recompute"), scored),
    "check-runs": Case("complete", ("check-runs", "runs/reaching"), nothing, codes=(0, 5)),
    "report": Case("complete", ("report", "runs/reaching"), there("runs/reaching/report.html")),
    "plot": Case(
        "complete", ("plot", "runs/reaching", "learning-curves", "--out", "curves.pdf"), there("curves.pdf")
    ),
    "export": Case(
        "complete", ("export", "all.nc", "-C", "runs/reaching"), there("all.nc"), codes=(0, 2)
    ),
    "export-folders": Case(
        "complete",
        ("export", "matlab", "-C", "runs/reaching", "--layout", "run-manager"),
        there("matlab/**/*.mat"),
        codes=(0, 2),
    ),
    "nlb": Case(
        "benchmark",
        ("nlb", "single_mc_maze", "all.h5", "--name", "mc_maze", "-C", "my_experiment"),
        there("all.h5"),
    ),
    "clean": Case("complete", ("clean", "runs/reaching", "--yes"), cleaned, codes=(0, 4)),
    "restart": Case(
        "complete",
        ("clean", "runs/reaching", "--spec", "stitched", "--restart", "--yes"),
        restarted,
        codes=(0, 4),
    ),
    "unnamed": Case("edited", ("clean", "--unnamed", "--yes"), without_unnamed, codes=(0, 4)),
    "archive": Case("complete", ("archive", "runs/reaching", "--remove", "--yes"), archived),
}  # fmt: skip


QUICK = ("init", "prepare", "run", "submit", "cancel", "metrics", "plot", "clean", "unnamed", "archive")


@contextlib.contextmanager
def set_up(case: Case, places: dict[str, Path], at: Path, interrupter: Interrupter) -> Iterator[Any]:
    """Copy the place, start the scheduler and give the commands that come before; yield the scheduler."""
    folder = at / "work"
    shutil.copytree(places[case.place], folder, symlinks=True)
    own = {name: value.format(folder=folder) for name, value in case.env.items()}
    if not case.cluster:
        yield None, own
        return
    server = pbs.FakePbs(at / "server", "pbspro", scheduling=False)
    path = own | {"PATH": f"{server.bin}{os.pathsep}{os.environ['PATH']}"}
    try:
        for args in case.before:
            ended = interrupter(folder, *args, **path)
            assert ended.code == 0, ended.err
        yield server, path
    finally:
        server.stop()


def check_files(folder: Path) -> None:
    """Assert that there are no leftovers, and no half files under a name of their own."""
    for path in folder.rglob("*"):
        assert not is_temporary(path.name), f"{path} was left behind"
        if not path.is_file():
            continue
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".toml":
            assert tomllib.loads(path.read_text())
        elif path.suffix in (".h5", ".nc"):
            with h5py.File(path) as file:
                assert len(file)
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")
        elif path.suffix == ".pdf":
            assert path.read_bytes().rstrip().endswith(b"%%EOF")
        elif path.suffix in (".sh", ".py", ".txt"):
            assert path.read_bytes().endswith(b"\n") or path.name == "log.txt"


def tasks_of(server: Any) -> int:
    return sum(len(job["tasks"]) for job in server.jobs().values())


def interrupted_at(
    case: Case, places: dict[str, Path], tmp: Path, interrupter: Interrupter, at: int, number: signal.Signals
) -> None:
    with set_up(case, places, tmp, interrupter) as (server, env):
        folder = tmp / "work"
        ended = interrupter(folder, *case.args, at=at, number=number, **env)
        if number == signal.SIGKILL:
            assert ended.code in (-number, *case.codes), ended.err
        else:
            assert ended.code in (0, 130, 128 + number, *case.codes), ended.err
        if number == signal.SIGKILL:
            pass  # hidden files stay
        elif not (folder / "runs" / "reaching").exists() and case.place == "complete":
            assert case.args[0] == "archive"
        else:
            check_files(folder)
        patience = time.monotonic() + CLEAR_AFTER_S
        while True:
            again = interrupter(folder, *case.args, **env)
            uncertain = again.code == 9 or "nobody knows yet" in again.err
            if not uncertain or time.monotonic() > patience:
                break
            time.sleep(0.5)
        assert not uncertain, (at, number, ended, again)
        if case.args[0] == "archive" and again.code == 2:
            assert "no run collection" in again.err  # it was done
        else:
            assert again.code in case.codes, again.err
        case.done(folder)
        if number != signal.SIGKILL:
            check_files(folder)
        if case.jobs is not None:
            assert tasks_of(server) == case.jobs, (at, number, ended, again)


def calls_of(case: Case, places: dict[str, Path], tmp: Path, interrupter: Interrupter) -> int:
    """Return how many calls the command makes when nobody interrupts it."""
    with set_up(case, places, tmp, interrupter) as (_, env):
        ended = interrupter(tmp / "work", *case.args, **env)
        assert ended.code == case.codes[0] or ended.code in case.codes, ended.err
        case.done(tmp / "work")
        return ended.calls


@pytest.mark.parametrize("name", QUICK)
def test_interrupted_at_some_moment(
    name: str, places: dict[str, Path], tmp_path: Path, interrupter: Interrupter
) -> None:
    chance = random.Random(f"{SEED} {name}")
    calls = calls_of(CASES[name], places, tmp_path / "whole", interrupter)
    assert calls > 0
    number = SIGNALS[list(CASES).index(name) % len(SIGNALS)]
    moment = chance.randint(1, calls)
    interrupted_at(CASES[name], places, tmp_path / "interrupted", interrupter, moment, number)


@pytest.mark.parametrize(
    "turn", [pytest.param(turn, marks=[pytest.mark.slow] * (turn > 0)) for turn in range(8)]
)
@pytest.mark.parametrize("name", ["clean", "restart", "unnamed", "archive"])
def test_killed_at_some_moment(
    name: str, turn: int, places: dict[str, Path], tmp_path: Path, interrupter: Interrupter
) -> None:
    calls = calls_of(CASES[name], places, tmp_path / "whole", interrupter)
    moment = random.Random(f"{SEED} {name} killed {turn}").randint(1, calls)
    interrupted_at(CASES[name], places, tmp_path / "killed", interrupter, moment, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_interrupted_at_many_moments(
    name: str, places: dict[str, Path], tmp_path: Path, interrupter: Interrupter
) -> None:
    chance = random.Random(f"{SEED} {name} many")
    calls = calls_of(CASES[name], places, tmp_path / "whole", interrupter)
    moments = sorted(chance.sample(range(1, calls + 1), min(calls, 12)))
    for turn, moment in enumerate(moments):
        place = tmp_path / str(moment)
        interrupted_at(CASES[name], places, place, interrupter, moment, SIGNALS[turn % len(SIGNALS)])
        shutil.rmtree(place)
