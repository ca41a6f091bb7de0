"""PBS Pro through its client programs, which are fakes here; their jobs really run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.command import ask
from lfadsrm_hpc.errors import (
    SchedulerRefusedError,
    SchedulerUnreachableError,
    SubmissionUncertainError,
)
from lfadsrm_hpc.manifest.evidence import Seen
from lfadsrm_hpc.manifest.states import RunState as S
from lfadsrm_hpc.schedulers.batch import PLAIN, Accepted, Job
from lfadsrm_hpc.schedulers.pbs import client
from lfadsrm_hpc.schedulers.pbs.pbspro import SINGLY, PbsPro

SUBMISSION = "01J8ZQ3V5T7M9K2N4P6R8S0ABC"
NAME = "lf4P6R8S0ABC0"


def script(folder: Path, body: str = "true", *, size: int = 0, name: str = NAME, options: str = "") -> Path:
    path = folder / "job script.sh"
    lines = ["#!/bin/bash", f"#PBS -N {name}", f"#PBS -v LFADSRM_SUBMISSION={SUBMISSION}", "#PBS -j oe"]
    lines += [f"#PBS -o {folder}/", "#PBS -l select=1:ncpus=1:mem=1gb", "#PBS -l walltime=0:01:00"]
    lines += [f"#PBS -J 0-{size - 1}"] if size else []
    lines += [f"#PBS {options}"] if options else []
    path.write_text("\n".join([*lines, body, ""]))
    return path


def sent(accepted: Accepted, size: int = 0) -> Job:
    return Job(accepted.job, NAME, size, time.time())


def look(scheduler: PbsPro, job: Job) -> list[Seen | None]:
    report = scheduler.look([job])
    assert report.live_ok
    return [report.tasks.get((job.id, index)) for index in job.indices]


def states(scheduler: PbsPro, job: Job) -> list[S | None]:
    return [seen.state if seen else None for seen in look(scheduler, job)]


@pytest.fixture
def scheduler(pbspro: Any) -> PbsPro:
    return PbsPro(timeout_s=20)


@pytest.fixture
def put(pbspro: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put another program in the place of a client."""

    def replace(program: str, body: str) -> None:
        path = pbspro.bin / program
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    return replace


# -- submitting ------------------------------------------------------------------------------------------


def test_an_array_runs_with_its_variables_from_its_home(
    scheduler: PbsPro, pbspro: Any, tmp_path: Path
) -> None:
    body = (
        'echo "$PBS_ARRAY_INDEX $PBS_ARRAY_ID $PBS_JOBID $LFADSRM_SUBMISSION $PWD"; exit "$PBS_ARRAY_INDEX"'
    )
    accepted = scheduler.submit(script(tmp_path, body, size=3))
    assert accepted.job == "1[].vm"
    assert accepted.output == "1[].vm"
    pbspro.wait(accepted.job)
    job = sent(accepted, 3)
    assert [(seen.state, seen.code) for seen in look(scheduler, job) if seen] == [
        (S.COMPLETED, 0),
        (S.FAILED, 1),
        (S.FAILED, 2),
    ]
    for index in range(3):
        home = pbspro.folder / "home"
        text = (tmp_path / f"1[{index}].vm.OU").read_text()
        assert text == f"{index} 1[].vm 1[{index}].vm {SUBMISSION} {home}\n"


