"""What OpenPBS 23.06 really printed, and what it means, task by task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.manifest.evidence import Seen
from lfadsrm_hpc.manifest.states import RunState as S
from lfadsrm_hpc.schedulers.batch import PLAIN, Job
from lfadsrm_hpc.schedulers.pbs.parsing import Answer, JobRecord, never_runs, parse_answer, tasks_of
from lfadsrm_hpc.schedulers.pbs.pbspro import SINGLY, PbsPro

RECORDED = Path(__file__).resolve().parents[1] / "recorded"

Expected = list[tuple[S, str, int | None, int | None, str]]  # state, word, code, signal, host


def recorded(name: str) -> str:
    return (RECORDED / name).read_bytes().decode(errors="replace")


def answer(name: str) -> Answer:
    found = parse_answer(recorded(name))
    assert found.whole
    assert found.time is not None
    return found


def tasks(name: str, number: str, size: int, *, history: bool = True) -> list[Seen]:
    found = tasks_of(answer(name), number, range(size), history=history)
    assert found is not None
    assert list(found) == list(range(size))
    return list(found.values())


def plain(name: str, number: str) -> Seen:
    found = tasks_of(answer(name), number, [PLAIN], history=True)
    assert found is not None
    return found[PLAIN]


def short(seen: Seen) -> tuple[S, str, int | None, int | None, str]:
    return seen.state, seen.word, seen.code, seen.signal, seen.host


WAITS = (S.PENDING, "Q", None, None, "")


def runs(host: str) -> tuple[S, str, None, None, str]:
    return S.RUNNING, "R", None, None, host


def failed(word: str, code: int, host: str) -> tuple[S, str, int, None, str]:
    return S.FAILED, word, code, None, host


def done(word: str, host: str) -> tuple[S, str, int, None, str]:
    return S.COMPLETED, word, 0, None, host


@pytest.mark.parametrize(
    "name",
    ["pbs_array_running_t.json", "pbs_array_running_xt.json"],
)
def test_an_array_two_of_which_run(name: str) -> None:
    found = tasks(name, "1", 10)
    assert [short(seen) for seen in found] == [runs("vm/0"), runs("vm/1"), *[WAITS] * 8]
    assert {seen.reason for seen in found} == {""}  # the array's own comment is no reason to wait
    assert all(seen.live for seen in found)


@pytest.mark.parametrize("name", ["pbs_array_mid_t.json", "pbs_array_mid_xt.json"])
def test_an_array_four_of_which_have_ended(name: str) -> None:
    found = tasks(name, "1", 10)
    assert [short(seen) for seen in found] == [
        done("X", "vm/0"),
        failed("X", 1, "vm/1"),
        failed("X", 2, "vm/0"),
        done("X", "vm/1"),
        runs("vm/0"),
        runs("vm/1"),
        *[WAITS] * 4,  # although all of these show the array's Exit_status 0
    ]
    assert found[0].ended == 1795352152


def test_an_array_that_is_over() -> None:
    found = tasks("pbs_array_finished_xt.json", "1", 10)
    never_ran = (S.CANCELLED, "F", None, None, "")
    assert [short(seen) for seen in found] == [
        done("F", "vm/0"),
        failed("F", 1, "vm/1"),
        failed("F", 2, "vm/0"),
        done("F", "vm/1"),
        failed("F", 1, "vm/0"),
        failed("F", 2, "vm/1"),
        done("F", "vm/0"),
        *[never_ran] * 3,  # deleted while queued: Exit_status 0, substate 93, no host
    ]
    assert found[7].reason == "deleted before it ran"
    assert not any(seen.live for seen in found)
    assert found[4].ended == 1795352159


def test_without_a_history_a_subjob_without_a_host_may_have_done_anything() -> None:
    found = tasks_of(answer("pbs_array_finished_xt.json"), "1", range(10), history=False)
    assert found is not None
    assert [seen.state for seen in found.values()] == [
        S.COMPLETED, S.FAILED, S.FAILED, S.COMPLETED, S.FAILED, S.FAILED, S.COMPLETED,
    ]  # fmt: skip
    assert list(found) == list(range(7))  # of the others nothing is known but that they have ended


def test_an_array_alone_tells_only_what_waits() -> None:
    found = tasks("pbs_array_just_submitted.json", "1", 10)
    assert [seen.state for seen in found] == [S.UNKNOWN] * 2 + [S.PENDING] * 8
    assert found[5].reason == "Insufficient amount of resource: ngpus (R: 1 A: 0 T: 2)"
    for name in ("pbs_array_running_parent.json", "pbs_array_running_x.json"):
        assert [seen.state for seen in tasks(name, "1", 10)] == [S.UNKNOWN] * 2 + [S.PENDING] * 8
    over = tasks("pbs_array_finished_x.json", "1", 10)  # its own Exit_status is 0, and means nothing
    assert {seen.state for seen in over} == {S.UNKNOWN}


def test_subjobs_deleted_rerun_signalled() -> None:
    found = tasks("pbs_array_subjob_deleted_rerun.json", "43", 6)
    assert [short(seen) for seen in found] == [
        runs("vm/0"),
        (S.CANCELLED, "X", None, 15, "vm/1"),
        runs("vm/2"),
        failed("X", 4, "vm/3"),
        runs("vm/4"),
        runs("vm/5"),
    ]
    assert found[1].reason == "deleted by root@localhost"


def test_subjobs_deleted_rerun_signalled_at_the_end() -> None:
    found = tasks("pbs_array_subjob_final.json", "43", 6)
    assert [short(seen) for seen in found] == [
        failed("F", 4, "vm/0"),
        (S.CANCELLED, "F", None, 15, "vm/1"),
        failed("F", 4, "vm/2"),
        failed("F", 4, "vm/3"),
        failed("F", 4, "vm/4"),
        (S.CANCELLED, "F", 4, None, "vm/5"),  # deleted, but it trapped TERM and ended itself
    ]


PLAIN_JOBS: dict[str, tuple[S, str, int | None, int | None, str, str]] = {
    "0": (*done("F", "vm/0"), ""),
    "6": (*done("F", "vm/0"), ""),
    "7": (S.CANCELLED, "F", 0, None, "vm/1", "deleted by root@localhost"),
    "8": (*failed("F", 3, "vm/2"), ""),
    "9": (S.CANCELLED, "F", None, None, "", "deleted before it ran (it depended on afterok:8.vm@vm)"),
    "10": (*done("F", "vm/7"), ""),
    "11": (S.FAILED, "F", None, 11, "vm/3", ""),
    "12": (
        S.PENDING, "Q", None, None, "",
        "Can Never Run: Insufficient amount of resource: ncpus (R: 99 A: 8 T: 8)",
    ),
    "13": (S.CANCELLED, "F", None, 9, "vm/1", "deleted"),
    "14": (S.TIMEOUT, "F", None, None, "vm/5", "its walltime was over"),
    "16": (S.HELD, "H", None, None, "", "held by its user (`qrls` lets it go)"),
}  # fmt: skip


@pytest.mark.parametrize("number", PLAIN_JOBS)
def test_plain_jobs_of_all_kinds(number: str) -> None:
    seen = plain("pbs_all_x.json", number)
    assert (*short(seen), seen.reason) == PLAIN_JOBS[number]
    assert seen.live == (seen.word not in "FM")


def test_a_job_that_cannot_write_its_output_hangs_in_e() -> None:
    seen = plain("pbs_all_x.json", "15")
    assert short(seen) == (S.RUNNING, "E", None, None, "vm/6")
    assert seen.reason == "ending"
    later = recorded("pbs_all_x.json").replace('"timestamp":\t1795352236', '"timestamp":\t1795359999')
    found = tasks_of(parse_answer(later), "15", [PLAIN], history=True)
    assert found is not None
    assert "can its output (/nonexistent/x) be written?" in found[PLAIN].reason


def test_arrays_deleted_while_held_were_cancelled() -> None:
    found = tasks_of(answer("pbs_all_x.json"), "3", range(2), history=True)
    assert found is not None
    assert {seen.state for seen in found.values()} == {S.CANCELLED}


def test_jobs_that_can_never_run_are_known() -> None:
    jobs = answer("pbs_all_x.json").jobs
    assert [job.id for job in jobs if never_runs(job.attributes)] == ["12.vm"]


def test_variables_keep_what_is_left_of_them() -> None:
    """Numbers have lost their form, bytes that are not UTF-8 are marked."""
    (odd,) = answer("pbs_json_oddvars.json").jobs
    assert odd.attributes["Job_Name"] == "007"
    assert odd.variables["A"] == "100000"
    assert odd.variables["B"] == "she said hi"
    assert odd.variables["C"] == "x=y;z"
    assert odd.variables["G"] == "nan"
    (env,) = answer("pbs_json_V_env.json").jobs
    assert env.state == "H"
    assert env.variables["BAD"] == "\ufffd\ufffd"
    assert env.variables["COMMA"] == "a,b,c"
    assert env.variables["UNI"] == "é☃"
    assert env.variables["NL"] == "line1\nline2\ttab"


def essential(job: JobRecord) -> dict[str, str]:
    """What is written in one way only: a large number can be 1.79535219920247e+15."""
    return {name: value for name, value in job.attributes.items() if name != "queue_rank"}


def test_every_recorded_file_reads_the_same_line_by_line() -> None:
    """The way round invalid JSON leads to the same attributes."""
    files = sorted(RECORDED.glob("pbs_*.json"))
    assert len(files) == 14
    for path in files:
        text = recorded(path.name)
        broken = text.replace('"Jobs":', '"unquoted": say "hi",\n\t"Jobs":', 1)
        with pytest.raises(ValueError):
            json.loads(broken, strict=False)
        whole, lines = parse_answer(text), parse_answer(broken)
        assert lines.whole
        assert lines.time == whole.time
        assert [job.id for job in lines.jobs] == [job.id for job in whole.jobs]
        for one, other in zip(whole.jobs, lines.jobs, strict=True):
            assert essential(one) == essential(other)


@pytest.mark.parametrize("cut", [0, 1, 2, 10, 100, 1000, 5000, 15000])
def test_a_cut_answer_is_not_whole_and_only_closed_jobs_count(cut: int) -> None:
    text = recorded("pbs_array_finished_xt.json").rstrip()
    found = parse_answer(text[: len(text) - 1 - cut])
    assert not found.whole
    complete = {job.id: job for job in parse_answer(text).jobs}
    assert all(essential(complete[job.id]) == essential(job) for job in found.jobs)
    if cut == 15000:
        assert 0 < len(found.jobs) < 11


def test_words_before_the_answer_do_no_harm() -> None:
    text = "Notice: maintenance {tonight} at 8\n" + recorded("pbs_array_finished_x.json")
    assert parse_answer(text).jobs == () or parse_answer(text).whole
    text = "Notice: maintenance tonight at 8\n" + recorded("pbs_array_finished_x.json") + "bye\n"
    assert parse_answer(text).whole
    assert [job.id for job in parse_answer(text).jobs] == ["1[].vm"]


def test_a_job_told_of_twice_in_two_ways_has_no_state() -> None:
    text = recorded("pbs_array_finished_xt.json")
    twice = text.replace('"1[1].vm"', '"1[0].vm"')
    found = tasks_of(parse_answer(twice), "1", range(2), history=True)
    assert found is not None
    assert found[0].state is S.UNKNOWN
    contested = text.replace('"job_state":\t"F",', '"job_state":\t"F",\n"job_state":\t"R",')
    found = tasks_of(parse_answer(contested), "1", range(10), history=True)
    assert found is not None
    assert {seen.state for seen in found.values()} == {S.UNKNOWN}


def test_client_programs_that_print_what_was_recorded(pbspro: Any) -> None:
    """The same through the programs on PATH: one array, many plain jobs at once, bytes that are not UTF-8."""

    def replay(name: str) -> PbsPro:
        (pbspro.bin / "qstat").write_text(f"#!/bin/sh\nexec cat '{RECORDED / name}'\n")
        return PbsPro(timeout_s=20)

    array = Job("1[].vm", "arr", 10, 0.0)
    for name in ("pbs_array_running_xt.json", "pbs_array_mid_xt.json", "pbs_array_finished_xt.json"):
        report = replay(name).look([array])
        assert (report.live_ok, report.history_ok, report.warnings) == (True, True, ())
        assert list(report.tasks.values()) == tasks(name, "1", 10)
    many = [Job(f"{number}.vm", "", 0, 0.0) for number in PLAIN_JOBS]
    assert len(many) > SINGLY
    report = replay("pbs_all_x.json").look(many)
    assert report.live_ok
    assert {key[0]: seen for key, seen in report.tasks.items()} == {
        f"{number}.vm": plain("pbs_all_x.json", number) for number in PLAIN_JOBS
    }
    assert [text for text in report.warnings if "Can Never Run" in text]
    (odd,) = answer("pbs_json_V_env.json").jobs
    (found,) = replay("pbs_json_V_env.json").find([odd.attributes["Job_Name"]], 0.0)
    assert found.job == odd.id
