"""Does the file system keep what the manifest relies on? Tried out in a hidden folder that is removed."""

from __future__ import annotations

import errno
import grp
import os
import re
import shutil
import stat
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lfadsrm_hpc.command import ask
from lfadsrm_hpc.doctor.checks import Found, Verdict, absent, ok, problem, warning, within
from lfadsrm_hpc.errors import CommandError
from lfadsrm_hpc.layout import EXAMINATION
from lfadsrm_hpc.manifest.publish import file_system_now

REMOVAL_S = 10.0
_STALE_S = 3600.0
_THREADS, _ROUNDS = 8, 25
_REPLACED = 100
_TIMES = 7
_SLOW_CREATE_MS, _SLOW_SYNC_MS = 200.0, 1000.0
_SKEW_S = 5.0
_HDF5_S = 40.0
_UNSAFE = "runs could be trained twice or lost here: choose another folder"
_NO_LINK = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}
# In a process of its own: HDF5 may hang in a lock.
_HDF5 = """
import sys, h5py
path = sys.argv[1]
with h5py.File(path, "w") as file:
    file["a"] = [1, 2, 3]
with h5py.File(path, "r") as first, h5py.File(path, "r") as second:
    assert first["a"][2] == second["a"][2] == 3
print(h5py.version.hdf5_version)
"""


