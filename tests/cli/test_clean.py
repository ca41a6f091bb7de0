"""`lfadsrm clean`: what it offers, what it never touches, and what happens when others work meanwhile."""

from __future__ import annotations

import os
import time
import traceback
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.collection import cleaning, leftovers
from lfadsrm_hpc.errors import ClaimLostError, MismatchError, UsageError
from lfadsrm_hpc.layout import EXAMINATION, RunLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.holding import held
from lfadsrm_hpc.manifest.records import Exit, Identity, reason_of
from lfadsrm_hpc.manifest.states import RunState

BEST, LAST, OLD = (
    "checkpoint-000000000040-best.npz",
    "checkpoint-000000000050.npz",
    "checkpoint-000000000030.npz",
)


def trained(run: RunLayout, *codes: int, results: bool = True) -> None:
    """Leave what attempts that end with these exit codes leave."""
    for code in codes:
        claim = store.take_local(run, Identity.local("", "0"))
        assert not isinstance(claim, store.AlreadyComplete)
        folder = run.checkpoint_dir(claim.attempt, claim.incarnation)
        (folder / "tensorboard").mkdir(parents=True)
        (folder / "tensorboard" / "events.1").write_bytes(b"e" * 100)
        (folder / "glimpse").mkdir()
        (folder / "glimpse" / "day1.npz").write_bytes(b"g" * 100)
        (folder / "fitlog.csv").write_text("epoch\n")
        for name in (OLD, BEST, LAST):
            with zipfile.ZipFile(folder / name, "w") as file:
                file.writestr("meta.npy", b"m" * 1000)
        if code == 0 and results:
            run.model_params.write_bytes(b"model")
            run.posterior_dir.mkdir()
            run.posterior_means("day1").write_bytes(b"rates")
        store.publish_exit(run, claim, Exit(code, reason_of(code)))


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def collection(small: Path) -> RunCollection:
    """Return a collection with a run of each kind: complete (at the second try), failed, cancelled, ..."""
    opened = RunCollection.open(small)
    complete, failed, cancelled, waiting, uncertain, _ = (run.layout for run in opened.runs)
    trained(complete, 1, 0)
    trained(failed, 1)
    trained(cancelled, 75)
    store.cancel(opened.layout, [cancelled])
    trained(waiting, 75)
    store.reserve(waiting, "01JZZZZZZZZZZZZZZZZZZZZZZZ")
    trained(uncertain, 1)
    store.take_local(uncertain, Identity.local("", "1"))  # this process works on it
    return opened


def test_only_what_a_complete_run_does_not_need_goes(collection: RunCollection, call: Any) -> None:
    complete, *others = (run.layout for run in collection.runs)
    before = {run.run_id: files_of(run.path) for run in others}
    listed = call("clean", collection.path, "--dry-run", "--json").json
    assert listed["removed"] is False
    kinds = [
        (item["kind"], Path(item["path"]).relative_to(complete.path).as_posix()) for item in listed["items"]
    ]
    assert set(kinds) == {
        *(("attempts", f"checkpoints/001.r0/{name}") for name in (OLD, BEST, LAST)),
        *(("checkpoints", f"checkpoints/002.r0/{name}") for name in (OLD, BEST)),
        *(("tensorboard", f"checkpoints/{attempt}.r0/tensorboard") for attempt in ("001", "002")),
        *(("glimpses", f"checkpoints/{attempt}.r0/glimpse") for attempt in ("001", "002")),
    }
    assert {item["run_id"] for item in listed["items"]} == {complete.run_id}
    said = call("clean", collection.path, "--yes", "--json")
    assert said.code == 0
    assert said.json["size_bytes"] == listed["size_bytes"] > 5000
    assert files_of(complete.path / "checkpoints") == {
        f"002.r0/{LAST}",
        "001.r0/fitlog.csv",
        "002.r0/fitlog.csv",
    }
    assert complete.model_params.is_file()
    assert complete.posterior_means("day1").is_file()
    assert {run.run_id: files_of(run.path) for run in others} == before
    assert collection.status(ask=False)[0].state is RunState.COMPLETED
    assert [attempt.number for attempt in complete.attempts()] == [1, 2]  # the hold left nothing
    assert call("clean", collection.path).code == 4


