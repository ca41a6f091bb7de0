"""A job's script tells from its control group that the kernel killed a task for want of memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lfadsrm_hpc.layout import CollectionLayout, RunLayout, run_key
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.rendering import render

ROOT = Path(__file__).resolve().parents[2]
V1 = "4:memory:/slurm/job_1\n3:cpuset:/slurm/job_1\n1:name=systemd:/\n0::/\n"
V2 = "0::/system.slice/job_1/step_batch/task_0\n"


class Kernel:
    """Pretended control groups of a job."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder = folder
        (folder / "cgroup").write_text(version)
        if version == V1:
            self.counter = folder / "fs" / "memory" / "slurm" / "job_1" / "memory.oom_control"
            self.text = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
        else:  # the groups below do not account for memory
            self.counter = folder / "fs" / "system.slice" / "job_1" / "memory.events"
            self.text = "low 0\nhigh 0\nmax 7\noom 3\noom_kill {}\noom_group_kill 5\n"
        self.counter.parent.mkdir(parents=True)
        self.kills(2)

    def kills(self, number: int) -> None:
        self.counter.write_text(self.text.format(number))

    def bash(self, script: str, *args: object) -> str:
        functions = render("exit_record.sh.j2", {})
        functions = functions.replace("/proc/self/cgroup", str(self.folder / "cgroup"))
        functions = functions.replace("/sys/fs/cgroup", str(self.folder / "fs"))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", functions + script, "bash", *map(str, args)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


@pytest.mark.parametrize("version", [V1, V2], ids=["v1", "v2"])
def test_kills_are_counted(tmp_path: Path, version: str) -> None:
    kernel = Kernel(tmp_path, version)
    assert kernel.bash("lfadsrm_oom_kills") == "2\n"
    kernel.counter.unlink()
    assert kernel.bash("lfadsrm_oom_kills") == "0\n"
    (tmp_path / "cgroup").unlink()
    assert kernel.bash("lfadsrm_oom_kills") == "0\n"


@pytest.mark.parametrize(("kills", "status", "reason"), [
    (3, 137, "out_of_memory"), (2, 137, "killed"), (3, 139, "killed"),
])  # fmt: skip
def test_only_a_new_kill_explains_a_death(tmp_path: Path, kills: int, status: int, reason: str) -> None:
    run = CollectionLayout(tmp_path / "runs").run("abc", "a")
    store.reserve(run, "S")
    pid, start = claim_and_die(run)
    kernel = Kernel(tmp_path, V2)
    said = kernel.bash(
        f'echo "{kernel.text.format(kills)}" >"{kernel.counter}"\n'
        'lfadsrm_record_death "$@"\necho "$lfadsrm_death"',
        run.path, run_key(run.run_id), run.collection.outbox, pid, start, status,
    )  # fmt: skip
    assert said == f"{reason}\n"
    found = store.run_status(run)
    assert (found.code, found.signal, found.reason) == (status, status - 128, reason)
    assert found.state is (RunState.OUT_OF_MEMORY if reason == "out_of_memory" else RunState.FAILED)


def test_claim_of_another_machine_with_the_same_numbers_is_not_ours(tmp_path: Path) -> None:
    run = CollectionLayout(tmp_path / "runs").run("abc", "a")
    store.reserve(run, "S")
    pid, start = claim_and_die(run)
    claim = run.attempt(1).claim(0)
    claim.write_text(claim.read_text().replace(f'"host": "{os.uname().nodename}"', '"host": "elsewhere"'))
    Kernel(tmp_path, V2).bash(
        'lfadsrm_record_death "$@"', run.path, run_key(run.run_id), run.collection.outbox, pid, start, 137
    )
    assert not run.attempt(1).exit(0).exists()


def claim_and_die(run: RunLayout) -> tuple[int, int]:
    """Let a process of its own claim the attempt and be killed; return its pid and start time."""
    identity = Identity("hpc", "41", "0", "S")
    script = (
        "import os, sys; from pathlib import Path; from lfadsrm_hpc.layout import RunLayout\n"
        "from lfadsrm_hpc.manifest import store; from lfadsrm_hpc.manifest.records import Identity\n"
        f"store.claim(RunLayout(Path({str(run.path)!r})), 1, {identity!r}); os.kill(os.getpid(), 9)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=env, timeout=60)
    assert done.returncode == -signal.SIGKILL
    claim = store.read_facts(run).attempts[0].incarnations[0].claim
    assert claim is not None
    assert claim.process.start is not None
    return claim.process.pid, claim.process.start
