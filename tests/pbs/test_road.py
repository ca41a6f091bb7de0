"""Real, tiny trainings as jobs of a (fake) PBS, through the package's own doors, and what befalls them."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.api import Run, RunCollection
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.errors import LfadsrmWarning, SchedulerUnreachableError
from lfadsrm_hpc.manifest.states import RunState

pytestmark = [pytest.mark.train, pytest.mark.slow, pytest.mark.timeout(600)]

QUICK, LONG = 4, 2000  # epochs: none to speak of, and enough to be caught in the middle
SETS = ["filesystem.latency_s=1", "stopping.warning=20s"]
FAILURES = [state.value for state in RunState if state.is_failure]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sessions alone, each for a moment and for long; prepared once, copied for each test."""
    folder = tmp_path_factory.mktemp("prepared")
    datasets = DatasetCollection(folder / "datasets")
    rng = np.random.default_rng(0)
    for number in range(3):
        Dataset.from_arrays(datasets, f"day {number}", rng.poisson(0.5, (20, 10, 4)), bin_ms=10)
    collection = RunCollection(folder, "runs", datasets)
    params = RunParams(
        spike_bin_ms=10, co_dim=0, batch_size=16, ic_enc_dim=4, gen_dim=4, ic_dim=4, factors_dim=2,
        num_samples_posterior=2, kl_increase_steps=1, l2_increase_steps=1, learning_rate_stop=1e-9,
        use_xla="off",
    )  # fmt: skip
    collection.add_params(params.generate_sweep("max_epochs", [QUICK, LONG]))
    collection.add_run_spec([RunSpec(d.name, datasets, [d.name]) for d in datasets])
    collection.prepare_for_lfads()
    return collection.path


@pytest.fixture
def collection(prepared: Path, tmp_path: Path) -> RunCollection:
    folder = tmp_path / "runs_of_ann"  # (PBS takes no blanks in paths of output)
    shutil.copytree(prepared, folder / "runs")
    return RunCollection.open(folder / "runs")


def asked(site: str, **more: Any) -> dict[str, Any]:
    return {"site": site, "sets": SETS, "walltime": "5m", "memory": "600M", "cpus": 1, **more}


def states(collection: RunCollection, runs: Sequence[Run]) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LfadsrmWarning)
        return [status.state.value for status in collection.status(runs)]


