"""The scripts as text, the options, the site file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.errors import (
    ConfigError,
    NotFoundError,
    NothingEligibleError,
    SchedulerError,
    TemplateError,
    UsageError,
)
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.schedulers.local import (
    LocalQueueOptions,
    render_queue_script,
    write_queue_script,
)
from lfadsrm_hpc.schedulers.queue_tasks import QueueTask
from lfadsrm_hpc.schedulers.resources import Request
from lfadsrm_hpc.schedulers.sites.loading import load_site, queue_options

Bench = Any  # the class in conftest.py

GOLDEN = Path(__file__).parent / "golden"
LAYOUT = CollectionLayout(Path("/data/my lab/runs/example"))
TASKS = [
    QueueTask("param_k3jz6v2a4q7m/single_dataset001", name="factors_dim=2"),
    QueueTask("param_k3jz6v2a4q7m/it's $HOME", Request(gpu_memory_mb=4000)),
]
PROGRAM = ("/opt/lfads/bin/python", "-m", "lfadsrm_hpc", "task")
SUBMISSION = "01J9ZK3V5Q8N7M2C4B6A1D0E9F"
VARIANTS = {
    "plain": LocalQueueOptions(task_command=PROGRAM),
    "all_options": LocalQueueOptions(
        slots=3,
        cpu_cap=2,
        max_per_gpu=2,
        use_gpu=True,
        max_attempts=2,
        environment=("module load cuda/12", "source /opt/lfads/bin/activate"),
        tensorboard=True,
        survive_hangup=True,
        posterior_only=True,
        keep_environment=("LFADSRM_LOG_LEVEL", "LFADSRM_OTHER"),
        task_command=PROGRAM,
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_rendered_script_is_the_golden_one(variant: str) -> None:
    """Write the golden files anew with UPDATE_GOLDEN=1, and read what has changed."""
    text = render_queue_script(LAYOUT, TASKS, VARIANTS[variant], SUBMISSION)
    golden = GOLDEN / f"run_queue.{variant}.sh"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_pass_bash_and_shellcheck(golden: Path) -> None:
    subprocess.run(["bash", "-n", str(golden)], check=True, timeout=90)
    shellcheck(golden)


def test_run_script_passes_bash_and_shellcheck(bench: Bench) -> None:
    [run_id] = bench.add("it's $(x)")
    bench.write(environment=("source /opt/lfads/bin/activate",), posterior_only=True)
    script = bench.layout.run_by_id(run_id).script
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=90)
    shellcheck(script)
    assert os.access(script, os.X_OK)


def shellcheck(script: Path) -> None:
    program = shutil.which("shellcheck")
    if program is None:
        if os.environ.get("LFADSRM_REQUIRE_TOOLS") == "1":
            pytest.fail("shellcheck is not installed, and LFADSRM_REQUIRE_TOOLS=1 asks for it")
        pytest.skip("shellcheck is not installed")
    answer = subprocess.run([program, str(script)], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(
    "newer_than_4_2",
    [
        "wait -n",
        "wait -p",
        "EPOCHSECONDS",
        "EPOCHREALTIME",
        "local -n",
        "declare -n",
        "@Q}",
        "[-1]",
        "readarray -d",
    ],
)
def test_nothing_newer_than_bash_4_2(newer_than_4_2: str) -> None:
    for golden in GOLDEN.glob("*.sh"):
        assert newer_than_4_2 not in golden.read_text()


def test_a_script_that_is_being_executed_is_replaced_and_not_changed(bench: Bench) -> None:
    bench.add("a", plan=["0.5 0"])
    bench.add("b")
    script = bench.write(slots=1)
    with script.open() as open_script:
        before = script.read_text()
        queue = bench.start()
        bench.wait_for_starts(1)
        bench.write(bench.tasks[:1], slots=2)
        assert open_script.read() == before
    assert queue.wait(120) == 0
    assert bench.starts() == ["a", "b"]
    assert not list(script.parent.glob(".*.tmp"))


def test_no_runs(bench: Bench) -> None:
    with pytest.raises(NothingEligibleError):
        write_queue_script(bench.layout, [], LocalQueueOptions(), SUBMISSION)


def test_the_same_run_twice(bench: Bench) -> None:
    bench.add("a")
    with pytest.raises(UsageError, match="twice"):
        bench.write([*bench.tasks, *bench.tasks])


def test_run_that_is_not_prepared(bench: Bench) -> None:
    bench.add("a")
    with pytest.raises(NotFoundError, match="param_abc/b"):
        bench.write([*bench.tasks, QueueTask("param_abc/b")])
    assert not bench.layout.queue_script.exists()


@pytest.mark.parametrize(
    "run_id", ["nonsense", "param_abc/", "param_abc/a/b", "param_abc/../x", "param_abc/.x"]
)
def test_ids_that_are_none(bench: Bench, run_id: str) -> None:
    with pytest.raises(UsageError):
        bench.write([QueueTask(run_id)])


def test_name_with_a_line_break_is_refused(bench: Bench) -> None:
    [run_id] = bench.add("a")
    with pytest.raises(TemplateError):
        bench.write([QueueTask(run_id, name="a\nrm -rf x")])


def test_environment_that_bash_cannot_read_is_refused_when_written(bench: Bench) -> None:
    bench.add("a")
    with pytest.raises(SchedulerError, match="environment"):
        bench.write(environment=("if true",))
    assert not bench.layout.queue_script.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"slots": 0},
        {"slots": True},
        {"cpu_cap": -1},
        {"max_per_gpu": 0},
        {"max_attempts": 0},
        {"max_restarts": -1},
        {"poll_s": 0},
        {"poll_s": float("nan")},
        {"poll_s": float("inf")},
        {"look_s": 0.5},
        {"use_gpu": "yes"},
        {"tensorboard": 1},
        {"tensorboard_port": 70000},
        {"environment": "module load x"},
        {"environment": ("a\nb",)},
        {"keep_environment": ("PATH",)},
        {"keep_environment": ("LFADSRM_X) rm",)},
        {"task_command": ["a"]},
        {"task_command": ()},
    ],
    ids=str,
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        LocalQueueOptions(**wrong)


@pytest.mark.parametrize("memory", [0, -1, 2.5, True, "2000"])
def test_wrong_requests_are_refused(memory: Any) -> None:
    with pytest.raises(UsageError, match="gpu_memory_mb"):
        Request(gpu_memory_mb=memory)


def test_site_local_says_what_the_options_default_to() -> None:
    assert queue_options() == LocalQueueOptions()
    assert load_site("local").site.scheduler == "local"


def test_what_the_user_says_comes_over_the_site(tmp_path: Path) -> None:
    (tmp_path / "local.toml").write_text('[queue]\nslots = 3\nmax_per_gpu = 1\nenvironment = ["a", "b"]\n')
    options = queue_options({"max_per_gpu": 7, "slots": None}, search=[tmp_path])
    assert (options.slots, options.max_per_gpu, options.environment) == (3, 7, ("a", "b"))
    assert options.poll_s == LocalQueueOptions().poll_s


def test_unknown_option_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'max_per_gpu'"):
        queue_options({"max_per_gpus": 1}, where="experiment.toml")
    (tmp_path / "local.toml").write_text("[queue]\nslot = 3\n")
    with pytest.raises(ConfigError, match=r"did you mean 'slots'"):
        queue_options(search=[tmp_path])
    (tmp_path / "local.toml").write_text("[queu]\nslots = 3\n")
    with pytest.raises(ConfigError, match="did you mean 'queue'"):
        queue_options(search=[tmp_path])


@pytest.mark.parametrize(
    "text", ["[queue", "queue = 3\n", "[queue]\nslots = 'a'\n", "[queue]\nenvironment = 'a'\n"]
)
def test_wrong_site_files_name_the_file_or_site(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab.toml").write_text(text)
    with pytest.raises(ConfigError, match="lab"):
        queue_options(site="lab", search=[tmp_path])


def test_unknown_site() -> None:
    with pytest.raises(ConfigError, match=r"the sites are: .*local"):
        load_site("locla")