class Workbench:
    """A hidden folder for trying things out, made when it is first needed.

    Parameters
    ----------
    place : Path
        The folder that is examined.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._made: Path | None = None
        self._lock, self._ended = threading.Lock(), False

    @property
    def path(self) -> Path:
        """The folder.

        Raises
        ------
        OSError
            None can be made.
        """
        with self._lock:
            if self._ended:
                raise FileNotFoundError(errno.ENOENT, "the examination has ended", str(self.place))
            if self._made is None:
                self._made = Path(tempfile.mkdtemp(prefix=EXAMINATION, dir=self.place))
            return self._made

    def remove(self) -> bool:
        """Remove the folder, also while a check that hangs still holds it; return whether it is gone."""
        return bool(within(REMOVAL_S, self._remove))

    def _remove(self) -> bool:
        with self._lock:
            self._ended = True
        made = self._made
        for _ in range(5):  # a check that goes on may put another file into it
            if made is None or not made.exists():
                return True
            shutil.rmtree(made, ignore_errors=True)
        return False


@contextmanager
def workbench(place: Path) -> Iterator[Workbench]:
    """Give a folder for trying things out, and remove it however the block ends."""
    bench = Workbench(place)
    try:
        yield bench
    finally:
        bench.remove()


def writable(bench: Workbench) -> Callable[[], Found]:
    """Return the check whether files can be made; what killed examinations left there is removed."""

    def look() -> Found:
        try:
            made = bench.path
        except OSError as error:
            fix = "make it writable (to share it: one group, umask 002), or choose another folder"
            return problem(f"no folder can be made in {bench.place}: {error.strerror}", fix)
        for other in bench.place.glob(f"{EXAMINATION}*"):
            with suppress(OSError):
                if other != made and time.time() - other.stat().st_mtime > _STALE_S:
                    shutil.rmtree(other, ignore_errors=True)
        return ok(str(bench.place))

    return look


# -- what the manifest relies on -------------------------------------------------------------------------


def exclusive(bench: Workbench) -> Callable[[], Found]:
    """Return the check whether of several that create one file exactly one does."""

    def look() -> Found:
        for number in range(_ROUNDS):
            won = _winners(bench.path / f"exclusive-{number}")
            if won != 1:
                return problem(f"{won} of {_THREADS} created one file (O_EXCL)", _UNSAFE)
        return ok(f"one winner in each of {_ROUNDS} rounds of {_THREADS}")

    return look


def _winners(path: Path) -> int:
    """Let several threads create one file at a time; return how many did. Daemons: one may hang for ever."""
    won: list[bool] = []
    errors: list[OSError] = []
    start = threading.Barrier(_THREADS)

    def create() -> None:
        start.wait()
        try:
            won.append(_creates(path))
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=create, daemon=True) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(won)


def _creates(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def hard_links(bench: Workbench) -> Callable[[], Found]:
    """Return the check whether link(2) makes a second name, and never replaces one."""

    def look() -> Found:
        first, second, name = (bench.path / f"link-{n}" for n in "abc")
        first.write_text("first")
        second.write_text("second")
        try:
            os.link(first, name)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            fix = "claims are made by exclusive create instead, which is enough while the check above is ok"
            return warning(f"there are none: {error.strerror}", fix)
        with suppress(FileExistsError):
            os.link(second, name)
        if name.read_text() != "first" or not first.samefile(name):
            return problem("a link replaced another file", _UNSAFE)
        return ok("a link is a second name, and never replaces one")

    return look


def renaming(bench: Workbench) -> Callable[[], Found]:
    """Return the check whether a reader sees the old file or the new one, and never none or a part."""

    def look() -> Found:
        target, size = bench.path / "renamed", 1 << 16
        target.write_bytes(b"0" * size)
        ended = threading.Event()
        wrong: list[str] = []

        def read() -> None:
            while not ended.is_set() and not wrong:
                try:
                    seen = target.read_bytes()
                except OSError as error:
                    wrong.append(error.strerror or str(error))
                    return
                if len(seen) != size or len(set(seen)) != 1:
                    wrong.append("a part of a file was seen")

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        for number in range(_REPLACED):
            beside = bench.path / "beside"
            beside.write_bytes(str(number % 10).encode() * size)
            beside.replace(target)
        ended.set()
        reader.join()
        if wrong:
            return problem(f"replacing a file is not atomic: {wrong[0]}", _UNSAFE)
        return ok(f"{_REPLACED} times a reader saw the old file or the new one")

    return look


def listing(bench: Workbench) -> Callable[[], Found]:
    """Return the check whether a folder shows at once what is made and removed in it."""

    def look() -> Found:
        for number in range(20):
            path = bench.path / f"listed-{number}"
            path.write_text("")
            if path.name not in {one.name for one in bench.path.iterdir()}:
                return problem("a file just made is not listed", _UNSAFE)
            path.unlink()
            if path.name in {one.name for one in bench.path.iterdir()}:
                return problem("a file just removed is still listed", _UNSAFE)
        return ok("files are listed as soon as they are made")

    return look


# -- speed and clocks ------------------------------------------------------------------------------------


def latency(bench: Workbench) -> Callable[[], Found]:
    """Return the check how long it takes to make, flush and rename a file."""

    def look() -> Found:
        spent: dict[str, list[float]] = {"create": [], "fsync": [], "rename": []}
        for number in range(_TIMES):
            path = bench.path / f"timed-{number}"
            moments = [time.perf_counter()]
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            moments.append(time.perf_counter())
            try:
                os.write(handle, b"x" * 4096)
                os.fsync(handle)
            finally:
                os.close(handle)
            moments.append(time.perf_counter())
            path.rename(bench.path / f"named-{number}")
            moments.append(time.perf_counter())
            for name, start, stop in zip(spent, moments[:-1], moments[1:], strict=True):
                spent[name].append(1000 * (stop - start))
        medians = {name: round(statistics.median(times), 3) for name, times in spent.items()}
        return judge_latency(medians)

    return look


def judge_latency(medians: dict[str, float]) -> Found:
    """Return what follows from medians in ms; pure."""
    said = ", ".join(f"{name} {value:.3g} ms" for name, value in medians.items()) + f" (median of {_TIMES})"
    slow = max(medians["create"], medians["rename"]) > _SLOW_CREATE_MS or medians["fsync"] > _SLOW_SYNC_MS
    if slow:
        return warning(
            said, "slow: `status` and checkpoints take long; try a scratch file system", ms=medians
        )
    return ok(said, ms=medians)


def clock(bench: Workbench) -> Callable[[], Found]:
    """Return the check how far the clock of the file system is from this machine's."""

    def look() -> Found:
        before = time.time()
        now = file_system_now(bench.path)
        if now is None:
            return absent("no file can be made")
        return judge_skew(now - (before + time.time()) / 2)

    return look


