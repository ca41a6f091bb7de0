"""Checkpoints: one .npz file a save, published by rename, with latest and best parameters together.

A file holds everything that a bit-identical continuation needs: `latest/<name>`, Adam's moments
`adam_first/<name>` and `adam_second/<name>`, the parameters of the lowest validation cost `best/<name>` (once
there are any), those at the start of the epoch (in mid-epoch), the fit log so far, and `meta`, a JSON text.
No pickles.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.errors import ModelError

Arrays = dict[str, NDArray[Any]]

FORMAT = 3
_PATTERN = "checkpoint-*.npz"
_savez: Any = np.savez  # its annotations do not know that any name may be an array's


@dataclass(frozen=True)
class Checkpoint:
    """The content of one file: arrays by name and the JSON object beside them."""

    path: Path
    arrays: Arrays
    meta: dict[str, Any]

    def group(self, prefix: str) -> Arrays:
        """Return the arrays whose names begin with `prefix/`, without it."""
        start = len(prefix) + 1
        return {name[start:]: a for name, a in self.arrays.items() if name.startswith(f"{prefix}/")}


def publish(path: Path, content: Any) -> None:
    """Write a file beside `path`, flush it to disk and rename it; `content` gets the open binary file."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with beside.open("w+b") as file:
        content(file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save(folder: Path, arrays: Arrays, meta: dict[str, Any], *, keep: int) -> Path:
    """Write a checkpoint for `meta["step"]` into a folder and remove all but the `keep` newest."""
    path = folder / f"checkpoint-{meta['step']:012d}.npz"
    text = json.dumps({"format": FORMAT, **meta})
    publish(path, lambda file: _savez(file, **arrays, meta=np.array(text)))
    for old in sorted(folder.glob(_PATTERN))[:-keep]:
        old.unlink(missing_ok=True)
    return path


def newest(folder: Path) -> Path | None:
    """Return the newest whole checkpoint file of a folder, or None."""
    for path in sorted(folder.glob(_PATTERN), reverse=True):
        try:
            with zipfile.ZipFile(path) as file:
                if "meta.npy" in file.namelist():
                    return path
        except (OSError, zipfile.BadZipFile):
            continue
    return None


def complete(folder: Path) -> bool:
    """Return whether a folder holds a checkpoint that training can resume from."""
    return newest(folder) is not None


def load(folder: Path) -> Checkpoint:
    """Read the newest checkpoint of a folder.

    Raises
    ------
    ModelError
        There is none, or it is of another format.
    """
    path = newest(folder)
    if path is None:
        raise ModelError("there is no checkpoint", where=folder, hint="train the run first")
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files if name != "meta"}
        meta = json.loads(str(file["meta"]))
    if meta["format"] != FORMAT:
        raise ModelError(
            f"this checkpoint has format {meta['format']}, and this version reads {FORMAT}",
            where=path,
            hint="use the version of lfadsrm_hpc that wrote it, or delete the outputs and train the run anew",
        )
    return Checkpoint(path, arrays, meta)


@dataclass(frozen=True)
class Trained:
    """Parameters that may be used for inference, and where they come from.

    Attributes
    ----------
    params : arrays by name.
    info : kind ("lve" or "latest"), epoch, step, note (empty unless something deserves a look).
    names, neurons, bins, readin_width : see `architecture.Architecture`.
    held_out : indices of the neurons that the encoders do not see, by session.
    """

    params: Arrays
    info: dict[str, Any]
    names: tuple[str, ...]
    neurons: tuple[int, ...]
    bins: int
    readin_width: int
    held_out: dict[str, list[int]]


def trained(folder: Path) -> Trained:
    """Return the parameters of the lowest validation cost, else the latest ones with a note.

    Raises
    ------
    ModelError
        There is no checkpoint, or not one step of training has been done.
    """
    checkpoint = load(folder)
    meta = checkpoint.meta
    if meta["step"] < 1:
        raise ModelError(
            "this model has not been trained at all", where=checkpoint.path, hint="train the run first"
        )
    best = meta["best"]
    if best is not None:
        params, kind, epoch, step, note = checkpoint.group("best"), "lve", best["epoch"], best["step"], ""
    else:
        params, kind = checkpoint.group("latest"), "latest"
        epoch, step = meta["epoch"], meta["step"]
        note = (
            "the ramps of the KL and L2 costs had not ended when training did: these are the latest "
            "parameters, not those of the lowest validation cost"
        )
    info = {"kind": kind, "epoch": epoch, "step": step, "note": note}
    arch = meta["architecture"]
    return Trained(
        params=params,
        info=info,
        names=tuple(arch["names"]),
        neurons=tuple(arch["neurons"]),
        bins=arch["bins"],
        readin_width=arch["readin_width"],
        held_out=meta["held_out"],
    )


def apart(model: Trained) -> Arrays:
    """Return the parameters with those of each session and of each direction of an encoder apart.

    `readin/<session>/{W,b}` and `readout/<session>/{W,b}` (`readout_logvar` too for Gaussian data), cut to
    the session's neurons; `ic_enc/fwd/W_x` and so on.
    """
    arrays: Arrays = {}
    for name, value in model.params.items():
        group, _, kind = name.partition("/")
        if group in ("ic_enc", "ci_enc"):
            arrays.update(
                {f"{group}/{side}/{kind}": own for side, own in zip(("fwd", "rev"), value, strict=False)}
            )
            continue
        if group not in ("readin", "readout", "readout_logvar"):
            arrays[name] = value
            continue
        for k, (session, neurons) in enumerate(zip(model.names, model.neurons, strict=True)):
            own = value[k]
            if name == "readin/W":
                own = own[:neurons]
            elif group != "readin":
                own = own[..., :neurons]
            arrays[f"{group}/{session}/{kind}"] = own
    return arrays


def write_model_params(folder: Path, path: Path, *, attributes: Mapping[str, Any] | None = None) -> None:
    """Write every parameter of a trained model by name into an HDF5 file, atomically.

    Names as in `architecture.Architecture.shapes`, sessions and encoders `apart`; `factors/W` as it is
    trained, before its columns are scaled to unit length. Attributes say which checkpoint it is.

    Raises
    ------
    ModelError
        There is no trained model in `folder`.
    """
    import h5py

    model = trained(folder)
    path.parent.mkdir(parents=True, exist_ok=True)

    def content(file: Any) -> None:
        with h5py.File(file, "w") as out:
            for name, value in apart(model).items():
                out[name] = value
            for key, value in {**model.info, **(attributes or {})}.items():
                out.attrs[key] = value if isinstance(value, (str, int, float)) else json.dumps(value)

    publish(path, content)
