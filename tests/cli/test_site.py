"""`lfadsrm site`: what it prints, writes and exits with."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from lfadsrm_hpc.cli.site import site
from lfadsrm_hpc.schedulers.sites.loading import load_site

if TYPE_CHECKING:
    from slurm_cluster import SlurmCluster


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the user's sites; stand in an empty folder on a machine that looks like none."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("LFADSRM_SITE", "LFADSRM_SITE_PATH", "NERSC_HOST"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "config/lfadsrm/site_configs"


@pytest.fixture
def no_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave an empty folder as PATH; return it."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def examples(text: str) -> Iterator[list[str]]:
    for line in text.partition("Examples:")[2].splitlines():
        bare = re.split(r"\s{2,}", line.strip())[0]
        if bare.startswith("lfadsrm "):
            yield shlex.split(bare)


@pytest.mark.parametrize("name", list(site.commands))
def test_help_of_each(call: Any, name: str) -> None:
    said = call("site", name, "--help")
    assert (said.code, said.err) == (0, "")
    assert max(map(len, said.out.splitlines())) <= 100
    parameters = site.commands[name].params
    assert all(one.help for one in parameters if isinstance(one, click.Option))
    known = {option for one in parameters for option in one.opts}
    found = list(examples(said.out))
    assert found
    for _, group, command, *words in found:
        assert (group, command) == ("site", name)
        assert {word for word in words if word.startswith("-")} <= known


def test_list(call: Any, user: Path) -> None:
    user.mkdir(parents=True)
    (user / "polaris.toml").write_text("limits.jobs = 1\n")
    (user / "broken.toml").write_text("[limts]\n")
    said = call("site", "list")
    assert said.code == 0
    lines = {line.split()[0]: line for line in said.out.splitlines()}
    assert "pbspro" in lines["polaris"]
    assert "user" in lines["polaris"]
    assert "packaged" in lines["perlmutter"]
    assert "broken is invalid: 'limts' is not a table" in said.err
    found = {one["name"]: one for one in call("site", "list", "--json").json["sites"]}
    assert found["polaris"]["files"][-1] == str(user / "polaris.toml")
    assert "did you mean 'limits'" in found["broken"]["error"]


def test_show(call: Any, user: Path) -> None:
    user.mkdir(parents=True)
    (user / "polaris.toml").write_text('[options]\naccount = "lab"\n')
    plain = call("site", "show", "polaris")
    assert plain.code == 0
    assert 'account = "lab"\n' in plain.out
    assert "latency_s" not in plain.out
    everything = call("site", "show", "polaris", "--all", "--origin", "--set", "packing.runs=8").out
    assert re.search(rf'account = "lab" +# {re.escape(str(user))}/polaris.toml\n', everything)
    assert re.search(r"runs = 8 +# --set\n", everything)
    assert re.search(r"latency_s = 60.0 +# default\n", everything)
    of_texts = call("site", "show", "perlmutter", "--origin").out
    assert re.search(r'environment = { NERSC_HOST = "perlmutter" } +# .*/perlmutter.toml\n', of_texts)
    told = call("site", "show", "polaris", "--json").json
    assert told["site"]["options"]["account"] == "lab"
    assert told["origins"]["options.account"] == str(user / "polaris.toml")


def test_show_takes_the_chosen_site(call: Any, monkeypatch: pytest.MonkeyPatch, no_scheduler: Path) -> None:
    said = call("site", "show")
    assert said.code == 3
    assert "none of the sites that are described" in said.err
    monkeypatch.setenv("LFADSRM_SITE", "delta")
    assert 'name = "delta"' in call("site", "show").out
    assert call("site", "show", "delat").code == 3


def test_the_project_is_found_from_here_or_given(call: Any, tmp_path: Path) -> None:
    project = tmp_path / "study"
    (project / "site_configs").mkdir(parents=True)
    (project / "site_configs/ours.toml").write_text('extends = "delta"\n')
    assert call("site", "show", "ours").code == 3
    assert call("site", "show", "ours", "--project", project).code == 0
    here = tmp_path / "here"
    (here / "experiment.toml").write_text("")
    (project / "site_configs").rename(here / "site_configs")
    assert call("site", "show", "ours").code == 0


def test_check(call: Any, user: Path) -> None:
    said = call("site", "check", "polaris")
    assert said.code == 0
    assert said.out == "note: options.required: every user must still say options.account\n"
    assert "0 wrong, 1 notes" in said.err
    assert call("site", "check", "polaris", "--set", "options.account=lab").out == ""
    user.mkdir(parents=True)
    (user / "polaris.toml").write_text("partitions.debug.cpus_per_node = 2\nrequest.cpus = 3\n")
    said = call("site", "check", "polaris")
    assert said.code == 3
    assert "wrong: partitions.debug: 3 CPUs are asked for" in said.out
    told = call("site", "check", "polaris", "--json")
    assert told.code == 3
    assert {"wrong": True, "key": "partitions.debug"}.items() <= told.json["findings"][-1].items()
    (user / "polaris.toml").write_text("[limts]\n")
    said = call("site", "check", "polaris")
    assert said.code == 3
    assert "did you mean 'limits'" in said.err


def test_check_live_without_a_scheduler(call: Any, no_scheduler: Path) -> None:
    said = call("site", "check", "delta", "--live")
    assert said.code == 6
    assert "slurm cannot be asked" in said.err
    assert call("site", "check", "local", "--live").code == 2


def test_check_live_with_a_real_slurm(call: Any, slurm: SlurmCluster, user: Path) -> None:
    assert call("site", "init", "mine").code == 0
    said = call("site", "check", "mine", "--live")
    assert (said.code, said.out) == (0, ""), said.out
    assert "compared with slurm" in said.err
    said = call("site", "check", "mine", "--live", "--set", "partitions.gpu.gpus_per_node=8", "--json")
    assert said.code == 3
    assert said.json["live"]["queues"]["gpu"]["gpus_per_node"] == 2
    found = call("site", "detect", "--json").json["sites"]
    assert [one["name"] for one in found] == ["mine"]
    assert "mine" in call("site", "list").out


def test_detect(call: Any, monkeypatch: pytest.MonkeyPatch, no_scheduler: Path) -> None:
    said = call("site", "detect")
    assert (said.code, said.out) == (4, "")
    assert call("site", "detect", "--json").json["sites"] == []
    monkeypatch.setenv("NERSC_HOST", "perlmutter")
    assert call("site", "detect").out == "perlmutter  NERSC_HOST=perlmutter\n"
    assert call("site", "detect", "--json").json["sites"][0]["layer"] == "packaged"


def test_init_of_a_known_site(call: Any, user: Path, no_scheduler: Path) -> None:
    said = call("site", "init", "perlmutter")
    assert (said.code, said.out) == (0, f"{user / 'perlmutter.toml'}\n")
    text = (user / "perlmutter.toml").read_text()
    assert '# account = "..."    # every job must name it' in text
    assert "memory" not in text, "none can be asked for there"
    assert load_site("perlmutter").layer == "user"
    said = call("site", "init", "perlmutter")
    assert said.code == 2
    assert "there is such a file already" in said.err
    assert (user / "perlmutter.toml").read_text() == text


def test_init_from_another_into_the_project(call: Any, tmp_path: Path, no_scheduler: Path) -> None:
    said = call("site", "init", "our lab", "--from", "derecho", "--here", "--project", tmp_path)
    assert said.code == 0
    assert "'our lab'" in said.err
    path = tmp_path / "site_configs/our lab.toml"
    assert 'extends = "derecho"' in path.read_text()
    assert load_site("our lab", project=tmp_path).site.scheduler == "pbspro"
    assert call("site", "init", "x", "--from", "derech").code == 3


def test_init_without_a_scheduler_writes_nothing(call: Any, user: Path, no_scheduler: Path) -> None:
    said = call("site", "init", "ours")
    assert said.code == 6
    assert "no scheduler answers here" in said.err
    assert not user.exists()
    assert call("site", "init", "../ours").code == 2


def test_nothing_heavy_is_imported(shell: Any, tmp_path: Path) -> None:
    heavy = {"tensorflow", "xarray", "pandas", "matplotlib", "h5py", "numpy", "jinja2", "scipy", "netCDF4"}
    code = (
        "import json, sys; sys.argv = ['lfadsrm', *json.loads(sys.argv[1])]\n"
        "from lfadsrm_hpc.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n"
        "    print(ended.code, *{name.split('.')[0] for name in sys.modules}, file=sys.stderr)\n"
    )
    for words in (["list"], ["show", "polaris", "--origin"], ["check", "polaris", "--json"]):
        import subprocess

        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(["site", *words])],
            env=shell.environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        code_and_names = done.stderr.splitlines()[-1].split()
        assert code_and_names[0] == "0"
        assert not heavy & set(code_and_names)
