"""A folder in which a page is executed."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

HERE = Path(__file__).resolve().parent

# Tests are no package; these names are how they reach the modules.
for _name, _file in (("doc_pages", "pages.py"), ("doc_prepared", "prepared.py")):
    _spec = importlib.util.spec_from_file_location(_name, HERE / _file)
    assert _spec is not None
    assert _spec.loader is not None
    _module = importlib.util.module_from_spec(_spec)
    sys.modules[_name] = _module
    _spec.loader.exec_module(_module)

if TYPE_CHECKING:
    from doc_pages import Place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty folder, which is also the user's home, with `lfadsrm` and `python` on the path."""
    import doc_pages

    folder = tmp_path / "here"
    folder.mkdir()
    doc_pages.write_commands(folder.parent / "bin")
    monkeypatch.chdir(folder)
    recorded: dict[int, str] | None = {} if os.environ.get("LFADSRM_RECORD_PAGES") == "1" else None
    for name, value in doc_pages.clean_environment(folder).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    # What a page imports from a folder of its own, or registers, must not reach other tests.
    monkeypatch.setattr(sys, "path", list(sys.path))
    names: dict[str, Any] = {"__name__": "a_page"}
    return doc_pages.Place(folder, names, recorded=recorded)
