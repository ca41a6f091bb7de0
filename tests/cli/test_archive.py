"""`lfadsrm archive`: what goes in comes out, and nothing is deleted that is not in a verified archive."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.collection import archive as archiving
from lfadsrm_hpc.layout import CollectionLayout, is_temporary
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.holding import held
from lfadsrm_hpc.manifest.records import Identity
from lfadsrm_hpc.manifest.states import RunState


def _load() -> ModuleType:
    path = Path(__file__).parents[1] / "results" / "made_up_runs.py"
    spec = importlib.util.spec_from_file_location("made_up_runs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("made_up_runs", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def _made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    collection = _load().build(tmp_path_factory.mktemp("made_up") / "runs", sweep=False)
    (collection.path / "param_x.txt").write_text("a note of the user's")
    return Path(collection.path)


@pytest.fixture
def whole(_made_up: Path, tmp_path: Path) -> Path:
    """Return a collection of two complete runs with posterior means, at a place of its own."""
    return shutil.copytree(_made_up, tmp_path / "runs" / _made_up.name)


def content(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in found
        if path.name != "archive.json" and not any(map(is_temporary, path.parts))
    }


def unpack(archive: Path, into: Path) -> Path:
    into.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", into], check=True)
    (found,) = into.iterdir()
    return found


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_what_was_packed_and_removed_comes_back(whole: Path, tmp_path: Path, call: Any, suffix: str) -> None:
    before = content(whole)
    states = [status.to_dict() for status in RunCollection.open(whole).status(ask=False)]
    shown = call("show", whole).out
    rates = RunCollection.open(whole).runs[1].load_posterior_means()["rates"].values
    file = tmp_path / f"away{suffix}"
    said = call("archive", whole, "-o", file, "--remove", "--yes", "--json")
    assert said.code == 0, said.err
    assert (said.json["removed"], said.json["files"], said.json["made"]) == (True, len(before), True)
    assert set(said.json["runs"].values()) == {"COMPLETED"}
    assert list(whole.parent.iterdir()) == []
    checked = call("archive", "--check", file, "--json")
    assert checked.json["runs"] == said.json["runs"]
    back = unpack(file, tmp_path / "elsewhere")
    assert content(back) == before
    again = RunCollection.open(back)
    assert [status.to_dict() for status in again.status(ask=False)] == states
    assert call("show", back).out.replace(str(back), str(whole)) == shown
    assert call("status", back, "--json").json["runs"][0]["state"] == "COMPLETED"
    assert (again.runs[1].load_posterior_means()["rates"].values == rates).all()


def test_some_runs_alone_are_a_collection_too(whole: Path, tmp_path: Path, call: Any) -> None:
    file = tmp_path / "one.tar"
    assert call("archive", whole, "--spec", "single_day1", "-o", file).code == 0
    back = RunCollection.open(unpack(file, tmp_path / "elsewhere"))
    assert [run.name for run in back.runs] == ["single_day1"]
    listed = call("status", back.path, "--json").json["runs"]
    assert [run["run_id"] for run in listed] == [back.runs[0].id]
    back.runs[0].check_inputs()
    assert back.runs[0].load_posterior_means().sizes["trial"] > 0
    assert not list(back.path.glob("data_*/stitched"))
    refused = call("archive", whole, "--spec", "single_day1", "--remove", "--yes")
    assert (refused.code, whole.exists()) == (2, True)


def test_an_archive_lies_beside_its_collection_unless_told_otherwise(whole: Path, call: Any) -> None:
    said = call("archive", whole)
    assert said.out.strip() == str(whole.with_name(f"{whole.name}.tar"))
    again = call("archive", whole, "--json")  # the same again verifies what is there
    assert (again.code, again.json["made"]) == (0, False)
    (whole / "new.txt").write_text("came later")
    other = call("archive", whole)
    assert (other.code, "new.txt" in other.err) == (2, True)
    assert call("archive", whole, "-o", whole / "inside.tar").code == 2
    assert call("archive", whole, "-o", whole.parent / "strange.zip").code == 2
    assert call("archive", "--check", whole.parent / "nothing.tar").code == 2


def test_removing_asks(whole: Path, call: Any, shell: Any) -> None:
    for said in (call("archive", whole, "--remove"), shell("archive", str(whole), "--remove")):
        assert (said.code, "--yes" in said.err) == (2, True)
    assert whole.exists()


def test_runs_at_work_or_waiting_are_not_packed(whole: Path, call: Any) -> None:
    run = RunCollection.open(whole).runs[0]
    run.collection.delete_outputs([run], yes=True)
    number = store.reserve(run.layout, "01JZZZZZZZZZZZZZZZZZZZZZZZ")
    assert call("archive", whole).code == 2
    store.close(run.layout, number, "superseded")
    store.take_local(run.layout, Identity.local("", "0"))
    assert call("archive", whole).code == 2
    assert not whole.with_name(f"{whole.name}.tar").exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "added", "none of ours", "empty"])
def test_damage_is_found(whole: Path, tmp_path: Path, call: Any, damage: str) -> None:
    file = tmp_path / "away.tar"
    assert call("archive", whole, "-o", file).code == 0
    data = bytearray(file.read_bytes())
    place = data.rindex(b"a note of the user's")
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flipped":
        data[place] ^= 1
    elif damage == "empty":
        data.clear()
    file.write_bytes(data)
    if damage in ("added", "none of ours"):
        with tarfile.open(file, "a" if damage == "added" else "w") as tar:
            tar.add(__file__, arcname=f"{whole.name}/more.py")
    said = call("archive", "--check", file)
    assert (said.code, "make the archive again" in said.err) == (3, True)
    assert call("archive", whole, "-o", file, "--remove", "--yes").code == 3
    assert whole.exists()


def test_what_changes_while_it_is_packed_is_not_removed(
    whole: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = archiving.archive_file.write

    def written(*args: Any) -> None:
        write(*args)
        (whole / "summary.txt").write_text("changed")

    monkeypatch.setattr(archiving.archive_file, "write", written)
    said = call("archive", whole, "--remove", "--yes")
    assert (said.code, "summary.txt" in said.err) == (3, True)
    assert [path.name for path in whole.parent.iterdir()] == [
        whole.name
    ]  # neither an archive nor half of one


def test_a_file_that_comes_at_the_last_moment_keeps_the_collection(
    whole: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = archiving._publish

    def published(beside: Path, target: Path) -> None:
        publish(beside, target)
        (whole / "late.txt").write_text("came late")

    monkeypatch.setattr(archiving, "_publish", published)
    said = call("archive", whole, "--remove", "--yes")
    assert (said.code, "late.txt" in said.err) == (3, True)
    assert (whole / "late.txt").is_file()
    assert RunCollection.open(whole).status(ask=False)[0].state is RunState.COMPLETED


def test_a_run_that_somebody_holds_is_not_removed(whole: Path, call: Any) -> None:
    with held(RunCollection.open(whole).runs[0].layout):
        assert call("archive", whole, "--remove", "--yes").code == 2
    assert whole.exists()


def test_a_link_to_a_folder_elsewhere_is_refused_and_one_to_a_file_followed(
    whole: Path, tmp_path: Path, call: Any
) -> None:
    (tmp_path / "note").write_text("elsewhere")
    (whole / "note").symlink_to(tmp_path / "note")
    file = tmp_path / "away.tar"
    assert call("archive", whole, "-o", file).code == 0
    note = unpack(file, tmp_path / "back") / "note"
    assert (note.is_symlink(), note.read_text()) == (False, "elsewhere")
    (whole / "figures").symlink_to(tmp_path)
    said = call("archive", whole, "-o", tmp_path / "other.tar")
    assert (said.code, "link" in said.err) == (2, True)


def test_what_a_killed_removal_left_is_settled(whole: Path, call: Any) -> None:
    layout = CollectionLayout(whole)
    aside, deleted = layout.put_aside("0" * 16), layout.being_deleted("1" * 16)
    shutil.copytree(whole, deleted)
    whole.rename(aside)
    said = call("archive", whole)
    assert said.code == 0
    assert "it is back" in said.err
    assert sorted(path.name for path in whole.parent.iterdir()) == [whole.name, f"{whole.name}.tar"]
    whole.rename(deleted)
    (deleted / "collection.json").unlink()
    said = call("archive", whole, "--remove", "--yes")
    assert (said.code, "deleted what" in said.err) == (0, True)
    assert [path.name for path in whole.parent.iterdir()] == [f"{whole.name}.tar"]


def test_old_halves_of_an_archive_go(whole: Path, call: Any) -> None:
    half = whole.parent / f".{whole.name}.tar.0123456789abcdef.partial"
    half.write_bytes(b"half")
    os.utime(half, (time.time() - 2e5,) * 2)
    assert call("archive", whole).code == 0
    assert not half.exists()
