"""Python, the packages, TensorFlow, and the GPUs that it sees."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.command import ask
from lfadsrm_hpc.doctor.checks import Found, absent, ok, problem, warning
from lfadsrm_hpc.errors import CommandError

PACKAGE = "lfadsrm_hpc"
OLDEST_PYTHON = (3, 10)
TENSORFLOW_S = 120.0  # a cold start from a slow file system
_SLOW_IMPORT_S = 45.0
_SMI_S = 15.0
_MOST_LINES = 3
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:>=\s*([0-9.]+))?[^;]*(;.*)?")
_WITH_GPU = "pip install '.[gpu]' in the folder of the package, or pip install 'lfadsrm_hpc[gpu]'"
# In a process of its own: it takes long, may print, and may crash.
_LOOK = textwrap.dedent(
    """
    import json, time
    began = time.monotonic()
    import tensorflow as tf
    took = time.monotonic() - began
    gpus = [device.name for device in tf.config.list_physical_devices("GPU")]
    build = dict(tf.sysconfig.get_build_info())
    print()
    print(json.dumps({"version": tf.__version__, "seconds": took, "gpus": gpus,
        "cuda": bool(tf.test.is_built_with_cuda()),
        "built_for": {k: str(build[k]) for k in ("cuda_version", "cudnn_version") if k in build}}))
    """
)


def python() -> Found:
    """Check the version of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    said = f"Python {version}, {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        needed = ".".join(map(str, OLDEST_PYTHON))
        return problem(said, f"Python {needed} or newer is needed")
    return ok(said, version=version, executable=sys.executable)


def packages() -> Found:
    """Check this package and what it needs against the lower bounds of its metadata."""
    try:
        required = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        fix = "install it: pip install . in its folder"
        return warning(f"{PACKAGE} {__version__} is used without being installed", fix)
    wanted = [one for text in required if (one := read_requirement(text)) is not None]
    there = {name: _installed(name) for name, _ in wanted}
    bad = [(name, bound) for name, bound in wanted if not _is_enough(there[name], bound)]
    known = {PACKAGE: __version__, **{name: found for name, found in there.items() if found}}
    if bad:
        said = "; ".join(
            f"{name} {there[name] or 'is missing'}, {bound} or newer is needed" for name, bound in bad
        )
        again = " ".join(f"'{name}>={bound}'" if bound else name for name, bound in bad)
        return problem(said, f"{sys.executable} -m pip install {again}", versions=known)
    main = ("tensorflow", "numpy", "xarray", "h5py", "netCDF4", "submitit")
    shown = [f"{PACKAGE} {__version__}", *(f"{name} {there[name]}" for name in main if there.get(name))]
    return ok(f"{', '.join(shown)}; all {len(wanted)} are new enough", versions=known)


def read_requirement(text: str) -> tuple[str, str] | None:
    """Return name and lower bound of a requirement ("": none); None: it does not hold here."""
    match = _REQUIREMENT.fullmatch(text.strip())
    if match is None or (match[3] and not _marker_holds(match[3])):
        return None
    return match[1], match[2] or ""


def _marker_holds(marker: str) -> bool:
    """Return whether a marker of ours holds: there are those of extras, and one of the version of Python."""
    if "extra" in marker:
        return False
    found = re.search(r'python_version\s*<\s*"(\d+)\.(\d+)"', marker)
    return found is None or sys.version_info[:2] < (int(found[1]), int(found[2]))


