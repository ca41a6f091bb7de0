"""Dataset and DatasetCollection."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from lfadsrm_hpc.data import readers
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.errors import DataError, NotFoundError, UsageError


def session(n_trials: int = 10, n_neurons: int = 3, seed: int = 0, **others: Any) -> xr.Dataset:
    spikes = np.random.default_rng(seed).poisson(0.5, (n_trials, 8, n_neurons))
    return readers.from_arrays(spikes, bin_ms=2, condition=np.arange(n_trials) % 3, **others)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three sessions of 10, 20, 30 trials as the demo writes them."""
    for day in (1, 2, 3):
        about = {"subject": "lorenz", "date": f"2020-01-0{day}", "save_tags": [day], "comment": "synthetic"}
        ds = session(10 * day, n_neurons=day, seed=day, **about)
        readers.save_dataset(ds, tmp_path / "datasets" / f"dataset{day:03d}.h5")
    return tmp_path / "datasets"


def test_the_script_of_the_readme(folder: Path) -> None:
    dc = DatasetCollection(str(folder))
    ds = Dataset(dc, "dataset001.h5")
    dc.load_info()
    assert dc[0] is ds
    assert dc["dataset001"] is ds
    assert ds.name == "dataset001"
    assert ds.single_run_name == "single_dataset001"
    assert ds.path == folder / "dataset001.h5"
    assert ds.load().sizes["trial"] == 10
    assert ds.load_info() == {
        "n_trials": 10,
        "n_bins": 8,
        "n_neurons": 1,
        "n_conditions": 3,
        "bin_ms": 2.0,
        "subject": "lorenz",
        "date": "2020-01-01",
        "save_tags": [1],
        "comment": "synthetic",
    }


