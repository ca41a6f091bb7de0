"""Time to prepare 200 runs, beside the time of writing one small JSON file to disk.

    python tests/benchmarks/prepare_200_runs.py [--folder DIR] [--json]

Two collections: one dataset x 200 params, and 4 run specs (3 single, 1 stitched) x 50 params with 5 numbers
of factors, so 5 sets of stitched inputs. Datasets are Lorenz sessions of the usual size. The bare write is
what the disk allows: create, write, fsync and rename a file of the size of `params.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 20.0  # promised for 200 runs


def bare_write_s(folder: Path, size: int, n: int = 50) -> float:
    """Return the median time of publishing one small file, in s."""
    times = []
    for i in range(n):
        began = time.perf_counter()
        beside = folder / f"{i}.tmp"
        with beside.open("wb") as file:
            file.write(b"x" * size)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(folder / f"{i}.json")
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def prepare(folder: Path, name: str, n_sessions: int, n_params: int) -> dict[str, Any]:
    """Build and prepare a collection; return how long it took and what it wrote."""
    from lfadsrm_hpc.collection.collection import RunCollection
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.collection.run_spec import RunSpec
    from lfadsrm_hpc.data.dataset import Dataset
    from lfadsrm_hpc.data.dataset_collection import DatasetCollection
    from lfadsrm_hpc.data.readers import save_dataset
    from lfadsrm_hpc.data.synthetic import lorenz_sessions

    source = folder / f"{name}_datasets"
    source.mkdir()
    for i, session in enumerate(lorenz_sessions(n_sessions, seed=0)):
        save_dataset(session, source / f"dataset{i + 1:03d}.h5")

    began, cpu_began = time.perf_counter(), time.process_time()
    dc = DatasetCollection(source)
    for path in sorted(source.iterdir()):
        Dataset(dc, path.name)
    rc = RunCollection(folder / "runs", name, dc)
    par = RunParams(spike_bin_ms=10, co_dim=0, batch_size=128)
    rc.add_params(par.generate_sweep("factors_dim", [2, 4, 6, 8, 10], "seed", range(n_params // 5)))
    rc.add_run_spec([RunSpec(ds.single_run_name, dc, [ds.name]) for ds in dc])
    if n_sessions > 1:
        rc.add_run_spec(RunSpec("all", dc, range(n_sessions)))
    report = rc.prepare_for_lfads(warn=False)
    first, cpu = time.perf_counter() - began, time.process_time() - cpu_began

    began = time.perf_counter()
    opened = RunCollection.open(rc.path)
    opening = time.perf_counter() - began
    began = time.perf_counter()
    rc.prepare_for_lfads(warn=False)
    again = time.perf_counter() - began
    size = rc.runs[0].layout.params_json.stat().st_size
    return {
        "runs": len(opened.runs),
        "input_files": len(report.inputs_written),
        "prepare_s": round(first, 3),
        "prepare_cpu_s": round(cpu, 3),
        "prepare_again_s": round(again, 3),
        "open_s": round(opening, 4),
        "params_json_bytes": size,
    }


def measure(folder: Path) -> dict[str, Any]:
    """Return all figures."""
    cases = {
        "1 dataset x 200 params": prepare(folder, "single", 1, 200),
        "4 run specs x 50 params": prepare(folder, "specs", 3, 50),
    }
    size = cases["1 dataset x 200 params"]["params_json_bytes"]
    bare = bare_write_s(folder, size)
    for case in cases.values():
        case["bare_writes_per_run"] = round(case["prepare_s"] / case["runs"] / bare, 1)
    slowest = max(case["prepare_s"] for case in cases.values())
    return {
        "seconds": slowest,
        "limit_s": LIMIT_S,
        "within_limit": slowest < LIMIT_S,
        "bare_write_s": round(bare, 6),
        "ratio": max(case["bare_writes_per_run"] for case in cases.values()),
        "cases": cases,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where to write (a folder on the disk to be measured)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = measure(Path(folder))
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        for name, case in found["cases"].items():
            print(f"{name}: {case['runs']} runs and {case['input_files']} input files")
            print(f"  in {case['prepare_s']:.2f} s ({case['prepare_cpu_s']:.2f} s of processors)")
            print(f"  once more: {case['prepare_again_s']:.2f} s; opened: {case['open_s']:.3f} s")
            print(f"  a run takes as long as {case['bare_writes_per_run']:g} bare writes")
        print(f"a bare write and fsync of params.json: {1000 * found['bare_write_s']:.2f} ms")
        print(f"{'within' if found['within_limit'] else 'OVER'} the limit of {LIMIT_S:g} s")
    return 0 if found["within_limit"] else 1


if __name__ == "__main__":
    sys.exit(main())
