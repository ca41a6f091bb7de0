"""What schedulers say of themselves, and how a description is compared with it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lfadsrm_hpc.errors import SchedulerUnreachableError
from lfadsrm_hpc.schedulers.sites.compare import Finding, check_requests, compare
from lfadsrm_hpc.schedulers.sites.live import (
    LiveQueue,
    LiveSite,
    ask_scheduler,
    find_scheduler,
    read_sinfo,
    slurm_time,
)
from lfadsrm_hpc.schedulers.sites.loading import LoadedSite, load_site
from lfadsrm_hpc.schedulers.sites.writing import live_text, overlay_text, site_text

if TYPE_CHECKING:
    from slurm_cluster import SlurmCluster

# As `sinfo -h -a -e -o '%P|%a|%l|%D|%c|%m|%G|%h'` of Slurm 22.05 prints it.
SINFO = """\
debug*|up|infinite|2|4|4000|gpu:2|NO
gpu|up|2-00:00:00|3|64|256000|gpu:a100:4(S:0-1)|NO
gpu|up|2-00:00:00|1|32|500000|gpu:v100:2,shard:8|NO
old|down|30:00|1|16+|64000+|(null)|EXCLUSIVE
garbage
"""
QSTAT_B = """\
Server: pbs-main
    server_state = Active
    server_host = pbs-main
    max_array_size = 5000
    default_queue = workq
    pbs_version = 23.06.06
    resources_default.ncpus = 1
"""
QSTAT_Q = """\
Queue: workq
    queue_type = Execution
    total_jobs = 0
    state_count = Transit:0 Queued:0 Held:0 Waiting:0 Running:0 Exiting:0 Begun
\t:0
    resources_max.ngpus = 4
    resources_max.walltime = 12:00:00
    enabled = True
    started = True

Queue: longq
    queue_type = Execution
    resources_max.walltime = 168:00:00
    enabled = True
    started = False

Queue: free
    queue_type = Route
    enabled = True
    started = True
