"""Which site a machine is: by variables, host names, and what a scheduler calls itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.errors import ConfigError
from lfadsrm_hpc.schedulers.sites.detection import host_names, scheduler_names
from lfadsrm_hpc.schedulers.sites.loading import choose_site, detect_sites


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the user's sites, empty; the machine looks like none."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("LFADSRM_SITE", "LFADSRM_SITE_PATH", "NERSC_HOST"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "config/lfadsrm/site_configs"
    folder.mkdir(parents=True)
    return folder


def detect(
    environment: dict[str, str] | None = None, hosts: tuple[str, ...] = (), clusters: tuple[str, ...] = ()
) -> list[tuple[str, str]]:
    found = detect_sites(
        environment=environment or {}, hostnames=lambda: hosts, cluster_names=lambda: clusters
    )
    return [(one.name, one.why) for one in found]


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("polaris-login-01", "polaris"),
        ("polaris-login-04.hsn.cm.polaris.alcf.anl.gov", "polaris"),
        ("derecho3", "derecho"),
        ("derecho7.hpc.ucar.edu", "derecho"),
        ("casper-login1", "casper"),
        ("login01.expanse.sdsc.edu", "expanse"),
        ("dt-login03.delta.ncsa.illinois.edu", "delta"),
        ("sh02-ln03", "sherlock"),
        ("login1.vista.tacc.utexas.edu", "vista"),
        ("login2.ls6.tacc.utexas.edu", "lonestar6"),
        ("LOGIN2.LS6.tacc.utexas.edu", "lonestar6"),
    ],
)
def test_by_host_name(host: str, name: str) -> None:
    assert detect(hosts=(host,)) == [(name, f"its host name is {host}")]


def test_by_variable() -> None:
    assert detect({"NERSC_HOST": "perlmutter"}) == [("perlmutter", "NERSC_HOST=perlmutter")]
    assert detect({"NERSC_HOST": "cori"}) == []


def test_by_what_the_scheduler_calls_itself(user: Path) -> None:
    (user / "ours.toml").write_text('extends="generic-slurm"\nrecognise.cluster_names=["our*"]\n')
    assert detect(clusters=("Ours",)) == [("ours", "its scheduler calls itself Ours")]
    assert detect(clusters=("casper-pbs",))[0][0] == "casper"


@pytest.mark.parametrize("host", ["laptop", "login01", "derecho", "sherlock-holmes", "mydelta.example.org"])
def test_other_machines_are_none(host: str) -> None:
    assert detect({"HOSTNAME": host}, (host,), ("slurm", "")) == []


def test_the_scheduler_is_asked_only_where_the_rest_says_nothing() -> None:
    def never() -> Any:
        raise AssertionError("asked")

    assert detect_sites(environment={"NERSC_HOST": "perlmutter"}, hostnames=never, cluster_names=never)
    assert detect_sites(environment={}, hostnames=lambda: ["derecho1"], cluster_names=never)


def test_a_description_of_ones_own_wins_over_a_packaged_one(user: Path) -> None:
    (user / "lab.toml").write_text('extends="delta"\nrecognise.hostnames=["dt-login*"]\n')
    assert [name for name, _ in detect(hosts=("dt-login01",))] == ["lab"]
    (user / "lab2.toml").write_text('extends="delta"\nrecognise.hostnames=["dt-*"]\n')
    assert [name for name, _ in detect(hosts=("dt-login01",))] == ["lab", "lab2"]
    (user / "delta.toml").write_text("limits.jobs = 5\n")  # laid over the packaged one: as strong
    assert [name for name, _ in detect(hosts=("dt-login01",))] == ["delta", "lab", "lab2"]


def test_choosing(monkeypatch: pytest.MonkeyPatch, user: Path) -> None:
    for kind in ("host_names", "scheduler_names"):
        monkeypatch.setattr(f"lfadsrm_hpc.schedulers.sites.detection.{kind}", lambda: [])
    with pytest.raises(ConfigError, match=r"none of the sites that are described: .*delta.*vista") as error:
        choose_site(None)
    assert "lfadsrm site init" in str(error.value.hint)
    monkeypatch.setenv("NERSC_HOST", "perlmutter")
    assert choose_site(None).site.name == "perlmutter"
    monkeypatch.setenv("LFADSRM_SITE", "delta")
    assert choose_site(None).site.name == "delta"
    assert choose_site("vista", sets=["limits.jobs=3"]).site.limits.jobs == 3
    monkeypatch.delenv("LFADSRM_SITE")
    for name in ("one", "two"):
        (user / f"{name}.toml").write_text('extends="delta"\nrecognise.environment={NERSC_HOST="p*"}\n')
    with pytest.raises(ConfigError, match=r"looks like several sites: one \(NERSC_HOST=perlmutter\), two"):
        choose_site(None)


def write_program(folder: Path, name: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_names_of_this_machine(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lfadsrm_hpc.schedulers.sites.detection.hostname", lambda: "login1")
    assert host_names() == ["login1"], "without a program `hostname` the short name has to do"
    write_program(programs, "hostname", '[ "$1" = -f ] && echo login1.example.edu')
    assert host_names() == ["login1", "login1.example.edu"]
    monkeypatch.setattr("lfadsrm_hpc.schedulers.sites.detection.FULL_NAME_TIMEOUT_S", 0.2)
    write_program(programs, "hostname", f"exec {sys.executable} -c 'import time; time.sleep(60)'")
    assert host_names() == ["login1"]
    monkeypatch.setattr("lfadsrm_hpc.schedulers.sites.detection.hostname", lambda: "a.example.edu")
    assert host_names() == ["a.example.edu"]


def test_names_of_schedulers(programs: Path) -> None:
    assert scheduler_names() == []
    write_program(programs, "scontrol", "echo 'ClusterName             = pytest'")
    write_program(programs, "qstat", "printf 'Server: pbs-main\\n    server_state = Active\\n'")
    assert scheduler_names() == ["pytest", "pbs-main"]
    write_program(programs, "scontrol", "echo nothing of it; exit 1")
    assert scheduler_names() == ["pbs-main"]


def test_this_machine_is_asked_without_an_error() -> None:
    assert isinstance(detect_sites(environment=dict(os.environ), cluster_names=lambda: []), list)