def until(collection: RunCollection, runs: Sequence[Run], *wanted: str, seconds: float = 300) -> None:
    """Wait until each run is in its state; one state stands for all runs."""
    want = list(wanted) * (len(runs) if len(wanted) == 1 else 1)
    end = time.monotonic() + seconds
    while (found := states(collection, runs)) != want:
        if time.monotonic() > end:
            logs = [log for run in runs for log in sorted(run.path.glob("attempts/*/log.txt"))]
            told = "\n".join(f"--- {log}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)
            pytest.fail(f"{found}, not {want}\n{told}")
        time.sleep(0.3)


def until_trained(run: Run) -> None:
    """Wait until a run has done some epochs and has a checkpoint to go on from."""
    end = time.monotonic() + 200
    while run.status().progress.get("epoch", 0) < 20 or not run.layout.has_checkpoint:
        assert time.monotonic() < end
        time.sleep(0.1)


def incarnations(run: Run) -> list[str]:
    return sorted(f"{p.parent.name}.{p.name.split('.')[1]}" for p in run.path.glob("attempts/*/claim.*.json"))


def assert_trained_once(run: Run) -> None:
    assert "rates" in run.load_posterior_means()
    epochs = run.load_fit_log()["epoch"].tolist()
    assert epochs == list(range(1, len(epochs) + 1))


def test_lost_nodes_reruns_deleted_and_cancelled_runs(collection: RunCollection, pbspro: Any) -> None:
    """One array, three at a time: each of four runs meets another fate; retried, all complete."""
    lost, rerun, deleted = collection.find_runs(max_epochs=LONG)
    waiting = collection.find_runs(max_epochs=QUICK)[0]
    runs = [lost, rerun, deleted, waiting]
    pbspro.set(kill_delay_s=30)
    (job,) = [job.job for job in collection.submit(runs, **asked("generic-pbspro", max_parallel=3)).jobs]
    assert job == "1[].vm"
    assert {job["throttle"] for job in pbspro.jobs().values()} == {3}
    index = {run.id: number for number, run in enumerate(runs)}
    for run in (lost, rerun, deleted):
        until_trained(run)
    assert states(collection, [waiting]) == ["PENDING"]

    pbspro.break_node(job, index[lost.id])
    until(collection, [lost], "NODE_FAIL")
    until(collection, [waiting], "COMPLETED")
    pbspro.call("qrerun", f"1[{index[rerun.id]}].vm")
    end = time.monotonic() + 60
    while incarnations(rerun) != ["001.r0", "001.r1"]:
        assert time.monotonic() < end
        time.sleep(0.2)
    pbspro.call("qdel", f"1[{index[deleted.id]}].vm")
    until(collection, [deleted], "PREEMPTED")  # it had the time to checkpoint and say so
    collection.cancel([rerun])
    until(collection, [rerun], "CANCELLED")
    pbspro.wait(job)
    assert states(collection, runs) == ["NODE_FAIL", "CANCELLED", "PREEMPTED", "COMPLETED"]

    again = collection.retry([lost, rerun, deleted], **asked("generic-pbspro", states=FAILURES))
    assert [job.job for job in again.jobs] == ["2[].vm"]
    until(collection, runs, "COMPLETED")
    for run in runs:
        assert_trained_once(run)
    assert incarnations(lost) == ["001.r0", "002.r0"]


@pytest.mark.parametrize(("start", "status"), [("path", 271), ("stdin", 75)])
def test_as_the_daemons_of_pbs_start_scripts(
    collection: RunCollection, pbspro: Any, start: str, status: int
) -> None:
    """By a login shell that dies of a signal, or that reads the script as its input; with umask 077."""
    deleted, quick = collection.find_runs(max_epochs=LONG)[0], collection.find_runs(max_epochs=QUICK)[0]
    collection.path.chmod(0o2750)
    pbspro.set(start=start, kill_delay_s=30)
    (job,) = [job.job for job in collection.submit([deleted, quick], **asked("generic-pbspro")).jobs]
    until_trained(deleted)
    until(collection, [quick], "COMPLETED")
    pbspro.call("qdel", "1[0].vm")
    until(collection, [deleted], "PREEMPTED")
    pbspro.wait(job)
    assert pbspro.task(job, 0)["status"] == status
    attempt = deleted.path / "attempts" / "001"
    for written in ("claim.r0.json", "exit.r0.json", "log.txt"):
        assert (attempt / written).stat().st_mode & 0o777 == 0o640, written
    assert {path.stat().st_mode & 0o777 for path in (quick.path / "posterior_means").iterdir()} == {0o640}


def test_what_has_checkpointed_goes_on_while_its_array_lives(collection: RunCollection, pbspro: Any) -> None:
    """A server without history, as they are set up: of an ended task it tells only that it has finished."""
    stopped, other = collection.find_runs(max_epochs=LONG)[:2]
    pbspro.set(history=False)
    (job,) = [job.job for job in collection.submit([stopped, other], **asked("generic-pbspro")).jobs]
    until_trained(stopped)
    pbspro.call("qsig", "-s", "SIGTERM", "1[0].vm")
    pbspro.wait(job, "XR")
    until(collection, [stopped], "PREEMPTED", seconds=60)
    again = collection.retry([stopped], **asked("generic-pbspro"))
    assert [job.job for job in again.jobs] == ["2.vm"]
    collection.cancel()
    until(collection, [stopped, other], "CANCELLED")


@pytest.mark.parametrize("kind", ["pbspro", "torque"])
def test_an_array_and_a_run_alone(
    collection: RunCollection, kind: str, request: pytest.FixtureRequest
) -> None:
    """A server that is down in between; ended jobs that it forgets."""
    server = request.getfixturevalue(kind)
    first, second, third = runs = collection.find_runs(max_epochs=QUICK)
    server.set(scheduling=False)
    done = collection.submit([first, second], **asked(f"generic-{kind}"))
    assert [job.job for job in done.jobs] == ["1[].vm"]
    assert states(collection, runs) == ["PENDING", "PENDING", "PREPARED"]
    server.set(down=True)
    with pytest.raises(SchedulerUnreachableError):
        collection.submit([third], **asked(f"generic-{kind}"))
    assert states(collection, runs) == ["UNKNOWN", "UNKNOWN", "PREPARED"]
    server.set(down=False)
    done = collection.submit([third], **asked(f"generic-{kind}"))
    assert [job.job for job in done.jobs] == ["2.vm"]
    server.set(scheduling=True)
    server.wait("1")
    server.wait("2")
    server.set(history_s=0)
    assert states(collection, runs) == ["COMPLETED"] * 3
    for run in runs:
        assert_trained_once(run)
        assert incarnations(run) == ["001.r0"]
