"""No page holds code that nobody executes and nobody explains, and its links and commands lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from doc_pages import MARKER, ROOT, Block, blocks, commands, pages

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXECUTED = {"python", "bash", "console"}
READ = {"text", "toml", "jinja", "matlab", "ini"}  # of these, what names a file is written, and then used
DIRECTIVE = re.compile(
    r"\{(?!code|literalinclude|doctest|prompt)[\w:-]+\}.*"
)  # of the site's builder; not for code
# A line that somebody might type.
TYPED = re.compile(
    r"\s*(\$ |(lfadsrm|python3?|pip|bash|sbatch|srun|qsub|cd|export|module|LFADSRM_\w+=\S*) +\S"
    r"|import \w|from \w+ import )"
)
# A line of Python or TOML that is set off by blanks.
CODE = re.compile(r"""(\w+ = )?[\w.]+\([^)]*["'=][^)]*\);?|\[+[\w.\-"]+\]+""")
# A link's target: a file with or without an anchor; not the web.
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#[^)]*)?\)")
every_page = pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))


def outside_fences(page: Path) -> list[tuple[int, str]]:
    """Return the lines of a page that are in no fence, with their numbers."""
    inside = {
        line for block in blocks(page) for line in range(block.line, block.line + block.text.count("\n") + 2)
    }
    lines = page.read_text().splitlines()
    return [(number, line) for number, line in enumerate(lines, start=1) if number not in inside]


@every_page
def test_every_block_is_executed_or_explained(page: Path) -> None:
    for block in blocks(page):
        if block.language in EXECUTED:
            if "not run" in block.markers:
                assert len(block.markers["not run"].split()) >= 2, f"{block}: why is it not run?"
        elif block.language in READ:
            typed = [line for line in block.text.splitlines() if TYPED.match(line)]
            shown = "output" in block.markers or block.file is not None or "not run" in block.markers
            assert shown or not typed, f"{block} holds what nobody executes: {typed[0]!r}"
            assert block.language == "text" or shown, (
                f"{block}: nobody reads it; name a file in its first line"
            )
        else:
            assert DIRECTIVE.fullmatch(block.language), f"{block}: nobody knows this language"


@every_page
def test_no_code_hides_outside_of_fences(page: Path) -> None:
    for number, line in outside_fences(page):
        assert not line.lstrip().startswith("```"), f"{page.name}, line {number}: a fence that is not closed"
        if line.startswith("    "):
            code = TYPED.match(line) or CODE.fullmatch(line.strip())
            assert not code, f"{page.name}, line {number}: put it between ```: {line!r}"


@every_page
def test_markers_stand_before_blocks(page: Path) -> None:
    used = sum(len(block.markers) for block in blocks(page))
    assert len(MARKER.findall(page.read_text())) == used, "a marker must stand in the line before a block"
    said = re.findall(r"<!-- (?:not run|wait|meanwhile|output)\b.*?-->", page.read_text(), re.DOTALL)
    assert len(said) == used, "a marker is one line: <!-- not run: WHY -->"


@every_page
def test_code_can_be_read(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, str(block), "exec")
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "bash":
            assert not re.search(r"(?m)^\$ ", block.text), f"{block}: prompts cannot be copied"
            can_be_read(block.text, block)
        elif block.language == "console":
            for command, _ in commands(block.text):
                can_be_read(command, block)


def can_be_read(text: str, block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{block}: {done.stderr}"
    if "not run" in block.markers:
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if "lfadsrm" in words:
                takes(words[words.index("lfadsrm") + 1 :], block)
            elif "python" in words and words[-1] != "python":
                is_script(words[words.index("python") + 1 :], block)


def takes(arguments: list[str], block: Block) -> None:
    """Check that the command line has such a command, and it such options."""
    from lfadsrm_hpc.cli.main import lfadsrm

    end = next((n for n, word in enumerate(arguments) if word in ("&&", "|", ";", ">")), len(arguments))
    command: click.Command = lfadsrm
    rest = arguments[:end]
    while isinstance(command, click.Group) and rest:
        context = click.Context(command, info_name="lfadsrm")
        found = command.get_command(context, rest[0])
        assert found is not None, f"{block}: there is no {rest[0]!r}"
        command, rest = found, rest[1:]
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    for word in rest:
        if word.startswith("-") and word not in ("--help", "-h"):
            assert word.partition("=")[0] in known, f"{block}: {command.name} takes no {word}"


def is_script(arguments: list[str], block: Block) -> None:
    """Check that a script is there, and names the options with which it is called."""
    if arguments[0].startswith("-"):
        return
    path = ROOT / arguments[0]
    assert path.is_file(), f"{block}: there is no {arguments[0]}"
    tree = ast.parse(path.read_text())
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    for word in arguments[1:]:
        assert not word.startswith("--") or word in texts, f"{block}: {arguments[0]} takes no {word}"


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_commands_in_the_text_exist() -> None:
    from lfadsrm_hpc.cli.main import _COMMANDS

    for page in pages():
        for command in re.findall(r"`lfadsrm ([a-z-]+)", page.read_text()):
            assert command in _COMMANDS, f"{page.name} names `lfadsrm {command}`"
