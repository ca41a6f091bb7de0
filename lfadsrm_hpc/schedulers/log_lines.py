"""The last lines of a run's log that tell something about the run."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lfadsrm_hpc.plain_files import check_regular

_TAIL_BYTES = 65536
# TensorFlow's C++ tells what it looked for and did not find; no setting silences all of it. Fatal lines stay.
_NOISE = re.compile(
    r"[IWE]\d{4} \d\d:\d\d:\d+\.\d+ "
    r"|WARNING: All log messages before absl::InitializeLog\(\)"
    r"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] \S+\.(?:cc|h):\d+\]"
)
# The second line of what it says of instructions that the processor has.
_REST = "To enable the following instructions: "


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a log, however long it is, without what a terminal would obey, and without
    what TensorFlow says of itself, unless there is nothing else."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]
    plain = ["".join(c if c.isprintable() or c == "\t" else "?" for c in line) for line in lines]
    said = [line for line in plain if line.strip()]
    told = [line for line in said if not _is_noise(line)]
    return (told or said)[-count:] if count else []


def _is_noise(line: str) -> bool:
    return _NOISE.match(line) is not None or line.startswith(_REST)