def _installed(name: str) -> str:
    """Return the installed version; "" where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
    if name != "tensorflow":
        return ""
    for other in ("tensorflow-cpu", "tensorflow-intel", "tf-nightly"):  # the same modules under other names
        try:
            return metadata.version(other)
        except metadata.PackageNotFoundError:
            continue
    return ""


def _is_enough(version: str, bound: str) -> bool:
    return bool(version) and release(version) >= release(bound or "0")


def release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version: (2, 16, 1) of "2.16.1rc0"."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else (0,)


# -- TensorFlow and GPUs ---------------------------------------------------------------------------------


@dataclass
class TensorFlow:
    """What TensorFlow says of itself; it is imported once, for two checks.

    Attributes
    ----------
    about : dict or None
        None: it was not asked, or cannot be imported.
    errors : str
        What it printed.
    """

    limit_s: float = TENSORFLOW_S
    about: dict[str, Any] | None = None
    errors: str = ""

    def look(self) -> Found:
        """Import it in another process."""
        try:
            answer = ask([sys.executable, "-c", _LOOK], timeout_s=self.limit_s, check=False)
        except CommandError as error:
            return problem(
                error.what, "the file system of Python may be slow: try again, or install it elsewhere"
            )
        self.errors = answer.stderr
        try:
            self.about = json.loads(answer.stdout.strip().splitlines()[-1])
        except (ValueError, IndexError):
            last = answer.stderr.strip().splitlines()[-_MOST_LINES:]
            fix = "reinstall it: pip install --force-reinstall tensorflow"
            return problem(f"it cannot be imported (status {answer.returncode}): {' | '.join(last)}", fix)
        assert self.about is not None
        said = f"TensorFlow {self.about['version']}, imported in {self.about['seconds']:.0f} s"
        if self.about["seconds"] > _SLOW_IMPORT_S:
            fix = "each task pays this: install Python on a faster file system, or in a container"
            return warning(said, fix, **self.about)
        return ok(said, **self.about)

    def gpus(self) -> Found:
        """Compare the GPUs that the driver shows with those that TensorFlow sees."""
        driver = driver_gpus(_SMI_S)
        if self.about is None:
            return absent("TensorFlow could not be asked")
        return judge_gpus(
            driver,
            self.about["gpus"],
            built_with_cuda=self.about["cuda"],
            visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
            errors=self.errors,
        )


def driver_gpus(timeout_s: float) -> list[str] | str:
    """Return the GPUs that nvidia-smi shows; a text: why it shows none."""
    if shutil.which("nvidia-smi") is None:
        return "there is no nvidia-smi here"
    query = "--query-gpu=name,memory.total,driver_version"
    try:
        answer = ask(["nvidia-smi", query, "--format=csv,noheader"], timeout_s=timeout_s)
    except CommandError as error:
        return error.what
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def judge_gpus(
    driver: list[str] | str,
    seen: Sequence[str],
    *,
    built_with_cuda: bool,
    visible: str | None,
    errors: str = "",
) -> Found:
    """Return what to think of the GPUs; pure.

    Parameters
    ----------
    driver : list of str or str
        What `driver_gpus` returns.
    seen : sequence of str
        What TensorFlow sees.
    built_with_cuda : bool
    visible : str or None
        CUDA_VISIBLE_DEVICES.
    errors : str
        What TensorFlow printed.
    """
    details = {"driver": driver, "tensorflow": list(seen), "visible": visible}
    if isinstance(driver, str):
        if seen:
            return ok(f"TensorFlow sees {len(seen)}; {driver}", **details)
        if driver.startswith("there is no"):
            return absent(f"{driver}: runs use cores (a login node often has no GPU where compute nodes do)")
        return problem(f"nvidia-smi: {driver}", "the driver does not work: ask the operators")
    said = f"the driver shows {len(driver)} ({', '.join(driver[:2])}{', ...' if len(driver) > 2 else ''})"
    if not driver:
        return absent("the driver shows no GPU")
    if len(seen) >= len(driver):
        return ok(f"{said}, and TensorFlow sees them", **details)
    if visible is not None:
        fix = "unset CUDA_VISIBLE_DEVICES if TensorFlow is to see more"
        return warning(
            f"{said}, TensorFlow sees {len(seen)}: CUDA_VISIBLE_DEVICES is {visible!r}", fix, **details
        )
    if seen:
        return warning(f"{said}, but TensorFlow sees {len(seen)}", "one may be broken: nvidia-smi", **details)
    if not built_with_cuda:
        return problem(f"{said}, but this TensorFlow is built without CUDA", _WITH_GPU, **details)
    hints = [
        line.strip() for line in errors.splitlines() if re.search(r"dlopen|libcu|libnv|cuda", line, re.I)
    ]
    told = f": {hints[-1][-200:]}" if hints else ""
    return problem(f"{said}, but TensorFlow sees none, so runs are slow{told}", _WITH_GPU, **details)
