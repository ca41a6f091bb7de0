"""How long the light commands take, by the real program, beside the start of a Python that imports click.

    python tests/benchmarks/command_line.py [--repeats 15] [--check]

Processes of all commands take turns. Ratios compare the seconds of processors (medians), which other work on
the machine hardly changes. `--check` ends with 1 where a promise is not kept: `lfadsrm --help` under 2.5
times `python -c "import click"`, `status` of a small collection under 0.5 s (in the quickest of the turns).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
HELP_TIMES, STATUS_S = 2.5, 0.5
BASE = "python -c 'import click'"
LFADSRM = [sys.executable, "-m", "lfadsrm_hpc"]
ONE = ["single_day1", "--match", "factors_dim=4", "--match", "seed=0"]
COMMANDS = {
    "lfadsrm --help": ["--help"],
    "lfadsrm status": ["status"],
    "lfadsrm status --json": ["status", "--json"],
    "lfadsrm show": ["show"],
    "lfadsrm show --run": ["show", "--run", *ONE],
    "lfadsrm show --params": ["show", "--params"],
    "lfadsrm logs RUN": ["logs", *ONE],
    "lfadsrm why RUN": ["why", *ONE],
    "lfadsrm peek RUN": ["peek", *ONE],
    "lfadsrm site list": ["site", "list"],
    "lfadsrm metrics --stored": ["metrics", "--stored"],
}
TABBED = {
    "<TAB> behind lfadsrm": "lfadsrm ",
    "<TAB> behind lfadsrm logs": "lfadsrm logs ",
}
EXPERIMENT = """
[collection]
name = "small"
[params]
spike_bin_ms = 10
batch_size = 8
co_dim = 0
[sweep]
factors_dim = [4, 8]
seed = [0, 1]
[run_specs]
stitched = "all"
"""


def make(folder: Path) -> Path:
    """Prepare 3 run specs x 4 params, and let the runs of one spec be complete."""
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.experiment_file import read_experiment
    from lfadsrm_hpc.manifest import store
    from lfadsrm_hpc.manifest.records import Claim, Exit, Identity

    (folder / "datasets").mkdir()
    for number, name in enumerate(("day1", "day2")):
        spikes = np.random.default_rng(number).poisson(0.5, (40, 20, 5 + number))
        np.savez(folder / f"datasets/{name}.npz", spikes=spikes, bin_ms=10.0, condition=np.arange(40) % 4)
    (folder / "experiment.toml").write_text(EXPERIMENT)
    collection = read_experiment(folder).build(RunCollection)
    collection.prepare_for_lfads(warn=False)
    for run in collection.find_runs("single_day1"):
        claim = store.take_local(run.layout, Identity.local("", "0"))
        assert isinstance(claim, Claim)
        run.layout.attempt(1).log.write_text("epoch 1\nepoch 2\n")
        store.publish_exit(run.layout, claim, Exit(0, "done"))
    return folder


class Took(NamedTuple):
    """Seconds that passed, and seconds that processors worked."""

    wall: float
    cpu: float


def took(words: list[str], place: Path, environment: dict[str, str]) -> Took:
    """Start a program, wait for it, and tell what it took."""
    began = time.perf_counter()
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(words, cwd=place, env=environment, stdin=quiet, stdout=quiet, stderr=quiet)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{words} failed"
    return Took(time.perf_counter() - began, used.ru_utime + used.ru_stime)


def measure(place: Path, repeats: int) -> dict[str, list[Took]]:
    """Return what each command took in each turn; commands that this version lacks are left out."""
    from lfadsrm_hpc.cli.main import _COMMANDS

    known = {"--help", *_COMMANDS}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LFADSRM_")}
    environment["PYTHONPATH"] = str(ROOT)
    calls = {BASE: ([sys.executable, "-c", "import click"], environment)}
    calls |= {
        name: ([*LFADSRM, *words], environment) for name, words in COMMANDS.items() if words[0] in known
    }
    for name, line in TABBED.items():
        count = str(line.count(" "))
        asked = {"_LFADSRM_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": count}
        calls[name] = (LFADSRM, environment | asked)
    for words, each in calls.values():  # also fills the caches of files
        took(words, place, each)
    found: dict[str, list[Took]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, (words, each) in calls.items():
            found[name].append(took(words, place, each))
    return found


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(make(Path(scratch)), options.repeats)
    least = {name: min(each.wall for each in times) for name, times in found.items()}
    cpu = {name: statistics.median(each.cpu for each in times) for name, times in found.items()}
    print(f"{'':26}  least, s  median, s  processor, s  times {BASE}")
    for name, times in found.items():
        middle = statistics.median(each.wall for each in times)
        ratio = cpu[name] / cpu[BASE]
        print(f"{name:26}  {least[name]:8.3f}  {middle:9.3f}  {cpu[name]:12.3f}  {ratio:6.2f}")
    kept = cpu["lfadsrm --help"] < HELP_TIMES * cpu[BASE] and least["lfadsrm status"] < STATUS_S
    return 0 if kept or not options.check else 1


if __name__ == "__main__":
    sys.exit(main())
