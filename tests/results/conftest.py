"""A sweep that looks trained, for tests that only read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.collection.params import RunParams


@pytest.fixture(scope="session")
def sweep(fabricated: Any, tmp_path_factory: pytest.TempPathFactory) -> RunCollection:
    """2 factors x 2 seeds, day1 alone and both days stitched; the stitched run of the last never ran."""
    rc = fabricated.collection(
        tmp_path_factory.mktemp("sweep"),
        RunParams(**fabricated.BASE).generate_sweep(factors_dim=[2, 4], seed=[0, 1]),
        specs={"single_day1": ["day1"], "both": ["day1", "day2"]},
    )
    for number, run in enumerate(rc.runs[:-1]):
        fabricated.complete(run, valid_costs=(5, 4, 3 + number / 10), metrics={"co_bps": 0.3 + number / 100})
    return RunCollection.open(rc.path)


@pytest.fixture
def make(fabricated: Any, tmp_path: Path) -> Callable[..., RunCollection]:
    """Make a collection of one's own, with all its runs complete unless `done` says how many are."""

    def made(
        params: Any = None, *, done: int | None = None, specs: Any = None, **session: Any
    ) -> RunCollection:
        rc = fabricated.collection(tmp_path, params, specs=specs, **session)
        for run in rc.runs[:done]:
            fabricated.complete(run)
        return rc

    return made
