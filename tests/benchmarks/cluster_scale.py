"""Time `lfadsrm status` and `lfadsrm plan` on collections of 10,000 runs, and count files.

    python tests/benchmarks/cluster_scale.py [--runs 10000] [--folder DIR] [--keep] [--json]

Two shapes: 10,000 params x 1 run spec, and 100 params x 100 run specs. Half of the runs are complete, many
wait in the queue of a scheduler, some run, have failed in all the ways there are, or were never started
(`scale_collection.MIX`). Each command is a process of its own, Python's start included; the least and the
median of several are given, the least processor time (on a busy machine it says more), and the least time
beside that of a bare walk over the folders of all attempts.

The scheduler is a `squeue` that prints prepared rows: what Slurm itself takes to answer comes on top.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SITE = "generic-slurm"
SHAPES = {"10,000 params x 1 run spec": (1, 1.0), "100 params x 100 run specs": (100, 0.01)}
LIMITS_S = {"status, no cache": 1.0, "status": 0.4, "status --rescan": 10.0, "plan": 10.0}
WALK = """
import os, sys
for params in os.scandir(sys.argv[1]):
    if params.name.startswith("param_"):
        for run in os.scandir(params.path):
            try:
                for attempt in os.scandir(run.path + "/attempts"):
                    for file in os.scandir(attempt.path):
                        pass
            except OSError:
                pass
