"""How long an export of large posterior means takes, and how much memory: it must not grow with the trials.

    python tests/benchmarks/export_memory.py                 # 400 and 1200 trials
    python tests/benchmarks/export_memory.py --trials 4000

Runs are made up, of 100 bins and 100 neurons, with standard deviations. Each export is a process of its own:
to one file, and to the layout of the Matlab run manager. There the counts of a dataset go into a file of
Matlab, which is written at once: two bytes a count.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "results"))

BINS, NEURONS = 100, 100
LAYOUTS = ("netcdf", "run-manager")


def make(folder: Path, trials: int) -> None:
    """Write a collection of one complete run."""
    import fabricated

    fabricated.BINS = BINS
    rc = fabricated.collection(folder, trials=trials, neurons=(NEURONS,))
    fabricated.complete(rc.runs[0])


def export(folder: Path, layout: str) -> None:
    """Export the run, and print the memory that it took (MB), seconds, and the size of what was written."""
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.results import one_file  # noqa: F401 - what is imported does not count
    from lfadsrm_hpc.results.legacy import exporting  # noqa: F401

    rc = RunCollection.open(folder / "runs" / "made_up")
    rc.runs[0].load_posterior_means()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = rc.export(folder / f"out-{layout}", layout=layout)  # type: ignore[arg-type]
    seconds = time.perf_counter() - start
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    files = [path] if path.is_file() else [one for one in path.rglob("*") if not one.is_symlink()]
    size = sum(one.stat().st_size for one in files if one.is_file()) / 1e6
    print(f"{taken:.0f} {seconds:.1f} {size:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="*", default=[400, 1200])
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        what, value = args.step
        if what == "make":
            make(args.folder, int(value))
        else:
            export(args.folder, value)
        return
    print("trials  layout       rates MB  memory MB  seconds  written MB")
    for trials in args.trials:
        with tempfile.TemporaryDirectory() as folder:
            steps = [["make", str(trials)], *(["export", layout] for layout in LAYOUTS)]
            for step in steps:
                command = [sys.executable, __file__, "--folder", folder, "--step", *step]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                if step[0] == "export":
                    taken, seconds, size = said[-3:]
                    rates = trials * BINS * NEURONS * 4 / 1e6
                    print(f"{trials:6}  {step[1]:11}  {rates:8.0f}  {taken:>9}  {seconds:>7}  {size:>10}")


if __name__ == "__main__":
    main()
