"""Peak memory of training steps on long trials: batch 128, 1000 bins, 100 neurons, generator 200.

    python tests/benchmarks/step_memory.py [--json]

Each row is a process of its own that does three training steps of a model with the default sizes otherwise,
and reports the most memory that it ever held. The limit is 3 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

CASES: dict[str, dict[str, Any]] = {
    "generator alone": {"co_dim": 0},
    "generator and controller": {"co_dim": 4},
    "the same, without XLA": {"co_dim": 4, "use_xla": "off"},
}


def child(changes: dict[str, Any]) -> None:
    import numpy as np

    from lfadsrm_hpc.model.hyperparameters import Hyperparameters
    from lfadsrm_hpc.model.network import initial
    from lfadsrm_hpc.model.network.architecture import Architecture
    from lfadsrm_hpc.model.session import Session
    from lfadsrm_hpc.model.training import batches
    from lfadsrm_hpc.model.training.compiled import Compiled, fresh, on_device

    imported = _peak_mb()
    hp = Hyperparameters(gen_dim=200, batch_size=128, **changes)
    counts = np.random.default_rng(0).poisson(0.1, (128, 1000, 100)).astype(np.uint8)
    session = Session("s", counts, counts[:1])
    arch = Architecture.of(hp, [session])
    compiled = Compiled(arch, [session])
    data = batches.resident(arch, [counts], [None])
    plan = on_device(batches.training_plan([128], 128, 0, 0))
    state = fresh(arch.pack(initial.initial_parameters(arch, [session])))
    for _ in range(3):
        began = time.perf_counter()
        state = compiled.train(state, data, plan, 0, 1, 0.01)
        if int(state.failed) >= 0:
            raise RuntimeError("the cost was not finite")
    print(json.dumps({"imports_mb": imported, "peak_mb": _peak_mb(), "step_s": time.perf_counter() - began}))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000.0  # kB on Linux


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child)
        return
    found = {}
    for name, changes in CASES.items():
        command = [sys.executable, __file__, "--child", json.dumps(changes)]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[name] = json.loads(text)
        if not options.json:
            row = found[name]
            print(
                f"{name}: peak {row['peak_mb']:.0f} MB, {row['peak_mb'] - row['imports_mb']:.0f} above the "
                f"imports; {row['step_s']:.2f} s a step",
                flush=True,
            )
    if options.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
