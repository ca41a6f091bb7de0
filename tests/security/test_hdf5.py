"""HDF5 files, netCDF-4 among them, that name other files, claim what they do not hold, or are damaged."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hostile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.data import readers
from lfadsrm_hpc.errors import DataError, LfadsrmError

FEW = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY = settings(FEW, max_examples=40)
seeds = st.integers(0, 2**32 - 1)
SPIKES = np.random.default_rng(0).poisson(0.5, (40, 20, 5)).astype(np.int32)
Change = Callable[[h5py.File, Path], None]


def session(path: Path, change: Change | None = None, *, spikes: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        if spikes:
            file["spikes"] = SPIKES
        file["bin_ms"] = 10.0
        if change is not None:
            change(file, path.parent)
    return path


def link_to(target: str) -> Change:
    def change(file: h5py.File, folder: Path) -> None:
        file["spikes"] = h5py.ExternalLink(target, "/spikes")

    return change


def virtual(target: str) -> Change:
    def change(file: h5py.File, folder: Path) -> None:
        layout = h5py.VirtualLayout(SPIKES.shape, "i4")
        layout[:] = h5py.VirtualSource(target.replace("%", "%%"), "spikes", SPIKES.shape)
        file.create_virtual_dataset("spikes", layout)

    return change


def external(target: str) -> Change:
    def change(file: h5py.File, folder: Path) -> None:
        file.create_dataset("spikes", SPIKES.shape, "i4", external=[(target, 0, h5py.h5f.UNLIMITED)])

    return change


WAYS = {"link": link_to, "virtual": virtual, "external": external}


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize(
    "target", ["/dev/zero", "/etc/passwd", "../outside.h5", "pipe", "zero", "inner/a.h5", "leads_out", "50%"]
)
def test_no_other_file_is_opened(tmp_path: Path, way: Callable[[str], Change], target: str) -> None:
    folder = tmp_path / "in"
    session(tmp_path / "outside.h5")
    session(folder / "inner/a.h5")
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / "50%")  # which a virtual dataset names with %%
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "leads_out").symlink_to(tmp_path / "outside.h5")
    path = session(folder / "a.h5", way(target), spikes=False)
    with pytest.raises(DataError, match=r"outside of this folder|not a regular file"):
        readers.read(path)
    with pytest.raises(DataError):
        readers.read_info(path)


@pytest.mark.parametrize("way", [link_to, virtual], ids=["link", "virtual"])
def test_a_file_beside_is_read_and_looked_into(tmp_path: Path, way: Callable[[str], Change]) -> None:
    session(tmp_path / "b.h5")
    path = session(tmp_path / "a.h5", way("b.h5"), spikes=False)
    np.testing.assert_array_equal(readers.read(path)["spikes"], SPIKES)
    session(tmp_path / "b.h5", link_to("/etc/passwd"), spikes=False)
    with pytest.raises(DataError, match="outside of this folder"):
        readers.read(path)
    # HDF5 itself follows virtual datasets that name each other until the stack is full.
    session(tmp_path / "b.h5", way("a.h5"), spikes=False)
    with pytest.raises(DataError, match="leads back"):
        readers.read(path)


def test_virtual_datasets_of_one_file_in_a_circle(tmp_path: Path) -> None:
    def change(file: h5py.File, folder: Path) -> None:
        for name, other in (("spikes", "rates"), ("rates", "spikes")):
            layout = h5py.VirtualLayout(SPIKES.shape, "i4")
            layout[:] = h5py.VirtualSource(".", other, SPIKES.shape)
            file.create_virtual_dataset(name, layout)

    with pytest.raises(DataError, match="another virtual dataset"):
        readers.read(session(tmp_path / "a.h5", change, spikes=False))


def test_a_virtual_dataset_of_arrays_in_its_own_file_is_read(tmp_path: Path) -> None:
    def change(file: h5py.File, folder: Path) -> None:
        file["stored"] = SPIKES
        layout = h5py.VirtualLayout(SPIKES.shape, "i4")
        layout[:] = h5py.VirtualSource(".", "stored", SPIKES.shape)
        file.create_virtual_dataset("spikes", layout)

    path = session(tmp_path / "a.h5", change, spikes=False)
    np.testing.assert_array_equal(readers.read(path)["spikes"], SPIKES)


def test_an_external_file_beside_is_read(tmp_path: Path) -> None:
    SPIKES.tofile(tmp_path / "spikes.bin")
    path = session(tmp_path / "a.h5", external(str(tmp_path / "spikes.bin")), spikes=False)
    np.testing.assert_array_equal(readers.read(path)["spikes"], SPIKES)


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize("called_in", [".", "in", "elsewhere"])
def test_hdf5_looks_for_files_in_other_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[str], Change], called_in: str
) -> None:
    """Where the command was called, and where a link to the recording leads."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / called_in if called_in != "in" else session(tmp_path / "in/b.h5").parent)
    for folder in (tmp_path, tmp_path / "elsewhere"):
        os.mkfifo(folder / "pipe")
    real = session(tmp_path / "elsewhere/a.h5", way("pipe"), spikes=False)
    (tmp_path / "in").mkdir(exist_ok=True)
    (tmp_path / "in/a.h5").symlink_to(real)
    with pytest.raises(DataError, match="outside of this folder"):
        readers.read(tmp_path / "in/a.h5")


