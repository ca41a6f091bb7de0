"""From words to a request, within what a site allows; nothing is cut silently."""

from __future__ import annotations

from typing import Any

import pytest

from lfadsrm_hpc.errors import ConfigError
from lfadsrm_hpc.schedulers.resources import JobRequest
from lfadsrm_hpc.schedulers.sites.loading import build_request, load_site, site_from_settings
from lfadsrm_hpc.schedulers.sites.site import Options, Partition, Requests, Site

GPU = Partition(
    gpus_per_node=4,
    gpu_types=("a100", "h100"),
    cpus_per_node=64,
    cpus_per_gpu=8,
    memory_per_node="256G",
    memory_per_gpu="50G",
    max_walltime="48:00:00",
)
PARTITIONS = {
    "gpu": GPU,
    "long": Partition(gpus_per_node=2, cpus_per_node=32, max_walltime="7d"),
    "cpu": Partition(cpus_per_node=128, memory_per_node="500G", max_walltime="2d"),
    "node": Partition(gpus_per_node=3, cpus_per_node=96, max_walltime="1d", whole_nodes=True),
    "tiny": Partition(cpus_per_node=2),
}


def site(**request: Any) -> Site:
    settings = {"site": {"name": "lab", "scheduler": "slurm"}}
    base = site_from_settings(settings)
    return Site(
        site=base.site,
        partitions=PARTITIONS,
        request=Requests(**{"partition": "gpu", "gpus": 1, **request}),
    )


def test_defaults_follow_the_partition() -> None:
    assert build_request(site(), walltime="4:00:00") == JobRequest(
        walltime_s=14400, partition="gpu", gpus=1, cpus=8, memory_mb=50 * 1024
    )
    assert build_request(site(), walltime="4h", gpus=2).cpus == 16
    assert build_request(site(), walltime="4h", gpus=2).memory_mb == 100 * 1024


def test_what_is_said_wins() -> None:
    made = build_request(
        site(cpus=2, memory="1G", walltime="1h", gpu_type="a100"),
        partition="gpu",
        walltime="2h",
        cpus=3,
        gpus=2,
        gpu_type="h100",
        memory="9G",
    )
    assert made == JobRequest(7200, "gpu", 2, "h100", 3, 9 * 1024)
    assert build_request(site(cpus=2, memory="1G", walltime="1h")) == JobRequest(3600, "gpu", 1, "", 2, 1024)


def test_a_partition_without_gpus_gets_none_by_default() -> None:
    made = build_request(site(gpu_type="a100"), partition="cpu", walltime="1h")
    assert (made.gpus, made.gpu_type, made.cpus, made.memory_mb) == (0, "", 4, None)
    assert build_request(site(), partition="tiny", walltime="1h").cpus == 2


def test_whole_nodes_give_all_of_a_node() -> None:
    made = build_request(site(), partition="node", walltime="1h")
    assert (made.gpus, made.cpus) == (3, 96)
    assert build_request(site(), partition="node", walltime="1h", gpus=1, cpus=8).gpus == 1


def test_there_is_no_default_walltime() -> None:
    with pytest.raises(ConfigError, match=r"no walltime is given.*48:00:00") as error:
        build_request(site())
    assert "--walltime" in str(error.value.hint)


@pytest.mark.parametrize(
    ("asked", "what", "hint"),
    [
        ({"walltime": "3d"}, r"72:00:00 is over the limit of the partition 'gpu' of lab, 48:00:00", "long"),
        (
            {"walltime": "8d", "partition": "long"},
            "over the limit of the partition 'long' of lab, 7d",
            "ask for less",
        ),
        ({"walltime": "60"}, "is not a time", "60m or 60h"),
        ({"gpus": 5}, "5 GPUs are asked for, and the partition 'gpu' of lab has 4", "ask for fewer"),
        ({"gpus": 3, "partition": "long"}, "has 2 GPUs a node", "gpu, node"),
        ({"gpus": 1, "partition": "cpu"}, "has no GPUs", "gpu, long, node"),
        ({"gpu_type": "h10"}, "no GPUs of the kind 'h10'; it has a100, h100", "did you mean 'h100'"),
        ({"gpus": 0, "gpu_type": "a100"}, "and no GPU", "--gpus 1"),
        ({"cpus": 65}, "65 CPUs are asked for, and a node of the partition 'gpu' of lab has 64", "cpu, node"),
        ({"cpus": 999}, "has 64", "ask for fewer"),
        ({"memory": "300G"}, "300G of memory is asked for.*256G", "cpu"),
        ({"memory": "16"}, "is not a size", "16M or 16G"),
        ({"partition": "gup"}, "does not describe a partition 'gup'; it has gpu, long", "did you mean 'gpu'"),
        ({"partition": "mylab"}, "does not describe", "--set partitions.mylab.max_walltime"),
    ],
)
def test_more_than_there_is_is_an_error_that_says_the_limit(
    asked: dict[str, Any], what: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=what) as error:
        build_request(site(), **{"walltime": "1h", **asked})
    assert hint in str(error.value.hint)


