"""The index is a cache: whatever happened, with it, without it and from the facts the answer is one."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.errors import ClaimLostError, DataError, ManifestError
from lfadsrm_hpc.layout import CollectionLayout, RunLayout
from lfadsrm_hpc.manifest import disk, index, process, reading
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.reading import states_of
from lfadsrm_hpc.manifest.records import Claim, Exit, Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.store import (
    cancel,
    claim,
    close,
    forget,
    heartbeat,
    publish_exit,
    reserve,
    take_local,
)

DONE, FAILED = Exit(0, "done"), Exit(1, "failed", message="it broke")
JOB = Identity("cluster", "17", "1", "PLAN")


@pytest.fixture(autouse=True)
def _publish_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "LEAST_NEW", 1)
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def runs(layout: CollectionLayout) -> list[RunLayout]:
    layout.state_dir.mkdir(parents=True)
    made = [layout.run("abcdefghijkl", f"spec {i}") for i in range(6)]
    for run in made:
        run.path.mkdir(parents=True)
    return made


def date_back(run: RunLayout, seconds: float = 3600.0) -> None:
    """Let all folders of a run's attempts have been changed so much earlier."""
    folders = [attempt.path for attempt in run.attempts()]
    for folder in [*folders, run.attempts_dir] if folders else []:
        then = folder.stat().st_mtime - seconds
        os.utime(folder, (then, then))


def end(run: RunLayout, record: Exit) -> Claim:
    taken = take_local(run, Identity.local("S", 1), again=True)
    assert isinstance(taken, Claim)
    heartbeat(run, taken, epoch=3, train_total=1.5)
    publish_exit(run, taken, record)
    return taken


def ids(runs: list[RunLayout]) -> list[str]:
    return [run.run_id for run in runs]


def telling(status: RunStatus) -> tuple[object, ...]:
    """Return what an answer says, however it was found."""
    return (status.state, status.attempt, status.incarnation, status.code, status.reason, status.cancelled)


