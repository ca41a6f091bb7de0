"""Checkpoints: one .npz file a save, published by rename, with latest and best parameters together.

A file holds everything that a bit-identical continuation needs: `latest/<name>`, Adam's moments
`adam_first/<name>` and `adam_second/<name>`, the parameters of the lowest validation cost `best/<name>` (once
there are any), those at the start of the epoch (in mid-epoch), the fit log so far, and `meta`, a JSON text.
No pickles.

`checkpoint-<step>.npz`, or `checkpoint-<step>-best.npz` for the first file that holds a new lowest validation
cost: those are kept longer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.errors import ModelError
from lfadsrm_hpc.model.training.schedule import COLUMNS
from lfadsrm_hpc.plain_files import check_regular, parse_json

Arrays = dict[str, NDArray[Any]]

FORMAT = 4
_NAME = re.compile(r"checkpoint-(\d+)(-best)?\.npz")
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


def save(
    folder: Path,
    arrays: Arrays,
    meta: dict[str, Any],
    *,
    keep: int,
    new_best: bool = False,
    keep_best: int = 0,
) -> Path:
    """Write a checkpoint for `meta["step"]` into a folder, and remove what need not be kept.

    Files of later steps go: training went back from there.

    Parameters
    ----------
    keep : int
        Newest files to keep.
    new_best : bool
        Whether this is the first file with these best parameters.
    keep_best : int
        Newest files of this kind to keep besides.
    """
    path = folder / f"checkpoint-{meta['step']:012d}{'-best' if new_best else ''}.npz"
    text = json.dumps({"format": FORMAT, **meta})
    publish(path, lambda file: _savez(file, **arrays, meta=np.array(text)))
    files = _files(folder)
    # a training that went back has given up what is not before this step
    valid = [path, *(other for other, step, _ in files if step < meta["step"])]
    best = [other for other, _, marked in files if marked and other in valid]
    kept = {*valid[:keep], *best[:keep_best]}
    for other, _, _ in files:
        if other not in kept:
            other.unlink(missing_ok=True)
    return path


def _files(folder: Path) -> list[tuple[Path, int, bool]]:
    """Return the checkpoint files of a folder, their steps and marks, the highest step first."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match:
            found.append((path, int(match[1]), bool(match[2])))
    return sorted(found, key=lambda file: file[1], reverse=True)


def newest(folder: Path) -> Path | None:
    """Return the newest whole checkpoint file of a folder, or None."""
    for path, _, _ in _files(folder):
        try:
            check_regular(path)
            with zipfile.ZipFile(path) as file:
                if "meta.npy" in file.namelist():
                    return path
        except (OSError, zipfile.BadZipFile):
            continue
    return None


def finished(folders: Iterable[Path]) -> Path | None:
    """Return the first of these folders that holds a training that came to its end, or None.

    Raises
    ------
    ModelError
        A checkpoint on the way there is of another format.
    """
    for folder in folders:
        path = newest(folder)
        if path is None:
            continue
        # a file that is gone by now made room for a newer one: that training goes on
        with contextlib.suppress(FileNotFoundError), np.load(path, allow_pickle=False) as file:
            if _meta(file, path)["reason"] is not None:
                return folder
    return None


def complete(folder: Path) -> bool:
    """Return whether a folder holds a checkpoint that training can resume from."""
    return newest(folder) is not None


def threads_of(folder: Path) -> int | None:
    """Return how many threads the training in a folder had; None if that is not known.

    Raises
    ------
    ModelError
        The newest checkpoint is of another format.
    """
    path = newest(folder)
    if path is None:
        return None
    with np.load(path, allow_pickle=False) as file:
        found: int | None = _meta(file, path).get("threads")
    return found


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
        meta = _meta(file, path)
        arrays = {name: file[name] for name in file.files if name != "meta"}
    return Checkpoint(path, arrays, meta)


def _meta(file: Any, path: Path) -> dict[str, Any]:
    meta: dict[str, Any] = parse_json(str(file["meta"]))
    if meta["format"] != FORMAT:
        raise ModelError(
            f"this checkpoint has format {meta['format']}, and this version reads {FORMAT}",
            where=path,
            hint="use the version of lfadsrm_hpc that wrote it, or delete the outputs and train the run anew",
        )
    return meta


@dataclass(frozen=True)
class Trained:
    """Parameters that may be used for inference, and where they come from.

    Attributes
    ----------
    params : arrays by name.
    info : kind ("lve" or "latest"), epoch, step, note (empty unless something deserves a look).
    names, neurons, bins, readin_width : see `architecture.Architecture`.
    held_out : indices of the neurons that the encoders do not see, by session.
    hyperparameters : those it was trained with; empty where another program trained it.
    learning_rate : that of the epoch of the parameters; None where there was none.
    """

    params: Arrays
    info: dict[str, Any]
    names: tuple[str, ...]
    neurons: tuple[int, ...]
    bins: int
    readin_width: int
    held_out: dict[str, list[int]]
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    learning_rate: float | None = None

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal characters that change when a parameter changes."""
        digest = hashlib.sha256()
        for name in sorted(self.params):
            value = np.ascontiguousarray(self.params[name], "<f4")
            digest.update(json.dumps([name, value.shape]).encode())
            digest.update(value.tobytes())
        return digest.hexdigest()


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
        hyperparameters=meta.get("hyperparameters", {}),
        learning_rate=_rate_of(checkpoint.arrays.get("fitlog"), epoch),
    )


def _rate_of(rows: NDArray[Any] | None, epoch: int) -> float | None:
    """Return the learning rate of an epoch, from the rows of the fit log."""
    if rows is None:
        return None
    found = rows[rows[:, COLUMNS.index("epoch")] == epoch]
    return float(found[-1, COLUMNS.index("learning_rate")]) if len(found) else None


def of_session(name: str) -> bool:
    """Return whether a parameter belongs to one session each (read-in, read-out), stacked over sessions."""
    return name.partition("/")[0].startswith(("readin", "readout"))


def part(name: str, stacked: NDArray[Any], session: int, neurons: int) -> NDArray[Any]:
    """Return the view of what belongs to one session of a stacked parameter, without the padding."""
    own = stacked[session]
    if name == "readin/W":
        own = own[:neurons]
    elif not name.startswith("readin/"):
        own = own[..., :neurons]
    return np.asarray(own)


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
        if not of_session(name):
            arrays[name] = value
            continue
        for k, (session, neurons) in enumerate(zip(model.names, model.neurons, strict=True)):
            arrays[f"{group}/{session}/{kind}"] = part(name, value, k, neurons)
    return arrays


def write_model_params(folder: Path, path: Path, *, attributes: Mapping[str, Any] | None = None) -> None:
    """Write every parameter of a trained model by name into an HDF5 file, atomically.

    Names as in `architecture.Architecture.shapes`, sessions and encoders `apart`; `factors/W` as it is
    trained, before its columns are scaled to unit length. Attributes say which checkpoint it is, and of which
    hyperparameters (JSON).

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
            about = {**model.info, "hyperparameters": model.hyperparameters, **(attributes or {})}
            for key, value in about.items():
                out.attrs[key] = value if isinstance(value, (str, int, float)) else json.dumps(value)

    publish(path, content)
