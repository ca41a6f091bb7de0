"""What can stand in the script of a job, what is refused, and templates of a site or a user."""

from __future__ import annotations

import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest

from lfadsrm_hpc.errors import ConfigError, LfadsrmError, TemplateError, UsageError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest.submissions import Plan, PlannedChunk, PlannedTask
from lfadsrm_hpc.rendering import directive_line, directive_word, pbs_path, slurm_path
from lfadsrm_hpc.schedulers.resources import JobRequest
from lfadsrm_hpc.schedulers.scripts import render_chunk, warning_s
from lfadsrm_hpc.schedulers.sites.loading import load_site

ULID = "01J9ZK3V5Q8N7M2C4B6A1D0E9F"


def script(
    *sets: str,
    site: str = "generic-slurm",
    collection: str = "/data/runs",
    title: str = "a run",
    search: tuple[Path, ...] = (),
    partition: str = "",
    walltime_s: int = 3600,
    cluster: str = "",
) -> str:
    described = load_site(site, sets=sets).site
    layout = CollectionLayout(Path(collection))
    found = render_chunk(
        layout,
        layout.submission(ULID),
        Plan(ULID, described.scheduler, described.name, cluster=cluster),
        PlannedChunk(0, "lfTESTTESTTE0", 2),
        [PlannedTask(0, n, f"param_x/{n}", 1) for n in range(2)],
        described,
        JobRequest(walltime_s, partition=partition),
        titles={"param_x/0": title},
        gpu_memory_mb={},
        search=search,
    )
    return found["script-0.sh"]


# -- lines that a scheduler reads


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/a/b", "/a/b/%j"),
        ("/a b", '"/a b/%j"'),
        ('/a "q"', '"/a \\"q\\"/%j"'),
        ("/a%j 100%", '"/a%%j 100%%/%j"'),
        ("/50%", "/50%%/%j"),
        ("/a#b", '"/a#b/%j"'),
        ("/it's $(x)", '"/it\'s $(x)/%j"'),
        ("/ü", '"/ü/%j"'),
    ],
)
def test_paths_in_sbatch_lines(path: str, line: str) -> None:
    assert slurm_path(path, "/%j") == line


@pytest.mark.parametrize("path", ["/a\\b", "/a\nb", "/a\tb", "/a\x00b"])
def test_paths_that_no_sbatch_line_takes(path: str) -> None:
    with pytest.raises(TemplateError, match="#SBATCH"):
        slurm_path(path)


@pytest.mark.parametrize("path", ["/a b", "/a:b", "/a'b", '/a"', "/a\\b", "/$x", "/^array_index^", "/ü", "a"])
def test_paths_that_no_pbs_line_takes(path: str) -> None:
    assert pbs_path("/data/lab-1/a.b_c=d,e") == "/data/lab-1/a.b_c=d,e"
    with pytest.raises(TemplateError, match="#PBS"):
        pbs_path(path)


@pytest.mark.parametrize("word", ["", "a b", "a\nb", "it's", "$HOME", "a#b", "a;b", "a\\b", '"a"'])
def test_words_that_some_scheduler_reads_otherwise(word: str) -> None:
    assert directive_word("lab-01_x.y:a100") == "lab-01_x.y:a100"
    with pytest.raises(TemplateError):
        directive_word(word)


@pytest.mark.parametrize("line", ["", "exclude=a", "-a\nrm x", "-a\x1b"])
def test_lines_that_are_no_option(line: str) -> None:
    assert directive_line(' --constraint="a100|a40" ') == '--constraint="a100|a40"'
    with pytest.raises(TemplateError):
        directive_line(line)


@pytest.mark.parametrize(
    ("site", "setting"),
    [
        ("generic-slurm", "options.account=my lab"),
        ("generic-slurm", "options.qos=a;b"),
        ("generic-slurm", "notify.mail=me@example.org$(x)"),
        ("generic-slurm", "site.cluster=a b"),
        ("generic-pbspro", "options.account=my lab"),
        ("generic-pbspro", "options.filesystems=home:it's"),
        ("generic-pbspro", "notify.mail=me@example.org$(x)"),
        ("generic-torque", "options.account=my lab"),
        ("generic-torque", "options.qos=a;b"),
    ],
)
def test_options_that_cannot_be_written(site: str, setting: str) -> None:
    with pytest.raises(TemplateError, match="cannot stand"):
        script(setting, site=site)


def test_partition_that_cannot_be_written() -> None:
    with pytest.raises(TemplateError, match="cannot stand"):
        script(partition="a b")


@pytest.mark.parametrize("collection", ["/my lab/runs", "/data/lab:1/runs"])
def test_collection_where_pbs_cannot_write_names_the_way_out(collection: str) -> None:
    assert "my lab" not in script(site="generic-pbspro")
    with pytest.raises(TemplateError, match="link"):
        script(site="generic-pbspro", collection=collection)


# -- texts that bash reads


@pytest.mark.parametrize("name", ["it's", "$(rm -rf x)", "a b `c`", '"', "*"])
def test_names_reach_bash_as_they_are(name: str) -> None:
    text = script(collection=f"/data/{name}")
    [line] = [line for line in text.splitlines() if line.startswith("lf_collection=")]
    answer = subprocess.run(
        ["bash", "-c", f'{line}\nprintf %s "$lf_collection"'], capture_output=True, text=True, timeout=90
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, f"/data/{name}", "")


