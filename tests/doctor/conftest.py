"""A machine as tests want it: programs that print what they are told, and a TensorFlow that is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TENSORFLOW = """
import time
__version__ = "2.99.0"
time.sleep({seconds})
class sysconfig:
    get_build_info = staticmethod(lambda: {{"cuda_version": "12.5"}})
class test:
    is_built_with_cuda = staticmethod(lambda: True)
class _Device:
    name = "/physical_device:GPU:0"
class config:
    list_physical_devices = staticmethod(lambda kind: [_Device()] * {gpus})
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a shell script onto a PATH that holds little else; so there is no scheduler and no GPU."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("sh", "sleep", "cat", "hostname"):
        real = next(Path(one) / name for one in ("/usr/bin", "/bin") if (Path(one) / name).exists())
        (folder / name).symlink_to(real)
    monkeypatch.setenv("PATH", str(folder))
    for name in ("LFADSRM_SITE", "LFADSRM_SITE_PATH", "SLURM_CONF", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)

    def made(name: str, script: str) -> None:
        (folder / name).write_text(f"#!{folder}/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return made


@pytest.fixture
def tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let other processes import a module of this name that is none."""
    folder = tmp_path / "modules"
    folder.mkdir()
    inherited = os.environ.get("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), inherited]))
    assert sys.executable

    def made(*, seconds: float = 0.0, gpus: int = 0) -> None:
        (folder / "tensorflow.py").write_text(TENSORFLOW.format(seconds=seconds, gpus=gpus))

    made()
    return made
