"""`lfadsrm` in a tenth of the time: a process that has imported what commands need, and forks for each.

Hundreds of calls of the real command line would spend minutes on importing. `Forking` starts a server; the
program `lfadsrm` that it writes into a folder hands its arguments, folder, environment and open files to the
server, whose child runs `lfadsrm_hpc.cli.main.main`, and ends as that ends. Signals are passed on. Nothing
that trains in its own process goes this way: TensorFlow must not be forked.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]

# -I -S: it starts in a few milliseconds, since it needs nothing but the standard library.
CLIENT = """\
#!{python} -IS
import json, os, signal, socket, sys

call = json.dumps({{"words": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}})
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: server.sendall(bytes([number])))
socket.send_fds(server, [len(call.encode()).to_bytes(4, "big")], [0, 1, 2])
server.sendall(call.encode())
answer = b""
while not answer:
    try:
        answer = server.recv(16)
    except InterruptedError:
        continue
    if not answer:
        sys.exit("the server has gone")
code = int(answer)
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class Forking:
    """A server, and the folder with the program `lfadsrm` that calls it."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self._scratch = tempfile.TemporaryDirectory(prefix="lf")  # a socket's name must be short
        address = str(Path(self._scratch.name) / "s")
        program = self.bin / "lfadsrm"
        program.write_text(CLIENT.format(python=sys.executable, address=address))
        program.chmod(0o755)
        self._server = subprocess.Popen(
            [sys.executable, __file__, address],
            stdin=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"},
        )
        end = time.monotonic() + 120
        while not Path(address).exists():
            assert self._server.poll() is None, "the server has ended"
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.05)

    def __enter__(self) -> Forking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()  # upon which it ends, as it does if the tests are killed
        self._server.wait(30)
        self._scratch.cleanup()


def serve(address: str) -> None:
    """Fork for each call until standard input is closed."""
    import h5py  # noqa: F401 - what commands import, once for all of them
    import jinja2  # noqa: F401
    import matplotlib.pyplot
    import netCDF4  # noqa: F401
    import pandas  # noqa: F401
    import rich.progress
    import rich.table  # noqa: F401
    import scipy.linalg  # noqa: F401
    import xarray  # noqa: F401

    from lfadsrm_hpc.cli import demo

    demo.SIZES = dict.fromkeys(demo.SIZES, (4, 1))  # trials a condition, epochs
    matplotlib.pyplot.figure()  # finds its fonts
    matplotlib.pyplot.close()
    door = socket.socket(socket.AF_UNIX)
    door.bind(address + ".new")
    door.listen(64)
    Path(address + ".new").rename(address)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who attend to a call
    while True:
        ready, _, _ = select.select([door, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        caller, _ = door.accept()
        if os.fork() == 0:
            door.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os._exit(attend(caller))
        caller.close()


def attend(caller: socket.socket) -> int:
    """Do one call in a child, pass signals on to it, and tell the caller how it ended."""
    head, files, _, _ = socket.recv_fds(caller, 4, 3)
    size = int.from_bytes(head, "big")
    text = b""
    while len(text) < size:
        text += caller.recv(size - len(text))
    child = os.fork()
    if child == 0:
        caller.close()
        act(json.loads(text), files)
    for number in files:
        os.close(number)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            with contextlib.suppress(OSError):  # who has called is gone
                caller.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            return 0
        readable, _, _ = select.select([caller], [], [], 0.005)
        if readable:
            numbers = caller.recv(16)
            for number in numbers or [signal.SIGKILL]:
                os.kill(child, number)
            if not numbers:
                os.waitpid(child, 0)
                return 0


def act(call: dict[str, object], files: list[int]) -> None:
    """Be the program: never returns."""
    code = 70
    try:
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - a descriptor
        sys.stdout, sys.stderr = (
            open(number, "w", buffering=1 if os.isatty(number) else -1, closefd=False)  # noqa: SIM115
            for number in (1, 2)
        )
        os.chdir(str(call["folder"]))
        os.environ.clear()
        os.environ.update(call["environment"])  # type: ignore[call-overload]
        sys.argv = ["lfadsrm", *call["words"]]  # type: ignore[misc]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from lfadsrm_hpc.cli.main import main

        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
