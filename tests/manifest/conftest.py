from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from lfadsrm_hpc.layout import CollectionLayout, RunLayout

# Tests are no package; this name is how they reach the module.
_spec = importlib.util.spec_from_file_location("killing", Path(__file__).parent / "killing.py")
assert _spec is not None
assert _spec.loader is not None
killing = importlib.util.module_from_spec(_spec)
sys.modules["killing"] = killing
_spec.loader.exec_module(killing)

Fork = Callable[[Callable[[], object]], int]


@pytest.fixture
def layout(tmp_path: Path) -> CollectionLayout:
    return CollectionLayout(tmp_path / "runs" / "example")


@pytest.fixture
def run(layout: CollectionLayout) -> RunLayout:
    run = layout.run("abcdefghijkl", "all sessions")
    run.path.mkdir(parents=True)
    return run


@pytest.fixture
def forked() -> Fork:
    """Call a function in a child process and return the child's wait status, once it is gone."""

    def call(function: Callable[[], object]) -> int:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                function()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        return os.waitpid(pid, 0)[1]

    return call
