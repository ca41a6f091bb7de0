"""The scripts of jobs as text: a golden script for every packaged site, and for the generic ones.

After a change of a template or a site write the golden files anew, and read what has changed:

    UPDATE_GOLDEN=1 pytest tests/schedulers/test_scripts_golden.py
    git diff tests/schedulers/golden/jobs
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pytest

from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest.submissions import Plan, PlannedChunk, PlannedTask
from lfadsrm_hpc.rendering import packaged_folder
from lfadsrm_hpc.schedulers.batch import job_name
from lfadsrm_hpc.schedulers.scripts import render_chunk
from lfadsrm_hpc.schedulers.sites.loading import build_request, load_site
from lfadsrm_hpc.schedulers.sites.site import Site
from lfadsrm_hpc.schedulers.units import format_time, parse_time

GOLDEN = Path(__file__).parent / "golden" / "jobs"
ULID = "01J9ZK3V5Q8N7M2C4B6A1D0E9F"
LAYOUT = CollectionLayout(Path("/data/my lab/runs/example"))
PBS_LAYOUT = CollectionLayout(Path("/data/lab/runs/example"))  # a #PBS line takes no blanks
PROGRAM = ("/opt/lfads/bin/python", "-m", "lfadsrm_hpc", "task")
GIVEN = {
    "account": "options.account=lab01",
    "qos": "options.qos=normal",
    "filesystems": "options.filesystems=home:scratch",
}
EVERYTHING = (
    "options.account=lab01",
    "environment.shell=/bin/bash -l",
    'environment.setup=["ulimit -n 4096"]',
    'environment.modules=["cuda/12.4", "gcc"]',
    "environment.activation=source ~/venvs/lfads/bin/activate",
    'environment.keep=["LFADSRM_GPU_GROWTH", "LFADSRM_OTHER"]',
    'environment.variables={ TMPDIR = "/local/it\'s $HOME" }',
    "notify.mail=me@example.org",
    "stopping.requeue=false",
)


def sites() -> list[str]:
    with packaged_folder("site_configs") as folder:
        return sorted(path.stem for path in folder.glob("*.toml") if path.stem != "local")


def scripts(name: str, sets: Sequence[str] = (), *, runs: int = 3, most: int = 2) -> dict[str, str]:
    """Render a chunk of one task or several."""
    required = load_site(name, sets=sets).site.options.required
    sets = (*sets, *(GIVEN[key] for key in required if key in GIVEN))
    site = load_site(name, sets=sets).site
    limit = site.partition(site.request.partition).max_walltime
    walltime = format_time(min(4 * 3600, parse_time(limit) if limit else 10**9))
    request = build_request(site, walltime=walltime)
    pack = site.packing.runs
    size = -(-runs // pack)
    chunk = PlannedChunk(0, job_name(ULID, 0), size if size > 1 else 0, {}, most if size > 1 else 0)
    ids = [f"param_k3jz6v2a4q7m/single_day{n}" for n in range(runs - 1)] + ["param_k3jz6v2a4q7m/it's $HOME"]
    tasks = [PlannedTask(0, n // pack, run, 1 + n % 2) for n, run in enumerate(ids)]
    return render_chunk(
        layout_of(site),
        layout_of(site).submission(ULID),
        Plan(ULID, site.scheduler, site.name),
        chunk,
        tasks,
        site,
        request,
        titles={run: f"{run} (factors_dim={n + 2})" for n, run in enumerate(ids)},
        gpu_memory_mb=dict.fromkeys(ids, 3000),
        task_command=None if site.environment.activation else PROGRAM,
    )


def layout_of(site: Site) -> CollectionLayout:
    return LAYOUT if site.scheduler == "slurm" else PBS_LAYOUT


VARIANTS: dict[str, tuple[str, tuple[str, ...], int]] = {
    **{name: (name, (), 10) for name in sites()},
    "generic-slurm.one_run": ("generic-slurm", (), 1),
    "generic-slurm.everything": (
        "generic-slurm",
        (*EVERYTHING, "site.cluster=big", 'request.directives=["--exclude=n[1-3]"]'),
        3,
    ),
    "generic-slurm.packed": ("generic-slurm", ("packing.runs=2", "packing.slots=2", "request.gpus=1"), 3),
    "generic-pbspro.one_run": ("generic-pbspro", (*EVERYTHING, 'request.directives=["-l place=scatter"]'), 1),
    "generic-torque.one_run": ("generic-torque", (*EVERYTHING, "options.qos=high", "request.gpus=2"), 1),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_scripts_are_the_golden_ones(variant: str) -> None:
    name, sets, runs = VARIANTS[variant]
    found = scripts(name, sets, runs=runs)
    job = GOLDEN / f"{variant}.sh"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        job.parent.mkdir(exist_ok=True)
        job.write_text(found["script-0.sh"])
    assert job.is_file(), f"no golden script for {variant}: see the top of {Path(__file__).name}"
    assert found.pop("script-0.sh") == job.read_text()
    assert set(found) == {f"queues/0-{n}.sh" for n in range(len(found))}
    if variant == "generic-slurm.packed":
        queue = GOLDEN / f"{variant}.queue.sh"
        if os.environ.get("UPDATE_GOLDEN") == "1":
            queue.write_text(found["queues/0-0.sh"])
        assert found["queues/0-0.sh"] == queue.read_text()


def test_every_golden_script_has_its_site() -> None:
    known = {*(f"{name}.sh" for name in VARIANTS), "generic-slurm.packed.queue.sh"}
    assert {path.name for path in GOLDEN.iterdir()} == known
    assert len(sites()) >= 9


@pytest.mark.parametrize("variant", VARIANTS)
def test_scripts_pass_bash_and_shellcheck(variant: str, tmp_path: Path) -> None:
    name, sets, runs = VARIANTS[variant]
    for number, (path, text) in enumerate(scripts(name, sets, runs=runs).items()):
        if number > 1:
            break  # the queues of packed tasks differ in their lists alone
        script = tmp_path / PurePosixPath(path).name
        script.write_text(text)
        subprocess.run(["bash", "-n", str(script)], check=True, timeout=90)
        shellcheck(script)


def shellcheck(script: Path) -> None:
    program = shutil.which("shellcheck")
    if program is None:
        if os.environ.get("LFADSRM_REQUIRE_TOOLS") == "1":
            pytest.fail("shellcheck is not installed, and LFADSRM_REQUIRE_TOOLS=1 asks for it")
        pytest.skip("shellcheck is not installed")
    answer = subprocess.run([program, str(script)], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stdout


NEWER_THAN_4_2 = (
    "wait -n",
    "wait -p",
    "EPOCHSECONDS",
    "EPOCHREALTIME",
    "local -n",
    "declare -n",
    "@Q}",
    "[-1]",
)


def test_nothing_newer_than_bash_4_2() -> None:
    for golden in GOLDEN.iterdir():
        found = [word for word in NEWER_THAN_4_2 if word in golden.read_text()]
        assert not found, golden
