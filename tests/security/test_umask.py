"""Files and folders have the modes that the user's umask leaves, and nobody else can ever change them."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest.publish import publish_name, publish_new, publish_replacing
from lfadsrm_hpc.manifest.records import new_ulid
from lfadsrm_hpc.manifest.submissions import Plan, write_plan

UMASKS = (0o000, 0o002, 0o007, 0o022, 0o077)
FAKE_TASK = Path(__file__).resolve().parent.parent / "cli/fake_task.py"


@pytest.fixture(params=UMASKS, ids=lambda mask: f"{mask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """The umask of this process and of all that it starts."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(root: Path) -> Iterator[tuple[Path, int, bool]]:
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            found = path.lstat().st_mode
            if not stat.S_ISLNK(found):
                yield path, stat.S_IMODE(found), stat.S_ISDIR(found)


def check(root: Path, umask: int, *, setgid: bool = False) -> int:
    """Check everything below a folder; return how many files and folders there are."""
    mask, count = umask | 0o002, 0
    for path, mode, is_folder in modes(root):
        # One script is for `bash FILE`.
        runs = is_folder or (path.suffix == ".sh" and path.name != "launch_tensorboard.sh")
        expected = (0o777 if runs else 0o666) & ~mask
        if is_folder and setgid:
            expected |= stat.S_ISGID
        assert mode == expected, f"{path}: {mode:o}, {expected:o} expected under umask {umask:03o}"
        count += 1
    return count


def test_prepare_run_and_status(
    project: Path,
    umask: int,
    call: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From an experiment to runs that a stand-in has done, in a folder that hands its group on."""
    monkeypatch.setenv("LFADSRM_TRUSTED", "/")
    queue = (
        f"[queue]\ntask_command = {json.dumps([sys.executable, str(FAKE_TASK)])}\npoll_s = 0.05\nslots = 1\n"
    )
    with (project / "experiment.toml").open("a") as stream:
        stream.write(queue + "use_gpu = false\n")
    root = project / "runs"
    root.mkdir(mode=0o775)
    root.chmod(0o2775)
    assert call("prepare", project).code == 0
    assert call("run", project).code == 0
    assert call("status", project).code == 0
    assert call("best", project).code in (0, 1, 3)
    assert check(root, umask, setgid=True) > 20


def test_results_report_export_and_figures(
    tmp_path: Path, umask: int, call: Any, fabricated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lfadsrm_hpc.collection.params import RunParams

    os.umask(umask | 0o002)  # as the command line does; Python's users have their own
    rc = fabricated.collection(tmp_path / "runs", RunParams(**fabricated.BASE), specs={"one": ["day1"]})
    for run in rc.runs:
        fabricated.complete(run, valid_costs=(5, 4))
    os.umask(umask)
    out = tmp_path / "out"
    out.mkdir(mode=0o775)
    for command in (
        ("report", rc.path),
        ("export", "-C", rc.path, out / "all.nc"),
        ("best", rc.path, "--script", out / "again.sh"),
        ("status", rc.path, "--rescan"),
    ):
        said = call(*command)
        assert said.code == 0, f"{command}: {said.err}"
    assert {path.name for path in out.iterdir()} == {"all.nc", "again.sh"}
    assert check(tmp_path, umask) > 20


def test_small_files_and_submissions(tmp_path: Path, umask: int) -> None:
    (tmp_path / "folder").mkdir(mode=0o775)
    publish_new(tmp_path / "folder/a.json", b"{}")
    publish_new(tmp_path / "folder/a.sh", b"", script=True)
    publish_replacing(tmp_path / "folder/b.json", b"{}")
    publish_replacing(tmp_path / "folder/b.sh", b"", script=True)
    publish_name(tmp_path / "folder/name")
    assert check(tmp_path / "folder", umask) == 5
    submission = CollectionLayout(tmp_path / "runs").submission(new_ulid())
    write_plan(submission, Plan(submission.ulid, "slurm", "x"), [], {"script-0.sh": "", "queues/0-0.sh": ""})
    files = [one for one in modes(tmp_path / "runs") if not one[2]]
    assert {mode for path, mode, _ in files if path.suffix != ".sh"} == {0o664 & ~umask}
    assert {mode for path, mode, _ in files if path.suffix == ".sh"} == {0o775 & ~umask}


def test_what_is_told_of_a_bug_is_the_users_alone(
    tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    from lfadsrm_hpc.cli import main

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert stat.S_IMODE(Path(main._write_report()).stat().st_mode) == 0o600
