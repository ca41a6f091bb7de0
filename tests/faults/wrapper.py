"""Stand before a scheduler's client program, and let some of its calls go wrong as a plan says.

    wrapper.py FOLDER PROGRAM [ARGUMENTS ...]

`FOLDER/plan.json` is a list of rules; the first rule for this program that has calls left is used up by one,
and without one the real program is called: the next of that name on PATH that does not lie in `FOLDER/bin`.
Every call appends one line of JSON to `FOLDER/calls`. What a rule may say:

    program   "sbatch", ...
    fault     see `FAULTS`
    times     how many calls it spoils (1)
    after     how many calls of the program go well before (0)
    match     a text that must stand in the arguments ("")
    seconds   how long it hangs (3600)
    code      exit status of "fail" and "error_after" (1)
    text      what "fail" and "error_after" say on standard error

It imports nothing of the package, and uses the standard library alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FAULTS = {
    "hang_before": "never calls the real program, and does not end",
    "hang_after": "calls it, then prints nothing and does not end: it was accepted, and nobody hears of it",
    "lose_output": "calls it, prints nothing, ends with its status",
    "half_output": "calls it, prints the first half of its output, ends with 0",
    "garbage": "calls it, prints bytes that mean nothing and are not UTF-8, ends with 0",
    "error_after": "calls it, prints an error instead of its output, ends with `code`",
    "die_after": "calls it, then is killed (-9)",
    "fail": "never calls it, prints an error, ends with `code`",
}
CALLED_BEFORE = frozenset(FAULTS) - {"hang_before", "fail"}
GARBAGE = b"\xff\xfe\x00<?xml\x80 12 [] {\x1b[0m;;\n\xc3"


def take_rule(folder: Path, program: str, arguments: list[str]) -> dict[str, Any] | None:
    """Return the rule that holds for this call, and note that it was used."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / "plan.json"
        rules: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
        for rule in rules:
            if rule["program"] != program or rule.get("match", "") not in " ".join(arguments):
                continue
            if rule.get("times", 1) <= 0:
                continue
            waits = rule.get("after", 0) > 0
            rule["after"] = max(0, rule.get("after", 0) - 1)
            rule["times"] = rule.get("times", 1) - (not waits)
            beside = path.with_suffix(".new")
            beside.write_text(json.dumps(rules))
            beside.replace(path)
            return None if waits else rule
    return None


def real_program(folder: Path, program: str) -> str:
    places = os.environ.get("PATH", "").split(os.pathsep)
    others = [place for place in places if Path(place).resolve() != (folder / "bin").resolve()]
    found = shutil.which(program, path=os.pathsep.join(others))
    if found is None:
        raise SystemExit(f"{program}: there is no real one on PATH")
    return found


def note(folder: Path, program: str, arguments: list[str], fault: str, code: int | None) -> None:
    """Write one call down, in one write: several may be at work."""
    line = {"program": program, "arguments": arguments, "fault": fault, "code": code, "time": time.time()}
    handle = os.open(folder / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, json.dumps(line).encode() + b"\n")
    os.close(handle)


def main(folder: Path, program: str, arguments: list[str]) -> int:
    rule = take_rule(folder, program, arguments)
    real = real_program(folder, program)
    if rule is None:
        done = subprocess.run([real, *arguments], capture_output=True)
        note(folder, program, arguments, "", done.returncode)
        return say(done.stdout, done.stderr, done.returncode)
    fault, error = rule["fault"], f"{rule.get('text', f'{program}: error')}\n".encode()
    code = None
    if fault in CALLED_BEFORE:
        done = subprocess.run([real, *arguments], capture_output=True)
        code = done.returncode
    note(folder, program, arguments, fault, code)
    if fault in ("hang_before", "hang_after"):
        time.sleep(rule.get("seconds", 3600))
        return 1
    if fault == "lose_output":
        return done.returncode
    if fault == "half_output":
        return say(done.stdout[: len(done.stdout) // 2], b"", 0)
    if fault == "garbage":
        return say(GARBAGE, b"", 0)
    if fault == "die_after":
        os.kill(os.getpid(), signal.SIGKILL)
    return say(b"", error, rule.get("code", 1))


def say(output: bytes, error: bytes, code: int) -> int:
    sys.stdout.buffer.write(output)
    sys.stdout.flush()
    sys.stderr.buffer.write(error)
    sys.stderr.flush()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
