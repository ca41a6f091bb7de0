"""A terminal shows control characters of names, messages and logs, and obeys none of them."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.cli.guarding import Guarded, console_on, guarded, visible

EVIL = "day\x1b]0;owned\x07\x1b[2J\x1b[1A\x9b2K\x1b]52;c;b3duZWQ=\x1b\\\r\u202egnp.exe"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é text\n\tx", "plain é text\n\tx"),
        ("\x1b[31mred\x1b[0m \x1b[1;32mbold\x1b[m", "\x1b[31mred\x1b[0m \x1b[1;32mbold\x1b[m"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("\x1b[2J\x1b[H", "\\x1b[2J\\x1b[H"),
        ("\x9b2K", "\\x9b2K"),
        ("a\rb", "a\\x0db"),
        ("a\r\nb", "a\nb"),
        ("\x00\x08\x7f", "\\x00\\x08\\x7f"),
        ("a\u202eb", "a\\u202eb"),
        ("\x1b[31", "\\x1b[31"),
        ("\x1b\x1b[0m", "\\x1b\x1b[0m"),
    ],
)
def test_what_is_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


def test_a_stream_that_is_no_terminal_is_left_alone() -> None:
    stream = io.TextIOWrapper(io.BytesIO())
    assert guarded(stream) is stream
    assert guarded(None) is None


def test_rich_moves_the_cursor_and_texts_do_not() -> None:
    from rich.control import Control
    from rich.table import Table

    stream = io.StringIO()
    console = console_on(stream, force_terminal=True, width=200)
    table = Table()
    table.add_row(EVIL)
    console.print(table)
    console.print(EVIL, style="red")
    said = stream.getvalue()
    assert "\x1b]" not in said
    assert "\x1b[2J" not in said
    assert "\x9b" not in said
    assert "\x1b[31m" in said
    console.control(Control.clear())
    assert "\x1b[2J" in stream.getvalue()


def seen(master: int) -> bytes:
    data = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other end is closed
            return data
        if not piece:
            return data
        data += piece


def on_a_terminal(*command: object) -> str:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "lfadsrm_hpc", *map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(slave)
    data = seen(master)
    process.wait(timeout=60)
    os.close(master)
    return data.decode(errors="replace")


def test_logs_and_errors_on_a_real_terminal(make: Any, tmp_path: Path) -> None:
    collection = make()
    run = collection.runs[0]
    run.layout.attempt(1).log.write_text(f"begin\n{EVIL}\nend\n")
    said = on_a_terminal("logs", run.id, "-C", collection.path)
    assert "begin" in said
    assert "end" in said
    assert "\\x1b]0;owned\\x07" in said
    for bad in ("\x1b]", "\x1b[2J", "\x1b[1A", "\x9b", "\x07", "\u202e"):
        assert bad not in said, repr(bad)
    said = on_a_terminal("show", tmp_path / f"{EVIL}.toml")
    assert "\x1b]" not in said
    assert "owned" in said


def test_pipes_get_what_is_there(make: Any) -> None:
    collection = make()
    run = collection.runs[0]
    text = "begin\n\x1b]0;x\x07\x1b[2Jend\n"
    run.layout.attempt(1).log.write_text(text)
    command = [sys.executable, "-m", "lfadsrm_hpc", "logs", run.id, "-C", str(collection.path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "end\n" in said.stdout


def test_guarded_streams_tell_how_much_was_written() -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    raw = io.BytesIO()
    stream = Terminal(raw, encoding="utf-8")
    safe = guarded(stream)
    assert isinstance(safe, Guarded)
    assert guarded(safe) is safe
    assert safe.write("a\x07b") == 3
    safe.flush()
    assert raw.getvalue() == b"a\\x07b"
