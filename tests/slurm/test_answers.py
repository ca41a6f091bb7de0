"""The client when Slurm's programs answer badly: small programs on PATH print what is wanted."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.command import Answer
from lfadsrm_hpc.errors import CommandError, SchedulerUnreachableError, SubmissionUncertainError
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.batch import PLAIN, Job
from lfadsrm_hpc.schedulers.slurm import client as module
from lfadsrm_hpc.schedulers.slurm.client import Slurm

HEADER = "lf{ARRAY_JOB_ID|ARRAY_TASK_ID|STATE|NODELIST|END_TIME|SUBMIT_TIME|REASON|NAME}lf\n"
RUNS = "lf{7|0|RUNNING|n0|900|100|None|lfX}lf\n"
WAITS = "lf{7|1-9:2%3|PENDING||N/A|100|Resources|lfX}lf\n"
HISTORY = "JobID|State|ExitCode|Submit|Start|End|NodeList|Comment|JobName|\n"
ARRAY = Job("7", "lfX", 10, time.time())
Say = Callable[..., Path]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Put a program on PATH that prints a text, notes its call, and ends with a status after some seconds."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def write(
        name: str, text: str | bytes = "", status: int = 0, error: str = "", seconds: float = 0
    ) -> Path:
        (tmp_path / f"{name}.out").write_bytes(text.encode() if isinstance(text, str) else text)
        (tmp_path / f"{name}.err").write_text(error)
        calls = tmp_path / f"{name}.calls"
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\necho "$@" >>{calls}\ncat {tmp_path}/{name}.out\ncat {tmp_path}/{name}.err >&2\n'
            f"[ {seconds} = 0 ] || exec sleep {seconds}\nexit {status}\n"
        )
        program.chmod(0o755)
        return calls

    return write


def test_what_waits_in_ranges_is_seen_task_by_task(say: Say) -> None:
    say("squeue", HEADER + RUNS + WAITS)
    say("sacct", "", 1, "Slurm accounting storage is disabled\n")
    report = Slurm().look([ARRAY])
    assert (report.live_ok, report.history_ok, report.warnings) == (True, None, ())
    assert {index: seen.state for (_, index), seen in report.tasks.items()} == {
        0: RunState.RUNNING,
        **dict.fromkeys((1, 3, 5, 7, 9), RunState.PENDING),
    }


def test_one_call_tells_of_all_jobs(say: Say) -> None:
    calls = say("squeue", HEADER + "".join(f"lf{{{n}|N/A|RUNNING|n0|9|1|None|j}}lf\n" for n in range(50)))
    jobs = [Job(str(number), "j", 0, time.time()) for number in range(50)]
    assert len(Slurm(history="sacct").look(jobs).tasks) == 50
    assert len(calls.read_text().splitlines()) == 1


def test_a_missing_history_is_asked_for_once(say: Say) -> None:
    say("squeue", HEADER)
    calls = say("sacct", "", 1, "Slurm accounting storage is disabled\n")
    client = Slurm()
    assert [client.look([ARRAY]).history_ok for _ in range(3)] == [None] * 3
    assert client.find(["lfX"], time.time()) == []
    assert len(calls.read_text().splitlines()) == 1


def test_sacct_is_not_installed(say: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    say("squeue", HEADER)
    (tmp_path / "bin").mkdir()
    for name in ("sh", "cat", "sleep"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", f"{tmp_path}:{tmp_path}/bin")
    assert Slurm().look([ARRAY]).history_ok is None
    report = Slurm(history="sacct").look([ARRAY])  # the site says that there is one
    assert (report.history_ok, len(report.warnings)) == (False, 1)


@pytest.mark.parametrize(
    ("text", "status", "seconds"),
    [
        ("", 0, 0),  # lost
        (HEADER + RUNS[:-9], 0, 0),
        (HEADER + RUNS, 1, 0),
        (HEADER + "Segmentation fault\n" + RUNS, 0, 0),
        (b"\xff\xfe\x00garbage\n", 0, 0),
        (HEADER + RUNS, 0, 30),
    ],
)
def test_bad_answers_say_nothing(say: Say, text: str | bytes, status: int, seconds: float) -> None:
    say("squeue", text, status, "squeue: error: something\n", seconds)
    calls = say("sacct", HISTORY + "7_0|COMPLETED|0:0|1|2|3|n0||lfX|\n")
    client = Slurm(timeout_s=0.7)
    report = client.look([ARRAY])
    assert (report.tasks, report.live_ok, report.history_ok) == ({}, False, False)
    assert len(report.warnings) == 1
    assert not calls.exists()  # accounts lag: they are no substitute for the queue
    with pytest.raises(SchedulerUnreachableError):
        client.find(["lfX"], 0.0)


@pytest.mark.parametrize(
    ("text", "status", "seconds"),
    [("", 0, 0), (HISTORY[:-5], 0, 0), (HISTORY + "7_0|FAI", 0, 0), (HISTORY, 1, 0), (HISTORY, 0, 30)],
)
def test_bad_histories_say_nothing(say: Say, text: str, status: int, seconds: float) -> None:
    say("squeue", HEADER + RUNS)
    say("sacct", text, status, "sacct: error: something\n", seconds)
    client = Slurm(timeout_s=0.7)
    report = client.look([ARRAY])
    assert (set(report.tasks), report.live_ok, report.history_ok) == ({("7", 0)}, True, False)
    assert len(report.warnings) == 1
    with pytest.raises(SchedulerUnreachableError):
        client.find(["lfOTHER"], 0.0)


def test_what_lives_wins_over_accounts(say: Say) -> None:
    say("squeue", HEADER + RUNS + "lf{7|1|TELEPORTED|n0|9|1|None|lfX}lf\n")
    rows = [f"7_{index}|NODE_FAIL|0:0|1|2|3|n0||lfX|\n" for index in range(3)]
    say("sacct", HISTORY + "".join(rows) + "8|FAILED|1:0|1|2|3|n0||lfX|\n7_3|EVAPORATED|0:0|1|2|3|n0||lfX|\n")
    report = Slurm().look([ARRAY])
    assert {index: seen.state for (_, index), seen in report.tasks.items()} == {
        0: RunState.RUNNING,
        1: RunState.UNKNOWN,
        2: RunState.NODE_FAIL,
        3: RunState.UNKNOWN,
    }
    assert report.warnings == tuple(
        f"Slurm says '{word}' of job 7: a state that is not known here"
        for word in ("TELEPORTED", "EVAPORATED")
    )


@pytest.mark.parametrize(
    ("text", "status", "seconds"),
    [("", 0, 0), ("12", 0, 0), ("123\n", 1, 0), ("", 1, 0), ("123\n", 0, 30), ("ok!\n", 0, 0)],
)
def test_submissions_that_nobody_knows_of(
    say: Say, tmp_path: Path, text: str, status: int, seconds: float
) -> None:
    say("sbatch", text, status, "", seconds)
    script = tmp_path / "s.sh"
    script.touch()
    with pytest.raises(SubmissionUncertainError, match="reconcile"):
        Slurm(timeout_s=0.7).submit(script)


def test_a_full_cluster_lets_sbatch_wait(say: Say, tmp_path: Path) -> None:
    said = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
    say("sbatch", "", 0, said, 30)
    script = tmp_path / "s.sh"
    script.touch()
    with pytest.raises(SubmissionUncertainError, match="as many jobs as it can"):
        Slurm(timeout_s=0.7).submit(script)


def test_receipts_name_the_cluster(say: Say, tmp_path: Path) -> None:
    calls = say("sbatch", "Welcome\n123;perlmutter\n", 0, "sbatch: a remark of the site\n")
    script = tmp_path / "s.sh"
    script.touch()
    accepted = Slurm(cluster="perlmutter").submit(script)
    assert (accepted.job, accepted.cluster) == ("123", "perlmutter")
    assert "a remark of the site" in accepted.output
    assert calls.read_text().split() == ["--parsable", "--clusters=perlmutter", str(script)]


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("PrivateData             = none\n", False),
        ("PrivateData             = jobs,usage\n", True),
        ("ClusterName             = c\n", True),  # it broke off before it came to that
        ("", True),
    ],
)
def test_other_users_jobs_may_be_hidden(say: Say, text: str, hidden: bool) -> None:
    say("scontrol", text)
    assert Slurm().hides_others() is hidden


TEXTS = st.one_of(
    st.text(max_size=60),
    st.builds(
        lambda head, rows, cut: "".join([head, *rows])[:cut],
        st.sampled_from([HEADER, HISTORY, "", "CLUSTER: x\n" + HEADER]),
        st.lists(
            st.sampled_from([RUNS, WAITS, "7_0|FAILED|1:0|1|2|3|n0||lfX|\n", "7|FAILED|", "\n", "{}lf"])
        ),
        st.integers(0, 500),
    ),
)
ANSWERS = st.one_of(
    st.builds(Answer, st.sampled_from([0, 0, 0, 1, -9, 255]), TEXTS, TEXTS),
    st.just(CommandError("no answer within 60 s", command=["x"])),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANSWERS, min_size=8, max_size=8))
def test_looking_never_raises(monkeypatch: pytest.MonkeyPatch, answers: list[Answer | CommandError]) -> None:
    left = list(answers)

    def answer(*_: object, **__: object) -> Answer:
        said = left.pop()
        if isinstance(said, CommandError):
            raise said
        return said

    monkeypatch.setattr(module, "ask", answer)
    report = Slurm().look([ARRAY, Job("7", "", 0, time.time()), Job("8", "", 0, time.time(), "other")])
    if not report.live_ok:
        assert report.warnings
    ends = {key for key, seen in report.tasks.items() if seen.state.is_final}
    # The only ends among all these texts are two whole rows of accounts.
    assert ends <= {("7", 0), ("7", PLAIN)}
