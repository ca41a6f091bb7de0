"""Files that were cut off or have wrong bytes: read, or refused with their name; never another error.

Of Matlab files before v7.3 only those that were cut off: scipy itself crashes on some wrong bytes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import nwb_files
import pytest
from matlab_files import Structs, save_mat
from scipy.io import savemat

from lfadsrm_hpc.data import readers
from lfadsrm_hpc.errors import LfadsrmError

ROOT = Path(__file__).resolve().parents[2]
SPIKES = np.random.default_rng(0).poisson(1.0, (6, 5, 3))
TRIALS = Structs({"spikes": trial.T.astype(float), "condition": "x"} for trial in SPIKES)


def netcdf(folder: Path) -> Path:
    return readers.save_dataset(
        readers.from_arrays(SPIKES, bin_ms=5, condition=list("ababab")), folder / "a.nc"
    )


def npz(folder: Path) -> Path:
    np.savez(folder / "a.npz", spikes=SPIKES)
    return folder / "a.npz"


def mat5(folder: Path) -> Path:
    return save_mat(folder / "a.mat", {"R": TRIALS}, "5")


def mat7(folder: Path) -> Path:
    savemat(folder / "a.mat", {"S": {"spikes": SPIKES.transpose(0, 2, 1).astype(float)}}, do_compression=True)
    return folder / "a.mat"


def mat73(folder: Path) -> Path:
    return save_mat(folder / "a.mat", {"R": TRIALS}, "7.3")


def lfads(folder: Path) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        file["train_data"], file["valid_data"] = SPIKES[:4], SPIKES[4:]
        file["train_inds"], file["valid_inds"] = np.arange(4.0), np.arange(4.0, 6)
    return folder / "a.h5"


def nlb(folder: Path) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        for part in ("train", "valid"):
            file[f"{part}_encod_data"], file[f"{part}_recon_data"] = SPIKES[:3, :4, :2], SPIKES[:3]
    return folder / "a.h5"


def nwb(folder: Path) -> Path:
    return nwb_files.reaching(folder / "a.nwb").path


OPTIONS: dict[str, dict[str, Any]] = {
    "nwb": {"bin_ms": 20, "after_ms": 100, "signals": "hand", "condition": "target"}
}


def damaged(whole: bytes, number: int, *, only_cut: bool) -> bytes:
    dice = random.Random(number)
    if only_cut or number % 3 == 0:
        return whole[: dice.randrange(len(whole))]
    found = bytearray(whole)
    for _ in range(dice.randrange(1, 12)):
        found[dice.randrange(min(len(found), 20_000))] = dice.randrange(256)
    return bytes(found)


def refusal(path: Path, options: dict[str, Any]) -> str | None:
    try:
        readers.read(path, **options)
    except LfadsrmError as error:
        return str(error)
    return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "times"),
    [(netcdf, 20), (npz, 30), (mat5, 30), (mat7, 30), (mat73, 30), (lfads, 30), (nlb, 30), (nwb, 6)],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_damaged_files(tmp_path: Path, make: Callable[[Path], Path], times: int) -> None:
    path = make(tmp_path)
    options = OPTIONS.get(make.__name__, {"bin_ms": 5})
    assert readers.read(path, **options).sizes["neuron"] >= 3
    whole = path.read_bytes()
    refused = 0
    for number in range(times):
        path.write_bytes(damaged(whole, number, only_cut=make in (mat5, mat7)))
        message = refusal(path, options)
        assert message is None or str(path) in message
        refused += message is not None
    assert refused >= times // 5
