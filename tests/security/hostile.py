"""What strangers may put into files and in their place, and commands that must bear it.

Commands run in a child process with limits of time and memory: a hang, a crash of a library or a full memory
is then a finding and not the end of the tests.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DOCUMENTED = {0, 1, 2, 3, 4, 5, 6, 7, 9, 75, 130, 141}
LIMIT_S = 60
MEMORY = 4 << 30
OUTSIDE = "../../../outside/secret.txt"

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**63, 2**200, 1e308, -1e-308, float("nan"), float("inf"),
    "", " ", "\x00", "\ud800", "é" * 300, "../../../outside/secret.txt", "/etc/passwd", "/dev/zero", "..",
    "\x1b]0;owned\x07\x1b[2J", "<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>",
    "$(touch owned)", "`touch owned`", "; touch owned", "{{ 7 * 7 }}", "{% raw %}", "-rf", "a\nb", "a\tb",
    [], {}, [[]], [None], {"": None}, {"a": {"a": {"a": []}}}, "x" * 100_000, list(range(10_000)),
)  # fmt: skip
CONTENTS: tuple[bytes, ...] = (
    b"", b"\n", b"null", b"[]", b"{}", b"0", b'""', b"[" * 100_000, b'{"a":' * 100_000, b"[[" + b"9" * 5000,
    b"NaN", b'"\\ud800"', b"\x00" * 1000, b"\xff\xfe" + b"a\x00" * 50, b"\xef\xbb\xbf{}", b"a" * 5_000_000,
    b"a = " + b"[" * 100_000, b"a.b." * 2000 + b"c = 1", b"x = 1e999", b"\n" * 100_000, b"1,2\n" * 10_000,
    b'{"format": 1e400}', b'{"format": 99999999999999999999}',
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where something can be changed in a JSON value."""
    found = [path] if path else []
    items: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, item in items:
        found += places(item, (*path, key))
    return found


def changed_json(content: bytes, rng: random.Random) -> bytes:
    """Change one to three places of a JSON text; its form stays."""
    value = json.loads(content)
    for _ in range(rng.randint(1, 3)):
        known = places(value)
        if not known:
            break
        *above, last = rng.choice(known)
        inside = value
        for key in above:
            inside = inside[key]
        action = rng.choice(("value", "value", "value", "drop", "rename", "twice"))
        if action == "value":
            inside[last] = rng.choice(VALUES)
        elif action == "drop":
            del inside[last]
        elif action == "rename" and isinstance(inside, dict):
            inside[str(rng.choice(VALUES))[:200]] = inside.pop(last)
        elif isinstance(inside, list):
            inside.append(inside[last])
    return json.dumps(value).encode(errors="replace")


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """Change, cut, double or insert bytes anywhere."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(data) + 1)
        action = rng.choice(("flip", "flip", "cut", "insert", "double"))
        if action == "flip" and at < len(data):
            data[at] = rng.randrange(256)
        elif action == "cut":
            del data[at : at + rng.choice((1, 8, 1000, len(data)))]
        elif action == "insert":
            data[at:at] = rng.choice((b"\x00", b"\xff" * 8, b"9" * 400, b'"', b"{", b"\n", b"\t", b"-"))
        else:
            data[at:at] = data[max(0, at - 100) : at]
    return bytes(data)


def changed_cells(content: bytes, rng: random.Random) -> bytes:
    """Put something else into a cell of a table."""
    text = content.decode()
    mark = "\t" if "\t" in text else ","
    lines = [line.split(mark) for line in text.split("\n")]
    for _ in range(rng.randint(1, 3)):
        line = rng.choice(lines)
        line[rng.randrange(len(line))] = str(rng.choice(VALUES))
    return "\n".join(mark.join(line) for line in lines).encode(errors="replace")


def replaced(path: Path, rng: random.Random, outside: Path) -> None:
    """Put something that is no regular file in the place of a file."""
    path.unlink()
    kind = rng.choice(("pipe", "zero", "null", "loop", "dangling", "folder", "outside", "gone"))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "gone":
        targets = {"zero": "/dev/zero", "null": "/dev/null", "loop": path.name, "dangling": "nowhere"}
        path.symlink_to(targets.get(kind, outside))


def spoil(path: Path, rng: random.Random, outside: Path) -> None:
    """Spoil a file in some way."""
    content = path.read_bytes()
    ways: list[Callable[[], None]] = [
        lambda: replaced(path, rng, outside),
        lambda: _write(path, rng.choice(CONTENTS)),
        lambda: _write(path, changed_bytes(content, rng)),
    ]
    if path.suffix == ".json" or path.name.startswith("heartbeat"):
        ways += [lambda: _write(path, changed_json(content, rng))] * 6
    if path.suffix in (".tsv", ".csv"):
        ways += [lambda: _write(path, changed_cells(content, rng))] * 4
    rng.choice(ways)()


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def outcome(commands: Sequence[Sequence[object]]) -> list[tuple[str, int, str, str]]:
    """Call `lfadsrm` in a child of this process; return of each command what it was, its code and words.

    Raises
    ------
    AssertionError
        The child crashed, or took too long.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _in_child(commands, write)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        told = stream.read()
    _, status = os.waitpid(child, 0)
    found = [tuple(json.loads(line)) for line in told.splitlines()]
    done = [each[0] for each in found]
    ended = os.waitstatus_to_exitcode(status)
    assert ended == 0, f"ended by {ended} (-14: too long, -11: crash) after {done} of {commands}"
    return found  # type: ignore[return-value]


def _in_child(commands: Sequence[Sequence[object]], write: int) -> None:
    code = 1
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.environ["PATH"] = "/nowhere"  # no scheduler answers
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        warnings.resetwarnings()  # pytest's make errors of ours
        for command in commands:
            signal.alarm(LIMIT_S)
            os.write(write, json.dumps(_called(command)).encode() + b"\n")
        code = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _called(command: Sequence[object]) -> tuple[str, int, str, str]:
    from lfadsrm_hpc.cli.main import main

    sys.argv = ["lfadsrm", *map(str, command)]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace") for _ in range(2))
    code: Any = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode(errors="replace"))  # type: ignore[attr-defined]
    said = texts[1]
    if "a bug in lfadsrm_hpc" in said and "details: " in said:
        with contextlib.suppress(OSError):
            report = Path(said.partition("details: ")[2].split("\n")[0])
            said += report.read_text()[-3000:]
            report.unlink()
    return " ".join(map(str, command)), code, texts[0][-2000:], said[-4000:]


def check(found: Sequence[tuple[str, int, str, str]]) -> None:
    """Check that each command ended as the documentation says, and with words of its own."""
    for command, code, _, said in found:
        assert code in DOCUMENTED, f"{command}: {code}\n{said}"
        assert "Traceback" not in said, f"{command}\n{said}"
        assert "a bug in lfadsrm_hpc" not in said, f"{command}\n{said}"
