"""Make the transcript of docs/clusters.md: a sweep on a private Slurm where much goes wrong.

    python tests/slurm/transcript.py > transcript.txt

Each line after a `$` is a command that was run, and below it is all that it printed. It takes two minutes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SITE = """\
schema = 1
extends = "generic-slurm"

[site]
name = "lab"
description = "two nodes with two GPUs each"

[partitions.gpu]
gpus_per_node = 2
cpus_per_gpu = 1
memory_per_gpu = "1G"
max_walltime = "1h"

[request]
partition = "gpu"
gpus = 1

[stopping]
warning = "20s"
requeue = false

[filesystem]
latency_s = 5
"""
EXPERIMENT = """\
[collection]
name = "sweep"

[params]
spike_bin_ms = 10
co_dim = 0
batch_size = 16
ic_enc_dim = 8
gen_dim = 8
ic_dim = 8
num_samples_posterior = 16
kl_increase_steps = 10
l2_increase_steps = 10
learning_rate_stop = 1e-9
max_epochs = EPOCHS
use_xla = "off"

[sweep]
factors_dim = [2, 3, 4]

[run_specs]
stitched = "all"

[cluster]
site = "lab"
walltime = "1m"
"""


def load_cluster() -> type:
    spec = importlib.util.spec_from_file_location("slurm_cluster", Path(__file__).with_name("cluster.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["slurm_cluster"] = module
    spec.loader.exec_module(module)
    cluster: type = module.SlurmCluster
    return cluster


class Transcript:
    """A shell whose commands and output are printed."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder, self.env = folder, env | {"COLUMNS": "110", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.env["PATH"] = f"{Path(sys.executable).parent}:{self.env['PATH']}"

    def note(self, text: str) -> None:
        print(f"\n# {text}", flush=True)

    def run(self, command: str, *, quiet: bool = False) -> str:
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=self.env, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        out = done.stdout.replace(str(self.folder), "/home/ada").rstrip()
        out = "\n".join(line.rstrip() for line in out.splitlines())
        if not quiet:
            print(f"$ {command}\n{out}" + (f"\n(exit code {done.returncode})" if done.returncode else ""))
            sys.stdout.flush()
        return out

    def until(self, true: Callable[[str], object], seconds: float = 240) -> None:
        """Look at the states until something is so."""
        end = time.monotonic() + seconds
        while not true(self.run("lfadsrm status sweep", quiet=True)):
            if time.monotonic() > end:
                raise SystemExit(f"waited in vain:\n{self.run('lfadsrm status sweep', quiet=True)}")
            time.sleep(1)


def kill_node(cluster: Any, node: str) -> None:
    """Let a node die: its slurmd, its step daemons and what they started."""
    cluster.kill_node(node)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "exe").readlink().name.startswith("slurmstepd"):
                files = [str(file.readlink()) for file in (process / "fd").iterdir()]
                ours = any(name.startswith(f"{cluster.folder}/") and node in name for name in files)
            else:
                variables = (process / "environ").read_bytes().split(b"\0")
                mine = f"SLURM_CONF={cluster.conf}".encode(), f"SLURMD_NODENAME={node}".encode()
                ours = all(mark in variables for mark in mine)
            if ours:
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue


def make_experiment(folder: Path, epochs: int) -> None:
    datasets = folder / "sweep/datasets"
    datasets.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        spikes = np.random.default_rng(number).poisson(0.5, (40, 20, 5 + number))
        np.savez(datasets / f"day{number + 1}.npz", spikes=spikes, bin_ms=10.0, condition=np.arange(40) % 4)
    (folder / "sweep/site_configs").mkdir(exist_ok=True)
    (folder / "sweep/site_configs/lab.toml").write_text(SITE)
    (folder / "sweep/experiment.toml").write_text(EXPERIMENT.replace("EPOCHS", str(epochs)))


def main() -> None:
    with tempfile.TemporaryDirectory() as name, load_cluster()(nodes=2, slurmd_timeout=5) as cluster:
        folder = Path(name)
        env = dict(os.environ) | cluster.env
        shell = Transcript(folder, env)
        make_experiment(folder, 100)
        shell.run("lfadsrm prepare sweep", quiet=True)
        timing = json.loads(shell.run("lfadsrm time sweep --seconds 5 --json 2>/dev/null", quiet=True))
        shutil.rmtree(folder / "sweep")
        # Stitched runs, with two tasks a core, become too long for a walltime of one minute.
        make_experiment(folder, round(45 / timing["timing"]["seconds_per_epoch"]))

        shell.run("lfadsrm prepare sweep")
        shell.run("lfadsrm time sweep --seconds 5 2>/dev/null")
        shell.run("lfadsrm plan sweep")
        shell.run("lfadsrm submit sweep --max-parallel 4")
        shell.until(lambda out: len(re.findall(r" running ", out)) >= 3)
        shell.run("lfadsrm status sweep")
        shell.run("lfadsrm cancel sweep --spec single_day3 --match factors_dim=2")
        shell.run("lfadsrm cancel sweep --spec single_day3 --match factors_dim=3")
        shell.note("now a node dies")
        kill_node(cluster, "n1")
        shell.until(lambda out: "node fail" in out.replace("_", " "))
        shell.run("lfadsrm status sweep")
        shell.note("the node comes back, and the rest goes on: the stitched runs are too long for one minute")
        cluster.start_node("n1")
        shell.until(lambda out: not re.search(r" (running|pending|submitted|held|requeued) ", out))
        shell.run("lfadsrm status sweep")
        shell.run("lfadsrm plan sweep --retry --walltime 5m")
        shell.run("lfadsrm retry sweep --walltime 5m")
        shell.note("cancelled runs come back only when they are asked for")
        shell.run("lfadsrm submit sweep --state CANCELLED --walltime 5m")
        shell.until(lambda out: not re.search(r" (running|pending|submitted|held|requeued) ", out))
        shell.run("lfadsrm status sweep")


if __name__ == "__main__":
    main()
