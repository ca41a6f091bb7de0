"""A collection with prepared runs, fake tasks and a fake nvidia-smi, and the queue script over them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.layout import CollectionLayout, run_key
from lfadsrm_hpc.manifest.process import hostname, process_start_time
from lfadsrm_hpc.schedulers.local import LocalQueueOptions, write_queue_script
from lfadsrm_hpc.schedulers.queue_tasks import QueueTask
from lfadsrm_hpc.schedulers.resources import Request

FAKES = Path(__file__).parent / "fakes"
PYTHON = (sys.executable, "-I", "-S")
FAST: dict[str, Any] = {
    "poll_s": 0.05,
    "look_s": 0,
    "recheck_s": 1,
    "slots": 2,
    "cpu_cap": 1,
    "use_gpu": False,
    "task_command": (*PYTHON, str(FAKES / "fake_task.py")),
}
SUBMISSION = "01J0000000000000000000TEST"
# Another bash can be tested, e.g. an old one.
BASH = os.environ.get("LFADSRM_TEST_BASH", "bash")


def wait_until(true: Callable[[], Any], seconds: float = 90.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain")


class Bench:
    """Everything of one test: the collection, the fakes, the queues that were started."""

    def __init__(self, folder: Path) -> None:
        self.layout = CollectionLayout(folder / "my collection")
        self.fake = folder / "fake"
        for name in ("plan", "count", "owner", "gpu", "bin"):
            (self.fake / name).mkdir(parents=True)
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LFADSRM_", "CUDA_", "TF_", "OMP_"))
        }
        self.env["FAKE_DIR"] = str(self.fake)
        self.tasks: list[QueueTask] = []
        self.queues: list[subprocess.Popen[bytes]] = []

    # what to run

    def add(self, *specs: str, memory_mb: int = 2000, plan: Sequence[str] = ()) -> list[str]:
        """Prepare runs; return their ids."""
        ids = []
        for spec in specs:
            run = self.layout.run("abc", spec)
            run.path.mkdir(parents=True)
            run.params_json.write_text("{}")
            self.tasks.append(QueueTask(run.run_id, Request(memory_mb)))
            ids.append(run.run_id)
            if plan:
                self.plan(run.run_id, *plan)
        return ids

    def plan(self, run_id: str, *lines: str) -> None:
        (self.fake / "plan" / run_key(run_id)).write_text("\n".join(lines))

    def write(self, tasks: Sequence[QueueTask] | None = None, **options: Any) -> Path:
        return write_queue_script(
            self.layout, tasks or self.tasks, LocalQueueOptions(**{**FAST, **options}), SUBMISSION
        )

    def gpus(self, *gpus: tuple[str, int | None, int], **more: Any) -> None:
        """Make the fake nvidia-smi show GPUs: (uuid, total MiB, MiB that others use)."""
        listed = [
            {"index": index, "uuid": uuid, "total": total, "others": others}
            for index, (uuid, total, others) in enumerate(gpus)
        ]
        beside = self.fake / "smi.json.new"
        beside.write_text(json.dumps({"gpus": listed, **more}))
        beside.rename(self.fake / "smi.json")
        program = self.fake / "bin" / "nvidia-smi"
        if not program.exists():
            command = " ".join([*PYTHON, str(FAKES / "fake_nvidia_smi.py")])
            program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            program.chmod(0o755)
        self.env["PATH"] = f"{self.fake / 'bin'}:{os.environ['PATH']}"

    # queues

    def start(self, script: Path | None = None, *args: str) -> subprocess.Popen[bytes]:
        """Start the queue; what it says goes to the file `said`."""
        with (self.fake / "said").open("ab") as said:
            queue = subprocess.Popen(
                [BASH, str(script or self.layout.queue_script), *args],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stderr=said,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        self.queues.append(queue)
        return queue

    def run(self, timeout: float = 120, **options: Any) -> int:
        """Write the script, run it to its end and return its exit status."""
        self.write(**options)
        return self.start().wait(timeout)

    @property
    def said(self) -> str:
        return (self.fake / "said").read_text()

    # what happened

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        path = self.fake / "events"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for line in lines if (event := json.loads(line))["event"] in kinds or not kinds]

    def starts(self) -> list[str]:
        return [event["run"].rpartition("/")[2] for event in self.events("start")]

    def most_at_once(self, gpu: str | None = None) -> int:
        now = most = 0
        on = {e["pid"]: e["environment"]["CUDA_VISIBLE_DEVICES"] for e in self.events("start")}
        for event in self.events("start", "end"):
            if gpu is None or on[event["pid"]] == gpu:
                now += 1 if event["event"] == "start" else -1
                most = max(most, now)
        return most

    def marks(self) -> dict[str, list[str]]:
        """Return the state files: run spec to states."""
        names = {run_key(task.run_id): task.run_id.rpartition("/")[2] for task in self.tasks}
        found: dict[str, list[str]] = {name: [] for name in names.values()}
        for path in sorted(self.state_dir.iterdir()):
            key, _, state = path.name.partition(".")
            if key in names and state != "log":
                found[names[key]].append(state)
        return found

    @property
    def state_dir(self) -> Path:
        return self.layout.queue_state_dir(hostname())

    def wait_for_starts(self, number: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.events("start")) >= number)
        return self.events("start")

    def clean_up(self) -> None:
        for queue in self.queues:
            if queue.poll() is None:
                queue.kill()
            queue.wait()
            assert queue.stdout is not None
            queue.stdout.close()
        for event in self.events("start"):
            # Only a process of this test: the fake task removes its owner file when it ends by itself.
            owner = self.fake / "owner" / run_key(event["run"])
            with contextlib.suppress(OSError, ValueError):
                pid, start = map(int, owner.read_text().split())
                if process_start_time(pid) == start:
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.clean_up()
