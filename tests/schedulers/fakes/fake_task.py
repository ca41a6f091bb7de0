"""A stand-in for `lfadsrm task`: waits, claims, takes pretended GPU memory, and exits as a plan says.

`$FAKE_DIR/plan/<run key>` has one line a start, the last one for all further starts:
    seconds  exit status  [GPU memory in MiB  [seconds until nvidia-smi shows it]]
A status of -9 kills itself. What happens is appended to `$FAKE_DIR/events`, one JSON object a line.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
for option in ("--collection", "--run", "--submission", "--task"):
    parser.add_argument(option, required=True)
parser.add_argument("--posterior-only", action="store_true")
args = parser.parse_args()

fake = Path(os.environ["FAKE_DIR"])
key = hashlib.sha256(args.run.encode()).hexdigest()[:16]
run = Path(args.collection) / args.run
pid = os.getpid()


def tell(event, **more):
    text = json.dumps({"event": event, "run": args.run, "pid": pid, "time": time.time(), **more}) + "\n"
    handle = os.open(fake / "events", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, text.encode())
    os.close(handle)


def start_time(number):
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def leave(code):
    tell("end", code=code)
    if code == 0:
        (attempt / "exit.r1.json").write_text('{\n  "code": 0,\n  "token": "t"\n}\n')
    owner.unlink()
    (fake / "gpu" / str(pid)).unlink(missing_ok=True)
    os._exit(code)


def on_signal(number, _):
    tell("signal", number=int(number))
    time.sleep(float(os.environ.get("FAKE_CHECKPOINT_S", "0")))
    leave(75)


for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, on_signal)
for number in (signal.SIGINT, signal.SIGHUP):
    assert signal.getsignal(number) == signal.SIG_IGN, f"signal {number} reaches the task"

# The real task takes the run by a claim. Here nobody may ever meet a living owner: see the tests.
owner = fake / "owner" / key
mine = f"{pid} {start_time(pid)}"
try:
    handle = os.open(owner, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
except FileExistsError:
    other, began = owner.read_text().split()
    if start_time(int(other)) == int(began):
        tell("overlap", owner=int(other))
        sys.exit(64)
    owner.write_text(mine)
else:
    os.write(handle, mine.encode())
    os.close(handle)

complete = any('"code": 0,' in path.read_text() for path in run.glob("attempts/*/exit.r*.json"))
if complete and not args.posterior_only:
    tell("complete")
    owner.unlink()
    sys.exit(0)

count = fake / "count" / key
starts = int(count.read_text()) if count.exists() else 0
count.write_text(str(starts + 1))
plan = fake / "plan" / key
lines = plan.read_text().splitlines() if plan.exists() else ["0.1 0"]
seconds, code, *memory = lines[min(starts, len(lines) - 1)].split()

attempt = run / "attempts" / f"{starts + 1:03d}"
attempt.mkdir(parents=True)
process = {"host": os.uname().nodename, "pid": pid, "start": start_time(pid)}
claim = {"attempt": starts + 1, "process": process}
(attempt / "claim.r1.json").write_text(json.dumps(claim, indent=2) + "\n")
if memory:
    used, lag = memory[0], float(memory[1]) if len(memory) > 1 else 0.0
    gpu = os.environ["CUDA_VISIBLE_DEVICES"]
    (fake / "gpu" / str(pid)).write_text(f"{gpu} {used} {time.time() + lag}")

shown = ("CUDA_", "LFADSRM_", "TF_", "OMP_", "SHOW_")
tell(
    "start",
    environment={name: value for name, value in os.environ.items() if name.startswith(shown)},
    argv=sys.argv[1:],
)
print(f"a line of the log of {args.run}", flush=True)
time.sleep(float(seconds))
if code == "-9":
    os.kill(pid, signal.SIGKILL)
leave(int(code))
