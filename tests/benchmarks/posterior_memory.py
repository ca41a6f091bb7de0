"""Peak memory of writing, and of reading one neuron of, a posterior file of 2 GB.

    python tests/benchmarks/posterior_memory.py [--folder DIR] [--gigabytes 2] [--json]

Each figure comes from a process of its own. Random numbers stand for rates, so that compression saves little
and the variable takes about its size on disk. The file is deleted afterwards. Linux only (VmHWM).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BINS, NEURONS, BLOCK = 500, 250, 16  # 0.5 MB a trial
PER_TRIAL = ("costs", "nll_bound_vae", "nll_bound_iwae")
LIMIT_MB = 400  # promised for reading one neuron from 2 GB
ROOT = Path(__file__).resolve().parents[2]


def peak_mb() -> float:
    """Return the peak resident memory of this process in MB (10^6 bytes)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError("/proc/self/status has no VmHWM")


def imports() -> dict[str, Any]:
    """Import what reading and writing need, and no more."""
    import lfadsrm_hpc.results.posterior_means.loaders
    import lfadsrm_hpc.results.posterior_means.writing  # noqa: F401

    return {}


def write(path: Path, trials: int) -> dict[str, Any]:
    """Write a posterior file with rates of `trials` x BINS x NEURONS."""
    import numpy as np

    from lfadsrm_hpc.results.posterior_means.writing import PosteriorMeansWriter

    rng = np.random.default_rng(0)
    began = time.perf_counter()
    with PosteriorMeansWriter(
        path,
        dataset="large",
        time_ms=2.0 * np.arange(BINS),
        bin_ms=2.0,
        trial=np.arange(trials),
        split=["valid" if i % 5 == 0 else "train" for i in range(trials)],
        neuron_names=[f"unit{i}" for i in range(NEURONS)],
        sizes={"factor": 8},
        attributes={"run_id": "param_benchmark/large"},
    ) as writer:
        for start in range(0, trials, BLOCK):
            count = min(BLOCK, trials - start)
            shapes = {"rates": (count, BINS, NEURONS), "factors": (count, BINS, 8)}
            arrays = {name: rng.random(shape, dtype=np.float32) for name, shape in shapes.items()}
            arrays |= {name: np.zeros(count, np.float32) for name in PER_TRIAL}
            writer.write_block(start, arrays)
    return {"seconds": time.perf_counter() - began, "file_gb": path.stat().st_size / 1e9}


def read_neuron(path: Path) -> dict[str, Any]:
    """Read one neuron of all trials."""
    from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means

    began = time.perf_counter()
    with open_posterior_means(path) as means:
        rates = means.rates.sel(neuron=0).load()
        total = float(means.rates.nbytes)
    mean = float(rates.mean())  # of numbers uniform in 0..1 counts per bin of 2 ms
    if abs(mean - 250) > 6 * 144.4 / rates.size**0.5:
        raise SystemExit(f"the mean rate read back is {mean}, not 250 spikes/s")
    return {"seconds": time.perf_counter() - began, "rates_gb": total / 1e9}


def read_trial(path: Path) -> dict[str, Any]:
    """Read all neurons of one trial."""
    from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means

    began = time.perf_counter()
    with open_posterior_means(path) as means:
        means.rates.sel(trial=3).load()
    return {"seconds": time.perf_counter() - began}


def child(what: str, path: Path, trials: int) -> None:
    """Do one thing and print what it took."""
    if what == "write":
        figures = write(path, trials)
    else:
        figures = {"imports": lambda _: imports(), "neuron": read_neuron, "trial": read_trial}[what](path)
    print(json.dumps({**figures, "peak_mb": peak_mb()}))


def measure(path: Path, trials: int) -> dict[str, dict[str, Any]]:
    """Run every step in a process of its own."""
    from lfadsrm_hpc.command import ask

    results = {}
    for what in ("imports", "write", "neuron", "trial"):
        command = [sys.executable, __file__, "--child", what, "--file", str(path), "--trials", str(trials)]
        answer = ask(command, timeout_s=1800, cwd=ROOT)
        results[what] = json.loads(answer.stdout.splitlines()[-1])
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write the file (default: the temporary folder)")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the rates in GB (10^9 bytes)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if given.child:
        child(given.child, given.file, given.trials)
        return 0
    trials = max(1, round(given.gigabytes * 1e9 / (4 * BINS * NEURONS)))
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        results = measure(Path(folder) / "large.nc", trials)
    if given.json:
        print(json.dumps(results))
    else:
        show(results)
    return 0 if results["neuron"]["peak_mb"] < LIMIT_MB else 1


def show(results: dict[str, dict[str, Any]]) -> None:
    base = results["imports"]["peak_mb"]
    rates, on_disk = results["neuron"]["rates_gb"], results["write"]["file_gb"]
    print(f"rates {rates:.2f} GB, file on disk {on_disk:.2f} GB")
    print(f"{'':28}{'peak RSS':>12}{'above imports':>16}{'time':>10}")
    labels = {"imports": "imports alone", "write": "write the file", "neuron": "read one neuron",
              "trial": "read one trial"}  # fmt: skip
    for what, label in labels.items():
        peak = results[what]["peak_mb"]
        seconds = results[what].get("seconds")
        took = "" if seconds is None else f"{seconds:.2f} s"
        print(f"{label:28}{peak:9.0f} MB{peak - base:13.0f} MB{took:>10}")


if __name__ == "__main__":
    raise SystemExit(main())