def test_results_and_the_last_checkpoint_only_where_they_are_named(
    collection: RunCollection, call: Any
) -> None:
    run = collection.runs[0].layout
    assert call("clean", collection.path, "--yes", "--kind", "posterior-means").code == 0
    assert files_of(run.posterior_dir) == set()
    assert run.checkpoint_dir(1, 0).joinpath(OLD).exists()
    assert call("clean", collection.path, "--yes", "--kind", "last-checkpoint").code == 0
    assert files_of(run.checkpoint_dir(2, 0)) == {
        OLD,
        BEST,
        "fitlog.csv",
        "tensorboard/events.1",
        "glimpse/day1.npz",
    }
    offered = call("clean", collection.path, "--dry-run", "--json").json["items"]
    assert "glimpses" not in {item["kind"] for item in offered}, "nothing else is left for peek to show"
    assert collection.status(ask=False)[0].state is RunState.COMPLETED
    unknown = call("clean", collection.path, "--kind", "posterior-mean")
    assert (unknown.code, "did you mean 'posterior-means'?" in unknown.err) == (2, True)


def test_the_only_copy_of_the_parameters_stays(collection: RunCollection) -> None:
    collection.runs[0].layout.model_params.unlink()
    assert collection.removable(kinds=["last-checkpoint"]) == []


def test_a_last_checkpoint_that_cannot_be_read_is_not_the_one_that_stays(collection: RunCollection) -> None:
    folder = collection.runs[0].layout.checkpoint_dir(2, 0)
    (folder / LAST).write_bytes(b"cut off")
    gone = {item.path.name for item in collection.removable(kinds=["checkpoints"])}
    assert gone == {LAST, OLD}


def test_nothing_is_deleted_without_a_terminal_or_yes(
    collection: RunCollection, call: Any, shell: Any
) -> None:
    before = files_of(collection.path / "param_x") | files_of(collection.runs[0].path)
    for said in (call("clean", collection.path), shell("clean", str(collection.path))):
        assert said.code == 2
        assert "--yes" in said.err
        assert "tensorboard" in said.err  # what it would be about is shown
    assert before == files_of(collection.runs[0].path)


def test_a_run_that_is_started_again_meanwhile_keeps_its_files(collection: RunCollection) -> None:
    run = collection.runs[0].layout
    items = collection.removable()
    claim = store.take_local(run, Identity.local("", "9"), redo=True)
    assert not isinstance(claim, store.AlreadyComplete)
    before = files_of(run.path)
    done = collection.clean(items)
    assert done.removed == []
    assert "another task has this run" in done.skipped[run.run_id]
    assert files_of(run.path) == before
    store.publish_exit(run, claim, Exit(1, reason_of(1)))
    assert collection.clean(items).removed == []  # its newest attempt failed: it is not complete any more


def test_outputs_that_were_deleted_and_made_again_are_not_taken_for_the_old_ones(
    collection: RunCollection,
) -> None:
    items = collection.removable()
    collection.delete_outputs(collection.runs[0], yes=True)
    trained(collection.runs[0].layout, 75)
    before = files_of(collection.runs[0].path)
    assert collection.clean(items).removed == []
    assert files_of(collection.runs[0].path) == before


def test_nobody_starts_a_run_that_is_held(collection: RunCollection) -> None:
    run = collection.runs[1].layout
    state = store.run_status(run)
    with held(run) as hold:
        hold.beat()
        with pytest.raises(ClaimLostError, match="another task has this run"):
            store.take_local(run, Identity.local("", "1"))
        with pytest.raises(ClaimLostError, match="another task has this run"):
            store.reserve(run, "01JZZZZZZZZZZZZZZZZZZZZZZZ")
        with pytest.raises(ClaimLostError), held(run):
            pass
    assert store.run_status(run).state is state.state is RunState.FAILED
    assert store.reserve(run, "01JZZZZZZZZZZZZZZZZZZZZZZZ") == 2
    with pytest.raises(ClaimLostError, match="reserved for submission"), held(run):
        pass


