"""A stand-in for `lfadsrm task` in a job: claims and records through the manifest, and ends as a plan says.

`$FAKE_DIR/plan.json`: run id to a list of starts, the last one for all further: {"seconds": how long it
works, "code": exit status, "kill": signal that it sends to itself, "late": seconds until it can catch a
signal, "record": false to end without an exit record}. What happens is appended to `$FAKE_DIR/events`.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from lfadsrm_hpc.errors import ClaimLostError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import Exit, Identity, reason_of
from lfadsrm_hpc.stopping import StopFlag

parser = argparse.ArgumentParser()
for option in ("--collection", "--run", "--submission", "--task"):
    parser.add_argument(option, required=True)
parser.add_argument("--attempt", required=True, type=int)
parser.add_argument("--posterior-only", action="store_true")
args = parser.parse_args()
fake = Path(os.environ["FAKE_DIR"])


def tell(event, **more):
    text = json.dumps({"event": event, "run": args.run, "pid": os.getpid(), **more}) + "\n"
    handle = os.open(fake / "events", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, text.encode())
    os.close(handle)


shown = ("CUDA_", "LFADSRM_", "TF_", "OMP_", "HDF5_", "SHOW_")
tell(
    "start",
    argv=sys.argv[1:],
    cwd=str(Path.cwd()),
    environment={name: value for name, value in os.environ.items() if name.startswith(shown)},
)
run = CollectionLayout(Path(args.collection)).run_by_id(args.run)
identity = Identity(os.environ["LFADSRM_CLUSTER"], os.environ["LFADSRM_JOB"], args.task, args.submission)
plans = json.loads((fake / "plan.json").read_text()).get(args.run, [{}])
plan = plans[min(len(run.attempt(args.attempt).incarnations()["claim"]), len(plans) - 1)]

time.sleep(plan.get("late", 0))  # as if Python still imported
stop = StopFlag(float(os.environ["LFADSRM_DEADLINE"]))
with stop.installed():
    try:
        claim = store.claim(run, args.attempt, identity)
    except ClaimLostError as error:
        print(error, flush=True)
        sys.exit(64)
    print(f"a line of the log of {args.run}", flush=True)
    tell("claimed", incarnation=claim.incarnation)
    end = time.monotonic() + plan.get("seconds", 0)
    while time.monotonic() < end and not stop():
        time.sleep(0.02)
    if "kill" in plan:
        os.kill(os.getpid(), plan["kill"])
    code = 75 if stop() else plan.get("code", 0)
    reason = "timeout" if stop.out_of_time else reason_of(code)
    if plan.get("record", True):
        store.publish_exit(run, claim, Exit(code, reason, signal=stop.signal))
    tell("end", code=code)
sys.exit(code)
