"""Sites in several places: which file wins, where a key comes from, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lfadsrm_hpc.errors import ConfigError
from lfadsrm_hpc.schedulers.sites.loading import (
    LoadedSite,
    list_sites,
    load_site,
    project_of,
    queue_options,
    site_from_settings,
    to_settings,
)

Write = Callable[..., Path]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Return the folders of the layers above the packaged one; two of the system."""
    found = {
        "first": tmp_path / "first",
        "second": tmp_path / "second",
        "user": tmp_path / "config/lfadsrm/site_configs",
        "project": tmp_path / "project/site_configs",
    }
    for folder in found.values():
        folder.mkdir(parents=True)
    monkeypatch.setenv("LFADSRM_SITE_PATH", f"{found['first']}:{found['second']}:{tmp_path / 'missing'}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("LFADSRM_SITE", raising=False)
    return found


@pytest.fixture
def write(places: dict[str, Path]) -> Write:
    def written(layer: str, name: str, text: str) -> Path:
        path = places[layer] / f"{name}.toml"
        path.write_text(text)
        return path

    return written


def load(places: dict[str, Path], name: str, *sets: str) -> LoadedSite:
    return load_site(name, project=places["project"].parent, sets=sets)


def test_each_layer_overrides_the_one_before_key_by_key(places: dict[str, Path], write: Write) -> None:
    name = "polaris"
    packaged = load_site(name).origins["partitions.debug.max_walltime"]
    files = [
        write(
            "second",
            name,
            "limits.jobs = 1\n[retry]\nmax_attempts = 1\n[partitions.debug]\ncpus_per_gpu = 1\n",
        ),
        write("first", name, "limits.jobs = 2\n[retry]\nmax_attempts = 2\n[packing]\nruns = 2\n"),
        write("user", name, "limits.jobs = 3\n[packing]\nruns = 3\nslots = 3\n"),
        write(
            "project", name, 'limits.jobs = 4\n[packing]\nslots = 4\n[partitions.mine]\nmax_walltime = "1h"\n'
        ),
    ]
    loaded = load(places, name, "limits.jobs=5")
    site, origin = loaded.site, loaded.origin
    assert (site.limits.jobs, origin("limits.jobs")) == (5, "--set")
    assert (site.packing.slots, origin("packing.slots")) == (4, str(files[3]))
    assert (site.packing.runs, origin("packing.runs")) == (3, str(files[2]))
    assert (site.retry.max_attempts, origin("retry.max_attempts")) == (2, str(files[1]))
    debug = site.partitions["debug"]
    assert (debug.cpus_per_gpu, origin("partitions.debug.cpus_per_gpu")) == (1, str(files[0]))
    assert (debug.max_walltime, origin("partitions.debug.max_walltime")) == ("1:00:00", packaged)
    assert {"mine", "debug", "preemptable"} <= set(site.partitions)
    assert origin("filesystem.latency_s") == "default"
    assert loaded.layer == "project"
    assert list(loaded.files[-4:]) == files
    assert loaded.templates == (
        places["project"].parent / "templates",
        places["user"].parent / "templates",
    )


def test_lists_are_replaced_and_tables_of_texts_merged(places: dict[str, Path], write: Write) -> None:
    write("user", "ours", 'extends="generic-slurm"\n[environment]\nmodules=["a"]\nvariables={A="1", B="1"}\n')
    write("project", "ours", '[environment]\nmodules=["b", "c"]\nvariables={B="2"}\n')
    loaded = load(places, "ours", 'environment.variables.C="3"')
    assert loaded.site.environment.modules == ("b", "c")
    assert loaded.site.environment.variables == {"A": "1", "B": "2", "C": "3"}
    assert loaded.origin("environment.variables.A") == str(places["user"] / "ours.toml")
    assert loaded.origin("environment.variables.C") == "--set"
    files = ", ".join(str(places[layer] / "ours.toml") for layer in ("user", "project"))
    assert loaded.origin("environment.variables") == f"{files}, --set"


def test_a_site_extends_another_but_not_its_name_and_signs(places: dict[str, Path], write: Write) -> None:
    write("user", "ours", 'extends = "polaris"\n[limits]\njobs = 7\n')
    write("project", "polaris", '[stopping]\nwarning = "9m"\n')
    ours, polaris = load(places, "ours").site, load(places, "polaris").site
    assert (ours.name, ours.scheduler, ours.limits.jobs) == ("ours", "pbspro", 7)
    assert ours.site.verified == ours.site.description == ""
    assert ours.recognise.hostnames == ()
    assert ours.partitions == polaris.partitions
    assert ours.stopping.warning == "9m", "what is laid over the extended site holds too"


def test_circles_of_extending_are_refused(places: dict[str, Path], write: Write) -> None:
    write("user", "one", 'extends = "two"\n')
    write("user", "two", 'extends = "three"\n')
    path = write("user", "three", 'extends = "one"\n')
    with pytest.raises(ConfigError, match=r"one -> two -> three -> one") as error:
        load(places, "one")
    assert error.value.where == str(path)
    write("user", "polaris", 'extends = "polaris"\n')
    with pytest.raises(ConfigError, match="without `extends`"):
        load(places, "polaris")


def test_unknown_sites(places: dict[str, Path], write: Write) -> None:
    write("user", "ours", 'extends = "generic-slrum"\n')
    with pytest.raises(ConfigError, match="did you mean 'generic-slurm'"):
        load(places, "ours")
    with pytest.raises(ConfigError, match=r"the sites are: .*perlmutter.*") as error:
        load(places, "perlmuter")
    assert error.value.hint == "did you mean 'perlmutter'?"


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("[limts]\njobs = 1\n", "'limts' is not a table of a site", "did you mean 'limits'?"),
        ("[limits]\njob = 1\n", r"'job' is not a key in \[limits\]", "did you mean 'jobs'?"),
        (
            '[partitions.gpu]\nmax_waltime = "1h"\n',
            r"'max_waltime' is not a key in \[partitions.gpu\]",
            "did you mean 'max_walltime'?",
        ),
        ("[queue]\nslot = 1\n", r"'slot' is not a key in \[queue\]", "did you mean 'slots'?"),
        ("[queue]\nslots = 0\n", "slots must be a whole number of at least 1", None),
        ("limits = 1\n", r"'limits' must be a table, \[limits\]", None),
        ("[partitions]\ngpu = 1\n", r"must be a table, \[partitions.gpu\]", None),
        ('[limits]\njobs = "1"\n', "'1' must be a whole number", None),
        ("[limits]\njobs = true\n", "True must be a whole number", None),
        ("[limits]\njobs = 0\n", "must be at least 1", None),
        ("[client]\ntimeout_s = 0\n", "must be above 0", None),
        ("[client]\ntimeout_s = nan\n", "must be above 0", None),
        ('[stopping]\nwarning = "5"\n', "5m or 5h", None),
        ('[partitions.gpu]\nmemory_per_node = "500"\n', "500M or 500G", None),
        ('[stopping]\nsignal = "KILL"\n', "is none of", None),
        ('[site]\nscheduler = "slrum"\n', "did you mean 'slurm'", None),
        ('[site]\nverified = "yesterday"\n', "YYYY-MM-DD", None),
        ('[site]\nname = "another"\n', "is the site 'another'", "a site is named by its file"),
        ('[options]\nrequired = ["acount"]\n', "did you mean 'account'", None),
        ('[request]\ndirectives = ["#SBATCH --x"]\n', "without #SBATCH or #PBS", None),
        ('[request]\ndirectives = ["exclusive"]\n', "must begin with a dash", None),
        ('[request]\ngpu_directive = "--gpus={n}"\n', "known are {gpus} and {type}", None),
        ('[request]\ngpu_directive = "--gpus=1"\n', "must say {gpus}", None),
        ('[environment]\nsetup = ["a\\nb"]\n', "one line", None),
        ('[environment]\nshell = "bash"\n', "must be a full path", None),
        ('[environment]\nvariables = {"A B" = "1"}\n', "cannot be the name of a variable", None),
        ('[environment]\nkeep = ["PATH"]\n', "LFADSRM_", None),
        ('[environment]\nmodules = "python"\n', "must be a list of texts", None),
        ('[notify]\nmail = "me"\n', "is not a mail address", None),
        ('[recognise]\nhostnames = [""]\n', "would match nothing", None),
        ("schema = 2\n", "written for schema 2", "update lfadsrm_hpc"),
        ('schema = "1"\n', "schema must be a whole number", None),
        ("schema = 0\n", "written for schema 0", "schema = 1"),
        ("[limits\n", "not valid TOML", None),
    ],
)
def test_what_cannot_be_is_refused_with_file_and_hint(
    places: dict[str, Path], write: Write, text: str, what: str, hint: str | None
) -> None:
    path = write("user", "generic-slurm", text)
    with pytest.raises(ConfigError, match=what) as error:
        load(places, "generic-slurm")
    assert str(path) in str(error.value.where)
    if hint is not None:
        assert hint in str(error.value.hint)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('extends="generic-slurm"\n[request]\npartition="gup"\n[partitions.gpu]\n', "did you mean 'gpu'"),
        ("[limits]\njobs = 1\n", "does not say what its scheduler is"),
        ('extends="generic-slurm"\n[options]\nfilesystems="home"\n', "option of PBS"),
        ('extends="generic-pbspro"\n[client]\nhistory="sacct"\n', "pbspro has no sacct"),
        ('extends="generic-slurm"\n[partitions.a]\ngpu_types=["x"]\n', "has GPU types and no GPUs"),
        ('extends="generic-pbspro"\n[request]\ngpu_type="a100"\n', "request.gpu_directive has no {type}"),
        ('extends="vista"\n[request]\ngpu_type="h200"\n', "request.gpu_directive has no {type}"),
        ('extends="perlmutter"\n[request]\nmemory="8G"\n', "jobs at ours ask for no memory"),
    ],
)
def test_keys_that_contradict_each_other(places: dict[str, Path], write: Write, text: str, what: str) -> None:
    write("user", "ours", text)
    with pytest.raises(ConfigError, match=what):
        load(places, "ours")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("options.account=lab", ("options", "account"), "lab"),
        ("options.account=12345", ("options", "account"), "12345"),
        ('options.account="a b"', ("options", "account"), "a b"),
        ("options.account=", ("options", "account"), ""),
        ("limits.jobs = 5", ("limits", "jobs"), 5),
        ("filesystem.latency_s=2", ("filesystem", "latency_s"), 2.0),
        ("stopping.requeue=false", ("stopping", "requeue"), False),
        ("options.required=account", ("options", "required"), ("account",)),
        ('options.required=["account", "qos"]', ("options", "required"), ("account", "qos")),
        ("request.directives=--exclusive", ("request", "directives"), ("--exclusive",)),
        ("stopping.warning=10m", ("stopping", "warning"), "10m"),
    ],
)
def test_set_takes_toml_and_bare_words(text: str, key: tuple[str, str], value: object) -> None:
    site = load_site("generic-slurm", sets=[text]).site
    assert getattr(getattr(site, key[0]), key[1]) == value


