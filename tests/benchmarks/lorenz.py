"""How well the rates and factors of a synthetic Lorenz system are found, where the truth is known.

    python tests/benchmarks/lorenz.py --data lfads_lorenz.h5           # fits the 640 training trials
    python tests/benchmarks/lorenz.py --data lfads_lorenz.h5 --inner   # 512 of them, scored on the other 128
    python tests/benchmarks/lorenz.py --data lfads_lorenz.h5 --inner --set keep_prob=0.9 gen_dim=64

Settings and the number of epochs were chosen with `--inner`, which never looks at the validation trials. The
final run trains on all training trials for that number of epochs; what it is given as validation trials is a
fifth of its training trials, so that the 160 choose nothing.

Scores: mean Poisson cost (with log x!) per bin and neuron, from one posterior sample a trial (the mean of 16
such draws) and from posterior-mean rates; R2 of rates, pooled over neurons; R2 of each Lorenz state,
regressed linearly on the factors over all trials.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.sampling.posterior import Sampler
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import loop as training

BIN_S = 0.01
SAMPLES = 256
DRAWS = 16  # times that one sample of each trial is drawn: their costs differ by a few in the fifth digit
INNER_VALID = 128

SETTINGS: dict[str, Any] = {
    "co_dim": 0,
    "gen_dim": 100,
    "ic_dim": 64,
    "ic_enc_dim": 64,
    "factors_dim": 4,
    "batch_size": 80,
    "keep_prob": 0.95,
    "adam_epsilon": 0.1,
    "learning_rate_init": 0.01,
    "learning_rate_decay_factor": 0.975,
    "kl_increase_steps": 900,
    "l2_increase_steps": 900,
    "max_epochs": 900,
}


def read(path: Path) -> dict[str, NDArray[Any]]:
    with h5py.File(path) as file:
        return {name: file[name][()] for name in file}


def inner_split(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which training trials an inner run trains on and which it is scored on."""
    order = np.random.default_rng(1).permutation(count)
    return np.sort(order[INNER_VALID:]), np.sort(order[:INNER_VALID])


def poisson_cost(counts: NDArray[Any], rates: NDArray[Any]) -> float:
    """Return the mean cost per bin and neuron of counts, given expected counts."""
    rates = np.maximum(rates.astype(float), 1e-12)
    return float(np.mean(rates - counts * np.log(rates) + gammaln(counts + 1.0)))


def pooled_r2(found: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return R2 of rates over all neurons, about each neuron's own mean."""
    error = np.square(found - truth).sum()
    spread = np.square(truth - truth.mean(axis=(0, 1))).sum()
    return float(1 - error / spread)


def factor_r2(factors: NDArray[Any], states: NDArray[Any]) -> list[float]:
    """Return R2 of each Lorenz state, regressed on the factors."""
    x = np.column_stack(
        [factors.reshape(-1, factors.shape[-1]), np.ones(factors.shape[0] * factors.shape[1])]
    )
    y = states.reshape(-1, states.shape[-1])
    error = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return [float(v) for v in 1 - np.square(error).sum(0) / np.square(y - y.mean(0)).sum(0)]


def run(data: dict[str, NDArray[Any]], hp: Hyperparameters, folder: Path, inner: bool) -> dict[str, Any]:
    fit, score = {}, {}
    for name in ("data", "truth", "lowd"):
        train = data[f"train_{name}"]
        inside, outside = inner_split(len(train))
        fit[name] = train[inside] if inner else train
        score[name] = train[outside] if inner else data[f"valid_{name}"]
    # what training validates on chooses its parameters: never the trials that a final run is scored on
    watched = score["data"] if inner else fit["data"][inner_split(len(fit["data"]))[1]]
    began = time.monotonic()
    told = [began]

    def tell(progress: training.Progress) -> None:
        if time.monotonic() - told[0] > 60:
            told[0] = time.monotonic()
            cost = progress.valid_recon / math.prod(fit["data"].shape[1:])
            print(
                f"  {told[0] - began:.0f} s, epoch {progress.epoch}: {cost:.5f}, "
                f"rate {progress.learning_rate:.2g}",
                flush=True,
            )

    outcome = training.train(hp, [Session("lorenz", fit["data"], watched)], folder, on_progress=tell)
    trained_s = time.monotonic() - began
    ones = [_posterior(hp, folder, score["data"], 1, seed)["rates"] for seed in range(DRAWS)]
    costs = [poisson_cost(score["data"], rates) for rates in ones]
    mean = _posterior(hp, folder, score["data"], SAMPLES)
    rest = _posterior(hp, folder, fit["data"], 32)
    factors = np.concatenate([rest["factors"], mean["factors"]])
    curve = np.genfromtxt(folder / "fitlog.csv", delimiter=",", names=True)
    per_element = math.prod(score["data"].shape[1:])
    return {
        "training_s": trained_s,
        "epochs": outcome.epoch,
        "limit": poisson_cost(score["data"], score["truth"] * BIN_S),
        "one_sample": float(np.mean(costs)),
        "one_sample_range": [min(costs), max(costs)],
        "posterior_mean": poisson_cost(score["data"], mean["rates"]),
        "rate_r2": pooled_r2(mean["rates"] / BIN_S, score["truth"]),
        "factor_r2": factor_r2(factors, np.concatenate([fit["lowd"], score["lowd"]])),
        "curve": [
            [int(row["epoch"]), round(float(row["train_recon"]) / per_element, 5),
             round(float(row["valid_recon"]) / per_element, 5)]
            for row in curve if int(row["epoch"]) % 50 == 0
        ],
    }  # fmt: skip


def _posterior(
    hp: Hyperparameters, folder: Path, counts: NDArray[Any], samples: int, seed: int = 0
) -> dict[str, Any]:
    blocks = Sampler(hp, folder, "lorenz", num_samples=samples, seed=seed).blocks(counts)
    parts = [block.arrays for block in blocks]
    return {name: np.concatenate([part[name] for part in parts]) for name in ("rates", "factors")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="lfads_lorenz.h5")
    parser.add_argument("--inner", action="store_true", help="train and score within the training trials")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other hyperparameters")
    parser.add_argument("--folder", type=Path, help="keep checkpoints and fit log here")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    values = dict(SETTINGS)
    for text in options.set:
        name, _, value = text.partition("=")
        values[name] = ast.literal_eval(value)
    hp = Hyperparameters(**values)
    with tempfile.TemporaryDirectory() as folder:
        found = run(read(options.data), hp, options.folder or Path(folder), options.inner)
    if options.json:
        changed = {k: v for k, v in dataclasses.asdict(hp).items() if k in values}
        print(json.dumps({"settings": changed, **found}))
        return
    for name, value in found.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
