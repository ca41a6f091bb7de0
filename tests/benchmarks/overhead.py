"""What training takes beyond the arithmetic of its steps and of its validation.

    python tests/benchmarks/overhead.py [--json]

Trains as a run does: epochs in slices, validation, fit log, TensorBoard scalars, checkpoints at a new best
and every 30 s at least. All seconds inside the compiled functions are counted, and what remains of the wall
time after the first epoch (which compiles) is overhead: plans, python, logging, checkpoints with their flush
to disk. The limit is 5 %.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import loop as training
from lfadsrm_hpc.model.training.compiled import Compiled

RAMPS = {
    "kl_increase_steps": 20,
    "l2_increase_steps": 20,
}  # so that new bests, and their checkpoints, come early
CASES: dict[str, dict[str, Any]] = {
    "small: 160 trials, 50 bins, 30 neurons": {
        "shape": (160, 50, 30), "epochs": 150,
        "hp": {"batch_size": 64, "gen_dim": 64, "ic_enc_dim": 64, "factors_dim": 8, "co_dim": 0},
    },
    "S: 512 trials, 100 bins, 50 neurons": {
        "shape": (512, 100, 50), "epochs": 80,
        "hp": {"batch_size": 128, "gen_dim": 64, "ic_enc_dim": 64, "factors_dim": 8, "co_dim": 0},
    },
    "S, with spikes jittered": {
        "shape": (512, 100, 50), "epochs": 80,
        "hp": {
            "batch_size": 128, "gen_dim": 64, "ic_enc_dim": 64, "factors_dim": 8, "co_dim": 0,
            "temporal_spike_jitter_width": 2,
        },
    },
}  # fmt: skip


class Timed(Compiled):
    """Counts the seconds inside compiled functions, results waited for."""

    inside = 0.0

    def train(self, *args: Any) -> Any:
        began = time.perf_counter()
        state = super().train(*args)
        int(state.failed)
        Timed.inside += time.perf_counter() - began
        return state

    def validate(self, *args: Any) -> Any:
        began = time.perf_counter()
        sums = super().validate(*args)
        sums.numpy()
        Timed.inside += time.perf_counter() - began
        return sums


def measure(case: dict[str, Any]) -> dict[str, float]:
    counts = np.random.default_rng(0).poisson(0.2, case["shape"]).astype(np.uint8)
    hp = Hyperparameters(**case["hp"], **RAMPS, max_epochs=case["epochs"])
    session = Session("s", counts, counts[: len(counts) // 4])
    began = start_inside = 0.0

    def tell(progress: training.Progress) -> None:
        nonlocal began, start_inside
        if progress.epoch <= 1:
            began, start_inside = time.perf_counter(), Timed.inside

    with tempfile.TemporaryDirectory() as folder:
        outcome = training.train(hp, [session], Path(folder), on_progress=tell)
        total = time.perf_counter() - began
    inside = Timed.inside - start_inside
    return {
        "epochs": outcome.epoch - 1,
        "epoch_s": total / (outcome.epoch - 1),
        "overhead": total / inside - 1.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    training.Compiled = Timed  # type: ignore[misc]
    found = {}
    for name, case in CASES.items():
        found[name] = measure(case)
        if not options.json:
            r = found[name]
            print(
                f"{name}: {r['epoch_s'] * 1e3:.0f} ms an epoch, overhead {100 * r['overhead']:.1f} %",
                flush=True,
            )
    if options.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
