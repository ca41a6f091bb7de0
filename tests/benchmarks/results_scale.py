"""What loading costs: a table of 1,000 runs, trees of 100 and 2,000 runs, the memory of a stack.

    python tests/benchmarks/results_scale.py [--folder DIR] [--json] [--quick]

Each figure comes from a process of its own, Python's start and imports left out. Results are made of random
numbers, all other files are written by the package itself. Both the time by the clock and that of the
processor are shown: on a busy machine the second says more. Exit code 1: a limit was not kept. Linux only.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 500
# seconds by the clock, or MB; promised
LIMITS = {
    "table_1000_s": 3.0,
    "tree_100_s": 1.5,
    "stack_mb": 100.0,
    "averages_mb": 200.0,
}
RUNS_OF_STACK, TRIALS, BINS, NEURONS = 12, 200, 500, 200  # 80 MB of rates each


def peak_mb() -> float:
    """Return the peak resident memory of this process in MB (10^6 bytes)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError("/proc/self/status has no VmHWM")


def timed(work: Callable[[], Any], times: int = 3) -> tuple[dict[str, float], Any]:
    """Return the least seconds of a few times, by the clock and of the processor, and what came out last."""
    clock, processor, found = [], [], None
    for _ in range(times):
        began = time.perf_counter(), time.process_time()
        found = work()
        clock.append(time.perf_counter() - began[0])
        processor.append(time.process_time() - began[1])
    return {"s": min(clock), "cpu_s": min(processor)}, found


# ---------------------------------------------------------------- making runs


