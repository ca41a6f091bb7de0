"""What commands import: a login node answers at once, and needs none of the heavy libraries for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from every_command import leaves

HEAVY = {
    "tensorflow",
    "keras",
    "xarray",
    "pandas",
    "matplotlib",
    "h5py",
    "netCDF4",
    "scipy",
    "numpy",
    "jinja2",
}
# Calls the command as its script does, then prints what is in sys.modules.
RUNNER = """
import json, sys
sys.argv = ["lfadsrm", *json.loads(sys.argv[1])]
from lfadsrm_hpc.cli.main import main
try:
    main()
except SystemExit as ended:
    names = sorted({name.split(".")[0] for name in sys.modules})
    rooms = sorted(name for name in sys.modules if name.startswith("lfadsrm_hpc."))
    print(json.dumps({"code": ended.code, "names": names, "rooms": rooms}), file=sys.stderr)
"""


@pytest.fixture
def imported(shell: Any) -> Any:
    def called(*args: object, cwd: Path | None = None) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, json.dumps([str(arg) for arg in args])],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=shell.environment,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
        assert found["code"] == 0, done.stderr
        return found

    return called


# Calls that answer at once on a login node, and need none of the heavy libraries for it.
LIGHT = [
    ["status"],
    ["status", "--json", "--rescan", "--match", "factors_dim=2"],
    ["status", "--watch"],
    ["logs", "single_day1", "-n", "1"],
    ["logs", "single_day1", "--follow"],
    ["logs", "single_day1", "--json"],
    ["show"],
    ["show", "--json"],
    ["show", "--run", "single_day1"],
    ["show", "--datasets"],
    ["show", "--params"],
    ["tensorboard", "--dry-run"],
    ["init", "another"],
    ["completion", "bash"],
    ["completion", "fish"],
    ["reconcile"],
    ["archive", "-o", "runs.tar"],
    ["why", "single_day1"],
    ["why", "single_day1", "--json"],
    ["site", "list"],
    ["site", "show", "generic-slurm"],
    ["site", "check", "generic-slurm"],
    ["site", "trust", "--list"],
    ["site", "init", "ours", "--from", "generic-slurm", "--here"],
]
# Those that end otherwise than with 0 where nothing has been run are in test_cluster_imports.py.
ELSEWHERE = {("clean",), ("cancel",), ("throttle",), ("site", "detect")}
# All others build, train, load, draw or examine something.
HEAVY_COMMANDS = {
    (name,)
    for name in (
        "best", "check-runs", "demo", "doctor", "export", "infer", "metrics", "nlb", "peek", "plan", "plot",
        "prepare", "report", "retry", "run", "submit", "task", "time",
    )
}  # fmt: skip


def test_every_command_is_light_or_heavy() -> None:
    """A new command is put where it belongs."""
    light = {tuple(words[: 2 if words[0] == "site" else 1]) for words in LIGHT} | ELSEWHERE
    assert not light & HEAVY_COMMANDS
    assert light | HEAVY_COMMANDS == set(leaves())


@pytest.mark.parametrize("words", LIGHT, ids=" ".join)
def test_these_commands_import_nothing_heavy(imported: Any, experiment: Path, words: list[str]) -> None:
    if "single_day1" in words:
        run_id = make_log(experiment)
        words = [run_id if word == "single_day1" else word for word in words]
    assert not HEAVY & set(imported(*words, cwd=experiment)["names"])


def test_a_look_at_a_run_needs_numpy_alone(imported: Any, experiment: Path) -> None:
    log = make_log(experiment)
    names = set(imported("peek", log, cwd=experiment)["names"])
    assert HEAVY & names == {"numpy"}


def make_log(experiment: Path) -> str:
    """Give one run a log; return its id."""
    from lfadsrm_hpc.api import RunCollection

    run = RunCollection.open(experiment / "runs/small").runs[0]
    run.layout.attempt(1).path.mkdir(parents=True)
    run.layout.attempt(1).log.write_text("a line\n")
    return run.id


@pytest.mark.parametrize("words", [["metrics"], ["check-runs", "--json"]])
def test_stored_metrics_are_shown_without_anything_heavy(
    imported: Any, experiment: Path, words: list[str]
) -> None:
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.manifest import store
    from lfadsrm_hpc.manifest.records import Claim, Exit, Identity, new_ulid
    from lfadsrm_hpc.results.runs.metrics_file import RunMetrics, write_metrics

    run = RunCollection.open(experiment / "runs/small").runs[0]
    claim = store.take_local(run.layout, Identity.local(new_ulid(), 0))
    assert isinstance(claim, Claim)
    metrics = RunMetrics(1, claim.token, {}, {"co_bps": 0.1}, {}, {}, {"verdict": "good", "reasons": []})
    write_metrics(run.layout.metrics_json, metrics)
    store.publish_exit(run.layout, claim, Exit(0, "done"))
    assert not HEAVY & set(imported(*words, cwd=experiment)["names"])


def test_a_queue_is_rendered_without_the_model(imported: Any, experiment: Path) -> None:
    names = set(imported("run", "--dry-run", cwd=experiment)["names"])
    assert not names & {"tensorflow", "keras", "pandas", "matplotlib", "scipy", "netCDF4"}
    assert "jinja2" in names, "the test would not notice"


def test_help_imports_no_command(imported: Any, tmp_path: Path) -> None:
    found = imported("--help", cwd=tmp_path)
    assert set(found["rooms"]) <= {
        "lfadsrm_hpc._version",
        "lfadsrm_hpc.cli",
        "lfadsrm_hpc.cli.environment",
        "lfadsrm_hpc.cli.main",
        "lfadsrm_hpc.cli.guarding",
        "lfadsrm_hpc.cli.terminal",
        "lfadsrm_hpc.errors",
    }
    assert not (HEAVY | {"rich"}) & set(found["names"])


def test_importing_the_package_is_cheap(shell: Any) -> None:
    code = "import lfadsrm_hpc, sys; print(sorted(n for n in sys.modules if n.startswith('lfadsrm_hpc')))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=shell.environment, check=True
    )
    assert done.stdout.strip() == "['lfadsrm_hpc', 'lfadsrm_hpc._version']"
