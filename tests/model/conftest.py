"""Small models and data that several tests use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.session import Session

SMALL: dict[str, Any] = {
    "gen_dim": 7, "ic_dim": 4, "ic_enc_dim": 5, "ci_enc_dim": 6, "con_dim": 8, "factors_dim": 3,
    "batch_size": 8, "co_dim": 0, "use_xla": "off", "kl_increase_steps": 4, "l2_increase_steps": 4,
}  # fmt: skip


@pytest.fixture
def small() -> Callable[..., Hyperparameters]:
    """Hyperparameters of a tiny model without XLA, which takes seconds to compile."""
    return lambda **changes: Hyperparameters(**{**SMALL, **changes})


@pytest.fixture
def session() -> Callable[..., Session]:
    """A tiny session of counts around sine waves that begin at one of two phases."""

    def make(
        name: str = "a", neurons: int = 6, trials: int = 20, bins: int = 9, ext: int = 0, **more: Any
    ) -> Session:
        rng = np.random.default_rng(sum(map(ord, name)))
        phase = rng.choice([0.0, 2.5], (trials + 6, 1, 1))
        wave = np.sin(np.arange(bins)[None, :, None] + phase) * rng.normal(0, 1, neurons)
        counts = rng.poisson(np.exp(wave + 0.5))
        if ext:
            inputs = rng.normal(size=(trials + 6, bins, ext))
            more = {"train_ext": inputs[:trials], "valid_ext": inputs[trials:], **more}
        return Session(name, counts[:trials], counts[trials:], **more)

    return make


@pytest.fixture
def on_disk(tmp_path: Path) -> Callable[..., Path]:
    """Write a model with random parameters as if it had been trained; gives the folder of its checkpoint."""
    from lfadsrm_hpc.model.network import initial
    from lfadsrm_hpc.model.network.architecture import Architecture
    from lfadsrm_hpc.model.training import checkpoints, saved

    def write(hp: Hyperparameters, sessions: list[Session], step: int = 3) -> Path:
        arch = Architecture.of(hp, sessions)
        params = initial.initial_parameters(arch, sessions)
        rng = np.random.default_rng(5)
        arrays = {f"latest/{n}": v + 0.2 * rng.normal(size=v.shape) for n, v in params.items()}
        held = {
            s.name: [int(k) for k in np.flatnonzero(s.held_out)] for s in sessions if s.held_out is not None
        }
        about = {"architecture": saved.described(arch), "held_out": held, "best": None}
        checkpoints.save(tmp_path, arrays, {"step": step, "epoch": 1, **about}, keep=1)
        return tmp_path

    return write
