"""The queue script on cores: order, slots, exit statuses, retries, what it leaves behind."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lfadsrm_hpc
from lfadsrm_hpc.layout import run_key
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.reading import collection_states
from lfadsrm_hpc.manifest.records import Claim, Identity, to_json
from lfadsrm_hpc.manifest.states import RunState

Bench = Any  # the class in conftest.py


def test_does_all_runs_in_order(bench: Bench) -> None:
    bench.add("b", "a", "c")
    assert bench.run(slots=1) == 0
    assert bench.starts() == ["b", "a", "c"]
    assert bench.most_at_once() == 1
    assert bench.marks() == {"b": ["done"], "a": ["done"], "c": ["done"]}
    said = bench.said
    assert "started run 2/3 param_abc/a on the CPU, threads: 1" in said
    assert "the queue has ended: 3 of 3 done, 0 failed, 0 not finished" in said
    assert "to go on" not in said


def test_fills_the_slots_and_starts_the_next_run_as_one_ends(bench: Bench) -> None:
    bench.add("a", "b", "c", "d", plan=["0.4 0"])
    assert bench.run(slots=2) == 0
    assert bench.most_at_once() == 2
    ends = sorted(event["time"] for event in bench.events("end"))
    third = bench.events("start")[2]["time"]
    assert 0 <= third - ends[0] < 1.5


def test_default_poll_starts_the_next_run_within_about_a_second(bench: Bench) -> None:
    bench.add("a", "b", plan=["0.2 0"])
    assert bench.run(slots=1, poll_s=0.5, look_s=2) == 0
    assert bench.events("start")[1]["time"] - bench.events("end")[0]["time"] < 1.5


def test_slots_and_threads_are_chosen_from_the_cores(bench: Bench) -> None:
    bench.add("a")
    assert bench.run(slots=None, cpu_cap=None) == 0
    cores = len(os.sched_getaffinity(0))
    [start] = bench.events("start")
    assert start["environment"]["LFADSRM_THREADS"] == str(min(4, cores))
    assert f"up to {cores} at once on {cores} cores" in bench.said


def test_environment_of_a_task(bench: Bench) -> None:
    bench.add("a")
    bench.env |= {"LFADSRM_SECRET": "1", "LFADSRM_LOG_LEVEL": "debug", "OMP_NUM_THREADS": "64"}
    bench.env["CUDA_VISIBLE_DEVICES"] = "0"
    assert (
        bench.run(
            cpu_cap=3,
            keep_environment=("LFADSRM_LOG_LEVEL",),
            environment=('export SHOW_IT="it\'s $((1 + 1))"', "# a comment"),
        )
        == 0
    )
    [start] = bench.events("start")
    assert start["environment"] == {
        "OMP_NUM_THREADS": "3",
        "TF_NUM_INTRAOP_THREADS": "3",
        "TF_NUM_INTEROP_THREADS": "3",
        "LFADSRM_THREADS": "3",
        "LFADSRM_LOG_LEVEL": "debug",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "",
        "SHOW_IT": "it's 2",
    }


def test_environment_line_that_fails_stops_the_queue(bench: Bench) -> None:
    bench.add("a")
    assert bench.run(environment=("true", "source /no/such/activate")) == 3
    assert "this line of the environment ended with status 1: source /no/such/activate" in bench.said
    assert bench.events() == []


def test_program_that_is_missing_is_an_error_at_once(bench: Bench) -> None:
    bench.add("a")
    assert bench.run(task_command=("/no/such/python", "-m", "x")) == 3
    assert "there is no program /no/such/python" in bench.said


def test_failed_runs_are_tried_again_as_configured(bench: Bench) -> None:
    bench.add("fails once", plan=["0 1", "0 0"])
    bench.add("fails always", plan=["0 1"])
    bench.add("good")
    assert bench.run(slots=1, max_attempts=2) == 5
    # A run that is tried again goes behind those that wait already.
    assert bench.starts() == ["fails once", "fails always", "good", "fails once", "fails always"]
    assert bench.marks() == {"fails once": ["done"], "fails always": ["failed"], "good": ["done"]}
    assert list(bench.layout.outbox.iterdir()) != []  # the fake left no record of status 1, so the queue did
    said = bench.said
    assert "run 2/3 param_abc/fails always ended with status 1" in said
    assert "    a line of the log of param_abc/fails always" in said
    assert "2 of 3 done, 1 failed, 0 not finished" in said
    assert "  failed: param_abc/fails always" in said
    assert f"to go on: bash {bench.layout.queue_script}".replace("my collection", "my\\ collection") in said


def test_failure_shows_the_log_of_the_attempt(bench: Bench) -> None:
    bench.add("a")
    [task] = bench.tasks
    attempt = bench.layout.run_by_id(task.run_id).attempt(1)
    command = (
        f'echo starting; sleep 0.02; mkdir -p "{attempt.path}"; echo the reason >"{attempt.log}"; exit 1'
    )
    assert bench.run(task_command=("sh", "-c", command, "sh")) == 5
    assert "    the reason" in bench.said
    assert f"(log: {attempt.log})" in bench.said


def test_default_is_not_to_repeat_a_failure(bench: Bench) -> None:
    bench.add("a", plan=["0 3"])
    assert bench.run() == 5
    assert bench.starts() == ["a"]


def test_a_new_queue_tries_what_failed(bench: Bench) -> None:
    bench.add("a", plan=["0 1", "0 0"])
    assert bench.run() == 5
    assert bench.start().wait(120) == 0
    assert bench.marks() == {"a": ["done"]}


def test_bad_data_is_never_tried_again(bench: Bench) -> None:
    bench.add("a", plan=["0 65", "0 0"])
    assert bench.run(max_attempts=3) == 5
    assert bench.starts() == ["a"]
    assert bench.marks() == {"a": ["failed"]}
    assert "data that cannot be used" in bench.said


def test_run_of_another_task_is_looked_at_again(bench: Bench) -> None:
    bench.add("theirs", plan=["0 64", "0 64", "0 0"])
    bench.add("ours", plan=["0.2 0"])
    assert bench.run(slots=1, recheck_s=2) == 0
    assert bench.starts() == ["theirs", "ours", "theirs", "theirs"]
    times = [event["time"] for event in bench.events("start") if event["run"].endswith("theirs")]
    assert times[2] - times[1] > 0.9  # the script's clock counts whole seconds
    assert bench.said.count("belongs to another task") == 1


def test_run_that_is_refused_though_nobody_has_it_is_given_up(bench: Bench) -> None:
    bench.add("cancelled", plan=["0 64"])
    assert bench.run(recheck_s=0) == 5
    assert bench.starts() == ["cancelled"] * 3
    assert "is refused, and no living task has it" in bench.said
    assert bench.marks() == {"cancelled": ["failed"]}


@pytest.mark.parametrize("where", ["here", "another machine"])
def test_owner_that_may_live_is_waited_for(bench: Bench, where: str) -> None:
    [run_id] = bench.add("theirs", plan=[*["0 64"] * 6, "0 0"])
    run = bench.layout.run_by_id(run_id)
    process = Process.current()
    if where != "here":
        process = replace(process, host="another-host", pid=1)
    claim = Claim(900, 0, Identity.local("S", 1), process, "token")
    run.attempt(900).path.mkdir(parents=True)
    run.attempt(900).claim(0).write_bytes(to_json(claim))
    assert bench.run(recheck_s=0) == 0
    assert bench.starts() == ["theirs"] * 7


def test_checkpointed_run_goes_on(bench: Bench) -> None:
    bench.add("a", plan=["0 75", "0 75", "0 0"])
    assert bench.run() == 0
    assert bench.starts() == ["a"] * 3
    assert bench.marks() == {"a": ["done"]}


def test_run_that_always_stops_is_given_up(bench: Bench) -> None:
    bench.add("a", plan=["0 75"])
    assert bench.run(max_restarts=2) == 5
    assert bench.starts() == ["a"] * 3
    assert bench.marks() == {"a": ["failed"]}


def test_killed_run_is_started_again_and_its_death_is_recorded(bench: Bench) -> None:
    [run_id] = bench.add("a", plan=["0 -9", "0 0"])
    assert bench.run() == 0
    assert bench.starts() == ["a", "a"]
    assert "was killed by signal KILL" in bench.said
    record = (bench.layout.run_by_id(run_id).attempt(1).exit(1)).read_text()
    assert '"code": 137' in record
    assert '"signal": 9' in record
    assert [path.name for path in bench.layout.outbox.iterdir()] == [f"{run_key(run_id)}.001.r1.FAILED.137"]


def test_manifest_understands_what_the_queue_recorded(bench: Bench) -> None:
    """A task that claims as the real one does, and dies without a word."""
    [run_id] = bench.add("it's $(a)")
    program = bench.fake / "dies.py"
    program.write_text(
        "import os, sys\n"
        "from lfadsrm_hpc.layout import CollectionLayout\n"
        "from lfadsrm_hpc.manifest.records import Identity\n"
        "from lfadsrm_hpc.manifest.store import take_local\n"
        "from pathlib import Path\n"
        "words = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        "run = CollectionLayout(Path(words['--collection'])).run_by_id(words['--run'])\n"
        "take_local(run, Identity.local(words['--submission'], words['--task']))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    bench.env["PYTHONPATH"] = str(Path(lfadsrm_hpc.__file__).parent.parent)
    assert bench.run(task_command=(sys.executable, str(program)), max_restarts=1) == 5
    run = bench.layout.run_by_id(run_id)
    [state] = collection_states(bench.layout, [run]).values()
    assert (state.state, state.attempt, state.code, state.reason) == (RunState.FAILED, 2, 137, "killed")
    assert [attempt.exit(0).exists() for attempt in run.attempts()] == [True, True]


def test_run_killed_from_outside(bench: Bench) -> None:
    bench.add("a", plan=["300 0", "0 0"])
    bench.write()
    queue = bench.start()
    [start] = bench.wait_for_starts(1)
    os.kill(start["pid"], signal.SIGKILL)
    assert queue.wait(120) == 0
    assert bench.starts() == ["a", "a"]


def test_finished_runs_are_skipped_only_with_their_exit_record(bench: Bench) -> None:
    bench.add("a", "b")
    assert bench.run() == 0
    assert bench.start().wait(120) == 0
    assert len(bench.events()) == 4  # two starts, two ends: the second queue started no process
    assert "2 runs, 2 of them finished already" in bench.said
    record = bench.layout.run("abc", "a").attempt(1).exit(1)
    record.unlink()
    assert bench.start().wait(120) == 0
    assert bench.starts() in (["a", "b", "a"], ["b", "a", "a"])


def test_posterior_only_is_done_once_a_script(bench: Bench) -> None:
    bench.add("a")
    assert bench.run() == 0
    assert bench.run(posterior_only=True) == 0
    assert bench.start().wait(120) == 0
    assert ["--posterior-only" in event["argv"] for event in bench.events("start")] == [False, True]


def test_names_reach_the_task_as_they_are(bench: Bench) -> None:
    names = [
        "it's $(touch pwned) `touch pwned`",
        'a "b" \\ c; touch pwned #',
        "*?[x] {a,b} ~ !! %s %n",
        "Grüße & <x> |y",
    ]
    ids = bench.add(*names)
    assert bench.run(slots=2, environment=("export SHOW_IT='a b'",)) == 0
    arguments = {event["run"]: event["argv"] for event in bench.events("start")}
    assert sorted(arguments) == sorted(ids)
    for number, run_id in enumerate(ids, start=1):
        argv = arguments[run_id]
        assert argv[argv.index("--collection") + 1] == str(bench.layout.path)
        assert argv[argv.index("--task") + 1] == str(number)
        assert f"started run {number}/4 {run_id} on" in bench.said
    assert not list(Path.cwd().glob("pwned"))
    assert not list(bench.layout.path.rglob("pwned"))
    assert set(bench.marks()) == set(names)
    assert all(states == ["done"] for states in bench.marks().values())


def test_script_of_one_run(bench: Bench) -> None:
    [run_id] = bench.add("it's $(x)")
    bench.write(environment=("export SHOW_IT=1",))
    script = bench.layout.run_by_id(run_id).script
    # Started by hand from a terminal the task may get HUP and INT; here they are ignored as by the queue.
    bench.env["BASH_ENV"] = str(bench.fake / "ignore")
    (bench.fake / "ignore").write_text("trap '' HUP INT\n")
    assert bench.start(script, "--posterior-only").wait(120) == 0
    [start] = bench.events("start")
    assert start["run"] == run_id
    assert start["environment"]["SHOW_IT"] == "1"
    assert start["argv"][-1] == "--posterior-only"


def test_tensorboard_lives_as_long_as_the_queue(bench: Bench) -> None:
    bench.add("a", plan=["0.5 0"])
    bench.layout.tensorboard_script.write_text('echo "$$ $*" > "$FAKE_DIR/board"\nexec sleep 60\n')
    assert bench.run(tensorboard=True, tensorboard_port=7007) == 0
    pid, *words = (bench.fake / "board").read_text().split(" ")
    assert " ".join(words).strip() == "--port 7007"
    assert not Path(f"/proc/{pid}").exists()
    assert ":7007/" in bench.said


def test_tensorboard_that_is_missing_does_not_matter(bench: Bench) -> None:
    bench.add("a")
    assert bench.run(tensorboard=True) == 0


def test_needs_no_terminal_and_survives_a_reader_that_goes_away(bench: Bench) -> None:
    bench.add("a", "b", plan=["0.3 0"])
    bench.write(slots=1)
    reader, writer = os.pipe()
    queue = subprocess.Popen(
        ["bash", str(bench.layout.queue_script)], env=bench.env, stderr=writer, stdin=subprocess.DEVNULL
    )
    os.close(writer)
    os.close(reader)
    assert queue.wait(120) == 0
    assert bench.starts() == ["a", "b"]


@pytest.mark.parametrize("word", ["--nonsense", "3"])
def test_unknown_words_are_refused(bench: Bench, word: str) -> None:
    bench.add("a")
    bench.write()
    assert bench.start(None, word).wait(120) == 2
    assert bench.events() == []


def test_dash_is_told_to_use_bash(bench: Bench) -> None:
    dash = shutil.which("dash")
    if dash is None:
        pytest.skip("dash is not installed")
    bench.add("a")
    answer = subprocess.run([dash, str(bench.write())], capture_output=True, text=True, timeout=90)
    assert answer.returncode == 3
    assert "with bash" in answer.stderr


def test_many_finished_runs_cost_little(bench: Bench) -> None:
    ids = bench.add(*[f"r{n:03d}" for n in range(100)])
    bench.state_dir.mkdir(parents=True)
    for run_id in ids[:-1]:
        attempt = bench.layout.run_by_id(run_id).attempt(1)
        attempt.path.mkdir(parents=True)
        attempt.exit(1).write_text('{\n  "code": 0,\n  "token": "t"\n}\n')
        (bench.state_dir / f"{run_key(run_id)}.done").write_text("\n")
    bench.write()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert bench.start().wait(120) == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # What it computes, not how long it takes: that depends on who else is at work.
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 10
    assert bench.starts() == ["r099"]
