"""Make this folder's cases from complete ones: the first trials of each, as small as they can be stored.

    python tests/model/reference/trim.py COMPLETE_CASES tests/model/reference

The original computed in 32 bits, whatever it wrote its results in, and rounded its data so: of push-mean
outputs no digit is lost. Of averages over samples, taken in 64 bits, the last ones are, far below the
sampling error.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

TRIALS = 16  # one whole batch: costs and bounds of push-mean are means over batches


def smallest(array: Any) -> Any:
    """Return an array in a smaller type that holds the same numbers, or what 32 bits make of them."""
    if array.dtype.kind in "iu" and array.size and array.min() >= 0 and array.max() < 256:
        return array.astype(np.uint8)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def copy(source: Path, target: Path, trials: int | None, without: tuple[str, ...] = ()) -> None:
    with h5py.File(source) as old, h5py.File(target, "w", libver="latest") as new:
        for name, item in old.items():
            if name.endswith("_truth") or name in ("conversion_factor", *without):
                continue
            array = smallest(item[()])
            if trials and array.ndim and not name.startswith("alignment"):
                array = array[:trials]
            packed = (
                {"compression": "gzip", "compression_opts": 9, "shuffle": True} if array.size > 200 else {}
            )
            new.create_dataset(name, data=array, **packed)


def main(source: Path, target: Path) -> None:
    for case in sorted(path for path in source.iterdir() if path.is_dir()):
        folder = target / case.name
        folder.mkdir(exist_ok=True)
        shutil.copyfile(case / "hyperparameters.json", folder / "hyperparameters.json")
        for path in sorted(case.glob("*.h5")):
            whole = path.name in ("model_params.h5", "model_runs_prior_sample.h5")
            averages = path.stem.endswith("sample_and_average")
            copy(
                path,
                folder / path.name,
                None if whole else TRIALS,
                ("gen_states",) if averages else (),
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
