"""What the fake PBS Pro and the fake Torque share: jobs in a file, a scheduler, and jobs that really run.

There is no daemon. Every client program takes the lock, reads `state.json`, does its work and writes it back;
a runner process (`runner.py`) looks after each running task and starts the next ones when it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PLAIN = ""  # key of the only task of a plain job

DEFAULTS: dict[str, Any] = {
    "kind": "pbspro",
    "server": "vm",
    "version": "23.06.06",
    "down": False,  # clients find no server
    "delay_s": {},  # program: seconds that it takes to answer
    "scheduling": True,  # False: everything stays queued
    "slots": 8,
    "node_cpus": 8,
    "node_gpus": 2,
    "history": True,
    "history_s": None,  # ended jobs are forgotten after so long; None: never
    "kill_delay_s": 1.0,
    "queues": {"workq": None, "short": "00:10:00"},  # name: largest walltime
    "default_queue": "workq",
    "largest_array": 10000,
    "resources": ["ncpus", "ngpus", "mem", "walltime", "select", "place", "nodes", "filesystems", "procs"],
    "required_account": False,
    "throttle": True,  # False: a version without max_run_subjobs
    "refuse": None,  # (exit code, message): what a hook of the site says to every qsub
    "json": "good",  # "broken": quotes and numbers as older versions print them
    "job_environment": {},  # what the node's daemon gives to every job
    # How the node's daemon starts a script. "path": a login shell reads its path (so OpenPBS is built unless
    # told otherwise); "stdin": a login shell reads the script itself; "file": the shell is given the script.
    "start": "file",
    "stopped": False,  # the test is over: start nothing more
}


class Server:
    """The state of one fake server, held in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: dict[str, Any] = {**DEFAULTS, **json.loads((folder / "config.json").read_text())}

    # the state
    @contextlib.contextmanager
    def state(self) -> Iterator[dict[str, Any]]:
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = self.folder / "state.json"
            state = json.loads(path.read_text()) if path.exists() else {"next": 1, "jobs": {}}
            self.config.update(json.loads((self.folder / "config.json").read_text()))
            self._forget(state)
            yield state
            temporary = path.with_suffix(".new")
            temporary.write_text(json.dumps(state))
            temporary.replace(path)

    def _forget(self, state: dict[str, Any]) -> None:
        keep_s = self.config["history_s"] if self.config["history"] else 0
        if keep_s is None:
            return
        now = time.time()
        for number in [
            n for n, job in state["jobs"].items() if job["ended"] and now >= job["ended"] + keep_s
        ]:
            del state["jobs"][number]

    def job_id(self, job: dict[str, Any], index: str = PLAIN) -> str:
        brackets = f"[{index}]" if job["array"] else ""
        return f"{job['number']}{brackets}.{self.config['server']}"

    def find(self, state: dict[str, Any], text: str) -> tuple[dict[str, Any], str | None] | None:
        """Return (job, index) of an id; the index is None for a whole array."""
        match = re.fullmatch(r"(\d+)(\[(\d*)\])?(\..+)?", text)
        job = state["jobs"].get(match[1]) if match else None
        if match is None or job is None or bool(match[2]) != job["array"]:
            return None
        if not job["array"]:
            return job, PLAIN
        if not match[3]:
            return job, None
        return (job, match[3]) if match[3] in job["tasks"] else None

    # scheduling
    def schedule(self, state: dict[str, Any]) -> None:
        """Start what may start. The caller holds the lock."""
        if not self.config["scheduling"] or self.config["stopped"]:
            return
        running = sum(t["state"] in "RE" for j in state["jobs"].values() for t in j["tasks"].values())
        for job in list(state["jobs"].values()):
            if job["held"] or job["ended"]:
                continue
            if why := self.never(job):
                job["comment"] = why
                continue
            mine = sum(task["state"] in "RE" for task in job["tasks"].values())
            for index, task in job["tasks"].items():
                if task["state"] != "Q":
                    continue
                if running >= self.config["slots"] or (job["throttle"] and mine >= job["throttle"]):
                    break
                self._start(job, index, task, running)
                running, mine = running + 1, mine + 1

    def never(self, job: dict[str, Any]) -> str:
        for name, total in (("ncpus", self.config["node_cpus"]), ("ngpus", self.config["node_gpus"])):
            if job[name] > total:
                numbers = f"(R: {job[name]} A: {total} T: {total})"
                return f"Can Never Run: Insufficient amount of resource: {name} {numbers}"
        return ""

    def _start(self, job: dict[str, Any], index: str, task: dict[str, Any], slot: int) -> None:
        now = time.time()
        task.update(
            state="R", started=now, changed=now, host=f"{self.config['server']}/{slot}", runs=task["runs"] + 1
        )
        task["comment"] = (
            f"Job run at {time.strftime('%a %b %d at %H:%M')}"
            f" on ({self.config['server']}:ncpus={job['ncpus']})"
        )
        if job["array"] and not job["began"]:
            job["comment"] = f"Job Array Began at {time.strftime('%a %b %d at %H:%M')}"
        job["began"] = True
        self.control(job, index).unlink(missing_ok=True)
        with (self.folder / "runners.log").open("ab") as log:
            runner = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    str(Path(__file__).with_name("runner.py")),
                    str(self.folder),
                    str(job["number"]),
                    index,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        with (self.folder / "runners").open("a") as pids:
            pids.write(f"{runner.pid}\n")

    def control(self, job: dict[str, Any], index: str) -> Path:
        """Return the file through which clients speak to the runner of a task, one command a line."""
        return self.folder / "control" / f"{job['number']}.{index}"

    def tell(self, job: dict[str, Any], index: str, command: str) -> None:
        with self.control(job, index).open("a") as file:
            file.write(command + "\n")

    # ends
    def delete(self, state: dict[str, Any], job: dict[str, Any], index: str, who: str) -> None:
        """Delete one task: a queued one at once, a running one by TERM and later KILL."""
        task = job["tasks"][index]
        if task["state"] == "Q":
            task.update(state="X", changed=time.time(), deleted=who)
            self.settle(state, job)
        elif task["state"] in "RE":
            task["deleted"] = who
            self.tell(job, index, "delete")

    def finish(self, state: dict[str, Any], job: dict[str, Any], index: str, status: int, how: str) -> None:
        """Put the end of a running task on record: `how` is "ended", "rerun" or "stuck"."""
        task, now = job["tasks"][index], time.time()
        task["changed"] = now
        if how == "rerun":
            task.update(state="Q", host=None)
        elif how == "stuck":
            task.update(state="E", status=status)
        else:
            task.update(state="X", status=status)
            if status == -29:
                what = "exceeded resource walltime"
            elif task["deleted"]:
                what = f"terminated by {task['deleted']}"
            else:
                what = "finished" if status == 0 else "failed"
            task["comment"] += f" and {what}"
        self.settle(state, job)

    def settle(self, state: dict[str, Any], job: dict[str, Any]) -> None:
        """End a job all of whose tasks have ended, and give its slots to others."""
        if not job["ended"] and all(task["state"] == "X" for task in job["tasks"].values()):
            job["ended"] = time.time()
        self.schedule(state)


def new_task() -> dict[str, Any]:
    return {
        "state": "Q", "started": None, "changed": time.time(), "host": None, "status": None,
        "runs": 0, "deleted": "", "comment": "",
    }  # fmt: skip


def session(leader: int) -> list[int]:
    """Return the processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                state, _, _, sid, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(sid) == leader and state not in "ZX":
                    found.append(int(entry.name))
    return found


def signal_session(leader: int, number: int) -> None:
    for pid in session(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def seconds(text: str) -> float | None:
    """Read [[HH:]MM:]SS[.mmm]; None for what is no time."""
    if not re.fullmatch(r"(\d+:)?(\d+:)?\d+(\.\d+)?", text):
        return None
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part)
    return total


def stamp(when: float | None) -> str:
    return time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(when))


SIGNALS = {
    f"SIG{name}": getattr(signal, f"SIG{name}") for name in ("TERM", "KILL", "USR1", "USR2", "INT", "HUP")
}
