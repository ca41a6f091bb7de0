"""What qstat of PBS Pro prints."""

from __future__ import annotations

import getopt
import json
import re
import sys
import time
from typing import Any

from server import PLAIN, Server, stamp

Attributes = dict[str, Any]
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def qstat(server: Server, argv: list[str]) -> int:
    try:
        options, names = getopt.getopt(argv, "ainpqrstwxu:fGHJMQEBW:T1F:D:")
    except getopt.GetoptError:
        sys.stderr.write(
            "usage: \nqstat [-f] [-J] [-p] [-t] [-x] [-E] [-F format | -w] [-D delim] [ job_identifier... ]\n"
        )
        return 2
    flags = dict(options)
    as_json = flags.get("-F", "").lower() == "json"
    if as_json and "-f" not in flags:
        sys.stderr.write("qstat: conflicting options.\n")
        return 2
    if "-B" in flags:
        return show_server(server, as_json)
    jobs: list[tuple[str, Attributes]] = []
    code = 0
    with server.state() as state:
        if "-x" in flags and not server.config["history"]:
            sys.stderr.write("qstat: job_history_enable is set to false \n")
            code = 36
        elif not names:
            for job in state["jobs"].values():
                if "-x" in flags or not job["ended"]:
                    jobs += list(describe(server, job, "-t" in flags))
        else:
            answers = []
            for name in names:
                found = server.find(state, name)
                if found is None:
                    sys.stderr.write(f"qstat: Unknown Job Id {name}\n")
                    code = 153
                elif found[0]["ended"] and "-x" not in flags:
                    sys.stderr.write(
                        f"qstat: {name} Job has finished, use -x or -H to obtain historical job information\n"
                    )
                    code = 35
                elif found[1] not in (None, PLAIN):
                    answers.append([subjob(server, found[0], str(found[1]))])
                else:
                    answers.append(list(describe(server, found[0], "-t" in flags)))
            if as_json:  # a second operand's jobs are never printed
                answers = answers[:1]
            jobs = [job for answer in answers for job in answer]
    if as_json:
        write(json_text(server, jobs))
    elif "-f" in flags:
        write("".join(full_text(name, attributes) for name, attributes in jobs))
    elif jobs:
        write("Job id            Name             User              Time Use S Queue\n" + "-" * 70 + "\n")
        for name, a in jobs:
            write(
                f"{name:<17} {a['Job_Name']:<16.16} {a['Job_Owner'][:16]:<16}  00:00:00"
                f" {a['job_state']} {a['queue']}\n"
            )
    return code


def write(text: str) -> None:
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


def show_server(server: Server, as_json: bool) -> int:
    name, version = server.config["server"], server.config["version"]
    if as_json:
        answer = {
            "timestamp": int(time.time()), "pbs_version": version, "pbs_server": name,
            "Server": {name: {"server_state": "Active", "pbs_version": version}},
        }  # fmt: skip
        print(json.dumps(answer, indent="\t"))
    else:
        print(f"Server: {name}\n    server_state = Active\n    pbs_version = {version}\n")
    return 0


def describe(server: Server, job: dict[str, Any], subjobs: bool) -> list[tuple[str, Attributes]]:
    """Return a job and, where they are wanted, its sub-jobs."""
    if not job["array"]:
        return [(server.job_id(job), task_attributes(server, job, PLAIN))]
    found = [(server.job_id(job), parent(server, job))]
    if subjobs:
        found += [subjob(server, job, index) for index in job["tasks"]]
    return found


def common(server: Server, job: dict[str, Any], state: str) -> Attributes:
    default = f"localhost:{job['workdir']}/{job['name']}"
    suffix = ".^array_index^" if job["array"] else ""
    limits = {"ncpus": job["ncpus"], "nodect": 1, "place": "pack", "select": job["select"], **job["limits"]}
    return {
        "Job_Name": job["name"],
        "Job_Owner": f"{job['user']}@localhost",
        "job_state": state,
        "queue": job["queue"],
        "server": server.config["server"],
        "Checkpoint": "u",
        "ctime": stamp(job["created"]),
        "Error_Path": job["paths"].get("e", f"{default}.e{job['number']}{suffix}"),
        "Hold_Types": "u" if job["held"] else "n",
        "Join_Path": "oe" if job["join"] else "n",
        "Keep_Files": job["keep"] or "n",
        "Mail_Points": "a",
        "mtime": stamp(max(task["changed"] for task in job["tasks"].values())),
        "Output_Path": job["paths"].get("o", f"{default}.o{job['number']}{suffix}"),
        "Priority": 0,
        "qtime": stamp(job["created"]),
        "Rerunable": str(job["rerunnable"]),
        "Resource_List": limits,
        "schedselect": job["select"],
        "Variable_List": {
            name: as_number(value) if server.config["json"] == "good" else value
            for name, value in job["variables"].items()
        },
        "euser": job["user"],
        "egroup": job["user"],
        "queue_type": "E",
    }  # fmt: skip


def as_number(value: str) -> Any:
    """Values that look like numbers become numbers on their way into JSON."""
    if not NUMBER.fullmatch(value):
        return value
    number = float(value)
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


