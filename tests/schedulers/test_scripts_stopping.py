"""How a task in a job takes its attempt, and when and why it stops."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection, RunParams, RunSpec
from lfadsrm_hpc.api import Run
from lfadsrm_hpc.cli.task import task
from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.stopping import NEAR_DEADLINE_S, StopFlag
from lfadsrm_hpc.worker import run_task

SUBMISSION = "01J9ZK3V5Q8N7M2C4B6A1D0E9F"
JOB = Identity("hpc", "123", "7", SUBMISSION)

# -- the flag


@pytest.mark.parametrize(
    ("number", "deadline_in_s", "out_of_time"),
    [
        (signal.SIGTERM, None, False),
        (signal.SIGTERM, 1, False),
        (signal.SIGTERM, -1, True),
        (signal.SIGUSR2, None, False),
        (signal.SIGUSR2, NEAR_DEADLINE_S + 60, False),
        (signal.SIGUSR2, NEAR_DEADLINE_S - 60, True),
        (signal.SIGUSR2, -1, True),
        (None, 1, False),
        (None, -1, True),
    ],
)
def test_why_it_stops(number: int | None, deadline_in_s: float | None, out_of_time: bool) -> None:
    stop = StopFlag(None if deadline_in_s is None else time.time() + deadline_in_s)
    stop.ask(number)
    assert stop()
    assert stop.out_of_time is out_of_time
    stop.ask(signal.SIGTERM)
    assert stop.out_of_time is out_of_time, "the first reason stands"


def test_deadline_is_kept_though_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopFlag(time.time() + 0.2)
    assert not stop()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    time.sleep(0.21)
    assert stop()
    assert (stop.out_of_time, stop.signal) == (True, None)


def test_signals_that_come_again_are_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    stop = StopFlag()
    with stop.installed():
        for number in (signal.SIGUSR2, signal.SIGUSR2, signal.SIGTERM):
            os.kill(os.getpid(), number)
    assert stop.signal == signal.SIGUSR2
    assert capfd.readouterr().err == "SIGUSR2: stopping at the next checkpoint\n"


# -- the command


def call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *args: str, **environment: str
) -> dict[str, object]:
    """Call `lfadsrm task` and return what it would do."""
    seen: dict[str, object] = {}
    monkeypatch.setattr("lfadsrm_hpc.worker.run_task", lambda *_, **more: seen.update(more) or 0)
    answer = CliRunner().invoke(
        task,
        ["--collection", str(tmp_path), "--run", "param_x/a", "--submission", SUBMISSION, *args],
        env=environment,
        standalone_mode=False,
    )
    if answer.exception is not None:
        raise answer.exception
    return seen


def test_options_and_environment_name_the_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = ("--attempt", "3", "--task", "7")
    by_option = ("--cluster", "hpc", "--job", "123", "--deadline", "1700000000.5")
    by_name = {"LFADSRM_CLUSTER": "hpc", "LFADSRM_JOB": "123", "LFADSRM_DEADLINE": "1700000000.5"}
    for seen in (
        call(monkeypatch, tmp_path, *said, *by_option),
        call(monkeypatch, tmp_path, *said, **by_name),
    ):
        assert (seen["attempt"], seen["identity"], seen["deadline"]) == (3, JOB, 1700000000.5)
    seen = call(monkeypatch, tmp_path)
    assert (seen["attempt"], seen["identity"], seen["deadline"]) == (None, None, None)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--cluster", "hpc", "--attempt", "1"),
        ("--job", "1", "--attempt", "1"),
        ("--cluster", "local", "--job", "1", "--attempt", "1"),
        ("--cluster", "hpc", "--job", "1"),
        ("--deadline", "nan"),
    ],
    ids=" ".join,
)
def test_half_a_job_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError):
        call(monkeypatch, tmp_path, *wrong)


# -- a real run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    dc = DatasetCollection(tmp_path / "datasets")
    Dataset.from_arrays(dc, "day1", np.random.default_rng(0).poisson(0.7, (20, 8, 5)), bin_ms=10)
    rc = RunCollection(tmp_path, "runs", dc)
    rc.add_params(
        RunParams(
            spike_bin_ms=10, co_dim=0, batch_size=8, gen_dim=6, ic_dim=3, ic_enc_dim=4, factors_dim=2,
            use_xla="off", max_epochs=4, num_samples_posterior=4,
        )
    )  # fmt: skip
    rc.add_run_spec(RunSpec("single_day1", dc, [0]))
    rc.prepare_for_lfads(warn=False)
    return rc.runs[0]


def start(run: Run, identity: Identity, **more: object) -> int:
    return run_task(
        run.collection.path,
        run.id,
        submission=SUBMISSION,
        task=identity.task,
        attempt=1,
        identity=identity,
        capture_log=False,
        **more,  # type: ignore[arg-type]
    )


class AfterTwoLooks(StopFlag):
    """Is asked to stop by a signal in the middle of training."""

    def __init__(self, number: int | None) -> None:
        super().__init__()
        self.number, self.looks = number, 0

    def __call__(self) -> bool:
        self.looks += 1
        if self.looks == 4:
            self._asked, self.signal = True, self.number
        return super().__call__()


@pytest.mark.train
def test_requeued_job_goes_on_in_its_attempt_and_nobody_else_does(run: Run) -> None:
    assert store.reserve(run.layout, SUBMISSION) == 1
    handler = signal.getsignal(signal.SIGTERM)
    assert start(run, JOB, stop=AfterTwoLooks(signal.SIGTERM)) == 75
    assert signal.getsignal(signal.SIGTERM) is handler
    status = run.status()
    assert (status.state, status.reason, status.signal) == (RunState.PREEMPTED, "checkpointed", 15)
    assert status.claim is not None
    assert status.claim.identity == JOB

    assert start(run, Identity("hpc", "124", "7", SUBMISSION)) == 64
    assert start(run, Identity("hpc", "123", "8", SUBMISSION)) == 64
    # Too late to do anything: it ends before it loads what it would need.
    assert start(run, JOB, deadline=time.time() - 1) == 75
    status = run.status()
    assert (status.state, status.reason, status.attempt, status.incarnation) == (
        RunState.TIMEOUT, "timeout", 1, 1,
    )  # fmt: skip

    assert start(run, JOB, deadline=time.time() + 600) == 0
    status = run.status()
    assert (status.state, status.attempt, status.incarnation) == (RunState.COMPLETED, 1, 2)
    first, second = sorted(folder.name for _, _, folder in run.layout.checkpoint_dirs())
    assert (first, second) == ("001.r0", "001.r2")
    assert start(run, JOB) == 64, "complete"


@pytest.mark.train
def test_sampling_heeds_the_deadline(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lfadsrm_hpc.model.sampling.posterior.CPU_ROWS", 4)  # one trial a block
    store.reserve(run.layout, SUBMISSION)
    beat = store.heartbeat
    stop = StopFlag()

    def late(*args: object, **more: object) -> None:
        if more.get("phase") == "posterior means":
            stop.set_deadline(time.time() - 1)
        beat(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "heartbeat", late)
    assert start(run, JOB, stop=stop) == 75
    assert (run.status().state, run.status().reason) == (RunState.TIMEOUT, "timeout")
    assert not list(run.layout.posterior_dir.glob("*.nc"))
    monkeypatch.undo()
    capfd.readouterr()
    assert start(run, JOB) == 0
    assert "resumes from 001.r0" in capfd.readouterr().err
    assert run.status().state is RunState.COMPLETED


def test_attempt_that_was_given_up_is_not_taken(run: Run) -> None:
    store.reserve(run.layout, SUBMISSION)
    store.close(run.layout, 1, "cancelled", submission=SUBMISSION)
    assert start(run, JOB) == 64
    assert store.read_facts(run.layout).attempts[0].newest is None
