"""submitit's own executors for this machine, with real, tiny trainings."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import submitit
from submitit.core.utils import FailedJobError

from lfadsrm_hpc.errors import DataError, NothingEligibleError, UsageError
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.submitit_plugin import TrainRun, submit_with
from lfadsrm_hpc.submitit_plugin.sending import _shares


def local(folder: Path, **parameters: Any) -> submitit.AutoExecutor:
    executor = submitit.AutoExecutor(folder, cluster="local")
    executor.update_parameters(**{"timeout_min": 10, **parameters})
    return executor


def states(collection: Any) -> dict[str, RunState]:
    return {status.run_id: status.state for status in collection.status()}


# -- what is refused ------------------------------------------------------------------------------------


def test_the_folder_must_lie_outside_the_collection(collection: Any) -> None:
    for folder in (collection.path, collection.path / "figures", collection.path / "jobs" / "%j"):
        with pytest.raises(UsageError, match="in the run collection"):
            submit_with(collection, submitit.AutoExecutor(folder, cluster="debug"))
    beside = submitit.AutoExecutor(f"{collection.path}2", cluster="debug")
    assert len(submit_with(collection, beside)) == 3


def test_the_time_limit_must_be_said(collection: Any, folder: Path) -> None:
    with pytest.raises(UsageError, match="no time limit"):
        submit_with(collection, submitit.LocalExecutor(folder))


def test_one_task_a_run(collection: Any, folder: Path) -> None:
    with pytest.raises(UsageError, match="one task"):
        submit_with(collection, local(folder, tasks_per_node=2))


def test_not_within_a_batch(collection: Any, folder: Path) -> None:
    executor = local(folder)
    with pytest.raises(UsageError, match="its own array"), executor.batch():
        submit_with(collection, executor)


def test_not_more_at_once_than_the_machine_has(collection: Any, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"3 runs at once on 1 GPUs \(1 a run\)") as caught:
        submit_with(collection, local(folder, gpus_per_node=1))
    assert "lfadsrm run" in str(caught.value)
    assert states(collection) == dict.fromkeys(states(collection), RunState.PREPARED)
    assert _shares({"gpus_per_node": 2, "visible_gpus": [4, 5, 6, 7]}, 2) == [
        {"visible_gpus": [4, 5]},
        {"visible_gpus": [6, 7]},
    ]


def test_cores_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFADSRM_THREADS", "2")
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert _shares({}, 4) == [{}] * 4
    with pytest.raises(UsageError, match="5 runs at once"):
        _shares({}, 5)


def test_parameters_are_as_before(collection: Any, short: list[Any], folder: Path) -> None:
    executor = local(folder, name="mine")
    python, parameters = executor._executor.python, dict(executor.parameters)
    job = submit_with(collection, executor, short[:1])[short[0].id]
    job.cancel()
    assert (executor._executor.python, executor.parameters) == (python, parameters)
    assert executor.parameters is executor._executor.parameters


# -- trainings ------------------------------------------------------------------------------------------


@pytest.mark.train
def test_debug(collection: Any, short: list[Any], folder: Path) -> None:
    executor = submitit.AutoExecutor(folder, cluster="debug")
    run = short[0]
    jobs = submit_with(collection, executor, [run])
    second = submit_with(collection, executor, [run])[run.id]  # nothing is reserved on this machine
    assert states(collection)[run.id] is RunState.PREPARED
    assert jobs[run.id].result().state is RunState.COMPLETED
    assert states(collection)[run.id] is RunState.COMPLETED
    assert run.load_posterior_means()
    assert second.result().state is RunState.COMPLETED
    assert len(run.layout.attempts()) == 1  # the second did nothing
    with pytest.raises(NothingEligibleError):
        submit_with(collection, executor, [run])
    assert set(submit_with(collection, executor)) == {other.id for other in collection.runs} - {run.id}


@pytest.mark.train
def test_a_failure_is_on_record_and_raised(collection: Any, short: list[Any], folder: Path) -> None:
    run = short[0]
    job = submit_with(collection, submitit.AutoExecutor(folder, cluster="debug"), [run])[run.id]
    (inputs,) = run.input_files().values()
    inputs.write_bytes(b"no longer HDF5")
    error = job.exception()
    (status,) = collection.status([run], rescan=True)
    assert isinstance(error, DataError)
    assert (status.state, status.code) == (RunState.FAILED, 65)
    assert status.message.splitlines()[0] in str(error)


@pytest.mark.slow
@pytest.mark.train
def test_submitits_signal(collection: Any, long: Any, undisturbed: Any, folder: Path, helpers: Any) -> None:
    executor = local(folder)
    job = submit_with(collection, executor, [long])[long.id]
    status = helpers.until(
        lambda: next((s for s in collection.status([long]) if s.progress.get("epoch")), None)
    )
    # Another job for the same run ends at once, and quietly.
    assert executor.submit(TrainRun(collection.path, long.id)).result().state is RunState.RUNNING
    os.kill(status.claim.process.pid, signal.SIGUSR2)  # as submitit's controller does before its time is over
    assert job.result().state is RunState.COMPLETED
    first, second = helpers.incarnation(long, 1, 0), helpers.incarnation(long, 2, 0)
    assert (first.exit.code, first.exit.reason, second.exit.code) == (75, "checkpointed", 0)
    assert "resumes from 001.r0" in long.layout.attempt(2).log.read_text()
    helpers.same_bits(long, undisturbed)


@pytest.mark.train
def test_a_failed_job_of_this_machine(collection: Any, short: list[Any], folder: Path) -> None:
    (inputs,) = short[0].input_files().values()
    job = local(folder).submit(TrainRun(collection.path, short[0].id))
    inputs.write_bytes(b"no longer HDF5")
    with pytest.raises(FailedJobError, match="day1"):
        job.result()