def test_a_holder_that_was_killed_blocks_nobody(collection: RunCollection) -> None:
    complete, failed = (run.layout for run in collection.runs[:2])
    pid = os.fork()
    if pid == 0:
        holds = [held(run) for run in (complete, failed)]
        for hold in holds:
            hold.__enter__()
        os._exit(9)
    assert os.waitpid(pid, 0)[1] == 9 << 8
    assert store.run_status(complete).state is RunState.COMPLETED
    with held(complete) as hold:
        assert hold.attempt == 3
    assert [attempt.number for attempt in complete.attempts()] == [1, 2]  # what the dead one left is gone
    assert not isinstance(store.take_local(failed, Identity.local("", "1")), store.AlreadyComplete)


def redo_again_and_again(run: RunLayout, seconds: float) -> int:
    """Take a run as its tasks do when it is to be sampled anew; return how often it could be had.

    What is there when it was taken must be there until it ends.
    """
    had, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            claim = store.take_local(run, Identity.local("", str(os.getpid())), redo=True)
        except ClaimLostError:
            continue
        assert not isinstance(claim, store.AlreadyComplete)
        before = files_of(run.checkpoints)
        time.sleep(0.01)
        assert files_of(run.checkpoints) == before, "files went under a task at work"
        folder = run.checkpoint_dir(claim.attempt, 0)
        folder.mkdir()
        for name in (OLD, LAST):
            with zipfile.ZipFile(folder / name, "w") as file:
                file.writestr("meta.npy", b"m")
        store.publish_exit(run, claim, Exit(0, reason_of(0)))
        had += 1
        time.sleep(0.05)  # the others want their turn
    return had


