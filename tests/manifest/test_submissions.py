from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from disk_readers import read_submissions

from lfadsrm_hpc.errors import LfadsrmWarning, ManifestError
from lfadsrm_hpc.layout import CollectionLayout, SubmissionLayout
from lfadsrm_hpc.manifest import process
from lfadsrm_hpc.manifest.evidence import ChunkState
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.reading import look
from lfadsrm_hpc.manifest.records import new_ulid
from lfadsrm_hpc.manifest.submission_reading import (
    SubmissionOnDisk,
    read_submission,
)
from lfadsrm_hpc.manifest.submissions import (
    Plan,
    PlannedChunk,
    PlannedTask,
    Receipt,
    begin_sending,
    record_receipt,
    record_refusal,
    write_plan,
)

Fork = Callable[[Callable[[], object]], int]
NAMES = ["all sessions", 'it\'s $(rm -rf ~) "quoted"', "Mäuse 東京", "a\u3000b"]
TASKS = tuple(PlannedTask(n // 2, n % 2, f"param_abcdefghijkl/{name}", n + 1) for n, name in enumerate(NAMES))
CHUNKS = (PlannedChunk(0, "lfA0", 2, {"walltime_s": 60}, 1), PlannedChunk(1, "lfA1", 2))


def make_plan(ulid: str) -> Plan:
    settings = {"name": "here", "limits": {"jobs": 3, "tasks": None}, "modules": ["a", "b"]}
    return Plan(ulid, "slurm", "here", "big", 5.0, "me", "1.0", settings, CHUNKS, Process.current())


@pytest.fixture
def planned(layout: CollectionLayout) -> SubmissionLayout:
    submission = layout.submission(new_ulid())
    scripts = {"script-0.sh": "exit 0\n", "script-1.sh": "exit 1\n", "queues/0-1.sh": "exit 2\n"}
    write_plan(submission, make_plan(submission.ulid), TASKS, scripts)
    return submission


def on_disk(submission: SubmissionLayout, later: float = 0.0) -> SubmissionOnDisk:
    found = read_submission(submission, look(submission.path).now + later)
    assert found is not None
    return found


def states(submission: SubmissionLayout, later: float = 0.0) -> list[ChunkState]:
    return [chunk.state for chunk in on_disk(submission, later).chunks]


def test_what_is_written_is_read(planned: SubmissionLayout) -> None:
    found = on_disk(planned)
    assert found.plan == make_plan(planned.ulid)
    assert found.tasks == TASKS
    assert found.damage == ""
    assert [chunk.chunk for chunk in found.chunks] == list(CHUNKS)
    assert planned.script(1).read_text() == "exit 1\n"
    assert os.access(planned.queue_script(0, 1), os.X_OK)
    assert planned.output_dir.is_dir()
    with pytest.raises(ManifestError, match="a plan already"):
        write_plan(planned, make_plan(planned.ulid), TASKS, {})


def test_a_table_in_a_locale_that_is_not_utf_8(
    planned: SubmissionLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ascii")
    monkeypatch.setattr("locale.getencoding", lambda *_: "ascii", raising=False)
    assert on_disk(planned).tasks == TASKS


@pytest.mark.parametrize("name", ["param_a/b\tc", "param_a/b\nc", "param_a/b\u2028c", ""])
def test_what_cannot_stand_in_a_table_is_refused(layout: CollectionLayout, name: str) -> None:
    submission = layout.submission(new_ulid())
    with pytest.raises(ManifestError, match="cannot stand in a table"):
        write_plan(submission, make_plan(submission.ulid), [PlannedTask(0, 0, name, 1)], {})
    assert read_submission(submission, time.time()) is None


def test_a_chunk_from_its_plan_to_its_receipt(planned: SubmissionLayout, forked: Fork) -> None:
    assert states(planned) == [ChunkState.UNSENT] * 2
    assert begin_sending(planned, 0, 1)
    assert not begin_sending(planned, 0, 1)
    assert states(planned, later=1e5) == [ChunkState.SENDING, ChunkState.UNSENT]  # this process lives
    assert not begin_sending(planned, 0, 2)  # the first is not over
    record_refusal(planned, 0, 1, "no such partition")
    assert states(planned) == [ChunkState.UNSENT] * 2
    assert forked(lambda: begin_sending(planned, 0, 2)) == 0
    assert states(planned) == [ChunkState.UNCERTAIN, ChunkState.UNSENT]  # that one is gone
    assert on_disk(planned).chunks[0].sendings == 2
    assert record_receipt(planned, 0, Receipt("77", 5.0, "big", "Submitted", adopted=True))
    assert not record_receipt(planned, 0, Receipt("78"))
    assert not begin_sending(planned, 0, 3)
    found = on_disk(planned, later=100).chunks[0]
    assert (found.state, found.receipt) == (
        ChunkState.SENT, Receipt("77", 5.0, "big", "Submitted", adopted=True)
    )  # fmt: skip
    assert 100 <= found.age_s < 130


def test_a_sender_on_another_machine_is_given_time(
    planned: SubmissionLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(process, "hostname", lambda: "login2")
        assert begin_sending(planned, 0, 1)
    assert states(planned, later=50)[0] is ChunkState.SENDING
    assert states(planned, later=61)[0] is ChunkState.UNCERTAIN


def test_a_job_found_between_look_and_sending_is_not_sent_again(
    planned: SubmissionLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lfadsrm_hpc.manifest import submissions

    real = submissions.publish_new

    def found_first(path: Path, data: bytes, **more: bool) -> bool:
        if path.name == "sending-0.2.json":
            monkeypatch.setattr(submissions, "publish_new", real)
            record_receipt(planned, 0, Receipt("77", adopted=True))
        return real(path, data, **more)

    begin_sending(planned, 0, 1)
    record_refusal(planned, 0, 1, "not found")
    monkeypatch.setattr(submissions, "publish_new", found_first)
    assert not begin_sending(planned, 0, 2)
    assert states(planned)[0] is ChunkState.SENT


def test_files_that_were_never_filled(planned: SubmissionLayout) -> None:
    """Where there are no hard links, a kill leaves them empty."""
    planned.sending(0, 1).touch()
    assert states(planned)[0] is ChunkState.UNCERTAIN
    planned.receipt(0).touch()
    assert states(planned)[0] is ChunkState.UNCERTAIN
    assert record_receipt(planned, 0, Receipt("77"))
    assert on_disk(planned).chunks[0].receipt == Receipt("77")
    assert not record_receipt(planned, 0, Receipt("78"))
    assert planned.receipts() == [0]


def test_a_plan_that_was_never_filled_is_none(layout: CollectionLayout) -> None:
    submission = layout.submission(new_ulid())
    submission.path.mkdir(parents=True)
    assert read_submission(submission, time.time()) is None
    for text in ("", '{"ulid": "01'):
        submission.plan.write_text(text)
        assert read_submission(submission, time.time()) is None


DAMAGE: dict[str, Callable[[SubmissionLayout], object]] = {
    "no table": lambda s: s.tasks.unlink(),
    "empty table": lambda s: s.tasks.write_text(""),
    "cut table": lambda s: s.tasks.write_bytes(s.tasks.read_bytes()[:-4]),
    "table cut after a line": lambda s: s.tasks.write_text(
        "".join(s.tasks.read_text(encoding="utf-8").splitlines(keepends=True)[:3]), encoding="utf-8"
    ),
    "table cut within a job": lambda s: s.tasks.write_text(
        "".join(s.tasks.read_text(encoding="utf-8").splitlines(keepends=True)[:4]), encoding="utf-8"
    ),
    "garbage in the table": lambda s: s.tasks.write_bytes(
        s.tasks.read_bytes().replace(b"1\t0\t", b"\xff\xfe\tx\t")
    ),
    "a folder for a table": lambda s: (s.tasks.unlink(), s.tasks.mkdir()),
    "damaged plan": lambda s: s.plan.write_text('{"ulid": "01'),
    "strange plan": lambda s: s.plan.write_text('{"ulid": 3, "scheduler": "slurm", "site": "x"}'),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_hides_no_other_submission_and_is_told(layout: CollectionLayout, name: str) -> None:
    good, bad = layout.submission(new_ulid()), layout.submission(new_ulid(time.time() + 1))
    for submission in (good, bad):
        write_plan(submission, make_plan(submission.ulid), TASKS, {})
        begin_sending(submission, 0, 1)
    DAMAGE[name](bad)
    with pytest.warns(LfadsrmWarning, match=f"submission {bad.ulid} is damaged"):
        found = read_submissions(layout, time.time())
    assert [one.plan.ulid for one in found] == [good.ulid, bad.ulid]
    assert (found[0].tasks, found[0].damage) == (TASKS, "")
    assert found[1].damage
    assert set(found[1].tasks) < set(TASKS)
    if "table" in name:
        assert [chunk.chunk for chunk in found[1].chunks] == list(CHUNKS)
    if name == "cut table":
        assert found[1].tasks == TASKS[:3]


def compete(me: int, path: Path, barrier: Barrier) -> None:
    """Send every chunk that is not sent, as one of several that all want to."""
    os.fsync = lambda handle: None
    submission = SubmissionLayout(path)
    barrier.wait(60)
    for chunk in range(100):
        for number in (1, 2):
            if begin_sending(submission, chunk, number):
                (path / f"call-{chunk}.{number}.{me}").touch()
                # The first call of every other job is refused.
                if number == 1 and chunk % 2:
                    record_refusal(submission, chunk, number, "busy")
                    continue
                record_receipt(submission, chunk, Receipt(f"{chunk}-{me}"))


def test_several_send_each_chunk_once(layout: CollectionLayout) -> None:
    submission = layout.submission(new_ulid())
    chunks = tuple(PlannedChunk(n, f"lf{n}", 0) for n in range(100))
    tasks = [PlannedTask(n, 0, f"param_abcdefghijkl/{n}", 1) for n in range(100)]
    write_plan(submission, Plan(submission.ulid, "slurm", "here", chunks=chunks), tasks, {})
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(6)
    children = [context.Process(target=compete, args=(n, submission.path, barrier)) for n in range(6)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * 6
    calls = sorted(path.name.rpartition(".")[0] for path in submission.path.glob("call-*"))
    expected = [f"call-{n}.1" for n in range(100)] + [f"call-{n}.2" for n in range(1, 100, 2)]
    assert calls == sorted(expected)
    found = read_submission(submission, time.time())
    assert found is not None
    for chunk in found.chunks:
        assert chunk.receipt is not None
        sender = chunk.receipt.job.partition("-")[2]
        assert (submission.path / f"call-{chunk.chunk.number}.{chunk.sendings}.{sender}").exists()


def receive(me: int, path: Path, barrier: Barrier) -> None:
    os.fsync = lambda handle: None
    barrier.wait(60)
    won = [n for n in range(100) if record_receipt(SubmissionLayout(path), n, Receipt(f"job{me}"))]
    (path / f"won.{me}").write_text(" ".join(map(str, won)))


def test_one_receipt_stands(planned: SubmissionLayout) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    children = [context.Process(target=receive, args=(n, planned.path, barrier)) for n in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    won = {n: [int(k) for k in (planned.path / f"won.{n}").read_text().split()] for n in range(2)}
    assert sorted(won[0] + won[1]) == list(range(100))
    for winner, chunks in won.items():
        assert all(f'"job": "job{winner}"' in planned.receipt(chunk).read_text() for chunk in chunks)
