"""How often `prepare` warns of sessions in which nothing is wrong, and of those in which something is.

    python tests/benchmarks/early_warnings.py [--sessions 200] [--recordings ../shared/data]

Sessions are simulated: Poisson counts; a gain that differs from trial to trial (Fano factors as in cortex);
a gain that wanders slowly, with a memory of some trials; conditions with different rates, in random order
and in blocks. Then the same with a trend, with neurons that are lost, with a bad trial. The recordings of
docs/early_warnings.md are read where they are.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.data.early_warnings import session_warnings
from lfadsrm_hpc.data.inputs import make_inputs
from lfadsrm_hpc.data.readers import from_arrays, read

Array = npt.NDArray[Any]
BINS, BIN_MS = 60, 10.0


def wandering(rng: np.random.Generator, trials: int, memory: float, size: float) -> Array:
    """Return a gain around 1 whose logarithm is an AR(1) process over trials."""
    keep = np.exp(-1 / memory)
    log = np.empty(trials)
    log[0] = rng.normal()
    for i in range(1, trials):
        log[i] = keep * log[i - 1] + np.sqrt(1 - keep**2) * rng.normal()
    gain: Array = np.exp(size * log - size**2 / 2)
    return gain


def session(
    rng: np.random.Generator,
    trials: int,
    neurons: int = 30,
    *,
    gain: float = 0.0,
    slow: float = 0.0,
    memory: float = 5.0,
    conditions: int = 0,
    blocked: bool = False,
    trend: float = 0.0,
    drifting: float = 1.0,
    lost: int = 0,
    bad_trials: int = 0,
) -> list[str]:
    """Return the names of the warnings of a simulated session."""
    rates = rng.lognormal(np.log(8), 0.8, neurons)[None].repeat(trials, 0)  # spikes/s
    condition = None
    if conditions:
        condition = np.arange(trials) % conditions
        condition = np.sort(condition) if blocked else rng.permutation(condition)
        rates *= rng.lognormal(0, 0.4, (conditions, neurons))[condition]
    if gain:
        rates *= rng.gamma(1 / gain, gain, (trials, 1))
    if slow:
        rates *= wandering(rng, trials, memory, slow)[:, None]
    if trend:
        change = np.linspace(1 - trend / 2, 1 + trend / 2, trials)[:, None]
        rates = np.where(rng.random(neurons) < drifting, rates * change, rates)
    rates[trials * 2 // 3 :, :lost] = 0
    rates[rng.choice(trials, bad_trials, replace=False)] *= 8
    spikes = rng.poisson(rates[:, None, :] * BIN_MS / 1000, (trials, BINS, neurons))
    return warned(from_arrays(spikes, bin_ms=BIN_MS, condition=condition))


def warned(data: Any, bin_ms: float = BIN_MS) -> list[str]:
    inputs = make_inputs(data, name="s", bin_ms=bin_ms, train_to_test_ratio=4, split="random", seed=0)
    return [note.name for note in session_warnings(inputs)]


STATIONARY: dict[str, dict[str, Any]] = {
    "Poisson": {},
    "gain a trial, var 0.1": {"gain": 0.1},
    "gain a trial, var 0.3": {"gain": 0.3},
    "slow gain, sd 0.2, memory 5 trials": {"slow": 0.2},
    "slow gain, sd 0.2, memory 20 trials": {"slow": 0.2, "memory": 20.0},
    "8 conditions": {"conditions": 8, "gain": 0.1},
    "4 conditions in blocks": {"conditions": 4, "gain": 0.1, "blocked": True},
}
WRONG: dict[str, dict[str, Any]] = {
    "all rates -30 %": {"trend": -0.3, "gain": 0.1},
    "all rates -50 %": {"trend": -0.5, "gain": 0.1},
    "all rates +100 %": {"trend": 1.0, "gain": 0.1},
    "a third of the neurons -80 %": {"trend": -0.8, "drifting": 0.33, "gain": 0.1},
    "2 neurons lost": {"lost": 2, "gain": 0.1},
    "3 trials x 8": {"bad_trials": 3, "gain": 0.1},
}


def table(cases: dict[str, dict[str, Any]], sessions: int, sizes: tuple[int, ...]) -> Iterator[str]:
    for name, options in cases.items():
        for trials in sizes:
            rng = np.random.default_rng(trials)
            counts: Counter[str] = Counter()
            for _ in range(sessions):
                counts.update(set(session(rng, trials, **options)) or {"none"})
            told = ", ".join(f"{key} {count / sessions:.1%}" for key, count in sorted(counts.items()))
            yield f"| {name} | {trials} | {told} |"


def recordings(folder: Path) -> Iterator[str]:
    readers: list[Callable[[Path], Iterator[tuple[str, Any]]]] = [_lorenz, _ecker]
    for reader in readers:
        for name, data in reader(folder):
            made = make_inputs(data, name=name, bin_ms=10.0, train_to_test_ratio=4, split="random", seed=0)
            told = "; ".join(f"{note.name} {dict(note.numbers)}" for note in session_warnings(made))
            yield f"{name}: {data.sizes['trial']} trials, {data.sizes['neuron']} neurons: {told or 'none'}"


def _lorenz(folder: Path) -> Iterator[tuple[str, Any]]:
    path = folder / "lorenz/lfads_lorenz.h5"
    if path.exists():
        yield "lorenz", read(path, bin_ms=10.0)


def _ecker(folder: Path) -> Iterator[tuple[str, Any]]:
    path = folder / "ecker_v1/data_v1_binned_moving.mat"
    if not path.exists():
        return
    from scipy.io import loadmat

    for number, one in enumerate(loadmat(path, squeeze_me=True, struct_as_record=False)["data"]):
        units, conditions, bins, repeats = one.spikes.shape
        # By repeat, as the blocks of the experiment went; the order within a block is not on record.
        spikes = np.asarray(one.spikes).transpose(3, 1, 2, 0).reshape(repeats * conditions, bins, units)
        condition = np.tile(np.arange(conditions), repeats)
        yield f"ecker {number}", from_arrays(spikes, bin_ms=10.0, condition=condition)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--recordings", type=Path, default=Path("../shared/data"))
    given = parser.parse_args()
    print("nothing is wrong\n| sessions | trials | warnings |\n| --- | --- | --- |")
    for line in table(STATIONARY, given.sessions, (40, 120, 400)):
        print(line, flush=True)
    print("\nsomething is wrong\n| sessions | trials | warnings |\n| --- | --- | --- |")
    for line in table(WRONG, max(20, given.sessions // 4), (120, 400)):
        print(line, flush=True)
    print()
    for line in recordings(given.recordings):
        print(line, flush=True)


if __name__ == "__main__":
    main()
