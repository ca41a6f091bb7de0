"""The fakes do what OpenPBS was seen to do: the same attributes, exit codes, forms."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

RECORDED = Path(__file__).resolve().parents[1] / "recorded"
# What a fake has no reason to know.
LEFT_OUT = {
    "resources_used", "queue_rank", "etime", "eligible_time", "accrue_type", "Stageout_status", "hashname",
    "Submit_arguments", "project", "run_version", "Submit_Host", "session_id", "jobdir", "max_run_subjobs",
}  # fmt: skip


def submit(server: Any, folder: Path, body: str, *options: str, check: bool = True) -> Any:
    path = folder / "arr.sh"
    path.write_text(f"#!/bin/bash\n#PBS -N arr\n#PBS -j oe\n#PBS -o {folder}/\n{body}\n")
    return server.call("qsub", *options, str(path), check=check)


def shape(job: dict[str, Any]) -> tuple[Any, ...]:
    return (
        job["job_state"], job.get("substate"), job.get("Exit_status"), "exec_host" in job,
        job.get("array_index"), job.get("comment", "").partition(" on (")[2].partition(")")[2],
    )  # fmt: skip


def test_an_array_reads_as_recorded(pbspro: Any, tmp_path: Path) -> None:
    """Ten tasks, two at a time, three of which are deleted while they wait."""
    body = "sleep 0.3; exit $((PBS_ARRAY_INDEX % 3))"
    submit(pbspro, tmp_path, body, "-J", "0-9%2", "-l", "select=1:ncpus=1:ngpus=1")
    pbspro.call("qdel", "1[7].vm", "1[8].vm", "1[9].vm")
    pbspro.wait("1")
    found = json.loads(pbspro.call("qstat", "-x", "-t", "-f", "-F", "json", "1[].vm").stdout)
    real = json.loads((RECORDED / "pbs_array_finished_xt.json").read_text())
    assert list(found["Jobs"]) == list(real["Jobs"])
    for name, job in real["Jobs"].items():
        mine = found["Jobs"][name]
        if name != "1[].vm":  # (its counts and its status mean nothing)
            assert shape(mine) == shape(job), name
        missing = set(job) - set(mine) - LEFT_OUT - {"obittime", "exec_vnode", "stime"}
        assert missing <= {"Checkpoint", "Hold_Types"}, name


def test_exit_codes_and_what_is_still_printed(pbspro: Any, tmp_path: Path) -> None:
    submit(pbspro, tmp_path, "true")
    pbspro.wait("1")
    submit(pbspro, tmp_path, "sleep 60")
    pbspro.wait("2", "R")
    json_options = ("-f", "-F", "json")

    def ask(*args: str) -> tuple[int, list[str]]:
        done = pbspro.call("qstat", *args, check=False)
        return done.returncode, list(json.loads(done.stdout).get("Jobs", {})) if done.stdout else []

    assert ask(*json_options, "2.vm") == (0, ["2.vm"])
    assert ask(*json_options, "1.vm") == (35, [])
    assert ask(*json_options, "1.vm", "2.vm") == (35, ["2.vm"])
    assert ask(*json_options, "77.vm", "2.vm") == (153, ["2.vm"])
    assert ask("-x", *json_options, "1.vm", "2.vm") == (0, ["1.vm"])  # the first only
    assert ask("-x", *json_options) == (0, ["1.vm", "2.vm"])
    assert ask(*json_options) == (0, ["2.vm"])
    pbspro.set(history_s=0)
    assert ask("-x", *json_options, "1.vm")[0] == 153
    pbspro.set(down=True)
    assert ask(*json_options)[0] == 255


def test_single_index_ranges_and_lists_are_refused(pbspro: Any, tmp_path: Path) -> None:
    for text in ("3-3", "0,2", "5-2", "0-4%x"):
        done = submit(pbspro, tmp_path, "true", "-J", text, check=False)
        assert done.returncode == 2
        assert b"illegal -J value" in done.stderr


def test_signals_walltime_and_kill_delay(pbspro: Any, tmp_path: Path) -> None:
    pbspro.set(kill_delay_s=0.3)
    body = f'trap "echo asked; exit 4" TERM USR1; touch {tmp_path}/$PBS_JOBID.set; sleep 600 & wait'
    submit(pbspro, tmp_path, body)
    submit(pbspro, tmp_path, 'trap "echo asked" TERM; while :; do sleep 600 & wait; done', "-l", "walltime=1")
    submit(pbspro, tmp_path, body)
    submit(pbspro, tmp_path, "sleep 600")
    for number in "1234":
        pbspro.wait(number, "R")
    pbspro.until(lambda: len(list(tmp_path.glob("*.set"))) == 2)  # the traps are
    pbspro.call("qsig", "-s", "SIGUSR1", "1.vm")
    pbspro.call("qdel", "3.vm")
    pbspro.call("qsig", "-s", "SIGUSR1", "4.vm")
    for number in "1234":
        pbspro.wait(number)
    assert [pbspro.task(number)["status"] for number in "1234"] == [4, -29, 4, 256 + 10]
    assert pbspro.task("3")["deleted"] == f"{os.environ.get('USER') or 'root'}@localhost"
    assert (tmp_path / "2.vm.OU").read_text() == "asked\n"
    took = pbspro.task("2")
    assert took["changed"] - took["started"] > 1.3


def test_a_login_shell_above_the_script(pbspro: Any, tmp_path: Path) -> None:
    """It dies of a signal to all: then the rest is killed, unless qdel asked, which grants the delay."""
    pbspro.set(kill_delay_s=20, start="path")
    body = (
        f'trap "sleep 0.5; echo asked; exit 4" TERM; touch {tmp_path}/$PBS_JOBID.set; '
        "while :; do sleep 60 & wait; done"
    )
    submit(pbspro, tmp_path, body)
    submit(pbspro, tmp_path, body, "-l", "walltime=1")
    submit(pbspro, tmp_path, "exit 4")
    for number in "12":
        pbspro.wait(number, "R")
    pbspro.until((tmp_path / "1.vm.set").exists)  # the trap is
    pbspro.call("qdel", "1.vm")
    for number in "123":
        pbspro.wait(number)
    assert [pbspro.task(number)["status"] for number in "123"] == [256 + 15, -29, 4]
    assert (tmp_path / "1.vm.OU").read_text() == "asked\n"
    assert (tmp_path / "2.vm.OU").read_text() == ""


def test_the_last_list_of_variables_counts(pbspro: Any, tmp_path: Path) -> None:
    path = tmp_path / "job.sh"
    path.write_text(
        f"#!/bin/bash\n#PBS -v A=1\n#PBS -v B=2\n#PBS -j oe\n#PBS -o {tmp_path}/\necho $A-$B; umask\n"
    )
    pbspro.call("qsub", str(path))
    pbspro.wait("1")
    assert (tmp_path / "1.vm.OU").read_text() == "-2\n0077\n"


def test_nothing_of_the_tests_environment_reaches_a_job(
    pbspro: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "x")
    pbspro.set(job_environment={"SITE": "y"})
    submit(pbspro, tmp_path, 'echo "${SECRET_OF_THE_SHELL-none} $SITE $GIVEN"', "-v", "GIVEN=z")
    submit(pbspro, tmp_path, 'echo "${SECRET_OF_THE_SHELL-none}"', "-V")
    pbspro.wait("1")
    pbspro.wait("2")
    assert (tmp_path / "1.vm.OU").read_text() == "none y z\n"
    assert (tmp_path / "2.vm.OU").read_text() == "x\n"


def test_a_server_that_stops_leaves_no_process(pbspro: Any, tmp_path: Path) -> None:
    submit(pbspro, tmp_path, f"echo $$ > {tmp_path}/$PBS_ARRAY_INDEX; sleep 1000 & wait", "-J", "0-3")
    pbspro.wait("1", "RRRR")
    pbspro.until(lambda: len([path for path in tmp_path.glob("[0-3]") if path.stat().st_size]) == 4)
    pids = [int((tmp_path / str(index)).read_text()) for index in range(4)]
    pbspro.stop()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


JOBS = Path(__file__).resolve().parents[1] / "schedulers" / "golden" / "jobs"


@pytest.mark.parametrize("kind", ["pbspro", "torque"])
def test_the_scripts_of_all_sites_are_accepted(kind: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(kind)
    mark = "#PBS -l select=" if kind == "pbspro" else "#PBS -l nodes="
    scripts = {path.name: path.read_text() for path in sorted(JOBS.glob("*.sh"))}
    scripts = {name: text for name, text in scripts.items() if mark in text}
    assert scripts
    queues = re.findall(r"^#PBS -q (\S+)", "\n".join(scripts.values()), re.MULTILINE)
    asked = re.findall(r"^#PBS -l (\w+)=", "\n".join(scripts.values()), re.MULTILINE)
    resources = sorted({*asked, "mem", "ncpus", "ngpus", "system"})
    server.set(scheduling=False, resources=resources, queues=dict.fromkeys(["workq", *queues]))
    for name, text in scripts.items():
        accepted = server.call("qsub", str(JOBS / name), check=False)
        assert accepted.returncode == 0, (name, accepted.stderr)
        job = list(server.jobs().values())[-1]
        array = re.search(r"^#PBS -[Jt] 0-(\d+)", text, re.MULTILINE)
        assert len(job["tasks"]) == (int(array[1]) + 1 if array else 1), name
        assert job["array"] is bool(array)
        assert re.fullmatch(r"[0-9A-Z]{26}", job["variables"]["LFADSRM_SUBMISSION"])
        assert re.fullmatch(r"lf\w+", job["name"])
        assert job["paths"]["o"].endswith("/output/")
