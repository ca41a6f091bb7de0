"""What stands in the scripts of the PBS executor."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from submitit.core.utils import JobPaths

from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.schedulers.units import format_time

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+=@-]+")  # what `#PBS -o` takes on every version


def own_umask() -> str:
    """Return which rights are kept from the files that this process makes, in octal digits."""
    found = re.search(r"^Umask:\s*(\d+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return found[1] if found else "0077"


def directives(asked: Mapping[str, Any], seconds: float, size: int, paths: JobPaths) -> list[str]:
    """Return the options of a job that an executor's parameters ask for; `size` 0: a plain job."""
    chunk = [f"1:ncpus={int(asked['cpus_per_task'])}"]
    if asked["gpus_per_node"]:
        chunk.append(f"ngpus={int(asked['gpus_per_node'])}")
    if asked["mem_gb"]:
        chunk.append(f"mem={math.ceil(asked['mem_gb'] * 1024)}mb")
    chunk += [_word(asked["select"])] if asked["select"] else []
    output = str(JobPaths.get_first_id_independent_folder(paths.folder) / "pbs_output")
    lines = [
        f"-N {_word(asked['job_name'])}",
        f"-l select={':'.join(chunk)}",
        f"-l walltime={format_time(seconds)}",
        "-j oe",
        f"-o {output}/" if _PLAIN_PATH.fullmatch(output) else "-o /dev/null",
    ]
    lines += [f"-q {_word(asked['queue'])}"] if asked["queue"] else []
    lines += [f"-A {_word(asked['account'])}"] if asked["account"] else []
    if size:
        most = int(asked["array_parallelism"])
        lines.append(f"-J 0-{size - 1}" + (f"%{most}" if 0 < most < size else ""))
    return lines + [_line(directive) for directive in asked["directives"]]


def _word(value: object) -> str:
    """Return a text that stands in a directive as it is: PBS versions disagree about quotes there."""
    text = str(value)
    if not text or re.search(r"[\s'\"\\#]", text) or not text.isprintable():
        raise UsageError(f"{text!r} cannot be written into a directive of PBS", hint="use one word")
    return text


def _line(directive: object) -> str:
    text = str(directive).removeprefix("#PBS").strip()
    if not text.startswith("-") or not text.isprintable():
        raise UsageError(
            f"{directive!r} is no directive of PBS", hint="write such as '-l filesystems=home:eagle'"
        )
    return text


def variables(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is set in the job: the search path of modules, and what the user wants."""
    kept = ("PYTHONPATH", "SUBMITIT_PREEMPT_SIGNAL")
    wanted = {name: os.environ[name] for name in kept if name in os.environ}
    wanted.update({str(name): str(value) for name, value in given.items()})
    for name in wanted:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot be the name of a variable",
                hint="use letters, digits and _, and no digit first",
            )
    return wanted
