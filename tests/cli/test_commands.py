"""init, prepare, show, status and logs, on a small collection whose states are made by hand."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.cli.places import is_place
from lfadsrm_hpc.errors import ManifestError
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import CHECKPOINTED, DONE, EXIT_CHECKPOINTED, FAILED, Exit, Identity


def end(collection: Path, spec: str, factors_dim: int, code: int, reason: str, message: str = "") -> str:
    """Let a run end; return its id."""
    run = RunCollection.open(collection).find_run(spec, factors_dim=factors_dim)
    claim = store.take_local(run.layout, Identity.local("", "0"))
    assert not isinstance(claim, store.AlreadyComplete)
    store.heartbeat(run.layout, claim, phase="training", epoch=7, max_epochs=9, train_total=41.25)
    run.layout.attempt(claim.attempt).log.write_text(f"log of attempt {claim.attempt}\nits last line\n")
    store.publish_exit(run.layout, claim, Exit(code, reason, message=message))
    return run.id


class TestInit:
    def test_writes_what_prepare_takes(self, call: Any, tmp_path: Path) -> None:
        said = call("init", tmp_path / "reaching")
        path = tmp_path / "reaching/experiment.toml"
        assert (said.code, said.out) == (0, f"{path}\n")
        assert f"lfadsrm prepare {tmp_path / 'reaching'}" in said.err
        rng = np.random.default_rng(0)
        for day in ("day1", "day2"):
            spikes, condition = rng.poisson(0.5, (90, 20, 5)), np.arange(90) % 4
            np.savez(path.parent / f"datasets/{day}.npz", spikes=spikes, bin_ms=10.0, condition=condition)
        said = call("prepare", tmp_path / "reaching")
        assert (said.code, said.out) == (0, f"{tmp_path}/reaching/runs/reaching\n")
        assert "3 run specs x 2 params" in said.err

    def test_here_under_a_name(self, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert call("init", "--name", 'the "best" one').code == 0
        assert 'name = "the \\"best\\" one"' in (tmp_path / "experiment.toml").read_text()
        assert (tmp_path / "datasets").is_dir()

    def test_never_overwrites(self, call: Any, tmp_path: Path) -> None:
        (tmp_path / "experiment.toml").write_text("mine")
        said = call("init", tmp_path)
        assert said.code == 2
        assert "there is an experiment.toml already" in said.err
        assert (tmp_path / "experiment.toml").read_text() == "mine"

    @pytest.mark.parametrize("name", ["a/b", "", ".hidden"])
    def test_a_name_that_cannot_be(self, call: Any, tmp_path: Path, name: str) -> None:
        assert call("init", tmp_path / "x", "--name", name).code == 2
        assert not (tmp_path / "x").exists()

    def test_a_file_is_no_folder(self, call: Any, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert call("init", tmp_path / "file").code == 2


class TestPrepare:
    def test_again_keeps_everything(self, call: Any, experiment: Path) -> None:
        before = {path: path.stat().st_mtime_ns for path in (experiment / "runs").rglob("*.h5")}
        said = call("prepare", experiment, "--json")
        assert said.code == 0
        assert said.json["schema_version"] == 1
        assert said.json["collection"] == str(experiment / "runs/small")
        assert len(said.json["runs"]) == len(said.json["runs_kept"]) == 6
        assert said.json["runs_written"] == said.json["inputs_written"] == []
        assert len(said.json["inputs_kept"]) == len(before) == 6  # 2 single, 2 x 2 stitched
        assert {path: path.stat().st_mtime_ns for path in before} == before

    def test_more_runs_later(self, call: Any, experiment: Path) -> None:
        text = (experiment / "experiment.toml").read_text()
        (experiment / "experiment.toml").write_text(text.replace("[2, 3]", "[3, 5]"))
        said = call("prepare", experiment / "experiment.toml", "--json")
        assert len(said.json["runs_written"]) == len(said.json["runs_kept"]) == 3
        assert call("status", experiment, "--json").json["counts"] == {"PREPARED": 9}

    def test_small_sessions_are_named(self, call: Any, experiment: Path) -> None:
        np.savez(experiment / "datasets/day3.npz", spikes=np.ones((10, 20, 5), int), bin_ms=10.0)
        text = (experiment / "experiment.toml").read_text()
        (experiment / "experiment.toml").write_text(text + "[datasets]\nmin_trials = 20\n")
        said = call("prepare", experiment)
        assert said.code == 0
        assert "left out, with fewer than 20 trials: day3" in said.err

    def test_warnings_about_data_are_lines(self, call: Any, experiment: Path) -> None:
        text = (experiment / "experiment.toml").read_text()
        (experiment / "experiment.toml").write_text(text.replace("batch_size = 8", "batch_size = 99"))
        said = call("prepare", experiment)
        assert said.code == 0
        assert "warning: dataset 'day1': 32 training trials are fewer than a batch of 99" in said.err

    def test_changed_data_are_refused(self, call: Any, experiment: Path) -> None:
        np.savez(experiment / "datasets/day2.npz", spikes=np.ones((40, 20, 6), int), bin_ms=10.0)
        said = call("prepare", experiment)
        assert said.code == 3
        assert "dataset 'day2'" in said.err

    def test_a_session_more_changes_the_stitched_spec(self, call: Any, experiment: Path) -> None:
        np.savez(experiment / "datasets/day3.npz", spikes=np.ones((40, 20, 5), int), bin_ms=10.0)
        said = call("prepare", experiment)
        assert said.code == 3
        assert (
            "run spec 'all' was prepared with the datasets day1, day2, and now names day1, day2, day3"
            in said.err
        )

    def test_bad_data_are_named(self, call: Any, experiment: Path) -> None:
        spikes = np.ones((40, 20, 5))
        spikes[11, 0, 3] = -1
        np.savez(experiment / "datasets/day3.npz", spikes=spikes, bin_ms=10.0)
        (experiment / "runs").rename(experiment / "away")
        said = call("prepare", experiment)
        assert said.code == 3
        for word in ("day3", "trial 11", "neuron 'n003'"):
            assert word in said.err

    def test_a_slip_in_queue_options_shows_now(self, call: Any, experiment: Path) -> None:
        with (experiment / "experiment.toml").open("a") as file:
            file.write("slotz = 2\n")
        said = call("prepare", experiment)
        assert said.code == 3
        assert "'slotz'" in said.err
        assert "did you mean 'slots'?" in said.err
        assert "experiment.toml, line 20, [queue]" in said.err

    def test_from_here_upwards(self, call: Any, experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As all other commands find theirs."""
        monkeypatch.chdir(experiment / "datasets")
        said = call("prepare", "--json")
        assert (said.code, said.json["collection"]) == (0, str(experiment / "runs/small"))

    def test_no_experiment(self, call: Any, tmp_path: Path) -> None:
        said = call("prepare", tmp_path)
        assert said.code == 2
        assert "lfadsrm init" in said.err


