"""A stand-in for nvidia-smi: GPUs from `$FAKE_DIR/smi.json`, and the memory that fake tasks pretend to use.

smi.json: {"gpus": [{"index", "uuid", "total", "others"}], "apps": whether processes are shown, "fail": bool}
"""

import json
import os
import sys
import time
from pathlib import Path

fake = Path(os.environ["FAKE_DIR"])
smi = json.loads((fake / "smi.json").read_text())
if smi.get("fail"):
    print("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
    sys.exit(9)
if "--format=csv,noheader,nounits" not in sys.argv:
    sys.exit("this stand-in only knows one format")

used = []
for path in (fake / "gpu").iterdir():
    try:
        uuid, memory, ready = path.read_text().split()
    except (OSError, ValueError):
        continue
    if Path(f"/proc/{path.name}").exists() and time.time() >= float(ready):
        used.append((path.name, uuid, int(memory)))

for argument in sys.argv[1:]:
    if argument == "--query-gpu=index,uuid,memory.free,memory.total,utilization.gpu":
        for gpu in smi["gpus"]:
            if gpu["total"] is None:
                print(f"{gpu['index']}, {gpu['uuid']}, [N/A], [N/A], 0")
                continue
            free = gpu["total"] - gpu["others"] - sum(m for _, uuid, m in used if uuid == gpu["uuid"])
            print(f"{gpu['index']}, {gpu['uuid']}, {free}, {gpu['total']}, 0")
    elif argument == "--query-compute-apps=pid,gpu_uuid,used_memory" and smi.get("apps", True):
        print("1, GPU-of-nobody, 300")
        print(f"1, {smi['gpus'][0]['uuid']}, [N/A]")
        for pid, uuid, memory in used:
            print(f"{pid}, {uuid}, {memory}")
