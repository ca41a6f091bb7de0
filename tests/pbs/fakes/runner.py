"""Runs one task of a fake PBS: `runner.py STATE NUMBER INDEX`. What a node's daemon does."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parent))
from server import SIGNALS, Server, session, signal_session

TICK_S = 0.03


def environment(server: Server, job: dict[str, Any], index: str, task: dict[str, Any]) -> dict[str, str]:
    own = server.job_id(job, index)
    temporary = server.folder / "tmp" / f"pbs.{own}"
    temporary.mkdir(parents=True, exist_ok=True)
    nodes = server.folder / "aux" / own
    nodes.parent.mkdir(exist_ok=True)
    nodes.write_text("localhost\n")
    env = {
        "HOME": str(server.folder / "home"),
        "PATH": "/bin:/usr/bin",
        "SHELL": "/bin/bash",
        "USER": job["user"],
        "LOGNAME": job["user"],
        "LANG": "C.UTF-8",
        **server.config["job_environment"],
        **job["variables"],
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_JOBID": own,
        "PBS_JOBNAME": job["name"],
        "PBS_QUEUE": job["queue"],
        "PBS_NODEFILE": str(nodes),
        "PBS_NODENUM": "0",
        "PBS_TASKNUM": "1",
        "PBS_MOMPORT": "15003",
        "TMPDIR": str(temporary),
        "NCPUS": str(job["ncpus"]),
        "OMP_NUM_THREADS": str(job["ncpus"]),
    }
    if server.config["kind"] == "torque":
        env |= {"PBS_VERSION": "TORQUE-" + server.config["version"], "PBS_NUM_PPN": str(job["ncpus"])}
        if job["array"]:
            env["PBS_ARRAYID"] = index
            env["PBS_JOBNAME"] = f"{job['name']}-{index}"
    elif job["array"]:
        env |= {"PBS_ARRAY_INDEX": index, "PBS_ARRAY_ID": server.job_id(job)}
    return env


def start(way: str, shell: str, script: Path) -> tuple[list[str], IO[bytes] | None]:
    """Return the words that start a script, and what stands in their input."""
    script.chmod(0o700)
    if way == "file":
        return [shell, "-l", str(script)], None
    login = [f"-{Path(shell).name}"]
    if way == "stdin":
        return login, script.open("rb")
    reader, writer = os.pipe()
    os.write(writer, os.fsencode(f"{shlex.quote(str(script))}\n"))
    os.close(writer)
    return login, os.fdopen(reader, "rb")


def output_path(server: Server, job: dict[str, Any], index: str, stream: str) -> Path:
    """Return where a stream ends up: a path, a folder/, or the default in the folder of submission."""
    wanted = job["paths"].get(stream, "").rpartition(":")[2]
    letter = {"o": "OU", "e": "ER"}[stream]
    if not wanted:
        dash = "-" if server.config["kind"] == "torque" else "."
        wanted = f"{job['name']}.{stream}{job['number']}" + (f"{dash}{index}" if job["array"] else "")
    wanted = wanted.replace("^array_index^", index)
    path = Path(job["workdir"]) / wanted
    if wanted.endswith("/") or path.is_dir():
        path = path / f"{server.job_id(job, index)}.{letter}"
    return path


def main() -> None:
    server = Server(Path(sys.argv[1]))
    number, index = sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else ""
    with server.state() as state:
        job = state["jobs"][number]
        task = job["tasks"][index]
        env = environment(server, job, index, task)
    control = server.control(job, index)
    spool = server.folder / "spool"
    streams = {"o": spool / f"{server.job_id(job, index)}.OU", "e": spool / f"{server.job_id(job, index)}.ER"}
    if "d" in job["keep"]:
        streams = {stream: output_path(server, job, index, stream) for stream in streams}
    command, given = job["command"], None
    if not command:
        command, given = start(server.config["start"], job["shell"], spool / f"{number}.SC")
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        out = os.open(streams["o"], append)
        err = out if job["join"] else os.open(streams["e"], append)
        child = subprocess.Popen(
            [os.fsencode(word) for word in command],
            cwd=env["HOME"],
            env={os.fsencode(name): os.fsencode(value) for name, value in env.items()},
            executable=None if job["command"] else os.fsencode(job["shell"]),
            stdin=subprocess.DEVNULL if given is None else given,
            stdout=out, stderr=err, start_new_session=True, umask=0o077,
        )  # fmt: skip
    except OSError:
        with server.state() as state:
            server.finish(state, state["jobs"][number], index, -2, "ended")
        return

    deadline = time.monotonic() + job["walltime"]
    kill_at, forced, how, done, deleted, killed = None, None, "ended", 0, False, False
    # What qdel has asked to end may outlive its shell until it is killed; nothing else may.
    while (code := child.poll()) is None or (deleted and not killed and session(child.pid)):
        time.sleep(TICK_S)
        now, term = time.monotonic(), False
        lines = control.read_text().splitlines() if control.exists() else []
        for line in lines[done:]:
            word, _, rest = line.partition(" ")
            if word == "signal":
                signal_session(child.pid, SIGNALS[rest])
            elif word == "end":  # the node breaks: nothing is asked
                forced = int(rest)
                signal_session(child.pid, signal.SIGKILL)
            elif word == "rerun":
                how = "rerun"
                signal_session(child.pid, signal.SIGKILL)
            else:
                term = deleted = True
        done = len(lines)
        if now > deadline and forced is None:
            forced, term = (-11 if server.config["kind"] == "torque" else -29), True
        if term and kill_at is None:
            kill_at = now + server.config["kill_delay_s"]
            signal_session(child.pid, signal.SIGTERM)
        if kill_at is not None and now > kill_at:
            killed = True
            signal_session(child.pid, signal.SIGKILL)
    signal_session(child.pid, signal.SIGKILL)  # what the job left behind
    status = forced if forced is not None else code if code >= 0 else 256 - code
    if how == "ended" and "d" not in job["keep"] and not deliver(server, job, index, streams):
        how = "stuck"
    with contextlib.suppress(OSError):
        shutil.rmtree(env["TMPDIR"])
    with server.state() as state:
        if number in state["jobs"]:
            server.finish(state, state["jobs"][number], index, status, how)


def deliver(server: Server, job: dict[str, Any], index: str, streams: dict[str, Path]) -> bool:
    """Copy the output to where it was wanted; False where that cannot be written: the job hangs in E."""
    try:
        for stream, spooled in streams.items():
            if spooled.exists():
                target = output_path(server, job, index, stream)
                target.write_bytes(spooled.read_bytes())
                spooled.unlink()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
