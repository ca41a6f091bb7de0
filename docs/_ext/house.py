"""What the package imports, read from its source: for the tests of its rules and for their picture.

Nothing is imported, only parsed, so that no import hidden in a function is missed.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "lfadsrm_hpc"

# Floors from the ground up: a module may import from its own floor's room and from floors below.
FLOORS = [
    {"errors", "_version"},
    {
        "layout",
        "legacy_layout",
        "command",
        "stopping",
        "markup",
        "toml_lines",
        "original_names",
        "plain_files",
        "beside",
    },
    {"trust"},
    {"rendering", "data", "manifest", "model"},
    {"collection"},
    {"results", "schedulers"},
    {"inference"},
    {"worker"},
    {"submitit_plugin", "timing", "doctor"},
    {"api"},
    {"cli"},
    {"__main__"},
]


def modules() -> list[Path]:
    """Return every source file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """Return the room that a source file is in: a folder of the package, or a file beside the folders."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def dotted(path: Path) -> str:
    """Return a module's name; that of a package for its `__init__.py`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def floor(name: str) -> int:
    """Return the floor of a room, 0 for the ground."""
    return next(level for level, rooms in enumerate(FLOORS) if name in rooms)


def imports(path: Path, *, types: bool = True, functions: bool = True) -> tuple[str, ...]:
    """Return the dotted names that a module imports, those for types alone and inside functions too."""
    return _imports(path, path.stat().st_mtime_ns, types, functions)


@functools.cache
def _imports(path: Path, _changed_ns: int, types: bool, functions: bool) -> tuple[str, ...]:
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if not types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(ast.walk(node))
        if not functions and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            skipped.update(ast.walk(node))
    names: list[str] = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


def inside(name: str) -> str | None:
    """Return the room that a dotted name lies in; None for what is not of the package."""
    parts = name.split(".")
    return parts[1] if parts[0] == "lfadsrm_hpc" and len(parts) > 1 else None


def rooms_imported() -> dict[tuple[str, str], int]:
    """Return how many source files of one room import from another, for all pairs of rooms that do."""
    found: dict[tuple[str, str], int] = {}
    for path in modules():
        here = room(path)
        targets = {inside(name) for name in imports(path)} - {None, here, "__version__"}
        for target in targets:
            assert target is not None
            found[here, target] = found.get((here, target), 0) + 1
    return found
