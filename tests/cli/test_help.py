"""The help is documentation: every command has it, and its examples are commands that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import click
import pytest
from every_command import leaves, options_of

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.cli.main import _COMMANDS, _HIDDEN, lfadsrm


def commands() -> dict[str, click.Command]:
    context = click.Context(lfadsrm)
    found = {name: lfadsrm.get_command(context, name) for name in _COMMANDS}
    return {name: command for name, command in found.items() if command is not None}


def examples(text: str) -> Iterator[list[str]]:
    """Yield the words of each `lfadsrm ...` in the examples of a help text."""
    for line in text.partition("Examples:")[2].splitlines():
        bare = re.split(r"\s{2,}", line.strip())[0]
        for part in re.split(r"&&|\|", bare):
            if part.strip().startswith("lfadsrm "):
                yield shlex.split(part)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_the_whole(call: Any, flag: str) -> None:
    said = call(flag)
    assert (said.code, said.err) == (0, "")
    assert "Examples:" in said.out
    assert "Exit codes:" in said.out
    for name in _COMMANDS:
        assert (f"  {name} " in said.out) == (name != "task")
    lines = said.out.partition("Begin:")[2].partition("Examples:")[0].splitlines()
    commands = [line for line in lines if line.startswith("  ") and line.strip()]
    assert len(commands) == len(_COMMANDS) - 1, "each has one line, also on a terminal of 80 columns"


@pytest.mark.parametrize("name", list(_COMMANDS))
def test_help_of_each_command(call: Any, name: str) -> None:
    said = call(name, "--help")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"Usage: lfadsrm {name} ")
    assert list(examples(said.out)), "there are no examples"
    assert max(map(len, said.out.splitlines())) <= 100
    for parameter in commands()[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.opts} is not explained"


@pytest.mark.parametrize("name", ["", *_COMMANDS])
def test_examples_use_commands_and_options_that_exist(call: Any, name: str) -> None:
    known = commands()
    for _, command, *words in examples(call(*[name] if name else [], "--help").out):
        assert command in known
        options = {option for parameter in known[command].params for option in parameter.opts}
        options |= {option for parameter in known[command].params for option in parameter.secondary_opts}
        used = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert used <= options


def test_the_list_of_commands_is_that_of_the_modules() -> None:
    assert {command.name for command in commands().values()} == set(_COMMANDS)
    assert [name for name, command in commands().items() if command.hidden] == ["task"]


def test_an_option_is_of_one_sort_in_all_commands() -> None:
    """A flag here is no value there, and a short name stands for one long name."""
    sorts: dict[str, set[object]] = {}
    for words, command in leaves().items():
        for option in options_of(command) if words[0] not in _HIDDEN else ():
            long = max(option.opts, key=len)
            sorts.setdefault(long, set()).add(option.is_flag)
            for short in set(option.opts) - {long}:
                sorts.setdefault(short, set()).add(long)
    assert {name: found for name, found in sorts.items() if len(found) > 1} == {}


@pytest.mark.parametrize("words", [pytest.param(words, id=" ".join(words)) for words in leaves()])
def test_help_tells_the_exit_codes(words: tuple[str, ...]) -> None:
    """Every command may be called wrongly, so each tells of 2 but `task`, which has the codes of a run."""
    told = " ".join((leaves()[words].help or "").partition("Exit codes:")[2].split())
    same = "those of `lfadsrm submit`" in told
    assert same or re.match(r"0 \w", told)
    assert same or words[0] in _HIDDEN or re.search(r"; 2 \w", told)


def test_version(call: Any) -> None:
    assert call("--version").out == f"lfadsrm, version {__version__}\n"
