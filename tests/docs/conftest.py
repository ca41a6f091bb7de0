"""A folder in which a page is executed."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

HERE = Path(__file__).resolve().parent

# Tests are no package; these names are how they reach the modules.
for _name, _file in (
    ("doc_pages", "pages.py"),
    ("doc_prepared", "prepared.py"),
    ("doc_prepared_results", "prepared_results.py"),
    ("doc_prepared_clusters", "prepared_clusters.py"),
):
    _spec = importlib.util.spec_from_file_location(_name, HERE / _file)
    assert _spec is not None
    assert _spec.loader is not None
    _module = importlib.util.module_from_spec(_spec)
    sys.modules[_name] = _module
    _spec.loader.exec_module(_module)

if TYPE_CHECKING:
    from doc_pages import Place


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty folder whose path is as long as `/home/ada`: what is printed is wrapped as on the page."""
    import doc_pages

    while True:
        folder = Path("/tmp") / secrets.token_hex(2)
        try:
            folder.mkdir()
            break
        except FileExistsError:
            continue
    assert len(str(folder)) == len(doc_pages.HOME)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def place(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The home of a user, with `lfadsrm`, `python` and `pip` on the path."""
    import doc_pages

    doc_pages.write_commands(tmp_path / "bin", installed=tmp_path / "installed")
    monkeypatch.chdir(home)
    recorded: dict[int, str] | None = {} if os.environ.get("LFADSRM_RECORD_PAGES") == "1" else None
    for name, value in doc_pages.clean_environment(home, tmp_path).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    # What a page imports from a folder of its own, or registers, must not reach other tests.
    monkeypatch.setattr(sys, "path", list(sys.path))
    names: dict[str, Any] = {"__name__": "a_page"}
    return doc_pages.Place(home, names, recorded=recorded)
