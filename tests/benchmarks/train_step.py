"""Full training steps beside the fastest that their matrix products could be done, in one process.

    python tests/benchmarks/train_step.py [--json] [--sizes S M L]

A step is what training does: gathering the batch, dropout, sampling, costs, backward, clipping by norm, Adam.
The *floor* is the arithmetic of the step's matrix products alone (forward, and twice that backward), each at
the highest rate that numpy, a TensorFlow graph loop or an XLA loop reaches on 1,000 dependent products
(B, H) x (H, H) of the network that it belongs to: input products to their network, read-in to the encoders,
factors and read-out to the generator. Both are the best of 5. Two threads, unless LFADSRM_THREADS says
otherwise. `first_step_s`: from the start of a process to the end of its first step, imports aside.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("LFADSRM_THREADS", "2")
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, os.environ["LFADSRM_THREADS"])

import numpy as np  # noqa: E402

from lfadsrm_hpc.model.backend import tf  # noqa: E402
from lfadsrm_hpc.model.hyperparameters import Hyperparameters  # noqa: E402
from lfadsrm_hpc.model.network import initial  # noqa: E402
from lfadsrm_hpc.model.network.architecture import Architecture  # noqa: E402
from lfadsrm_hpc.model.session import Session  # noqa: E402
from lfadsrm_hpc.model.training import batches  # noqa: E402
from lfadsrm_hpc.model.training.compiled import Compiled, fresh, on_device  # noqa: E402

BEST_OF = 5
PRODUCTS = 1000
SIZES: dict[str, dict[str, Any]] = {
    "S": {
        "bins": 100,
        "neurons": 50,
        "hp": {
            "batch_size": 128, "ic_enc_dim": 64, "gen_dim": 64, "ic_dim": 64, "factors_dim": 8, "co_dim": 0,
        },
    },
    "M": {
        "bins": 45,
        "neurons": 137,
        "hp": {
            "batch_size": 256, "ic_enc_dim": 64, "ci_enc_dim": 64, "con_dim": 64, "gen_dim": 200,
            "ic_dim": 64, "factors_dim": 100, "co_dim": 4,
        },
    },
    "L": {
        "bins": 100,
        "neurons": 50,
        "hp": {
            "batch_size": 128, "ic_enc_dim": 128, "ci_enc_dim": 128, "con_dim": 128, "gen_dim": 200,
            "factors_dim": 20, "co_dim": 1,
        },
    },
}  # fmt: skip


class Problem:
    """One size: its model on random counts, and whole training steps of it."""

    def __init__(self, size: str, use_xla: str = "auto") -> None:
        about = SIZES[size]
        hp = Hyperparameters(**about["hp"], use_xla=use_xla)
        rng = np.random.default_rng(0)
        trials = 4 * hp.batch_size
        counts = rng.poisson(0.2, (trials, about["bins"], about["neurons"]))
        session = Session("s", counts, counts[: hp.batch_size])
        self.arch = Architecture.of(hp, [session])
        self.compiled = Compiled(self.arch, [session])
        self.data = batches.resident(self.arch, [session.train], [None])
        plan = batches.training_plan([trials], hp.batch_size, 0, 0)
        self.plan, self.batches = on_device(plan), len(plan.sessions)
        self.state = fresh(self.arch.pack(initial.initial_parameters(self.arch, [session])))

    def steps(self, count: int) -> float:
        """Do `count` steps in one compiled call; return seconds a step."""
        began = time.perf_counter()
        state = self.compiled.train(self.state, self.data, self.plan, 0, count, 0.01)
        if int(state.failed) >= 0:
            raise RuntimeError("the cost was not finite")
        self.state = state
        return (time.perf_counter() - began) / count


def flops(arch: Architecture) -> dict[tuple[int, int], float]:
    """Return the operations of a step's matrix products, by the recurrent shape (B, H) they belong to."""
    hp, size, bins = arch.hp, arch.hp.batch_size, arch.bins
    found: dict[tuple[int, int], float] = {}

    def add(units: int, rows: int, n_in: int, n_out: int) -> None:
        found[(size, units)] = found.get((size, units), 0.0) + 3 * 2.0 * rows * n_in * n_out

    def gru(units: int, inputs: int, steps: int) -> None:
        add(units, size * steps, units + inputs, 3 * units)

    for _ in range(2):
        gru(hp.ic_enc_dim, arch.encoder_width, arch.ic_steps)
    add(hp.ic_enc_dim, size, 2 * hp.ic_enc_dim, 2 * hp.ic_dim)
    if hp.co_dim:
        for _ in range(2):
            gru(hp.ci_enc_dim, arch.encoder_width, bins)
        gru(hp.con_dim, 2 * hp.ci_enc_dim + arch.feedback_width, bins)
        add(hp.con_dim, size * bins, hp.con_dim, 2 * hp.co_dim)
    gru(hp.gen_dim, arch.generator_inputs, bins)
    if hp.ic_dim != hp.gen_dim:
        add(hp.gen_dim, size, hp.ic_dim, hp.gen_dim)
    add(hp.gen_dim, size * bins, hp.gen_dim, hp.factors_dim)
    add(hp.gen_dim, size * bins, hp.factors_dim, arch.width)
    return found


