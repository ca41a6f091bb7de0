"""Real, tiny trainings on a real Slurm, and what befalls them there.

Each run ends in the right state, and what was to be retried completes. All goes through the package's doors.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lfadsrm_hpc.api import Run, RunCollection
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.errors import LfadsrmWarning, PartlySubmittedError, SchedulerUnreachableError
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.slurm.client import Slurm
from lfadsrm_hpc.timing import time_run

if TYPE_CHECKING:
    from slurm_cluster import SlurmCluster

pytestmark = [pytest.mark.train, pytest.mark.slow, pytest.mark.timeout(900)]

QUICK = 4  # epochs: none to speak of
LONG_S, LONGER_S = 20.0, 70.0  # seconds, about: enough to be caught in the middle; longer than a time limit
SETS = ("filesystem.latency_s=1", "stopping.warning=20s")
NewSlurm = Callable[..., "SlurmCluster"]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sessions alone, each for a moment and for long; prepared once, copied for each test."""
    folder = tmp_path_factory.mktemp("prepared")
    datasets = DatasetCollection(folder / "datasets")
    rng = np.random.default_rng(0)
    for number in range(4):
        Dataset.from_arrays(datasets, f"day {number}", rng.poisson(0.5, (20, 10, 4)), bin_ms=10)
    collection = RunCollection(folder, "runs", datasets)
    params = RunParams(
        spike_bin_ms=10, co_dim=0, batch_size=16, ic_enc_dim=4, gen_dim=4, ic_dim=4, factors_dim=2,
        num_samples_posterior=2, kl_increase_steps=1, l2_increase_steps=1, learning_rate_stop=1e-9,
        use_xla="off",
    )  # fmt: skip
    collection.add_params(params.replace(max_epochs=QUICK, name="quick"))
    collection.add_run_spec([RunSpec(d.name, datasets, [d.name]) for d in datasets])
    collection.prepare_for_lfads()
    epoch_s = time_run(collection.runs[0], seconds=1).seconds_per_epoch
    for name, seconds in (("long", LONG_S), ("longer", LONGER_S)):
        collection.add_params(params.replace(max_epochs=100 + round(seconds / epoch_s), name=name))
    collection.prepare_for_lfads()
    return collection.path


@pytest.fixture
def collection(prepared: Path, tmp_path: Path) -> RunCollection:
    folder = tmp_path / "it's a $HOME"  # quoting is tested on the whole road
    shutil.copytree(prepared, folder / "runs")
    return RunCollection.open(folder / "runs")


