"""How long metrics of large posterior means take, and how much memory: it must not grow with the trials.

    python tests/benchmarks/metrics_memory.py                       # 500 and 2000 trials
    python tests/benchmarks/metrics_memory.py --trials 4000 --neurons 300

Files are made up: spikes, true rates, conditions, and posterior means that are near the truth. Each size is
scored in a process of its own, from inputs and posterior means that stay on disk.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

BIN_MS, CONDITIONS, BLOCK = 10.0, 16, 100


def make(folder: Path, trials: int, bins: int, neurons: int) -> None:
    """Write inputs and posterior means, some trials at a time."""
    from lfadsrm_hpc.data.inputs import FORMAT
    from lfadsrm_hpc.results.posterior_means.writing import PosteriorMeansWriter

    rng = np.random.default_rng(0)
    waves = np.sin(np.arange(bins)[:, None] / 8 + rng.uniform(0, 6, (CONDITIONS, 1, 2)))
    table = 10 * np.exp(waves @ rng.normal(0, 0.5, (2, neurons)))
    condition = np.arange(trials) % CONDITIONS
    valid = np.arange(trials) % 5 == 2
    with h5py.File(folder / "inputs.h5", "w") as file:
        shape = (bins, neurons)
        for part, own in (("train", ~valid), ("valid", valid)):
            count = int(own.sum())
            chunks = (max(1, 2**18 // (bins * neurons)), *shape)
            more: dict[str, Any] = {"chunks": chunks, "compression": "gzip", "compression_opts": 1}
            data = file.create_dataset(f"{part}_data", (count, *shape), "i8", **more)
            truth = file.create_dataset(f"{part}_truth", (count, *shape), "f4", **more)
            for start in range(0, count, BLOCK):
                rates = table[condition[own][start : start + BLOCK]]
                data[start : start + BLOCK] = rng.poisson(rates * BIN_MS / 1000)
                truth[start : start + BLOCK] = rates
            inds = file.create_dataset(f"{part}_inds", data=np.flatnonzero(own) + 1.0)
            inds.attrs["index_base"] = 1
            file.create_dataset(f"{part}_condition", data=condition[own])
        file.create_dataset("time_ms", data=BIN_MS * np.arange(bins))
        names = np.array([f"n{i}" for i in range(neurons)], dtype=object)
        file.create_dataset("neuron_names", data=names, dtype=h5py.string_dtype())
        file.attrs.update(format=FORMAT, dataset="large", bin_ms=BIN_MS, fingerprint="x", attributes="{}")
    zeros = np.zeros
    with PosteriorMeansWriter(
        folder / "means.nc",
        dataset="large",
        time_ms=BIN_MS * np.arange(bins),
        bin_ms=BIN_MS,
        trial=np.arange(trials),
        split=["valid" if one else "train" for one in valid],
        neuron_names=names,
        sizes={"factor": 8, "generator_unit": 8, "ic": 4},
        attributes={"fingerprint": "x", "num_samples": 1},
    ) as writer:
        for start in range(0, trials, BLOCK):
            own = condition[start : start + BLOCK]
            n = len(own)
            writer.write_block(
                start,
                {
                    "rates": table[own] * rng.gamma(20, 1 / 20, (n, bins, 1)) * BIN_MS / 1000,
                    "factors": zeros((n, bins, 8)),
                    "generator_states": zeros((n, bins, 8)),
                    "generator_ics": zeros((n, 8)),
                    **{f"{kind}_g0_{name}": zeros((n, 4)) for kind in ("post", "prior") for name in
                       ("mean", "logvar")},
                    **{name: zeros(n) for name in ("costs", "nll_bound_vae", "nll_bound_iwae")},
                },
            )  # fmt: skip


def score(folder: Path) -> None:
    """Score them here, and print what that took."""
    from lfadsrm_hpc.data.inputs import open_inputs
    from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means
    from lfadsrm_hpc.results.scoring.scores import score_dataset

    with open_posterior_means(folder / "means.nc") as means, open_inputs(folder / "inputs.h5") as inputs:
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        found = score_dataset(means, inputs)
        seconds = time.monotonic() - began
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        size = means.rates.nbytes / 1e6
    values = ", ".join(f"{name} {value:.3f}" for name, value in found.values().items())
    print(f"{seconds:.1f} s, {grown:.0f} MB more memory for {size:.0f} MB of rates: {values}", flush=True)


def main() -> None:
    """Make the files and score them in processes of their own."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--trials", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--bins", type=int, default=200)
    parser.add_argument("--neurons", type=int, default=200)
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.score is not None:
        score(options.score)
        return
    for trials in options.trials:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), trials, options.bins, options.neurons)
            print(f"{trials} trials, {options.bins} bins, {options.neurons} neurons: ", end="", flush=True)
            subprocess.run([sys.executable, __file__, "--score", folder], check=True)


if __name__ == "__main__":
    main()
