"""What each page finds when it is executed, and what must be so when it has been.

A page without an entry finds nothing. An entry is a generator: what stands before its `yield` comes before
the page, what stands after it comes after. The entries are in `prepared_{results,clusters}.py`.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from doc_pages import Place

from lfadsrm_hpc.errors import LfadsrmWarning

Around = Callable[[Place, pytest.FixtureRequest], Iterator[None]]
_PREPARED: dict[str, Around] = {}
MARKS: dict[str, tuple[str, ...]] = {}


def page(name: str, *marks: str) -> Callable[[Around], Around]:
    """Register what belongs to a page (its path from the root), and the marks of its test."""

    def note(around: Around) -> Around:
        _PREPARED[name] = around
        MARKS[name] = marks
        return around

    return note


def around(name: str, place: Place, request: pytest.FixtureRequest) -> AbstractContextManager[None]:
    return contextmanager(_PREPARED[name])(place, request) if name in _PREPARED else nullcontext()


def names() -> set[str]:
    return set(_PREPARED)


def small_sweep(place: Place, fabricated: Any, specs: str = "single_day1 both_days", **complete: Any) -> Any:
    """Make `runs/reaching`: two sessions, 4 and 8 factors, two seeds, with results that are made up."""
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.collection.run_spec import RunSpec

    found = fabricated.sessions(place.folder / "datasets")
    rc = RunCollection(place.folder / "runs", "reaching", found)
    rc.add_params(RunParams(**fabricated.BASE).generate_sweep(factors_dim=[4, 8], seed=[0, 1]))
    for spec in specs.split():
        members = [spec.removeprefix("single_")] if spec.startswith("single_") else found.names
        rc.add_run_spec(RunSpec(spec, found, members))
    with fabricated.quickly():
        rc.prepare_for_lfads(warn=False)
    for number, run in enumerate(rc.runs):
        fabricated.complete(run, **{k: v(number, run) if callable(v) else v for k, v in complete.items()})
    return rc


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Stand in a folder meanwhile."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def warned() -> Iterator[list[str]]:
    """Collect what the package warns of."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield texts
    texts += [str(one.message) for one in said if issubclass(one.category, LfadsrmWarning)]


def need(program: str) -> None:
    """Skip the page where a program is missing, or fail it where it is required."""
    if shutil.which(program) is None:
        if os.environ.get("LFADSRM_REQUIRE_TOOLS") == "1":
            pytest.fail(f"{program} is not installed, and LFADSRM_REQUIRE_TOOLS=1 asks for it")
        pytest.skip(f"{program} is not installed")
