"""What comes with a project and would run as its user is refused until that user has trusted it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from lfadsrm_hpc.collection.experiment_file import read_experiment
from lfadsrm_hpc.errors import ConfigError, TemplateError, UntrustedError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest.records import new_ulid
from lfadsrm_hpc.manifest.sealed import require_trust
from lfadsrm_hpc.manifest.submissions import Plan, write_plan
from lfadsrm_hpc.rendering import render
from lfadsrm_hpc.schedulers.sites import loading as sites
from lfadsrm_hpc.schedulers.sites.loading import load_site
from lfadsrm_hpc.schedulers.sites.schema import keys_of
from lfadsrm_hpc.trust import PLAIN_SETTINGS, file_key, forget, is_trusted, remember, require_file

SITE = """
schema = 1
extends = "generic-slurm"
[environment]
setup = ["touch /tmp/owned"]
"""


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_template_of_a_project_is_used_only_when_it_is_trusted(project: Path) -> None:
    template = put(project / "templates/hello.sh.j2", "echo {{ name | q }}\n")
    folders = (template.parent,)
    with pytest.raises(UntrustedError, match="have not trusted") as refused:
        render("hello.sh.j2", {"name": "a b"}, search=folders)
    assert refused.value.exit_code == 3
    assert refused.value.place == template
    remember(file_key(template), template.read_bytes(), "a template")
    assert render("hello.sh.j2", {"name": "a b"}, search=folders) == "echo 'a b'\n"
    # One letter more, at the same place, in a process that has rendered it before.
    put(template, "echo {{ name | q }} \n")
    with pytest.raises(UntrustedError):
        render("hello.sh.j2", {"name": "a b"}, search=folders)


def test_what_a_trusted_template_extends_or_includes_must_be_trusted_too(project: Path) -> None:
    template = put(project / "templates/hello.sh.j2", "{% include 'part.sh.j2' %}")
    put(project / "templates/part.sh.j2", "echo part")
    remember(file_key(template), template.read_bytes(), "a template")
    with pytest.raises(UntrustedError, match=r"part\.sh\.j2"):
        render("hello.sh.j2", {}, search=(template.parent,))


def test_the_same_content_at_another_place_is_not_trusted(project: Path, tmp_path: Path) -> None:
    template = put(project / "templates/hello.sh.j2", "echo")
    remember(file_key(template), template.read_bytes(), "a template")
    require_file(template, b"echo", "a template")
    with pytest.raises(UntrustedError):
        require_file(put(tmp_path / "other/hello.sh.j2", "echo"), b"echo", "a template")


def test_the_users_own_templates_need_no_trust(settings: Path) -> None:
    template = put(settings / "templates/hello.sh.j2", "echo {{ name | q }}")
    assert render("hello.sh.j2", {"name": "x"}, search=(template.parent,)) == "echo x"


def test_a_link_out_of_the_users_own_templates_needs_no_trust(settings: Path, tmp_path: Path) -> None:
    real = put(tmp_path / "dotfiles/hello.sh.j2", "echo")
    (settings / "templates").mkdir(parents=True)
    (settings / "templates/hello.sh.j2").symlink_to(real)
    assert render("hello.sh.j2", {}, search=(settings / "templates",)) == "echo"


def test_templates_run_no_python(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFADSRM_TRUSTED", str(project))
    for number, text in enumerate(
        (
            "{{ ''.__class__.__mro__[1].__subclasses__() }}",
            "{{ cycler.__init__.__globals__.os.system('touch owned') }}",
            "{{ self.__init__.__globals__ }}",
            "{{ '{0.__class__}'.format(name) }}{{ name.__class__.__mro__ }}",
            "{{ where.exists.__func__.__globals__ }}",
        )
    ):
        put(project / f"templates/t{number}.sh.j2", text)
        with pytest.raises(TemplateError):
            render(f"t{number}.sh.j2", {"name": "x", "where": project}, search=(project / "templates",))
    assert not (project / "owned").exists()


def test_a_template_reads_nothing_outside_its_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LFADSRM_TRUSTED", str(project))
    secret = put(tmp_path / "secret.txt", "secret")
    for number, name in enumerate((str(secret), "../../secret.txt", "x/../../../secret.txt")):
        put(project / f"templates/t{number}.sh.j2", f"{{% include {name!r} %}}")
        with pytest.raises(TemplateError):
            render(f"t{number}.sh.j2", {}, search=(project / "templates",))


def test_a_site_file_of_a_project_is_read_only_when_it_is_trusted(project: Path, call) -> None:  # type: ignore[no-untyped-def]
    file = put(project / "site_configs/hill.toml", SITE)
    with pytest.raises(UntrustedError):
        sites.load_site("hill", project=project)
    said = call("site", "show", "hill", "--project", project)
    assert said.code == 3
    assert str(file) in said.err
    assert "lfadsrm site trust" in said.err
    # Other sites are not hindered by it, and the list says what is wrong with it.
    assert sites.load_site("generic-slurm", project=project).site.scheduler == "slurm"
    assert isinstance(sites.list_sites(project)["hill"], UntrustedError)
    assert call("site", "trust", project).code == 0
    assert sites.load_site("hill", project=project).site.environment.setup == ("touch /tmp/owned",)
    put(file, SITE.replace("/tmp/owned", "/tmp/owned2"))
    with pytest.raises(UntrustedError):
        sites.load_site("hill", project=project)


def test_the_system_and_the_user_layer_need_no_trust(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(settings / "site_configs/mine.toml", SITE)
    put(tmp_path / "system/theirs.toml", SITE)
    monkeypatch.setenv("LFADSRM_SITE_PATH", str(tmp_path / "system"))
    assert sites.load_site("mine").site.environment.setup
    assert sites.load_site("theirs").site.environment.setup


def test_what_init_writes_for_a_project_is_trusted(project: Path, call) -> None:  # type: ignore[no-untyped-def]
    said = call("site", "init", "ours", "--from", "generic-slurm", "--here", "--project", project)
    assert said.code == 0, said.err
    assert sites.load_site("ours", project=project).site.name == "ours"


def test_commands_in_an_experiment_must_be_trusted_and_other_values_need_not(project: Path, call) -> None:  # type: ignore[no-untyped-def]
    file = project / "experiment.toml"
    plain = file.read_text()
    assert call("prepare", project).code == 0
    assert call("run", project, "--dry-run").code == 0  # nothing in it runs commands
    file.write_text(plain + '[queue]\nenvironment = ["touch owned"]\n')
    said = call("run", project, "--dry-run")
    assert said.code == 3
    assert "environment" in said.err
    assert call("prepare", project).code == 0  # which runs none of it
    assert call("site", "trust", project).code == 0
    assert call("run", project, "--dry-run").code == 0
    file.write_text(file.read_text().replace("batch_size = 8", "batch_size = 9"))
    assert call("prepare", project).code == 0
    assert call("run", project, "--dry-run").code == 0
    file.write_text(file.read_text().replace("touch owned", "touch other"))
    assert call("run", project, "--dry-run").code == 3
    file.write_text(plain + "[cluster]\nset = [\"environment.setup=['touch owned']\"]\n")
    for command in ("submit", "plan", "retry"):
        assert call(command, project, "--site", "generic-slurm", "--walltime", "1:00:00").code == 3


def test_a_setting_that_holds_no_command_needs_no_trust(project: Path, call) -> None:  # type: ignore[no-untyped-def]
    file = project / "experiment.toml"
    plain = file.read_text()
    words = ("plan", project, "--site", "generic-slurm", "--walltime", "1:00:00")
    assert call("prepare", project).code == 0
    file.write_text(f'{plain}[cluster]\nset = ["options.account=m1", "stopping.warning=10m"]\n')
    assert call(*words).code == 0
    for setting in ("environment.activation=x", "'options'.account=x", "notify.command=x", "queue.slots=1"):
        file.write_text(f'{plain}[cluster]\nset = ["options.account=m1", "{setting}"]\n')
        said = call(*words)
        assert said.code == 3
        assert f"set of [cluster] ({setting.partition('=')[0]}) of a project can run commands" in said.err
        assert f"lfadsrm site trust {file}" in said.err


@pytest.mark.parametrize("key", sorted(PLAIN_SETTINGS))
def test_such_settings_are_numbers_times_or_one_word(key: str) -> None:
    """Each value is checked, or goes through the filter of templates for one word of a directive."""
    table, name = key.split(".")
    kind = keys_of(table)[name].kind
    assert kind.removesuffix(" | None") in ("int", "float", "bool", "str")
    if kind == "str":
        with pytest.raises(ConfigError):
            load_site("generic-slurm", sets=[f"{key}=a\nb"])


def test_the_variable_trusts_a_folder(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(project / "site_configs/hill.toml", SITE)
    monkeypatch.setenv("LFADSRM_TRUSTED", f"{tmp_path / 'other'}:{project}")
    assert sites.load_site("hill", project=project).site.environment.setup
    monkeypatch.setenv("LFADSRM_TRUSTED", f"{tmp_path / 'other'}:{str(project)[:-1]}:project:.:")
    monkeypatch.chdir(project.parent)
    with pytest.raises(UntrustedError):
        sites.load_site("hill", project=project)


def test_listing_revoking_and_json(project: Path, call) -> None:  # type: ignore[no-untyped-def]
    put(project / "site_configs/hill.toml", SITE)
    put(project / "templates/slurm.sh.j2", "x")
    listed = call("site", "trust", project, "--list")
    assert listed.out.count("not trusted: ") == 2
    assert call("site", "trust", project, "--list").out == listed.out
    given = json.loads(call("site", "trust", project, "--json").out)
    assert given["schema_version"] == 1
    assert [piece["trusted"] for piece in given["pieces"]] == [True, True]
    assert call("site", "trust", project, "--revoke").out.count("not trusted: ") == 2
    with pytest.raises(UntrustedError):
        sites.load_site("hill", project=project)
    empty = project / "datasets"
    assert call("site", "trust", empty).code in (0, 4)
    assert call("site", "trust", project / "nowhere").code == 2


def test_records_are_the_users_alone(project: Path, settings: Path) -> None:
    before = os.umask(0)
    try:
        assert remember("key", b"content", "a template")
        assert not remember("key", b"content", "a template")
    finally:
        os.umask(before)
    (record,) = (settings / "trusted").iterdir()
    assert record.stat().st_mode & 0o777 == 0o600
    assert record.parent.stat().st_mode & 0o777 == 0o700
    assert is_trusted("key", b"content")
    assert not is_trusted("key", b"contents")
    assert not is_trusted("keyc", b"ontent")
    assert forget("key", b"content")
    assert not is_trusted("key", b"content")


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 3), ("\n", 3)])
def test_a_terminal_is_asked_once(project: Path, answer: str, code: int) -> None:
    put(project / "site_configs/hill.toml", SITE)
    command = [sys.executable, "-m", "lfadsrm_hpc", "site", "show", "hill", "--project", str(project)]
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE, stderr=slave, text=True)
    os.close(slave)
    os.write(master, answer.encode())
    out, _ = process.communicate(timeout=60)
    os.close(master)
    assert process.returncode == code
    assert ("touch /tmp/owned" in out) is (code == 0)
    again = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert again.returncode == code
    if code:
        assert "lfadsrm site trust" in again.stderr  # refused, and nothing hangs


def planned(root: Path) -> CollectionLayout:
    layout = CollectionLayout(root)
    submission = layout.submission(new_ulid())
    plan = Plan(submission.ulid, "slurm", "generic-slurm", collection=str(root))
    write_plan(submission, plan, [], {"script-0.sh": "#!/bin/bash\n", "queues/0-0.sh": "#!/bin/bash\n"})
    return layout


def test_a_submission_of_ones_own_is_gone_on_with_wherever_it_lies(tmp_path: Path) -> None:
    (submission,) = planned(tmp_path / "runs").submissions()
    require_trust(submission)
    (tmp_path / "runs").rename(tmp_path / "moved")
    (moved,) = CollectionLayout(tmp_path / "moved").submissions()
    require_trust(moved)


@pytest.mark.parametrize("name", ["script-0.sh", "queues/0-0.sh", "plan.json", "tasks.tsv", "script-1.sh"])
def test_a_submission_that_somebody_has_changed_is_refused(tmp_path: Path, name: str) -> None:
    (submission,) = planned(tmp_path / "runs").submissions()
    with (submission.path / name).open("a") as stream:
        stream.write("\n")
    with pytest.raises(UntrustedError, match="somebody else"):
        require_trust(submission)


def test_a_submission_of_somebody_else_can_be_trusted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call,  # type: ignore[no-untyped-def]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "somebody"))
    layout = planned(tmp_path / "runs")
    put(layout.collection_json, "{}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "me"))
    (submission,) = layout.submissions()
    with pytest.raises(UntrustedError):
        require_trust(submission)
    assert call("site", "trust", tmp_path / "runs").code == 0
    require_trust(submission)


def test_the_hash_of_commands_does_not_hang_on_their_order(project: Path) -> None:
    file = project / "experiment.toml"
    plain = file.read_text()
    file.write_text(plain + '[queue]\nenvironment = ["a"]\ntask_command = ["b"]\n')
    one = read_experiment(file).commands
    file.write_text(plain + '[queue]\ntask_command = ["b"]\nenvironment = ["a"]\nslots = 3\n')
    assert read_experiment(file).commands == one
