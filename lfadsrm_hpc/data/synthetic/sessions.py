"""What synthetic sessions share: spikes drawn from rates, what describes a session, and checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.errors import UsageError

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
IntOrRange = int | tuple[int, int]


def made_session(
    rng: np.random.Generator,
    rates: Floats,
    *,
    condition: Ints,
    bin_ms: float,
    attributes: dict[str, object],
) -> xr.Dataset:
    """Draw Poisson counts for `rates` (E, T, D) in spikes/s and put them into the in-memory form."""
    n_trials, n_time, n_neurons = rates.shape
    spikes = np.empty(rates.shape, dtype=np.int16)
    for trial in range(n_trials):  # trial by trial: no second array of all trials in 64 bits
        spikes[trial] = rng.poisson(rates[trial] * (bin_ms / 1000.0))
    dims = ("trial", "time", "neuron")
    return xr.Dataset(
        {
            "spikes": (dims, spikes, {"units": "counts per bin"}),
            "truth": (dims, rates.astype(np.float32), {"units": "spikes/s"}),
        },
        coords={
            "trial": np.arange(n_trials),
            "time": ("time", np.arange(n_time) * float(bin_ms), {"units": "ms"}),
            "neuron": np.arange(n_neurons),
            "neuron_name": ("neuron", [f"n{i:03d}" for i in range(n_neurons)]),
            "condition": ("trial", np.asarray(condition, dtype=np.int64)),
        },
        attrs={**attributes, "bin_ms": float(bin_ms)},
    )


def attributes(index: int, subject: str, comment: str, seed: int) -> dict[str, object]:
    """Return what describes a session: its name, subject, a date, a tag and a comment."""
    day = np.datetime64("2018-01-01") + index  # a fixed date: the same seed gives the same data on every day
    return {
        "name": f"dataset{index + 1:03d}",
        "subject": subject,
        "date": str(day),
        "save_tags": str(index + 1),
        "comment": f"{comment}, synthetic, seed {seed}",
    }


def n_bins(duration_ms: float, bin_ms: float) -> int:
    """Return how many bins a trial has; they must fit in whole."""
    check_positive(duration_ms=duration_ms, bin_ms=bin_ms)
    n_bins = round(duration_ms / bin_ms)
    if n_bins < 1 or abs(n_bins * bin_ms - duration_ms) > 1e-6 * duration_ms:
        raise UsageError(
            f"bins of {bin_ms:g} ms do not divide trials of {duration_ms:g} ms",
            hint="choose a duration that is a multiple of the bins",
        )
    return n_bins


def draw(rng: np.random.Generator, value: int | Sequence[int], name: str) -> int:
    """Return a whole number as it is given, or one drawn from the range that is given, ends included."""
    low, high = (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))
    if not 0 < low <= high:
        raise UsageError(
            f"{name} = {value!r} is neither a positive number nor a range of such, lowest first",
            hint="write 10, or (8, 12)",
        )
    return int(rng.integers(low, high + 1))


def check_positive(**values: float) -> None:
    """Refuse values that are not above zero, by their names."""
    for name, value in values.items():
        if not value > 0:
            raise UsageError(f"{name} must be positive, not {value!r}", hint="give a number above 0")
