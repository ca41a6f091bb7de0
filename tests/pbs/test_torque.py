"""Torque through its client programs, which are fakes here; their jobs really run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.errors import (
    SchedulerRefusedError,
    SchedulerUnreachableError,
    SubmissionUncertainError,
)
from lfadsrm_hpc.manifest.states import RunState as S
from lfadsrm_hpc.schedulers.batch import PLAIN, Accepted, Job
from lfadsrm_hpc.schedulers.pbs.pbspro import SINGLY
from lfadsrm_hpc.schedulers.pbs.torque import Torque
from lfadsrm_hpc.schedulers.pbs.torque_parsing import (
    TorqueRecord,
    parse_full,
    parse_table,
    parse_xml,
    tasks_of,
)

SUBMISSION = "01J8ZQ3V5T7M9K2N4P6R8S0ABC"
NAME = "lf4P6R8S0ABC0"

XML = """<Data><Job><Job_Id>12[0].head.example.org</Job_Id><Job_Name>lfarr-0</Job_Name>\
<Job_Owner>ann@login.example.org</Job_Owner><resources_used><cput>00:00:01</cput><mem>900kb</mem>\
<walltime>01:00:03</walltime></resources_used><job_state>C</job_state><queue>batch</queue>\
<exec_host>n1/0+n1/1</exec_host><Resource_List><nodes>1:ppn=2</nodes><walltime>01:00:00</walltime>\
</Resource_List><Variable_List>PBS_O_HOME=/home/ann,X=a&lt;b&gt;</Variable_List>\
<exit_status>271</exit_status><comp_time>1795352159</comp_time></Job>\
<Job><Job_Id>12[1].head.example.org</Job_Id><Job_Name>lfarr-1</Job_Name><job_state>E</job_state>\
<exec_host>n1/2</exec_host><exit_status>3</exit_status></Job>\
<Job><Job_Id>12[2].head.example.org</Job_Id><Job_Name>lfarr-2</Job_Name><job_state>C</job_state>\
<exec_host>n1/2</exec_host><exit_status>{status}</exit_status></Job></Data>
"""


@pytest.mark.parametrize(
    ("status", "state", "code", "signal"),
    [
        (0, S.COMPLETED, 0, None),
        (1, S.FAILED, 1, None),
        (139, S.FAILED, None, 11),
        (265, S.FAILED, None, 9),
        (271, S.CANCELLED, None, 15),
        (-1, S.NODE_FAIL, None, None),
        (-3, S.NODE_FAIL, None, None),
        (-10, S.OUT_OF_MEMORY, None, None),
        (-11, S.TIMEOUT, None, None),
        (-12, S.TIMEOUT, None, None),
    ],
)
def test_xml_and_exit_status(status: int, state: S, code: int | None, signal: int | None) -> None:
    answer = parse_xml(XML.format(status=status))
    assert answer.whole
    found = tasks_of(answer, "12", range(4))
    assert found is not None
    assert (found[0].state, found[0].signal, found[0].ended) == (S.TIMEOUT, 15, 1795352159)
    assert found[0].host == "n1/0+n1/1"
    assert (found[1].state, found[1].reason) == (S.RUNNING, "ending")
    assert (found[2].state, found[2].code, found[2].signal) == (state, code, signal)
    assert found[2].curable is (status != -12)
    assert 3 not in found
    assert answer.jobs[0].variable("X") == "a<b>"
    assert answer.jobs[0].name == "lfarr"


@pytest.mark.parametrize("cut", [1, 7, 8, 150])
def test_cut_xml_is_not_whole(cut: int) -> None:
    answer = parse_xml(XML.format(status=0).strip()[:-cut])
    assert not answer.whole
    assert len(answer.jobs) == (3 if cut <= len("</Data>") else 2)


def test_full_text_and_table() -> None:
    text = (
        "Job Id: 12[0].head\n    Job_Name = lfarr-0\n    job_state = C\n    exec_host = n1/0\n"
        "    Variable_List = A=1,PBS_O_PATH=/usr/bin:/a/very/long/p\n\tath,LFADSRM_SUBMISSION=01J\n"
        "    exit_status = 2\n\nJob Id: 13.head\n    job_state = H\n\n"
    )
    answer = parse_full(text)
    assert answer.whole
    assert answer.jobs[0].variable("LFADSRM_SUBMISSION") == "01J"
    found = tasks_of(answer, "12", [0])
    assert found is not None
    assert (found[0].state, found[0].code) == (S.FAILED, 2)
    assert tasks_of(answer, "13", [PLAIN]) is not None
    half = parse_full(text[:-1])
    assert not half.whole
    assert [job.id for job in half.jobs] == ["12[0].head"]

    table = (
        "Job ID                    Name             User            Time Use S Queue\n"
        "------------------------- ---------------- --------------- -------- - -----\n"
        "12[0].head                lfarr-0          ann             00:00:01 R batch\n"
        "12[1].head                lfarr-1          ann                    0 Q batch\n"
        "12[2].head                lfarr-2          ann             00:00:01 C batch\n"
    )
    found = tasks_of(parse_table(table), "12", range(3))
    assert found is not None
    assert [seen.state for seen in found.values()] == [S.RUNNING, S.PENDING, S.UNKNOWN]
    assert parse_table(table).whole
    assert not parse_table(table[:-20]).whole


@pytest.mark.parametrize(
    ("job", "shown"),
    [("12.head", "lfarr"), ("12[3].head", "lfarr-3"), ("12-3.head", "lfarr-3"), ("12[3].head", "lfarr[3]")],
)
def test_a_task_has_the_name_of_its_array(job: str, shown: str) -> None:
    assert TorqueRecord(job, {"Job_Name": shown}).name == "lfarr"


def script(folder: Path, body: str = "true", *, size: int = 0, options: str = "") -> Path:
    path = folder / "job script.sh"
    lines = ["#!/bin/bash", f"#PBS -N {NAME}", f"#PBS -v LFADSRM_SUBMISSION={SUBMISSION}", "#PBS -j oe"]
    lines += [f"#PBS -o {folder}/", "#PBS -l nodes=1:ppn=1", "#PBS -l walltime=0:01:00"]
    lines += [f"#PBS -t 0-{size - 1}"] if size else []
    lines += [f"#PBS {options}"] if options else []
    path.write_text("\n".join([*lines, body, ""]))
    return path


def sent(accepted: Accepted, size: int = 0) -> Job:
    return Job(accepted.job, NAME, size, time.time())


def states(scheduler: Torque, job: Job) -> list[S | None]:
    report = scheduler.look([job])
    assert report.live_ok
    assert report.history_ok is None
    return [seen.state if (seen := report.tasks.get((job.id, i))) else None for i in job.indices]


@pytest.fixture
def scheduler(torque: Any) -> Torque:
    return Torque(timeout_s=20)


def test_an_array_from_its_submission_to_its_end(scheduler: Torque, torque: Any, tmp_path: Path) -> None:
    torque.set(slots=3)
    body = 'echo "$PBS_ARRAYID $PBS_JOBID $PWD"; (( PBS_ARRAYID == 2 )) && sleep 60; exit "$PBS_ARRAYID"'
    accepted = scheduler.submit(script(tmp_path, body, size=3))
    assert accepted.job == "1[].vm"
    job = sent(accepted, 3)
    torque.wait(job.id, "XXR")
    assert states(scheduler, job) == [S.COMPLETED, S.FAILED, S.RUNNING]
    scheduler.cancel(job, [2])
    torque.wait(job.id)
    assert states(scheduler, job) == [S.COMPLETED, S.FAILED, S.CANCELLED]
    assert (tmp_path / "1[1].vm.OU").read_text() == f"1 1[1].vm {torque.folder}/home\n"
    scheduler.cancel(job)
    torque.set(history_s=0)  # keep_completed is over
    assert states(scheduler, job) == [None] * 3


@pytest.mark.parametrize("usable", ["-x", "-f", "plain"])
def test_older_forms_of_the_answer(scheduler: Torque, torque: Any, tmp_path: Path, usable: str) -> None:
    """A version, or a wrapper, that refuses `-x` is asked for the next best."""
    refused = {"-x": "", "-f": "x", "plain": "xf"}[usable]
    if refused:
        real = torque.bin / "real qstat"
        (torque.bin / "qstat").rename(real)
        (torque.bin / "qstat").write_text(
            f"#!/bin/bash\nfor arg; do [[ $arg == -[{refused}] ]] && {{ echo usage >&2; exit 2; }}; done\n"
            f'exec "{real}" "$@"\n'
        )
        (torque.bin / "qstat").chmod(0o755)
    torque.set(slots=3)
    body = "(( PBS_ARRAYID )) && sleep 60; exit 4"
    job = sent(scheduler.submit(script(tmp_path, body, size=3)), 3)
    held = sent(scheduler.submit(script(tmp_path, options="-h")))
    torque.wait(job.id, "XRR")
    ended = S.UNKNOWN if usable == "plain" else S.FAILED
    assert states(scheduler, job) == [ended, S.RUNNING, S.RUNNING]
    assert states(scheduler, held) == [S.HELD]
    found = {one.job: one for one in scheduler.find([NAME], 0)}
    assert set(found) == {"1[].vm", "2.vm"}
    if usable != "plain":
        assert {one.submission for one in found.values()} == {SUBMISSION}


def test_walltime_deleted_waiting_and_throttle(scheduler: Torque, torque: Any, tmp_path: Path) -> None:
    torque.set(kill_delay_s=0.2)
    long = sent(scheduler.submit(script(tmp_path, "sleep 60", options="-l walltime=1")))
    path = script(tmp_path, "sleep 60")
    path.write_text(path.read_text().replace("#PBS -j oe", "#PBS -j oe\n#PBS -t 0-3%1"))
    job = sent(scheduler.submit(path), 4)
    torque.wait(job.id, "RQQQ")
    scheduler.cancel(job, [3])
    assert states(scheduler, job) == [S.RUNNING, S.PENDING, S.PENDING, S.CANCELLED]
    scheduler.throttle(job, 2)
    torque.wait(job.id, "RRQX")
    scheduler.throttle(job, 0)
    torque.wait(job.id, "RRRX")
    torque.wait(long.id)
    assert states(scheduler, long) == [S.TIMEOUT]


def test_many_jobs_and_one_that_is_unknown(scheduler: Torque, torque: Any, tmp_path: Path) -> None:
    torque.set(scheduling=False)
    jobs = [sent(scheduler.submit(script(tmp_path, size=2)), 2) for _ in range(SINGLY)]
    report = scheduler.look([Job("99.vm", NAME, 0, 0), *jobs])
    assert report.live_ok
    assert set(report.tasks) == {(job.id, index) for job in jobs for index in range(2)}


def test_refused_down_and_uncertain(scheduler: Torque, torque: Any, tmp_path: Path) -> None:
    with pytest.raises(SchedulerRefusedError, match="Unknown queue"):
        scheduler.submit(script(tmp_path, options="-q nowhere"))
    assert scheduler.version() == "torque 6.1.2"
    assert scheduler.find([NAME], 0) == []
    torque.set(down=True)
    with pytest.raises(SchedulerUnreachableError):
        scheduler.submit(script(tmp_path))
    with pytest.raises(SchedulerUnreachableError):
        scheduler.find([NAME], 0)
    with pytest.raises(SchedulerUnreachableError):
        scheduler.version()
    assert not scheduler.look([Job("1.vm", NAME, 0, 0)]).live_ok
    torque.set(down=False, delay_s={"qsub": 5, "qstat": 5})
    with pytest.raises(SubmissionUncertainError):
        Torque(timeout_s=0.3).submit(script(tmp_path))
    assert not Torque(timeout_s=0.3).look([Job("1.vm", NAME, 0, 0)]).live_ok


def test_an_answer_that_was_lost_is_no_absence(torque: Any) -> None:
    (torque.bin / "qstat").write_text("#!/bin/sh\nexit 0\n")
    report = Torque().look([Job("1.vm", NAME, 0, 0)])
    assert not report.live_ok
    assert report.warnings
    with pytest.raises(SchedulerUnreachableError):
        Torque().find([NAME], 0)
