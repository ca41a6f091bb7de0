"""`lfadsrm doctor`: as a user calls it, with schedulers that answer or hang, interrupted at any time."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lfadsrm_hpc.doctor import Result, Verdict, examine
from lfadsrm_hpc.doctor.disk import PREFIX
from lfadsrm_hpc.doctor.examining import SCHEDULER

if TYPE_CHECKING:
    from slurm_cluster import SlurmCluster

Program = Callable[[str, str], None]


def call(*args: object, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("LFADSRM_COLLECTION", "LFADSRM_JSON")}
    done = subprocess.run(
        [sys.executable, "-m", "lfadsrm_hpc", "doctor", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**environment, **more},
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def checks(*args: object, **more: Any) -> tuple[int, dict[str, dict[str, Any]]]:
    done = call(*args, "--json", **more)
    found = json.loads(done.stdout)
    assert found["schema_version"] == 1
    return done.returncode, {one["name"]: one for one in found["checks"]}


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(PREFIX)]


@pytest.mark.usefixtures("tensorflow")
def test_a_machine_without_scheduler_and_gpu(program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    code, found = checks(folder)
    assert [one["name"] for one in found.values() if one["verdict"] == "problem"] == []
    assert code == 0
    assert found["tensorflow"]["details"]["version"] == "2.99.0"
    assert {found[name]["verdict"] for name in ("gpus", "slurm", "pbs", "collection")} == {"not applicable"}
    assert {found[name]["verdict"] for name in ("exclusive create", "rename", "listing", "hdf5")} == {"ok"}
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize("width", [40, 80, 200])
def test_it_fits_the_terminal_and_says_what_to_do(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, width: int
) -> None:
    from lfadsrm_hpc.cli import doctor

    result = Result(
        "slurm", SCHEDULER, Verdict.PROBLEM, "the controller " + "does not answer " * 9, "try", {}, 0.1
    )
    monkeypatch.setattr(doctor, "terminal_width", lambda: width)
    doctor._show(result, new_group=True)
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert first == "scheduler"
    assert second.startswith("PROBLEM  slurm: the controller")
    assert rest[-1] == "         do: try"
    assert max(map(len, (second, *rest))) <= width


@pytest.mark.usefixtures("tensorflow")
def test_a_scheduler_that_is_down(program: Program, tmp_path: Path) -> None:
    for name in ("sbatch", "squeue", "scancel", "sacct"):
        program(name, "echo slurm 22.05.8")
    program("scontrol", "echo 'slurm_load_ctl_conf error: Unable to contact slurm controller' >&2; exit 1")
    done = call(tmp_path)
    assert done.returncode == 3
    assert "PROBLEM  slurm: the controller does not answer" in done.stdout
    assert "slurm 22.05.8" in done.stdout
    assert "1 problem" in done.stdout.splitlines()[-1]


@pytest.mark.usefixtures("tensorflow")
def test_a_scheduler_that_hangs_does_not_hang_the_doctor(program: Program, tmp_path: Path) -> None:
    for name in ("sbatch", "squeue", "scancel", "sacct", "scontrol", "qsub", "qstat", "qdel"):
        program(name, "exec sleep 3000")
    code, found = checks(tmp_path, "--timeout", 0.5, LFADSRM_SITE="generic-slurm")
    assert code == 3
    for name in ("slurm", "pbs"):
        assert found[name]["verdict"] == "problem"
        assert "no answer within 0.5 s" in found[name]["evidence"]


@pytest.mark.usefixtures("tensorflow")
def test_programs_that_are_missing_are_named(program: Program, tmp_path: Path) -> None:
    program("qsub", "echo pbs_version = 23.06.06 >&2")
    program("qstat", "printf 'Server: pbs1\\n    server_state = Active\\n'")
    _, found = checks(tmp_path)
    assert found["pbs programs"]["verdict"] == "problem"
    assert "qdel not found" in found["pbs programs"]["evidence"]
    assert "23.06.06" in found["pbs programs"]["evidence"]
    assert found["pbs"]["evidence"] == "server pbs1"
    assert found["site"]["verdict"] == "warning"
    assert "lfadsrm site init" in found["site"]["fix"]


def test_gpus_that_tensorflow_does_not_see(
    program: Program, tensorflow: Callable[..., None], tmp_path: Path
) -> None:
    program("nvidia-smi", "echo 'NVIDIA A100, 81920 MiB, 550.54'")
    code, found = checks(tmp_path)
    assert (code, found["gpus"]["verdict"]) == (3, "problem")
    assert ".[gpu]" in found["gpus"]["fix"]
    tensorflow(gpus=1)
    assert checks(tmp_path)[1]["gpus"]["verdict"] == "ok"


def test_a_tensorflow_that_is_slow_or_broken(
    program: Program, tensorflow: Callable[..., None], tmp_path: Path
) -> None:
    tensorflow(seconds=60)
    found = {one.name: one for one in examine(tmp_path, tensorflow_s=1.0)}
    assert "no answer within 1 s" in found["tensorflow"].evidence
    (tmp_path / "modules/tensorflow.py").write_text("raise ImportError('libcudart.so.12: cannot open')")
    found = {one.name: one for one in examine(tmp_path)}
    assert found["tensorflow"].verdict is Verdict.PROBLEM
    assert "libcudart" in found["tensorflow"].evidence
    assert found["gpus"].verdict is Verdict.ABSENT


@pytest.mark.usefixtures("tensorflow")
def test_a_collection_and_its_experiment(program: Program, sweep: Any, tmp_path: Path) -> None:
    _, found = checks(sweep.path)
    assert found["collection"]["evidence"].endswith("8 runs, 2 run specs, prepared")
    assert found["versions"]["verdict"] == "ok"
    stored = tmp_path / "runs/collection.json"
    stored.parent.mkdir()
    content = json.loads((sweep.path / "collection.json").read_text())
    stored.write_text(json.dumps({**content, "version": "99.1"}))
    _, found = checks(stored.parent)
    assert (found["collection"]["verdict"], found["versions"]["verdict"]) == ("problem", "warning")
    stored.write_text("{")
    assert "damaged" in checks(stored.parent)[1]["collection"]["evidence"]


@pytest.mark.usefixtures("tensorflow")
def test_an_experiment_that_cannot_be_read_is_a_finding(program: Program, tmp_path: Path) -> None:
    (tmp_path / "experiment.toml").write_text("[collection]\nname = 3\n")
    code, found = checks(tmp_path)
    assert (code, found["experiment"]["verdict"]) == (3, "problem")
    assert found["latency"]["verdict"] in ("ok", "warning")


@pytest.mark.usefixtures("tensorflow")
def test_it_imports_nothing_heavy_itself(program: Program, tmp_path: Path) -> None:
    code = (
        "import sys; from lfadsrm_hpc.doctor import examine; "
        "found = examine(sys.argv[1]); "
        "print(len(found), *{name.partition('.')[0] for name in sys.modules})"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    count, *names = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert int(count) > 20
    assert not {"tensorflow", "numpy", "h5py", "xarray", "pandas", "matplotlib", "netCDF4"} & set(names)


@pytest.mark.usefixtures("tensorflow")
def test_what_is_not_there(program: Program, tmp_path: Path) -> None:
    done = call(tmp_path / "absent")
    assert (done.returncode, "there is no such folder" in done.stderr) == (2, True)


def test_a_real_slurm(slurm: SlurmCluster, tensorflow: Any, tmp_path: Path) -> None:
    found = {one.name: one for one in examine(tmp_path)}
    assert found["slurm"].verdict is Verdict.OK
    assert "no accounting" in found["slurm"].evidence
    assert found["slurm programs"].verdict is Verdict.OK


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("tensorflow")
def test_interrupted_at_any_time_it_leaves_nothing(
    program: Program, tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    program("quota", "exec sleep 100")  # it waits here, after its folder was there
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", "lfadsrm_hpc", "doctor", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("run directory"):
                break
        time.sleep(random.uniform(0, 0.8))
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in err
        assert left(folder) == []
