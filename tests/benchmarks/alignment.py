"""How well read-ins of simulated sessions agree where sessions lack conditions, or are of unequal size.

    python tests/benchmarks/alignment.py [--repeats 20] [--json]

Poisson counts of four sessions whose log-rates are linear in four latents that all share, 12 conditions of
20 bins, averaged over 40 trials. Read-ins are made by `align` (ridge) with each choice; they are applied to
the true rates of all conditions, those that a session lacks too, and one linear map takes them, all sessions
together, to the latents. Printed is the share of the latents' variance that this map misses: it is small only
where the sessions' read-ins mean the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
from typing import Any

import numpy as np

from lfadsrm_hpc.data.alignment.matrices import align
from lfadsrm_hpc.data.inputs import SessionInputs
from lfadsrm_hpc.errors import DataError

CONDITIONS, BINS, LATENTS = 12, 20, 4
EQUAL, UNEQUAL = (10, 14, 20, 12), (6, 6, 60, 20)
CHOICES = list(itertools.product(("shared", "all"), ("neurons", "datasets")))


def simulate(rng: Any, sizes: tuple[int, ...], trials: tuple[int, ...]) -> tuple[Any, list[Any], list[Any]]:
    """Return latents (C, T, 4), and rates and averages (C, T, D) of each session."""
    latent = rng.standard_normal((CONDITIONS, BINS + 10, LATENTS)).cumsum(axis=1)[:, 10:]
    latent = (latent - latent.mean(axis=(0, 1))) / latent.std(axis=(0, 1)) * [1.0, 0.8, 0.6, 0.5]
    rates, averages = [], []
    for neurons, count in zip(sizes, trials, strict=True):
        drive = latent @ rng.standard_normal((LATENTS, neurons)) * 0.4
        rates.append(0.3 * np.exp(drive + rng.normal(0, 0.5, neurons)))
        averages.append(rng.poisson(rates[-1] * count) / count)
    return latent, rates, averages


def lacking(rng: Any, kind: str) -> list[Any]:
    """Return the conditions that each of the four sessions lacks."""
    everything = np.arange(CONDITIONS)
    if kind == "none":
        return [[]] * 4
    if kind == "three of 12 in three sessions":
        return [[], *(rng.choice(CONDITIONS, 3, replace=False) for _ in range(3))]
    if kind == "five of 12, two are had by all":
        return [rng.permutation(everything[2:])[:5] for _ in range(4)]
    if kind == "a chain: six each, neighbours share four":
        return [np.setdiff1d(everything, np.arange(2 * k, 2 * k + 6)) for k in range(4)]
    raise ValueError(kind)


def session(name: str, averages: Any, lacks: Any) -> SessionInputs:
    """Return inputs with one trial a condition: its average."""
    kept = np.setdiff1d(np.arange(CONDITIONS), lacks)
    return SessionInputs(
        dataset=name,
        train_data=averages[kept],
        valid_data=averages[:1],
        train_inds=kept,
        valid_inds=np.zeros(1, int),
        time_ms=10.0 * np.arange(BINS),
        bin_ms=10.0,
        neuron_names=np.array([f"n{i}" for i in range(averages.shape[2])]),
        train_condition=kept,
    )


def missed(latent: Any, rates: list[Any], found: list[Any]) -> float:
    """Return what one linear map of all read-ins misses of the latents."""
    read = [(r - a.bias).reshape(-1, r.shape[2]) @ a.matrix for r, a in zip(rates, found, strict=True)]
    known = np.column_stack([np.concatenate(read), np.ones(len(read) * CONDITIONS * BINS)])
    truth = np.concatenate([latent.reshape(-1, LATENTS)] * len(read))
    rest = truth - known @ np.linalg.lstsq(known, truth, rcond=None)[0]
    return float((rest**2).sum() / (truth**2).sum())


def measure(kind: str, sizes: tuple[int, ...], trials: tuple[int, ...], repeats: int) -> dict[str, float]:
    errors: dict[str, list[float]] = {}
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        latent, rates, averages = simulate(rng, sizes, trials)
        lacks = lacking(rng, kind)
        sessions = [session(f"s{i}", a, w) for i, (a, w) in enumerate(zip(averages, lacks, strict=True))]
        for conditions, weights in CHOICES:
            try:
                found = align(sessions, 8, method="ridge", conditions=conditions, weights=weights)
            except DataError:  # no condition is had by all
                continue
            errors.setdefault(f"{conditions}, {weights}", []).append(missed(latent, rates, found))
    return {name: float(np.mean(values)) for name, values in errors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cases = {
        f"lacking: {kind}": (kind, EQUAL, (40,) * 4)
        for kind in (
            "none",
            "three of 12 in three sessions",
            "five of 12, two are had by all",
            "a chain: six each, neighbours share four",
        )
    }
    cases["6, 6, 60 and 20 neurons"] = ("none", UNEQUAL, (40,) * 4)
    cases["30, 6, 6 and 6 neurons, the first of 10 trials"] = ("none", (30, 6, 6, 6), (10, 40, 40, 40))
    rows = {name: measure(*case, options.repeats) for name, case in cases.items()}
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    names = [f"{conditions}, {weights}" for conditions, weights in CHOICES]
    print(f"{'share of the latents that is missed':>50}  " + "  ".join(f"{name:>16}" for name in names))
    for case, row in rows.items():
        print(f"{case:>50}  " + "  ".join(f"{row[n]:>16.3f}" if n in row else " " * 15 + "-" for n in names))


if __name__ == "__main__":
    main()