@dataclass
class Road:
    """A collection on a cluster."""

    collection: RunCollection
    cluster: SlurmCluster

    def quick(self, count: int) -> list[Run]:
        return self.collection.find_runs(params="quick")[:count]

    def long(self, count: int) -> list[Run]:
        return self.collection.find_runs(params="long")[:count]

    def longer(self) -> Run:
        return self.collection.find_runs(params="longer")[0]

    def submit(self, runs: Sequence[Run], *sets: str, **asked: Any) -> list[str]:
        """Submit runs; return the jobs' ids."""
        done = self.collection.submit(runs, **self._asked(sets, asked))
        return [job.job for job in done.jobs]

    def retry(self, runs: Sequence[Run], *sets: str, **asked: Any) -> list[str]:
        done = self.collection.retry(runs, **self._asked(sets, asked))
        return [job.job for job in done.jobs]

    def _asked(self, sets: Sequence[str], asked: dict[str, Any]) -> dict[str, Any]:
        usual = {"walltime": "5m", "memory": "600M", "cpus": 1}
        return {"site": "generic-slurm", "sets": [*SETS, *sets], **usual, **asked}

    def states(self, runs: Sequence[Run]) -> list[str]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LfadsrmWarning)
            return [status.state.value for status in self.collection.status(runs)]

    def until(self, runs: Sequence[Run], *wanted: str, seconds: float = 400) -> None:
        """Wait until each run is in its state; one state stands for all runs."""
        want = list(wanted) * (len(runs) if len(wanted) == 1 else 1)
        end = time.monotonic() + seconds
        while (states := self.states(runs)) != want:
            if time.monotonic() > end:
                pytest.fail(f"{states}, not {want}\n{self._told(runs)}")
            time.sleep(0.3)

    def until_trained(self, run: Run, epochs: int = 20) -> None:
        """Wait until a run has done some epochs and has a checkpoint to go on from."""
        end = time.monotonic() + 200
        while run.status().progress.get("epoch", 0) < epochs or not run.layout.has_checkpoint:
            assert time.monotonic() < end, self._told([run])
            time.sleep(0.1)

    def process(self, run: Run) -> int:
        claim = run.status().claim
        assert claim is not None
        return claim.process.pid

    def gpu(self, run: Run) -> str:
        """Return which GPU the process of a run sees; "": it is not at work."""
        claim = run.status().claim
        if claim is not None:
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{claim.process.pid}/environ").read_bytes().split(b"\0")
                return dict(word.partition(b"=")[::2] for word in words)[b"CUDA_VISIBLE_DEVICES"].decode()
        return ""

    def _told(self, runs: Sequence[Run]) -> str:
        logs = [log for run in runs for log in sorted(run.path.glob("attempts/*/log.txt"))]
        return "\n".join(f"--- {log.parent}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)


@pytest.fixture
def road(collection: RunCollection, slurm: SlurmCluster) -> Road:
    return Road(collection, slurm)


def incarnations(run: Run) -> list[str]:
    """Return which incarnations claimed the run."""
    return sorted(f"{p.parent.name}.{p.name.split('.')[1]}" for p in run.path.glob("attempts/*/claim.*.json"))


def assert_trained_once(run: Run) -> None:
    """The posterior means load, and no epoch was done twice."""
    assert "rates" in run.load_posterior_means()
    epochs = run.load_fit_log()["epoch"].tolist()
    assert epochs == list(range(1, len(epochs) + 1))


# -- arrays, GPUs, chunks ---------------------------------------------------------------------------------


def test_an_array_on_gpus_with_a_throttle(road: Road) -> None:
    runs = road.quick(4)
    jobs = road.submit(runs, gpus=1, partition="gpu", max_parallel=2)
    assert len(jobs) == 1
    most, gpus = 0, {}
    end = time.monotonic() + 120
    while road.cluster.run("squeue", "-h", "-o", "%i") and time.monotonic() < end:
        most = max(most, list(road.cluster.states(jobs[0]).values()).count("RUNNING"))
        for run in runs:
            gpus |= {run.id: gpu} if (gpu := road.gpu(run)) else {}
        time.sleep(0.1)
    assert most == 2
    assert set(gpus) == {run.id for run in runs}
    assert set(gpus.values()) <= {"0", "1"}, "each has one GPU of its node"
    road.until(runs, "COMPLETED")
    for run in runs:
        assert_trained_once(run)
        assert incarnations(run) == ["001.r0"]
    empty = list(road.collection.layout.submissions()[0].output_dir.iterdir())
    assert empty == [], "the scheduler's own files of output are removed where they are empty"


def test_chunks_are_renumbered_and_a_single_run_is_a_plain_job(
    collection: RunCollection, new_slurm: NewSlurm
) -> None:
    road = Road(collection, new_slurm(nodes=1, max_array_size=3))
    *three, one = road.quick(4)
    jobs = [*road.submit(three, "limits.largest_array_index=1"), *road.submit([one])]
    assert sorted(sorted(road.cluster.states(job)) for job in jobs) == [[-1], [-1], [0, 1]]
    road.until([*three, one], "COMPLETED")
    for run in [*three, one]:
        assert_trained_once(run)
        assert incarnations(run) == ["001.r0"]


# -- ends that were not asked for -------------------------------------------------------------------------


def test_killed_cancelled_and_preempted_runs(road: Road) -> None:
    """One array: a process is killed, a task is cancelled behind our back, one is cancelled by us."""
    killed, behind, ours, pending = road.long(4)
    (job,) = road.submit([killed, behind, ours, pending], max_parallel=3)
    for run in (killed, behind, ours):
        road.until_trained(run)
    assert road.states([pending]) == ["PENDING"]

    os.kill(road.process(killed), signal.SIGKILL)
    road.until([killed], "FAILED")
    assert killed.status().reason == "killed"

    road.cluster.run("scancel", f"{job}_1")
    road.until([behind], "PREEMPTED")  # it had the time to checkpoint and say so

    cancelled = road.collection.cancel([ours, pending])
    assert ours.id in str(cancelled)
    road.until([ours, pending], "CANCELLED")
    road.cluster.until(lambda: not road.cluster.run("squeue", "-h", "-o", "%i"), "the queue is empty")
    assert road.states([killed, behind, ours, pending]) == ["FAILED", "PREEMPTED", "CANCELLED", "CANCELLED"]

    every = [state.value for state in RunState if state.is_failure]
    road.retry([killed, behind, ours, pending], states=every)
    road.until([killed, behind, ours, pending], "COMPLETED")
    for run in (killed, behind, ours, pending):
        assert_trained_once(run)
    assert incarnations(killed) == ["001.r0", "002.r0"]


def test_a_time_limit(road: Road) -> None:
    """The warning comes, the run checkpoints, and goes on from there when it is tried again."""
    run = road.longer()
    # One minute is the shortest limit that Slurm knows. Its warning may come much too early: after one step.
    road.submit([run], "stopping.warning=40s", walltime="1m")
    road.until([run], "TIMEOUT")
    before = run.status()
    assert (before.code, before.reason) == (75, "timeout")
    assert run.layout.has_checkpoint
    assert road.retry([run], walltime="10m")
    road.until([run], "COMPLETED")
    assert_trained_once(run)
    first, second = (run.layout.attempt(number).log.read_text() for number in (1, 2))
    (step,) = re.findall(r"stopped and checkpointed at epoch \d+, step (\d+)", first)
    assert int(step) > 0
    assert "resumes from 001.r0" in second


def test_a_requeued_run_is_a_new_incarnation_of_its_attempt(road: Road) -> None:
    (run,) = road.long(1)
    (job,) = road.submit([run])
    road.until_trained(run)
    road.cluster.run("scontrol", "requeue", job)
    road.until([run], "REQUEUED")
    road.cluster.start_again(job)
    road.until([run], "COMPLETED")
    assert incarnations(run) == ["001.r0", "001.r1"]
    assert_trained_once(run)
    assert "resumes from" in run.layout.attempt(1).log.read_text()


def test_a_dead_node_and_its_zombie(collection: RunCollection, new_slurm: NewSlurm) -> None:
    """slurmd is killed; the run's process goes on, and must not spoil what takes its place."""
    road = Road(collection, new_slurm(nodes=2, slurmd_timeout=5))
    (run,) = road.long(1)
    (job,) = road.submit([run], "stopping.requeue=false")
    road.until_trained(run)
    node = road.cluster.run("squeue", "-h", "-j", job, "-o", "%N")
    zombie = road.process(run)
    os.kill(zombie, signal.SIGSTOP)  # it must not end before its node is given up
    road.cluster.kill_node(node)
    try:
        road.until([run], "NODE_FAIL", seconds=200)
        road.retry([run])
        road.until_trained(run, epochs=100)
    finally:
        os.kill(zombie, signal.SIGCONT)
    road.until([run], "COMPLETED")
    assert incarnations(run) == ["001.r0", "002.r0"]
    assert_trained_once(run)
    road.cluster.until(lambda: not alive(zombie), "the zombie notices and ends", 60)
    assert "training ended" not in run.layout.attempt(1).log.read_text(), "it stopped in the middle"
    road.cluster.start_node(node)
    road.cluster.until(
        lambda: node in road.cluster.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N"), "back"
    )
    assert road.states([run]) == ["COMPLETED"]
    assert run.status().attempt == 2, "what the zombie said last counts for nothing"
    assert_trained_once(run)


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# -- a scheduler that is away, or forgets -----------------------------------------------------------------


def test_the_controller_is_down_while_submitting_and_looking(road: Road) -> None:
    (running,), (waiting, later) = road.long(1), road.quick(2)
    road.submit([running, waiting], max_parallel=1)
    road.until_trained(running)
    road.until([running, waiting], "RUNNING", "PENDING")
    road.cluster.stop_controller()
    before = files(road.collection.layout.path)
    with pytest.raises(SchedulerUnreachableError):
        road.submit([later])
    assert files(road.collection.layout.path) - before == set(), "nothing was changed"
    with pytest.warns(LfadsrmWarning):
        states = [status.state for status in road.collection.status([running, waiting, later])]
    # Its own heartbeat vouches for the first; of the second nobody can tell.
    assert states == [RunState.RUNNING, RunState.UNKNOWN, RunState.PREPARED]
    road.cluster.start_controller()
    road.until([running, waiting], "RUNNING", "PENDING")
    road.submit([later])
    road.until([running, waiting, later], "COMPLETED")
    for run in (running, waiting, later):
        assert_trained_once(run)
        assert incarnations(run) == ["001.r0"]


def test_the_controller_goes_down_in_the_middle_of_submitting(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two jobs one is handed over; the same command again hands over the other one alone."""
    runs = road.quick(4)
    real = Slurm.submit

    def submit_and_go_down(self: Slurm, script: Path) -> Any:
        accepted = real(self, script)
        road.cluster.stop_controller()
        return accepted

    with monkeypatch.context() as patched:
        patched.setattr(Slurm, "submit", submit_and_go_down)
        with pytest.raises(PartlySubmittedError, match="1 of 2 jobs"):
            road.submit(runs, "limits.array_tasks=2")
    assert set(road.states(runs[2:])) == {"SUBMITTED"}
    road.cluster.start_controller()
    assert len(road.submit(runs)) == 1
    road.until(runs, "COMPLETED")
    for run in runs:
        assert_trained_once(run)
        assert incarnations(run) == ["001.r0"]


def files(folder: Path) -> set[str]:
    """Return files that are there to stay, heartbeats and checkpoints aside."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {name for name in names if "heartbeat" not in name and "checkpoints" not in name}


@pytest.mark.parametrize("accounting", [False, True], ids=["no accounting", "accounting"])
def test_jobs_that_the_queue_has_forgotten(
    collection: RunCollection, new_slurm: NewSlurm, accounting: bool
) -> None:
    """Ended jobs leave the queue after MinJobAge; what became of the runs is still told rightly."""
    road = Road(collection, new_slurm(nodes=1, min_job_age=2, accounting=accounting))
    (done, never), (killed,) = road.quick(2), road.long(1)
    road.submit([done])
    (job,) = road.submit([killed])
    road.until([killed], "RUNNING")
    road.cluster.run("scontrol", "update", "NodeName=n0", "State=DRAIN", "Reason=test")
    (waiting,) = road.submit([never])
    road.until_trained(killed)
    # Its script dies with it: nobody is left to write a record. Nobody looks before it is forgotten.
    process = road.process(killed)
    script = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(script, signal.SIGKILL)
    os.kill(process, signal.SIGKILL)

    def accounts(*words: str) -> None:
        said = ("sacct", "-X", "-n", "-P", "-o", "State", "-j", f"{job},{waiting}")
        road.cluster.until(
            lambda: set(road.cluster.run(*said).splitlines()) == set(words), f"accounts say {words}", 60
        )

    if accounting:  # they lag, and what they say of a job that they did not know changes once more
        accounts("FAILED", "PENDING")
    road.cluster.run("scancel", waiting)  # cancelled while it waits: it vanishes without a trace
    for one in (job, waiting):
        road.cluster.until(lambda one=one: not road.cluster.states(one), "the job is forgotten", 90)  # type: ignore[misc]
    if accounting:
        accounts("FAILED", f"CANCELLED by {os.getuid()}")
    road.until([done, killed, never], "COMPLETED", *(["FAILED", "CANCELLED"] if accounting else ["LOST"] * 2))
    road.cluster.run("scontrol", "update", "NodeName=n0", "State=RESUME")
    road.retry([killed, never], states=["FAILED", "LOST", "CANCELLED"])
    road.until([killed, never], "COMPLETED")
    assert_trained_once(killed)
    assert (incarnations(killed), incarnations(never)) == (["001.r0", "002.r0"], ["002.r0"])


# -- memory -----------------------------------------------------------------------------------------------


def test_out_of_memory(collection: RunCollection, new_slurm: NewSlurm, tmp_path: Path) -> None:
    """The kernel ends a run that asks for too much; the retry asks for more memory."""
    import slurm_cluster

    if not slurm_cluster.cgroups_usable():
        pytest.skip("memory limits need root and cgroups that can be written")
    road = Road(collection, new_slurm(nodes=1, cgroup=True))
    (run,) = road.quick(1)
    road.submit([run], memory="150M")  # tensorflow alone needs more
    road.until([run], "OUT_OF_MEMORY")
    road.retry([run], "escalation.memory_factor=5")
    road.until([run], "COMPLETED")
    assert_trained_once(run)
    assert incarnations(run)[-1].startswith("002")
