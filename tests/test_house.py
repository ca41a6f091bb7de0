"""The rules of docs/architecture.md that a machine can hold: where imports, processes and paths may be."""

from __future__ import annotations

import ast
import configparser
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lfadsrm_hpc"

# Floors from the ground up: a module may import from its own floor's room and from floors below.
FLOORS = [
    {"errors", "_version"},
    {"layout", "legacy_layout", "command", "stopping", "markup", "plain_files"},
    {"trust"},
    {"rendering", "data", "manifest", "model"},
    {"collection"},
    {"results", "schedulers"},
    {"inference"},
    {"worker"},
    {"submitit_plugin", "timing"},
    {"api"},
    {"cli"},
    {"__main__"},
]
HEAVY = {"tensorflow", "xarray", "pandas", "matplotlib", "h5py", "netCDF4", "scipy"}
LIGHT_ROOMS = {
    "errors", "layout", "legacy_layout", "command", "markup", "rendering", "manifest", "schedulers",
    "collection", "api", "cli",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def dotted(path: Path) -> str:
    """Return a module's name; that of a package for its `__init__.py`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def floor(name: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if name in rooms)


def imports(path: Path, *, types: bool = True, functions: bool = True) -> Iterator[str]:
    """Yield the dotted names that a module imports, also those for types alone and those inside functions."""
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if not types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(ast.walk(node))
        if not functions and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            skipped.update(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "lfadsrm_hpc" and len(parts) > 1 else None


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        pytest.skip("the package's own door names the rooms lazily")
    for name in imports(path):
        target = inside(name)
        if target is None or target in (here, "__version__"):
            continue
        allowed = floor(target) < floor(here) or name.startswith("lfadsrm_hpc.model.hyperparameters")
        if here == "collection" and target == "model":
            allowed = name.startswith("lfadsrm_hpc.model.hyperparameters")
        if here == "results" and target == "model":
            allowed = False
        assert allowed, f"{path.relative_to(ROOT)} imports {name}: that is upwards or beside"


def test_only_worker_and_inference_use_the_tensorflow_model() -> None:
    for path in modules():
        if room(path) in ("model", "worker", "inference", "timing"):
            continue
        for name in imports(path, types=False):
            if name.startswith("lfadsrm_hpc.model."):
                assert name.startswith("lfadsrm_hpc.model.hyperparameters"), f"{path}: {name}"
            assert name.split(".")[0] != "tensorflow", f"{path} imports tensorflow"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_light_rooms_have_no_heavy_import_at_the_top(path: Path) -> None:
    if room(path) not in LIGHT_ROOMS and path.name != "hyperparameters.py":
        return
    heavy = {name for name in imports(path, types=False, functions=False) if name.split(".")[0] in HEAVY}
    assert not heavy


def test_no_circles_between_modules() -> None:
    """Imports inside functions and for types count too: who knows whom should not need a circle."""
    known = {dotted(path): path for path in modules()}
    graph: dict[str, set[str]] = {}
    for module, path in known.items():
        graph[module] = set()
        for name in imports(path):
            while name and name not in known:
                name = name.rpartition(".")[0]
            if name and name not in (module, "lfadsrm_hpc"):
                graph[module].add(name)

    finished: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module in finished:
            return
        for target in graph[module]:
            visit(target, (*trail, module))
        finished.add(module)

    for module in graph:
        visit(module, ())


def test_processes_start_in_one_place() -> None:
    for path in modules():
        if path == PACKAGE / "command.py":
            continue
        text = path.read_text()
        assert "shell=True" not in text
        assert "os.system(" not in text
        assert not any(name.split(".")[0] == "subprocess" for name in imports(path)), path


def test_packages_are_those_of_the_folders() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = set(setup["options"]["packages"].split())
    folders = {".".join(path.relative_to(ROOT).parts[:-1]) for path in PACKAGE.rglob("__init__.py")}
    beside = {"lfadsrm_hpc.templates", "lfadsrm_hpc.site_configs"}
    assert named == folders | beside
    assert {path.parent for path in modules()} == {path.parent for path in PACKAGE.rglob("__init__.py")}
