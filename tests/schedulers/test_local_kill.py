"""Stopping, killing and orphans: no run is lost, and none is worked on twice at once."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from disk_readers import read_live_tasks

from lfadsrm_hpc.layout import run_key
from lfadsrm_hpc.manifest.process import process_start_time
from lfadsrm_hpc.schedulers.local import detach_queue, start_queue, wait_for_queue

Bench = Any  # the class in conftest.py


def until(true: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def kill_queue(queue: subprocess.Popen[bytes]) -> None:
    """Kill the queue alone, as an out-of-memory killer would; its tasks go on."""
    os.kill(queue.pid, signal.SIGKILL)
    queue.wait(120)


def test_second_queue_waits_for_what_a_killed_one_left(bench: Bench) -> None:
    bench.add("a", "b", plan=["1.5 0"])
    bench.add("c")
    bench.write(slots=2)
    killed = bench.start()
    first = bench.wait_for_starts(2)
    kill_queue(killed)
    assert {task.pid for task in read_live_tasks(bench.layout)} == {event["pid"] for event in first}
    assert [task.run_id for task in read_live_tasks(bench.layout)] == ["param_abc/a", "param_abc/b"]

    second = bench.start()
    assert second.wait(120) == 0
    ends = bench.events("end")
    # The orphans held both slots: c began only when one of them had ended.
    assert sorted(bench.starts()[:2]) == ["a", "b"]
    assert bench.starts()[2:] == ["c"]
    assert bench.events("start")[2]["time"] >= min(event["time"] for event in ends if event["code"] == 0)
    # Each orphan's end was checked by the task command, which found the run complete.
    assert sorted(event["run"] for event in bench.events("complete")) == ["param_abc/a", "param_abc/b"]
    assert bench.events("overlap") == []
    assert bench.most_at_once() == 2
    assert "runs already, as process" in bench.said
    assert bench.marks() == {name: ["done"] for name in "abc"}
    assert read_live_tasks(bench.layout) == []


def test_orphans_of_other_runs_count_as_slots(bench: Bench) -> None:
    bench.add("a", plan=["1 0"])
    bench.add("b")
    bench.write(bench.tasks[:1], slots=1)
    first = bench.start()
    bench.wait_for_starts(1)
    kill_queue(first)
    bench.write(bench.tasks[1:], slots=1)
    assert bench.start().wait(120) == 0
    [end_of_a] = [event for event in bench.events("end") if event["run"].endswith("/a")]
    assert bench.events("start")[1]["time"] >= end_of_a["time"]


def test_orphan_that_dies_is_done_again(bench: Bench) -> None:
    bench.add("a", plan=["300 0", "0 0"])
    bench.write()
    first = bench.start()
    [start] = bench.wait_for_starts(1)
    kill_queue(first)
    second = bench.start()
    until(lambda: "runs already" in bench.said)
    time.sleep(0.2)
    assert len(bench.starts()) == 1
    os.kill(start["pid"], signal.SIGKILL)
    assert second.wait(120) == 0
    assert bench.starts() == ["a", "a"]


def test_queue_killed_again_and_again(bench: Bench) -> None:
    bench.add(*"abcdef", plan=["0.3 0"])
    bench.write(slots=2)
    for delay in (0.05, 0.15, 0.25, 0.4):
        queue = bench.start()
        time.sleep(delay)
        kill_queue(queue)
    assert bench.start().wait(120) == 0
    assert sorted(bench.starts()) == list("abcdef")  # none trained twice
    assert bench.events("overlap") == []
    assert bench.most_at_once() <= 2
    assert bench.marks() == {name: ["done"] for name in "abcdef"}


def test_two_queues_at_the_same_time_share_the_runs(bench: Bench) -> None:
    bench.add(*"abcdef", plan=["0.2 0"])
    bench.write(slots=2)
    queues = [bench.start(), bench.start()]
    assert [queue.wait(120) for queue in queues] == [0, 0]
    assert sorted(bench.starts()) == list("abcdef")
    assert bench.events("overlap") == []
    assert bench.marks() == {name: ["done"] for name in "abcdef"}


@pytest.mark.parametrize("boot", ["another-boot/x", None])
def test_a_reused_process_id_is_no_orphan(bench: Bench, boot: str | None) -> None:
    [run_id] = bench.add("a")
    bench.state_dir.mkdir(parents=True)
    here = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    boot = boot or f"{here}/{Path('/proc/self/ns/pid').readlink()}"
    start = process_start_time(os.getpid())
    if boot.startswith(here):
        start = (start or 0) - 1
    (bench.state_dir / f"{run_key(run_id)}.running").write_text(
        f"{os.getpid()} {start} {boot} - 2000 {run_id}\n"
    )
    assert read_live_tasks(bench.layout) == []
    assert bench.run() == 0
    assert bench.starts() == ["a"]


def test_junk_in_the_state_folder_does_no_harm(bench: Bench) -> None:
    [run_id] = bench.add("a")
    bench.state_dir.mkdir(parents=True)
    for key, text in {
        run_key(run_id): "",
        "00": "a[$(touch pwned)] 1 2 3 4 5\n",
        "01": "\xff\x00",
    }.items():
        (bench.state_dir / f"{key}.running").write_text(text, encoding="latin-1")
    assert bench.run() == 0
    assert bench.starts() == ["a"]
    assert not Path("pwned").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_stops_the_runs_cleanly_and_they_go_on_later(bench: Bench, number: int) -> None:
    bench.add("a", "b", plan=["300 0", "0 0"])
    bench.add("c")
    bench.write(slots=2)
    queue = bench.start()
    bench.wait_for_starts(2)
    os.kill(queue.pid, number)
    assert queue.wait(120) == 130
    assert [event["number"] for event in bench.events("signal")] == [signal.SIGTERM] * 2
    assert [event["code"] for event in bench.events("end")] == [75, 75]
    assert bench.marks() == {"a": ["stopped"], "b": ["stopped"], "c": []}
    said = bench.said
    assert "2 running, each checkpoints and ends" in said
    assert "0 of 3 done, 0 failed, 3 not finished" in said
    assert "to go on: bash" in said
    assert bench.start().wait(120) == 0
    assert bench.marks() == {name: ["done"] for name in "abc"}


def test_second_signal_does_not_lose_runs_that_checkpoint(bench: Bench) -> None:
    bench.add("a", plan=["300 0"])
    bench.env["FAKE_CHECKPOINT_S"] = "1"
    bench.write()
    queue = bench.start()
    bench.wait_for_starts(1)
    os.kill(queue.pid, signal.SIGINT)
    until(lambda: bench.events("signal"))
    os.kill(queue.pid, signal.SIGINT)
    os.kill(queue.pid, signal.SIGTERM)
    assert queue.wait(120) == 130
    assert [event["code"] for event in bench.events("end")] == [75]
    assert len(bench.events("signal")) == 1
    assert "still waiting for 1 to checkpoint" in bench.said


def test_run_that_finishes_while_the_queue_stops_is_done(bench: Bench) -> None:
    bench.add("a", plan=["0.5 0"])
    bench.write(task_command=("sh", "-c", 'trap "" TERM; sleep 0.7; exit 0', "sh"))
    queue = bench.start()
    until(lambda: "started run" in bench.said)
    os.kill(queue.pid, signal.SIGTERM)
    assert queue.wait(120) == 0
    assert bench.marks() == {"a": ["done"]}


def test_signal_before_the_task_has_begun(bench: Bench) -> None:
    bench.add("a", "b", "c", "d")
    bench.write(slots=4)
    queue = bench.start()
    until(lambda: "started run" in bench.said)
    os.kill(queue.pid, signal.SIGTERM)
    assert queue.wait(120) in (0, 130)
    assert bench.start().wait(120) == 0
    assert bench.marks() == {name: ["done"] for name in "abcd"}


# a terminal


class Terminal:
    """A queue in the foreground of a terminal of its own."""

    def __init__(self, bench: Bench, *args: str) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.environ.clear()
            os.environ.update(bench.env)
            os.execvp("bash", ["bash", str(bench.layout.queue_script), *args])

    def read(self) -> str:
        text = b""
        try:
            while more := os.read(self.master, 4096):
                text += more
        except OSError:
            pass
        return text.decode()

    def wait(self, seconds: float = 90.0) -> int:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError("the queue did not end")


def test_ctrl_c_in_a_terminal(bench: Bench) -> None:
    bench.add("a", "b", plan=["300 0", "0 0"])
    bench.write(slots=2)
    terminal = Terminal(bench)
    bench.wait_for_starts(2)
    os.write(terminal.master, b"\x03")
    text = terminal.read()
    assert terminal.wait() == 130
    # The terminal sends INT to all; the tasks only hear the queue.
    assert [event["number"] for event in bench.events("signal")] == [signal.SIGTERM] * 2
    assert "to go on: bash" in text
    os.close(terminal.master)


def test_end_of_the_terminal_stops_the_runs_cleanly(bench: Bench) -> None:
    bench.add("a", plan=["300 0"])
    bench.write()
    terminal = Terminal(bench)
    bench.wait_for_starts(1)
    os.close(terminal.master)
    assert terminal.wait() == 130
    assert [event["code"] for event in bench.events("end")] == [75]


@pytest.mark.parametrize("by_option", [True, False])
def test_detached_queue_survives_its_terminal(bench: Bench, by_option: bool) -> None:
    bench.add("a", plan=["0.7 0"])
    bench.add("b")
    bench.write(slots=1, survive_hangup=by_option)
    terminal = Terminal(bench, *([] if by_option else ["--detach"]))
    bench.wait_for_starts(1)
    os.close(terminal.master)
    assert terminal.wait() == 0
    until(lambda: bench.marks() == {"a": ["done"], "b": ["done"]})
    [log] = bench.state_dir.glob("queue.*.log")
    until(lambda: "the queue has ended: 2 of 2 done" in log.read_text())
    assert bench.events("signal") == []


def test_detached_queue_is_stopped_by_term(bench: Bench) -> None:
    bench.add("a", plan=["300 0"])
    script = bench.write()
    # A process that was started in the background ignores INT; TERM must do.
    queue = bench.start(script, "--detach")
    assert queue.wait(120) == 0
    pid = int(queue.stdout.read())
    bench.wait_for_starts(1)
    assert os.getsid(pid) == pid
    os.kill(pid, signal.SIGTERM)
    until(lambda: process_start_time(pid) is None)
    assert [event["code"] for event in bench.events("end")] == [75]
    assert bench.marks() == {"a": ["stopped"]}


# from Python


def test_a_queue_goes_on_in_the_background_and_is_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in bench.env.items():
        monkeypatch.setenv(name, value)
    bench.add("a", plan=["0.5 0"])
    script = bench.write()
    pid = detach_queue(script)
    bench.wait_for_starts(1)
    [task] = read_live_tasks(bench.layout)
    assert (task.run_id, task.gpu, task.gpu_memory_mb) == ("param_abc/a", "", 2000)
    assert read_live_tasks(bench.layout, "another-host") == []
    until(lambda: process_start_time(pid) is None)
    assert bench.marks() == {"a": ["done"]}


def test_python_waits_for_a_queue_that_would_detach(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in bench.env.items():
        monkeypatch.setenv(name, value)
    bench.add("a", plan=["0.3 0"])
    log = bench.fake / "log"
    assert wait_for_queue(start_queue(bench.write(survive_hangup=True), log=log)) == 0
    assert bench.marks() == {"a": ["done"]}
    assert "the queue has ended" in log.read_text()


def test_keyboard_interrupt_of_the_caller_reaches_the_queue(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bench.env.items():
        monkeypatch.setenv(name, value)
    bench.add("a", plan=["300 0"])
    queue = start_queue(bench.write())
    bench.wait_for_starts(1)
    waits = iter([KeyboardInterrupt(), None])
    real = queue.wait

    def wait(timeout: float | None = None) -> int:
        error = next(waits, None)
        if error is not None:
            raise error
        return real(timeout)

    monkeypatch.setattr(queue, "wait", wait)
    assert wait_for_queue(queue) == 130
    assert [event["code"] for event in bench.events("end")] == [75]
