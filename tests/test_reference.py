"""The reference tells of everything public, and what is made from the code is up to date."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import command_pages
import house
import house_picture
import public_names
import pytest
import written_pages

from lfadsrm_hpc import __version__, errors
from lfadsrm_hpc.cli.main import lfadsrm
from lfadsrm_hpc.model.hyperparameters import Hyperparameters

ROOT = Path(__file__).resolve().parent.parent
SECTION = re.compile(
    r"^(Parameters|Other Parameters|Attributes)\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", re.MULTILINE | re.DOTALL
)


def told(doc: str) -> set[str]:
    """Return the names that the sections of a docstring tell of."""
    found: set[str] = set()
    for _, text in SECTION.findall(doc):
        for line in text.splitlines():
            if line and not line.startswith(" "):
                found |= {name.strip().lstrip("*") for name in line.partition(" : ")[0].split(",")}
    return found


def wanted(one: public_names.Public) -> list[str]:
    """Return the names that a docstring has to tell of."""
    if one.kind in ("function", "method"):
        return [name for name in inspect.signature(one.value).parameters if name not in ("self", "cls")]
    if one.kind != "class" or not dataclasses.is_dataclass(one.value):
        return []
    if issubclass(one.value, Hyperparameters):
        return []  # each field has a description of its own: see the table of them
    return [field.name for field in dataclasses.fields(one.value) if not field.name.startswith("_")]


def test_docstrings_tell_everything() -> None:
    lacking = []
    for one in public_names.every_public():
        doc = inspect.getdoc(one.value) or ""
        first = doc.split("\n\n")[0]
        if not first.rstrip().endswith((".", ":", "?", "`")):
            lacking.append(f"{one.name}: begins with no sentence: {first!r}")
        missing = [name for name in wanted(one) if name not in told(doc)]
        if missing:
            lacking.append(f"{one.name} does not tell of {', '.join(missing)}")
        if one.kind in ("function", "method"):
            known = [*inspect.signature(one.value).parameters]
            section = re.search(r"^Parameters\n-+\n.*?(?=^\w[\w ]*\n-+\n|\Z)", doc, re.M | re.S)
            unknown = sorted(told(section[0]) - set(known)) if section else []
            if unknown:
                lacking.append(f"{one.name} tells of {', '.join(unknown)}, which it does not have")
    assert not lacking, "\n".join(lacking)


def test_all_that_is_public_is_there() -> None:
    shown = {one.name for one in public_names.every_public()}
    for home in ("", ".data.readers", ".results.plots", ".submitit_plugin", ".model.training.loop"):
        module = importlib.import_module(f"lfadsrm_hpc{home}")
        public = {f"{module.__name__}.{name}" for name in module.__all__ if name != "__version__"}
        assert public <= shown
    kinds = [value for value in vars(errors).values() if inspect.isclass(value)]
    tree = {one for one in kinds if issubclass(one, errors.LfadsrmError | errors.LfadsrmWarning)}
    assert {f"lfadsrm_hpc.errors.{one.__name__}" for one in tree} <= shown
    assert len(tree) > 20


def imported_by_pages() -> Iterator[tuple[str, str]]:
    """Yield the page and the name of all that the documentation imports from the package."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb")]
    for page in pages:
        text = page.read_text()
        if page.suffix == ".ipynb":
            cells = json.loads(text)["cells"]
            text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        for home, names in re.findall(r"^from (lfadsrm_hpc[\w.]*) import ([\w, ]+)$", text, re.M):
            yield from ((page.name, f"{home}.{name.strip()}") for name in names.split(","))


def test_what_pages_import_is_in_the_reference() -> None:
    every = public_names.every_public()
    shown = {one.name for one in every} | {one.name.rpartition(".")[0] for one in every}
    names = list(imported_by_pages())
    assert len(names) > 20
    for page, name in names:
        assert name in shown, f"{page} uses {name}: name it on a page of docs/reference"


@pytest.mark.parametrize("name", written_pages.PAGES)
def test_pages_made_from_the_code(name: str) -> None:
    stored = (ROOT / "docs/reference" / name).read_text()
    assert stored == written_pages.PAGES[name](), "python docs/_ext/written_pages.py writes it again"


def test_picture_of_the_house() -> None:
    drawn = house_picture.PICTURE.read_text()
    assert drawn == house_picture.draw(numbers=False), "python docs/_ext/house_picture.py draws it again"
    rooms = {house.room(path) for path in house.modules()} - {"__init__", "_version"}
    for room in rooms:
        assert f">{room}</text>" in drawn
    arrows = set(re.findall(r"<title>(\w+) imports (\w+)</title>", drawn))
    ground = set().union(*house.FLOORS[: house_picture.GROUND_FLOORS])
    imported = {pair for pair in house.rooms_imported() if not set(pair) & {*ground, "_version", "__init__"}}
    assert arrows == imported
    assert len(arrows) > 30


def test_picture_with_numbers() -> None:
    drawn = house_picture.draw(numbers=True)
    n_files = len(list((ROOT / "lfadsrm_hpc/cli").glob("*.py")))
    assert f"{n_files} files, " in drawn


def commands(group: click.Command, path: str = "lfadsrm") -> Iterator[tuple[str, click.Command]]:
    yield path, group
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if not command.hidden:
                yield from commands(command, f"{path} {name}")


def test_commands_and_options_are_in_the_reference() -> None:
    sections = re.split(r"^\(.*\)=\n#+ ", command_pages.reference(), flags=re.M)
    by_name = {section.split("\n")[0]: section for section in sections[1:]}
    every = dict(commands(lfadsrm))
    assert by_name.keys() == every.keys()
    assert len(every) > 20
    for path, command in every.items():
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert max(option.opts, key=len) in by_name[path], f"{path} {option.opts}"


def test_helps_survive_as_markdown() -> None:
    assert command_pages.escaped("a_b `c_d` [x] 2*3 a|b") == r"a\_b `c_d` \[x\] 2\*3 a\|b"


def test_citation_names_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {__version__}\n" in text
    for key in ("cff-version", "message", "title", "authors"):
        assert re.search(rf"^{key}:", text, re.M)