class TestWhere:
    """What WHERE means, for all commands alike."""

    @pytest.mark.parametrize("inside", [".", "datasets", "runs", "runs/small", "runs/small/.lfadsrm"])
    def test_from_here_upwards(
        self, call: Any, experiment: Path, monkeypatch: pytest.MonkeyPatch, inside: str
    ) -> None:
        (experiment / "runs/small/.lfadsrm").mkdir(exist_ok=True)
        monkeypatch.chdir(experiment / inside)
        assert call("status", "--json").json["collection"] == str(experiment / "runs/small")

    @pytest.mark.parametrize("where", ["", "experiment.toml", "runs/small"])
    def test_named(self, call: Any, experiment: Path, where: str) -> None:
        assert call("status", experiment / where, "--json").json["collection"] == str(
            experiment / "runs/small"
        )

    def test_by_environment(self, call: Any, experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LFADSRM_COLLECTION", str(experiment))
        monkeypatch.setenv("LFADSRM_JSON", "1")
        assert call("status").json["counts"] == {"PREPARED": 6}

    @pytest.mark.parametrize("command", ["status", "run", "show"])
    def test_nothing_there(self, call: Any, tmp_path: Path, command: str) -> None:
        said = call(command, tmp_path / "nowhere")
        assert said.code == 2
        assert "there is no run collection and no experiment.toml here" in said.err
        assert "lfadsrm init" in said.err

    def test_not_prepared(self, call: Any, tmp_path: Path) -> None:
        (tmp_path / "x y").mkdir()
        (tmp_path / "x y/experiment.toml").write_text("")
        said = call("run", tmp_path / "x y")
        assert said.code == 2
        assert f"lfadsrm prepare '{tmp_path / 'x y'}'" in said.err

    def test_a_script_means_its_one_collection(
        self, call: Any, experiment: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And never the experiment of a folder above it."""
        folder = experiment / "a script"
        folder.mkdir()
        (experiment / "runs").rename(folder / "runs")
        (folder / "experiment.py").write_text("")
        for inside in (".", "runs"):
            monkeypatch.chdir(folder / inside)
            assert call("status", "--json").json["collection"] == str(folder / "runs/small")
        monkeypatch.chdir(experiment)
        assert call("status", folder, "--json").json["collection"] == str(folder / "runs/small")
        assert call("run", folder, "--dry-run").code == 0
        assert call("why", "single_day1", "-C", folder, "--match", "factors_dim=2").code == 0
        assert is_place(folder)
        said = call("prepare", folder)
        assert said.code == 2
        assert f"python '{folder / 'experiment.py'}'" in said.err
        monkeypatch.chdir(folder)
        assert "is a script" in call("prepare").err, "the experiment above is not meant"

    def test_a_script_of_several_collections(
        self, call: Any, experiment: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = experiment / "a script"
        shutil.copytree(experiment / "runs/small", folder / "runs/small")
        shutil.copytree(experiment / "runs/small", folder / "runs/other one")
        (folder / "runs/none").mkdir()
        (folder / "experiment.py").write_text("")
        monkeypatch.chdir(folder)
        for words in (["status"], ["status", folder], ["run"]):
            said = call(*words)
            assert said.code == 2
            assert "there are 2 run collections here" in said.err
            assert f"'{folder / 'runs/other one'}'" in said.err
            assert str(folder / "runs/small") in said.err

    def test_a_script_that_has_prepared_nothing(self, call: Any, tmp_path: Path) -> None:
        (tmp_path / "experiment.py").write_text("")
        said = call("status", tmp_path)
        assert said.code == 2
        assert f"python {tmp_path / 'experiment.py'}" in said.err
        assert "this experiment has no run collection" in said.err

    def test_a_damaged_collection(self, call: Any, small: Path) -> None:
        (small / "collection.json").write_text("{")
        said = call("status", small)
        assert said.code == 3
        assert "damaged" in said.err


class TestShow:
    def test_a_collection(self, call: Any, experiment: Path, small: Path) -> None:
        said = call("show", experiment)
        assert said.code == 0
        for word in (
            '"small" (6 runs in total)',
            str(small),
            "factors_dim=2",
            "for tests",
            '"all" (2 datasets',
        ):
            assert word in said.out

    def test_as_json(self, call: Any, experiment: Path) -> None:
        said = call("show", experiment, "--json")
        assert [spec["name"] for spec in said.json["run_specs"]] == ["single_day1", "single_day2", "all"]
        assert said.json["params"][0]["differences"]["factors_dim"] == 2
        assert len(said.json["runs"]) == 6

    def test_datasets(self, call: Any, experiment: Path) -> None:
        said = call("show", experiment, "--datasets")
        rows = [line.split() for line in said.out.splitlines()]
        assert rows == [
            ["name", "trials", "neurons", "bins", "bin", "ms"],
            ["day1", "40", "5", "20", "10"],
            ["day2", "40", "6", "20", "10"],
        ]
        assert [
            item["neurons"] for item in call("show", experiment, "--datasets", "--json").json["datasets"]
        ] == [
            5,
            6,
        ]

    def test_datasets_before_they_are_prepared(self, call: Any, experiment: Path) -> None:
        prepared = call("show", experiment, "--datasets").out
        (experiment / "runs").rename(experiment / "away")
        assert call("show", experiment, "--datasets").out == prepared
        assert call("show", experiment).code == 2

    def test_params_need_no_collection(self, call: Any, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.chdir(tmp_path)
        said = call("show", "--params")
        assert said.code == 0
        line = next(line for line in said.out.splitlines() if " spike_bin_ms: 2 " in line)
        assert "Width of the bins" in line
        assert "ms" in line
        described = call("show", "--params", "--json").json["params"]
        assert described["spike_bin_ms"]["default"] == 2
        assert described["spike_bin_ms"]["unit"] == "ms"
        assert "stratified" in described["split"]["range"]

    def test_one_run(self, call: Any, experiment: Path, small: Path) -> None:
        run_id = end(small, "single_day1", 2, 1, FAILED, "it broke")
        said = call("show", experiment, "--run", run_id)
        assert said.out.startswith(f"{run_id}: failed (failed)\n")
        assert "message: it broke" in said.out
        assert "dataset day1: no posterior means yet" in said.out
        found = call("show", experiment, "--run", run_id, "--json").json
        assert found["record"]["spec"]["datasets"] == ["day1"]
        assert (found["state"], found["attempt"]) == ("FAILED", 1)

    def test_a_run_that_is_not_clear(self, call: Any, experiment: Path) -> None:
        said = call("show", experiment, "--run", "single_day1")
        assert said.code == 2
        assert "2 runs fit 'single_day1'" in said.err
        assert "/single_day1  factors_dim=2\n" in said.err
        said = call("show", experiment, "--run", "no such run")
        assert "no run fits 'no such run'" in said.err
        assert said.err.count("factors_dim=") == 6

    def test_a_run_by_its_params(self, call: Any, experiment: Path) -> None:
        words = ["show", experiment, "--run", "single_day1", "--match", "factors_dim=3", "--json"]
        assert call(*words).json["record"]["params"]["values"]["factors_dim"] == 3
        assert call("show", experiment, "--match", "factors_dim=3").code == 2

    def test_one_thing_at_a_time(self, call: Any, experiment: Path) -> None:
        assert call("show", experiment, "--datasets", "--params").code == 2


class TestStatus:
    def test_a_table(self, call: Any, experiment: Path, small: Path) -> None:
        end(small, "single_day1", 2, 0, DONE)
        end(small, "single_day2", 3, 1, FAILED, "it broke\nbadly")
        end(small, "all", 2, EXIT_CHECKPOINTED, CHECKPOINTED)
        said = call("status", experiment)
        assert (said.code, said.err) == (0, "")
        rows = {tuple(line.split()[:2]): line.split() for line in said.out.splitlines()[1:-2]}
        assert rows["single_day1", "factors_dim=2"][2:4] == ["completed", "1"]
        assert rows["single_day2", "factors_dim=3"][2:4] == ["failed", "1"]
        assert rows["all", "factors_dim=2"][2:4] == ["preempted", "1"]
        assert rows["all", "factors_dim=3"][2:] == ["prepared"]
        assert said.out.splitlines()[-1] == f"{small}: 3 prepared, 1 completed, 1 failed, 1 preempted"

    def test_why_a_run_failed(self, call: Any, experiment: Path, small: Path) -> None:
        end(small, "single_day2", 3, 1, FAILED, "it broke\nbadly")
        said = call("status", experiment)
        assert "/single_day2: it broke\n" in said.out
        assert "badly" not in said.out

    def test_rescan_reads_the_facts(self, call: Any, experiment: Path, small: Path) -> None:
        end(small, "single_day1", 2, 0, DONE)
        assert "41.2" not in call("status", experiment).out
        for name in (small / ".lfadsrm/outbox").iterdir():
            name.unlink()
        said = call("status", experiment, "--rescan")
        line = next(line for line in said.out.splitlines() if "completed" in line)
        assert "7/9" in line
        assert "41.2" in line
        assert "took 0s" in line

    def test_json(self, call: Any, experiment: Path, small: Path) -> None:
        end(small, "single_day1", 2, 0, DONE)
        found = call("status", experiment, "--json").json
        assert found["schema_version"] == 1
        assert found["counts"] == {"PREPARED": 5, "COMPLETED": 1}
        done = next(run for run in found["runs"] if run["state"] == "COMPLETED")
        assert (done["spec"], done["params"]["factors_dim"], done["code"]) == ("single_day1", 2, 0)

    def test_json_has_no_nan(self, call: Any, experiment: Path, small: Path) -> None:
        run = RunCollection.open(small).runs[0]
        claim = store.take_local(run.layout, Identity.local("", "0"))
        assert not isinstance(claim, store.AlreadyComplete)
        store.heartbeat(run.layout, claim, phase="training", epoch=1, train_total=float("nan"), eta_s=None)
        said = call("status", experiment, "--json")
        assert json.loads(said.out, parse_constant=lambda word: pytest.fail(word))["counts"]["RUNNING"] == 1
        assert "running" in call("status", experiment).out

    def test_fail_tells_of_failures_by_the_code(self, call: Any, experiment: Path, small: Path) -> None:
        assert call("status", experiment, "--fail").code == 0
        end(small, "single_day1", 2, 1, FAILED)
        said = call("status", experiment, "--fail")
        assert said.code == 5
        assert "1 of 6 runs have failed" in said.err
        assert "failed" in said.out
        assert call("status", experiment, "--fail", "--spec", "all").code == 0
        assert call("status", experiment).code == 0

    @pytest.mark.parametrize(
        ("words", "n"),
        [
            (["--spec", "all"], 2),
            (["--spec", "all", "--spec", "single_day2"], 4),
            (["--match", "factors_dim=3"], 3),
            (["--match", "factors_dim=[2,3]"], 6),
            (["--match", "c_factors_dim = 3", "--match", "co_dim=0", "--spec", "all"], 1),
            (["--match", "use_alignment_matrix=true"], 6),
            (["--match", "output_dist=poisson"], 6),
            (["--match", "held_out_neurons=none"], 6),
        ],
    )
    def test_selection(self, call: Any, experiment: Path, words: list[str], n: int) -> None:
        assert len(call("status", experiment, *words, "--json").json["runs"]) == n

    @pytest.mark.parametrize(
        ("words", "what"),
        [
            (["--match", "factors_dim=99"], "no run fits --match factors_dim=99"),
            (["--match", "factor_dim=2"], "did you mean 'factors_dim'?"),
            (["--match", "factors_dim"], "is not NAME=VALUE"),
            (["--match", "factors_dim=2", "--match", "factors_dim=3"], "twice"),
            (["--match", "spec=all"], "no hyperparameter 'spec'"),
            (["--spec", "singel_day1"], "did you mean 'single_day1'?"),
        ],
    )
    def test_slips_in_the_selection(self, call: Any, experiment: Path, words: list[str], what: str) -> None:
        said = call("status", experiment, *words)
        assert said.code == 2
        assert what in said.err

    def test_names_that_look_like_markup(self, call: Any, tmp_path: Path) -> None:
        (tmp_path / "datasets").mkdir()
        spikes = np.random.default_rng(0).poisson(0.5, (40, 20, 5))
        np.savez(tmp_path / "datasets" / "d[red]1:x:.npz", spikes=spikes, bin_ms=10.0)
        (tmp_path / "experiment.toml").write_text("[params]\nspike_bin_ms = 10\nbatch_size = 8\nco_dim = 0\n")
        assert call("prepare", tmp_path).code == 0
        assert "single_d[red]1:x: " in call("status", tmp_path).out
        assert "\nd[red]1:x: " in call("show", tmp_path, "--datasets").out


class TestLogs:
    def test_the_newest_attempt(self, call: Any, experiment: Path, small: Path) -> None:
        end(small, "single_day1", 2, 1, FAILED)
        run_id = end(small, "single_day1", 2, 1, FAILED)
        said = call("logs", run_id, "-C", experiment)
        assert (said.code, said.out) == (0, "log of attempt 2\nits last line\n")
        assert said.err == f"# {small / run_id / 'attempts/002/log.txt'}\n"
        assert call("logs", run_id, "-C", experiment, "--attempt", 1).out.startswith("log of attempt 1\n")
        assert call("logs", "single_day1", "--match", "factors_dim=2", "-C", experiment).out == said.out
        assert call("logs", run_id, "-C", experiment, "-n", 1).out == "its last line\n"
        assert call("logs", run_id, "-C", experiment, "-n", 0).out.count("\n") == 2

    def test_there_is_none(self, call: Any, experiment: Path, small: Path) -> None:
        run_id = end(small, "single_day1", 2, 1, FAILED)
        said = call("logs", run_id, "-C", small, "--attempt", 7)
        assert said.code == 2
        assert "no log of attempt 7" in said.err
        assert "there are logs of: 1" in said.err
        other = RunCollection.open(small).find_run("all", factors_dim=3)
        assert "has printed nothing yet" in call("logs", other.id, "-C", small).err

    def test_what_was_printed_before_there_was_an_attempt(self, call: Any, small: Path) -> None:
        from lfadsrm_hpc.layout import run_key

        run = RunCollection.open(small).runs[0]
        folder = run.collection.layout.queue_state_dir("some_host")
        folder.mkdir(parents=True)
        (folder / f"{run_key(run.id)}.log").write_text("no module named lfadsrm_hpc\n")
        assert call("logs", run.id, "-C", small).out == "no module named lfadsrm_hpc\n"

    def test_bytes_that_are_no_text(self, call: Any, small: Path) -> None:
        run_id = end(small, "single_day1", 2, 1, FAILED)
        (small / run_id / "attempts/001/log.txt").write_bytes(b"a\xffb\n")
        assert call("logs", run_id, "-C", small).out == "a\ufffdb\n"

    def test_follow_ends_with_the_attempt(
        self, call: Any, small: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(small)
        run = RunCollection.open(small).find_run("all", factors_dim=2)
        claim = store.take_local(run.layout, Identity.local("", "0"))
        assert not isinstance(claim, store.AlreadyComplete)
        log = run.layout.attempt(claim.attempt).log
        log.write_text("first\n")

        def go_on() -> None:
            for line in ("second\n", "third\n"):
                time.sleep(0.7)
                with log.open("a") as file:
                    file.write(line)
            store.publish_exit(run.layout, claim, Exit(0, DONE))

        worker = threading.Thread(target=go_on)
        worker.start()
        said = call("logs", run.id, "-f")
        worker.join()
        assert (said.code, said.out) == (0, "first\nsecond\nthird\n")


def test_a_file_that_cannot_be_read_is_no_bug(
    call: Any, experiment: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(small, "single_day1", 2, 0, DONE)

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, os.strerror(13), str(small / "collection.json"))

    monkeypatch.setattr("lfadsrm_hpc.collection.stored.read_json", refuse)
    said = call("status", small)
    assert said.code == 1
    assert "Permission denied" in said.err
    assert str(small / "collection.json") in said.err
    assert ManifestError.exit_code == 1
