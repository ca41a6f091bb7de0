"""A pickle that would run a command is planted wherever a file is read: nothing of it is ever executed."""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfadsrm_hpc.data import readers
from lfadsrm_hpc.errors import LfadsrmError


class Bomb:
    """When it is unpickled it makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "executed"


@pytest.fixture
def bomb(trace: Path) -> bytes:
    return pickle.dumps(Bomb(trace))


def objects(trace: Path) -> Any:
    found = np.empty((3, 4, 5), object)
    found[:] = Bomb(trace)
    return found


def npz(folder: Path, trace: Path, bomb: bytes) -> Path:
    np.savez(folder / "a.npz", spikes=objects(trace), bin_ms=10.0)
    return folder / "a.npz"


def npz_in_a_label(folder: Path, trace: Path, bomb: bytes) -> Path:
    spikes = np.ones((3, 4, 5))
    np.savez(folder / "a.npz", spikes=spikes, bin_ms=10.0, condition=objects(trace)[:, 0, 0])
    return folder / "a.npz"


def pickle_in_npz(folder: Path, trace: Path, bomb: bytes) -> Path:
    with zipfile.ZipFile(folder / "a.npz", "w") as file:
        file.writestr("spikes.npy", bomb)
    return folder / "a.npz"


def pickle_as(suffix: str) -> Callable[[Path, Path, bytes], Path]:
    def made(folder: Path, trace: Path, bomb: bytes) -> Path:
        (folder / f"a{suffix}").write_bytes(bomb)
        return folder / f"a{suffix}"

    return made


def phy(folder: Path, trace: Path, bomb: bytes) -> Path:
    for name in ("spike_times", "spike_clusters"):
        np.save(folder / f"{name}.npy", objects(trace), allow_pickle=True)
    (folder / "params.py").write_text(
        f"import os\nos.mkdir({str(trace)!r})\nsample_rate = 30000.0\ndtype = os.mkdir({str(trace)!r})\n"
    )
    return folder


def hdf5_opaque(folder: Path, trace: Path, bomb: bytes) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        file["spikes"] = np.void(bomb)
        file.attrs["bin_ms"] = np.void(bomb)
    return folder / "a.h5"


def hdf5_texts(folder: Path, trace: Path, bomb: bytes) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("spikes", data=[[bomb.hex()]], dtype=h5py.string_dtype())
        file["bin_ms"] = 10.0
        file["condition"] = np.array([f"__import__('os').mkdir({str(trace)!r})"], dtype=object)
        file["references"] = np.array([file["bin_ms"].ref], dtype=h5py.ref_dtype)
    return folder / "a.h5"


def netcdf_attributes(folder: Path, trace: Path, bomb: bytes) -> Path:
    code = f"__import__('os').mkdir({str(trace)!r})"
    data = readers.from_arrays(np.ones((3, 4, 5)), bin_ms=10, comment=code)
    path = readers.save_dataset(data, folder / "a.nc")
    with h5py.File(path, "a") as file:
        for name in ("save_tags", "notes", "comment", "attributes"):
            file.attrs[name] = code
        file.attrs["pickle"] = np.void(bomb)
    return path


PLANTED = {
    "npz": npz,
    "npz_label": npz_in_a_label,
    "pickle_in_npz": pickle_in_npz,
    **{f"pickle{suffix}": pickle_as(suffix) for suffix in (".npz", ".mat", ".h5", ".nc", ".nwb")},
    "phy": phy,
    "hdf5_opaque": hdf5_opaque,
    "hdf5_texts": hdf5_texts,
    "netcdf_attributes": netcdf_attributes,
}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=list(PLANTED))
def test_readers(
    plant: Callable[[Path, Path, bytes], Path], tmp_path: Path, trace: Path, bomb: bytes, call: Any
) -> None:
    (tmp_path / "project/datasets").mkdir(parents=True)
    folder = tmp_path / "project/datasets"
    if plant is phy:
        folder = folder / "session"
        folder.mkdir()
    path = plant(folder, trace, bomb)
    for options in ({}, {"bin_ms": 10.0}):
        try:
            readers.read(path, **options)
        except LfadsrmError:
            continue
    (tmp_path / "project/experiment.toml").write_text('[collection]\nname = "a"\n')
    assert call("prepare", tmp_path / "project").code in (0, 1, 2, 3)
    assert not trace.exists()


def test_the_bomb_works(trace: Path, bomb: bytes) -> None:
    """Else the tests above could not fail."""
    pickle.loads(bomb)
    assert trace.is_dir()


def test_a_run_collection(make: Any, trace: Path, bomb: bytes, call: Any) -> None:
    """In place of each file of a collection in its turn, and beside it under names that programs unpickle."""
    collection = make()
    files = [path for path in collection.path.rglob("*") if path.is_file()]
    assert len(files) > 8
    for folder in {path.parent for path in files}:
        for name in ("a.pkl", "0_submitted.pkl", "0_0_result.pkl", "checkpoint-99.npz", "sitecustomize.py"):
            (folder / name).write_bytes(bomb)
    run = collection.runs[0].id
    for path in files:
        content = path.read_bytes()
        path.write_bytes(bomb)
        for command in (("status", "-C"), ("show",), ("metrics", "-C"), ("logs", run, "-C")):
            words = [word for word in command if word != "-C"]
            place = ["-C", collection.path] if "-C" in command else [collection.path]
            if command[0] == "status":
                words, place = ["status"], [collection.path]
            assert call(*words, *place).code in (0, 1, 2, 3, 4)
        path.write_bytes(content)
    assert not trace.exists()


def test_checkpoints(tmp_path: Path, trace: Path, bomb: bytes) -> None:
    from lfadsrm_hpc.model.training import checkpoints

    for content in (bomb, None):
        path = tmp_path / "checkpoint-7.npz"
        if content is None:
            np.savez(path, meta=np.array(Bomb(trace), dtype=object), theta=objects(trace))
        else:
            path.write_bytes(content)
        for read in (checkpoints.load, checkpoints.newest):
            try:
                read(tmp_path)
            except (LfadsrmError, ValueError, OSError):
                continue
    assert not trace.exists()


def test_results(make: Any, trace: Path, bomb: bytes) -> None:
    collection = make()
    run = collection.runs[0]
    (means,) = run.layout.posterior_dir.glob("*.nc")
    with h5py.File(means, "a") as file:
        code = f"__import__('os').mkdir({str(trace)!r})"
        for name in ("params", "held_out_neurons", "attributes"):
            file.attrs[name] = code
    with contextlib.suppress(LfadsrmError, ValueError):
        run.load_posterior_means()
    means.write_bytes(bomb)
    with pytest.raises((LfadsrmError, OSError)):
        run.load_posterior_means()
    assert not trace.exists()
