"""The commands for clusters answer at once on a login node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODEL = {"tensorflow", "keras", "pandas", "matplotlib", "scipy", "netCDF4", "xarray"}
RUNNER = """
import json, sys
sys.argv = ["lfadsrm", *json.loads(sys.argv[1])]
from lfadsrm_hpc.cli.main import main
try:
    main()
except SystemExit as ended:
    names = sorted({name.split(".")[0] for name in sys.modules})
    print(json.dumps({"code": ended.code, "names": names}), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "code", "heavy"),
    [
        (["plan", "--site", "generic-slurm", "--walltime", "1:00:00"], 0, MODEL),
        (["reconcile"], 0, MODEL | {"numpy", "h5py", "jinja2"}),
        (["clean"], 4, MODEL | {"numpy", "h5py", "jinja2"}),
        (["cancel", "--all"], 4, MODEL | {"numpy", "h5py", "jinja2"}),
        (["throttle", "3"], 4, MODEL | {"numpy", "h5py", "jinja2"}),
        (["site", "detect"], 4, MODEL | {"numpy", "h5py", "jinja2"}),
    ],
)
def test_these_commands_import_no_model(
    shell: Any, experiment: Path, words: list[str], code: int, heavy: set[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, json.dumps(words)],
        capture_output=True,
        text=True,
        cwd=experiment,
        env=shell.environment,
        check=True,
    )
    found = json.loads(done.stderr.splitlines()[-1])
    assert found["code"] == code, done.stderr
    assert not heavy & set(found["names"])