def test_importing_is_light() -> None:
    code = (
        "import sys, lfadsrm_hpc as d; c = d.DatasetCollection('x');"
        "d.Dataset(c, 'a.h5').source();"
        "print([m for m in ('numpy', 'xarray', 'pandas', 'h5py', 'scipy', 'netCDF4') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_info_does_not_read_spikes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dc = DatasetCollection(folder)
    ds = Dataset(dc, "dataset003.h5")

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("the spikes were read")

    monkeypatch.setattr(readers, "read", fail)
    monkeypatch.setattr(Dataset, "load", fail)
    assert ds.load_info()["n_trials"] == 30
    monkeypatch.setattr(readers, "read_info", fail)
    assert ds.load_info()["n_trials"] == 30, "what was found once is kept"


def test_a_changed_file_is_seen(folder: Path) -> None:
    ds = Dataset(DatasetCollection(folder), "dataset001.h5")
    content, info, mark = ds.load(), ds.load_info(), ds.fingerprint()
    assert ds.load() is content, "what somebody holds is not read twice"
    assert info["n_trials"] == 10
    readers.save_dataset(session(12, seed=7), folder / "dataset001.h5")
    assert ds.load().sizes["trial"] == 12
    assert ds.load_info()["n_trials"] == 12
    assert ds.fingerprint() != mark


def test_data_are_let_go_when_nobody_holds_them(folder: Path) -> None:
    ds = Dataset(DatasetCollection(folder), "dataset001.h5")
    ds.load()
    gc.collect()
    assert ds._loaded is not None
    assert ds._loaded[1]() is None


def test_fingerprint_is_of_the_content_not_the_file(folder: Path) -> None:
    dc = DatasetCollection(folder)
    one = Dataset(dc, "dataset002.h5")
    content = one.load()
    np.savez(
        folder / "copy.npz", **{key: content[key].values for key in ("spikes", "time", "condition")}
    )  # another format, another name, no subject
    assert Dataset(dc, "copy.npz").fingerprint() == one.fingerprint()
    os.utime(folder / "dataset002.h5", (1, 1))
    assert one.fingerprint() == Dataset(dc, "copy.npz").fingerprint()


def test_from_arrays() -> None:
    dc = DatasetCollection("nowhere")
    spikes = np.random.default_rng(0).poisson(0.5, (6, 8, 2))
    ds = Dataset.from_arrays(
        dc, "day1", spikes, bin_ms=5, condition=["a", "b"] * 3, truth=spikes * 2.0, subject="m", save_tags=[3]
    )
    found = ds.load()
    np.testing.assert_array_equal(found.spikes, spikes)
    assert found.attrs["name"] == "day1"
    assert ds.load_info()["n_conditions"] == 2
    assert ds.path is None
    assert ds.source() == {
        "kind": "arrays",
        "class": "lfadsrm_hpc.data.dataset.Dataset",
        "path": None,
        "size": None,
        "mtime_ns": None,
    }
    found.attrs["name"] = "spoilt"
    assert ds.load().attrs["name"] == "day1"
    with pytest.raises(DataError, match="day2"):
        Dataset.from_arrays(dc, "day2", np.full((2, 3, 1), np.nan), bin_ms=5)
    assert dc.names == ["day1"], "what cannot be used is not added"


def test_from_spike_times() -> None:
    dc = DatasetCollection("nowhere")
    times = [[[0.0, 7.0], [12.0]], [[], [19.0]]]
    ds = Dataset.from_spike_times(dc, "day1", times, start_ms=0, stop_ms=20, bin_ms=10, condition=[1, 2])
    assert ds.load().spikes.values.tolist() == [[[2, 0], [0, 1]], [[0, 0], [0, 1]]]
    assert ds.load_info()["n_conditions"] == 2


def test_from_file_with_a_reader(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_text("1 0 2\n0 1 0\n")
    dc = DatasetCollection(folder)

    def reader(path: Path) -> xr.Dataset:
        return readers.from_arrays(np.loadtxt(path)[:, :, None], bin_ms=5)

    ds = Dataset.from_file(dc, tmp_path / "odd.txt", reader, name="odd one")
    assert ds.load().sizes["time"] == 3
    assert ds.load_info()["n_bins"] == 3
    assert ds.name == ds.load().attrs["name"] == "odd one"
    assert ds.path == tmp_path / "odd.txt"
    assert Dataset.from_file(dc, "dataset001.h5").load_info()["n_trials"] == 10


class Shifted(Dataset):
    """A user's own loader: no file of a known kind, other data for alignment."""

    n_neurons = 2
    other: xr.Dataset | None = None

    def read(self) -> xr.Dataset:
        return session(5, n_neurons=self.n_neurons)

    def alignment_data(self) -> xr.Dataset | None:
        return self.other


def test_hooks_are_honoured(folder: Path) -> None:
    dc = DatasetCollection(folder)
    ds = Shifted(dc, "dataset001.h5")
    assert ds.load().sizes["neuron"] == 2
    assert ds.load_info()["n_trials"] == 5, "info comes from what the user's own read() returns"
    assert ds.load().attrs["name"] == "dataset001"
    assert ds.source()["class"].endswith("test_dataset.Shifted")
    assert Shifted(dc, "no/such/file").load().sizes["trial"] == 5
    aligned = Shifted(dc, "with_alignment")
    aligned.other = session(5, n_neurons=2, seed=3)
    assert aligned.fingerprint() != ds.fingerprint()


def test_hooks_are_checked() -> None:
    class Wrong(Dataset):
        def read(self) -> xr.Dataset:
            return xr.Dataset({"counts": ("trial", [1, 2])})

    with pytest.raises(DataError, match=r"no variable 'spikes'[\s\S]*day1"):
        Wrong(DatasetCollection("nowhere"), "day1").load()


def test_source_of_a_file(folder: Path) -> None:
    ds = Dataset(DatasetCollection(folder), "dataset001.h5")
    stat = (folder / "dataset001.h5").stat()
    source = ds.source()
    assert (source["kind"], source["path"]) == ("file", "dataset001.h5")
    assert (source["size"], source["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)
    gone = Dataset(DatasetCollection(folder), "gone.h5")
    assert gone.source()["size"] is None
    with pytest.raises(NotFoundError, match="no such file"):
        gone.load()


def test_names(folder: Path) -> None:
    dc = DatasetCollection(folder)
    Dataset(dc, "dataset001.h5")
    again = Dataset(dc, "dataset001.h5")
    assert list(dc) == [again], "a cell of a notebook may be run twice"
    with pytest.raises(UsageError, match=r"'dataset001' already[\s\S]*name="):
        Dataset(dc, "sub/dataset001.h5")
    assert Dataset(dc, "sub/dataset001.h5", name="other").name == "other"
    Dataset.from_arrays(dc, "arrays", np.zeros((2, 3, 1)), bin_ms=1)
    with pytest.raises(UsageError, match="already"):
        Dataset.from_arrays(dc, "arrays", np.ones((2, 3, 1)), bin_ms=1)
    with pytest.raises(UsageError, match="name"):
        Dataset(dc, "dataset002.h5", name="a/b")


def test_find(folder: Path) -> None:
    dc = DatasetCollection(folder)
    dc.add_all()
    assert dc.find("dataset002").name == "dataset002"
    assert "dataset002" in dc
    assert dc[1] in dc
    assert "dataset009" not in dc
    assert [ds.name for ds in dc.find_all("dataset00[13]")] == ["dataset001", "dataset003"]
    assert dc.find_all("x*") == []
    assert [ds.name for ds in dc[1:]] == ["dataset002", "dataset003"]
    assert dc[-1].name == "dataset003"
    with pytest.raises(NotFoundError) as error:
        dc.find("datset002")
    assert "did you mean 'dataset002'?" in str(error.value)
    assert "dataset001, dataset002, dataset003" in str(error.value)


def test_add_all(folder: Path) -> None:
    (folder / "notes.txt").write_text("not data")
    (folder / ".hidden.h5").write_bytes(b"")
    (folder / "more").mkdir()
    readers.save_dataset(session(), folder / "more" / "extra.nc")
    dc = DatasetCollection(folder)
    Dataset(dc, "dataset002.h5")
    assert [ds.name for ds in dc.add_all()] == ["dataset001", "dataset003"]
    assert dc.add_all() == []
    assert [ds.name for ds in dc.add_all("*/*")] == ["extra"]
    assert dc["extra"].source()["path"] == "more/extra.nc"
    with pytest.raises(NotFoundError, match=r"\.nc, \.h5"):
        dc.add_all("*.txt")
    with pytest.raises(NotFoundError, match="nowhere"):
        DatasetCollection(folder / "nowhere").add_all()


def test_filter(folder: Path) -> None:
    dc = DatasetCollection(folder)
    dc.add_all()
    assert dc.filter([True, False, True]).names == ["dataset001", "dataset003"]
    assert dc.filter(np.array([False, True, False])).names == ["dataset002"]
    assert dc.filter(lambda ds: ds.name > "dataset001").names == ["dataset002", "dataset003"]
    assert dc.filter_min_trials(20).names == ["dataset002", "dataset003"]
    assert dc.filter_min_trials_for_batch_size(4).names == ["dataset002", "dataset003"]
    assert dc.filter_min_trials_for_batch_size(10, train_to_test_ratio=2).names == ["dataset003"]
    assert len(dc) == 3, "the collection itself stays as it is"
    assert dc.filter([True, False, True])[1] is dc[2]
    for wrong in ([True, False], [0, 1, 2], [0.5, 1, 1]):
        with pytest.raises(UsageError, match="mask"):
            dc.filter(wrong)


def test_largest_batch_size_agrees_with_the_filter(folder: Path) -> None:
    dc = DatasetCollection(folder)
    dc.add_all()
    for ratio in (1, 2, 4):
        size = dc.largest_batch_size(ratio)
        assert size == 10 // (ratio + 1)
        assert len(dc.filter_min_trials_for_batch_size(size, ratio)) == 3
        assert len(dc.filter_min_trials_for_batch_size(size + 1, ratio)) < 3
    with pytest.raises(UsageError, match="no datasets"):
        DatasetCollection(folder).largest_batch_size()


def test_info_table(folder: Path) -> None:
    dc = DatasetCollection(folder)
    dc.add_all()
    Dataset.from_arrays(dc, "arrays", np.zeros((2, 3, 1)), bin_ms=1, save_tags=[1, 2])
    table = dc.info_table()
    assert table["name"].tolist() == ["dataset001", "dataset002", "dataset003", "arrays"]
    assert table["trials"].tolist() == [10, 20, 30, 2]
    assert table["neurons"].tolist() == [1, 2, 3, 1]
    assert table["date"].tolist() == ["2020-01-01", "2020-01-02", "2020-01-03", ""]
    assert table["save_tags"].tolist() == ["1", "2", "3", "1, 2"]
    assert table["subject"].tolist() == ["lorenz"] * 3 + [""]
    assert table["conditions"].tolist() == [3, 3, 3, 0]
    assert list(DatasetCollection(folder).info_table().columns) == list(table.columns)


def test_load_info_names_the_dataset_that_fails(folder: Path) -> None:
    dc = DatasetCollection(folder)
    dc.add_all()
    (folder / "dataset002.h5").write_bytes(b"not HDF5")
    with pytest.raises(DataError, match="dataset002"):
        dc.load_info()


def test_repr_and_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dc = DatasetCollection(folder)
    dc.add_all()
    assert dc.name == "datasets"
    assert repr(dc).splitlines()[0] == f"DatasetCollection 'datasets': 3 datasets in {folder}"
    assert "[ 1] dataset002" in repr(dc)
    assert "dataset002.h5" in repr(dc[1])
    monkeypatch.chdir(folder)
    assert DatasetCollection(".").name == "datasets"
    assert DatasetCollection(".", "mine").name == "mine"


def test_a_collection_can_be_pickled(folder: Path) -> None:
    dc = DatasetCollection(folder)
    dc.add_all()
    dc[0].load()
    again = pickle.loads(pickle.dumps(dc))
    assert again.names == dc.names
    assert again[0].fingerprint() == dc[0].fingerprint()
