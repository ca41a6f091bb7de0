"""qsub of the fakes: options, directives, refusals."""

from __future__ import annotations

import getopt
import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from server import PLAIN, Server, new_task, seconds

OPTIONS = {
    "pbspro": "a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:P:q:r:R:S:u:v:VW:Xz",
    "torque": "a:A:b:c:C:d:D:e:fhIj:k:l:L:m:M:n:N:o:p:P:q:r:S:t:T:u:v:VW:w:xXz",
}


class Refused(Exception):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def directives(script: str) -> list[str]:
    """Return the options of the `#PBS` lines; the first line that is no comment ends them."""
    words: list[str] = []
    for line in script.splitlines():
        if line.startswith("#PBS"):
            words += shlex.split(line[4:], comments=False)
        elif line.strip() and not line.startswith("#") and not line.startswith(":"):
            break
    return words


def qsub(server: Server, argv: list[str]) -> int:
    kind = server.config["kind"]
    try:
        given, rest = getopt.getopt(argv, OPTIONS[kind])
    except getopt.GetoptError as error:
        sys.stderr.write(f"qsub: {error}\nusage: qsub [-a date_time] [-A account_string] ... [script]\n")
        return 2
    command: list[str] = []
    if "--" in argv and kind == "pbspro":
        script, command = "", rest
        given = getopt.getopt(argv[: argv.index("--")], OPTIONS[kind])[0]
    elif rest:
        try:
            script = Path(rest[0]).read_text(errors="surrogateescape")
        except OSError:
            sys.stderr.write("qsub: script file:: No such file or directory\n")
            return 1
    else:
        script = sys.stdin.read()
    try:
        try:
            inside = getopt.getopt(directives(script), OPTIONS[kind])[0]
        except getopt.GetoptError as error:
            raise Refused(f"qsub: {error} in a directive", 2) from error
        name = Path(rest[0]).name if rest and not command else "STDIN"
        job = read_options(server, inside + given, name[:15])
        if server.config["refuse"]:
            code, message = server.config["refuse"]
            raise Refused(message, code)
        with server.state() as state:
            job.update(number=state["next"], script=bool(script), command=command)
            state["next"] += 1
            state["jobs"][str(job["number"])] = job
            (server.folder / "spool" / f"{job['number']}.SC").write_text(script, errors="surrogateescape")
            server.schedule(state)
            identity = server.job_id(job)
    except Refused as error:
        sys.stderr.write(f"{error}\n")
        return error.code
    if not job["quiet"]:
        sys.stdout.write(f"{identity}\n")
    return 0


def read_options(server: Server, options: list[tuple[str, str]], name: str) -> dict[str, Any]:
    """Return a new job; an option given later wins. Raises `Refused`."""
    config, torque = server.config, server.config["kind"] == "torque"
    user = os.environ.get("USER") or "root"
    job: dict[str, Any] = {
        "name": name, "array": False, "indices": "", "throttle": None, "held": False, "paths": {},
        "join": False,
        "keep": "", "queue": config["default_queue"], "walltime": 3600.0 * 24, "ncpus": 1, "ngpus": 0,
        "select": "1:ncpus=1", "shell": "/bin/bash", "rerunnable": True, "account": "", "quiet": False,
        "variables": {}, "workdir": str(Path.cwd()), "user": user, "created": time.time(), "ended": None,
        "began": False, "comment": "", "tasks": {PLAIN: new_task()}, "arguments": shlex.join(sys.argv[4:]),
        "limits": {},
    }  # fmt: skip
    variables: dict[str, str] = {}
    given: dict[str, str] = {}
    resources: list[tuple[str, str]] = []
    for option, value in options:
        if option in ("-o", "-e"):
            job["paths"][option[1]] = value
        elif option == "-j":
            job["join"] = value in ("oe", "eo")
        elif option == "-k":
            job["keep"] = value
        elif option == "-N":
            if not re.fullmatch(r"[A-Za-z0-9_+.-]+", value) or len(value) > (15 if torque else 230):
                raise Refused("qsub: illegal -N value", 2)
            job["name"] = value
        elif option == "-q":
            job["queue"] = value
        elif option == "-A":
            job["account"] = value
        elif option == "-S":
            job["shell"] = value
        elif option == "-h":
            job["held"] = True
        elif option == "-r":
            job["rerunnable"] = value == "y"
        elif option == "-z":
            job["quiet"] = True
        elif option == "-V":
            variables |= dict(os.environ)
        elif option == "-v":
            # PBS Pro takes the last one alone; Torque all of them.
            given = (given if torque else {}) | read_variables(value)
        elif option == "-l":
            resources += read_resources(value)
        elif option == ("-t" if torque else "-J"):
            read_array(server, job, value, torque)
        elif option == "-W" and value.startswith("max_run_subjobs="):
            job["throttle"] = int(value.partition("=")[2])
    apply_resources(server, job, resources)
    if job["queue"].partition("@")[0] not in config["queues"]:
        raise Refused("qsub: Unknown queue", 170)
    if config["required_account"] and not job["account"]:
        raise Refused("qsub: Request rejected.  Reason: An account is required (-A)", 32)
    longest = config["queues"][job["queue"]]
    if longest and job["walltime"] > (seconds(longest) or 0):
        raise Refused("qsub: Job violates queue and/or server resource limits", 188)
    job["variables"] = {
        "PBS_O_HOME": os.environ.get("HOME", "/"),
        "PBS_O_LANG": "C.UTF-8",
        "PBS_O_LOGNAME": user,
        "PBS_O_PATH": os.environ.get("PATH", ""),
        "PBS_O_SHELL": "/bin/bash",
        "PBS_O_WORKDIR": job["workdir"],
        "PBS_O_SYSTEM": "Linux",
        **given,
        **variables,
        "PBS_O_QUEUE": job["queue"],
        "PBS_O_HOST": "localhost",
    }
    return job


