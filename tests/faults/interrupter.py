"""Run `lfadsrm` commands as processes of their own, and send each a signal at a chosen file-system call.

    python interrupter.py

Reads one JSON object a line: `args`, `cwd`, `env` (over this process's), `signal` and `at` (the signal is
sent just before the call number `at`; null: never), `root` (only calls that name something below count).
Answers with one line: `code` (negative: ended by that signal), `calls` (how many were counted), `out`, `err`.

A command is a fork of this process, which has imported what commands need: that spares seconds each. The
signal is a real one, sent by the process to itself from an audit hook, so it is handled where it would be if
it had come from outside at that moment.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from lfadsrm_hpc.layout import is_temporary

# What changes files, what looks at them, and what starts programs.
COUNTED = frozenset(
    {
        "open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod",
        "os.listdir", "os.scandir", "shutil.rmtree", "os.symlink", "os.utime", "subprocess.Popen",
    }
)  # fmt: skip


class Watch:
    """Counts the calls that name something below a folder, and raises a signal before one of them."""

    def __init__(self, root: str, at: int | None, number: int) -> None:
        self.root, self.at, self.number, self.calls = root, at, number, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in COUNTED or (event == "os.remove" and self._is_temporary(arguments[0])):
            return
        if event != "subprocess.Popen" and not any(self._is_below(one) for one in arguments[:2]):
            return
        self.calls += 1
        if self.calls == self.at:
            os.kill(os.getpid(), self.number)

    @staticmethod
    def _is_temporary(path: object) -> bool:
        # Just before a temporary file is taken away is the one moment at which it stays: `lfadsrm clean`
        # takes it a day later.
        return is_temporary(os.path.basename(os.fsdecode(path)))  # type: ignore[arg-type]  # noqa: PTH119

    def _is_below(self, one: object) -> bool:
        if isinstance(one, os.PathLike):
            one = os.fspath(one)
        if isinstance(one, bytes):
            one = os.fsdecode(one)
        return isinstance(one, str) and os.path.abspath(one).startswith(self.root)  # noqa: PTH100 - no look at the disk


def command(order: dict[str, Any], out: int, err: int, calls: int) -> None:
    """Be the command; never returns."""
    for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, err)):
        os.dup2(source, target)
    os.setsid()
    os.chdir(order["cwd"])
    os.environ.update(order.get("env") or {})
    sys.argv = ["lfadsrm", *order["args"]]
    watch = Watch(order["root"], order["at"], order["signal"] or 0)
    sys.addaudithook(watch)
    code = 1
    try:
        from lfadsrm_hpc.cli.main import main

        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.write(calls, str(watch.calls).encode())
        os._exit(code)


def run(order: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as calls:
        pid = os.fork()
        if pid == 0:
            command(order, out.fileno(), err.fileno(), calls.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = []
        for file in (out, err, calls):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        return {"code": code, "out": texts[0], "err": texts[1], "calls": int(texts[2] or 0)}


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        assert signal.getsignal(number) is not signal.SIG_IGN
    import lfadsrm_hpc.api
    import lfadsrm_hpc.cli.main
    import lfadsrm_hpc.collection.experiment_file

    for name in lfadsrm_hpc.cli.main._COMMANDS:
        __import__(f"lfadsrm_hpc.cli.{name.replace('-', '_')}")
    for name in json.loads(os.environ.get("INTERRUPTER_IMPORTS", "[]")):
        __import__(name)
    for line in sys.stdin:
        order = json.loads(line)
        Path(order["cwd"]).mkdir(parents=True, exist_ok=True)
        print(json.dumps(run(order)), flush=True)


if __name__ == "__main__":
    main()
