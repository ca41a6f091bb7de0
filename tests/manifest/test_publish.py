from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from lfadsrm_hpc.manifest.publish import (
    file_system_now,
    make_folder,
    publish_name,
    publish_new,
    publish_replacing,
)


def no_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.fixture(params=["links", "no links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no links":
        monkeypatch.setattr(os, "link", no_links)


@pytest.mark.usefixtures("links")
def test_the_first_wins_and_nothing_lies_beside(tmp_path: Path) -> None:
    place = tmp_path / "claim.r0.json"
    assert publish_new(place, b"one")
    assert not publish_new(place, b"two")
    assert place.read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["claim.r0.json"]


def test_a_link_whose_answer_got_lost_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(source: Path, target: Path) -> None:
        real(source, target)
        raise FileExistsError(errno.EEXIST, "NFS sent it twice")

    monkeypatch.setattr(os, "link", link)
    assert publish_new(tmp_path / "a", b"one")
    assert not publish_new(tmp_path / "a", b"two")


def test_other_errors_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space"):
        publish_new(tmp_path / "a", b"one")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        publish_new(tmp_path / "missing" / "a", b"one")


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "heartbeat.r0"
    publish_replacing(place, b"old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        publish_replacing(place, b"new")
    assert place.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [place]


def test_replacing(tmp_path: Path) -> None:
    place = tmp_path / "heartbeat.r0"
    publish_replacing(place, b"one")
    publish_replacing(place, b"two")
    assert place.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [place]


def test_names_and_folders(tmp_path: Path) -> None:
    publish_name(tmp_path / "outbox" / "x")
    publish_name(tmp_path / "outbox" / "x")
    assert (tmp_path / "outbox" / "x").read_bytes() == b""
    assert make_folder(tmp_path / "attempts" / "001")
    assert not make_folder(tmp_path / "attempts" / "001")


def test_now_is_the_file_systems(tmp_path: Path) -> None:
    now = file_system_now(tmp_path)
    assert now is not None
    assert abs(now - time.time()) < 5
    assert list(tmp_path.iterdir()) == []
    assert file_system_now(tmp_path / "missing") is None
