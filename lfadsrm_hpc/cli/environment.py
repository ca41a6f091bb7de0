"""Environment variables that stand for options: LFADSRM_<COMMAND>_<OPTION>, by one rule for all commands."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

PREFIX = "LFADSRM"
# They hold for every command that has such an option; the command's own variable goes before.
SHARED = {"--json": "LFADSRM_JSON", "--collection": "LFADSRM_COLLECTION"}
# What confirms that something is deleted, replaced or cancelled is said each time, and never by a variable
# that somebody exported long ago.
CONFIRMATIONS = frozenset(
    {"--yes", "--force", "--overwrite", "cancel --all", "clean --restart", "clean --unnamed"}
)
# Commands that scripts call: what a user happens to have exported must not change what a job does.
FOR_SCRIPTS = frozenset({"task"})


def name_variables(command: click.Command, words: tuple[str, ...]) -> None:
    """Let each option of a command be set by its variable, and say so at the end of its help.

    Parameters
    ----------
    command : click.Command
        Changed in place; a group with its subcommands.
    words : tuple of str
        How it is called: ("site", "check").
    """
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            name_variables(inner, (*words, name))
    if words[0] in FOR_SCRIPTS:
        kept = sorted(each for option in options(command) for each in _variables(option))
        command.epilog = f"Of the variables LFADSRM_... it heeds {', '.join(kept)} alone; jobs set them."
        return
    for option in options(command):
        variable = variable_of(option, words)
        if variable is not None:
            # Once only: completion and tests load a command again and again.
            option.envvar = [variable, *(each for each in _variables(option) if each != variable)]
    command.epilog = _epilog(command, words)


def options(command: click.Command) -> Iterator[click.Option]:
    """Yield the options of a command that are settings; --help and --version are none."""
    for option in command.params:
        if isinstance(option, click.Option) and option.expose_value:
            yield option


def variable_of(option: click.Option, words: tuple[str, ...]) -> str | None:
    """Return the variable of an option; None for one that confirms something."""
    flag = long_name(option)
    if flag in CONFIRMATIONS or " ".join((*words, flag)) in CONFIRMATIONS:
        return None
    return "_".join((PREFIX, *words, flag.lstrip("-"))).replace("-", "_").upper()


def long_name(option: click.Option) -> str:
    """Return an option's name as help shows it: --gpu of --gpu/--no-gpu."""
    return max(option.opts, key=len)


def variables_at_work(command: click.Command) -> list[str]:
    """Return the variables that are set and that a command would heed, for messages about what is wrong."""
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    found = [name for each in inner for name in variables_at_work(each)]
    for parameter in command.params:
        found += [name for name in _variables(parameter) if os.environ.get(name)]
    return list(dict.fromkeys(found))


def _variables(parameter: click.Parameter) -> list[str]:
    given = parameter.envvar
    return [given] if isinstance(given, str) else list(given or ())


def _epilog(command: click.Command, words: tuple[str, ...]) -> str | None:
    """Return the line about variables, with one that this command has as the example."""
    named = [option for option in options(command) if variable_of(option, words) is not None]
    texts = []
    own = [option for option in named if long_name(option) not in SHARED]
    if own:
        flag, variable = long_name(own[0]), variable_of(own[0], words)
        texts.append(f"each option has one, such as {variable} for {flag}")
    shared = {name for parameter in command.params for name in _variables(parameter)} & {*SHARED.values()}
    if "LFADSRM_COLLECTION" in shared:
        texts.append("LFADSRM_COLLECTION stands for WHERE")
    if "LFADSRM_JSON" in shared:
        texts.append("LFADSRM_JSON=1 for --json")
    return f"Environment variables: {'; '.join(texts)}." if texts else None
