"""A user with settings of their own, who trusts nothing, and the command line in this process."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest


class Said(NamedTuple):
    code: int
    out: str
    err: str


Call = Callable[..., Said]

EXPERIMENT = """
[collection]
name = "small"
[params]
spike_bin_ms = 10
batch_size = 8
factors_dim = 2
"""


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's settings; nothing is trusted."""
    monkeypatch.delenv("LFADSRM_TRUSTED", raising=False)
    for name in ("LFADSRM_COLLECTION", "LFADSRM_JSON", "LFADSRM_SITE", "LFADSRM_SITE_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    return tmp_path / "settings/lfadsrm"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call `lfadsrm` in this process, as its script does; what it does not foresee fails the test."""
    from lfadsrm_hpc.cli.main import main

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main() sets its own

    def called(*args: object) -> Said:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["lfadsrm", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert isinstance(code, int)
        said = Said(code, *capsys.readouterr())
        assert "Traceback" not in said.out + said.err
        assert "a bug in lfadsrm_hpc" not in said.err, said.err
        return said

    return called


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An experiment with one small session."""
    folder = tmp_path / "project"
    (folder / "datasets").mkdir(parents=True)
    spikes = np.random.default_rng(0).poisson(0.5, (40, 20, 5))
    np.savez(folder / "datasets/day1.npz", spikes=spikes, bin_ms=10.0, condition=np.arange(40) % 4)
    (folder / "experiment.toml").write_text(EXPERIMENT)
    return folder


# Tests are no package; this name is how they reach the module.
_spec = importlib.util.spec_from_file_location("hostile", Path(__file__).parent / "hostile.py")
assert _spec is not None
assert _spec.loader is not None
_hostile = importlib.util.module_from_spec(_spec)
sys.modules["hostile"] = _hostile
_spec.loader.exec_module(_hostile)
