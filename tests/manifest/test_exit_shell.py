"""The exit record that a shell writes when Python died: the template itself, under bash."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lfadsrm_hpc.layout import CollectionLayout, RunLayout, run_key
from lfadsrm_hpc.manifest.process import Process, process_start_time
from lfadsrm_hpc.manifest.reading import read_facts
from lfadsrm_hpc.manifest.records import Claim, Exit, Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.store import collection_states, publish_exit, run_status, take_local, winning_exit
from lfadsrm_hpc.rendering import render

Fork = Callable[[Callable[[], object]], int]
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def bash(script: str, *arguments: object, path: Path | None = None) -> str:
    env = {**os.environ, **({"PATH": f"{path}:{os.environ['PATH']}"} if path else {})}
    functions = render("exit_record.sh.j2", {})
    command = ["bash", "-euo", "pipefail", "-c", functions + script, "bash", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def record_death(run: RunLayout, process: Process, status: int, path: Path | None = None) -> None:
    outbox = run.collection.outbox
    key = run_key(run.run_id)
    arguments = (run.path, key, outbox, process.pid, "" if process.start is None else process.start, status)
    bash('lfadsrm_record_death "$@"', *arguments, path=path)


@pytest.fixture
def dead(run: RunLayout, forked: Fork) -> Process:
    """The process of a task that took the run and was killed."""

    def task() -> None:
        take_local(run, Identity.local("S", 1))
        os.kill(os.getpid(), signal.SIGKILL)

    assert forked(task) == signal.SIGKILL
    claim = read_facts(run).attempts[0].incarnations[0].claim
    assert claim is not None
    return claim.process


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (137, Exit(137, "killed", 9)),
        (143, Exit(143, "killed", 15)),
        (1, Exit(1, "failed")),
        (0, Exit(1, "failed")),  # ended without a record: nothing vouches for the files
        (65, Exit(65, "bad_data")),
        (75, Exit(75, "checkpointed")),
    ],
)
def test_the_record_is_read(
    run: RunLayout, layout: CollectionLayout, dead: Process, status: int, expected: Exit
) -> None:
    record_death(run, dead, status)
    found = read_facts(run).attempts[0].incarnations[0].exit
    assert found is not None
    assert (found.code, found.reason, found.signal) == (expected.code, expected.reason, expected.signal)
    assert (found.host, found.writer, found.token) == (dead.host, "shell", "")
    assert found.ended is not None
    assert run_status(run).state is expected.state
    (name,) = layout.outbox_names()
    assert (name.key, name.attempt, name.incarnation) == (run_key(run.run_id), 1, 0)
    assert (name.state, name.code) == (expected.state.value, expected.code)
    quick = collection_states(layout, [run])[run.run_id]
    assert (quick.state, quick.reason) == (expected.state, expected.reason)
    assert winning_exit(run) is None
    assert sorted(p.name for p in run.attempt(1).path.iterdir()) == [
        "claim.r0.json", "exit.r0.json", "reserved.json",
    ]  # fmt: skip


def test_without_hard_links(run: RunLayout, dead: Process, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ln").write_text("#!/bin/sh\necho 'Operation not permitted' >&2\nexit 1\n")
    (tmp_path / "bin" / "ln").chmod(0o755)
    record_death(run, dead, 137, path=tmp_path / "bin")
    assert run_status(run).reason == "killed"


def test_a_record_that_exists_stands(run: RunLayout, layout: CollectionLayout) -> None:
    taken = take_local(run, Identity.local("S", 1))
    assert isinstance(taken, Claim)
    publish_exit(run, taken, Exit(0, "done"))
    before = run.attempt(1).exit(0).read_bytes()
    record_death(run, taken.process, 137)
    assert run.attempt(1).exit(0).read_bytes() == before
    assert len(layout.outbox_names()) == 1
    assert run_status(run).state is RunState.COMPLETED


def test_who_claimed_nothing_leaves_no_record(run: RunLayout, dead: Process, tmp_path: Path) -> None:
    record_death(run, Process(dead.host, dead.boot_id, dead.pid_namespace, dead.pid, 1), 137)
    record_death(run, Process(dead.host, dead.boot_id, dead.pid_namespace, 1, dead.start), 137)
    assert not run.attempt(1).exit(0).exists()
    empty = RunLayout(tmp_path / "param_x" / "never tried")
    record_death(empty, dead, 137)
    assert not empty.path.exists()


def test_the_newest_attempt_of_many(run: RunLayout, dead: Process, forked: Fork) -> None:
    taken = take_local(run, Identity.local("S", 1))
    assert isinstance(taken, Claim)
    assert taken.attempt == 2
    record_death(run, taken.process, 134)
    assert not run.attempt(1).exit(0).exists()
    assert run_status(run).signal == signal.SIGABRT


READ_START = 'lfadsrm_read_start "$1"; echo "$lfadsrm_start"'


def test_start_time_is_what_python_reads() -> None:
    assert bash(READ_START, os.getpid()).strip() == str(process_start_time(os.getpid()))
    assert bash("lfadsrm_start=1; lfadsrm_read_start 4194309; echo :$lfadsrm_start:") == "::\n"


def test_start_time_of_a_zombie_is_none() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert bash(READ_START, child.pid) == "\n"
    child.wait()


def test_a_living_process_never_seems_dead_while_signals_come() -> None:
    """Ctrl-C goes to all processes of a terminal: also to a subshell that would look."""
    script = (
        render("exit_record.sh.j2", {})
        + """
        trap '' INT
        sleep 60 & child=$!
        trap : INT
        lfadsrm_read_start "$child"; start=$lfadsrm_start
        echo ready
        for ((k = 0; k < 5000; k++)); do
            lfadsrm_read_start "$child"
            [[ -n $start && $lfadsrm_start == "$start" ]] || { echo "dead at $k"; break; }
        done
        kill -9 "$child"
        echo looked
    """
    )
    shell = subprocess.Popen(
        ["bash", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert shell.stdout is not None
    assert shell.stdout.readline() == "ready\n"
    sent = 0
    while shell.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGINT)
            sent += 1
        time.sleep(0.002)
    assert shell.stdout.read() == "looked\n"
    assert sent >= 5


def test_the_form_in_the_documentation_is_read(tmp_path: Path) -> None:
    from lfadsrm_hpc.manifest import records

    text = records.__doc__ or ""
    snippet = text[text.index("    printf") :]
    script = f'attempt={tmp_path} k=0 code=143 signal=15 reason=killed host="$(uname -n)"\n{snippet}'
    subprocess.run(["bash", "-euc", script], check=True, timeout=60)
    assert [p.name for p in tmp_path.iterdir()] == ["exit.r0.json"]
    found = records.from_json(Exit, (tmp_path / "exit.r0.json").read_bytes())
    assert (found.code, found.signal, found.reason, found.writer) == (143, 15, "killed", "shell")
