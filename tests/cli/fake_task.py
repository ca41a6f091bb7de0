"""A stand-in for `lfadsrm task` that trains nothing but keeps the manifest as the real one does.

`plan.json` beside the folder of collections says, by run spec, for how many seconds it works and with which
code it ends; 0.1 s and 0 unless it says. TERM makes it end with 75, as a checkpointed run does.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path

from lfadsrm_hpc.errors import ClaimLostError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import Exit, Identity, reason_of

parser = argparse.ArgumentParser()
for option in ("--collection", "--run", "--submission", "--task"):
    parser.add_argument(option, required=True)
parser.add_argument("--posterior-only", action="store_true")
args = parser.parse_args()

stopped = False


def stop(*_: object) -> None:
    global stopped
    stopped = True


signal.signal(signal.SIGTERM, stop)
run = CollectionLayout(Path(args.collection)).run_by_id(args.run)
plan = Path(args.collection).parent.parent / "plan.json"
seconds, code = json.loads(plan.read_text()).get(run.path.name, [0.1, 0]) if plan.exists() else [0.1, 0]
try:
    taken = store.take_local(run, Identity.local(args.submission, args.task), redo=args.posterior_only)
except ClaimLostError:
    sys.exit(64)
if isinstance(taken, store.AlreadyComplete):
    sys.exit(0)
log = run.attempt(taken.attempt).log
log.write_text(f"attempt {taken.attempt} begins\n")
end = time.monotonic() + seconds
while time.monotonic() < end and not stopped:
    left = end - time.monotonic()
    progress = {"epoch": 3, "max_epochs": 9, "train_total": 41.25, "valid_total": 43.5, "eta_s": left}
    store.heartbeat(run, taken, phase="training", **progress)
    time.sleep(0.05)
code = 75 if stopped else code
with log.open("a") as file:
    file.write(f"attempt {taken.attempt} ends with {code}\n")
message = "" if code in (0, 75) else "the planned failure"
store.publish_exit(run, taken, Exit(code, reason_of(code), message=message))
sys.exit(code)