def made_up(folder: Path, n_params: int, specs: Sequence[str], *, means: bool, epochs: int) -> Any:
    """Prepare and complete a collection of these run specs x params."""
    import fabricated

    from lfadsrm_hpc.collection.params import RunParams

    seeds = range(-(-n_params // 10))
    params = RunParams(**fabricated.BASE).generate_sweep("factors_dim", range(2, 12), "seed", seeds)
    rc = fabricated.collection(folder, params[:n_params], specs={spec: ["day1"] for spec in specs})
    costs = [5000 * 0.999**epoch for epoch in range(epochs)]
    scores = {"co_bps": 0.2, "bits_per_spike": 0.3, "psth_r2": 0.5}
    for run in rc.runs:
        fabricated.complete(run, valid_costs=costs, means=means, metrics=scores, verdict="good")
    return rc


def make_table(folder: Path, quick: bool) -> None:
    made_up(folder, 20 if quick else 100, [f"spec{k}" for k in range(10)], means=False, epochs=EPOCHS)


def make_tree(folder: Path, quick: bool) -> None:
    made_up(folder, 20 if quick else 100, ["single_day1"], means=True, epochs=3)


def make_many(folder: Path, quick: bool) -> None:
    made_up(folder, 10 if quick else 100, [f"spec{k}" for k in range(20)], means=True, epochs=3)


def make_stack(folder: Path, quick: bool) -> None:
    """Write the runs of a sweep, each with large rates."""
    import numpy as np

    from lfadsrm_hpc.results.posterior_means.writing import PosteriorMeansWriter

    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(3 if quick else RUNS_OF_STACK):
        with PosteriorMeansWriter(
            folder / f"{number}.nc", dataset="day1", time_ms=2.0 * np.arange(BINS), bin_ms=2.0,
            trial=np.arange(TRIALS), split=["valid" if k % 5 == 0 else "train" for k in range(TRIALS)],
            condition=np.arange(TRIALS) % 8, neuron_names=[f"unit{k}" for k in range(NEURONS)],
            sizes={"factor": 8}, attributes={},
        ) as writer:  # fmt: skip
            for start in range(0, TRIALS, 20):
                arrays = {
                    "rates": rng.random((20, BINS, NEURONS), dtype=np.float32),
                    "factors": rng.random((20, BINS, 8), dtype=np.float32),
                    **{
                        name: np.zeros(20, np.float32)
                        for name in ("costs", "nll_bound_vae", "nll_bound_iwae")
                    },
                }
                writer.write_block(start, arrays)


# ---------------------------------------------------------------- measuring, each in a process of its own


def opened(folder: Path) -> Any:
    from lfadsrm_hpc.api import RunCollection

    return RunCollection.open(folder / "runs" / "made_up")


def table(folder: Path) -> dict[str, Any]:
    """Open the collection and make the table, without a netCDF file."""
    import pandas  # noqa: F401 - not what is measured

    took, found = timed(lambda: opened(folder).runs_table())
    heavy = sorted({"netCDF4", "h5py", "xarray"} & set(sys.modules))
    if heavy:
        raise SystemExit(f"the table needs {heavy}")
    whole, _ = timed(lambda: opened(folder).summary())
    return {"runs": len(found), "epochs": int(found.epochs.iloc[0]), **took, "summary_s": whole["s"]}


def tree(folder: Path) -> dict[str, Any]:
    """Open all runs as a tree; for comparison the same files with xarray's own backend."""
    import xarray as xr

    rc = opened(folder)
    files = [path for run in rc.runs for path in run.posterior_files().values()]

    def plain() -> None:
        for one in [xr.open_dataset(path, engine="netcdf4", decode_times=False) for path in files]:
            one.close()

    theirs, _ = timed(plain)
    ours, found = timed(lambda: opened(folder).load_posterior_means())
    return {"files": len(files), **ours, "xarray_s": theirs["s"], "xarray_cpu_s": theirs["cpu_s"],
            "nodes": len(list(found.subtree))}  # fmt: skip


def many(folder: Path) -> dict[str, Any]:
    """Open thousands of runs with few file descriptors, and read from each of them."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    rc = opened(folder)
    took, found = timed(rc.load_posterior_means, times=1)
    leaves = [node for node in found.subtree if "rates" in node.data_vars]
    reading, _ = timed(lambda: [node.ds.rates.sel(neuron=0).to_numpy() for node in leaves], times=1)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return {"files": len(leaves), **took, "reading_s": reading["s"], "descriptors": descriptors}


def stack(folder: Path) -> dict[str, Any]:
    """Read one neuron of all runs from a stack."""
    from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means
    from lfadsrm_hpc.results.posterior_means.stacking import Member
    from lfadsrm_hpc.results.posterior_means.stacking import stack as stacked

    files = sorted(folder.glob("*.nc"))
    members = [Member(p.stem, {"seed": k}, open_posterior_means(p, cache=False)) for k, p in enumerate(files)]
    before = peak_mb()
    means = stacked(members, ["seed"]).means
    took, one = timed(lambda: means.rates.sel(neuron=0).load(), times=1)
    return {"gb": means.rates.nbytes / 1e9, "selected_mb": one.nbytes / 1e6, **took, "mb": peak_mb() - before}


def averages(folder: Path) -> dict[str, Any]:
    """Average one run by condition."""
    from lfadsrm_hpc.results.averages import condition_averages
    from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means

    means = open_posterior_means(folder / "0.nc", cache=False)
    before = peak_mb()
    took, found = timed(lambda: condition_averages(means, "rates"), times=1)
    return {"rates_mb": means.rates.nbytes / 1e6, "averages_mb": found.nbytes / 1e6, **took,
            "mb": peak_mb() - before}  # fmt: skip


MAKERS = {"table": make_table, "tree": make_tree, "many": make_many, "stack": make_stack}
STEPS = {"table": table, "tree": tree, "many": many, "stack": stack, "averages": averages}


def measure(folder: Path, quick: bool) -> dict[str, dict[str, Any]]:
    from lfadsrm_hpc.command import ask

    results = {}
    for what in STEPS:
        place = folder / ("stack" if what == "averages" else what)
        if what in MAKERS:
            MAKERS[what](place, quick)
        answer = ask(
            [sys.executable, __file__, "--child", what, "--folder", str(place)], timeout_s=1800, cwd=ROOT
        )
        results[what] = json.loads(answer.stdout.splitlines()[-1])
    return results


def kept(results: dict[str, dict[str, Any]]) -> dict[str, bool]:
    found = {
        "table_1000_s": results["table"]["s"],
        "tree_100_s": results["tree"]["s"],
        "stack_mb": results["stack"]["mb"],
        "averages_mb": results["averages"]["mb"],
    }
    return {name: value < LIMITS[name] for name, value in found.items()}


def show(results: dict[str, dict[str, Any]]) -> None:
    t, tr, m, st, a = (results[what] for what in STEPS)
    print(
        f"{t['runs']} runs, logs of {t['epochs']} epochs: opened, and made a table of, in {t['s']:.2f} s "
        f"({t['cpu_s']:.2f} s of the processor), limit {LIMITS['table_1000_s']:g} s"
    )
    print(
        f"tree of {tr['files']} runs: {tr['s']:.2f} s ({tr['cpu_s']:.2f} s of the processor), collection "
        f"opened, runs checked; limit {LIMITS['tree_100_s']:g} s. xarray's own opening of the files alone: "
        f"{tr['xarray_s']:.2f} s ({tr['xarray_cpu_s']:.2f} s)"
    )
    print(
        f"tree of {m['files']} runs, at most 64 file descriptors: {m['s']:.2f} s ({m['cpu_s']:.2f} s); one "
        f"neuron of each read in {m['reading_s']:.2f} s; {m['descriptors']} descriptors open at the end"
    )
    print(
        f"stack of {st['gb']:.2f} GB of rates: sel(neuron=0) is {st['selected_mb']:.1f} MB, takes "
        f"{st['mb']:.0f} MB of memory and {st['s']:.2f} s; limit {LIMITS['stack_mb']:g} MB"
    )
    print(f"condition averages of {a['rates_mb']:.0f} MB of rates: {a['averages_mb']:.1f} MB, takes "
          f"{a['mb']:.0f} MB of memory and {a['s']:.2f} s; limit {LIMITS['averages_mb']:g} MB")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write (default: the temporary folder)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs, to see that it works")
    parser.add_argument("--child", choices=list(STEPS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "results")]
    if given.child:
        print(json.dumps(STEPS[given.child](given.folder)))
        return 0
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        results = measure(Path(folder), given.quick)
    if given.json:
        print(json.dumps({**results, "kept": kept(results)}))
    else:
        show(results)
    return 0 if all(kept(results).values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