"""


class Timer:
    """Runs commands as processes, in an environment with the prepared scheduler."""

    def __init__(self, repeat: int, tools: Path) -> None:
        self.repeat = repeat
        foreign = ("LFADSRM_", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.environment = {
            **kept,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONPYCACHEPREFIX": str(tools / "compiled"),  # compiled, as an installed package is
        }

    def __call__(self, *words: object, before: Callable[[], None] = lambda: None) -> dict[str, float]:
        times, work = [], []
        for number in range(self.repeat + 1):
            before()
            began, cpu = time.perf_counter(), cpu_s()
            done = subprocess.run(
                [str(word) for word in words], env=self.environment, capture_output=True, check=False
            )
            if number:  # the first one fills caches
                times.append(time.perf_counter() - began)
                work.append(cpu_s() - cpu)
            if done.returncode:
                raise SystemExit(f"{words}: {done.returncode}\n{done.stderr.decode()}")
        return {
            "least_s": round(min(times), 3),
            "median_s": round(statistics.median(times), 3),
            "cpu_s": round(min(work), 3),
            "printed_bytes": len(done.stdout),
        }


def cpu_s() -> float:
    """Return the processor time of all processes that have ended, in s."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def ranges(indices: list[int]) -> str:
    """Write indices as Slurm does: 3,7-41."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and index == parts[-1][1] + 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def write_tools(folder: Path, built: Any, submitted: float) -> None:
    """Write a squeue and a sacct that know the live tasks, and nothing of those that ended."""
    from lfadsrm_hpc.schedulers.slurm.parsing import QUEUE_FIELDS

    folder.mkdir(exist_ok=True)
    names = "ARRAY_JOB_ID|ARRAY_TASK_ID|STATE|NODELIST|END_TIME|SUBMIT_TIME|REASON|NAME"
    assert len(names.split("|")) == len(QUEUE_FIELDS)
    rows = [names]
    for job, tasks in built.jobs.items():
        end = f"N/A|{submitted:.0f}"
        waiting = ranges([index for index, word, _ in tasks if word == "PENDING"])
        if waiting:  # Slurm names them all in one row
            rows.append(f"{job}|{waiting}%200|PENDING||{end}|Priority|{built.names[job]}")
        for index, word, host in tasks:
            if word == "RUNNING":
                rows.append(f"{job}|{index}|{word}|{host}|{end}|None|{built.names[job]}")
    (folder / "rows").write_text("".join(f"lf{{{row}}}lf\n" for row in rows))
    head = "JobID|State|ExitCode|Submit|Start|End|NodeList|Comment|JobName|"
    for name, line in (("squeue", f"cat '{folder}/rows'"), ("sacct", f"echo '{head}'")):
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)


def without_caches(collection: Path) -> None:
    """Delete every index and roster."""
    for pattern in ("index-*.json", "roster-*.json"):
        for path in (collection / ".lfadsrm").glob(pattern):
            path.unlink()


def measure(folder: Path, n_specs: int, n_params: int, repeat: int) -> dict[str, Any]:
    """Build one collection (or take it as it lies there), and time what can be done with it."""
    from scale_collection import Built, count_files, live_through, prepare

    from lfadsrm_hpc.schedulers.sites.loading import load_site, to_settings

    lfadsrm = [sys.executable, "-m", "lfadsrm_hpc"]
    tools, notes = folder / "tools", folder / "built.json"
    timer = Timer(repeat, tools)
    found: dict[str, Any] = {}
    if not notes.exists():
        collection = prepare(folder, n_specs, n_params)
        write_tools(tools, Built(folder), 0)
        words = ["--site", SITE, "--walltime", "4:00:00", "--partition", "gpu"]
        plan = Timer(1, tools)(*lfadsrm, "plan", collection.path, *words)
        built = live_through(collection, settings=to_settings(load_site(SITE).site), site=SITE)
        content = {**vars(built), "path": str(built.path)}
        notes.write_text(json.dumps({"built": content, "plan": plan, "at": time.time()}))
    content = json.loads(notes.read_text())
    found["plan"] = content["plan"]
    built = Built(**content["built"])
    built.path = Path(built.path)
    write_tools(tools, built, content["at"])
    path = built.path
    found["python -c pass"] = timer(sys.executable, "-c", "pass")
    found["bare walk"] = timer(sys.executable, "-c", WALK, path)
    cases: dict[str, tuple[list[str], Callable[[], None]]] = {
        "status, no cache": ([], lambda: without_caches(path)),
        "status": ([], lambda: None),
        "status --all": (["--all"], lambda: None),
        "status --json": (["--json"], lambda: None),
        "status --match keep_prob=0.95": (["--match", "keep_prob=0.95"], lambda: None),
        "status --rescan": (["--rescan"], lambda: None),
    }
    for name, (words, before) in cases.items():
        built.beat()
        found[name] = timer(*lfadsrm, "status", path, *words, before=before)
    counts = json.loads(
        subprocess.run(
            [*lfadsrm, "status", path, "--json"], env=timer.environment, capture_output=True, check=True
        ).stdout
    )["counts"]
    found["counts"] = counts
    found["files"] = {
        "of all runs": count_files(path, lambda file: "attempts" in file.parts),
        "runs with attempts": sum(counts.values()) - counts.get("PREPARED", 0),
        "of all submissions": count_files(path / ".lfadsrm" / "submissions"),
        "submissions": len(list((path / ".lfadsrm" / "submissions").iterdir())),
        "in the outbox": count_files(path / ".lfadsrm" / "outbox"),
    }
    return found


def outbox_listing(folder: Path, names: int = 20_000) -> float:
    """Return how long it takes to list an outbox of so many names and to sort them by run, in s."""
    import hashlib

    from lfadsrm_hpc.manifest.disk import listed

    folder.mkdir()
    for number in range(names):
        key = hashlib.sha256(str(number).encode()).hexdigest()[:16]
        (folder / f"{key}.001.r0.COMPLETED.0").touch()
    times = []
    for _ in range(5):
        began = time.perf_counter()
        by_key: dict[str, list[str]] = {}
        for name in listed(str(folder)):
            by_key.setdefault(name.partition(".")[0], []).append(name)
        times.append(time.perf_counter() - began)
    assert len(by_key) == names
    return min(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to build (a folder on the disk to be measured)")
    parser.add_argument("--keep", action="store_true", help="leave it there, or take what lies there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
    found: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        base = options.folder
        if base is not None:
            base.mkdir(parents=True, exist_ok=True)
        if not options.keep or base is None:
            base = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=base)))
        for name, (n_specs, share) in SHAPES.items():
            place = base / f"{n_specs}_specs"
            place.mkdir(parents=True, exist_ok=True)
            found[name] = measure(place, n_specs, max(10, round(options.runs * share)), options.repeat)
        with tempfile.TemporaryDirectory(dir=base) as folder:
            listing_s = outbox_listing(Path(folder) / "outbox")
    within = all(case[name]["least_s"] < limit for case in found.values() for name, limit in LIMITS_S.items())
    if options.json:
        print(
            json.dumps({"shapes": found, "outbox_listing_s": round(listing_s, 4), "within": within}, indent=1)
        )
        return 0 if within else 1
    for shape, case in found.items():
        print(f"{shape}: {case['counts']}")
        for name, times in case.items():
            if "least_s" in times:
                ratio = times["least_s"] / case["bare walk"]["least_s"]
                limit = f"   limit {LIMITS_S[name]:g} s" if name in LIMITS_S else ""
                print(
                    f"  {name:32} {times['least_s']:7.3f} s  median {times['median_s']:7.3f} s"
                    f"  processor {times['cpu_s']:7.3f} s  {ratio:6.2f} bare walks{limit}"
                )
        print("  files: " + ", ".join(f"{count} {what}" for what, count in case["files"].items()))
    print(f"listing an outbox of 20,000 names: {1000 * listing_s:.1f} ms")
    print("within the limits" if within else "OVER a limit")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
