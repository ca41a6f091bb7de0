"""`lfadsrm run` over the real local queue, with tasks that train nothing (and once with real ones)."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.manifest.states import RunState


def states(collection: Path) -> dict[str, set[str]]:
    """Return the states of the runs of each run spec."""
    opened = RunCollection.open(collection)
    found: dict[str, set[str]] = {}
    for run, status in zip(opened.runs, opened.status(rescan=True), strict=True):
        found.setdefault(run.spec.name, set()).add(status.state.value)
    return found


def running(collection: Path) -> int:
    opened = RunCollection.open(collection)
    return sum(status.state is RunState.RUNNING for status in opened.status(rescan=True))


def test_all_runs_then_nothing_is_left(shell: Any, experiment: Path, small: Path) -> None:
    said = shell("run", cwd=experiment)
    assert said.code == 0
    assert states(small) == {name: {"COMPLETED"} for name in ("single_day1", "single_day2", "all")}
    rows = said.out.splitlines()
    assert len(rows) == 7
    assert all(" completed " in row and " 3/9 " in row and "took " in row for row in rows[1:])
    assert "6 completed" not in said.out, "the summary is a message"
    again = shell("run", cwd=experiment)
    assert (again.code, again.out) == (4, "")
    assert "every run is complete" in again.err
    assert all((run.layout.attempts()[-1].number) == 1 for run in RunCollection.open(small).runs)


def test_json_and_progress_go_apart(shell: Any, experiment: Path, small: Path, plan: Any) -> None:
    plan(all=(2.5, 0))
    said = shell("run", experiment, "--spec", "all", "--json")
    assert said.code == 0
    assert [run["state"] for run in said.json["runs"]] == ["COMPLETED"] * 2
    assert said.json["schema_version"] == 1
    assert ": running\n" in said.err
    assert ": completed\n" in said.err
    assert states(small)["single_day1"] == {"PREPARED"}


def test_a_failure_is_told_by_the_code(shell: Any, experiment: Path, small: Path, plan: Any) -> None:
    plan(single_day2=(0.1, 1))
    said = shell("run", experiment, "--match", "factors_dim=2")
    assert said.code == 5
    assert "1 of 3 runs are not complete: 1 failed" in said.err
    assert "lfadsrm why RUN" in said.err
    assert sum(" failed " in row for row in said.out.splitlines()) == 1
    assert states(small)["single_day2"] == {"FAILED", "PREPARED"}
    assert states(small)["all"] == {"COMPLETED", "PREPARED"}
    plan()
    said = shell("run", experiment, "--match", "factors_dim=2", "--json")
    assert said.code == 0
    assert [run["attempt"] for run in said.json["runs"]] == [2], "only the failed run is done again"


def test_bad_data_are_not_tried_again(shell: Any, experiment: Path, plan: Any) -> None:
    plan(all=(0.1, 65))
    said = shell("run", experiment, "--spec", "all", "--max-attempts", 3, "--json")
    assert said.code == 5
    assert [(run["state"], run["attempt"], run["code"]) for run in said.json["runs"]] == [
        ("FAILED", 1, 65)
    ] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "whom"), [(signal.SIGINT, "all"), (signal.SIGTERM, "it"), (signal.SIGHUP, "it")]
)
def test_interrupted_runs_go_on_later(
    shell: Any, experiment: Path, small: Path, plan: Any, number: signal.Signals, whom: str
) -> None:
    plan(all=(60, 0), single_day1=(60, 0), single_day2=(60, 0))
    process = shell.start("run", experiment)
    shell.wait_until(lambda: running(small) == 2)
    if whom == "all":  # as a terminal does
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    said = shell.end(process)
    assert said.code == 130
    assert "the queue was interrupted; its runs have checkpointed" in said.err
    assert running(small) == 0
    assert "PREEMPTED" in set().union(*states(small).values())
    plan()
    said = shell("run", experiment, "--json")
    assert said.code == 0
    assert sorted(run["attempt"] for run in said.json["runs"]) == [1, 1, 1, 1, 2, 2]


@pytest.mark.slow
def test_a_killed_run_command_leaves_runs_that_are_not_started_again(
    shell: Any, experiment: Path, small: Path, plan: Any
) -> None:
    plan(all=(4, 0))
    process = shell.start("run", experiment, "--spec", "all")
    shell.wait_until(lambda: running(small) == 2)
    process.kill()
    said = shell("run", experiment, "--spec", "all", "--json")
    assert said.code == 0
    assert [run["attempt"] for run in said.json["runs"]] == [1, 1]


def test_dry_run_starts_nothing(shell: Any, experiment: Path, small: Path) -> None:
    said = shell("run", experiment, "--dry-run", "--spec", "single_day2")
    assert said.code == 0
    ids = [run.id for run in RunCollection.open(small).find_runs("single_day2")]
    assert said.out.splitlines() == ids
    assert f"bash '{small}/run_queue.sh'" in said.err
    assert states(small)["single_day2"] == {"PREPARED"}


def test_detached_runs_go_on(shell: Any, experiment: Path, small: Path, plan: Any) -> None:
    plan(all=(1.5, 0))
    said = shell("run", experiment, "--spec", "all", "--detach", "--json")
    assert said.code == 0
    assert said.json["script"] == str(small / "run_queue.sh")
    os.kill(said.json["pid"], 0)  # it lives
    shell.wait_until(lambda: states(small)["all"] == {"COMPLETED"})


def test_survive_hangup_in_the_file_means_detach(shell: Any, experiment: Path, small: Path) -> None:
    with (experiment / "experiment.toml").open("a") as file:
        file.write("survive_hangup = true\n")
    said = shell("run", experiment, "--spec", "all")
    assert said.code == 0
    assert "in the background" in said.err
    shell.wait_until(lambda: states(small)["all"] == {"COMPLETED"})


class TestQueueOptions:
    def script(self, shell: Any, *words: object, cwd: Path | None = None) -> str:
        said = shell("run", *words, "--dry-run", "--json", cwd=cwd)
        assert said.code == 0, said.err
        return Path(said.json["script"]).read_text()

    @pytest.mark.parametrize("inside", [".", "datasets", "runs"])
    def test_of_the_experiment_found_from_inside_it(self, shell: Any, experiment: Path, inside: str) -> None:
        assert "\nslots=2 " in self.script(shell, cwd=experiment / inside)

    def test_not_where_the_collection_itself_is_named(
        self, shell: Any, experiment: Path, small: Path
    ) -> None:
        for script in (self.script(shell, small), self.script(shell, cwd=small)):
            assert "\nslots=0 " in script
            assert "fake_task" not in script

    def test_the_command_line_wins(self, shell: Any, experiment: Path, small: Path) -> None:
        trained = (
            RunCollection.open(small).runs[0].layout.checkpoint_dir(1, 0) / "checkpoint-000000000001.npz"
        )
        trained.parent.mkdir(parents=True)
        trained.touch()
        words = ["--slots", 5, "--threads", 3, "--max-per-gpu", 7, "--gpu", "--max-attempts", 4]
        script = self.script(shell, experiment, *words, "--tensorboard", "--posterior-only")
        lines = [line.partition(" #")[0] for line in script.splitlines()]
        for line in ("slots=5", "threads=3", "max_per_gpu=7", "use_gpu=yes", "max_attempts=4"):
            assert line in lines
        assert "task_options=(--posterior-only)" in lines
        assert "tensorboard=()" not in lines

    def test_only_trained_runs_are_sampled_again(self, shell: Any, experiment: Path, small: Path) -> None:
        said = shell("run", experiment, "--posterior-only")
        assert said.code == 4
        assert "no run has been trained yet" in said.err

    def test_a_slip_names_file_and_table(self, shell: Any, experiment: Path) -> None:
        text = (experiment / "experiment.toml").read_text()
        line = 1 + text.splitlines().index("slots = 2")
        (experiment / "experiment.toml").write_text(text.replace("slots = 2", 'slots = "two"'))
        said = shell("run", experiment)
        assert said.code == 3
        assert f"experiment.toml, line {line}, [queue]" in said.err
        assert "slots" in said.err


def test_a_queue_that_cannot_start_says_why(shell: Any, experiment: Path) -> None:
    text = (experiment / "experiment.toml").read_text()
    (experiment / "experiment.toml").write_text(text + 'environment = ["module load nowhere"]\n')
    said = shell("run", experiment)
    assert said.code == 1
    assert "the local queue ended with status 3" in said.err
    assert "module load nowhere" in said.err


def test_inputs_that_were_replaced_are_refused(shell: Any, experiment: Path, small: Path) -> None:
    one, other = sorted(small.glob("data_*/single_*/*.h5"))[:2]
    one.write_bytes(other.read_bytes())
    said = shell("run", experiment)
    assert said.code == 3
    assert str(one) in said.err
    assert states(small)["all"] == {"PREPARED"}


class TestTask:
    def test_not_a_run(self, shell: Any, small: Path) -> None:
        said = shell("task", "--collection", small, "--run", "nonsense")
        assert said.code == 2
        assert "is not a run id" in said.err

    def test_bad_data_exit_65(self, shell: Any, small: Path) -> None:
        run = RunCollection.open(small).find_run("single_day1", factors_dim=2)
        run.input_files()["day1"].write_bytes(b"damaged")
        said = shell("task", "--collection", small, "--run", run.id, "--no-log-file")
        assert said.code == 65
        assert str(run.input_files()["day1"]) in said.err
        assert run.status().state is RunState.FAILED

    def test_somebody_else_has_it_64(self, shell: Any, small: Path) -> None:
        from lfadsrm_hpc.manifest import store
        from lfadsrm_hpc.manifest.records import Identity

        run = RunCollection.open(small).runs[0]
        store.take_local(run.layout, Identity.local("", "0"))
        said = shell("task", "--collection", small, "--run", run.id)
        assert (said.code, said.out) == (64, "")


@pytest.mark.train
@pytest.mark.slow
def test_real_tasks(shell: Any, experiment: Path, small: Path) -> None:
    """Prepare, train, resume nothing twice, sample again, load: the whole road of the command line."""
    text = (experiment / "experiment.toml").read_text()
    tiny = "max_epochs = 2\ngen_dim = 8\nic_dim = 4\nic_enc_dim = 8\nnum_samples_posterior = 4\n[sweep]"
    lines = (
        text.replace("[2, 3]", "[2]")
        .replace("[sweep]", tiny)
        .replace("stitched", "singles = false\nstitched")
    )
    (experiment / "experiment.toml").write_text(
        "\n".join(line for line in lines.splitlines() if not line.startswith("task_command"))
    )
    (experiment / "runs").rename(experiment / "away")
    assert shell("prepare", experiment).code == 0
    said = shell.end(shell.start("run", experiment, "--json"), timeout=400)
    assert said.code == 0, said.err
    assert [run["state"] for run in said.json["runs"]] == ["COMPLETED"]
    collection = RunCollection.open(small)
    with collection.find_run("all").load_posterior_means("day2") as means:
        assert means.rates.shape == (40, 20, 6)
        assert float(means.rates.min()) > 0
    log = shell("logs", "all", "-C", experiment)
    assert "training ended at epoch 2" in log.out
    shown = shell("show", experiment, "--run", "all", "--json").json
    assert set(shown["posterior_means"]) == {"day1", "day2"}
    again = shell.end(shell.start("run", experiment, "--posterior-only", "--json"), 400)
    assert again.code == 0, again.err
    assert [run["attempt"] for run in again.json["runs"]] == [2]