def rows(layout: CollectionLayout) -> dict[str, object]:
    (path,) = layout.state_dir.glob("index-*.json")
    found: dict[str, object] = json.loads(path.read_bytes())["runs"]
    return found


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the files of runs that are opened."""
    seen: list[str] = []
    real = os.open

    def noting(path: str, *args: int, **kwargs: int) -> int:
        if "attempts" in str(path):
            seen.append(str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", noting)
    return seen


class TestWhatIsKept:
    def test_ended_and_waiting_runs_are_kept_and_not_read_again(
        self, layout: CollectionLayout, runs: list[RunLayout], opened: list[str]
    ) -> None:
        end(runs[0], DONE)
        end(runs[1], FAILED)
        reserve(runs[2], "PLAN")
        reserve(runs[3], "PLAN")
        close(runs[3], 1, "never_started", submission="PLAN")
        for run in runs:
            date_back(run)
        first = states_of(layout, ids(runs))
        assert set(rows(layout)) == set(ids(runs[:4]))
        opened.clear()
        again = states_of(layout, ids(runs))
        assert opened == []
        assert [telling(again[i]) for i in ids(runs)] == [telling(first[i]) for i in ids(runs)]
        waiting = again[runs[2].run_id]
        assert (waiting.state, waiting.submission) == (RunState.SUBMITTED, "PLAN")
        assert waiting.reserved_by == Process.current()
        assert again[runs[3].run_id].closed

    def test_ages_grow(self, layout: CollectionLayout, runs: list[RunLayout]) -> None:
        reserve(runs[0], "PLAN")
        mine = claim(runs[0], 1, JOB)
        close(runs[0], 1, "node_fail")
        then = time.time() - 1000
        os.utime(runs[0].attempt(1).claim(mine.incarnation), (then, then))
        date_back(runs[0])
        states_of(layout, ids(runs))
        assert runs[0].run_id in rows(layout)
        found = states_of(layout, ids(runs))[runs[0].run_id]
        assert found.silent_s == pytest.approx(1000, abs=30)
        assert found.claim == mine

    def test_what_works_is_never_kept(self, layout: CollectionLayout, runs: list[RunLayout]) -> None:
        taken = take_local(runs[0], Identity.local("S", 1))
        assert isinstance(taken, Claim)
        end(runs[1], DONE)
        date_back(runs[0])
        date_back(runs[1])
        states_of(layout, ids(runs))
        assert list(rows(layout)) == [runs[1].run_id]

    def test_a_folder_that_changed_a_moment_ago_is_not_kept(
        self, layout: CollectionLayout, runs: list[RunLayout]
    ) -> None:
        end(runs[0], DONE)
        end(runs[1], DONE)
        date_back(runs[0], index.RACY_S - 20)
        date_back(runs[1], index.RACY_S + 20)
        states_of(layout, ids(runs))
        assert list(rows(layout)) == [runs[1].run_id]

    def test_too_little_that_is_new_is_not_published(
        self, layout: CollectionLayout, runs: list[RunLayout], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(index, "LEAST_NEW", 2)
        end(runs[0], DONE)
        date_back(runs[0])
        states_of(layout, ids(runs))
        assert not list(layout.state_dir.glob("index-*"))


class TestWhatChanges:
    """After each of these the index must not be believed."""

    @pytest.mark.parametrize("again", ["claimed", "done", "closed", "cancelled", "forgotten", "next"])
    def test_a_run_that_waited(self, layout: CollectionLayout, runs: list[RunLayout], again: str) -> None:
        run = runs[0]
        reserve(run, "PLAN")
        date_back(run)
        states_of(layout, ids(runs))
        assert rows(layout)
        if again in ("claimed", "done"):
            mine = claim(run, 1, JOB)
            if again == "done":
                publish_exit(run, mine, DONE)
        elif again == "closed":
            close(run, 1, "lost")
        elif again == "cancelled":
            cancel(layout, [run])
        elif again == "forgotten":
            close(run, 1, "lost")
            forget(run)
        else:
            close(run, 1, "not_submitted")
            reserve(run, "ANOTHER")
        expected = {"claimed": "RUNNING", "done": "COMPLETED", "closed": "LOST", "cancelled": "CANCELLED",
                    "forgotten": "PREPARED", "next": "SUBMITTED"}  # fmt: skip
        found = states_of(layout, ids(runs))[run.run_id]
        assert found.state.value == expected[again]
        assert telling(found) == telling(states_of(layout, ids(runs), rescan=True)[run.run_id])

    def test_a_cancellation_touches_no_folder_of_an_ended_run(
        self, layout: CollectionLayout, runs: list[RunLayout]
    ) -> None:
        taken = end(runs[0], Exit(75, "checkpointed"))
        date_back(runs[0])
        assert states_of(layout, ids(runs))[runs[0].run_id].state is RunState.PREEMPTED
        before = runs[0].attempt(taken.attempt).path.stat().st_mtime_ns
        cancel(layout, [runs[0]])
        assert runs[0].attempt(taken.attempt).path.stat().st_mtime_ns == before
        assert states_of(layout, ids(runs))[runs[0].run_id].state is RunState.CANCELLED

    def test_an_older_attempt_that_completes_after_all(
        self, layout: CollectionLayout, runs: list[RunLayout], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = take_local(runs[0], Identity.local("S", 1))
        assert isinstance(old, Claim)
        close(runs[0], 1, "lost")
        end(runs[0], FAILED)
        date_back(runs[0])
        assert states_of(layout, ids(runs))[runs[0].run_id].state is RunState.FAILED
        assert rows(layout)
        # It looked for a successor before there was one, and was stopped for a while.
        monkeypatch.setattr("lfadsrm_hpc.manifest.store.is_superseded", lambda run, claim: False)
        publish_exit(runs[0], old, DONE)
        found = states_of(layout, ids(runs))[runs[0].run_id]
        assert (found.state, found.attempt) == (RunState.COMPLETED, 1)


class TestTheFile:
    def test_the_next_number_removes_those_before(
        self, layout: CollectionLayout, runs: list[RunLayout]
    ) -> None:
        for number, run in enumerate(runs[:3]):
            end(run, DONE)
            date_back(run)
            states_of(layout, ids(runs))
            assert [p.name for p in layout.state_dir.glob("index-*")] == [f"index-{number + 1}.json"]
        assert len(rows(layout)) == 3

    def test_a_part_of_the_runs_forgets_no_other(
        self, layout: CollectionLayout, runs: list[RunLayout]
    ) -> None:
        for run in runs:
            end(run, DONE)
            date_back(run)
        states_of(layout, ids(runs[:3]))
        states_of(layout, ids(runs[3:]))
        assert len(rows(layout)) == 6

    def test_who_comes_second_leaves_it(self, layout: CollectionLayout, runs: list[RunLayout]) -> None:
        end(runs[0], DONE)
        date_back(runs[0])
        status = states_of(layout, ids(runs))[runs[0].run_id]
        one, other = (index.Index(layout, time.time()) for _ in range(2))
        marks = disk.attempts_of(str(runs[0].path))[1]
        for each in (one, other):
            each._read[1].clear()
            each.learn(status, marks, None)
        assert one.publish()
        assert not other.publish()
        assert [p.name for p in layout.state_dir.glob("index-*")] == ["index-2.json"]

    def test_a_rescan_of_a_part_forgets_no_other(
        self, layout: CollectionLayout, runs: list[RunLayout]
    ) -> None:
        for run in runs:
            end(run, DONE)
            date_back(run)
        states_of(layout, ids(runs))
        close(runs[0], 1, "lost")  # so that there is something new
        date_back(runs[0])
        states_of(layout, ids(runs[:2]), rescan=True)
        assert len(rows(layout)) == 6

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", '{"format": 99, "runs": {}}', '{"format": 1, "fields": [], "runs": {}}']
    )
    def test_damage_is_no_index(self, layout: CollectionLayout, runs: list[RunLayout], content: str) -> None:
        end(runs[0], DONE)
        date_back(runs[0])
        states_of(layout, ids(runs))
        (path,) = layout.state_dir.glob("index-*.json")
        path.write_text(content)
        assert states_of(layout, ids(runs))[runs[0].run_id].state is RunState.COMPLETED
        assert rows(layout)

    @pytest.mark.parametrize("row", [None, [], [[0]], [["a"], None, "DONE"], {"a": 1}])
    def test_a_damaged_row_is_none(
        self, layout: CollectionLayout, runs: list[RunLayout], row: object
    ) -> None:
        end(runs[0], FAILED)
        date_back(runs[0])
        states_of(layout, ids(runs))
        (path,) = layout.state_dir.glob("index-*.json")
        content = json.loads(path.read_bytes())
        good = content["runs"][runs[0].run_id]
        content["runs"][runs[0].run_id] = good[:2] + row if isinstance(row, list) and row else row
        path.write_text(json.dumps(content))
        assert states_of(layout, ids(runs))[runs[0].run_id].state is RunState.FAILED

    def test_where_nothing_can_be_written(
        self, layout: CollectionLayout, runs: list[RunLayout], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        end(runs[0], DONE)
        date_back(runs[0])

        def refuse(path: Path, data: bytes) -> bool:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(index, "publish_new", refuse)
        assert states_of(layout, ids(runs))[runs[0].run_id].state is RunState.COMPLETED
        assert not list(layout.state_dir.glob("index-*"))


class TestOutbox:
    """Without an index, the names in the outbox tell of runs that have ended, if they are still true."""

    @pytest.fixture(autouse=True)
    def _list_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "_FEW", 0)
        monkeypatch.setattr(index.Index, "publish", lambda self: False)

    def test_nothing_is_opened(
        self, layout: CollectionLayout, runs: list[RunLayout], opened: list[str]
    ) -> None:
        end(runs[0], DONE)
        end(runs[1], FAILED)
        end(runs[2], FAILED)
        end(runs[2], DONE)
        opened.clear()
        found = states_of(layout, ids(runs))
        assert opened == []
        assert [found[name].state.value for name in ids(runs[:3])] == ["COMPLETED", "FAILED", "COMPLETED"]
        assert found[runs[2].run_id].attempt == 2

    def test_a_run_that_was_taken_again(self, layout: CollectionLayout, runs: list[RunLayout]) -> None:
        end(runs[0], FAILED)
        taken = take_local(runs[0], Identity.local("S", 1))
        assert isinstance(taken, Claim)
        found = states_of(layout, ids(runs))[runs[0].run_id]
        assert (found.state, found.attempt) == (RunState.RUNNING, 2)

    def test_a_task_that_was_started_again(self, layout: CollectionLayout, runs: list[RunLayout]) -> None:
        reserve(runs[0], "PLAN")
        publish_exit(runs[0], claim(runs[0], 1, JOB), FAILED)
        claim(runs[0], 1, JOB)
        found = states_of(layout, ids(runs))[runs[0].run_id]
        assert (found.state, found.incarnation) == (RunState.RUNNING, 1)

    def test_a_record_that_is_gone(self, layout: CollectionLayout, runs: list[RunLayout]) -> None:
        end(runs[0], FAILED)
        runs[0].attempt(1).exit(0).unlink()
        assert states_of(layout, ids(runs))[runs[0].run_id].state is not RunState.FAILED

    @pytest.mark.parametrize("record", [Exit(75, "timeout"), Exit(137, "killed", signal=9)])
    def test_what_may_go_on_is_read(
        self, layout: CollectionLayout, runs: list[RunLayout], record: Exit
    ) -> None:
        reserve(runs[0], "PLAN")
        publish_exit(runs[0], claim(runs[0], 1, JOB), record)
        assert not states_of(layout, ids(runs))[runs[0].run_id].closed
        close(runs[0], 1, record.reason)
        assert states_of(layout, ids(runs))[runs[0].run_id].closed


# ---------------------------------------------------------------- any life

STEPS = st.sampled_from(
    ["take", "take again", "redo", "done", "done", "failed", "stopped", "killed", "bad", "zombie done",
     "die", "cancel", "reserve", "reserve", "requeue", "requeue", "close", "close node_fail", "forget",
     "lose outbox", "lose index", "age", "age", "age"]
)  # fmt: skip
EXITS = {
    "done": DONE,
    "failed": FAILED,
    "stopped": Exit(75, "checkpointed"),
    "killed": Exit(137, "killed", signal=9, writer="shell"),
    "bad": Exit(65, "bad_data"),
}


class Life:
    """Two runs, and the processes that live."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.layout = CollectionLayout(root)
        self.runs = [self.layout.run("abcdefghijkl", name) for name in ("one", "two")]
        for run in self.runs:
            run.path.mkdir(parents=True)
        self.layout.state_dir.mkdir()
        self.live: list[tuple[RunLayout, Claim]] = []
        pids = itertools.count(1)
        living = {1}
        patch.setattr(index, "LEAST_NEW", 1)
        patch.setattr(reading, "_FEW", 0)
        patch.setattr(os, "fsync", lambda handle: None)
        patch.setattr(
            process, "is_alive", lambda pid, start: pid in living & {c.process.pid for _, c in self.live}
        )
        real = Process.current()

        def current() -> Process:
            pid = next(pids)
            living.add(pid)
            return Process(real.host, real.boot_id, real.pid_namespace, pid, 7)

        patch.setattr(Process, "current", current)

    def step(self, what: str, which: int) -> None:
        run = self.runs[which]
        mine = [one for one in self.live if one[0] == run]
        with contextlib.suppress(ClaimLostError, DataError, ManifestError):
            self._do(what, run, mine)

    def _do(self, what: str, run: RunLayout, mine: list[tuple[RunLayout, Claim]]) -> None:
        if what in ("take", "take again", "redo"):
            got = take_local(run, Identity.local("S", 1), again=what == "take again", redo=what == "redo")
            if isinstance(got, Claim):
                self.live.append((run, got))
        elif what == "reserve":
            reserve(run, "PLAN")
        elif what == "requeue" and run.attempts():
            self.live.append((run, claim(run, run.attempts()[-1].number, JOB)))
        elif what.removeprefix("zombie ") in EXITS and mine:
            ending = mine[0] if what.startswith("zombie") else mine[-1]
            self.live.remove(ending)
            publish_exit(run, ending[1], EXITS[what.removeprefix("zombie ")])
        elif what == "die" and mine:
            self.live.remove(mine[-1])
        elif what == "cancel":
            cancel(self.layout, [run])
        elif what.startswith("close") and run.attempts():
            close(run, run.attempts()[-1].number, what.partition(" ")[2] or "lost")
        elif what == "forget":
            forget(run)
        elif what == "lose outbox":
            for name in self.layout.outbox_names():
                self.layout.outbox_file(name).unlink()
        elif what == "lose index":
            for path in self.layout.state_dir.glob("index-*"):
                path.unlink()
        elif what == "age":
            date_back(run)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(STEPS, st.sampled_from([0, 0, 0, 1])), max_size=16))
def test_any_life(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        life = Life(Path(folder), patch)
        names = ids(life.runs)
        for what, which in steps:
            life.step(what, which)
            quick = states_of(life.layout, names)
            again = states_of(life.layout, names)  # from what the first look has published
            with pytest.MonkeyPatch.context() as apart:
                apart.setattr(index.Index, "publish", lambda self: False)
                apart.setattr(index.Index, "find", lambda *_: None)
                plain = states_of(life.layout, names)
                apart.setattr(reading._Look, "list_outbox", lambda self: None)
                bare = states_of(life.layout, names)
                whole = states_of(life.layout, names, rescan=True)
            for name in names:
                truth = telling(whole[name])
                assert [telling(found[name]) for found in (quick, again, plain, bare)] == [truth] * 4
                # what the scheduler is asked about, and how its answer is judged, is the same too
                kept = [_without_ages(found[name]) for found in (quick, again, plain, bare)]
                assert kept == [kept[0]] * 4


def _without_ages(status: RunStatus) -> RunStatus:
    return replace(status, heartbeat_age_s=None, silent_s=None)