def test_a_plain_job(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    accepted = scheduler.submit(script(tmp_path, "kill -SEGV $$"))
    assert accepted.job == "1.vm"
    pbspro.wait(accepted.job)
    (seen,) = look(scheduler, sent(accepted))
    assert seen is not None
    assert (seen.state, seen.code, seen.signal, seen.live) == (S.FAILED, None, 11, False)
    assert seen.ended is not None
    assert abs(seen.ended - time.time()) < 20


@pytest.mark.parametrize(
    ("options", "words", "hint"),
    [
        ("-q nowhere", "Unknown queue", "qstat -Q"),
        ("-l gpus=1", "Unknown resource", "site's description"),
        ("-l walltime=soon", "Illegal attribute or resource value", "walltime"),
        ("-J 3-3", "illegal -J value", "option"),
        ("-l nodes=1:ppn=2", "cannot be used with", "option"),
        ("-q short -l walltime=10:00:00", "resource limits", "queue"),
    ],
)
def test_refusals_say_why_and_what_to_do(
    scheduler: PbsPro, pbspro: Any, tmp_path: Path, options: str, words: str, hint: str
) -> None:
    with pytest.raises(SchedulerRefusedError, match=words) as caught:
        scheduler.submit(script(tmp_path, options=options))
    assert hint in str(caught.value.hint)
    assert pbspro.jobs() == {}


def test_what_a_hook_of_the_site_says_is_passed_on(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    pbspro.set(refuse=[32, "qsub: Request rejected.  Reason: ask for filesystems with -l filesystems=home"])
    with pytest.raises(SchedulerRefusedError, match="-l filesystems=home"):
        scheduler.submit(script(tmp_path))


def test_a_server_that_is_down_has_taken_nothing(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    pbspro.set(down=True)
    job = Job("1[].vm", NAME, 3, time.time())
    with pytest.raises(SchedulerUnreachableError, match="cannot connect to server"):
        scheduler.submit(script(tmp_path))
    report = scheduler.look([job])
    assert not report.live_ok
    assert report.tasks == {}
    assert "cannot connect" in report.warnings[0]
    for call in (
        lambda: scheduler.find([NAME], 0),
        lambda: scheduler.cancel(job),
        lambda: scheduler.throttle(job, 2),
        scheduler.version,
    ):
        with pytest.raises(SchedulerUnreachableError, match="cannot connect"):
            call()
    pbspro.set(down=False)
    assert scheduler.version() == "pbspro 23.06.06"
    assert pbspro.jobs() == {}


def test_without_the_programs_nothing_was_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SchedulerUnreachableError, match="cannot be started") as caught:
        PbsPro().submit(script(tmp_path))
    assert "login node" in str(caught.value.hint)
    assert not PbsPro().look([Job("1.vm", NAME, 0, 0)]).live_ok
    with pytest.raises(SchedulerUnreachableError):
        PbsPro().version()


@pytest.mark.parametrize(
    "body",
    [
        "sleep 30",  # accepted or not, nobody knows
        "exit 0",  # no id
        "echo 1",  # half an id
        "printf '123[].v'",
        "echo 1.vm; echo 2.vm",
        "echo Welcome",
        "echo 12.vm; exit 1",
        "kill -9 $$",
        "exit 137",
        "echo 'qsub: End of File' >&2; exit 15",
        "echo 'qsub: Communication failure.' >&2; exit 1",
        "printf '\\377\\376\\000'",
    ],
)
def test_anything_unclear_is_uncertain(put: Any, tmp_path: Path, body: str) -> None:
    put("qsub", body)
    with pytest.raises(SubmissionUncertainError, match="may have taken"):
        PbsPro(timeout_s=1).submit(script(tmp_path))


def test_words_around_the_id_do_no_harm(put: Any, tmp_path: Path) -> None:
    put(
        "qsub",
        "echo 'Project x: 12.5 hours left'; echo '77[].pbs-1.site.example.org'; echo 'mind the heat' >&2",
    )
    accepted = PbsPro().submit(script(tmp_path))
    assert accepted.job == "77[].pbs-1.site.example.org"
    assert "mind the heat" in accepted.output


def test_the_clients_get_no_defaults_of_another_job(
    put: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What says where the server is stays; what belongs to a job we may be in goes."""
    for name in (
        "PBS_JOBID",
        "PBS_ARRAY_INDEX",
        "PBS_O_WORKDIR",
        "PBS_NODEFILE",
        "PBS_DPREFIX",
        "PBS_ENVIRONMENT",
    ):
        monkeypatch.setenv(name, "x")
    for name in ("PBS_DEFAULT", "PBS_SERVER", "PBS_CONF_FILE", "PBS_EXEC"):
        monkeypatch.setenv(name, "y")
    put(
        "qsub",
        f"env | grep '^PBS_' | cut -d= -f1 | sort > '{tmp_path}/names'; pwd > '{tmp_path}/cwd'; echo 5.vm",
    )
    PbsPro().submit(script(tmp_path))
    names = (tmp_path / "names").read_text().split()
    assert names == ["PBS_CONF_FILE", "PBS_DEFAULT", "PBS_EXEC", "PBS_SERVER"]
    assert (tmp_path / "cwd").read_text().strip() == str(tmp_path)


# -- looking ---------------------------------------------------------------------------------------------


def test_waiting_held_running_and_deleted(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    pbspro.set(slots=2)
    job = sent(scheduler.submit(script(tmp_path, "sleep 60", size=4)), 4)
    pbspro.wait(job.id, "RRQQ")
    assert states(scheduler, job) == [S.RUNNING, S.RUNNING, S.PENDING, S.PENDING]
    held = sent(scheduler.submit(script(tmp_path, "true", options="-h")))
    (seen,) = look(scheduler, held)
    assert seen is not None
    assert seen.state is S.HELD
    assert "held by its user" in seen.reason
    scheduler.cancel(job, [1, 3])
    pbspro.wait(job.id, "RXRX")
    seen_of = look(scheduler, job)
    assert [seen.state for seen in seen_of if seen] == [S.RUNNING, S.CANCELLED, S.RUNNING, S.CANCELLED]
    assert seen_of[1] is not None
    assert seen_of[1].signal == 15
    assert seen_of[3] is not None
    assert seen_of[3].reason == "deleted before it ran"
    scheduler.cancel(job)
    pbspro.wait(job.id)
    assert states(scheduler, job) == [S.CANCELLED] * 4
    scheduler.cancel(job)  # what has ended is no error
    scheduler.cancel(job, [0, 2])


def test_a_held_array_holds_its_tasks(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    job = sent(scheduler.submit(script(tmp_path, size=2, options="-h")), 2)
    assert states(scheduler, job) == [S.HELD] * 2
    pbspro.call("qrls", job.id)
    pbspro.wait(job.id)
    assert states(scheduler, job) == [S.COMPLETED] * 2


def test_walltime_lost_nodes_and_reruns(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    pbspro.set(kill_delay_s=0.2)
    body = 'trap "" TERM; [ "$PBS_ARRAY_INDEX" = 0 ] || exec sleep 60; sleep 60 & wait; wait'
    job = sent(scheduler.submit(script(tmp_path, body, size=2, options="-l walltime=1")), 2)
    other = sent(scheduler.submit(script(tmp_path, 'echo "run" >> runs; sleep 60', size=2)), 2)
    pbspro.wait(other.id, "RR")
    pbspro.call("qrerun", "2[0].vm")
    pbspro.break_node(other.id, 1)
    pbspro.wait(other.id, "RX")
    first, second = look(scheduler, other)
    assert first is not None
    assert second is not None
    assert first.state is S.RUNNING
    assert (second.state, second.reason) == (S.NODE_FAIL, "its node was lost")
    deadline = time.monotonic() + 90
    while (pbspro.folder / "home" / "runs").read_text().count("run") < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert pbspro.task(other.id, 0)["runs"] == 2
    pbspro.wait(job.id)
    assert states(scheduler, job) == [S.TIMEOUT] * 2


def test_history_that_is_off(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    """`qstat -x` then says so, and prints no job at all: that is no absence."""
    pbspro.set(history=False, slots=1)
    job = sent(scheduler.submit(script(tmp_path, 'exit "$PBS_ARRAY_INDEX"; true', size=2, options="-h")), 2)
    report = scheduler.look([job])
    assert report.live_ok
    assert report.history_ok is None
    assert {seen.state for seen in report.tasks.values()} == {S.HELD}
    calls = len(pbspro.calls("qstat -x"))
    scheduler.look([job])
    assert len(pbspro.calls("qstat -x")) == calls  # asked once
    pbspro.call("qrls", job.id)
    pbspro.wait(job.id)
    report = scheduler.look([job])
    assert report.live_ok
    assert report.tasks == {}


def test_ended_tasks_of_a_living_array_without_history(
    scheduler: PbsPro, pbspro: Any, tmp_path: Path
) -> None:
    """Their records are gone, and each is said to have finished: as good as absent."""
    pbspro.set(history=False)
    job = sent(
        scheduler.submit(
            script(tmp_path, '(( PBS_ARRAY_INDEX == 2 )) && sleep 60; exit "$PBS_ARRAY_INDEX"', size=3)
        ),
        3,
    )
    pbspro.wait(job.id, "XXR")
    assert states(scheduler, job) == [None, None, S.RUNNING]


def test_history_that_vanishes(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    job = sent(scheduler.submit(script(tmp_path, size=2)), 2)
    pbspro.wait(job.id)
    assert scheduler.look([job]).history_ok is True
    pbspro.set(history_s=0)
    report = scheduler.look([job])
    assert (report.live_ok, report.history_ok, report.tasks, report.warnings) == (True, True, {}, ())


def test_a_site_may_say_that_there_is_no_history(pbspro: Any, tmp_path: Path) -> None:
    scheduler = PbsPro(history="none")
    job = sent(scheduler.submit(script(tmp_path)))
    pbspro.wait(job.id)
    report = scheduler.look([job])  # exit code 35: it has ended
    assert (report.live_ok, report.history_ok, report.tasks) == (True, None, {})
    assert pbspro.calls("qstat -x") == []


@pytest.mark.parametrize("many", [False, True])
def test_one_look_for_many_jobs(scheduler: PbsPro, pbspro: Any, tmp_path: Path, many: bool) -> None:
    """Never two ids in one call: it prints the first only. Absence needs the server's own word."""
    pbspro.set(scheduling=False)
    count = SINGLY + 2 if many else 3
    jobs = [sent(scheduler.submit(script(tmp_path, size=2 * (n % 2))), 2 * (n % 2)) for n in range(count)]
    ghost = Job("999[].vm", NAME, 5, time.time())
    calls = len(pbspro.calls("qstat"))
    report = scheduler.look([jobs[0], ghost, *jobs[1:]])
    assert report.live_ok
    assert set(report.tasks) == {(job.id, index) for job in jobs for index in job.indices}
    assert {seen.state for seen in report.tasks.values()} == {S.PENDING}
    asked = pbspro.calls("qstat")[calls:]
    assert len(asked) == (2 if many else count + 1)
    assert all(line.count(".vm") <= 1 for line in asked)


def test_jobs_that_can_never_run_are_told_of(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    job = sent(scheduler.submit(script(tmp_path, size=2, options="-l select=1:ncpus=99")), 2)
    report = scheduler.look([job])
    assert {seen.state for seen in report.tasks.values()} == {S.PENDING}
    assert {seen.reason[:13] for seen in report.tasks.values()} == {"Can Never Run"}
    assert report.warnings == (
        "job 1[].vm cannot start: Can Never Run: Insufficient amount of resource: ncpus (R: 99 A: 8 T: 8)",
    )


@pytest.mark.parametrize("form", ["good", "broken"])
def test_variables_that_break_the_answer(scheduler: PbsPro, pbspro: Any, tmp_path: Path, form: str) -> None:
    """Quotes, numbers, bytes that are not UTF-8, and what looks like the state of a job."""
    pbspro.set(json=form, slots=1)
    odd = b'A=1e5,B=007,C=\xff\xfe,D={"job_state": "F"},E=nan,F=a\\b'
    plain = script(tmp_path, "sleep 60", size=2)
    pbspro.call(b"qsub", b"-v", odd + f",LFADSRM_SUBMISSION={SUBMISSION}".encode(), os.fsencode(plain))
    job = Job("1[].vm", NAME, 2, time.time())
    pbspro.wait(job.id, "RQ")
    assert states(scheduler, job) == [S.RUNNING, S.PENDING]
    (found,) = scheduler.find([NAME], time.time())
    assert found.submission == SUBMISSION


@pytest.mark.parametrize(
    "body",
    [
        "exit 0",
        "sleep 30",
        "echo '{'",
        'echo \'{"timestamp": 1, "pbs_version": "23.06.06"}\'',  # the server went away in between
        "echo 'qstat: End of File' >&2; exit 1",
        "echo 'qstat: illegal option -F' >&2; exit 2",
        "echo '<Data></Data>'",
        "head -c 1000 /dev/urandom",
    ],
)
def test_answers_that_cannot_be_read_say_nothing(put: Any, body: str) -> None:
    put("qstat", body)
    scheduler = PbsPro(timeout_s=1)
    for jobs in ([Job("1[].vm", NAME, 2, 0)], [Job(f"{n}.vm", NAME, 0, 0) for n in range(SINGLY + 1)]):
        report = scheduler.look(jobs)
        assert not report.live_ok
        assert report.tasks == {}
        assert report.warnings
    with pytest.raises(SchedulerUnreachableError):
        scheduler.find([NAME], 0)
    with pytest.raises(SchedulerUnreachableError):
        scheduler.version()


def test_half_an_answer_is_not_whole(pbspro: Any, put: Any, tmp_path: Path) -> None:
    scheduler = PbsPro()
    job = sent(scheduler.submit(script(tmp_path, size=3)), 3)
    pbspro.wait(job.id)
    real = pbspro.call("qstat", "-x", "-t", "-f", "-F", "json", job.id).stdout
    (tmp_path / "half").write_bytes(real[: len(real) * 3 // 4])
    put("qstat", f"cat '{tmp_path}/half'")
    report = scheduler.look([job])
    assert not report.live_ok
    assert report.tasks[job.id, 0].state is S.COMPLETED
    assert (job.id, 2) not in report.tasks
    with pytest.raises(SchedulerUnreachableError, match="cannot be read whole"):
        scheduler.find([NAME], 0)


def test_a_slow_server_costs_one_time_limit(pbspro: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pbspro.set(delay_s={"qstat": 600})
    limits = []

    def asked(*args: Any, timeout_s: float, **rest: Any) -> Any:
        limits.append(timeout_s)
        return ask(*args, timeout_s=timeout_s, **rest)

    monkeypatch.setattr(client, "ask", asked)
    report = PbsPro(timeout_s=0.5).look([Job(f"{n}.vm", NAME, 0, 0) for n in range(4)])
    assert limits == [0.5]
    assert not report.live_ok


def test_no_jobs_no_question(scheduler: PbsPro, pbspro: Any) -> None:
    assert scheduler.look([]).tasks == {}
    assert pbspro.calls() == []


def test_servers_that_name_themselves_in_two_ways(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    pbspro.set(scheduling=False)
    scheduler.submit(script(tmp_path, size=2))
    job = Job("1[].vm.example.org", NAME, 2, time.time())
    assert states(scheduler, job) == [S.PENDING] * 2


# -- finding, cancelling, throttling ---------------------------------------------------------------------


def test_finding_living_and_ended_jobs_by_name(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    before = time.time()
    assert scheduler.find([NAME], before) == []
    scheduler.submit(script(tmp_path, size=2))
    scheduler.submit(script(tmp_path, name="somethingelse"))
    scheduler.submit(script(tmp_path, name="lf4P6R8S0ABC1"))
    for number in (1, 2, 3):
        pbspro.wait(f"{number}.vm")
    found = scheduler.find([NAME, "lf4P6R8S0ABC1"], before)
    assert [(one.job, one.name, one.submission) for one in found] == [
        ("1[].vm", NAME, SUBMISSION),
        ("3.vm", "lf4P6R8S0ABC1", SUBMISSION),
    ]
    assert scheduler.find([NAME], time.time() + 7200) == []


def test_cancelling_many_tasks_takes_few_calls(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    pbspro.set(scheduling=False)
    job = sent(scheduler.submit(script(tmp_path, size=250)), 250)
    scheduler.cancel(job, range(5, 250))
    assert pbspro.states(job.id) == "Q" * 5 + "X" * 245
    assert pbspro.calls("qdel") == ["qdel 1[5-249].vm"]
    ghost = Job("77.vm", NAME, 0, 0)
    scheduler.cancel(ghost)  # long gone
    scheduler.cancel(job, [3, 200, 4])  # one of them is
    assert pbspro.states(job.id) == "QQQ" + "X" * 247


def test_cancelling_here_and_there_deletes_these_tasks_and_no_others(
    scheduler: PbsPro, pbspro: Any, tmp_path: Path
) -> None:
    """qdel makes one id of all operands of one array, and cuts it at 255 characters."""
    pbspro.set(scheduling=False)
    job = sent(scheduler.submit(script(tmp_path, size=1200)), 1200)
    scheduler.cancel(job, range(998, 1200, 2))
    gone = {index for index, state in enumerate(pbspro.states(job.id)) if state == "X"}
    assert gone == set(range(998, 1200, 2))
    assert all(len(line.split()) == 2 for line in pbspro.calls("qdel"))


def test_refused_cancelling_is_told(put: Any) -> None:
    put("qdel", "echo 'qdel: Unauthorized Request  1.vm' >&2; exit 159")
    with pytest.raises(SchedulerRefusedError, match="Unauthorized Request"):
        PbsPro().cancel(Job("1.vm", NAME, 0, 0))
    put("qdel", "sleep 20")
    with pytest.raises(SchedulerUnreachableError, match="no answer"):
        PbsPro(timeout_s=0.5).cancel(Job("1.vm", NAME, 0, 0))
    put("qdel", "kill -9 $$")
    with pytest.raises(SchedulerUnreachableError):
        PbsPro().cancel(Job("1.vm", NAME, 0, 0))


def test_throttling(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    pbspro.set(slots=20)
    path = script(tmp_path, "sleep 60")
    path.write_text(path.read_text().replace("#PBS -j oe", "#PBS -j oe\n#PBS -J 0-5%2"))
    job = sent(scheduler.submit(path), 6)
    pbspro.wait(job.id, "RRQQQQ")
    scheduler.throttle(job, 3)
    pbspro.wait(job.id, "RRRQQQ")
    scheduler.throttle(job, 0)
    pbspro.wait(job.id, "RRRRRR")
    plain = sent(scheduler.submit(script(tmp_path)))
    scheduler.throttle(plain, 3)  # nothing to limit
    scheduler.cancel(job)
    pbspro.wait(job.id)
    scheduler.throttle(job, 1)  # too late to matter
    assert len(pbspro.calls("qalter")) == 3


def test_versions_without_throttle_say_so(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    pbspro.set(throttle=False, scheduling=False)
    job = sent(scheduler.submit(script(tmp_path, size=3)), 3)
    with pytest.raises(SchedulerRefusedError, match="how many tasks run at once") as caught:
        scheduler.throttle(job, 2)
    assert "--max-parallel" in str(caught.value.hint)


def test_output_that_cannot_be_written_hangs_the_job(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    job = sent(scheduler.submit(script(tmp_path, options="-o /nonexistent/x")))
    pbspro.wait(job.id, "E")
    assert states(scheduler, job) == [S.RUNNING]


def test_the_contract_of_indices(scheduler: PbsPro, pbspro: Any, tmp_path: Path) -> None:
    job = sent(scheduler.submit(script(tmp_path)))
    pbspro.wait(job.id)
    assert list(scheduler.look([job]).tasks) == [(job.id, PLAIN)]
