"""What the reference pages show of the package: one list, for Sphinx and for the test of docstrings.

A page of docs/reference names what it shows in comments, which are invisible where Markdown is read as it is:

    <!-- class lfadsrm_hpc.RunSpec -->                            a class with its methods
    <!-- names lfadsrm_hpc.data.readers -->                       all that `__all__` names
    <!-- names lfadsrm_hpc.results.psth: psth_r2 Explained -->    these; classes without their methods
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGES = Path(__file__).resolve().parents[1] / "reference"
_MARK = re.compile(r"^<!-- (class|names) ([\w.]+)(?:: ([\w\s]+?))? -->$", re.MULTILINE)


@dataclass(frozen=True)
class Public:
    """A name that the reference shows.

    Attributes
    ----------
    name : str
        As users write it, with its module.
    kind : {"class", "function", "data", "method", "property"}
    value : object
        What it stands for.
    """

    name: str
    kind: str
    value: Any


@dataclass(frozen=True)
class Group:
    """Members of a class that one of its bases brings, under the first line of that base's docstring."""

    title: str
    members: list[Public]


def found(name: str) -> Any:
    """Return what a dotted name stands for."""
    home, _, last = name.rpartition(".")
    try:
        return getattr(importlib.import_module(home), last)
    except ModuleNotFoundError:  # a nested name
        return getattr(found(home), last)


def groups(name: str) -> list[Group]:
    """Return the public members of a class by the base that brings them, the class itself first.

    Bases of other packages, and private ones, bring nothing that is shown; a member is shown once.
    """
    seen: set[str] = set()
    every = []
    for base in found(name).__mro__:
        if not base.__module__.startswith("lfadsrm_hpc"):
            continue
        own = [_member(f"{name}.{word}", value) for word, value in vars(base).items() if word not in seen]
        members = [one for one in own if one is not None]
        seen |= {one.name.rpartition(".")[2] for one in members}
        if members:
            every.append(Group(_first_line(base), members))
    return every


def _member(name: str, value: Any) -> Public | None:
    if name.rpartition(".")[2].startswith("_"):
        return None
    if isinstance(value, property | functools.cached_property):
        return Public(name, "property", value)
    value = getattr(value, "__func__", value)
    return Public(name, "method", value) if inspect.isfunction(value) else None


def _first_line(thing: Any) -> str:
    line = (inspect.getdoc(thing) or "").split("\n")[0]
    return line.partition(";")[0].rstrip(".:").replace("`", "")


def marks(text: str) -> Iterator[tuple[re.Match[str], list[Public], list[Group]]]:
    """Yield each comment of a page that names something, with what it names, and the members of a class."""
    for mark in _MARK.finditer(text):
        kind, home, words = mark.groups()
        if kind == "class":
            yield mark, [_public(home)], groups(home)
        else:
            names = words.split() if words else importlib.import_module(home).__all__
            yield mark, [_public(f"{home}.{word}") for word in names], []


def _public(name: str) -> Public:
    value = found(name)
    kind = "class" if inspect.isclass(value) else "function" if inspect.isroutine(value) else "data"
    return Public(name, kind, value)


def every_public() -> list[Public]:
    """Return every name that any page of the reference shows, members of classes among them."""
    every = []
    for page in sorted(PAGES.glob("*.md")):
        for _, names, below in marks(page.read_text()):
            every += [*names, *(member for group in below for member in group.members)]
    return every


def homes() -> dict[str, str]:
    """Return the shown name of each class and function by what signatures call it.

    That is the name under which it was defined, a part of it where an annotation is a text, and, of a class,
    also those of its bases that have the same name: a run of `lfadsrm_hpc.collection` is shown as `Run`.
    """
    found_homes: dict[str, str] = {}
    for one in every_public():
        if one.kind not in ("class", "function"):
            continue
        for base in one.value.__mro__ if one.kind == "class" else [one.value]:
            if base.__qualname__ == one.value.__qualname__ and base.__module__.startswith("lfadsrm_hpc"):
                found_homes.setdefault(f"{base.__module__}.{base.__qualname__}", one.name)
                found_homes.setdefault(base.__qualname__, one.name)
                last = base.__module__.rpartition(".")[2]  # as where a module is imported, not its names
                found_homes.setdefault(f"{last}.{base.__qualname__}", one.name)
    return found_homes


# ---------------------------------------------------------------- as Markdown


def filled(text: str) -> str:
    """Return a page with what its comments name in their place, as directives of Sphinx."""
    parts, end = [], 0
    for mark, names, below in marks(text):
        shown = [_auto(one) for one in names]
        for number, group in enumerate(below):
            if number > 0:  # the first ones are those of the class itself
                shown.append(f"### {group.title}\n")
            shown += [_auto(one) for one in group.members]
        parts += [text[end : mark.start()], "\n".join(shown)]
        end = mark.end()
    return "".join([*parts, text[end:]])


def _auto(one: Public) -> str:
    return f"```{{eval-rst}}\n.. auto{one.kind}:: {one.name}\n```\n"