def test_cleaning_and_tasks_that_compete_for_a_run(
    collection: RunCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    run = collection.runs[0].layout
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = 0 if redo_again_and_again(run, 2.0) > 0 else 2
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        pids.append(pid)
    removed, end = 0, time.monotonic() + 2.0
    while time.monotonic() < end:
        items = cleaning.removable(collection.layout, [run], ("checkpoints", "attempts"), whole=False)
        removed += len(cleaning.clean(collection.layout, items).removed)
        time.sleep(0.005)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    items = cleaning.removable(collection.layout, [run], ("checkpoints", "attempts"), whole=False)
    removed += len(cleaning.clean(collection.layout, items).removed)
    assert removed > 0
    newest = run.checkpoint_dirs()[0][2]
    assert [path.name for path in run.checkpoints.rglob("checkpoint-*.npz")] == [LAST]
    assert (newest / LAST).is_file()
    assert store.run_status(run).state is RunState.COMPLETED


def old(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_inputs_without_a_run_and_old_leftovers_go(collection: RunCollection, call: Any) -> None:
    unused = collection.path / "data_0123456789ab" / "day1"
    unused.mkdir(parents=True)
    (unused / "lfads_day1.h5").write_bytes(b"x")
    idle, busy = collection.runs[5].path, collection.runs[4].path
    for folder in (idle, busy, collection.path):
        (folder / ".params.json.0123456789abcdef.tmp").write_bytes(b"half")
    examined = collection.path / f"{EXAMINATION}abc"  # of a doctor that was killed
    examined.mkdir()
    young = idle / ".young.12.tmp"
    young.write_bytes(b"")
    names = [".params.json.0123456789abcdef.tmp"]
    assert not {"inputs", "leftovers"} & {item.kind for item in collection.removable()}
    for path in (
        examined,
        unused / "lfads_day1.h5",
        unused,
        *(f / names[0] for f in (idle, busy, collection.path)),
    ):
        old(path, 2 * leftovers.STALE_S)
    found = {(item.kind, item.path) for item in collection.removable(kinds=["inputs", "leftovers"])}
    assert found == {
        ("inputs", unused),
        ("leftovers", idle / names[0]),
        ("leftovers", collection.path / names[0]),
        ("leftovers", examined),
    }
    assert call("clean", collection.path, "--kind", "inputs", "--kind", "leftovers", "--yes").code == 0
    assert not unused.exists()
    assert young.exists()
    assert (busy / names[0]).exists()
    used = {path for run in collection.runs for path in run.input_files().values()}
    assert all(path.is_file() for path in used)


def test_inputs_that_a_run_needs_by_now_are_put_back(collection: RunCollection) -> None:
    run = collection.runs[0]
    (path,) = {path.parent for path in run.input_files().values()}
    before = files_of(path)
    assert leftovers.settle_removed_inputs(collection.layout, path) is False
    assert files_of(path) == before
    aside = collection.layout.removed_inputs(path, "0123456789abcdef")
    path.rename(aside)  # and killed here
    cleaning.clean(collection.layout, [])
    assert files_of(path) == before


def test_prepare_notices_inputs_that_vanish_under_it(
    collection: RunCollection, experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lfadsrm_hpc.collection import preparation
    from lfadsrm_hpc.collection.experiment_file import read_experiment

    (path,) = {path.parent for path in collection.runs[0].input_files().values()}
    publish = preparation._publish_run

    def published(*args: Any) -> None:
        publish(*args)
        if path.exists():
            path.rename(path.with_name("gone"))

    built = read_experiment(experiment).build(RunCollection)
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "_publish_run", published)
        with pytest.raises(MismatchError, match="deleted while"):
            built.prepare_for_lfads(warn=False)
    read_experiment(experiment).build(RunCollection).prepare_for_lfads(warn=False)
    collection.runs[0].check_inputs()


def test_caches_are_made_again(collection: RunCollection, call: Any) -> None:
    before = [status.state for status in collection.status(ask=False)]
    collection.layout.index(3).write_text("{}")
    collection.layout.roster("x").write_text("{}")
    assert call("clean", collection.path, "--kind", "caches", "--yes").code == 0
    assert collection.layout.index_numbers() == collection.layout.rosters() == []
    assert [status.state for status in collection.status(ask=False)] == before


def test_kinds_in_the_help_are_those_that_there_are(call: Any) -> None:
    text = call("clean", "--help").out
    assert all(f"  {kind} " in text for kind in cleaning.KINDS)
    with pytest.raises(UsageError):
        cleaning.chosen_kinds(["nothing"])


def test_runs_start_from_nothing_only_where_they_are_named_and_none_works(
    collection: RunCollection, call: Any
) -> None:
    complete, failed, *_, uncertain, _ = (run.layout for run in collection.runs)

    def chosen(run: RunLayout) -> list[str]:
        params = next(one.params for one in collection.runs if one.layout == run)
        return ["--spec", run.path.name, "--match", f"factors_dim={params.factors_dim}"]

    before = files_of(collection.path)
    for words in (
        ["--yes"],
        [*chosen(failed), "--kind", "inputs", "--yes"],
        chosen(failed),
        ["--spec", "all"],
    ):
        assert call("clean", collection.path, "--restart", *words).code == 2
    busy = call("clean", collection.path, "--restart", *chosen(uncertain), "--yes")
    assert (busy.code, "may be running" in busy.err) == (2, True)
    shown = call("clean", collection.path, "--restart", *chosen(failed), "--dry-run", "--json").json
    assert {item["kind"] for item in shown["items"]} == {"outputs"}
    assert files_of(collection.path) - before <= {".lfadsrm/index-0.json"}
    for run in (complete, failed):
        said = call("clean", collection.path, "--restart", *chosen(run), "--yes", "--json").json
        assert said["removed"] is True
        assert said["size_bytes"] > 3000
        assert files_of(run.path) <= {"params.json", "run.sh"}
        assert call("clean", collection.path, "--restart", *chosen(run), "--yes").code == 4
    states = [status.state for status in collection.status(ask=False)]
    assert states[:2] == [RunState.PREPARED, RunState.PREPARED]
