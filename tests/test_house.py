"""The rules of docs/architecture.md that a machine can hold: where imports, processes and paths may be."""

from __future__ import annotations

import ast
import builtins
import configparser
import functools
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
from house import PACKAGE, ROOT, dotted, floor, imports, inside, modules, room

from lfadsrm_hpc import errors

HEAVY = {"tensorflow", "xarray", "pandas", "matplotlib", "h5py", "netCDF4", "scipy"}
MOST_LINES = 400
# One subject each, and no wall inside that would help a reader.
LONG_FILES = {
    "model/hyperparameters.py": "a table: every hyperparameter with its meaning, unit and range",
    "collection/params.py": "a table as well: what the manager adds to them, and the hashes of all",
    "model/training/loop.py": "one training: epochs, saving and going back share their state",
}
MOST_LINES_A_FUNCTION = 55  # without its docstring
LIGHT_ROOMS = {
    "errors", "layout", "legacy_layout", "command", "markup", "toml_lines", "rendering", "manifest",
    "schedulers", "collection", "api", "cli", "doctor",
}  # fmt: skip


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


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    name = path.relative_to(PACKAGE).as_posix()
    lines = len(text.splitlines())
    assert (lines > MOST_LINES) == (name in LONG_FILES), f"{name} has {lines} lines; see LONG_FILES"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1 if ast.get_docstring(node) is not None and len(node.body) > 1 else 0]
            length = (node.end_lineno or 0) - first.lineno + 1
            assert length <= MOST_LINES_A_FUNCTION, f"{name}: {node.name} has {length} lines: split it"


# What they raise is completed by their callers, or says all that can be said in one sentence.
COMPLETED_BY_CALLERS = {"manifest/records.py", "model/fields.py", "worker/work.py"}
# Errors of Python's own, each turned into one of ours (or an exit code) by the code around it.
OWN_TO_PYTHON = {
    "__init__.py": {"AttributeError"},
    "submitit_plugin/__init__.py": {"AttributeError"},
    "collection/params.py": {"ValueError"},
    "data/aligning.py": {"NotImplementedError"},
    "data/extra_file.py": {"ValueError"},
    "data/formats/matlab_hdf5.py": {"ValueError"},
    "data/formats/matlab_values.py": {"ValueError"},
    "data/making.py": {"NotImplementedError"},
    "doctor/disk.py": {"FileNotFoundError"},
    "manifest/records.py": {"TypeError"},
    "model/fields.py": {"ValueError"},
    "model/hyperparameters.py": {"ValueError"},
    "plain_files.py": {"OSError", "IsADirectoryError", "ValueError"},
    "results/model_params.py": {"ValueError"},
    "stopping.py": {"KeyboardInterrupt"},
}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_errors_are_ours_and_say_what_to_do(path: Path) -> None:
    """Errors that reach users are in the tree of `errors.py`, and name a place or a next step."""
    name = path.relative_to(PACKAGE).as_posix()
    tree = {one for one, kind in vars(errors).items() if isinstance(kind, type)}
    for node in ast.walk(ast.parse(path.read_text())):
        raised = node.exc if isinstance(node, ast.Raise) else None
        kind = raised.func if isinstance(raised, ast.Call) else raised
        if not isinstance(kind, ast.Name) or not kind.id[0].isupper():
            continue
        if kind.id in ("KeyboardInterrupt", "SystemExit"):
            continue  # how a command ends
        if hasattr(builtins, kind.id):
            assert kind.id in OWN_TO_PYTHON.get(name, ()), f"{name}:{kind.lineno} raises {kind.id}"
        if kind.id in tree and isinstance(raised, ast.Call) and name not in COMPLETED_BY_CALLERS:
            told = {one.arg for one in raised.keywords} & {"where", "hint", "command", None}
            assert told, f"{name}:{kind.lineno}: {kind.id} with neither where= nor hint="


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_public_names_are_described(path: Path) -> None:
    tree = ast.parse(path.read_text())
    told = ast.get_docstring(tree) or ""
    assert told.split("\n\n")[0].rstrip().endswith((".", ":", "?", ")", "`")), (
        f"{path}: no sentence at the top"
    )
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
            elsewhere = [ast.unparse(one) for one in node.decorator_list]  # an overload; a command's help
            if not any("overload" in one or "command(help=" in one for one in elsewhere):
                assert ast.get_docstring(node), f"{path}: {node.name} has no docstring"


def test_names_that_pages_and_docstrings_use_exist() -> None:
    """A dotted name of the package in text is a module, or a name that one defines or hands on."""
    files = {dotted(path): path for path in modules()}
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *modules(), *(ROOT / "tests").rglob("*.py")]
    lost = []
    for page in pages:
        for name in re.findall(r"lfadsrm_hpc(?:\.[A-Za-z_]\w*)+", page.read_text()):
            module, rest = name, []
            while module not in files:
                module, _, last = module.rpartition(".")
                rest.insert(0, last)
            if rest and rest[0] not in OTHER_NAMES | names_in(files[module]):
                lost.append(f"{page.relative_to(ROOT)}: {name}")
    assert not lost


# Folders beside the package, groups of entry points, and files of the editable install.
OTHER_NAMES = {"templates", "site_configs", "readers", "__version__", "__file__"}


@functools.cache
def names_in(path: Path) -> set[str]:
    """Return the names at the top of a module, and those that its strings list for later."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def test_every_module_has_its_place_in_the_tree_of_rooms() -> None:
    """docs/architecture.md has each file in its tree: by name, or by subject where a folder lists those."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    tree = text[text.index("    lfadsrm_hpc/\n") : text.index("## On disk")]
    named = set()
    for word in re.findall(r"[\w*{},]+\.py", tree):
        one_of = re.fullmatch(r"(.*)\{(.*)\}(.*)", word)
        named |= {f"{one_of[1]}{x}{one_of[3]}" for x in one_of[2].split(",")} if one_of else {word}
    told = {"__init__.py", "__main__.py", "_version.py"}
    commands = {path.name for path in (PACKAGE / "cli").glob("*.py")}  # "one module a command"
    figures = {path.name for path in (PACKAGE / "results" / "plots").glob("*.py")}  # by what they show
    files = {path.name for path in modules()}
    lacking = {
        one for one in files - told - commands - figures if not any(fnmatch(one, name) for name in named)
    }
    assert not lacking, "docs/architecture.md does not tell what these are for"
    gone = {one for one in named if not any(fnmatch(file, one) for file in files)}
    assert not gone, "docs/architecture.md tells of files that are not there"
