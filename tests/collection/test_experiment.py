"""experiment.toml: what it can say, and what it says about slips."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.collection.collection import RunCollection
from lfadsrm_hpc.collection.experiment import Experiment
from lfadsrm_hpc.collection.experiment_file import EXPERIMENT_FILE, read_experiment
from lfadsrm_hpc.collection.experiment_template import template
from lfadsrm_hpc.errors import ConfigError, DataError, LfadsrmError, NotFoundError

SMALL = """
[collection]
name = "mine"
[params]
spike_bin_ms = 10
batch_size = 4
co_dim = 0
"""


def write_sessions(folder: Path, **trials: int) -> None:
    """Write one .npz a session, with so many trials, 12 bins of 10 ms and 3 neurons."""
    folder.mkdir(exist_ok=True)
    for number, (name, n) in enumerate(trials.items()):
        rng = np.random.default_rng(number)
        np.savez(folder / f"{name}.npz", spikes=rng.poisson(0.5, (n, 12, 3)), bin_ms=10.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sessions(tmp_path / "datasets", day1=20, day2=25, day10=30)
    return tmp_path


def read(folder: Path, text: str) -> Experiment:
    (folder / EXPERIMENT_FILE).write_text(text)
    return read_experiment(folder)


def build(folder: Path, text: str) -> RunCollection:
    return read(folder, text).build(RunCollection)


def error(folder: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        build(folder, text)
    assert "experiment.toml" in str(caught.value), "the message does not name the file"
    return caught.value


class TestWhatItSays:
    def test_an_empty_file_means_each_session_alone_with_default_params(self, folder: Path) -> None:
        collection = build(folder, "")
        assert collection.path == folder / "runs" / folder.name
        assert [spec.name for spec in collection.run_specs] == ["single_day1", "single_day10", "single_day2"]
        assert [params.differences() for params in collection.params] == [{}]

    def test_everything(self, folder: Path) -> None:
        collection = build(
            folder,
            """
            [collection]
            name = "both days"
            root = "elsewhere/deep"
            comment = "what this is about"
            [datasets]
            files = ["day2.npz", "day1"]
            [params]
            c_gen_dim = 32
            keep_prob = 1
            [sweep]
            factors_dim = [4, 8]
            co_dim = [0, 2]
            [run_specs]
            singles = false
            stitched = "all"
            specs = [{ name = "first", datasets = ["day1"] }, { name = "two", datasets = ["day1", "day2"] }]
            """,
        )
        assert collection.path == folder / "elsewhere/deep/both days"
        assert collection.comment == "what this is about"
        assert {s.name: s.dataset_names for s in collection.run_specs} == {
            "all": ("day2", "day1"),
            "first": ("day1",),
            "two": ("day1", "day2"),
        }
        swept = [(p.factors_dim, p.co_dim, p.gen_dim, p.keep_prob) for p in collection.params]
        assert swept == [(4, 0, 32, 1.0), (4, 2, 32, 1.0), (8, 0, 32, 1.0), (8, 2, 32, 1.0)]

    def test_paths_start_at_the_file_wherever_one_stands(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "data").mkdir()
        write_sessions(folder / "data" / "deep", one=20)
        (folder / EXPERIMENT_FILE).write_text('[datasets]\npath = "data/deep"\n[collection]\nroot = "../out"')
        monkeypatch.chdir(folder.parent)
        experiment = read_experiment(Path(folder.name))
        assert experiment.dataset_collection().names == ["one"]
        assert experiment.collection_path.is_absolute()
        assert os.path.normpath(experiment.collection_path) == str(folder.parent / "out" / folder.name)

    def test_absolute_paths_and_home(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(folder))
        experiment = read(folder, f'[collection]\nroot = "{folder}/r"\n[datasets]\npath = "~/datasets"')
        assert experiment.root == folder / "r"
        assert experiment.dataset_collection().names == ["day1", "day10", "day2"]

    @pytest.mark.parametrize(
        ("files", "names"),
        [
            (["*"], ["day1", "day10", "day2"]),
            (["day2*", "*"], ["day2", "day1", "day10"]),
            (["day10.npz"], ["day10"]),
            (["day1"], ["day1"]),
            (["**/*.npz"], ["day1", "day10", "day2"]),
            (["day?.npz"], ["day1", "day2"]),
        ],
    )
    def test_files_by_name_or_pattern(self, folder: Path, files: list[str], names: list[str]) -> None:
        assert read(folder, f"[datasets]\nfiles = {files}").dataset_collection().names == names

    def test_one_pattern_needs_no_list(self, folder: Path) -> None:
        assert read(folder, '[datasets]\nfiles = "day1*"').dataset_collection().names == ["day1", "day10"]

    def test_a_name_that_looks_like_a_pattern(self, folder: Path) -> None:
        write_sessions(folder / "datasets", **{"d[1]": 20})
        assert read(folder, '[datasets]\nfiles = ["d[1].npz"]').dataset_collection().names == ["d[1]"]

    def test_what_cannot_be_read_and_what_is_hidden_is_passed_over(self, folder: Path) -> None:
        for name in ("notes.txt", ".day9.npz", "README"):
            (folder / "datasets" / name).write_text("x")
        (folder / "datasets" / "folder.npz").mkdir()
        assert read(folder, "").dataset_collection().names == ["day1", "day10", "day2"]

    def test_min_trials(self, folder: Path) -> None:
        text = (
            SMALL + 'use_alignment_matrix = false\n[datasets]\nmin_trials = 25\n[run_specs]\nstitched = "all"'
        )
        experiment = read(folder, text)
        collection = experiment.build(RunCollection)
        assert collection.run_specs[-1].dataset_names == ("day10", "day2")
        assert len(experiment.dataset_files()) == 3
        report = collection.prepare_for_lfads(warn=False)
        assert sorted(report.written) == sorted(run.id for run in collection.runs)
        assert all(path.is_file() for run in collection.runs for path in run.input_files().values())

    def test_stitched_needs_two_sessions_else_it_is_left_out(self, folder: Path) -> None:
        collection = build(folder, '[datasets]\nfiles = ["day1"]\n[run_specs]\nstitched = "all"')
        assert [spec.name for spec in collection.run_specs] == ["single_day1"]

    def test_a_byte_order_mark_and_names_beyond_ascii(self, folder: Path) -> None:
        (folder / EXPERIMENT_FILE).write_bytes('\ufeff[collection]\nname = "größe 1"'.encode())
        assert read_experiment(folder / EXPERIMENT_FILE).name == "größe 1"

    def test_the_queue_is_handed_on(self, folder: Path) -> None:
        assert read(folder, "[queue]\nslots = 3").queue == {"slots": 3}


class TestSlips:
    @pytest.mark.parametrize(
        ("text", "what", "place", "hint"),
        [
            ("[param]\nco_dim = 0", "unknown table 'param'", "experiment.toml", "did you mean 'params'?"),
            ("[dataset]", "unknown table 'dataset'", "experiment.toml", "did you mean 'datasets'?"),
            ("[datasets]\nmin_trial = 1", "unknown key 'min_trial'", "[datasets]", "'min_trials'"),
            ("[collection]\nxyz = 1", "unknown key 'xyz'", "[collection]", "known here: name, root, comment"),
            ("params = 3", "params must be a table", "experiment.toml", "[params]"),
            ("[collection]\nname = 3", "name = 3 must be a text", "[collection]", ""),
            ('[collection]\nname = "a/b"', "'a/b' contains '/'", "[collection] name", ""),
            ('[collection]\nname = ""', "cannot be the name", "[collection] name", ""),
            ("[datasets]\nmin_trials = true", "min_trials = True must be a whole", "[datasets]", ""),
            ("[datasets]\nmin_trials = -1", "must be at least 0", "[datasets]", ""),
            ("[datasets]\nfiles = [1]", "files must be a list of texts", "[datasets]", '["*"]'),
            ("[datasets]\nfiles = []", "files must be a list of texts", "[datasets]", '["*"]'),
            ('[datasets]\nfiles = ["dya1.npz"]', "matches 'dya1.npz'", "[datasets] files", "'day1.npz'"),
            ('[datasets]\nfiles = ["/abs/*"]', "neither a name nor a pattern", "[datasets] files", ""),
            ('[datasets]\npath = "nowhere"', "there is no folder", "[datasets] path", "one file a recording"),
            ('[datasets]\npath = "~nobody_at_all/x"', "path:", "[datasets]", ""),
            ("[datasets]\nmin_trials = 99", "no session has 99 trials; the largest has 30", "min_trials", ""),
            ("[params]\nfactor_dim = 3", "no hyperparameter 'factor_dim'", "[params]", "'factors_dim'"),
            ("[params]\ncls = 3", "no hyperparameter 'cls'", "[params]", ""),
            ('[params]\nco_dim = "two"', "co_dim = 'two': must be a whole number", "[params]", ""),
            ("[params]\nco_dim = 1979-05-27", "must be a whole number", "[params]", ""),
            ("[params.co_dim]\nx = 1", "must be a whole number", "[params]", ""),
            ("[params]\nc_co_dim = 1\nco_dim = 2", "co_dim is given twice", "[params]", ""),
            ("[sweep]\nfactors_dim = 4", "factors_dim must be a list", "[sweep]", "factors_dim = [1, 2]"),
            ("[sweep]\nfactors_dim = []", "factors_dim must be a list", "[sweep]", ""),
            ("[sweep]\nfactors_dim = [4, -1]", "factors_dim = -1", "[sweep]", ""),
            ("[sweep]\nuse_xla = ['on', 'off']", "2 combinations give only 1 different", "[sweep]", ""),
            ("[sweep]\nco_dim = [1, 1.0, 2]", "3 combinations give only 2 different", "[sweep]", "twice"),
            ("[sweep]\nbase = [4]", "no hyperparameter 'base'", "[sweep]", ""),
            ("[sweep]\nfactorsdim = [4]", "no hyperparameter", "[sweep]", "'factors_dim'"),
            (
                "[params]\nc_co_dim = 1\n[sweep]\nco_dim = [0]",
                "co_dim has a value in [params] and values here",
                "[sweep]",
                "one of them",
            ),
            ("[run_specs]\nsingles = 1", "singles = 1 must be true or false", "[run_specs]", ""),
            ("[run_specs]\nstitched = true", "must be a text", "[run_specs]", ""),
            ('[run_specs]\nstitched = "a/b"', "contains '/'", "[run_specs] stitched", ""),
            ('[run_specs]\nstitched = "single_day1"', "other datasets", "[run_specs] stitched", "name"),
            ("[run_specs]\nspecs = 3", "specs must be a list of tables", "[run_specs] specs", "two_days"),
            ('[run_specs]\nspecs = [{ name = "x" }]', "specs must be", "[run_specs] specs", "two_days"),
            (
                '[run_specs]\nspecs = [{ name = "x", datasets = ["day3"] }]',
                "there is no dataset 'day3'",
                "[run_specs] specs",
                "did you mean 'day2'?; there are: day1, day10, day2",
            ),
            (
                '[run_specs]\nspecs = [{ name = "x", datasets = ["day1", "day1"] }]',
                "'day1' is named twice",
                "[run_specs] specs",
                "",
            ),
            ("[run_specs]\nsingles = false", "there is nothing to run", "[run_specs]", "singles = true"),
            ("[params]\nco_dim = 0\nco_dim = 1", "not valid TOML", "experiment.toml", ""),
            ("[params", "not valid TOML", "experiment.toml", ""),
        ],
    )
    def test_the_message_names_what_and_where_and_the_right_word(
        self, folder: Path, text: str, what: str, place: str, hint: str
    ) -> None:
        caught = error(folder, text)
        assert what in caught.what
        assert place in str(caught.where)
        assert hint in (caught.hint or "")
        assert caught.exit_code == 3

    def test_files_that_cannot_be_read(self, folder: Path) -> None:
        (folder / "datasets" / "day1.xyz").write_text("x")
        caught = error(folder, '[datasets]\nfiles = ["*.xyz"]')
        assert "matches no file that can be read" in caught.what
        assert ".npz" in (caught.hint or "")

    def test_two_files_of_one_name(self, folder: Path) -> None:
        (folder / "datasets" / "day1.mat").write_text("x")
        caught = error(folder, "")
        assert "there is a dataset 'day1' already" in caught.what
        assert "[datasets] files" in str(caught.where)

    def test_a_damaged_session_is_named(self, folder: Path) -> None:
        (folder / "datasets" / "day2.npz").write_bytes(b"PK damaged")
        with pytest.raises(DataError, match=r"day2\.npz"):
            build(folder, "[datasets]\nmin_trials = 5")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match=r"there is no experiment\.toml here") as caught:
            read_experiment(tmp_path)
        assert "lfadsrm init" in (caught.value.hint or "")
        with pytest.raises(NotFoundError, match=r"there is no folder nowhere here"):
            read_experiment(tmp_path / "nowhere")

    def test_not_utf8(self, folder: Path) -> None:
        (folder / EXPERIMENT_FILE).write_bytes(b'[collection]\nname = "\xff"')
        with pytest.raises(ConfigError, match="not valid TOML"):
            read_experiment(folder)


class TestTemplate:
    def uncommented(self) -> str:
        """Return the template with every suggestion in a comment switched on."""
        return re.sub(r"(?m)^# (?=\w+ = )", "", template("mine"))

    def test_as_it_stands(self, folder: Path) -> None:
        (folder / EXPERIMENT_FILE).write_text(template("mine"))
        collection = read_experiment(folder).build(RunCollection)
        assert collection.path == folder / "runs/mine"
        assert collection.n_runs == 2 * (3 + 1)

    def test_what_it_suggests_is_right_too(self, folder: Path) -> None:
        from lfadsrm_hpc.schedulers.sites.loading import queue_options

        text = self.uncommented()
        assert text.count("# ") < template("mine").count("# ")
        write_sessions(folder / "alignment", day1=8, day2=8, day10=8)
        experiment = read(folder, text.replace("min_trials = 50", "min_trials = 20"))
        assert {"two_days"} < {spec.name for spec in experiment.build(RunCollection).run_specs}
        assert queue_options(experiment.queue).slots == 2

    @pytest.mark.parametrize("name", ["plain", 'with "quotes"', "back\\slash", "größe 😀", "a b"])
    def test_any_name(self, folder: Path, name: str) -> None:
        (folder / EXPERIMENT_FILE).write_text(template(name), encoding="utf-8")
        assert read_experiment(folder).name == name


def test_errors_of_other_rooms_keep_their_own_place(folder: Path) -> None:
    def place(text: str) -> Any:
        with pytest.raises(LfadsrmError) as caught:
            build(folder, text)
        return caught.value.where

    assert "run spec 'x'" in place('[run_specs]\nspecs = [{ name = "x", datasets = [] }]')
