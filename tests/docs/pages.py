"""The code on the pages of the documentation: found, executed in order, compared with what is shown.

A page's blocks run one after the other in a folder of their own. What is done with one follows from its
language, and from the comment in the line before it:

- ``python`` is executed in this process, all blocks of a page with the same names; ``bash`` by bash.
- ``console`` holds commands after ``$``, and what they print. They are executed, and each line that is shown
  must be among those that they print now, but for what varies (times, sizes, paths). A line ``...`` stands
  for lines that are left out, and ``(exit code 3)`` for the end of a command that fails.
- A block of any language whose first line is a comment that names a file (``# my_experiment/setup.toml``) is
  that file; ``# more of FILE`` goes to its end.
- ``text`` is for reading: layouts, formulas, and after ``<!-- output -->`` what the block before it prints.
- ``<!-- not run: WHY -->``: not executed, but still read: its commands must exist, with these options.
- ``<!-- wait: COMMAND -->``: the block comes when this command of bash succeeds.
- ``<!-- meanwhile: NAME -->``: the test does something first, such as letting a node die.

``LFADSRM_RECORD_PAGES=1 pytest -n0 -m '' tests/docs/test_pages.py -k NAME`` writes what a page shows anew.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
MARKER = re.compile(r"<!-- (not run|wait|meanwhile|output)(?:: (.*?))? -->")
NAMES_FILE = re.compile(r"(?:#|\{#|%|--) (more of )?([\w./~-]+\.\w+)(?: #\})?")
HOME = "/home/ada"
# Times, sizes, rates, dates, and the names that submissions get.
VARIES = re.compile(
    r"\d+-\d\d:\d\d:\d\d|\d+:\d\d(?::\d\d)?|\d{4}-\d\d-\d\d|lf[0-9A-Z]{11}|\d+\.\d+(?:e[+-]?\d+)?"
    r"|\b\d+ (?:MiB|GiB|KiB|s)\b|\b[0-9A-Z]{26}\b"
)


@dataclass(frozen=True)
class Block:
    """A piece of code of a page; `line` is that of its fence."""

    page: Path
    line: int
    language: str
    text: str
    markers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.page.name}, line {self.line} ({self.language})"

    @property
    def file(self) -> tuple[str, bool] | None:
        """Return the file that it is, and whether it goes to the end of it."""
        match = NAMES_FILE.fullmatch(self.text.partition("\n")[0])
        return (match[2], bool(match[1])) if match else None

    @property
    def executed(self) -> bool:
        if "not run" in self.markers or self.language.startswith("{"):  # a directive of the site's builder
            return False
        return self.language != "text" or self.file is not None


def pages() -> list[Path]:
    """Return all pages that are checked."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page with the comments that stand right before them."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        markers = {}
        for line in reversed(before.splitlines()):
            marker = MARKER.fullmatch(line.strip())
            if marker is None:
                break
            markers[marker[1]] = marker[2] or ""
        indent = match["indent"]
        body = "".join(line.removeprefix(indent) for line in match["text"].splitlines(keepends=True))
        found.append(Block(page, before.count("\n") + 1, match["language"].strip(), body, markers))
    return found