def parent(server: Server, job: dict[str, Any]) -> Attributes:
    """An array as a whole: of its own state, exit status and counts only the state means anything."""
    states = [task["state"] for task in job["tasks"].values()]
    queued = [index for index, task in job["tasks"].items() if task["state"] == "Q"]
    state = "F" if job["ended"] else "H" if job["held"] and not job["began"] else "B" if job["began"] else "Q"
    attributes = common(server, job, state)
    failed = any(task["status"] for task in job["tasks"].values())
    deleted_unbegun = job["ended"] and not job["began"]
    substate = (
        (91 if deleted_unbegun else 93) if job["ended"] else 70 if job["began"] else 20 if job["held"] else 10
    )
    attributes["substate"] = substate
    if job["comment"]:
        attributes["comment"] = job["comment"] + (" and failed" if job["ended"] else "")
    if job["began"]:
        attributes["stime"] = stamp(job["created"])
    if "X" in states and job["began"]:
        attributes["Exit_status"] = 0 if failed else 1  # seen to be wrong in both ways
    attributes |= {
        "array": "True",
        "array_state_count": (
            f"Queued:{len(queued)} Running:{states.count('R')} Exiting:0 Expired:{states.count('X')}"
        ),
        "array_indices_submitted": job["indices"],
        "array_indices_remaining": ranges(queued) or "-",
    }
    if job["throttle"]:
        attributes["max_run_subjobs"] = job["throttle"]
    if job["ended"]:
        attributes["history_timestamp"] = int(job["ended"])
    return attributes


def ranges(indices: list[str]) -> str:
    """Write 2,3,4,7 as 2-4,7."""
    parts: list[list[int]] = []
    for index in map(int, indices):
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def subjob(server: Server, job: dict[str, Any], index: str) -> tuple[str, Attributes]:
    """A sub-job that never ran, or whose record is gone, is described by its parent's attributes."""
    task, name = job["tasks"][index], server.job_id(job, index)
    if task["host"] and (server.config["history"] or task["state"] != "X"):
        return name, task_attributes(server, job, index)
    attributes = parent(server, job)
    for key in [
        key
        for key in attributes
        if key.startswith("array") or key in ("max_run_subjobs", "history_timestamp")
    ]:
        del attributes[key]
    attributes["job_state"] = "F" if job["ended"] else task["state"]
    if task["state"] == "X":
        attributes["comment"] = "Subjob finished"  # whatever its end was
    return name, attributes


def task_attributes(server: Server, job: dict[str, Any], index: str) -> Attributes:
    task = job["tasks"][index]
    state = (
        "F"
        if task["state"] == "X" and job["ended"]
        else "H"
        if job["held"] and task["state"] == "Q"
        else task["state"]
    )
    attributes = common(server, job, state)
    substates = {"Q": 10, "H": 20, "R": 41 if job["array"] else 42, "E": 51}
    attributes["mtime"] = stamp(task["changed"])
    if task["host"]:
        attributes |= {
            "exec_host": task["host"],
            "exec_vnode": f"({server.config['server']}:ncpus={job['ncpus']})",
            "stime": stamp(task["started"]),
        }
    if task["state"] == "X":
        ended = task["status"] is not None
        attributes["substate"] = 91 if task["deleted"] else 92 if task["status"] == 0 else 93
        attributes["history_timestamp"] = int(task["changed"])
        if ended:
            attributes["obittime"] = stamp(task["changed"])
    else:
        attributes["substate"] = substates[state]
    if comment := task["comment"] if task["host"] else job["comment"]:
        attributes["comment"] = comment
    if task["runs"]:
        attributes["run_count"] = task["runs"]
    if task["status"] is not None:
        attributes["Exit_status"] = task["status"]
    if job["array"]:
        attributes |= {"array_id": server.job_id(job), "array_index": int(index)}
    return attributes


def full_text(name: str, attributes: Attributes) -> str:
    lines = [f"Job Id: {name}"]
    for key, value in attributes.items():
        if key == "Variable_List":
            value = ",".join(f"{k}={v}" for k, v in value.items())
        if isinstance(value, dict):
            lines += [f"    {key}.{inner} = {v}" for inner, v in value.items()]
        else:
            lines.append(f"    {key} = {value}")
    return "\n".join(lines) + "\n\n"


def json_text(server: Server, jobs: list[tuple[str, Attributes]]) -> str:
    """Write JSON as qstat does: tabs, raw bytes, and with `broken` no care for what values hold."""
    broken = server.config["json"] == "broken"

    def scalar(value: Any) -> str:
        if isinstance(value, int | float):
            return repr(value)
        if broken:
            return value if NUMBER.fullmatch(value) else f'"{value}"'
        return json.dumps(value, ensure_ascii=False)

    def block(values: dict[str, Any], depth: int) -> str:
        lines = []
        for key, value in values.items():
            text = block(value, depth + 1) if isinstance(value, dict) else scalar(value)
            lines.append("\t" * (depth + 1) + f'"{key}":\t{text}')
        return "{\n" + ",\n".join(lines) + "\n" + "\t" * depth + "}"

    answer: dict[str, Any] = {
        "timestamp": int(time.time()),
        "pbs_version": server.config["version"],
        "pbs_server": server.config["server"],
    }
    if jobs:
        answer["Jobs"] = dict(jobs)
    if broken:
        answer["pbs_version"] = "19.x"
    return block(answer, 0) + "\n"
