"""How fast posterior means are sampled, beside their matrix products, and in how much memory.

    python tests/benchmarks/posterior_throughput.py [--json] [--sizes S M L] [--trials 12] [--samples 512]

The sizes are those of `train_step.py`; the models have random parameters, written and read as trained ones
are. `samples_per_s` is trials x samples a second, means and standard deviations, of the fastest block after
the first. The *floor* is the arithmetic that a sample cannot do without (recurrent, fed-back, input, factor
and read-out products of controller and generator; what is the same for all samples of a trial is not
counted), at the highest rate of `train_step.product_rate` for (1024, H). Two threads, unless LFADSRM_THREADS
says otherwise. `first_block_s`: from the start of a process to the end of its first block, imports aside.
On a busy machine `LFADSRM_THREADS=1 ... --cpu-time` counts seconds of the CPU in place of those on the wall.

    python tests/benchmarks/posterior_throughput.py --memory

Growth of the peak resident memory over that before sampling, for several bounds, each in a process of its
own. The growth with one sample of one trial is told apart: it is mostly what XLA compiles with.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("LFADSRM_THREADS", "2")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from train_step import SIZES, product_rate

from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.network import initial
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.sampling import posterior
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import checkpoints, saved

IMPORTED = {clock: clock() for clock in (time.perf_counter, time.process_time)}
LARGE: dict[str, Any] = {
    "bins": 1000,
    "neurons": 100,
    "hp": {
        "ic_enc_dim": 128, "ci_enc_dim": 128, "con_dim": 128, "gen_dim": 200, "ic_dim": 64, "factors_dim": 50,
        "co_dim": 4,
    },
}  # fmt: skip
MEMORY = (  # size, samples a trial (0: push-mean), trials, bound in MB
    ("S", 512, 64, 1000), ("S", 1, 1200, 1000), ("S", 0, 1200, 1000), ("large", 512, 2, 1000),
    ("large", 512, 2, 100), ("large", 16, 64, 1000), ("large", 1, 128, 1000),
    ("large", 1, 128, 300), ("large", 0, 128, 1000),
)  # fmt: skip


def model(size: str, trials: int, samples: int, use_xla: str, memory_mb: float) -> tuple[Any, Any]:
    """Return a sampler of a model of random parameters, and data for it."""
    about = LARGE if size == "large" else SIZES[size]
    hp = Hyperparameters(**about["hp"], use_xla=use_xla)
    shape = (trials, about["bins"], about["neurons"])
    counts = np.random.default_rng(0).poisson(0.2, shape).astype(np.uint8)
    session = Session("s", counts, counts[:1])
    arch = Architecture.of(hp, [session])
    arrays = {f"latest/{n}": v for n, v in initial.initial_parameters(arch, [session]).items()}
    meta = {"step": 1, "epoch": 1, "best": None, "held_out": {}, "architecture": saved.described(arch)}
    kind = posterior.SAMPLE_AND_AVERAGE if samples else posterior.PUSH_MEAN
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(Path(folder), arrays, meta, keep=1)
        options: dict[str, Any] = {"num_samples": max(1, samples), "kind": kind, "memory_mb": memory_mb}
        return posterior.Sampler(hp, Path(folder), "s", **options), counts


def flops(arch: Architecture) -> dict[int, float]:
    """Return the operations of the matrix products of one sample of one trial, by units of their network."""
    hp, bins = arch.hp, arch.bins
    found = {hp.gen_dim: 0.0}

    def add(units: int, n_in: int, n_out: int, times: int = bins) -> None:
        found[units] = found.get(units, 0.0) + 2.0 * n_in * n_out * times

    add(hp.gen_dim, hp.gen_dim + hp.co_dim, 3 * hp.gen_dim)
    add(hp.gen_dim, hp.gen_dim, hp.factors_dim)
    add(hp.gen_dim, hp.factors_dim, arch.width)
    if hp.ic_dim and hp.ic_dim != hp.gen_dim:
        add(hp.gen_dim, hp.ic_dim, hp.gen_dim, times=1)
    if hp.co_dim:
        add(hp.con_dim, hp.con_dim + arch.feedback_width, 3 * hp.con_dim)
        add(hp.con_dim, hp.con_dim, 2 * hp.co_dim)
    return found


def block_seconds(sampler: Any, counts: Any) -> list[float]:
    """Return seconds a trial of each block after the first."""
    times = []
    began = time.perf_counter()
    for block in sampler.blocks(counts):
        ended = time.perf_counter()
        times.append((ended - began) / (block.stop - block.start))
        began = ended
    return times[1:]


def measure(size: str, options: argparse.Namespace) -> dict[str, Any]:
    sampler, counts = model(size, options.trials, options.samples, options.use_xla, 1000.0)
    took = min(block_seconds(sampler, counts))
    work = flops(sampler.arch)
    rates = {units: product_rate(posterior.CPU_ROWS, units) for units in work}
    # once more, so that a slow minute of the machine meets both
    took = min([took, *block_seconds(sampler, counts)])
    floor = options.samples * sum(amount / max(rates[units].values()) for units, amount in work.items())
    return {
        "samples_per_s": options.samples / took,
        "trial_s": took,
        "floor_s": floor,
        "ratio": took / floor,
        "first_block_s": first_block(size, options),
        "rates": {str(units): {k: round(v / 1e9, 1) for k, v in r.items()} for units, r in rates.items()},
    }


def first_block(size: str, options: argparse.Namespace) -> float:
    """Return seconds to the first block of a fresh process, the better of two."""
    command = ["--first-block", size, "--samples", str(options.samples), "--use-xla", options.use_xla]
    command += ["--cpu-time"] if options.cpu_time else []
    return min(float(child(*command)) for _ in range(2))


def child(*arguments: str) -> str:
    """Run this file in a process of its own and return what it prints."""
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def resident_mb(what: str) -> float:
    """Return the resident memory of this process, VmRSS, or its peak, VmHWM, in MB (10^6 bytes)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{what}:"))