def judge_skew(skew_s: float) -> Found:
    """Return what follows from a clock of the file system that is ahead by so many seconds; pure."""
    way = "ahead of" if skew_s > 0 else "behind"
    if abs(skew_s) <= _SKEW_S:
        return ok(f"that of the file system agrees within {_SKEW_S:g} s", skew_s=round(skew_s, 3))
    said = f"that of the file system is {abs(skew_s):.0f} s {way} this machine's"
    fix = "runs are safe (ages are told by one clock), but times look wrong: ask the operators about NTP"
    return warning(said, fix, skew_s=round(skew_s, 3))


# -- who may read and write ------------------------------------------------------------------------------


def sharing(place: Path) -> Callable[[], Found]:
    """Return the check whether umask, group and mode of a folder fit together."""

    def look() -> Found:
        about = place.stat()
        try:
            group = grp.getgrgid(about.st_gid).gr_name
        except KeyError:
            group = str(about.st_gid)
        return judge_sharing(about.st_mode, group, _umask())

    return look


def _umask() -> int:
    """Return the umask. To change it and change it back would race with other threads."""
    match = None
    with suppress(OSError):
        match = re.search(r"(?m)^Umask:\s*([0-7]+)$", Path("/proc/self/status").read_text())
    if match is not None:
        return int(match[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def judge_sharing(mode: int, group: str, umask: int) -> Found:
    """Return what follows from the mode of a folder, its group and the umask; pure."""
    said = f"mode {stat.S_IMODE(mode):04o}, group {group}, umask {umask:03o}"
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return warning(f"{said}: everybody may write into this folder", "chmod o-w FOLDER")
    if not umask & 0o002:
        return warning(f"{said}: everybody may write into what you make", "umask 002, or 022")
    if not mode & stat.S_IWGRP:
        return ok(f"{said}: yours alone")
    if umask & 0o020:
        fix = "umask 002, so that others of the group can go on with your runs"
        return warning(f"{said}: the group may write here, but not into what you make", fix)
    if not mode & stat.S_ISGID:
        return warning(f"{said}: what you make may get another group", "chmod g+s FOLDER")
    return ok(f"{said}: shared with the group")


# -- HDF5 ------------------------------------------------------------------------------------------------


def hdf5(bench: Workbench) -> Callable[[], Found]:
    """Return the check whether HDF5 can lock files where runs are."""

    def look() -> Found:
        variable = "HDF5_USE_FILE_LOCKING"
        path = bench.path / "locked.h5"
        first = _tries(path, dict(os.environ))
        told = f"{variable}={os.environ[variable]}, " if variable in os.environ else ""
        if first.startswith("ok "):
            return ok(f"{told}HDF5 {first[3:]} opens files twice to read")
        free = _tries(path, {**os.environ, variable: "FALSE"})
        if free.startswith("ok "):
            fix = f"export {variable}=FALSE (in jobs: [environment.variables] of your site file)"
            return problem(f"{told}HDF5 cannot lock files here: {first}", fix)
        return Found(
            Verdict.PROBLEM, f"HDF5 cannot be used here: {first}", "reinstall h5py, or look at the disk"
        )

    return look


def _tries(path: Path, environment: dict[str, str]) -> str:
    """Write and read a file; return "ok" and the version of HDF5, or what went wrong."""
    try:
        answer = ask(
            [sys.executable, "-c", _HDF5, str(path)], timeout_s=_HDF5_S / 2, env=environment, check=False
        )
    except CommandError as error:
        return error.what
    if answer.returncode == 0:
        return f"ok {answer.stdout.strip()}"
    lines = answer.stderr.strip().splitlines()
    return lines[-1][:300] if lines else f"status {answer.returncode}"
