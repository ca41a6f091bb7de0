"""Slips in an experiment.toml or a site file are told with their line, here marked `# here`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lfadsrm_hpc.collection.collection import RunCollection
from lfadsrm_hpc.collection.experiment_file import read_experiment
from lfadsrm_hpc.errors import ConfigError
from lfadsrm_hpc.toml_lines import line_of

RIGHT = """
[collection]
name = "mine"
root = "runs"

[datasets]
path = "datasets"

[params]
spike_bin_ms = 10
batch_size = 4
co_dim = 0

[run_specs]
singles = true
"""

# What is put in place of a line of the above ("": at the end), the text, and the word that helps.
SLIPS = [
    # unknown tables and keys
    ("", "[param]  # here\nco_dim = 0", "'params'"),
    ("", "[sweeps]  # here\nco_dim = [0, 1]", "'sweep'"),
    ("", 'colection = "x"  # here', ""),
    ('root = "runs"', 'rot = "runs"  # here', "'root'"),
    ('path = "datasets"', 'paht = "datasets"  # here', "'path'"),
    ('path = "datasets"', "min_trial = 3  # here", "'min_trials'"),
    ("batch_size = 4", "batchsize = 4  # here", "'batch_size'"),
    ("co_dim = 0", "co_dims = 0  # here", "'co_dim'"),
    ("co_dim = 0", '"co_dims" = 0  # here', "'co_dim'"),
    ("singles = true", "single = true  # here", "'singles'"),
    ("", '[cluster]\naccount = "x"\nwaltime = "1:00:00"  # here', "'walltime'"),
    ("", "[sweep]\nseed = [1, 2]\ngen_dims = [4, 8]  # here", "'gen_dim'"),
    # wrong types
    ('name = "mine"', "name = 3  # here", ""),
    ('root = "runs"', "root = ['runs']  # here", ""),
    ('path = "datasets"', "path = 3  # here", ""),
    ('path = "datasets"', "min_trials = 1.5  # here", ""),
    ('path = "datasets"', "files = 3  # here", "files ="),
    ('path = "datasets"', "options = 3  # here", ""),
    ("co_dim = 0", 'co_dim = "none"  # here', ""),
    ("batch_size = 4", "batch_size = 4.5  # here", ""),
    ("batch_size = 4", "batch_size = true  # here", ""),
    ("batch_size = 4", "batch_size = [4, 8]  # here", ""),
    ("singles = true", 'singles = "yes"  # here', ""),
    ("singles = true", "stitched = true  # here", ""),
    ("", "[cluster]\ngpus = 1.5  # here", ""),
    ("", '[cluster]\nset = [1]  # here\nsite = "x"', ""),
    # bad values
    ('name = "mine"', 'name = "a/b"  # here', ""),
    ('name = "mine"', 'name = ".hidden"  # here', ""),
    ("batch_size = 4", "batch_size = 0  # here", ""),
    ("spike_bin_ms = 10", "spike_bin_ms = -10  # here", ""),
    ("co_dim = 0", "co_dim = -1  # here", ""),
    ('path = "datasets"', "min_trials = -1  # here", ""),
    ('path = "datasets"', "min_trials = 99  # here", "min_trials"),
    ('path = "datasets"', 'path = "nowhere"  # here', ""),
    ('path = "datasets"', 'files = ["dya1.npz"]  # here', "'day1.npz'"),
    ('path = "datasets"', 'files = [\n  "day1.npz",\n  "dya2.npz",  # here\n]', "'day2.npz'"),
    ('path = "datasets"', 'alignment = "nowhere"  # here', ""),
    ("", "[cluster]\ncpus = -1  # here", ""),
    # datasets and run specs
    ("singles = true", 'specs = [{ name = "x", datasets = ["day3"] }]  # here', "'day2'"),
    (
        "singles = true",
        'specs = [\n  { name = "x", datasets = ["day1"] },\n'
        '  { name = "y", datasets = ["day3"] },  # here\n]',
        "'day2'",
    ),
    ("singles = true", 'specs = [{ name = "x" }]  # here', "specs = ["),
    ("singles = true", 'specs = [{ name = "x", datasets = ["day1", "day1"] }]  # here', ""),
    (
        "singles = true",
        'specs = [\n  { name = "x", datasets = ["day1"] },\n'
        '  { name = "x", datasets = ["day2"] },  # here\n]',
        "",
    ),
    ("singles = true", 'stitched = "single_day1"  # here', ""),
    ("[run_specs]\nsingles = true", "[run_specs]  # here\nsingles = false", "singles = true"),
    ("", '[[datasets.sessions]]\nname = "s1"\nfile = "dya1"  # here', ""),
    (
        "",
        '[[datasets.sessions]]\nname = "s1"\nfile = "day1"\n[[datasets.sessions]]\nname = "s1"  # here\n'
        'file = "day2"',
        "",
    ),
    ("", '[[datasets.sessions]]\nname = "s1"\nfile = "day1"\nfiel = "day1"  # here', "'file'"),
    (
        "",
        '[[datasets.sessions]]\nname = "s1"\nfile = "dya1"  # here\n[[datasets.sessions]]\nname = "s2"\n'
        'file = "day2"',
        "",
    ),
    (
        "",
        '[[datasets.sessions]]  # here\nname = "s1"\nfile = "day1"\noptions = { bin_mss = 5 }\n'
        '[[datasets.sessions]]\nname = "s2"\nfile = "day2"',
        "'bin_ms'",
    ),
    # options of readers
    ('path = "datasets"', "files = ['*']\noptions = { bin_mss = 5 }  # here\nmin_trials = 1", "'bin_ms'"),
    ("[params]", "[datasets.options]\nbin_mss = 5  # here\nbin_ms = 5\n[params]", "'bin_ms'"),
    ('path = "datasets"', "files = ['*']\nalignment_options = { bin_mss = 5 }  # here", "'bin_ms'"),
    # sweeps
    ("", "[sweep]\nfactors_dim = 4  # here", "factors_dim = [1, 2]"),
    ("", "[sweep]\nseed = [1, 2]\nfactors_dim = []  # here", ""),
    ("", "[sweep]\nseed = [1, 2]\nfactors_dim = [4, -1]  # here", ""),
    ("", '[sweep]\nfactors_dim = [4, "eight"]  # here', ""),
    ("", "[sweep]\nco_dim = [0, 1]  # here", "one of them"),
    ("", "[sweep]  # here\nseed = [1, 1]", "twice"),
    # no TOML
    ("batch_size = 4", "batch_size = four  # here", ""),
    ("batch_size = 4", "batch_size 4  # here", ""),
    ("batch_size = 4", "batch_size = 4\nbatch_size = 8  # here", ""),
    ('name = "mine"', 'name = "mine  # here', ""),
    ("[params]", "[params  # here", ""),
    ("", "[params]  # here", ""),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "datasets").mkdir()
    for number, name in enumerate(("day1", "day2")):
        spikes = np.random.default_rng(number).poisson(0.5, (20, 12, 3))
        np.savez(tmp_path / "datasets" / f"{name}.npz", spikes=spikes, bin_ms=10.0)
    return tmp_path


def test_the_file_without_a_slip_is_right(folder: Path) -> None:
    (folder / "experiment.toml").write_text(RIGHT)
    assert read_experiment(folder).build(RunCollection).n_runs == 2


@pytest.mark.parametrize(("line", "slip", "hint"), SLIPS)
def test_the_line_is_told(folder: Path, line: str, slip: str, hint: str) -> None:
    assert line in RIGHT
    text = RIGHT.replace(line, slip, 1) if line else f"{RIGHT}\n{slip}\n"
    if line == "" and "[" not in slip:
        text = f"{slip}\n{RIGHT}"
    (folder / "experiment.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_experiment(folder).build(RunCollection)
    number = next(n for n, one in enumerate(text.splitlines(), 1) if "# here" in one)
    place = str(caught.value.where)
    assert place.startswith(f"{folder / 'experiment.toml'}, line {number}"), str(caught.value)
    assert place.partition(", line ")[2].partition(",")[0] == str(number), str(caught.value)
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == 3


def test_options_of_the_queue_are_pointed_to_when_it_is_prepared(folder: Path) -> None:
    from click.testing import CliRunner

    from lfadsrm_hpc.cli.prepare import prepare

    (folder / "experiment.toml").write_text(f"{RIGHT}\n[queue]\nslots = 2\nslot = 3\n")
    error = CliRunner().invoke(prepare, [str(folder)]).exception
    assert isinstance(error, ConfigError)
    assert f"line {len(RIGHT.splitlines()) + 4}" in str(error.where)


CLUSTER_SLIPS = [
    ('walltime = "abc"', "'abc' is not a time"),
    ('walltime = "4:00"', "4:00:00"),
    ('memory = "16"', "16G"),
    ('set = "limits.jobs"', "KEY=VALUE"),
    ('set = ["limits.jobs=3", "limits.job=3"]', "'jobs'"),
    ('set = ["limits.jobs=many"]', "limits.jobs"),
]


@pytest.mark.parametrize(("slip", "words"), CLUSTER_SLIPS)
@pytest.mark.parametrize("command", ["prepare", "plan", "submit", "retry", "why"])
def test_what_no_cluster_could_read_is_pointed_to(
    prepared: Path, command: str, slip: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from lfadsrm_hpc.cli.main import lfadsrm

    monkeypatch.setenv("LFADSRM_TRUSTED", "/")
    file = prepared / "experiment.toml"
    file.write_text(f'{RIGHT}\n[cluster]\nsite = "generic-slurm"\n{slip}\n')
    place = ["single_day1", "-C", str(prepared)] if command == "why" else [str(prepared)]
    error = CliRunner().invoke(lfadsrm, [command, *place]).exception
    assert isinstance(error, ConfigError), error
    line, key = len(RIGHT.splitlines()) + 4, slip.partition(" ")[0]
    assert str(error.where).startswith(f"{file}, line {line}, [cluster] {key}")
    assert words in str(error)


@pytest.fixture
def prepared(folder: Path) -> Path:
    (folder / "experiment.toml").write_text(RIGHT)
    read_experiment(folder).build(RunCollection).prepare_for_lfads(warn=False)
    return folder


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[site]\nname = "hill"\nscheduler = "slrm"', 3),
        ("[sites]\n", 1),
        ('[site]\n\nschedular = "slurm"', 3),
        ("[limits]\njobs = 3\narray_task = 4", 3),
        ('[limits]\narray_tasks = "many"', 2),
        ('[partitions.gpu]\nmax_walltime = "1:00:00"\n[partitions.cpu]\nmax_waltime = "1:00:00"', 4),
        ('[partitions.gpu]\nmax_walltime = "soon"', 2),
        ("[partitions]\ngpu = 3", 2),
        ('extends = 3\n[site]\nscheduler = "slurm"', 1),
        ("[client]\ntimeout_s = -1", 2),
        ("[queue]\nslots = 1\nslot = 3", 3),
        ("[limits]\njobs = 1\njobs = 2", 3),
        ('schema = 99\n[site]\nscheduler = "slurm"', 1),
    ],
)
def test_slips_in_a_site_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: int
) -> None:
    from lfadsrm_hpc.schedulers.sites.loading import load_site

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    path = tmp_path / "site_configs" / "hill.toml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_site("hill", project=tmp_path)
    assert str(caught.value.where).startswith(f"{path}, line {line}"), str(caught.value)


def test_a_key_of_the_same_name_in_another_table_is_not_meant() -> None:
    text = '[a]\nname = 1\n["b c"]\nname = 2\n[b.d]\nname = 3\nx.y = 4'
    assert line_of(text, "bad", ", [a] name") == 2
    assert line_of(text, "bad", ", ['b c'] name") == 4
    assert line_of(text, "name is bad", ", [b.d]") == 6
    assert line_of(text, "bad", ", [b.d] x.y") == 7
    assert line_of(text, "bad", ", [e] name") is None
    assert line_of("", "bad", "") is None
