"""What qstat of Torque prints: XML, full text, a table."""

from __future__ import annotations

import getopt
import sys
from typing import Any
from xml.sax.saxutils import escape

from server import PLAIN, Server, stamp


def indices(text: str) -> set[str]:
    found: set[str] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= {str(index) for index in range(int(first), int(last or first) + 1)}
    return found


def qstat(server: Server, argv: list[str]) -> int:
    try:
        options, names = getopt.getopt(argv, "acCefGiMnqQrRstu:xBW:1")
    except getopt.GetoptError:
        sys.stderr.write(
            "usage: qstat [-f [-1]] [-W site_specific] [-x] [ job_identifier... | destination... ]\n"
        )
        return 2
    flags = dict(options)
    if "-B" in flags:
        print(
            f"Server: {server.config['server']}\n    server_state = Active\n"
            f"    pbs_version = {server.config['version']}\n"
        )
        return 0
    tasks: list[dict[str, Any]] = []
    code = 0
    with server.state() as state:
        if not names:
            for job in state["jobs"].values():
                tasks += describe(server, job, None, "-t" in flags)
        for name in names:
            found = server.find(state, name)
            if found is None:
                sys.stderr.write(f"qstat: Unknown Job Id Error {name}\n")
                code = 153
            else:
                tasks += describe(server, found[0], found[1], "-t" in flags)
    if "-x" in flags:
        xml = "".join(f"<Job>{elements(task)}</Job>" for task in tasks)
        write(f"<Data>{xml}</Data>\n" if tasks else "")
    elif "-f" in flags:
        for task in tasks:
            write(f"Job Id: {task['Job_Id']}\n")
            for key, value in task.items():
                if isinstance(value, dict):
                    write("".join(f"    {key}.{inner} = {v}\n" for inner, v in value.items()))
                elif key != "Job_Id":
                    write(wrapped(f"    {key} = {value}"))
            write("\n")
    elif tasks:
        write(
            "Job ID                    Name             User            Time Use S Queue\n" + "-" * 73 + "\n"
        )
        for t in tasks:
            short = str(t["Job_Id"])[:25]
            user = t["Job_Owner"].partition("@")[0]
            write(f"{short:<25} {t['Job_Name']:<16.16} {user:<15} 00:00:00 {t['job_state']} {t['queue']}\n")
    return code


def write(text: str) -> None:
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


def wrapped(line: str) -> str:
    """Long values go on in lines that start with a tab."""
    parts = [line[:79]] + ["\t" + line[i : i + 71] for i in range(79, len(line), 71)]
    return "\n".join(parts) + "\n"


def elements(task: dict[str, Any]) -> str:
    return "".join(
        f"<{key}>{elements(value) if isinstance(value, dict) else escape(str(value))}</{key}>"
        for key, value in task.items()
    )


def describe(server: Server, job: dict[str, Any], index: str | None, expand: bool) -> list[dict[str, Any]]:
    if not job["array"]:
        return [one(server, job, PLAIN)]
    if index is not None:
        return [one(server, job, index)]
    if expand:
        return [one(server, job, i) for i in job["tasks"]]
    states = {task["state"] for task in job["tasks"].values()}
    whole = one(server, job, next(iter(job["tasks"])))
    whole["Job_Id"], whole["Job_Name"] = server.job_id(job), job["name"]
    whole["job_state"] = "R" if states & {"R", "E"} else "C" if states == {"X"} else "Q"
    whole.pop("exit_status", None)
    return [whole]


def one(server: Server, job: dict[str, Any], index: str) -> dict[str, Any]:
    task = job["tasks"][index]
    state = "C" if task["state"] == "X" else "H" if job["held"] and task["state"] == "Q" else task["state"]
    found: dict[str, Any] = {
        "Job_Id": server.job_id(job, index),
        "Job_Name": f"{job['name']}-{index}" if job["array"] else job["name"],
        "Job_Owner": f"{job['user']}@localhost",
        "job_state": state,
        "queue": job["queue"],
        "server": server.config["server"],
        "ctime": stamp(job["created"]),
        "Hold_Types": "u" if job["held"] else "n",
        "mtime": stamp(task["changed"]),
        "Resource_List": {"walltime": "01:00:00", **job["limits"]},
        "Variable_List": ",".join(f"{name}={value}" for name, value in job["variables"].items()),
    }
    if task["host"]:
        found["exec_host"] = task["host"]
        found["start_time"] = stamp(task["started"])
    if state == "C":
        found["comp_time"] = stamp(task["changed"])
        if task["status"] is not None:
            found["exit_status"] = task["status"]
        elif task["deleted"]:
            found["exit_status"] = 271
    if job["array"]:
        found |= {"job_array_id": int(index), "job_array_request": job["indices"]}
    if job["comment"] and state != "C":
        found["comment"] = job["comment"]
    return found
