"""Every site that ships: it loads, says where its facts come from, and requests can be made from it."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from lfadsrm_hpc.schedulers.sites.compare import check_requests
from lfadsrm_hpc.schedulers.sites.layers import parse
from lfadsrm_hpc.schedulers.sites.loading import build_request, load_site
from lfadsrm_hpc.schedulers.sites.schema import keys_of, table_classes
from lfadsrm_hpc.schedulers.sites.site import SCHEMA, Site
from lfadsrm_hpc.schedulers.units import parse_memory, parse_time

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "site_configs").glob("*.toml"))
GENERIC = {"generic-slurm", "generic-pbspro", "generic-torque", "local"}
REAL = [path.stem for path in FILES if path.stem not in GENERIC]
ASKED_FOR = {"perlmutter", "polaris", "derecho", "casper", "expanse", "delta", "sherlock"}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file of the user who runs the tests lie over those that ship."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("LFADSRM_SITE_PATH", raising=False)


def filled(name: str) -> Site:
    """Load a site with what a user has to say."""
    return load_site(name, sets=["options.account=lab"] if name not in GENERIC else []).site


def test_which_sites_ship() -> None:
    assert {path.stem for path in FILES} >= GENERIC | ASKED_FOR
    assert len(REAL) >= 8


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_says_its_schema_and_is_commented(path: Path) -> None:
    text = path.read_text()
    assert parse(path)["schema"] == SCHEMA
    assert text.startswith("# ")
    assert max(map(len, text.splitlines())) <= 120
    assert re.search(r"(?m)^schema = 1\n", text)


@pytest.mark.parametrize("name", REAL)
def test_it_says_where_its_facts_come_from(name: str) -> None:
    site = load_site(name).site
    assert site.site.description
    assert site.site.documentation
    assert date(2026, 11, 1) <= date.fromisoformat(site.site.verified) <= date.today()
    assert site.recognise.hostnames or site.recognise.environment


@pytest.mark.parametrize("name", REAL)
def test_every_partition_makes_requests_up_to_its_limits(name: str) -> None:
    site = filled(name)
    assert site.request.partition in site.partitions
    assert site.partitions[site.request.partition].gpus_per_node > 0
    assert check_requests(site) == []
    for queue, has in site.partitions.items():
        longest = has.max_walltime or "7d"
        made = build_request(site, partition=queue, walltime=longest)
        assert made.walltime_s == parse_time(longest)
        assert made.gpus == (
            has.gpus_per_node if has.whole_nodes else min(site.request.gpus, has.gpus_per_node)
        )
        assert bool(made.gpus) == bool(has.gpus_per_node)
        most = build_request(site, partition=queue, walltime="30m", gpus=has.gpus_per_node)
        if has.cpus_per_node is not None:
            assert most.cpus <= has.cpus_per_node, "all GPUs of a node ask for more CPUs than it has"
        if most.memory_mb is not None and has.memory_per_node:
            assert most.memory_mb <= parse_memory(has.memory_per_node)
        assert (most.memory_mb is None) or site.request.memory_directive


@pytest.mark.parametrize("name", REAL)
def test_nobody_pays_by_default_and_no_time_is_assumed(name: str) -> None:
    site = load_site(name).site
    assert site.options.account == ""
    assert site.request.walltime == ""


def test_whole_nodes_are_packed() -> None:
    for name in REAL:
        site = load_site(name).site
        if site.partitions[site.request.partition].whole_nodes:
            assert site.packing.runs > 1, name


def test_pbs_sends_no_signal_before_the_end() -> None:
    for path in FILES:
        site = load_site(path.stem).site
        if site.scheduler in ("pbspro", "torque"):
            assert site.stopping.signal == "", path.stem
        assert parse_time(site.stopping.warning) >= 60


def test_facts_of_some_sites() -> None:
    polaris = filled("polaris")
    assert polaris.options.required == ("account", "filesystems")
    assert polaris.gpu_option(4) == "ngpus=4:system=polaris"
    assert build_request(polaris, walltime="3d").gpus == 4
    expanse = filled("expanse")
    made = build_request(expanse, walltime="48:00:00")
    assert (made.partition, made.gpus, made.cpus) == ("gpu-shared", 1, 10)
    assert made.memory_mb is not None
    assert expanse.gpu_option(1) == "--gpus=1"
    assert filled("delta").partitions["gpuA40x4-preempt"].preemptible
    casper = filled("casper")
    assert casper.partitions["a100"].directives == ("-l gpu_type=a100",)
    assert casper.partition_option("a100") == "casper"


def test_the_reference_of_the_documentation_is_that_of_the_schema() -> None:
    from lfadsrm_hpc.schedulers.sites.reference import key_texts, reference

    text = (ROOT / "docs/sites.md").read_text()
    assert reference() in text, "write the output of python -m lfadsrm_hpc.schedulers.sites.reference there"
    for table in table_classes():
        assert all(key_texts(table).values()), f"a key of [{table}] is not explained"
        assert set(key_texts(table)) == set(keys_of(table))


def test_the_documentation_lists_all_sites_and_its_examples_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs/sites.md").read_text()
    for name in REAL:
        about = load_site(name).site.site
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.endswith(f"| {about.verified} |")
        assert all(f"({page})" in row for page in about.documentation)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "lfadsrm/site_configs"
    folder.mkdir(parents=True)
    examples = re.findall(r"^```toml\n# (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(examples) == 2
    for file, content in examples:
        (folder / Path(file).name).write_text(content)
        site = load_site(Path(file).stem, sets=["options.account=lab"]).site
        assert check_requests(site) == []