def growth(size: str, samples: int, trials: int, bound: float, use_xla: str) -> float:
    """Return by how much the peak resident memory grows in MB."""
    sampler, counts = model(size, trials, samples, use_xla, bound)
    before = resident_mb("VmRSS")
    for _ in sampler.blocks(counts):
        pass
    return resident_mb("VmHWM") - before


def memory(use_xla: str) -> list[dict[str, Any]]:
    def grown(*case: Any) -> float:
        return float(child("--growth", *(str(part) for part in case), "--use-xla", use_xla))

    fixed = {size: grown(size, 1, 1, 0.001) for size in ("S", "large")}
    rows = []
    for size, samples, trials, bound in MEMORY:
        grew = grown(size, samples, trials, bound)
        about = {"size": size, "samples": samples, "bound_mb": bound, "fixed_mb": fixed[size]}
        rows.append({**about, "grown_mb": grew, "beyond_fixed_mb": grew - fixed[size]})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--use-xla", default="auto", choices=("auto", "on", "off"))
    parser.add_argument("--cpu-time", action="store_true", help="count CPU seconds; with one thread")
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--first-block", choices=SIZES, help=argparse.SUPPRESS)
    parser.add_argument("--growth", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cpu_time:
        time.perf_counter = time.process_time  # train_step reads this clock too
    if options.first_block:
        sampler, counts = model(options.first_block, 1, options.samples, options.use_xla, 1000.0)
        next(sampler.blocks(counts))
        print(time.perf_counter() - IMPORTED[time.perf_counter])
    elif options.growth:
        size, samples, trials, bound = options.growth
        print(growth(size, int(samples), int(trials), float(bound), options.use_xla))
    elif options.memory:
        rows = memory(options.use_xla)
        print(json.dumps(rows) if options.json else memory_table(rows))
        return int(any(row["beyond_fixed_mb"] > row["bound_mb"] for row in rows))
    else:
        results = {size: measure(size, options) for size in options.sizes}
        print(json.dumps(results) if options.json else speed_table(results))
    return 0


def speed_table(results: dict[str, dict[str, Any]]) -> str:
    lines = [f"{'':4}{'samples/s':>12}{'a trial':>12}{'floor':>12}{'ratio':>8}{'first block':>14}  GFLOP/s"]
    for size, r in results.items():
        best = ", ".join(f"{units}: {max(rates.values()):.0f}" for units, rates in r["rates"].items())
        lines.append(
            f"{size:4}{r['samples_per_s']:12,.0f}{r['trial_s'] * 1e3:9.0f} ms{r['floor_s'] * 1e3:9.0f} ms"
            f"{r['ratio']:8.2f}{r['first_block_s']:12.1f} s  {best}"
        )
    return "\n".join(lines)


def memory_table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'':8}{'samples':>9}{'bound':>10}{'grown by':>12}{'beyond the fixed':>18}"]
    for row in rows:
        samples = row["samples"] or "means"
        lines.append(
            f"{row['size']:8}{samples:>9}{row['bound_mb']:7.0f} MB{row['grown_mb']:9.0f} MB"
            f"{row['beyond_fixed_mb']:15.0f} MB"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