def product_rate(rows: int, units: int) -> dict[str, float]:
    """Return operations a second of products (rows, units) x (units, units), by how they are run."""
    rng = np.random.default_rng(0)
    h = rng.standard_normal((rows, units)).astype(np.float32)
    w = np.linalg.qr(rng.standard_normal((units, units)))[0].astype(np.float32)  # keeps the size of h
    h_tf, w_tf = tf.constant(h), tf.constant(w)

    def by_numpy() -> None:
        a, b = h, np.empty_like(h)
        for _ in range(PRODUCTS):
            np.matmul(a, w, out=b)
            a, b = b, a if a is not h else np.empty_like(h)

    def loop(start: Any, weights: Any) -> Any:
        return tf.while_loop(
            lambda i, _: i < PRODUCTS, lambda i, a: (i + 1, tf.matmul(a, weights)), (tf.constant(0), start)
        )[1]

    graph = tf.function(loop, autograph=False)
    xla = tf.function(loop, autograph=False, jit_compile=True)
    ways = {
        "numpy": by_numpy,
        "graph": lambda: graph(h_tf, w_tf).numpy(),
        "xla": lambda: xla(h_tf, w_tf).numpy(),
    }
    rates = {}
    for name, run in ways.items():
        run()
        rates[name] = 2.0 * PRODUCTS * rows * units * units / min(_seconds(run) for _ in range(BEST_OF))
    return rates


def _seconds(run: Any) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(size: str, use_xla: str) -> dict[str, Any]:
    problem = Problem(size, use_xla)
    problem.steps(1)
    count = problem.batches
    work = flops(problem.arch)
    # steps and products in turn, so that a slow minute of the machine meets both
    rates: dict[tuple[int, int], dict[str, float]] = {}
    step = min(problem.steps(count) for _ in range(BEST_OF))
    for shape in work:
        rates[shape] = product_rate(*shape)
    step = min(step, *(problem.steps(count) for _ in range(BEST_OF)))
    floor = sum(amount / max(rates[shape].values()) for shape, amount in work.items())
    return {
        "step_s": step,
        "floor_s": floor,
        "ratio": step / floor,
        "first_step_s": first_step(size, use_xla),
        "posterior": posterior(size, use_xla),
        "rates": {f"{b}x{h}": {k: round(v / 1e9, 1) for k, v in rates[b, h].items()} for b, h in rates},
    }


def first_step(size: str, use_xla: str) -> float:
    """Return seconds from the start of a fresh process to the end of its first step, without imports."""
    command = [sys.executable, __file__, "--first-step", size, "--use-xla", use_xla]
    return min(
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(2)
    )


def posterior(size: str, use_xla: str) -> dict[str, float]:
    """Return throughput of posterior sampling with 512 samples a trial, measured in a process of its own."""
    script = Path(__file__).with_name("posterior_throughput.py")
    command = [sys.executable, str(script), "--json", "--sizes", size, "--use-xla", use_xla]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {name: found[size][name] for name in ("samples_per_s", "ratio")}


def main() -> None:
    imported = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--use-xla", default="auto", choices=("auto", "on", "off"))
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--first-step", choices=SIZES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first_step:
        Problem(options.first_step, options.use_xla).steps(1)
        print(time.monotonic() - imported)
        return
    found = {}
    for size in options.sizes:
        found[size] = measure(size, options.use_xla)
        if not options.json:
            r = found[size]
            best = ", ".join(f"{k}: {max(v.values()):.0f}" for k, v in r["rates"].items())
            print(
                f"{size}: step {r['step_s'] * 1e3:.0f} ms, floor {r['floor_s'] * 1e3:.0f} ms, "
                f"ratio {r['ratio']:.2f}, first step {r['first_step_s']:.1f} s, "
                f"{r['posterior']['samples_per_s']:.0f} posterior samples a second  (GFLOP/s {best})",
                flush=True,
            )
    if options.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