def test_set_of_partitions_and_of_the_queue() -> None:
    sets = ['partitions."a.b".max_walltime=2d', "partitions.gpu.gpus_per_node=4", "queue.slots=3"]
    site = load_site("generic-slurm", sets=sets).site
    assert site.partitions["a.b"].max_walltime == "2d"
    assert site.partitions["gpu"].gpus_per_node == 4
    assert site.queue == {"slots": 3}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("options.account", "is not KEY=VALUE"),
        ("account=lab", "is not KEY=VALUE"),
        ("a b.c=1", "is not KEY=VALUE"),
        ("optoins.account=lab", "did you mean 'options'"),
        ("options.acount=lab", "did you mean 'account'"),
        ("limits.jobs=many", "must be a whole number"),
        ("partitions.gpu.max_walltime=60", "60m or 60h"),
        ("site.name=x", "cannot be set"),
    ],
)
def test_wrong_sets_name_themselves(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as error:
        load_site("generic-slurm", sets=[text])
    assert "--set" in str(error.value.where)


def test_an_invalid_file_does_not_hide_the_other_sites(places: dict[str, Path], write: Write) -> None:
    write("user", "broken", "[limits\n")
    found = list_sites()
    assert isinstance(found["broken"], ConfigError)
    assert isinstance(found["polaris"], LoadedSite)


def test_settings_of_a_plan_round_trip(places: dict[str, Path]) -> None:
    for name, loaded in list_sites().items():
        assert isinstance(loaded, LoadedSite)
        assert site_from_settings(to_settings(loaded.site)) == loaded.site, name
    with pytest.raises(ConfigError, match="did you mean 'limits'"):
        site_from_settings({"limts": {}})


def test_the_queue_of_the_user_reaches_local_runs(places: dict[str, Path], write: Write) -> None:
    write("user", "local", "[queue]\nslots = 3\nmax_per_gpu = 1\n")
    options = queue_options({"max_per_gpu": 7})
    assert (options.slots, options.max_per_gpu) == (3, 7)


def test_project_of_a_collection(tmp_path: Path) -> None:
    collection = tmp_path / "lab/experiment/runs/small"
    collection.mkdir(parents=True)
    assert project_of(collection) == collection.parent
    (tmp_path / "lab/site_configs").mkdir()
    assert project_of(collection) == tmp_path / "lab"
    (tmp_path / "lab/experiment/experiment.toml").write_text("")
    assert project_of(collection) == tmp_path / "lab/experiment"
