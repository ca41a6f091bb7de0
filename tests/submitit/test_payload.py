"""The payload: what it makes of signals, ends and second submissions. Here nothing is trained."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from submitit.core.utils import DelayedSubmission

from lfadsrm_hpc import worker
from lfadsrm_hpc.errors import DataError, InterruptedRunError, SomeRunsFailedError, UsageError
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import Exit, Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.stopping import StopFlag
from lfadsrm_hpc.submitit_plugin.payload import TrainRun, working_time_s

Task = Callable[..., int]


@pytest.fixture
def payload(collection: Any, short: list[Any], monkeypatch: pytest.MonkeyPatch) -> TrainRun:
    monkeypatch.setenv("SUBMITIT_DEBUG_JOB_ID", "DEBUG_1")
    return TrainRun(collection.layout.path, short[0].id)


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Callable[[Task], None]:
    return lambda function: monkeypatch.setattr(worker, "run_task", function)


def ends_when_asked(code: int) -> Task:
    def task(collection: Path, run_id: str, *, stop: StopFlag, **rest: Any) -> int:
        while not stop():
            time.sleep(0.01)
        return code

    return task


def after(seconds: float, function: Callable[[], None]) -> None:
    threading.Timer(seconds, function).start()


def test_it_can_be_pickled_while_it_works(payload: TrainRun, task: Any) -> None:
    task(lambda *args, **kwargs: 64)
    payload()
    assert payload._work is not None
    again = pickle.loads(pickle.dumps(payload))
    assert again == payload
    assert again._work is None


def test_what_a_job_imports_before_it_can_take_signals_is_light() -> None:
    code = (
        "import sys, lfadsrm_hpc.submitit_plugin.payload, lfadsrm_hpc.submitit_plugin.pbs\n"
        "heavy = {'tensorflow', 'xarray', 'pandas', 'h5py', 'numpy', 'scipy', 'matplotlib'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    light = "import sys, lfadsrm_hpc.cli.main, lfadsrm_hpc.api; sys.exit('submitit' in sys.modules)"
    subprocess.run([sys.executable, "-c", light], check=True, timeout=60)


@pytest.mark.parametrize(
    ("code", "error"), [(1, SomeRunsFailedError), (65, DataError), (75, InterruptedRunError)]
)
def test_ends_are_told(payload: TrainRun, task: Any, code: int, error: type[Exception]) -> None:
    task(lambda *args, **kwargs: code)
    with pytest.raises(error):
        payload()


@pytest.mark.parametrize("code", [0, 64])
def test_done_or_not_ours_is_no_failure(payload: TrainRun, task: Any, code: int) -> None:
    task(lambda *args, **kwargs: code)
    assert payload().run_id == payload.run_id


def test_an_error_in_the_thread_is_raised_in_the_main_thread(payload: TrainRun, task: Any) -> None:
    def breaks(*args: Any, **kwargs: Any) -> int:
        raise OSError("the disk is gone")

    task(breaks)
    with pytest.raises(OSError, match="the disk is gone"):
        payload()


def test_checkpoint_waits_for_the_end_and_asks_for_the_same_again(payload: TrainRun, task: Any) -> None:
    ended = []

    def slowly(*args: Any, stop: StopFlag, **rest: Any) -> int:
        code = ends_when_asked(75)(Path(), "", stop=stop)
        time.sleep(0.3)
        ended.append(time.monotonic())
        return code

    asked: list[tuple[float, DelayedSubmission]] = []

    def handler(number: int, frame: object) -> None:  # as submitit's: it ends the process
        delayed = payload.checkpoint()
        asked.append((time.monotonic(), delayed))
        raise SystemExit(255)

    task(slowly)
    before = signal.signal(signal.SIGUSR2, handler)
    try:
        after(0.2, lambda: os.kill(os.getpid(), signal.SIGUSR2))
        with pytest.raises(SystemExit):
            payload()
    finally:
        signal.signal(signal.SIGUSR2, before)
    ((when, delayed),) = asked
    assert when >= ended[0]
    assert delayed.function == payload
    assert (delayed.args, delayed.kwargs) == ((), {})


def test_a_run_that_ends_while_it_is_asked_to_stop_is_not_put_back(payload: TrainRun, task: Any) -> None:
    task(ends_when_asked(0))
    before = signal.signal(signal.SIGUSR2, lambda number, frame: payload.checkpoint() and None)
    try:
        after(0.2, lambda: os.kill(os.getpid(), signal.SIGUSR2))
        assert payload().run_id == payload.run_id
    finally:
        signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_other_signals_stop_at_a_checkpoint(payload: TrainRun, task: Any, number: int) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    seen = []

    def noting(*args: Any, stop: StopFlag, **rest: Any) -> int:
        code = ends_when_asked(75)(Path(), "", stop=stop)
        seen.append(stop.signal)
        return code

    task(noting)
    after(0.2, lambda: os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else InterruptedRunError):
        payload()
    assert seen == [number]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_asked_before_it_began(payload: TrainRun) -> None:
    assert payload.checkpoint().function is payload


def test_a_second_payload_of_a_claimed_run_does_nothing(payload: TrainRun, short: list[Any]) -> None:
    claim = store.take_local(short[0].layout, Identity.local("", 0))
    assert payload().state is RunState.RUNNING
    assert not isinstance(claim, store.AlreadyComplete)
    store.publish_exit(short[0].layout, claim, Exit(1, "failed"))
    assert len(short[0].layout.attempts()) == 1


def test_the_deadline_and_the_cores_come_from_the_job(
    payload: TrainRun, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def noting(*args: Any, **kwargs: Any) -> int:
        seen.update(kwargs, threads=os.environ["LFADSRM_THREADS"])
        return 64

    task(noting)
    monkeypatch.setenv("LFADSRM_DEADLINE", "1234.5")
    payload()
    assert seen["deadline"] is None  # the debug executor has none; the variable is another job's
    assert seen["identity"] is None

    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    monkeypatch.delenv("LFADSRM_THREADS")
    payload.attempt, payload.cluster, payload.submission = 2, "sherlock", "U"
    payload()
    assert (seen["deadline"], seen["threads"], seen["attempt"]) == (1234.5, "3", 2)
    assert seen["identity"] == Identity("sherlock", "78", "0", "U")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "77")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    payload()
    assert seen["identity"] == Identity("sherlock", "77", "4", "U")
    assert os.environ["LFADSRM_THREADS"] == "3"
    monkeypatch.setenv("LFADSRM_THREADS", "1")  # (undone with the rest)


def test_by_hand(payload: TrainRun, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUBMITIT_DEBUG_JOB_ID")
    task(lambda *args, **kwargs: 64)
    assert payload().run_id == payload.run_id
    payload.attempt = 1  # reserved for a job of a cluster
    with pytest.raises(UsageError, match="no job there"):
        payload()


def test_only_the_first_task_of_a_job_trains(
    payload: TrainRun, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task(lambda *args, **kwargs: pytest.fail("it trained"))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert payload().state is RunState.PREPARED


@pytest.mark.parametrize(
    ("walltime", "ahead", "works"), [(3600, 120, 3480), (60, 54, 6), (60, 60, 30), (60, 120, 30)]
)
def test_working_time(walltime: float, ahead: float, works: int) -> None:
    assert working_time_s(walltime, ahead) == works
