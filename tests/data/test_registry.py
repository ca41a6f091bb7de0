"""Readers of other packages, options, and which reader takes which file."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.data import readers
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.data.formats import registry
from lfadsrm_hpc.errors import DataError, DataWarning, NotFoundError, UsageError

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = """
import numpy as np
from lfadsrm_hpc.data.readers import Reader, from_arrays

def read(path, bin_ms, *, scale=1, rows=None):
    counts = np.loadtxt(path, ndmin=2)[:rows] * scale
    return from_arrays(counts[:, :, None], bin_ms=bin_ms or 5)

READER = Reader(read, suffixes=(".spk",))
TABLES = Reader(read, suffixes=(".csv", ".table"), by_name_only=True)

def make():
    return Reader(read, folder_with=("counts.txt",), suffixes=())

def wrong():
    return "a text"

NO_SUFFIX = Reader(read)
BAD_SUFFIX = Reader(read, suffixes=("spk",))
AGAIN = Reader(read, suffixes=(".spk",))
"""


def install(folder: Path, entries: dict[str, str], module: str = PLUGIN) -> Path:
    """Put an installed distribution into a folder: a module, and what pip writes beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "lab_formats.py").write_text(textwrap.dedent(module))
    info = folder / "lab_formats-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-formats\nVersion: 1.2\n")
    (info / "RECORD").write_text("")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[lfadsrm_hpc.readers]", *lines, ""]))
    return folder


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Forget readers of other packages before and after."""
    registry._plugins.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    sys.modules.pop("lab_formats", None)
    registry._plugins.cache_clear()


def test_a_package_adds_a_format(tmp_path: Path, fresh: pytest.MonkeyPatch) -> None:
    site = install(tmp_path / "site", {"spk": "lab_formats:READER"})
    fresh.syspath_prepend(str(site))
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in ("day1", "day2"):
        (folder / f"{name}.spk").write_text("1 0 2\n0 1 0\n")
    assert ".spk" in readers.readable_suffixes()
    ds = readers.read(folder / "day1.spk", scale=2)
    assert ds.spikes.values[:, :, 0].tolist() == [[2, 0, 4], [0, 2, 0]]
    assert ds.attrs["bin_ms"] == 5
    assert readers.read_info(folder / "day1.spk", rows=1)["n_trials"] == 1
    dc = DatasetCollection(folder)
    assert [d.name for d in dc.add_all(scale=3)] == ["day1", "day2"]
    assert int(dc["day2"].load().spikes.max()) == 6
    with pytest.raises(UsageError, match=r"spk files has no option 'scales'[\s\S]*did you mean 'scale'"):
        Dataset(dc, "day1.spk", name="x", scales=2)
    (folder / "other.dat").write_text("1 2\n")
    assert readers.read(folder / "other.dat", format="spk").sizes["time"] == 2


def test_a_format_that_cannot_be_loaded_costs_no_other(tmp_path: Path, fresh: pytest.MonkeyPatch) -> None:
    entries = {
        "spk": "lab_formats:READER",
        "gone": "lab_formats_gone:READER",
        "text": "lab_formats:wrong",
        "bare": "lab_formats:NO_SUFFIX",
        "odd": "lab_formats:BAD_SUFFIX",
        "mat": "lab_formats:READER",
        "lost": "lab_formats:NOTHING",
    }
    fresh.syspath_prepend(str(install(tmp_path / "site", entries)))
    (tmp_path / "a.spk").write_text("1 0\n")
    with pytest.warns(DataWarning) as warned:
        assert readers.read(tmp_path / "a.spk").sizes["time"] == 2
    texts = [str(w.message) for w in warned]
    assert len(texts) == 6
    for name, reason in (
        ("gone", "ModuleNotFoundError: No module named 'lab_formats_gone'"),
        ("text", "it is a str, not a"),
        ("bare", "neither suffixes nor folder_with"),
        ("odd", "'spk' is not a suffix"),
        ("mat", "another reader of the name 'mat'"),
        ("lost", "AttributeError"),
    ):
        (text,) = [t for t in texts if f"the reader {name!r}" in t]
        assert "package lab-formats 1.2" in text
        assert reason in text
    (tmp_path / "a.xyz").write_text("")
    with pytest.raises(DataError, match=r"'\.xyz' cannot be read[\s\S]*'gone' of package lab-formats 1.2"):
        readers.read(tmp_path / "a.xyz")
    with pytest.raises(UsageError, match=r"no reader for the format 'gone'[\s\S]*ModuleNotFoundError"):
        readers.read(tmp_path / "a.spk", format="gone")


def test_a_module_that_fails_when_it_is_imported(tmp_path: Path, fresh: pytest.MonkeyPatch) -> None:
    site = install(tmp_path / "site", {"spk": "lab_formats:READER"}, "raise RuntimeError('no licence')")
    fresh.syspath_prepend(str(site))
    (tmp_path / "a.spk").write_text("1 0\n")
    with pytest.warns(DataWarning, match="RuntimeError: no licence"):
        with pytest.raises(DataError, match="no licence"):
            readers.read(tmp_path / "a.spk")


def test_folders_and_two_readers_of_one_suffix(tmp_path: Path, fresh: pytest.MonkeyPatch) -> None:
    entries = {"trees": "lab_formats:make", "a": "lab_formats:READER", "b": "lab_formats:AGAIN"}
    fresh.syspath_prepend(str(install(tmp_path / "site", entries)))
    (tmp_path / "x.spk").write_text("1 0\n")
    with pytest.raises(
        DataError, match=r"several readers for files with the suffix '\.spk': a, b[\s\S]*format='a'"
    ):
        readers.read(tmp_path / "x.spk")
    assert readers.read(tmp_path / "x.spk", format="b").sizes["time"] == 2
    tree = tmp_path / "day1"
    tree.mkdir()
    with pytest.raises(
        DataError, match=r"a folder, and not one that can be read[\s\S]*trees, with counts.txt"
    ):
        readers.read(tree)
    (tree / "counts.txt").write_text("1 0\n")
    assert registry.find(tree).name == "trees"


def test_suffixes_of_ours_stay_ours_and_others_are_asked_by_name(
    tmp_path: Path, fresh: pytest.MonkeyPatch
) -> None:
    fresh.syspath_prepend(str(install(tmp_path / "site", {"tables": "lab_formats:TABLES"})))
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "trials.csv").write_text("a,b\n")
    (folder / "day1.table").write_text("1 0\n")
    dc = DatasetCollection(folder)
    with pytest.raises(NotFoundError, match="no file"):
        dc.add_all()
    assert [d.name for d in dc.add_all("*.table")] == ["day1"]
    assert registry.find(folder / "trials.csv").name == "csv"


def test_packages_are_not_searched_for_files_that_we_read(tmp_path: Path, fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(registry, "_plugins", lambda: pytest.fail("packages were searched"))
    path = readers.save_dataset(readers.from_arrays(np.ones((2, 3, 1)), bin_ms=5), tmp_path / "a.h5")
    assert readers.read(path).sizes["trial"] == 2
    assert registry.can_read(path)
    assert registry.find(tmp_path / "not_there.mat").name == "mat"


def test_it_is_light_to_import() -> None:
    code = (
        "import sys; import lfadsrm_hpc.data.formats.registry, lfadsrm_hpc.data.dataset as d;"
        "import lfadsrm_hpc.data.dataset_collection as c;"
        "d.Dataset(c.DatasetCollection('x'), 'a.nwb');"
        "bad = {'xarray', 'h5py', 'pandas', 'scipy', 'pynwb', 'numpy'} & set(sys.modules);"
        "print(sorted(bad)); sys.exit(bool(bad))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(registry._OURS))
def test_every_reader_of_ours_names_its_options(name: str) -> None:
    found = registry.find(Path("x"), name)
    options: dict[str, Any] = dict.fromkeys(found.reader.option_names)
    registry.check_options(found, options)
    assert found.reader.suffixes == () or found.reader.suffixes == registry._OURS[name].suffixes
    with pytest.raises(UsageError, match="has no option 'nonsense'"):
        registry.check_options(found, {"nonsense": 1})


def test_options_are_kept_with_a_dataset(tmp_path: Path) -> None:
    calls: list[dict[str, Any]] = []

    def own(path: Path, **options: Any) -> Any:
        calls.append(options)
        return readers.from_arrays(np.ones((2, 3, 1)), bin_ms=5)

    (tmp_path / "day1.raw").write_text("")
    dc = DatasetCollection(tmp_path)
    ds = Dataset.from_file(dc, "day1.raw", own, gain=3)
    assert ds.load().sizes["trial"] == 2
    assert calls == [{"gain": 3}]
    assert ds.source()["options"] == {"gain": 3}
    assert ds.load_info()["n_bins"] == 3
    assert "options" not in Dataset(dc, "day2.h5").source()
