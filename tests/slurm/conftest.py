"""What the tests of Slurm's client share; the cluster itself comes from `tests/conftest.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lfadsrm_hpc.schedulers.batch import Job
from lfadsrm_hpc.schedulers.slurm.client import Slurm

Hand = Callable[..., Job]


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    """Hand lines of shell over as a job, through the client that is tested, and return it as a receipt would.

    The cluster must be in use: ask for `slurm` or `new_slurm` too.
    """
    count = 0

    def hand_over(
        body: str, size: int = 0, *options: str, name: str = "lftest", client: Slurm | None = None
    ) -> Job:
        nonlocal count
        count += 1
        script = tmp_path / f"script-{count}.sh"
        array = [f"--array=0-{size - 1}"] if size else []
        said = [f"--job-name={name}", "--mem=10", f"--output={tmp_path}/%A_%a.out", *array, *options]
        # Later options win, also over those above.
        lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in said), body]
        script.write_text("\n".join(lines) + "\n")
        accepted = (client or Slurm()).submit(script)
        return Job(accepted.job, name, size, time.time(), accepted.cluster)

    return hand_over
