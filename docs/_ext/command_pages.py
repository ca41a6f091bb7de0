"""The command line as Markdown, from the commands themselves: what `--help` says, each with an address."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from lfadsrm_hpc.cli.main import lfadsrm

_INDENTED = "\b"  # click: the paragraph keeps its lines


def reference() -> str:
    """Return a section for every command that `--help` lists, subcommands below their own."""
    context = click.Context(lfadsrm, info_name="lfadsrm", **lfadsrm.context_settings)
    return "\n".join(_sections(context, 2))


def _sections(context: click.Context, level: int) -> Iterator[str]:
    yield from _section(context, level)
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            if not command.hidden:
                inner = click.Context(command, info_name=name, parent=context, **command.context_settings)
                yield from _sections(inner, level + 1 if context.parent else level)


def _section(context: click.Context, level: int) -> Iterator[str]:
    command = context.command
    path = context.command_path
    yield f"({path.replace(' ', '-')})=\n{'#' * level} {path}\n"
    yield from _paragraphs(command.help or "")
    words = " ".join(command.collect_usage_pieces(context))
    yield f"```bash\n{path} {words}\n```\n"
    rows = [_row(option, context) for option in command.get_params(context)]
    rows = [row for row in rows if row]
    if rows:
        yield "\n".join(["| option | meaning |", "|---|---|", *rows]) + "\n"
    yield from _paragraphs(command.epilog or "")


def _row(option: click.Parameter, context: click.Context) -> str:
    """Return a line of the table of options; arguments stand in the line of usage."""
    record = option.get_help_record(context)
    if record is None:
        return ""
    names, meaning = record
    if not meaning or names.endswith("--help"):
        return ""
    variable = _variable(option, context)
    if variable and variable not in meaning:
        meaning += f" [env var: {variable}]"
    escaped_names = names.replace("|", "\\|")
    return f"| `{escaped_names}` | {escaped(meaning)} |"


def _variable(option: click.Parameter, context: click.Context) -> str:
    """Return the environment variable that stands for an option; "" where there is none."""
    if isinstance(option.envvar, str):
        return option.envvar
    if option.envvar:
        return ", ".join(option.envvar)
    if context.auto_envvar_prefix and isinstance(option, click.Option) and option.allow_from_autoenv:
        return f"{context.auto_envvar_prefix}_{(option.name or '').upper()}"
    return ""


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; those whose lines are kept, as blocks."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        first, _, rest = paragraph.partition("\n")
        if first.strip() != _INDENTED:
            yield escaped(" ".join(paragraph.split())) + "\n"
            continue
        lines = rest.split("\n")
        if not any(line.startswith("  ") for line in lines):
            yield escaped(" ".join(lines)) + "\n"
            continue
        if lines and lines[0].endswith(":") and len(lines) > 1 and lines[1].startswith("  "):
            yield escaped(lines[0]) + "\n"
            lines = inspect.cleandoc("\n" + "\n".join(lines[1:])).split("\n")
        lines = [_with_comment(line) for line in lines]
        kind = "bash" if all(re.match(r"lfadsrm |#|\s|$", line) for line in lines) else "text"
        yield f"```{kind}\n" + "\n".join(lines) + "\n```\n"


def _with_comment(line: str) -> str:
    """Return a line of an example with what is said of it as a comment: `lfadsrm run     says this`."""
    return (
        re.sub(r"^(lfadsrm .*?\S) ( +)(?! )(?!#)", r"\1 \2# ", line)
        if re.search(r"\S {2,}\S", line)
        else line
    )


def escaped(text: str) -> str:
    """Return a text of one line so that Markdown shows it as it is; what stands in backticks stays code."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(
        part if len(part) > 1 and part[0] == part[-1] == "`" else re.sub(r"([\\*_<>|\[\]#~$])", r"\\\1", part)
        for part in parts
    )