def test_storage_is_looked_for_where_the_command_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = session(tmp_path / "in/a.h5", external("spikes.bin"), spikes=False)
    SPIKES.tofile(tmp_path / "in/spikes.bin")
    (SPIKES + 1).tofile(tmp_path / "spikes.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="outside of this folder"):
        readers.read(path)
    monkeypatch.chdir(tmp_path / "in")
    np.testing.assert_array_equal(readers.read(path)["spikes"], SPIKES)


@pytest.mark.parametrize(("file_name", "array"), [("part%b.h5", "spikes"), (".", "spike%b")])
def test_names_that_are_patterns(tmp_path: Path, file_name: str, array: str) -> None:
    os.mkfifo(tmp_path / "part0.h5")

    def change(file: h5py.File, folder: Path) -> None:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        space = h5py.h5s.create_simple((1, *SPIKES.shape[1:]), (h5py.h5s.UNLIMITED, *SPIKES.shape[1:]))
        space.select_hyperslab((0, 0, 0), (h5py.h5s.UNLIMITED, 1, 1), (1, 1, 1), (1, *SPIKES.shape[1:]))
        source = h5py.h5s.create_simple((1, *SPIKES.shape[1:]))
        plist.set_virtual(space, file_name.encode(), array.encode(), source)
        h5py.h5d.create(file.id, b"spikes", h5py.h5t.NATIVE_INT32, space, plist)

    with pytest.raises(DataError, match="a pattern names"):
        readers.read(session(tmp_path / "a.h5", change, spikes=False))


def test_links_in_circles(tmp_path: Path) -> None:
    def hard(file: h5py.File, folder: Path) -> None:
        file.create_group("deep")["again"] = file["/"]

    def soft(file: h5py.File, folder: Path) -> None:
        file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")

    np.testing.assert_array_equal(readers.read(session(tmp_path / "a.h5", hard))["spikes"], SPIKES)
    with pytest.raises(DataError, match="too many links"):
        readers.read(session(tmp_path / "b.h5", soft))


@pytest.mark.parametrize("chunks", [True, None])
def test_enormous_claims(tmp_path: Path, chunks: bool | None) -> None:
    def change(file: h5py.File, folder: Path) -> None:
        file.create_dataset("spikes", (2**20, 2**12, 2**8), "f8", chunks=chunks)

    path = session(tmp_path / "a.h5", change, spikes=False)
    with pytest.raises(DataError, match=r"claims \d+ bytes and holds none"):
        readers.read(path)


def test_a_claim_beyond_the_memory(tmp_path: Path) -> None:
    def change(file: h5py.File, folder: Path) -> None:
        stored = file.create_dataset("spikes", (2**20, 2**12, 2**10), "f8", chunks=(1, 2**5, 2**5))
        stored[0, 0, 0] = 1.0

    with pytest.raises(DataError, match="this machine has"):
        readers.read(session(tmp_path / "a.h5", change, spikes=False))


def test_a_packed_bomb(tmp_path: Path) -> None:
    """An .npz of a few kilobytes whose header claims terabytes."""
    import zipfile

    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1048576, 4096, 1024), }"
    header += b" " * (117 - len(header)) + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("spikes.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        file.writestr("bin_ms.npy", b"\x93NUMPY\x01\x00")
    with pytest.raises(DataError):
        readers.read(tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", [".h5", ".nc", ".nwb", ".npz", ".mat"])
@pytest.mark.parametrize("kind", ["pipe", "zero", "loop"])
def test_recordings_that_are_no_regular_files(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"a{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "zero" else path.name)
    with pytest.raises(LfadsrmError):
        readers.read(path, bin_ms=10.0)


# ---- files of a collection


@pytest.fixture(scope="module")
def whole(fabricated: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    rc = fabricated.collection(root, None, specs={"single_day1": ["day1"]})
    fabricated.complete(rc.runs[0], metrics={"co_bps": 0.3}, verdict="good")
    return root


def changed_structure(path: Path, rng: random.Random) -> None:
    """Change an HDF5 file by its own means."""
    with h5py.File(path, "r+", locking=False) as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(rng.randint(1, 3)):
            name = rng.choice(names)
            action = rng.choice(("gone", "text", "huge", "link", "virtual", "empty", "attribute", "loop"))
            if action == "attribute":
                key = rng.choice([*file.attrs, "extra"])
                value = rng.choice([v for v in hostile.VALUES if isinstance(v, str) and "\x00" not in v])
                file.attrs[key] = rng.choice(
                    (value.encode(errors="replace").decode()[:60000], 3, [], np.void(b"x"))
                )
                continue
            if name in file:
                del file[name]
            if action == "text":
                file[name] = ["<script>", "\x1b]0;x\x07"]
            elif action == "huge":
                file.create_dataset(name, (2**20, 2**12, 2**8), "f4", chunks=True)
            elif action == "link":
                file[name] = h5py.ExternalLink(rng.choice(("/dev/zero", "pipe", "/etc/passwd")), "/x")
            elif action == "virtual":
                layout = h5py.VirtualLayout((4, 4, 4), "f4")
                layout[:] = h5py.VirtualSource("pipe", "x", (4, 4, 4))
                file.create_virtual_dataset(name, layout)
            elif action == "empty":
                file[name] = h5py.Empty("f4")
            elif action == "loop":
                file[name] = h5py.SoftLink(f"/{name}")


def spoil_and_read(whole: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    shutil.rmtree(tmp_path / "inside", ignore_errors=True)
    shutil.copytree(whole, tmp_path / "inside")
    collection = tmp_path / "inside/runs/made_up"
    files = sorted(path for path in collection.rglob("*") if path.suffix in (".h5", ".nc"))
    victim = rng.choice(files)
    os.mkfifo(victim.parent / "pipe")
    if rng.random() < 0.7:
        changed_structure(victim, rng)
    else:
        hostile.spoil(victim, rng, tmp_path / "settings")
    commands = [
        ("show", collection, "--run", "single_day1"),
        ("report", collection),
        ("best", "--metric", "co_bps", collection),
        ("export", "-C", collection, tmp_path / "inside/all.nc", "--overwrite"),
        ("metrics", collection, "--recompute"),
        ("run", collection, "--dry-run"),
    ]
    hostile.check(hostile.outcome(rng.sample(commands, 2)))


@FEW
@given(seed=seeds)
def test_results_and_inputs(whole: Path, tmp_path: Path, seed: int) -> None:
    spoil_and_read(whole, tmp_path, seed)


@pytest.mark.slow
@MANY
@given(seed=seeds)
def test_results_and_inputs_at_length(whole: Path, tmp_path: Path, seed: int) -> None:
    spoil_and_read(whole, tmp_path, seed)
