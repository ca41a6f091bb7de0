"""A collection of bare runs or a prepared one, a site, and a scheduler in memory that every site has."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.schedulers.resources import JobRequest
from lfadsrm_hpc.schedulers.sites.site import About, Client, Filesystem, Limits, Partition, Site

_spec = importlib.util.spec_from_file_location("fake_cluster", Path(__file__).parent / "fake_cluster.py")
assert _spec is not None
assert _spec.loader is not None
fake_cluster = importlib.util.module_from_spec(_spec)
sys.modules["fake_cluster"] = fake_cluster
_spec.loader.exec_module(fake_cluster)

if TYPE_CHECKING:
    from fake_cluster import FakeCluster

REQUEST = JobRequest(3600, "gpu", cpus=2, memory_mb=4096)
SITE = Site(
    site=About(name="hill", scheduler="slurm"),
    client=Client(timeout_s=5.0, history="none"),
    limits=Limits(),
    partitions={
        "gpu": Partition(gpus_per_node=4, max_walltime="8:00:00", memory_per_node="16G", cpus_per_node=16),
        "cpu": Partition(max_walltime="2-00:00:00", memory_per_node="64G", cpus_per_node=32),
    },
    filesystem=Filesystem(latency_s=60.0),
)
HILL = """
[site]
name = "hill"
scheduler = "slurm"
[client]
timeout_s = 5.0
history = "none"
[partitions.gpu]
gpus_per_node = 4
cpus_per_node = 16
memory_per_node = "16G"
max_walltime = "8:00:00"
[partitions.cpu]
cpus_per_node = 32
memory_per_node = "64G"
max_walltime = "2-00:00:00"
[request]
partition = "gpu"
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    made: FakeCluster = fake_cluster.FakeCluster()
    monkeypatch.setattr("lfadsrm_hpc.schedulers.known.make_scheduler", lambda site: made)
    for name in ("LFADSRM_SITE", "LFADSRM_SITE_PATH"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
def site() -> Site:
    return SITE


@pytest.fixture
def limited() -> Callable[..., Site]:
    """Return the site with other limits."""

    def made(**limits: Any) -> Site:
        return replace(SITE, limits=Limits(**limits))

    return made


@pytest.fixture
def layout(tmp_path: Path) -> CollectionLayout:
    """Return a collection with twelve runs that are prepared as far as submitting needs."""
    made = CollectionLayout(tmp_path / "my runs")
    made.path.mkdir()
    made.collection_json.write_text("{}")
    for n in range(12):
        made.run("0123456789ab", f"day{n:02d}").path.mkdir(parents=True)
    return made


@pytest.fixture
def run_ids() -> list[str]:
    return [f"param_0123456789ab/day{n:02d}" for n in range(12)]


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.experiment_file import read_experiment

    folder = tmp_path_factory.mktemp("clusters")
    (folder / "datasets").mkdir()
    for number, name in enumerate(("day1", "day2")):
        spikes = np.random.default_rng(number).poisson(0.5, (40, 20, 5 + number))
        np.savez(folder / f"datasets/{name}.npz", spikes=spikes, bin_ms=10.0, condition=np.arange(40) % 4)
    (folder / "experiment.toml").write_text(
        '[collection]\nname = "small"\n[params]\nspike_bin_ms = 10\nbatch_size = 8\nco_dim = 0\n'
        '[sweep]\nfactors_dim = [2, 3]\n[run_specs]\nstitched = "all"\n'
    )
    read_experiment(folder).build(RunCollection).prepare_for_lfads(warn=False)
    (folder / "site_configs").mkdir()
    (folder / "site_configs/hill.toml").write_text(HILL)
    return folder


@pytest.fixture
def project(_prepared: Path, tmp_path: Path) -> Path:
    """Return an experiment with 3 run specs x 2 params, prepared, and the description of a site."""
    return shutil.copytree(_prepared, tmp_path / "my project")