def commands(text: str) -> list[tuple[str, str]]:
    """Return the commands of a console and what is shown below each."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line[2:]}", [])
        elif found:
            found[-1][1].append(line)
        else:
            raise AssertionError(f"a console begins with a command, not with {line!r}")
    return [(command, "\n".join(shown)) for command, shown in found]


@dataclass
class Place:
    """Where a page is executed.

    Attributes
    ----------
    folder : Path
        The folder in which it begins; also the home of its user.
    names : dict
        What its Python has defined.
    actions : dict
        What ``meanwhile`` may ask for.
    smaller : dict of str to str
        Texts of the page that are replaced before it is executed, so that it takes less time.
    measured : dict of str to str
        The same, for what depends on the machine.
    varies : re.Pattern
        What of the output is not compared.
    recorded : dict of int to str, optional
        Where the page is to be written anew, with what it prints now: the texts of blocks, by line.
    printed : str
        What the last block has printed.
    """

    folder: Path
    names: dict[str, Any] = field(default_factory=dict)
    actions: dict[str, Callable[[], object]] = field(default_factory=dict)
    smaller: dict[str, str] = field(default_factory=dict)
    measured: dict[str, str] = field(default_factory=dict)
    varies: re.Pattern[str] = VARIES
    recorded: dict[int, str] | None = None
    printed: str = ""

    def execute(self, page: Path) -> None:
        """Execute a page from its beginning to its end."""
        found = blocks(page)
        for old in self.smaller | self.measured:
            assert any(old in block.text for block in found), f"{page.name} does not say {old!r} any more"
        for block in found:
            try:
                self.do(block)
            except Exception as error:
                raise AssertionError(f"{block} does not work: {error}") from error
        if self.recorded is not None:
            self._record(page, found)

    def _record(self, page: Path, found: list[Block]) -> None:
        """Write the page anew, with what its commands have printed."""
        lines = page.read_text().splitlines(keepends=True)
        for block in reversed(found):
            if block.line in (self.recorded or {}):
                end = block.line + block.text.count("\n")
                lines[block.line : end] = [(self.recorded or {})[block.line]]
        text = "".join(lines)
        for old, new in self.measured.items():
            text = text.replace(old, new)
        page.write_text(text)

    def do(self, block: Block) -> None:
        """Execute one block, or compare it with what the one before it has printed."""
        if "meanwhile" in block.markers:
            self.actions[block.markers["meanwhile"]]()
        if "wait" in block.markers:
            self._until(block.markers["wait"])
        if "output" in block.markers:
            if self.recorded is not None:
                self.recorded[block.line] = self.plain(self.printed)
            else:
                self.compare(block.text, self.printed)
        elif not block.executed:
            return
        elif block.file is not None:
            self._write(*block.file, block.text)
        elif block.language == "python":
            self.printed = self._python(block)
        elif block.language == "bash":
            self.printed = self._bash(block)
        elif block.language == "console":
            self._console(block)
        else:
            raise AssertionError(
                f"nobody knows how to execute {block.language or 'a block without a language'}; let it name "
                "its file in its first line, or say <!-- not run: WHY -->"
            )

    def _write(self, name: str, append: bool, text: str) -> None:
        path = Path(name).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if append else "w") as stream:
            stream.write(self._small(text))

    def _small(self, text: str) -> str:
        for old, new in (self.smaller | self.measured).items():
            text = text.replace(old, new)
        return text

    def _python(self, block: Block) -> str:
        out = io.StringIO()
        code = compile("\n" * block.line + self._small(block.text), str(block.page), "exec")
        with contextlib.redirect_stdout(out):
            exec(code, self.names)
        return out.getvalue()

    def _bash(self, block: Block) -> str:
        done = self.shell(self._small(block.text))
        print(done.stdout, done.stderr)
        assert done.returncode == 0, f"it ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def _console(self, block: Block) -> None:
        lines = []
        for command, shown in commands(self._small(block.text)):
            out = self.run(command)
            print(f"$ {command}\n{out}")
            lines += [line for line in (f"$ {command}".replace("\n", "\n> "), out) if line]
            if self.recorded is not None:
                self.recorded[block.line] = "\n".join(lines) + "\n"
                continue
            try:
                self.compare(shown, out)
            except AssertionError as error:
                raise AssertionError(f"$ {command}\n{error}") from None

    def run(self, command: str) -> str:
        """Return all that a command prints, as a terminal shows it, and its exit code if that is not 0."""
        done = self.shell(command, stderr=subprocess.STDOUT)
        lines = [line.rstrip() for line in self.plain(done.stdout).splitlines()]
        if done.returncode:
            lines.append(f"(exit code {done.returncode})")
        return "\n".join(lines).strip("\n")

    def shell(self, text: str, *, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            stdout=subprocess.PIPE,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            check=False,
        )

    def _until(self, command: str, seconds: float = 240) -> None:
        end = time.monotonic() + seconds
        while (done := self.shell(command)).returncode:
            assert time.monotonic() < end, f"waited in vain for: {command}\n{done.stdout}{done.stderr}"
            time.sleep(0.5)

    def plain(self, text: str) -> str:
        return text.replace(str(self.folder), HOME).replace(sys.prefix, f"{HOME}/venv")

    def compare(self, shown: str, printed: str) -> None:
        """Check that every line that is shown is printed, but for what varies."""
        there = {self._stable(line) for line in self.plain(printed).splitlines()}
        for line in shown.splitlines():
            if line.strip() in ("", "..."):
                continue
            assert self._stable(line) in there, f"it does not print {line!r}, but:\n{printed}"

    def _stable(self, line: str) -> str:
        return " ".join(self.varies.sub("#", line).split())


def clean_environment(home: Path, tools: Path) -> dict[str, str | None]:
    """Return variables for a page that is executed in a folder; None: to be taken away."""
    own = {name: None for name in os.environ if name.startswith("LFADSRM_") and "REQUIRE" not in name}
    return own | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": None,
        "PATH": f"{tools / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(ROOT), str(tools / "installed"), os.environ.get("PYTHONPATH")])
        ),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "COLUMNS": "110",
        "MPLBACKEND": "Agg",
        "NO_COLOR": "1",
    }


def write_commands(folder: Path, installed: Path) -> None:
    """Write the programs that pages call, so that they are of this Python."""
    folder.mkdir()
    calls = {
        "lfadsrm": "-m lfadsrm_hpc",
        "python": "",
        # Nothing is fetched: what a package needs to be built is here.
        "pip": f'-m pip --quiet --disable-pip-version-check --no-input "$@" --no-index --no-build-isolation '
        f"--no-deps --target {installed} #",
    }
    for name, arguments in calls.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        path.chmod(0o755)
