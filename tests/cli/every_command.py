"""All commands of the command line, for the tests of rules that hold for all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from lfadsrm_hpc.cli.main import _COMMANDS, lfadsrm

Words = tuple[str, ...]


def every_command() -> dict[Words, click.Command]:
    """Return the commands by their words: ("status",), ("site",), ("site", "check")."""
    context = click.Context(lfadsrm)
    found: dict[Words, click.Command] = {}
    for name in _COMMANDS:
        command = lfadsrm.get_command(context, name)
        assert command is not None
        found.update(_below((name,), command))
    return found


def _below(words: Words, command: click.Command) -> Iterator[tuple[Words, click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _below((*words, name), inner)


def leaves() -> dict[Words, click.Command]:
    """Return those that do something: all but groups."""
    return {words: each for words, each in every_command().items() if not isinstance(each, click.Group)}


def examples(help_text: str) -> list[str]:
    """Return the lines of shell among the examples of a help text, without what is said behind them."""
    block = help_text.partition("Examples:\n")[2].partition("\n\n")[0]
    return [re.split(r"\s{2,}", line.strip())[0] for line in block.splitlines() if line.strip()]


def options_of(command: click.Command) -> list[click.Option]:
    """Return the options that are settings: neither --help nor --version."""
    return [each for each in command.params if isinstance(each, click.Option) and each.expose_value]