@pytest.mark.parametrize("way", ["--gpus={gpus}", "none"])
def test_a_kind_of_gpu_that_no_job_can_name_is_refused(way: str) -> None:
    lab = site(gpu_directive=way)
    assert build_request(lab, walltime="1h", gpu_type="").gpu_type == ""
    with pytest.raises(ConfigError, match="jobs at lab cannot say which kind") as error:
        build_request(lab, walltime="1h", gpu_type="a100")
    assert "gpu, long, node" in str(error.value.hint)
    with pytest.raises(ConfigError, match="cannot say which kind") as error:
        build_request(load_site("generic-pbspro").site, walltime="1h", gpus=1, gpu_type="a100")
    assert "request.directives" in str(error.value.hint)


def test_limits_themselves_are_allowed() -> None:
    made = build_request(site(), walltime="48:00:00", gpus=4, cpus=64, memory="256G")
    assert made == JobRequest(172800, "gpu", 4, "", 64, 256 * 1024)


def test_required_options() -> None:
    lab = site(partition="")
    lab = Site(site=lab.site, options=Options(required=("account", "filesystems", "partition")))
    with pytest.raises(ConfigError, match="must name an account and a filesystems and a partition") as error:
        build_request(lab, walltime="1h")
    for key in ("options.account", "options.filesystems", "request.partition"):
        assert f"--set {key}=" in str(error.value.hint)
    lab = Site(
        site=lab.site,
        options=Options(account="x", filesystems="home", required=("account", "filesystems", "partition")),
    )
    assert build_request(lab, walltime="1h", partition="any").partition == "any"


def test_no_memory_where_none_may_be_asked_for() -> None:
    lab = site(memory_directive=False, memory="1G")
    assert build_request(lab, walltime="1h").memory_mb is None
    with pytest.raises(ConfigError, match="memory cannot be asked for at lab"):
        build_request(lab, walltime="1h", memory="1G")


def test_undescribed_partitions_have_no_known_limits() -> None:
    generic = load_site("generic-slurm").site
    made = build_request(generic, partition="whatever", walltime="30d", gpus=8, cpus=100, memory="2T")
    assert made == JobRequest(30 * 86400, "whatever", 8, "", 100, 2 * 1024**2)


def test_a_machine_without_a_scheduler_takes_no_requests() -> None:
    with pytest.raises(ConfigError, match="no scheduler") as error:
        build_request(load_site("local").site, walltime="1h")
    assert "lfadsrm run" in str(error.value.hint)


def test_how_gpus_and_partitions_are_named() -> None:
    assert load_site("generic-slurm").site.gpu_option(2, "a100") == "--gres=gpu:a100:2"
    assert load_site("generic-slurm").site.gpu_option(1) == "--gres=gpu:1"
    assert load_site("generic-slurm").site.gpu_option(0) == ""
    assert load_site("generic-pbspro").site.gpu_option(2, "a100") == "ngpus=2"
    assert load_site("generic-torque").site.gpu_option(1) == "gpus=1"
    assert load_site("vista").site.gpu_option(1) == ""
    assert site().gpu_option(1) == "--gres=gpu:1", "the way of the scheduler where nothing is said"
    perlmutter = load_site("perlmutter").site
    assert perlmutter.partition_option("shared") == ""
    assert load_site("casper").site.partition_option("h100") == "casper"
    assert perlmutter.partition_option("undescribed") == "undescribed"
