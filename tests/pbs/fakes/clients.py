"""The client programs of the fakes: `clients.py STATE PROGRAM -- ARGUMENTS...`."""

from __future__ import annotations

import getopt
import re
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import pbspro_text
import torque_text
from server import Server
from submitting import qsub

Words = list[str]


def complain(program: str, message: str, code: int) -> int:
    sys.stderr.write(f"{program}: {message}\n")
    return code


def qstat(server: Server, argv: Words) -> int:
    if "--version" in argv:
        print(
            f"pbs_version = {server.config['version']}"
            if is_pro(server)
            else f"Version: {server.config['version']}"
        )
        return 0
    return (pbspro_text if is_pro(server) else torque_text).qstat(server, argv)


def is_pro(server: Server) -> bool:
    return bool(server.config["kind"] == "pbspro")


def qdel(server: Server, argv: Words) -> int:
    try:
        options, names = getopt.getopt(argv, "W:x" if is_pro(server) else "acpm:t:W:")
    except getopt.GetoptError:
        names = []
    if not names:
        sys.stderr.write("usage:\n\tqdel [-W force|suppress_email=X] [-x] job_identifier...\n")
        return 2
    if is_pro(server):
        return delete_with_pro(server, names)
    code, chosen = 0, dict(options).get("-t", "")
    with server.state() as state:
        for name in names:
            found = server.find(state, name)
            if found is None:
                code = complain("qdel", f"Unknown Job Id {name}", 153)
                continue
            job, index = found
            tasks = [index] if index is not None else list(job["tasks"])
            if chosen:
                tasks = [task for task in tasks if task in torque_text.indices(chosen)]
            if job["ended"]:
                code = complain("qdel", *ended(server, name))
            else:
                for task in tasks:
                    server.delete(state, job, task, f"{job['user']}@localhost")
    return code


def delete_with_pro(server: Server, names: Words) -> int:
    """As OpenPBS 23.06: sub-jobs of one array become one id, and what has ended in it is forgotten."""
    code = 0
    with server.state() as state:
        for name in joined(names):
            match = re.fullmatch(r"(\d+)(?:\[(.*)\])?(\..+)?", name)
            found = server.find(state, f"{match[1]}[]" if match and match[2] is not None else name)
            if match is None or found is None:
                code = complain("qdel", f"Unknown Job Id {name}", 153)
                continue
            job, _ = found
            tasks = [index for index in expanded(match[2] or "") if index in job["tasks"]]
            alone = tasks[0] if match[2] and match[2].isdigit() and tasks else None
            if job["ended"]:
                code = complain("qdel", *ended(server, name))
            elif alone is not None and job["tasks"][alone]["state"] == "X":
                code = complain("qdel", f"Request invalid for finished array subjob {name}", 55)
            else:
                for task in tasks if match[2] else list(job["tasks"]):
                    if job["tasks"][task]["state"] == "X":
                        job["tasks"][task]["host"] = None
                    else:
                        server.delete(state, job, task, f"{job['user']}@localhost")
    return code


def joined(names: Words) -> Words:
    """Join sub-jobs of one array into one id; a list of more than 255 characters is cut."""
    others, ranges = [], {}
    for name in names:
        match = re.fullmatch(r"(\d+)\[([\d:-]+)\](.*)", name)
        if match:
            ranges.setdefault((match[1], match[3]), []).append(match[2])
        else:
            others.append(name)
    return others + [
        f"{number}[{(texts[0] if len(texts) == 1 else row(texts))[:255]}]{server}"
        for (number, server), texts in ranges.items()
    ]


def row(texts: Words) -> str:
    return pbspro_text.ranges(sorted({index for text in texts for index in expanded(text)}, key=int))


def expanded(text: str) -> Words:
    """Return the indices of "3-5,7"; what was cut is read as far as it goes."""
    found: Words = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match:
            found += [str(index) for index in range(int(match[1]), int(match[2] or match[1]) + 1)]
    return found


def ended(server: Server, name: str) -> tuple[str, int]:
    if is_pro(server):
        return f"Job has finished {name}", 35
    return f"Request invalid for state of job MSG=invalid state for job - COMPLETE {name}", 170


def qalter(server: Server, argv: Words) -> int:
    pro = is_pro(server)
    try:
        options, names = getopt.getopt(argv, "a:A:e:h:j:k:l:m:M:N:o:p:P:r:S:u:W:" + ("" if pro else "t:v:q:"))
    except getopt.GetoptError as error:
        return complain("qalter", str(error), 2)
    if not names:
        return complain("qalter", "usage: qalter [options] job_identifier...", 2)
    with server.state() as state:
        for name in names:
            found = server.find(state, name)
            if found is None:
                return complain("qalter", f"Unknown Job Id {name}", 153)
            job, index = found
            for option, value in options:
                limit = re.fullmatch(r"max_run_subjobs=(\d*)" if pro else r"%(\d+)", value)
                if option not in ("-W", "-t") or limit is None:
                    return complain("qalter", f"illegal {option} value", 2)
                if pro and not server.config["throttle"]:
                    return complain("qalter", f"Undefined attribute  max_run_subjobs {name}", 154)
                if not job["array"] or index is not None:
                    return complain("qalter", f"Attribute has to be set on an array job {name}", 166)
                if job["ended"]:
                    return complain("qalter", *ended(server, name))
                job["throttle"] = int(limit[1] or 0) or None
            server.schedule(state)
    return 0


def qsig(server: Server, argv: Words) -> int:
    options, names = getopt.getopt(argv, "s:")
    word = dict(options).get("-s", "TERM").removeprefix("SIG")
    return to_running(server, "qsig", names, f"signal SIG{word}")


def qrerun(server: Server, argv: Words) -> int:
    _, names = getopt.getopt(argv, "W:")
    return to_running(server, "qrerun", names, "rerun")


def to_running(server: Server, program: str, names: Words, command: str) -> int:
    code = 0
    with server.state() as state:
        for name in names:
            found = server.find(state, name)
            if found is None:
                code = complain(program, f"Unknown Job Id {name}", 153)
                continue
            job, index = found
            running = [i for i, task in job["tasks"].items() if index in (None, i) and task["state"] == "R"]
            if not running:
                code = complain(program, f"Request invalid for state of job {name}", 168)
            for task in running:
                server.tell(job, task, command)
    return code


def change_hold(server: Server, program: str, names: Words, held: bool) -> int:
    with server.state() as state:
        for name in names:
            found = server.find(state, name)
            if found is None:
                return complain(program, f"Unknown Job Id {name}", 153)
            found[0]["held"] = held
        server.schedule(state)
    return 0


def main() -> int:
    folder, program, argv = Path(sys.argv[1]), sys.argv[2], sys.argv[4:]
    server = Server(folder)
    with (folder / "calls.log").open("a", errors="surrogateescape") as log:
        log.write(" ".join([program, *argv]).replace("\n", "\\n") + "\n")
    time.sleep(server.config["delay_s"].get(program, 0))
    if server.config["down"] and "--version" not in argv:
        sys.stderr.write(
            "Connection refused\n"
            f"{program}: cannot connect to server {server.config['server']} (errno=15010)\n"
        )
        return 255 if program == "qstat" else 162
    calls: dict[str, Any] = {
        "qsub": qsub,
        "qstat": qstat,
        "qdel": qdel,
        "qalter": qalter,
        "qsig": qsig,
        "qrerun": qrerun,
    }
    if program in ("qhold", "qrls"):
        return change_hold(server, program, [word for word in argv if word[0].isdigit()], program == "qhold")
    return int(calls[program](server, argv))


if __name__ == "__main__":
    sys.exit(main())
