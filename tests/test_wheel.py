"""The wheel holds everything: built from a copy of the tree, installed into an empty environment, used."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc._version import __version__

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
PACKED = ("lfadsrm_hpc", "templates", "site_configs", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")

LIST_DATA = """
import json
from importlib.resources import files
import lfadsrm_hpc
print(json.dumps({
    "home": lfadsrm_hpc.__file__,
    "templates": sorted(f.name for f in files("lfadsrm_hpc.templates").iterdir() if f.name.endswith(".j2")),
    "sites": sorted(f.name for f in files("lfadsrm_hpc.site_configs").iterdir() if f.name.endswith(".toml")),
    "typed": files("lfadsrm_hpc").joinpath("py.typed").is_file(),
}))
"""
RENDER = """
import json, sys
from pathlib import Path
import lfadsrm_hpc
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.schedulers.queue_tasks import QueueTask
from lfadsrm_hpc.schedulers.local import write_queue_script
from lfadsrm_hpc.schedulers.sites.loading import queue_options
layout = CollectionLayout(Path(sys.argv[1]))
run = layout.run("abc", "it's one")
run.path.mkdir(parents=True, exist_ok=True)
run.params_json.write_text("{}")
options = queue_options({"task_command": ["some", "task"]})
script = write_queue_script(layout, [QueueTask(run.run_id)], options, "01J0000000000000000000TEST")
print(json.dumps({"home": lfadsrm_hpc.__file__, "script": script.read_text(), "run": run.script.read_text()}))
"""


def ask(*command: object, **more: Any) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_", "LFADSRM_"))}
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=clean | more.pop("env", {}),
        **more,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_flags() -> list[str]:
    """Return how pip shall get the build backend: the one that is installed, if it can make wheels."""
    can_build = importlib.util.find_spec("setuptools") is not None and (
        importlib.util.find_spec("wheel") is not None
        or importlib.util.find_spec("setuptools.command.bdist_wheel") is not None
    )
    if can_build:
        return ["--no-build-isolation"]
    if os.environ.get("LFADSRM_REQUIRE_TOOLS") == "1":
        return []  # pip fetches it
    pytest.skip("setuptools is not installed, and nothing is downloaded unless LFADSRM_REQUIRE_TOOLS=1")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what the wheel is made of, so that the build leaves nothing in the clone."""
    copy = tmp_path_factory.mktemp("tree")
    for name in PACKED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    ask(sys.executable, "-m", "pip", "wheel", tree, "--no-deps", *build_flags(), "-q", "-w", folder)
    (built,) = folder.glob("*.whl")
    return built


def make_venv(folder: Path) -> Path:
    """Make an environment with nothing in it; return its python."""
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


def install(python: Path, *what: object) -> None:
    ask(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "-q", *what)


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    python = make_venv(tmp_path_factory.mktemp("venv") / "with spaces")
    install(python, wheel)
    return python


def add_dependencies(python: Path) -> None:
    """Let the environment see the libraries of this one, behind its own, but no lfadsrm_hpc that is here."""
    own = Path(ask(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])").strip())
    links = own.parent / "libraries"
    links.mkdir()
    for folder in dict.fromkeys(sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")):
        for path in Path(folder).iterdir():
            if "lfadsrm_hpc" not in path.name:
                (links / path.name).symlink_to(path)
    (own / "libraries.pth").write_text(f"{links}\n")


def names(folder: str, suffix: str) -> list[str]:
    found = sorted(path.name for path in (ROOT / folder).iterdir() if path.suffix == suffix)
    assert found
    return found


def test_content(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        (metadata,) = (name for name in packed if name.endswith(".dist-info/METADATA"))
        about = Parser().parsestr(archive.read(metadata).decode())
    for path in (ROOT / "lfadsrm_hpc").rglob("*.py"):
        assert path.relative_to(ROOT).as_posix() in packed, "its folder is not listed under `packages`"
    assert "lfadsrm_hpc/py.typed" in packed
    assert any(name.endswith("/LICENSE") and ".dist-info/" in name for name in packed)
    assert {name.split("/")[0] for name in packed if ".dist-info/" not in name} == {"lfadsrm_hpc"}
    assert about["Version"] == __version__
    assert about["Requires-Python"] == ">=3.10"
    assert {"gpu", "nwb", "test", "docs"} <= set(about.get_all("Provides-Extra", []))
    assert "First five minutes" in about.get_payload()


def test_data_in_an_empty_environment(python: Path, tmp_path: Path) -> None:
    found = json.loads(ask(python, "-I", "-c", LIST_DATA, cwd=tmp_path))
    assert Path(found["home"]).is_relative_to(python.parents[1])
    assert found["templates"] == names("templates", ".j2")
    assert found["sites"] == names("site_configs", ".toml")
    assert found["typed"]
    assert (python.parent / "lfadsrm").is_file()


def test_the_command_and_a_script(python: Path, tmp_path: Path) -> None:
    add_dependencies(python)
    version = ask(python.parent / "lfadsrm", "--version", cwd=tmp_path)
    assert version == f"lfadsrm, version {__version__}\n"
    made = json.loads(ask(python, "-c", RENDER, tmp_path / "collection", cwd=tmp_path))
    assert Path(made["home"]).is_relative_to(python.parents[1]), "this is not the wheel"
    ask("bash", "-n", tmp_path / "collection/run_queue.sh")
    from_clone = ask(
        sys.executable, "-c", RENDER, tmp_path / "collection", cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}
    )
    clone = json.loads(from_clone)
    assert Path(clone["home"]) == ROOT / "lfadsrm_hpc/__init__.py"
    assert made["script"] == clone["script"]
    assert made["run"] == clone["run"]


def test_an_editable_install(tree: Path, tmp_path: Path) -> None:
    python = make_venv(tmp_path / "venv")
    add_dependencies(python)  # the build backend among them
    install(python, *build_flags(), "-e", tree)
    found = json.loads(ask(python, "-c", LIST_DATA, cwd=tmp_path))
    assert Path(found["home"]) == tree / "lfadsrm_hpc/__init__.py"
    assert found["templates"] == names("templates", ".j2")
    assert found["sites"] == names("site_configs", ".toml")
    made = json.loads(ask(python, "-c", RENDER, tmp_path / "collection", cwd=tmp_path))
    assert Path(made["home"]).is_relative_to(tree)
    ask("bash", "-n", tmp_path / "collection/run_queue.sh")