"""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("infinite", None),
        ("n/a", None),
        ("30:00", 1800),
        ("1:00:00", 3600),
        ("2-00:00:00", 172800),
        ("1-02:03:04", 93784),
    ],
)
def test_times_of_slurm(text: str, seconds: int | None) -> None:
    assert slurm_time(text) == seconds


def test_partitions_of_slurm() -> None:
    found = read_sinfo(SINFO)
    assert list(found) == ["debug", "gpu", "old"]
    assert found["debug"] == LiveQueue(True, None, 2, 2, (), 4, 4000, False, True)
    assert found["gpu"] == LiveQueue(True, 172800, 4, 4, ("a100", "v100"), 64, 500000, False, False)
    assert found["old"] == LiveQueue(False, 1800, 1, 0, (), 16, 64000, True, False)


def write_program(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def write_pbs(programs: Path, first: str = "", *, queues: str = QSTAT_Q) -> None:
    (programs / "server").write_text(QSTAT_B)
    (programs / "queues").write_text(queues)
    body = f"{first}\n" + 'case "$*" in "-B -f") file=server;; "-Q -f") file=queues;; *) exit 2;; esac\n'
    body += f'while IFS= read -r line; do printf "%s\\n" "$line"; done <{programs}/$file'
    write_program(programs, "qstat", body)


def test_queues_of_pbs(programs: Path) -> None:
    write_pbs(programs)
    found = ask_scheduler("pbspro", 10)
    assert (found.cluster, found.version, found.largest_array_index) == ("pbs-main", "23.06.06", 4999)
    assert found.queues == {
        "workq": LiveQueue(max_walltime_s=43200, gpus_per_node=4, default=True),
        "longq": LiveQueue(up=False, max_walltime_s=604800),
        "free": LiveQueue(),
    }
    assert find_scheduler(10) == found


@pytest.mark.parametrize(
    ("version", "scheduler"),
    [
        ("echo 'Version: 6.1.2' >&2; echo 'Commit: 1' >&2", "torque"),  # Torque
        ("echo 'version: 2.4.16' >&2; exit 1", "torque"),
        ("echo 'pbs_version = 23.06.06'", "pbspro"),
        ("exit 2", "pbspro"),
    ],
)
def test_torque_is_told_from_pbs_pro(programs: Path, version: str, scheduler: str) -> None:
    write_pbs(programs, '[ "$*" != --version ] || { ' + version + "; exit; }")
    found = find_scheduler(10)
    assert found.scheduler == scheduler
    assert f'extends = "generic-{scheduler}"' in live_text("ours", found, "login1", "2026-11-27")


@pytest.mark.parametrize(
    ("program", "body", "scheduler"),
    [
        ("scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1", "slurm"),
        ("qstat", "echo 'cannot connect to server' >&2; exit 255", "pbspro"),
        ("qstat", "exit 0", "pbspro"),
        ("qstat", "exit 0", "torque"),
        ("nothing", "", "slurm"),
    ],
)
def test_schedulers_that_do_not_answer(programs: Path, program: str, body: str, scheduler: str) -> None:
    write_program(programs, program, body)
    with pytest.raises(SchedulerUnreachableError, match=f"{scheduler} cannot be asked") as error:
        ask_scheduler(scheduler, 10)
    assert error.value.exit_code == 6
    assert "login node" in str(error.value.hint)
    with pytest.raises(SchedulerUnreachableError, match="no scheduler answers"):
        find_scheduler(10)


def test_a_hanging_scheduler_has_a_time_limit(programs: Path) -> None:
    write_program(programs, "scontrol", f"exec {sys.executable} -c 'import time; time.sleep(60)'")
    with pytest.raises(SchedulerUnreachableError, match=r"no answer within 0.2 s"):
        ask_scheduler("slurm", 0.2)


DESCRIBED = """
extends = "generic-slurm"
[recognise]
cluster_names = ["ours"]
[limits]
largest_array_index = 1000
[request]
partition = "gpu"
gpus = 1
[partitions.gpu]
gpus_per_node = 4
gpu_types = ["a100"]
cpus_per_node = 64
memory_per_node = "250G"
max_walltime = "2d"
[partitions.qos]
scheduler_name = ""
directives = ["--qos=x"]
"""
LIVE = LiveSite(
    "slurm",
    cluster="ours",
    largest_array_index=1000,
    queues={
        "gpu": LiveQueue(True, 172800, 4, 4, ("a100", "v100"), 64, 256000, False, True),
    },
)
QOS = Finding(False, "partitions.qos", "not compared: jobs name no partition there")


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("LFADSRM_SITE_PATH", raising=False)
    folder = tmp_path / "config/lfadsrm/site_configs"
    folder.mkdir(parents=True)
    return folder


Described = Callable[..., LoadedSite]


@pytest.fixture
def described(user: Path) -> Described:
    (user / "ours.toml").write_text(DESCRIBED)
    return lambda *sets: load_site("ours", sets=sets)


def test_a_right_description(described: Described) -> None:
    assert compare(described().site, LIVE) == [QOS]
    assert check_requests(described().site) == []


@pytest.mark.parametrize(
    ("change", "wrong", "key", "what"),
    [
        ("limits.largest_array_index=2000", True, "limits.largest_array_index", "2000 is described.*1000"),
        ("limits.largest_array_index=500", False, "limits.largest_array_index", "500 is described.*1000"),
        ("partitions.gpu.max_walltime=3d", True, "partitions.gpu.max_walltime", "3d is described.*48:00:00"),
        ("partitions.gpu.max_walltime=1d", False, "partitions.gpu.max_walltime", "1d is described"),
        ('partitions.gpu.max_walltime=""', True, "partitions.gpu.max_walltime", "nothing is described"),
        ("partitions.gpu.gpus_per_node=8", True, "partitions.gpu.gpus_per_node", "8 is described.*4"),
        ("partitions.gpu.gpus_per_node=2", False, "partitions.gpu.gpus_per_node", "2 is described.*4"),
        ("partitions.gpu.cpus_per_node=99", True, "partitions.gpu.cpus_per_node", "99 is described.*64"),
        (
            "partitions.gpu.gpu_types=h100",
            True,
            "partitions.gpu.gpu_types",
            "no h100 there",
        ),
        ("partitions.gpu.memory_per_node=300G", False, "partitions.gpu.memory_per_node", "can have 250G"),
        ("partitions.gpu.whole_nodes=true", False, "partitions.gpu.whole_nodes", "shares nodes"),
        ("partitions.gpu.scheduler_name=gup", True, "partitions.gpu", "the scheduler has no gup"),
        ("recognise.cluster_names=theirs", True, "recognise.cluster_names", "calls itself ours"),
    ],
)
def test_differences(described: Described, change: str, wrong: bool, key: str, what: str) -> None:
    import re

    found = [one for one in compare(described(change).site, LIVE) if one != QOS and one.key == key]
    assert [one.wrong for one in found] == [wrong]
    assert re.search(what, found[0].what)


def test_what_is_not_described_or_down_is_told(described: Described) -> None:
    from dataclasses import replace

    live = replace(LIVE, queues={"gpu": replace(LIVE.queues["gpu"], up=False), "new": LiveQueue()})
    assert [one.what for one in compare(described().site, live) if one != QOS] == [
        "it takes no jobs now",
        "not described: new",
    ]


def test_requests_are_tried(described: Described) -> None:
    found = check_requests(described('options.required=["account"]').site)
    assert found == [Finding(False, "options.required", "every user must still say options.account")]
    found = check_requests(described("request.gpus=9").site)
    assert [(one.wrong, one.key) for one in found] == [(True, "partitions.gpu")]
    found = check_requests(described("request.cpus=99").site)
    assert [(one.wrong, one.key) for one in found] == [(True, "partitions.gpu")]


def test_a_written_description_of_pbs_loads_and_agrees(programs: Path, user: Path) -> None:
    write_pbs(programs)
    live = find_scheduler(10)
    text = live_text("our cluster", live, "login12.example.edu", "2026-11-23")
    (user / "our cluster.toml").write_text(text)
    site = load_site("our cluster").site
    assert site.recognise.hostnames == ("login*.example.edu",)
    assert site.recognise.cluster_names == ("pbs-main",)
    assert (site.request.partition, site.request.gpus) == ("workq", 1)
    assert site.partitions["workq"].max_walltime == "12:00:00"
    assert [one for one in compare(site, live) if one.wrong] == []


def test_texts_of_sites_can_be_read_again(user: Path) -> None:
    for name in ("polaris", "perlmutter", "casper"):
        loaded = load_site(name)
        (user / f"{name}.toml").write_text(site_text(loaded.site))
        assert load_site(name).site == loaded.site
        (user / f"{name}.toml").write_text(site_text(loaded.site, list(loaded.origins), remark=loaded.origin))
        assert load_site(name).site == loaded.site
        (user / f"{name}.toml").unlink()


def test_an_overlay_changes_nothing_and_its_lines_work_without_the_hash(user: Path) -> None:
    import re

    for name in ("polaris", "delta", "generic-slurm"):
        base = load_site(name).site
        text = overlay_text(name, base, "2026-11-23")
        (user / f"{name}.toml").write_text(text)
        assert load_site(name).site == base
        (user / f"{name}.toml").write_text(re.sub(r"(?m)^# (?=\w+ = |\[)", "", text))
        site = load_site(name).site
        assert site.options.account == "..."
        assert site.environment.modules == ("python",)
        assert site.partitions["mine"].gpus_per_node == 4
        (user / f"{name}.toml").unlink()


def test_a_real_slurm(slurm: SlurmCluster, user: Path) -> None:
    live = ask_scheduler("slurm", 30)
    assert live.cluster == "pytest"
    assert live.version
    assert live.largest_array_index == slurm.options.max_array_size - 1
    assert set(live.queues) == {"debug", "gpu"}
    debug = live.queues["debug"]
    assert (debug.default, debug.up, debug.nodes, debug.cpus_per_node) == (True, True, 2, 4)
    assert (debug.gpus_per_node, debug.memory_mb, debug.max_walltime_s) == (2, 4000, None)
    (user / "mine.toml").write_text(live_text("mine", live, "login1", "2026-11-23"))
    site = load_site("mine").site
    assert compare(site, live) == []
    assert check_requests(site) == []
    wrong = load_site("mine", sets=["partitions.gpu.gpus_per_node=8", "partitions.none.cpus_per_node=1"])
    assert {one.key for one in compare(wrong.site, live) if one.wrong} == {
        "partitions.gpu.gpus_per_node",
        "partitions.none",
    }
