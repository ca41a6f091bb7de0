"""The private Slurm itself: it starts, runs jobs, and nothing of it is left."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import slurm_cluster
from slurm_cluster import SlurmCluster, indices


def test_runs_jobs_with_fake_gpus(slurm: SlurmCluster, tmp_path: Path) -> None:
    job = slurm.submit(f"echo $CUDA_VISIBLE_DEVICES >{tmp_path}/gpu; exit 3", "--gres=gpu:1")
    slurm.until(lambda: slurm.states(job) == {-1: "FAILED"}, "the job fails")
    assert (tmp_path / "gpu").read_text().strip() in ("0", "1")


def test_environment_is_this_clusters_alone(slurm: SlurmCluster) -> None:
    assert [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))] == ["SLURM_CONF"]
    answer = subprocess.run(["squeue", "-h"], capture_output=True, text=True, timeout=90, check=True)
    assert answer.stdout == ""  # jobs of the test before are gone


def test_nothing_is_left(new_slurm: Callable[..., SlurmCluster], tmp_path: Path) -> None:
    cluster = new_slurm(nodes=1, gpus=0)
    job = cluster.submit(f"trap '' TERM; echo $$ >{tmp_path}/pid; sleep 600 & wait; wait; sleep 600")
    cluster.until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "it runs")
    cluster.kill_node("n0")
    daemons = [process.pid for process in cluster.daemons.values()]
    cluster.stop()
    pid = int((tmp_path / "pid").read_text())
    for process in [*daemons, pid]:
        state = Path(f"/proc/{process}/stat")
        assert not state.exists() or state.read_text().split()[2] == "Z"
    assert not cluster.folder.exists()
    assert job


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4", [4]), ("0-2", [0, 1, 2]), ("0-9:3%2", [0, 3, 6, 9]), ("1,4-5%1", [1, 4, 5])],
)
def test_indices(text: str, expected: list[int]) -> None:
    assert indices(text) == expected


def test_accounting(slurm_with_accounting: SlurmCluster) -> None:
    cluster = slurm_with_accounting
    job = cluster.submit("exit 3")

    def ended() -> bool:
        return cluster.run("sacct", "-X", "-n", "-P", "-j", job, "-o", "State,ExitCode") == "FAILED|3:0"

    cluster.until(ended, "sacct knows how the job ended")


def test_absent_programs_skip_or_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_cluster, "SBIN", "")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("LFADSRM_REQUIRE_TOOLS", "1")
    with pytest.raises(pytest.fail.Exception, match="slurmctld"):
        slurm_cluster.need_slurm()
    monkeypatch.delenv("LFADSRM_REQUIRE_TOOLS")
    with pytest.raises(pytest.skip.Exception, match="mariadbd"):
        slurm_cluster.need_slurm(accounting=True)