def test_line_breaks_are_refused() -> None:
    with pytest.raises(TemplateError):
        script(collection="/data/a\nrm -rf x")
    text = script(title="a\nrm -rf x\r; \x1b[1m")
    assert "the first is a rm -rf x ; [1m" in " ".join(text.splitlines()[2].split())
    assert not [line for line in text.splitlines() if line.startswith("rm")]


# -- what makes no script


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("environment.shell=/bin/csh", "needs bash"),
        ('environment.setup=["if true"]', "bash cannot read"),
        ("environment.activation=source 'x", "bash cannot read"),
    ],
)
def test_sites_that_make_no_script(setting: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        script(setting)


def test_shells() -> None:
    assert script("environment.shell=/bin/bash -l").startswith("#!/bin/bash -l\n")
    assert "#PBS -S /opt/bash\n" in script("environment.shell=/opt/bash -l", site="generic-pbspro")
    assert "#PBS -S /bin/bash\n" in script("environment.shell=/usr/bin/env bash", site="generic-pbspro")


def test_cluster_is_named_and_never_local() -> None:
    assert "lf_cluster=generic-slurm\n" in script()
    assert "lf_cluster=big\n" in script(cluster="big")
    with pytest.raises(ConfigError, match="name of a cluster"):
        script(cluster="local")
    with pytest.raises(ConfigError, match="no batch scheduler"):
        script(site="local")


def test_tasks_of_another_chunk() -> None:
    described = load_site("generic-slurm").site
    layout = CollectionLayout(Path("/data"))
    with pytest.raises(UsageError, match="chunk 1"):
        render_chunk(
            layout,
            layout.submission(ULID),
            Plan(ULID, "slurm", "x"),
            PlannedChunk(1, "lf", 0),
            [PlannedTask(0, 0, "param_x/a", 1)],
            described,
            JobRequest(60),
            titles={},
            gpu_memory_mb={},
        )


@pytest.mark.parametrize(
    ("walltime_s", "warning", "expected"),
    [(14400, "5m", 300), (14400, "2h", 7200), (14400, "3h", 7200), (60, "5m", 30), (1, "5m", 1)],
)
def test_warning_leaves_half_of_the_time(walltime_s: int, warning: str, expected: int) -> None:
    site = load_site("generic-slurm", sets=[f"stopping.warning={warning}"]).site
    assert warning_s(site, JobRequest(walltime_s)) == expected


# -- templates of a site or a user


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder


ADDS = '{% extends "packaged/slurm.sh.j2" %}\n{% block before_task %}\necho WORD\n{% endblock %}\n'


def test_first_folder_wins_and_the_site_before_its_scheduler(tmp_path: Path) -> None:
    project = write(tmp_path / "project", "slurm.sh.j2", ADDS.replace("WORD", "project"))
    user = write(tmp_path / "user", "site/generic-slurm.sh.j2", ADDS.replace("WORD", "user, site"))
    plain = script()
    assert script(search=(tmp_path / "empty",)) == plain
    found = script(search=(project, user))
    assert set(found.splitlines()) - set(plain.splitlines()) == {"echo project"}
    write(project, "site/generic-slurm.sh.j2", ADDS.replace("WORD", "project, site"))
    assert "echo project, site\n" in script(search=(project, user))
    assert "echo user, site\n" in script(search=(user,))
    write(project, "site/other.sh.j2", "no")
    assert "echo project, site\n" in script(search=(project, user))


def test_base_can_be_changed_for_all_schedulers(tmp_path: Path) -> None:
    text = ADDS.replace("slurm", "job").replace("WORD", '{{ "it\'s" | q }}')
    search = (write(tmp_path, "job.sh.j2", text),)
    for site in ("generic-slurm", "generic-pbspro", "generic-torque"):
        assert "\necho 'it'\"'\"'s'\n" in script(site=site, search=search)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ nonsense }}", "nonsense"),
        ("{% if %}", "line 1"),
        ('{% extends "no.sh.j2" %}', "no.sh.j2"),
        ('{% extends "slurm.sh.j2" %}', 'extends "packaged/slurm.sh.j2"'),
        ("if then", "bash cannot read"),
        ("{% set x = 1 %}\n{{ x / 0 }}", "slurm.sh.j2: ZeroDivisionError"),
        ("{{ chunk.size + partition }}", "slurm.sh.j2: TypeError"),
    ],
)
def test_templates_that_are_wrong(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(LfadsrmError, match=says) as caught:
        script(search=(write(tmp_path, "slurm.sh.j2", text),))
    assert caught.value.exit_code == 3


def test_templates_that_are_wrong_are_named_with_their_line(tmp_path: Path) -> None:
    text = '{% extends "packaged/slurm.sh.j2" %}\n{% block setup %}\n{{ 1 / 0 }}\n{% endblock %}\n'
    with pytest.raises(TemplateError) as caught:
        script(search=(tmp_path / "empty", write(tmp_path, "slurm.sh.j2", text)))
    assert caught.value.where == f"{tmp_path / 'slurm.sh.j2'}, line 3"
    (tmp_path / "slurm.sh.j2").write_bytes(b"# \xff\n")
    with pytest.raises(TemplateError, match="not UTF-8") as caught:
        script(search=(tmp_path,))
    assert str(caught.value.where) == str(tmp_path / "slurm.sh.j2")


def test_a_slip_of_our_own_is_not_blamed_on_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "ours", "slurm.sh.j2", "{{ 1 / 0 }}")
    monkeypatch.setattr("lfadsrm_hpc.rendering.packaged_folder", lambda _: nullcontext(tmp_path / "ours"))
    with pytest.raises(ZeroDivisionError):
        script(search=(tmp_path / "user",))