def read_variables(text: str) -> dict[str, str]:
    """Read `A=1,B,C=x=y`: quotes guard commas and are lost."""
    found = {}
    for part in re.findall(r"""(?:[^,'"]|"[^"]*"|'[^']*'|['"])+""", text):
        name, equals, value = part.partition("=")
        found[name.strip()] = re.sub(r"""["']""", "", value) if equals else os.environ.get(name, "")
    return found


def read_resources(text: str) -> list[tuple[str, str]]:
    """Read `select=1:ncpus=2:ngpus=1` (one resource with colons) or `walltime=1:00,mem=2gb`."""
    return [(name, value) for name, _, value in (part.partition("=") for part in text.split(",")) if name]


def read_array(server: Server, job: dict[str, Any], value: str, torque: bool) -> None:
    ranges, _, most = value.partition("%")
    if torque:
        indices = []
        for part in ranges.split(","):
            if not re.fullmatch(r"\d+(-\d+)?", part):
                raise Refused("qsub: illegal -t value", 2)
            first, _, last = part.partition("-")
            indices += range(int(first), int(last or first) + 1)
    else:
        match = re.fullmatch(r"(\d+)-(\d+)(?::(\d+))?", ranges)
        if match is None or int(match[1]) >= int(match[2]) or (most and not most.isdigit()):
            raise Refused("qsub: illegal -J value", 2)
        indices = list(range(int(match[1]), int(match[2]) + 1, int(match[3] or 1)))
    if len(indices) > server.config["largest_array"]:
        raise Refused("qsub: Array job exceeds server or queue size limit", 3)
    if most:
        if not (server.config["throttle"] or torque):
            raise Refused("qsub: illegal -J value", 2)
        job["throttle"] = int(most)
    job.update(array=True, indices=ranges, tasks={str(index): new_task() for index in indices})


def apply_resources(server: Server, job: dict[str, Any], resources: list[tuple[str, str]]) -> None:
    names = {name for name, _ in resources}
    if "select" in names and names & {"nodes", "ncpus", "ngpus"} and server.config["kind"] == "pbspro":
        raise Refused('qsub: "-lresource=" cannot be used with "select" or "place", resource is: nodes', 2)
    for name, value in resources:
        if name not in server.config["resources"]:
            raise Refused(f"qsub: Unknown resource: {name}", 187)
        job["limits"][name] = value
        if name == "walltime":
            limit = seconds(value)
            if limit is None:
                raise Refused("qsub: Illegal attribute or resource value Resource_List.walltime", 166)
            job["walltime"] = limit
        chunk = value if name in ("select", "nodes") else f"{name}={value}"
        if name == "select":
            job["select"] = value
        for part in chunk.split(":"):
            key, _, amount = part.partition("=")
            key = {"ppn": "ncpus", "gpus": "ngpus"}.get(key, key)
            if key in ("ncpus", "ngpus") and amount.isdigit():
                job[key] = int(amount)
            elif (
                name == "select"
                and amount
                and key not in (*server.config["resources"], "mpiprocs", "ompthreads")
            ):
                raise Refused(f"qsub: Unknown resource: {key}", 187)
