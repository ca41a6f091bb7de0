"""status, logs and show of runs that a scheduler has, which is a squeue that prints what a test says."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.cli import status as status_module
from lfadsrm_hpc.cli import watching
from lfadsrm_hpc.layout import SubmissionLayout
from lfadsrm_hpc.manifest import store, submissions
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.records import Exit, Identity, new_ulid
from lfadsrm_hpc.schedulers.batch import job_name
from lfadsrm_hpc.schedulers.sites.loading import load_site, to_settings

HEAD = "ARRAY_JOB_ID|ARRAY_TASK_ID|STATE|NODELIST|END_TIME|SUBMIT_TIME|REASON|NAME"
JOB = "4711"


class Cluster:
    """A submission of the runs of one run spec, and the scheduler that has it."""

    def __init__(self, collection: Path, tools: Path, *, notify: str = "") -> None:
        self.collection, self.tools = RunCollection.open(collection), tools
        self.runs = self.collection.find_runs("all")
        self.ulid = new_ulid()
        self.layout: SubmissionLayout = self.collection.layout.submission(self.ulid)
        site = load_site("generic-slurm", sets=["client.history=none", f"notify.command={notify}"]).site
        chunk = submissions.PlannedChunk(0, job_name(self.ulid, 0), len(self.runs))
        plan = submissions.Plan(
            self.ulid, "slurm", site.name, created=time.time(), settings=to_settings(site), chunks=(chunk,)
        )
        tasks = [
            submissions.PlannedTask(0, n, run.id, store.reserve(run.layout, self.ulid))
            for n, run in enumerate(self.runs)
        ]
        submissions.write_plan(self.layout, plan, tasks, {"script-0.sh": "#!/bin/sh\n"})
        submissions.begin_sending(self.layout, 0, 1)
        submissions.record_receipt(self.layout, 0, submissions.Receipt(JOB, time.time()))
        tools.mkdir()
        (tools / "squeue").write_text(f"#!/bin/sh\necho asked >> '{tools}/calls'\ncat '{tools}/rows'\n")
        (tools / "squeue").chmod(0o755)
        self.says()

    def says(self, *rows: str) -> None:
        """Let squeue print rows: index, state, host, why it waits."""
        name = job_name(self.ulid, 0)
        lines = [HEAD]
        for row in rows:
            index, state, host, reason = row.split("|")
            lines.append(f"{JOB}|{index}|{state}|{host}|N/A|{time.time():.0f}|{reason}|{name}")
        (self.tools / "rows").write_text("".join(f"lf{{{line}}}lf\n" for line in lines))

    @property
    def asked(self) -> int:
        calls = self.tools / "calls"
        return calls.read_text().count("asked") if calls.exists() else 0

    def claim(self, index: int) -> Any:
        return store.claim(self.runs[index].layout, 1, Identity("generic-slurm", JOB, str(index), self.ulid))


@pytest.fixture
def cluster(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cluster]:
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}{os.pathsep}{os.environ['PATH']}")
    for name in ("SLURM_CONF", "LFADSRM_SITE", "LFADSRM_SITE_PATH"):
        monkeypatch.delenv(name, raising=False)
    return lambda **more: Cluster(small, tmp_path / "tools", **more)


def rows_of(out: str) -> dict[str, list[str]]:
    return {line.split()[0] + " " + line.split()[1]: line.split() for line in out.splitlines()[1:-1]}


class TestColumns:
    def test_the_job_and_why_it_waits(self, call: Any, small: Path, cluster: Any) -> None:
        made = cluster()
        made.says("0|PENDING||Priority", "1|RUNNING|node7|None")
        claim = made.claim(1)
        store.heartbeat(made.runs[1].layout, claim, phase="training", epoch=4, max_epochs=9)
        said = call("status", small)
        assert (said.code, said.err) == (0, "")
        assert said.out.splitlines()[0].split()[:6] == ["run", "spec", "params", "state", "try", "job"]
        waiting, running = (rows_of(said.out)[f"all factors_dim={n}"] for n in (2, 3))
        assert waiting[2:] == ["pending", "1", "4711_0", "Priority"]
        assert running[2:6] == ["running", "1", "4711_1", "4/9"]
        assert said.out.splitlines()[-1].endswith("4 prepared, 1 pending, 1 running")
        assert made.asked == 1

    def test_json(self, call: Any, small: Path, cluster: Any) -> None:
        cluster().says("0-1|PENDING||Resources")
        found = call("status", small, "--json").json
        assert found["schema_version"] == 1
        assert found["counts"] == {"PREPARED": 4, "PENDING": 2}
        jobs = {run["spec"] + str(run["params"]["factors_dim"]): run["job"] for run in found["runs"]}
        assert (jobs["all2"], jobs["all3"]) == ("4711_0", "4711_1")
        assert jobs["single_day12"] is None

    def test_a_scheduler_that_does_not_answer(self, call: Any, small: Path, cluster: Any) -> None:
        made = cluster()
        (made.tools / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error' >&2\nexit 1\n")
        said = call("status", small)
        assert said.code == 0
        assert said.err.startswith("warning: ")
        assert said.out.splitlines()[-1].endswith("4 prepared, 2 unknown")

    def test_nobody_is_asked_about_what_is_over(self, call: Any, small: Path, cluster: Any) -> None:
        made = cluster()
        for index in (0, 1):
            store.publish_exit(
                made.runs[index].layout, made.claim(index), Exit(index, ["done", "failed"][index])
            )
        said = call("status", small)
        assert said.out.splitlines()[-1].endswith("4 prepared, 1 completed, 1 failed")
        assert made.asked == 0


class TestSelection:
    def test_by_state(self, call: Any, small: Path, cluster: Any) -> None:
        cluster().says("0|PENDING||Priority", "1|PENDING||JobHeldUser")
        said = call("status", small, "--state", "held", "--state", "Pending")
        assert len(rows_of(said.out)) == 2
        assert said.out.splitlines()[-1].endswith("small: 1 pending, 1 held")
        assert call("status", small, "--state", "prepared", "--json").json["counts"] == {"PREPARED": 4}
        assert call("status", small, "--state", "failed").out == f"{small}: no runs\n"

    def test_a_state_that_is_none(self, call: Any, small: Path) -> None:
        said = call("status", small, "--state", "runing")
        assert said.code == 2
        assert "did you mean 'RUNNING'?" in said.err

    def test_where_there_are_many(
        self, call: Any, small: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = cluster()
        made.says("0|PENDING||Priority", "1|RUNNING|node7|None")
        made.claim(1)
        monkeypatch.setattr(status_module, "_MOST_ROWS", 3)
        said = call("status", small)
        assert set(rows_of(said.out)) >= {"all factors_dim=2", "all factors_dim=3"}
        assert "4 of 6 runs are not shown (4 prepared): --all, or --state" in said.out
        assert said.out.splitlines()[-1].endswith("4 prepared, 1 pending, 1 running")
        assert len(rows_of(call("status", small, "--all").out)) == 6
        assert len(call("status", small, "--json").json["runs"]) == 6


class TestWatch:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watching, "FILES_S", 0.05)
        monkeypatch.setattr(watching, "_SHARE", 0)

    def test_until_nothing_is_left(
        self, call: Any, small: Path, tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watching, "SCHEDULER_S", 1.0)
        message = tmp_path / "message"
        made = cluster(notify=f"printf %s \"$LFADSRM_MESSAGE\" > '{message}'")
        made.says("0-1|RUNNING|node7|None")
        claims = [made.claim(index) for index in (0, 1)]

        def work() -> None:
            time.sleep(0.6)
            store.publish_exit(made.runs[0].layout, claims[0], Exit(0, "done"))
            time.sleep(0.6)
            store.publish_exit(made.runs[1].layout, claims[1], Exit(1, "failed", message="it broke"))
            made.says()

        worker = threading.Thread(target=work)
        worker.start()
        said = call("status", small, "--watch", "--spec", "all", "--fail")
        worker.join()
        assert said.code == 5
        lines = [line.split("  ", 1)[1] for line in said.err.splitlines() if "  " in line]
        assert lines[:2] == ["2 running", "1 running, 1 completed"]
        assert said.out.splitlines()[-1] == f"{small}: 1 completed, 1 failed"
        assert "it broke" in said.out
        assert message.read_text() == "small: 1 completed, 1 failed"

    def test_the_scheduler_is_asked_seldom(
        self, small: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from lfadsrm_hpc.cli.looking import Look
        from lfadsrm_hpc.collection.roster import Roster

        made = cluster()
        made.says("0-1|PENDING||Priority")
        looks: list[Look] = []

        def show(look: Look) -> None:
            looks.append(look)
            if len(looks) == 8:
                raise KeyboardInterrupt

        monkeypatch.setattr(watching, "_lines", lambda: show)
        roster = Roster.open(small)
        with pytest.raises(KeyboardInterrupt):
            watching.watch_runs(roster, roster.entries, lambda look: "")
        assert made.asked == 1
        run = made.runs[0].id
        # what it said holds meanwhile
        assert {(look.statuses[run].state.value, look.statuses[run].reason) for look in looks} == {
            ("PENDING", "Priority")
        }
        assert {look.jobs[run] for look in looks} == {"4711_0"}

    def test_there_is_nothing_to_wait_for(self, call: Any, small: Path) -> None:
        said = call("status", small, "--watch")
        assert (said.code, said.err) == (0, "")
        assert said.out.splitlines()[-1] == f"{small}: 6 prepared"

    def test_not_as_json(self, call: Any, small: Path) -> None:
        assert call("status", small, "--watch", "--json").code == 2

    def test_a_notify_command_that_fails(self, capsys: pytest.CaptureFixture[str]) -> None:
        watching.run_notify("echo no mail >&2; exit 3", "over")
        assert (
            "warning: the site's notify command: /bin/sh ended with status 3: no mail"
            in capsys.readouterr().err
        )


class TestOneRun:
    def test_what_a_script_printed_before_it_knew_its_run(self, call: Any, small: Path, cluster: Any) -> None:
        made = cluster()
        output = made.layout.output_dir / f"{JOB}_1.txt"
        output.write_text("error: this script needs bash 4.2\n")
        (made.layout.output_dir / f"{JOB}_11.txt").write_text("of another task\n")
        (made.layout.output_dir / f"{JOB}_0.txt").write_text("")
        said = call("logs", made.runs[1].id, "-C", small)
        assert (said.out, said.err) == ("error: this script needs bash 4.2\n", f"# {output}\n")
        assert "has printed nothing yet" in call("logs", made.runs[0].id, "-C", small).err
        log = made.runs[1].layout.attempt(1).log
        log.write_text("its own log\n")
        assert call("logs", made.runs[1].id, "-C", small).out == "its own log\n"

    @pytest.mark.parametrize(
        ("job", "name", "ours"),
        [
            ("123[].server", "123[4].server.OU", True),
            ("123[].server", "123[41].server.OU", False),
            ("123[].server", "lfABC0.o123.4", True),
            ("123[]", "lfABC0.o123-4", True),
            ("123[]", "lfABC0.o1234-4", False),
            ("4711", "14711_4.txt", False),
            ("4711", "4711_4.txt", True),
            ("4711", "0-4.log", True),
        ],
    )
    def test_names_that_schedulers_give(self, tmp_path: Path, job: str, name: str, ours: bool) -> None:
        from lfadsrm_hpc.schedulers.attempts import _outputs

        (tmp_path / name).write_text("text")
        task = submissions.PlannedTask(0, 4, "param_x/y", 1)
        assert list(_outputs(tmp_path, task, job, array=True)) == ([tmp_path / name] if ours else [])

    def test_its_attempts(self, call: Any, small: Path, cluster: Any) -> None:
        made = cluster()
        run = made.runs[0]
        store.close(run.layout, 1, "node_fail", submission=made.ulid, message="node7 is down")
        taken = store.take_local(run.layout, Identity.local("", "0"))
        assert not isinstance(taken, store.AlreadyComplete)
        run.layout.attempt(2).log.write_text("trained\n")
        store.publish_exit(run.layout, taken, Exit(1, "failed", message="it broke"))
        said = call("show", small, "--run", run.id)
        lines = said.out.splitlines()
        assert lines[0] == f"{run.id}: failed (failed)"
        (first,) = [line for line in lines if line.startswith("  attempt 1: ")]
        assert first == f"  attempt 1: node fail, job 4711_0, submission {made.ulid}"
        (second,) = [line for line in lines if line.startswith("  attempt 2: ")]
        assert second.startswith(f"  attempt 2: failed, on {Process.current().host}, from 2")
        assert lines[lines.index(second) + 1].strip() == str(run.layout.attempt(2).log)
        found = call("show", small, "--run", run.id, "--json").json["attempts"]
        assert [(a["attempt"], a["state"], a["job"], a["message"]) for a in found] == [
            (1, "NODE_FAIL", "4711_0", "node7 is down"),
            (2, "FAILED", None, "it broke"),
        ]
        assert json.dumps(found)
        # an earlier attempt's log, and one that is not there
        assert "no log of attempt 1" in call("logs", run.id, "-C", small, "--attempt", "1").err
